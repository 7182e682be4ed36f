"""One SQLite file: where it is, its tables, and one transaction at a time.

Read `location`, `schema`, `gate`, `file`, `forking`, `shared_file` and `database`, in this order;
`database` has the one door. `boot` and `rows` look at what is in the file, `problems` words what is
wrong with it, `rights` has root open it with no more than its owner may do, and `backlog` runs what
nobody waits for.
"""
