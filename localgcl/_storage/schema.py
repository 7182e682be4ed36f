"""The tables, the triggers that keep their sums right, and the versions of the file.

A commit writes whole pages. So the leases of a limit share one tree with the values that they
change: the ledger, where each limit's row of counters stands beside its leases. `settings` and
`ledger` are written. The views `limits` and `leases` are for reading; code that needs one table
alone reads that.

In a row of counters, `slots` (`used` in the view) and `waiting` are derived: triggers keep them
equal to the leases and to `waits`, in the transaction that writes those rows, and nothing else
writes them. Figures for the life of a limit (`grants` and what follows) are written by statements
that run anyway.
"""

from __future__ import annotations

import sqlite3

# "lgcl" as a number: it tells our files from other programs' (https://sqlite.org/fileformat.html).
APPLICATION_ID = 0x6C67636C

# A commit writes each page that it touches: the smaller they are, the faster it is.
PAGE_SIZE = 1024

# The longest time that a client can hold a lease without renewing it.
MAX_LEASE_SECONDS = 86400.0

_TABLES = """
CREATE TABLE boot (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,                      -- the boot whose clock every time below is on, unless
    offset REAL NOT NULL                   -- it is said to be wall time: this much later than that
);
CREATE TABLE settings (                    -- of each limit
    key INTEGER PRIMARY KEY AUTOINCREMENT, -- a waiter of a deleted one must not fall to a new one
    name TEXT NOT NULL UNIQUE,
    active INTEGER NOT NULL,
    slots INTEGER NOT NULL,                -- the limit itself
    decay REAL NOT NULL,                   -- slots per second, 0 for none
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,                 -- wall time
    updated REAL NOT NULL                  -- wall time
);
CREATE TABLE owners (                      -- processes; alive while their lifeline is
    key INTEGER PRIMARY KEY AUTOINCREMENT, -- a late row of the dead must not fall to the living
    lifeline TEXT NOT NULL UNIQUE,         -- of a client, who has none, a name for its lease
    pid INTEGER,                           -- NULL for a client
    user TEXT NOT NULL,
    command TEXT NOT NULL,
    expires REAL,                          -- a client's end, unless renewed; NULL for a process
    limits TEXT                            -- where a client's lease is (keys, by spaces)
);
CREATE TABLE ledger (                      -- slots in use: of each limit a tally and its leases
    limit_key INTEGER NOT NULL,
    owner INTEGER NOT NULL,                -- 0: set by hand, nobody's; -1: this is the tally
    lease TEXT NOT NULL,                   -- of a lease of several limits, a row for each
    slots INTEGER NOT NULL,                -- of a tally: the sum of those of the leases
    since REAL NOT NULL DEFAULT 0,
    decays_from REAL NOT NULL DEFAULT 0,   -- as if all decay since then had been at today's rate
    holder TEXT,
    asked REAL,                            -- when its request began to wait, if it had to
                                           -- what follows is of tallies alone:
    waiting INTEGER,                       -- the number of waits
    level REAL,                            -- slots in use at level_at, where there is decay
    level_at REAL,
    occupancy REAL,                        -- running mean of the seconds a slot was held
    grants INTEGER,                        -- requests that got slots of it
    waited REAL,                           -- the seconds that these waited for them, together
    longest_wait REAL,
    held REAL,                             -- the seconds that leases were held, together
    longest_hold REAL,
    refusals INTEGER,                      -- requests that no wait would have served
    timeouts INTEGER,                      -- requests that were given up
    reclaimed INTEGER,                     -- leases whose owner had died
    PRIMARY KEY (limit_key, owner, lease)  -- one tree alone: each further one costs every slot
) WITHOUT ROWID;
CREATE VIEW limits AS
    SELECT key, name, active, settings.slots, decay, id, created, updated, ledger.slots AS used,
        waiting, level, level_at, occupancy, grants, waited, longest_wait, held, longest_hold,
        refusals, timeouts, reclaimed
    FROM settings JOIN ledger ON limit_key = key AND owner = -1 AND lease = '';
CREATE VIEW leases AS
    SELECT limit_key, owner, lease, slots, since, decays_from, holder, asked
    FROM ledger WHERE owner >= 0;
CREATE TABLE waiters (                     -- requests that are not yet served, in order of arrival
    ticket INTEGER PRIMARY KEY,
    request TEXT NOT NULL,                 -- becomes the id of the lease
    owner INTEGER NOT NULL,
    ear TEXT NOT NULL,                     -- the FIFO that wakes it, named after its lifeline
    limits TEXT NOT NULL,                  -- the limits it waits for (keys, by spaces)
    slots INTEGER NOT NULL,
    holds INTEGER NOT NULL,                -- 0: takes by rate and leaves no lease
    strict INTEGER NOT NULL,
    holder TEXT,
    since REAL NOT NULL,
    until REAL NOT NULL,                   -- when it gives up: nothing later is of use to it
    wakes_at REAL NOT NULL,                -- when it will look by itself because of a rate
    passed TEXT NOT NULL DEFAULT '',       -- names of limits deleted while it waited, by lines
    verdict TEXT,                          -- NULL while it waits. Who is granted all that it asked
                                           -- for is told by its leases; others, until they have
                                           -- seen it, are told here:
    at REAL,                               -- granted, as of this moment,
    taken TEXT,                            -- from these limits (keys, by spaces),
    names TEXT                             -- or late, or why it is refused, and at which, by lines
);
CREATE TABLE waits (                       -- the places of a waiter in the queues of its limits
    limit_key INTEGER NOT NULL,
    ticket INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    watches INTEGER NOT NULL DEFAULT 0,    -- whether it watches those in its way here
    PRIMARY KEY (limit_key, ticket)
) WITHOUT ROWID;
CREATE TRIGGER limit_made AFTER INSERT ON settings BEGIN
    INSERT INTO ledger (limit_key, owner, lease, slots, waiting, level, level_at, occupancy,
        grants, waited, longest_wait, held, longest_hold, refusals, timeouts, reclaimed)
    VALUES (NEW.key, -1, '', 0, 0, 0, 0, 2.0, 0, 0, 0, 0, 0, 0, 0, 0);
END;
CREATE TRIGGER limit_gone AFTER DELETE ON settings BEGIN
    DELETE FROM ledger WHERE limit_key = OLD.key AND owner = -1;
END;
CREATE TRIGGER lease_taken AFTER INSERT ON ledger WHEN NEW.owner >= 0 BEGIN
    UPDATE ledger SET slots = slots + NEW.slots, grants = grants + (NEW.owner > 0),
        waited = waited + coalesce(NEW.since - NEW.asked, 0),
        longest_wait = max(longest_wait, coalesce(NEW.since - NEW.asked, 0))
    WHERE limit_key = NEW.limit_key AND owner = -1 AND lease = '';
END;
CREATE TRIGGER lease_freed AFTER DELETE ON ledger WHEN OLD.owner >= 0 BEGIN
    UPDATE ledger SET slots = slots - OLD.slots
    WHERE limit_key = OLD.limit_key AND owner = -1 AND lease = '';
END;
CREATE TRIGGER wait_begun AFTER INSERT ON waits BEGIN
    UPDATE ledger SET waiting = waiting + 1
    WHERE limit_key = NEW.limit_key AND owner = -1 AND lease = '';
END;
CREATE TRIGGER wait_ended AFTER DELETE ON waits BEGIN
    UPDATE ledger SET waiting = waiting - 1
    WHERE limit_key = OLD.limit_key AND owner = -1 AND lease = '';
END;
"""

# Which process an owner is (see `process`), and how long a client's lease lasts, by its last grant
# or renewal.
_PROCESSES = """
ALTER TABLE owners ADD COLUMN process TEXT;
ALTER TABLE owners ADD COLUMN lasts REAL;
UPDATE owners SET lasts = max(0, expires - (SELECT max(since) FROM ledger WHERE owner = owners.key))
WHERE expires IS NOT NULL;
"""

_WAKES = """
ALTER TABLE waiters RENAME COLUMN ear TO wakes;
"""

# Script number n brings a file from version n to version n + 1; a new file has version 0.
MIGRATIONS = (_TABLES, _PROCESSES, _WAKES)
VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int | None:
    """Return the schema's version, 0 for an empty file, None for another program's file."""
    ((application_id,),) = connection.execute("PRAGMA application_id").fetchall()
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if application_id == APPLICATION_ID:
        return int(version)
    ((objects,),) = connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    return 0 if (application_id, version, objects) == (0, 0, 0) else None


def statements_from(version: int) -> list[str]:
    """Return the statements that bring a file of `version` up to date, for one transaction."""
    statements: list[str] = []
    for script in MIGRATIONS[version:]:
        pending = ""
        for line in script.splitlines(keepends=True):
            pending += line
            if sqlite3.complete_statement(pending):
                statements.append(pending)
                pending = ""
    statements.append(f"PRAGMA application_id = {APPLICATION_ID}")
    statements.append(f"PRAGMA user_version = {VERSION}")
    return statements


def new_file() -> bytes:
    """Return the content of a new database: a whole file of the current version, in WAL mode.

    A file that gets its name after its content is never found half made.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        for statement in statements_from(0):
            connection.execute(statement)
        content = bytearray(connection.serialize())
    finally:
        connection.close()
    # The versions that a writer and a reader need: 2 is WAL (https://sqlite.org/fileformat.html).
    content[18:20] = b"\2\2"
    return bytes(content)
