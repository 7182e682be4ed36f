"""What an engine must provide to the functions of this folder: the interface of a transaction.

The statements run against the tables of `_storage/schema.py`. An *address* is how the others tell
whether a process lives; it is in the column `lifeline` of the process's row. A *wake-up address*
(`wakes`) is where one thread or event loop of a process is woken, and begins with the process's
address (see `lifeline_of`). Nothing here says what these are made of.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import Any, Protocol

    from localgcl._engine.request import Listener

    class Cursor(Protocol):
        """What a statement has found or done, as in the DB-API (PEP 249)."""

        @property
        def rowcount(self) -> int:
            """How many rows were inserted, updated or deleted."""

        @property
        def lastrowid(self) -> int | None:
            """The key of the row that an INSERT has made."""

        def fetchone(self) -> Any:
            """Return the next row, None after the last."""

        def fetchall(self) -> list[Any]:
            """Return all rows."""

        def __iter__(self) -> Iterator[Any]:
            """Yield the rows."""

    class Execute(Protocol):
        """Run one statement, with values for its question marks."""

        def __call__(self, statement: str, values: Sequence[Any] = (), /) -> Cursor:
            """Return its cursor."""

    class Transaction(Protocol):
        """One transaction: nobody else's runs meanwhile, and all of it is committed or nothing."""

        @property
        def execute(self) -> Execute:
            """Run a statement in it."""

        @property
        def now(self) -> float:
            """The moment at which it began, on the clock that all processes share."""

        # Where several requests share a transaction: limits whose queues are served at its end.
        later: set[int] | None

        # On how many more places in queues it may decide, and what is left to the next transaction.
        share: int
        rest: Callable[[Transaction], object] | None

        @property
        def known(self) -> dict[str, tuple[int, int]]:
            """The keys of limit and owner by the limit's name: hints, for as long as it is open."""

        def wake(self, wakes: str, ticket: int) -> None:
            """Once this is committed, wake who waits at a wake-up address, for that ticket."""

        def listening_address(self, listener: Listener) -> str:
            """Return the wake-up address of a listener of this process."""

        def own_address(self) -> str:
            """Return this process's address, which is made where it has none."""

        def own_address_if_any(self) -> str | None:
            """Return this process's address if it has one: without one, it owns nothing."""

        def own_description(self) -> tuple[int, str, str, str | None]:
            """Return this process's pid, user and command, and what tells it from others."""

        def is_waiting(self) -> bool:
            """Whether anybody in this process waits."""

        def end_own_address(self) -> None:
            """Have this process count as dead; it gets another address when it needs one."""

        def lives(self, address: str) -> bool:
            """Whether the process of an address lives, as far as can be told."""

        def can_wake(self, wakes: str) -> bool:
            """Whether the process of a wake-up address lives, which is about to be woken."""

        def clear_away(self, address: str) -> None:
            """Remove what is left of a dead process beside its rows."""

        def clear_away_others(self, besides: Collection[str]) -> None:
            """Remove what is left of dead processes that have no row; `besides` are alive."""
