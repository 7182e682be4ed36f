"""Rows that another program has written: reading them is our error or their content, never a crash.

The tables refuse most of this, but a file may have been edited by hand: see `make_lax`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localgcl import AsyncLimiter, DatabaseError, Limiter
from tests.helpers import lax
from tests.helpers.played import Process
from tests.helpers.programs import Invoke

READS = ("read", "read_all", "holders", "waiters")
ARGUMENTS: dict[str, tuple[str, ...]] = {"read": ("database",)}

LEVEL = "UPDATE settings SET decay = 1; UPDATE ledger SET level"

# What is written, and which calls cannot make sense of it.
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "created, too large": ("UPDATE settings SET created = 1e300", ("read", "read_all")),
    "created, endless": ("UPDATE settings SET created = 9e999", ("read", "read_all")),
    "created, a text": ("UPDATE settings SET created = 'yesterday'", ("read", "read_all")),
    "updated, too small": ("UPDATE settings SET updated = -1e300", ("read", "read_all")),
    "occupancy, a text": (
        "UPDATE ledger SET occupancy = 'long' WHERE owner = -1",
        ("read", "read_all"),
    ),
    "occupancy, endless": (
        "UPDATE ledger SET occupancy = 9e999 WHERE owner = -1",
        ("read", "read_all"),
    ),
    "slots, negative": ("UPDATE settings SET slots = -1", ("read", "read_all")),
    "slots, a fraction": ("UPDATE settings SET slots = 1.5", ("read", "read_all")),
    "slots, bytes": ("UPDATE settings SET slots = x'ff'", ("read", "read_all")),
    "waiting, a text": (
        "UPDATE ledger SET waiting = 'many' WHERE owner = -1",
        ("read", "read_all"),
    ),
    "id, bytes": ("UPDATE settings SET id = x'ff' WHERE name = 'database'", ("read", "read_all")),
    "decay, negative": ("UPDATE settings SET decay = -1", ("read", "read_all", "waiters")),
    "level, endless": (f"{LEVEL} = 9e999 WHERE owner = -1", ("read", "read_all")),
    "level, a text": (f"{LEVEL} = 'x' WHERE owner = -1", ("read", "read_all", "waiters")),
    "name, with a slash": ("UPDATE settings SET name = 'a/b' WHERE name = 'other'", ("read_all",)),
    "name, bytes": ("UPDATE settings SET name = x'ff' WHERE name = 'other'", ("read_all",)),
    "since, of no calendar": ("UPDATE ledger SET since = -1e300 WHERE owner > 0", ("holders",)),
    "since, a text": ("UPDATE ledger SET since = 'now' WHERE owner > 0", ("holders",)),
    "slots held, a text": ("UPDATE ledger SET slots = 'two' WHERE owner > 0", ("holders",)),
    "lease, bytes": ("UPDATE ledger SET lease = x'ff' WHERE owner > 0", ("holders",)),
    "pid, a text": ("UPDATE owners SET pid = 'init'", ("holders", "waiters")),
    "command, bytes": ("UPDATE owners SET command = x'ff'", ("holders", "waiters")),
    "since of a waiter, a text": ("UPDATE waiters SET since = 'now'", ("waiters",)),
    "slots waited for, a text": ("UPDATE waits SET slots = 'two'", ("waiters",)),
}


@pytest.fixture
def busy(limiter: Limiter, processes: Callable[[], Process]) -> Limiter:
    """A limiter of a database with two limits, a holder and a waiter."""
    limiter.create("database", 1)
    limiter.create("other", 1)
    processes().ask("database")
    processes().ask("database")
    return limiter


def write(limiter: Limiter, statements: str) -> None:
    """Write as another program does, with sums that are not checked."""
    for statement in statements.split("; "):
        lax.write(limiter._database.path, statement)


def awaited(path: str, call: str) -> Any:
    """Return what a call of the awaitable flavour gives."""

    async def main() -> Any:
        async with AsyncLimiter(path) as limiter:
            return await getattr(limiter, call)(*ARGUMENTS.get(call, ()))

    return asyncio.run(main())


@pytest.mark.parametrize(("statement", "calls"), ROWS.values(), ids=ROWS)
def test_strange_rows(statement: str, calls: tuple[str, ...], busy: Limiter) -> None:
    """What a row cannot mean is a DatabaseError with the path; what it leaves alone is read."""
    write(busy, statement)
    path = busy._database.path
    for call in READS:
        if call not in calls:
            getattr(busy, call)(*ARGUMENTS.get(call, ()))
            awaited(path, call)
            continue
        with pytest.raises(DatabaseError) as caught:
            getattr(busy, call)(*ARGUMENTS.get(call, ()))
        assert caught.value.path == path
        assert "did not write" in caught.value.problem
        assert "\n" not in str(caught.value)
        with pytest.raises(DatabaseError) as caught:
            awaited(path, call)
        assert caught.value.path == path


@pytest.mark.parametrize("command", ["ls", "ps"])
def test_strange_rows_in_commands(command: str, busy: Limiter, invoke: Invoke) -> None:
    """A command says so in one line."""
    write(busy, "UPDATE settings SET created = 1e300, slots = -1")
    write(busy, "UPDATE ledger SET since = -1e300 WHERE owner > 0")
    result = invoke(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: The database ")
    assert len(result.stderr.splitlines()) == 1


def test_a_negative_decay_admits_nobody(limiter: Limiter) -> None:
    """A level that rises with time lets nobody pass who is above the limit."""
    limiter.create("api", 1, slot_decay_per_second=1.0)
    limiter.rate_limit("api")
    write(limiter, "UPDATE settings SET decay = -1")
    with pytest.raises(DatabaseError, match="decay"):
        limiter.rate_limit("api", timeout_seconds=0)


def test_an_ear_that_is_no_text(busy: Limiter) -> None:
    """A wake-up FIFO that is bytes is an error of ours, also where it was to be rung."""
    write(busy, "UPDATE waiters SET wakes = x'ff'")
    with pytest.raises(DatabaseError, match="did not write"):
        busy.update("database", limit=3)


def test_a_schema_that_is_no_text(limiter: Limiter, path: str, invoke: Invoke) -> None:
    """One byte of it was changed on the disk; SQLite's own message cannot be read then."""
    limiter.create("a", 1)
    limiter.close()
    whole = Path(path).read_bytes()
    start = whole.index(b"CREATE TABLE waiters")
    refused = 0
    for place in range(start, start + 60):
        damaged = bytearray(whole)
        damaged[place] ^= 0x80
        Path(path).write_bytes(damaged)
        try:
            limiter.read_all()
        except DatabaseError:
            refused += 1
        limiter.close()
        result = invoke("doctor")
        assert result.exception is None or isinstance(result.exception, SystemExit)
    assert refused > 10


def test_counters_that_are_no_numbers(busy: Limiter, invoke: Invoke) -> None:
    """The counters say so in one line too."""
    write(busy, "UPDATE ledger SET held = 'long' WHERE owner = -1")
    result = invoke("metrics")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "did not write" in result.stderr
