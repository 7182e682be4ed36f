"""The observer: what the views show, and whether the rows add up, all the time.

`python -m tests.endurance.observer`, with the database and the journal in the environment.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time

from localgcl import Limiter, LocalGCLError
from tests.endurance.actor import Actor
from tests.endurance.faults import cleaners_kept_out
from tests.endurance.served import tag_of

_PAUSE_SECONDS = 0.04

# One statement sees one moment. Rows of a deleted limit are nobody's.
_SUMS = {
    "the sum of leases": "SELECT name FROM limits WHERE used <> (SELECT total(slots) FROM leases"
    " WHERE limit_key = key)",
    "the number of waits": "SELECT name FROM limits WHERE waiting <> (SELECT count(*) FROM waits"
    " WHERE limit_key = key)",
    "those of them who wait elsewhere, too": "SELECT name FROM limits WHERE mixed <> (SELECT"
    " total(mixed) FROM waits WHERE limit_key = key)",
    "what is taken in a window": "SELECT name FROM limits WHERE window AND level <> (SELECT"
    " total(slots) FROM taken WHERE limit_key = key)",
    "leases or counters of no limit": "SELECT owner, lease FROM ledger"
    " WHERE limit_key NOT IN (SELECT key FROM settings)",
    "limits without counters": "SELECT name FROM settings"
    " WHERE key NOT IN (SELECT key FROM limits)",
    "leases of no owner": "SELECT lease FROM leases"
    " WHERE owner > 0 AND owner NOT IN (SELECT key FROM owners)",
    "waits of no waiter": "SELECT ticket FROM waits"
    " WHERE ticket NOT IN (SELECT ticket FROM waiters)",
}


def look(actor: Actor, limiter: Limiter) -> None:
    """Read who holds and who waits, and tell the witness."""
    say = actor.journal.write
    say("look", actor.now())
    holders = limiter.holders()
    waiters = limiter.waiters()
    say(
        "saw",
        _rows((tag_of(one.holder), one.limit, one.slots) for one in holders if one.holder),
        _rows((tag_of(one.holder), one.limit, one.slots) for one in waiters if one.holder),
    )


def _rows(rows: object) -> str:
    return " ".join(",".join(map(str, row)).replace(" ", "_") for row in rows)  # type: ignore[attr-defined]


def add_up(actor: Actor) -> None:
    """See that the derived columns say what the rows say."""
    try:
        with contextlib.closing(
            sqlite3.connect(f"file:{actor.database}?mode=ro", uri=True, timeout=0)
        ) as connection:
            for what, query in _SUMS.items():
                found = connection.execute(query).fetchall()
                if found:
                    actor.journal.write("wrong", f"{what}: {found}")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # the statement, and not the file
            raise
    else:
        actor.journal.write("did", "sums")


def main() -> None:
    """Look until the run ends."""
    actor = Actor("observer")
    limiter = Limiter(actor.database)
    while actor.goes_on(float("inf")):
        try:
            look(actor, limiter)
        except LocalGCLError as error:
            actor.tell("blind", error)
        # Nobody at the gate: it would read a file and another's log while one is replaced. After
        # that SQLite would read the new log by the index that this process has of the old one.
        with cleaners_kept_out(actor.journal.path, wait=False) as alone:
            database = limiter._database
            if alone and database.is_intact(database.openings):
                add_up(actor)
        time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    main()
