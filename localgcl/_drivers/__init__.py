"""How one request waits: a blocked thread, or a task of an event loop.

Read `flow` first: the steps of a request, for both. Then, for threads, `blocking`, `places`,
`receiver` and `recheck`; for tasks, `awaiting`, `session`, its `worker` and the worker's `thread`,
`watch`, `affinity`, and `sessions`, the registry of them; last `departure`, the end of a process.
"""
