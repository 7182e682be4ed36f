"""The tables, what keeps their sums true, and the versions of the file.

`limits.used` and `limits.waiting` are derived: triggers keep them in step with the rows of `leases`
and `waits`, in the transaction that writes those rows, and nothing else writes them. What counts
for the life of a limit (`grants` and what follows) is written by statements that run anyway.
"""

from __future__ import annotations

import sqlite3

from localgcl import _clock

# "lgcl" as a number: tells our files from other programs' (https://sqlite.org/fileformat.html).
APPLICATION_ID = 0x6C67636C

# The longest that a client can hold a lease without renewing it.
MAX_LEASE_SECONDS = 86400.0

_TABLES = """
CREATE TABLE boot (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,                      -- the boot whose clock every time below is on, unless
    offset REAL NOT NULL                   -- it is said to be wall time: this much later than that
);
CREATE TABLE limits (
    key INTEGER PRIMARY KEY AUTOINCREMENT, -- a waiter of a deleted one must not fall to a new one
    name TEXT NOT NULL UNIQUE,
    active INTEGER NOT NULL,
    slots INTEGER NOT NULL,                -- the limit itself
    used INTEGER NOT NULL DEFAULT 0,       -- the sum of leases.slots
    waiting INTEGER NOT NULL DEFAULT 0,    -- the number of waits
    decay REAL NOT NULL,                   -- slots per second, 0 for none
    level REAL NOT NULL DEFAULT 0,         -- slots in use at level_at, where there is decay
    level_at REAL NOT NULL DEFAULT 0,
    occupancy REAL NOT NULL DEFAULT 2.0,   -- running mean of the seconds a slot was held
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,                 -- wall time
    updated REAL NOT NULL,                 -- wall time
    grants INTEGER NOT NULL DEFAULT 0,     -- requests that got slots of it
    waited REAL NOT NULL DEFAULT 0,        -- the seconds that these waited for them, together
    longest_wait REAL NOT NULL DEFAULT 0,
    held REAL NOT NULL DEFAULT 0,          -- the seconds that leases were held, together
    longest_hold REAL NOT NULL DEFAULT 0,
    refusals INTEGER NOT NULL DEFAULT 0,   -- requests that no wait would have served
    timeouts INTEGER NOT NULL DEFAULT 0,   -- requests that were given up
    reclaimed INTEGER NOT NULL DEFAULT 0   -- leases whose owner had died
);
CREATE TABLE owners (                      -- processes; alive while their lifeline is
    key INTEGER PRIMARY KEY AUTOINCREMENT, -- a late row of the dead must not fall to the living
    lifeline TEXT NOT NULL UNIQUE,         -- of a client, who has none, a name for its lease
    pid INTEGER,                           -- NULL for a client
    user TEXT NOT NULL,
    command TEXT NOT NULL,
    expires REAL                           -- a client's end, unless renewed; NULL for a process
);
CREATE TABLE leases (                      -- slots in use: a row for each limit of a lease
    limit_key INTEGER NOT NULL,
    owner INTEGER NOT NULL,                -- 0: set by hand, nobody's
    lease TEXT NOT NULL,
    slots INTEGER NOT NULL,
    since REAL NOT NULL,
    decays_from REAL NOT NULL,             -- as if all decay since then had been at today's rate
    holder TEXT,
    asked REAL,                            -- when its request began to wait, if it had to
    PRIMARY KEY (limit_key, owner, lease)  -- one tree alone: each further one costs every slot
) WITHOUT ROWID;
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
    verdict TEXT,                          -- NULL while it waits; then, until it is collected,
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
CREATE TRIGGER lease_taken AFTER INSERT ON leases BEGIN
    UPDATE limits SET used = used + NEW.slots, grants = grants + (NEW.owner > 0),
        waited = waited + coalesce(NEW.since - NEW.asked, 0),
        longest_wait = max(longest_wait, coalesce(NEW.since - NEW.asked, 0))
    WHERE key = NEW.limit_key;
END;
CREATE TRIGGER lease_freed AFTER DELETE ON leases BEGIN
    UPDATE limits SET used = used - OLD.slots WHERE key = OLD.limit_key;
END;
CREATE TRIGGER wait_begun AFTER INSERT ON waits BEGIN
    UPDATE limits SET waiting = waiting + 1 WHERE key = NEW.limit_key;
END;
CREATE TRIGGER wait_ended AFTER DELETE ON waits BEGIN
    UPDATE limits SET waiting = waiting - 1 WHERE key = OLD.limit_key;
END;
"""

# Script number n brings a file of version n to version n + 1; a new file is of version 0.
MIGRATIONS = (_TABLES,)
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
    """Return the statements that bring a file of `version` to today's, for one transaction."""
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


def enter_boot(connection: sqlite3.Connection, boot: str, offset: float) -> None:
    """Bring every time onto this boot's clock; `offset` is wall time less that clock.

    After a reboot, wall time is all that tells how long the machine was down. A level cannot rise
    by it, and no time comes to lie ahead but the end of a client, by no more than it can ask for.
    """
    recorded = connection.execute("SELECT id, offset FROM boot").fetchall()
    if recorded and recorded[0][0] != boot:
        now, shift = _clock.now(), recorded[0][1] - offset
        for table, column, latest in (
            ("limits", "level_at", now),
            ("leases", "since", now),
            ("leases", "decays_from", now),
            ("leases", "asked", now),
            ("waiters", "since", now),
            ("waiters", "until", now),
            ("waiters", "wakes_at", now),
            ("owners", "expires", now + MAX_LEASE_SECONDS),
        ):
            connection.execute(
                f"UPDATE {table} SET {column} = min({column} + ?, ?)", (shift, latest)
            )
    connection.execute("INSERT OR REPLACE INTO boot VALUES (1, ?, ?)", (boot, offset))
