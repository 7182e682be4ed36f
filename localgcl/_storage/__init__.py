"""One SQLite file: where it is, its tables, and one transaction at a time.

Read in this order: `location` (where the file is), `schema` (its tables), `gate` (one process at
a time), `file` (what is open), `shared_file` (one thread at a time), `transaction` (what the work
is given) and `database` (the one door).

The gate stands on `locks` and, where there is a deadline, on `turn`. How a file is opened:
`creating` (made where there is none), `connection` (to SQLite), `log` (whose the write-ahead log
is), `sqlite_descriptors` (what SQLite has open), `open_files` (what this process has),
`migration` (of older files), `boot` (of times, over a reboot), `rights` (root has no more than
the owner). `forking` closes all before a fork.

`rows` looks at what is in the file, `problems` words what is wrong with it, and `backlog` runs
what nobody waits for.
"""
