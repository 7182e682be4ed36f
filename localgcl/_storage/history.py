"""The schemas of earlier releases, and how a file of each is brought up to date.

A script that was released is never changed: a file that it has made must be like one made today.
"""

from __future__ import annotations

from localgcl._storage import schema

# From 1. Which process an owner is (see `process`), and how long a client's lease lasts, by its
# last grant or renewal.
_PROCESSES = """
ALTER TABLE owners ADD COLUMN process TEXT;
ALTER TABLE owners ADD COLUMN lasts REAL;
UPDATE owners SET lasts = max(0, expires - (SELECT max(since) FROM ledger WHERE owner = owners.key))
WHERE expires IS NOT NULL;
"""

# From 2.
_WAKES = """
ALTER TABLE waiters RENAME COLUMN ear TO wakes;
"""

# From 3: strict tables, and what templates, windows, pauses and numbers need. A name that ends in
# an asterisk has become a template's.
_SET_ASIDE = """
DROP VIEW limits;
DROP VIEW leases;
DROP TRIGGER limit_made;
DROP TRIGGER limit_gone;
DROP TRIGGER lease_taken;
DROP TRIGGER lease_freed;
DROP TRIGGER wait_begun;
DROP TRIGGER wait_ended;
ALTER TABLE boot RENAME TO old_boot;
ALTER TABLE settings RENAME TO old_settings;
ALTER TABLE owners RENAME TO old_owners;
ALTER TABLE ledger RENAME TO old_ledger;
ALTER TABLE waiters RENAME TO old_waiters;
ALTER TABLE waits RENAME TO old_waits;
"""
_FILL = """
INSERT INTO boot SELECT one, id, offset FROM old_boot;
INSERT INTO settings (key, name, active, slots, decay, prefix, id, created, updated)
    SELECT key, name, active <> 0, slots, decay,
        iif(name LIKE '%*', substr(name, 1, length(name) - 1), NULL), id, created, updated
    FROM old_settings;
INSERT INTO owners (key, lifeline, pid, user, command, expires, limits, process, lasts)
    SELECT key, lifeline, pid, user, command, expires, limits, process, lasts FROM old_owners;
INSERT INTO ledger (limit_key, owner, lease, slots, since, decays_from, holder, asked, waiting,
        mixed, level, level_at, occupancy, grants, waited, longest_wait, held, longest_hold,
        refusals, timeouts, reclaimed)
    SELECT limit_key, owner, lease, slots, since, decays_from, holder, asked, waiting,
        iif(owner = -1, (SELECT count(*) FROM old_waits JOIN old_waiters USING (ticket)
            WHERE old_waits.limit_key = old_ledger.limit_key AND limits LIKE '% %'), NULL),
        level, level_at, occupancy, grants, waited, longest_wait, held, longest_hold,
        refusals, timeouts, reclaimed
    FROM old_ledger;
INSERT INTO waiters (ticket, request, owner, wakes, limits, holds, strict, holder, since, until,
        wakes_at, passed, verdict, at, taken, names)
    SELECT ticket, request, owner, wakes, limits, holds, strict, holder, since, until, wakes_at,
        passed, verdict, at, taken, names
    FROM old_waiters;
INSERT INTO waits (limit_key, ticket, slots, watches, mixed)
    SELECT limit_key, ticket, slots, watches,
        ifnull((SELECT limits LIKE '% %' FROM old_waiters WHERE ticket = old_waits.ticket), 0)
    FROM old_waits;
DROP TABLE old_boot;
DROP TABLE old_settings;
DROP TABLE old_owners;
DROP TABLE old_ledger;
DROP TABLE old_waiters;
DROP TABLE old_waits;
DELETE FROM sqlite_sequence WHERE name <> 'owners';
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'owners', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'owners');
"""
_STRICT = _SET_ASIDE + schema.TABLES + _FILL + schema.TRIGGERS

# Script number n brings a file from version n + 1 to version n + 2.
SCRIPTS = (_PROCESSES, _WAKES, _STRICT)


def statements_from(version: int) -> list[str]:
    """Return the statements that bring a file of `version` up to date, for one transaction.

    Version 0 is an empty file.
    """
    if version == 0:
        return schema.statements()
    script = "".join(SCRIPTS[version - 1 :])
    return [*schema.statements_of(script), *schema.stamps()]
