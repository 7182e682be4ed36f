"""What `doctor` examines, and what it concludes.

Read `check` (one finding), `permissions` and `diagnosis` (the findings, in words), then
`examination` (how they are come by) and `processes` (what is known of other processes).
"""
