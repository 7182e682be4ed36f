"""Errors that are no fault of the file: of the program, of a signal's handler, of our own code.

They come out as they are, from inside a transaction too. Only who stumbled over a row that makes no
sense is told to restore a backup (`test_strange_rows.py`).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from localgcl import DatabaseError, Limiter
from localgcl._admin import reading
from localgcl._engine import owners
from localgcl._storage import database, schema
from localgcl._storage.database import Transaction
from tests.helpers import lax
from tests.helpers.flavours import both_flavours
from tests.helpers.waiting import DEADLINE_SECONDS

pytest_generate_tests = both_flavours

ERRORS = (
    ZeroDivisionError("of a handler"),
    AttributeError("of a handler"),
    KeyError("of a handler"),
    IndexError("of a handler"),
    TypeError("of a handler"),
    ValueError("of a handler"),
    OverflowError("of a handler"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "of a handler"),
    TimeoutError("of a handler"),
)
by_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


def raising(error: BaseException) -> Callable[..., None]:
    """Return a function that raises an error, whatever it is called with."""

    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.fixture
def handler() -> Iterator[Callable[[BaseException], None]]:
    """Have SIGUSR1 raise an error."""
    before = signal.getsignal(signal.SIGUSR1)

    def install(error: BaseException) -> None:
        signal.signal(signal.SIGUSR1, raising(error))

    yield install
    signal.signal(signal.SIGUSR1, before)


@by_error
def test_a_fault_inside_a_transaction(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What fails beside the rows is not explained by them, in either flavour."""
    limiter.create("a", 1)
    monkeypatch.setattr(owners, "sweep", raising(error))
    with pytest.raises(type(error), match="of a handler"):
        limiter.acquire("a")
    monkeypatch.undo()
    limiter.acquire("a", timeout_seconds=0).release()


@by_error
def test_a_fault_inside_every_transaction(
    limiter: Limiter, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What fails each time is raised once to who waits for it; it is undone when it can be."""
    limiter.create("a", 1)
    lease = limiter.acquire("a")
    monkeypatch.setattr(database, "begin", raising(error))
    with pytest.raises(type(error), match="of a handler"):
        limiter.acquire("a", timeout_seconds=0)
    with pytest.raises(type(error), match="of a handler"):
        lease.release()
    monkeypatch.undo()
    limiter.acquire("a", timeout_seconds=DEADLINE_SECONDS).release()
    limiter.close()


@by_error
def test_a_handler_that_strikes_inside_a_transaction(
    path: str, handler: Callable[[BaseException], None], error: Exception
) -> None:
    """A signal's handler raises what it raises, and the transaction is undone."""
    limiter = Limiter(path)
    limiter.create("a", 1)

    def interrupted(tx: Transaction) -> None:
        tx.execute("UPDATE settings SET slots = 5")
        signal.raise_signal(signal.SIGUSR1)

    handler(error)
    with pytest.raises(type(error), match="of a handler"):
        limiter._database.transact(interrupted)
    assert limiter.read("a").limit == 1


@by_error
def test_a_handler_that_strikes_as_rows_are_made_use_of(
    path: str,
    handler: Callable[[BaseException], None],
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same after the transaction, where the rows become what the caller is given."""
    limiter = Limiter(path)
    limiter.create("a", 1)
    utc, calls = reading.utc, iter([True])

    def interrupted(wall: float) -> object:
        if next(calls, False):
            signal.raise_signal(signal.SIGUSR1)
        return utc(wall)

    monkeypatch.setattr(reading, "utc", interrupted)
    handler(error)
    with pytest.raises(type(error), match="of a handler"):
        limiter.read("a")


def test_a_fault_while_the_file_is_opened(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault before anything is open is raised as it is, and the next call works."""
    limiter = Limiter(path)
    limiter.create("a", 1)
    limiter.close()
    monkeypatch.setattr(schema, "version_of", raising(TypeError("a fault")))
    with pytest.raises(TypeError, match="a fault"):
        limiter.read("a")
    monkeypatch.undo()
    assert limiter.read("a").limit == 1


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("waiters", "limits", "one two"),
        ("waiters", "limits", f"{2**70}"),
        ("waiters", "limits", "1\0"),
        ("waiters", "until", "soon"),
        ("settings", "decay", "quick"),
        ("ledger", "level", "x"),
        ("boot", "offset", "x"),
        ("boot", "offset", float("inf")),
    ],
)
def test_a_row_that_makes_no_sense(
    limiter: Limiter, table: str, column: str, value: object
) -> None:
    """A fault of the rows names the row that is at fault."""
    limiter.create("a", 1, slot_decay_per_second=1e-9)
    limiter.acquire("a")
    limiter._database.transact(
        lambda tx: tx.execute(
            "INSERT INTO waiters (ticket, request, owner, wakes, limits, holds, strict, since,"
            " until, wakes_at) SELECT 1, 'r', 1, 'x', key, 1, 0, 0, 1e300, 0 FROM settings"
        )
    )
    limiter._database.transact(
        lambda tx: tx.execute("INSERT INTO waits SELECT key, 1, 1, 0, 0 FROM settings")
    )
    limiter.close()
    lax.write(limiter._database.path, f"UPDATE {table} SET {column} = ?", value)
    with pytest.raises(DatabaseError, match=f"{table}.{column}.*restore a backup"):
        limiter.update("a", limit=2, slot_decay_per_second=2.0)
