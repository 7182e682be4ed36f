"""Every column of every table, with every kind of value that another program can write there.

Whatever it is, a call gives what it means or a DatabaseError: no other exception, and no hang.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from functools import partial

import pytest

from localgcl import DatabaseError, Limiter, LocalGCLError
from localgcl._storage import schema
from tests.helpers import lax
from tests.helpers.played import Process
from tests.helpers.programs import Invoke

VALUES = (
    *(None, "", "text", "1 2", b"\xff\x00", "\0"),
    *(-1, 0, 99, 0.5, 1e-300, 1e300, float("inf"), float("-inf"), 2**63 - 1),
)

# Settings first: the sums of what is deleted after them need not add up.
TABLES = ("settings", "ledger", "taken", "waits", "waiters", "owners", "boot")


# Of the ledger, tallies and leases apart: where all change at once, nothing is left to be found.
PARTS = {"ledger": ("ledger WHERE owner = -1", "ledger WHERE owner >= 0")}

# What is unique, or is of templates or their keys alone, is written into the row of one limit too.
SINGLE = [
    *(("settings WHERE prefix IS NOT NULL", column) for column in ("name", "prefix", "id")),
    *(
        ("settings WHERE template IS NOT NULL", column)
        for column in ("name", "template", "prefix", "id")
    ),
]


def columns() -> list[tuple[str, str]]:
    """Return each table, or part of one, with each of its columns."""
    connection = sqlite3.connect(":memory:")
    for statement in schema.statements():
        connection.execute(statement)
    tables = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    ).fetchall()
    found = [
        (part, column)
        for (table,) in tables
        for part in PARTS.get(table, (table,))
        for _, column, *_ in connection.execute(f"PRAGMA table_info({table})").fetchall()
    ]
    connection.close()
    return found + SINGLE


def write(path: str, table: str, column: str, value: object) -> bool:
    """Write as another program does; return whether SQLite let it."""
    name, where, condition = table.partition(" WHERE ")
    try:
        lax.write(path, f"UPDATE {name} SET {column} = ?{where}{condition}", value)
    except sqlite3.IntegrityError:
        return False
    return True


def clear(path: str) -> None:
    """Delete every row, and have the tables as strict as they are in a new file."""
    lax.make_lax(path)  # or what the triggers add up may be refused
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name in TABLES:
            connection.execute(f"DELETE FROM {name}")
        connection.commit()
    lax.make_strict(path)


@pytest.fixture
def busy(limiter: Limiter, processes: Callable[[], Process]) -> Callable[[], Process]:
    """Fill a database with limits, holders and waiters; return the waiters' maker."""

    def fill() -> Process:
        for limit in limiter.read_all():
            limiter.delete(limit.name)
        limiter.create("plain", 1)
        limiter.create("rate", 1, slot_decay_per_second=0.5)
        limiter.create("window", 3, window_seconds=60)
        limiter.create("tenant:*", 1)
        process = processes()
        process.ask("plain", "rate")
        process.ask("plain", "rate", strict=True)
        process.ask("plain")
        process.ask("plain", "rate", occupy=None, weights={"plain": 1, "rate": 1})
        process.ask("window")
        process.ask("window", holds=False)
        process.ask("tenant:a")
        process.ask("tenant:a")
        return process

    return fill


def number(limiter: Limiter) -> list[list[int]]:
    """Ask for the numbers of the slots of a new lease, which has none of an inactive limit."""
    lease = limiter.acquire("window", timeout_seconds=0)
    return [lease.numbers(name) for name in lease.slots]


def adjust(limiter: Limiter) -> None:
    """Give back a slot of a window, unless the row says that the limit has none."""
    try:
        limiter.adjust("window", -1)
    except ValueError as error:
        if "has neither a rate nor a window" not in str(error):
            raise


def calls(limiter: Limiter, process: Process) -> dict[str, Callable[[], object]]:
    """Return what is tried on a strange database, by name."""
    return {
        "read_all": limiter.read_all,
        "holders": limiter.holders,
        "waiters": limiter.waiters,
        "acquire": partial(limiter.acquire, ["plain", "rate"], timeout_seconds=0),
        "acquire strictly": partial(limiter.acquire, "plain", timeout_seconds=0.002, strict=True),
        "rate_limit": partial(limiter.rate_limit, "rate", timeout_seconds=0),
        "rate_limit of a window": partial(limiter.rate_limit, "window", timeout_seconds=0),
        "acquire a key": partial(limiter.acquire, "tenant:a", timeout_seconds=0),
        "make a key": partial(limiter.acquire, "tenant:b", timeout_seconds=0),
        "read a key": partial(limiter.read, "tenant:a"),
        "numbers": partial(number, limiter),
        "adjust": partial(adjust, limiter),
        "other process": lambda: process.ask("plain", once=True),
        "wait": lambda: process.ask("plain", "rate").withdraw(),
        "update": partial(limiter.update, "plain", limit=3),
        "change decay": partial(limiter.update, "rate", slot_decay_per_second=2.0),
        "change window": partial(limiter.update, "window", window_seconds=30.0),
        "window to rate": partial(limiter.update, "window", slot_decay_per_second=1.0),
        "change template": partial(limiter.update, "tenant:*", limit=3),
        "pause": partial(limiter.pause, "plain", 60.0),
        "resume": partial(limiter.resume, "plain"),
        "disable": partial(limiter.update, "rate", active=False),
        "upsert": partial(limiter.upsert, "rate", 2),
        "read": partial(limiter.read, "plain"),
        "release": lambda: [limiter.release(one.lease) for one in limiter.holders()],
        "reset": partial(limiter.reset, "plain"),
        "rename": partial(limiter.update, "plain", new_name="new"),
        "delete": partial(limiter.delete, "rate"),
        "delete template": partial(limiter.delete, "tenant:*"),
    }


@pytest.mark.parametrize(("table", "column"), columns())
def test_calls(table: str, column: str, limiter: Limiter, busy: Callable[[], Process]) -> None:
    """Every call gives something or an error of ours, whatever stands in the column."""
    path = limiter._database.path
    for value in VALUES:
        process = busy()
        if not write(path, table, column, value):
            continue
        for name, call in calls(limiter, process).items():
            try:
                call()
            except LocalGCLError as error:
                if isinstance(error, DatabaseError):
                    assert error.path == path
            except Exception as error:
                raise AssertionError(f"{name} with {value!r} raised {error!r}") from error
        limiter.close()
        clear(path)


@pytest.mark.parametrize(("table", "column"), columns())
def test_commands(
    table: str, column: str, limiter: Limiter, busy: Callable[[], Process], invoke: Invoke
) -> None:
    """Every command that shows something ends with 0 or 1, and with one line of error at most."""
    for value in ("text", b"\xff\x00", -1, 1e300, 2**63 - 1):
        busy()
        if not write(limiter._database.path, table, column, value):
            continue
        for command in (
            *(["ls"], ["ps"], ["ls", "-o", "json"], ["ps", "-o", "json"], ["export"]),
            *(["inspect", "plain"], ["metrics"], ["doctor"], ["doctor", "-o", "json"], ["top"]),
        ):
            result = invoke(*command)
            told = f"{command} with {value!r}: {result.exception!r} {result.stderr}"
            assert result.exit_code in (0, 1), told
            assert result.exception is None or isinstance(result.exception, SystemExit), told
            assert len(result.stderr.splitlines()) <= 1, told
        limiter.close()
        clear(limiter._database.path)
