"""Which processes are alive, and how one wakes another: FIFOs in the run folder.

Read `process` (what names a process), `fifo` (one FIFO), `directory` (the run folder itself, with
its gate) and `folder` (the FIFOs in it), `lifeline` (what this process has there), then `access`
(who may use it) and `making` (how the folder is made), `identity` (how others see the process) and
`duty` (which of its threads does what).
"""
