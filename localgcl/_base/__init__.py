"""What everything else is built on: clock, threads and forks, files and descriptors, checks, text.

No SQL and no limits here. Read `clock`, `threads` and `forks` first, then `descriptors`;
`checks`, `text`, `rates` and `reading` stand alone.
"""
