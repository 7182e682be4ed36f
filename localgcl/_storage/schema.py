"""The tables, and the triggers that keep their sums right.

A commit writes whole pages. So the leases of a limit share one tree with the values that they
change: the ledger, where each limit's row of counters stands beside its leases. `settings` and
`ledger` are written. The views `limits` and `leases` are for reading; code that needs one table
alone reads that.

In a row of counters, `slots` (`used` in the view), `waiting` and `mixed` are derived, and so is
`level` where there is a window: triggers keep them equal to the leases, to `waits` and to `taken`,
in the transaction that writes those rows, and nothing else writes them. Figures for the life of a
limit (`grants` and what follows) are written by statements that run anyway.

A key of a template is a limit of its own, in every table. The columns of its rule (slots, decay,
window, active, paused) are those of the template: a trigger copies each change. So a request reads
one row. When the key goes, its figures are added to the template's.
"""

from __future__ import annotations

import sqlite3

# "lgcl" as a number: it tells our files from other programs' (https://sqlite.org/fileformat.html).
APPLICATION_ID = 0x6C67636C

# A commit writes each page that it touches: the smaller they are, the faster it is.
PAGE_SIZE = 1024

# The longest time that a client can hold a lease without renewing it.
MAX_LEASE_SECONDS = 86400.0

VERSION = 4

# STRICT needs SQLite 3.37 or newer. It and the CHECKs keep out what no release of ours writes.
TABLES = """
CREATE TABLE boot (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,                      -- the boot whose clock every time below is on, unless
    offset REAL NOT NULL                   -- it is said to be wall time: this much later than that
        CHECK (abs(offset) < 9e999)
) STRICT;
CREATE TABLE settings (                    -- of each limit
    key INTEGER PRIMARY KEY,               -- random: a waiter of a deleted limit must not fall to a
                                           -- new one. Below 0 if it was made as a template's key
    name TEXT NOT NULL UNIQUE,
    active INTEGER NOT NULL CHECK (active IN (0, 1)),
    slots INTEGER NOT NULL                 -- the limit itself
        CHECK (slots BETWEEN 0 AND 9007199254740991),
    decay REAL NOT NULL                    -- slots per second, 0 for none
        CHECK (decay >= 0 AND decay < 9e999),
    window REAL NOT NULL DEFAULT 0         -- seconds, 0 for none
        CHECK (window >= 0 AND window < 9e999),
    paused REAL NOT NULL DEFAULT 0,        -- nothing is granted before; 9e999: until it resumes
    template INTEGER,                      -- of a key: its template's key
    prefix TEXT,                           -- of a template: its name without the asterisk
    id TEXT,                               -- NULL for a key
    created REAL NOT NULL                  -- wall time
        CHECK (created BETWEEN -62135596800 AND 253402300799),
    updated REAL NOT NULL                  -- wall time
        CHECK (updated BETWEEN -62135596800 AND 253402300799)
) STRICT;
CREATE UNIQUE INDEX ids ON settings (id) WHERE id IS NOT NULL;
CREATE UNIQUE INDEX prefixes ON settings (prefix) WHERE prefix IS NOT NULL;
CREATE TABLE owners (                      -- processes; alive while their lifeline is
    key INTEGER PRIMARY KEY AUTOINCREMENT, -- a late row of the dead must not fall to the living
    lifeline TEXT NOT NULL UNIQUE,         -- of a client, who has none, a name for its lease
    pid INTEGER,                           -- NULL for a client
    user TEXT NOT NULL,
    command TEXT NOT NULL,
    expires REAL,                          -- a client's end, unless renewed; NULL for a process
    limits TEXT,                           -- where a client's lease is (keys, by spaces)
    process TEXT,                          -- which process it is: see `identity`
    lasts REAL                             -- how long a client's lease lasts, by its last renewal
) STRICT;
CREATE TABLE ledger (                      -- of each limit a row of counters, and its leases
    limit_key INTEGER NOT NULL,
    owner INTEGER NOT NULL,                -- 0: set by hand, nobody's; -1: row of counters
    lease TEXT NOT NULL,                   -- of a lease of several limits, a row for each
    slots INTEGER NOT NULL                 -- of counters: the sum of those of the leases
        CHECK (slots >= 0),
    since REAL NOT NULL DEFAULT 0,
    decays_from REAL NOT NULL DEFAULT 0,   -- as if all decay since then had been at today's rate;
                                           -- with a window, its row in `taken` is of this moment
    holder TEXT,
    asked REAL,                            -- when its request began to wait, if it had to
    numbers TEXT,                          -- of its slots, by spaces, once it has asked for them
                                           -- what follows is of counters alone:
    waiting INTEGER,                       -- the number of waits
    mixed INTEGER,                         -- how many of these wait at other limits, too
    level REAL,                            -- slots in use: at level_at, where there is decay; those
    level_at REAL,                         -- in `taken`, where there is a window
    occupancy REAL,                        -- running mean of the seconds a slot was held
    grants INTEGER,                        -- requests that got slots of it
    waited REAL,                           -- the seconds that these waited for them, together
    longest_wait REAL,
    held REAL,                             -- the seconds that leases were held, together
    longest_hold REAL,
    refusals INTEGER,                      -- requests that no wait would have served
    timeouts INTEGER,                      -- requests that were given up
    reclaimed INTEGER,                     -- leases whose owner had died
    granted_at REAL,                       -- when slots were last granted; NULL: never
    timed_out_at REAL,                     -- when a request was last given up; NULL: never
    PRIMARY KEY (limit_key, owner, lease)  -- one tree alone: each further one costs every slot
) STRICT, WITHOUT ROWID;
CREATE TABLE taken (                       -- slots of limits with a window, until it has passed
    limit_key INTEGER NOT NULL,
    at REAL NOT NULL,
    request TEXT NOT NULL,
    slots INTEGER NOT NULL CHECK (slots > 0),
    PRIMARY KEY (limit_key, at, request)
) STRICT, WITHOUT ROWID;
CREATE TABLE waiters (                     -- requests that are not yet served, in order of arrival
    ticket INTEGER PRIMARY KEY,
    request TEXT NOT NULL,                 -- becomes the id of the lease
    owner INTEGER NOT NULL,
    wakes TEXT NOT NULL,                   -- the address that wakes it
    limits TEXT NOT NULL,                  -- the limits it waits for (keys, by spaces)
    weights TEXT,                          -- the slots of each, by spaces, if they differ
    holds INTEGER NOT NULL,                -- 0: takes by rate and leaves no lease
    strict INTEGER NOT NULL,
    holder TEXT,
    since REAL NOT NULL,
    until REAL NOT NULL,                   -- when it gives up: nothing later is of use to it
    wakes_at REAL NOT NULL,                -- when it will look by itself because of a rate
    overtaken INTEGER NOT NULL DEFAULT 0,  -- how often a later request was granted before it
    passed TEXT NOT NULL DEFAULT '',       -- names of limits deleted while it waited, by lines
    verdict TEXT,                          -- NULL while it waits. Who is granted all that it asked
                                           -- for is told by its leases; others, until they have
                                           -- seen it, are told here:
    at REAL,                               -- granted, as of this moment,
    taken TEXT,                            -- from these limits (keys, by spaces),
    names TEXT                             -- or late, or why it is refused, and at which, by lines
) STRICT;
CREATE TABLE waits (                       -- the places of a waiter in the queues of its limits
    limit_key INTEGER NOT NULL,
    ticket INTEGER NOT NULL,
    slots INTEGER NOT NULL CHECK (slots > 0),
    watches INTEGER NOT NULL DEFAULT 0,    -- whether it watches those in its way here
    mixed INTEGER NOT NULL DEFAULT 0,      -- whether it waits at other limits, too
    PRIMARY KEY (limit_key, ticket)
) STRICT, WITHOUT ROWID;
"""

TRIGGERS = """
CREATE VIEW limits AS
    SELECT key, name, active, settings.slots, decay, window, paused, template, prefix, id, created,
        updated, ledger.slots AS used, waiting, mixed, level, level_at, occupancy, grants, waited,
        longest_wait, held, longest_hold, refusals, timeouts, reclaimed, granted_at, timed_out_at
    FROM settings JOIN ledger ON limit_key = key AND owner = -1 AND lease = '';
CREATE VIEW leases AS
    SELECT limit_key, owner, lease, slots, since, decays_from, holder, asked, numbers
    FROM ledger WHERE owner >= 0;
CREATE TRIGGER limit_made AFTER INSERT ON settings BEGIN
    INSERT INTO ledger (limit_key, owner, lease, slots, waiting, mixed, level, level_at, occupancy,
        grants, waited, longest_wait, held, longest_hold, refusals, timeouts, reclaimed)
    VALUES (NEW.key, -1, '', 0, 0, 0, 0, 0, ifnull((SELECT occupancy FROM ledger
        WHERE limit_key = NEW.template AND owner = -1 AND lease = ''), 2.0),
        0, 0, 0, 0, 0, 0, 0, 0);
END;
CREATE TRIGGER rule_changed AFTER UPDATE OF slots, decay, window, active, paused ON settings
WHEN NEW.prefix IS NOT NULL BEGIN
    UPDATE settings SET slots = NEW.slots, decay = NEW.decay, window = NEW.window,
        active = NEW.active, paused = NEW.paused
    WHERE key < 0 AND template = NEW.key;
END;
CREATE TRIGGER key_gone BEFORE DELETE ON settings WHEN OLD.template IS NOT NULL BEGIN
    UPDATE ledger SET grants = ledger.grants + mine.grants, waited = ledger.waited + mine.waited,
        longest_wait = max(ledger.longest_wait, mine.longest_wait),
        held = ledger.held + mine.held, longest_hold = max(ledger.longest_hold, mine.longest_hold),
        refusals = ledger.refusals + mine.refusals, timeouts = ledger.timeouts + mine.timeouts,
        reclaimed = ledger.reclaimed + mine.reclaimed,
        granted_at = ifnull(max(ledger.granted_at, mine.granted_at),
            ifnull(mine.granted_at, ledger.granted_at)),
        timed_out_at = ifnull(max(ledger.timed_out_at, mine.timed_out_at),
            ifnull(mine.timed_out_at, ledger.timed_out_at))
    FROM ledger AS mine
    WHERE mine.limit_key = OLD.key AND mine.owner = -1 AND mine.lease = ''
        AND ledger.limit_key = OLD.template AND ledger.owner = -1 AND ledger.lease = '';
END;
CREATE TRIGGER window_gone AFTER DELETE ON settings WHEN OLD.window BEGIN
    DELETE FROM taken WHERE limit_key = OLD.key;
END;
CREATE TRIGGER limit_gone AFTER DELETE ON settings BEGIN
    DELETE FROM ledger WHERE limit_key = OLD.key AND owner = -1;
END;
CREATE TRIGGER lease_taken AFTER INSERT ON ledger WHEN NEW.owner >= 0 BEGIN
    UPDATE ledger SET slots = slots + NEW.slots, grants = grants + (NEW.owner > 0),
        waited = waited + coalesce(NEW.since - NEW.asked, 0),
        longest_wait = max(longest_wait, coalesce(NEW.since - NEW.asked, 0)),
        granted_at = iif(NEW.owner > 0, NEW.since, granted_at)
    WHERE limit_key = NEW.limit_key AND owner = -1 AND lease = '';
END;
CREATE TRIGGER lease_freed AFTER DELETE ON ledger WHEN OLD.owner >= 0 BEGIN
    UPDATE ledger SET slots = slots - OLD.slots
    WHERE limit_key = OLD.limit_key AND owner = -1 AND lease = '';
END;
CREATE TRIGGER slots_taken AFTER INSERT ON taken BEGIN
    UPDATE ledger SET level = level + NEW.slots
    WHERE limit_key = NEW.limit_key AND owner = -1 AND lease = '';
END;
CREATE TRIGGER slots_lowered AFTER UPDATE OF slots ON taken BEGIN
    UPDATE ledger SET level = level + NEW.slots - OLD.slots
    WHERE limit_key = NEW.limit_key AND owner = -1 AND lease = '';
END;
CREATE TRIGGER slots_back AFTER DELETE ON taken BEGIN
    UPDATE ledger SET level = level - OLD.slots
    WHERE limit_key = OLD.limit_key AND owner = -1 AND lease = '';
END;
CREATE TRIGGER wait_begun AFTER INSERT ON waits BEGIN
    UPDATE ledger SET waiting = waiting + 1, mixed = mixed + NEW.mixed
    WHERE limit_key = NEW.limit_key AND owner = -1 AND lease = '';
END;
CREATE TRIGGER wait_ended AFTER DELETE ON waits BEGIN
    UPDATE ledger SET waiting = waiting - 1, mixed = mixed - OLD.mixed
    WHERE limit_key = OLD.limit_key AND owner = -1 AND lease = '';
END;
"""


def version_of(connection: sqlite3.Connection) -> int | None:
    """Return the schema's version, 0 for an empty file, None for another program's file."""
    ((application_id,),) = connection.execute("PRAGMA application_id").fetchall()
    ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    if application_id == APPLICATION_ID:
        return int(version)
    ((objects,),) = connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    return 0 if (application_id, version, objects) == (0, 0, 0) else None


def statements() -> list[str]:
    """Return the statements that make the tables of a new file, for one transaction."""
    return [*statements_of(TABLES + TRIGGERS), *stamps()]


def stamps() -> list[str]:
    """Return the statements that mark a file as ours, and as being of this version."""
    return [f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {VERSION}"]


def statements_of(script: str) -> list[str]:
    """Return the statements of a script, one by one."""
    found, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found


def new_file() -> bytes:
    """Return the content of a new database: a whole file of the current version, in WAL mode.

    A file that gets its name after its content is never found half made.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        for statement in statements():
            connection.execute(statement)
        content = bytearray(connection.serialize())
    finally:
        connection.close()
    # The versions that a writer and a reader need: 2 is WAL (https://sqlite.org/fileformat.html).
    content[18:20] = b"\2\2"
    return bytes(content)
