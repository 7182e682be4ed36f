"""How one request waits: in a blocked thread, or in a task of an event loop.

Read `flow` first: it has the steps of a request for both. Both share what a lease is (`held`), the
`blocks` that a caller is inside of, and what may be decorated (`decorating`). For threads, read
`blocking`, `places`, `receiver` and `recheck`, then `lease` and `block`. For tasks, read
`awaiting`, `session`, its `worker` and the worker's `thread`, `watch`, `affinity`, `sessions`, the
registry of sessions, and `async_lease`. Last comes `departure`, the end of a process.
"""
