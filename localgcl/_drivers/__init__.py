"""How one request waits: a blocked thread, or a task of an event loop.

Read `flow` first: the steps of a request, for both. Then, for threads, `blocking`, `places`,
`receiver` and `recheck`; for tasks, `session`, `worker`, `watch` and `affinity`; last
`departure`, the end of a process.
"""
