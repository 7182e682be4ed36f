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
