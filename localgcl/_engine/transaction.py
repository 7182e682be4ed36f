"""What an engine must provide to the functions of this folder: the interface of a transaction.

The statements run against the tables of `_storage/schema.py`. An *address* stands for a process:
the others use it to tell whether the process lives. It is in the column `lifeline` of the process's
row. A *wake-up address* (column `wakes`) is where one thread or event loop of a process is woken.
It begins with the process's address (see `lifeline_of`). Nothing here says what addresses are made
of.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import Any, Protocol

    from localgcl._engine.request import Listener

    class Cursor(Protocol):
        """What a statement has found or changed, as in the DB-API (PEP 249)."""

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
        """One transaction: no other runs meanwhile, and all of it is committed, or nothing."""

        @property
        def execute(self) -> Execute:
            """Run a statement in it."""

        @property
        def now(self) -> float:
            """The moment at which it began, on the clock that all processes share."""

        # Set if several requests share a transaction: the limits whose queues are promoted at its
        # end.
        later: set[int] | None

        # How many more places in queues it may decide on, and what it leaves to the next
        # transaction.
        share: int
        rest: Callable[[Transaction], object] | None

        @property
        def known(self) -> dict[str, tuple[int, int]]:
            """The keys of limit and owner by the limit's name: hints, for this open file."""

        def wake(self, wakes: str, ticket: int) -> None:
            """Wake the waiter with that ticket at a wake-up address, once this is committed."""

        def listening_address(self, listener: Listener) -> str:
            """Return the wake-up address of a listener of this process."""

        def own_address(self) -> str:
            """Return this process's address; make one if it has none."""

        def own_address_if_any(self) -> str | None:
            """Return this process's address; None if it has none, and so owns nothing."""

        def own_description(self) -> tuple[int, str, str, str | None]:
            """Return this process's pid, user, command, and what distinguishes it from others."""

        def is_waiting(self) -> bool:
            """Whether anybody in this process waits."""

        def end_own_address(self) -> None:
            """Make this process count as dead; it gets another address when it needs one."""

        def lives(self, address: str) -> bool:
            """Whether the process of an address lives, as far as can be told."""

        def can_wake(self, wakes: str) -> bool:
            """Whether the process of a wake-up address lives; asked just before it is woken."""

        def clear_away(self, address: str) -> None:
            """Remove what a dead process has left, apart from its rows."""

        def clear_away_others(self, besides: Collection[str]) -> None:
            """Remove what dead processes without a row have left; `besides` are alive."""
