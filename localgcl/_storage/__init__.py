"""One SQLite file: where it is, its tables, and one transaction at a time.

Read `location`, `schema`, `gate`, `file`, `transaction` and `database`, in this order; `database`
has the one door, and `transaction` is what it hands to the work. `boot` and `rows` look at what is
in the file, `problems` words what is wrong with it, `rights` has root open it with no more than its
owner may do, and `backlog` runs what nobody waits for.
"""
