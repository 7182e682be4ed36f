"""What is asked for, and the possible outcomes: plain data for the transactions and the drivers."""

from __future__ import annotations

import math
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    from localgcl.errors import Refusal

    class Listener(Protocol):
        """What a thread or an event loop sleeps on while a request waits."""

        recheck_seconds: float

        def wake_address(self, folder: Any) -> str:
            """Return the address at which this request is woken; `folder` is the engine's own."""

        def recreate(self) -> None:
            """Make the wake-up FIFO again if it is gone."""


class Request:
    """What is asked for; its random id becomes the id of the lease."""

    __slots__ = (
        "began",
        "checked",
        "due",
        "granted",
        "holder",
        "holds",
        "id",
        "limits",
        "max_waiting",
        "names",
        "occupy",
        "once",
        "pid",
        "place",
        "settled",
        "stood",
        "strict",
        "ticket",
        "until",
        "weights",
    )

    def __init__(
        self,
        names: tuple[str, ...],
        occupy: int | None,
        *,
        holds: bool,
        strict: bool,
        once: bool,
        holder: str | None,
        max_waiting: int | None = None,
        weights: dict[str, int] | None = None,
    ) -> None:
        self.id = os.urandom(16).hex()
        self.pid = os.getpid()  # its process; a child that is forked meanwhile has no part in it
        self.names = names
        self.occupy = occupy  # None if the weights differ
        self.weights = weights
        self.holds = holds
        self.strict = strict
        self.once = once
        self.holder = holder
        self.began = 0.0  # the moment at which it was made
        self.until = math.inf  # the moment at which it gives up
        self.max_waiting = max_waiting  # it does not join a queue that has this many waiters
        self.ticket = 0  # its place in every queue, once it waits
        # Once it waits, the key of its owner, and the keys of the limits for its leases.
        self.place: tuple[int, list[int]] | None = None
        # The names of its limits, by their keys, as far as it did not take its slots at once.
        self.limits: dict[int, str] = {}
        # What it saw at each of its limits when it last looked; None for one that was ignored.
        self.stood: dict[int, tuple[object, ...] | None] = {}
        # What had been committed at its last periodic check; see `recheck`.
        self.checked: tuple[int, int] | None = None
        self.due = 0.0  # the moment at which rates have room for it, as far as is known
        self.granted: Granted | None = None
        # Whether the database is known to hold nothing of the request that needs a clean-up.
        self.settled = False

    def wanted_of(self, name: str) -> int:
        """Return the slots that are asked of one of the names."""
        return self.occupy or self.weights[name]  # type: ignore[index]  # the one or the other


class Granted:
    """Slots of the limits `taken` are taken as of the moment `at`; `missing` names were ignored.

    `owner` and `taken` are keys. They find the rows of a lease without a search. `awaited` means
    that the request had to wait. This is a hint that others wait too. `by_rate` is a hint that the
    limits have a rate or a window. Both save time at the release.
    """

    __slots__ = ("at", "awaited", "by_rate", "missing", "owner", "taken")

    def __init__(
        self,
        at: float,
        missing: tuple[str, ...],
        owner: int | None,
        taken: list[int],
        *,
        awaited: bool = False,
        by_rate: bool = False,
    ) -> None:
        self.at = at
        self.missing = missing
        self.owner = owner
        self.taken = taken
        self.awaited = awaited
        self.by_rate = by_rate


class Refused:
    """Waiting cannot help, because of these `names`; `missing` names were ignored.

    `lease` is the one that only the caller itself could free, if that is the reason.
    """

    __slots__ = ("lease", "missing", "names", "reason")

    def __init__(
        self,
        reason: Refusal,
        names: Iterable[str],
        missing: tuple[str, ...] = (),
        *,
        lease: str = "",
    ) -> None:
        self.reason = reason
        self.names = tuple(names)
        self.missing = missing
        self.lease = lease


class Waiting:
    """In the queue: look again at `look_at`, or when one of the lifelines `blockers` has ended.

    A slot is expected in `expected_seconds`; `missing` names were ignored.
    """

    __slots__ = ("blockers", "expected_seconds", "look_at", "missing")

    def __init__(
        self, look_at: float, expected_seconds: float, missing: tuple[str, ...], blockers: set[str]
    ) -> None:
        self.look_at = look_at
        self.expected_seconds = expected_seconds
        self.missing = missing
        self.blockers = blockers


class NotGranted:
    """Not granted, and no longer in the queue; time alone makes room for a new one at `at`."""

    __slots__ = ("at", "missing")

    def __init__(self, missing: tuple[str, ...] = (), at: float = math.inf) -> None:
        self.missing = missing
        self.at = at


class Lost:
    """The database does not know the request: it is another file now, or it was restored."""

    __slots__ = ()
