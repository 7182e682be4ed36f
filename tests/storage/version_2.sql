PRAGMA page_size = 1024;
PRAGMA journal_mode = WAL;
BEGIN TRANSACTION;
CREATE TABLE boot (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,                      -- the boot whose clock every time below is on, unless
    offset REAL NOT NULL                   -- it is said to be wall time: this much later than that
);
INSERT INTO "boot" VALUES(1,'5b1f4a86-6a5c-4c39-9a3e-0f0d3f6f1e11',1.79607799447338914869e+09);
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
INSERT INTO "ledger" VALUES(1,-1,'',2,0.0,0.0,NULL,NULL,1,0.0,18164.251550325,2.0,1,0.0,0.0,0.0,0.0,0,0,0);
INSERT INTO "ledger" VALUES(1,1,'65d325b9645bfe5d359ab7fb40d8dbbe',2,18164.254268823,18164.254268823,'nightly',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "ledger" VALUES(2,-1,'',0,0.0,0.0,NULL,NULL,0,3.99973971099825575947e+00,18164.255677919,2.0,4,0.0,0.0,0.0,0.0,0,0,0);
INSERT INTO "ledger" VALUES(3,-1,'',3,0.0,0.0,NULL,NULL,0,0.0,18164.253152082,2.0,0,0.0,0.0,0.0,0.0,0,0,0);
INSERT INTO "ledger" VALUES(3,0,'bd0b51d3ce820944cff4b29df93eeec5',3,18164.253152082,18164.253152082,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "ledger" VALUES(4,-1,'',0,0.0,0.0,NULL,NULL,0,0.0,18164.253759412,2.0,0,0.0,0.0,0.0,0.0,0,0,0);
CREATE TABLE owners (                      -- processes; alive while their lifeline is
    key INTEGER PRIMARY KEY AUTOINCREMENT, -- a late row of the dead must not fall to the living
    lifeline TEXT NOT NULL UNIQUE,         -- of a client, who has none, a name for its lease
    pid INTEGER,                           -- NULL for a client
    user TEXT NOT NULL,
    command TEXT NOT NULL,
    expires REAL,                          -- a client's end, unless renewed; NULL for a process
    limits TEXT                            -- where a client's lease is (keys, by spaces)
, process TEXT, lasts REAL);
INSERT INTO "owners" VALUES(1,'244cfeb3ba5d1e09bf1772327e703e57',7443,'app','nightly.py',NULL,NULL,'5b1f4a86-6a5c-4c39-9a3e-0f0d3f6f1e11@1796077994 4026531836 7443 1816384 2222541',NULL);
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
INSERT INTO "settings" VALUES(1,'database',1,2,0.0,'006b7489-5295-482d-96e3-0d67995a7049',1.79609615872499895098e+09,1.79609615872499895098e+09);
INSERT INTO "settings" VALUES(2,'api',1,10,0.5,'d1b80561-cfbd-4733-b6fc-c3242f47c507',1.79609615872608327858e+09,1.79609615872608327858e+09);
INSERT INTO "settings" VALUES(3,'by hand',1,5,0.0,'10e78520-2a57-4b80-81a4-86661c59fb3d',1.7960961587265527248e+09,1.7960961587265527248e+09);
INSERT INTO "settings" VALUES(4,'off',0,1,0.0,'fb8bee1c-192b-4b5d-a93b-65d2a5272b49',1.79609615872715902324e+09,1.79609615872715902324e+09);
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
INSERT INTO "waiters" VALUES(1,'cc57488983fb7b5973eae2cad5ef596d',1,'244cfeb3ba5d1e09bf1772327e703e57.1','1',1,1,0,NULL,18164.256522171,9e999,18164.256522171,'',NULL,NULL,NULL,NULL);
CREATE TABLE waits (                       -- the places of a waiter in the queues of its limits
    limit_key INTEGER NOT NULL,
    ticket INTEGER NOT NULL,
    slots INTEGER NOT NULL,
    watches INTEGER NOT NULL DEFAULT 0,    -- whether it watches those in its way here
    PRIMARY KEY (limit_key, ticket)
) WITHOUT ROWID;
INSERT INTO "waits" VALUES(1,1,1,1);
CREATE VIEW limits AS
    SELECT key, name, active, settings.slots, decay, id, created, updated, ledger.slots AS used,
        waiting, level, level_at, occupancy, grants, waited, longest_wait, held, longest_hold,
        refusals, timeouts, reclaimed
    FROM settings JOIN ledger ON limit_key = key AND owner = -1 AND lease = '';
CREATE VIEW leases AS
    SELECT limit_key, owner, lease, slots, since, decays_from, holder, asked
    FROM ledger WHERE owner >= 0;
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
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('settings',4);
INSERT INTO "sqlite_sequence" VALUES('owners',1);
COMMIT;
PRAGMA application_id = 1818714988;
PRAGMA user_version = 2;
