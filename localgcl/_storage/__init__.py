"""One SQLite file: where it is, its tables, and one transaction at a time.

Read in this order: `location` (where the file is), `schema` (its tables), `gate` (one process at
a time), `file` (what is open), `shared_file` (one thread at a time), `transaction` (what the work
gets) and `database` (through which every transaction goes).

The gate is built on `locks` and, for deadlines, on `turn`. How a file is opened:
`creating` (made if there is none), `connection` (to SQLite), `log` (which file the write-ahead log
belongs to), `sqlite_descriptors` (what SQLite has open), `open_files` (what this process has),
`migration` (of older files, whose tables are in `history`), `boot` (converts times after a reboot),
`rights` (root has no more than the owner). `forking` closes everything before a fork.

`rows` checks the rows in the file, `problems` describes what is wrong with it, and `backlog` runs
transactions that nobody waits for.
"""
