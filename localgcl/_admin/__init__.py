"""Creating, changing, listing and counting limits, and planning them from a file.

Read `action` (how each call is run), `reading`, `usage` and `limits` (the calls), `creation` and
`changes` (their parts inside a transaction); then `plan` and `apply` (limits from a file) and
`metrics` (what is counted).
"""
