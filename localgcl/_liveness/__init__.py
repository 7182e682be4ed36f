"""Which processes are alive, and how one wakes another: FIFOs in the run folder.

Read `process` (what names a process), `folder` (the run folder and its FIFOs), `lifeline` (what
this process has there), then `access` (who may use it), `identity` (how others see it) and `duty`
(which of its threads does what).
"""
