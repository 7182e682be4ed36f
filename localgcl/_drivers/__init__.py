"""How one request waits: in a blocked thread, or in a task of an event loop.

Read `flow` first: it has the steps of a request for both. For threads, read `blocking`, `places`,
`receiver` and `recheck`. For tasks, read `awaiting`, `session`, its `worker` and the worker's
`thread`, `watch`, `affinity`, and `sessions`, the registry of sessions. Last comes `departure`, the
end of a process.
"""
