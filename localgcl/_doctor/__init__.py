"""What `doctor` examines, and what it concludes.

Read `check` (one finding), `permissions` and `diagnosis` (the findings, in words), then
`examination` (how the facts are gathered) and `processes` (what is known of other processes).
"""
