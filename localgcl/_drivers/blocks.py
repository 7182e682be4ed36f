"""The blocks that a thread or task is inside of, and whether a request waits for one of them.

A context variable leads to the innermost block, and each block to the one around it. Threads and
tasks that are started inside a block inherit the variable. They are not inside of the block, so
each block knows whose it is.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from contextvars import ContextVar

from localgcl._engine.admission import row_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any, Protocol

    from localgcl._engine.request import Request
    from localgcl._engine.transaction import Transaction

    class HeldLease(Protocol):
        """A lease; its class is the public one."""

        id: str


# Set by `localgcl run` for its command: its lease, and those of the runs around it.
LEASE_VARIABLE = "LOCALGCL_LEASE"
OUTER_VARIABLE = "LOCALGCL_OUTER_LEASES"


class Entry:
    """A block that was entered: the lease that it holds, by whom, and where."""

    __slots__ = ("_code", "_instruction", "lease", "outer", "task", "thread")

    def __init__(self, lease: HeldLease, frame: FrameType) -> None:
        self.lease: HeldLease | None = lease
        self._code: CodeType = frame.f_code
        self._instruction = frame.f_lasti
        self.thread = get_ident()
        self.task = current_task()
        self.outer = inside.get()
        inside.set(self)

    def leave(self) -> None:
        """Note that the block has ended, in whatever order blocks end."""
        self.lease = None
        if inside.get() is self:
            inside.set(self.outer)

    @property
    def where(self) -> str:
        """File and line at which the block was entered."""
        line = self._code.co_firstlineno
        for begin, end, number in self._code.co_lines():
            if begin <= self._instruction < end and number is not None:
                line = number
        return f"{self._code.co_filename}:{line}"


inside: ContextVar[Entry | None] = ContextVar("inside", default=None)


def current_task() -> object:
    """Return the task that runs in this thread, None outside of any."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task()


def own_leases() -> dict[str, str]:
    """Return what this thread or task is inside of: where each block was entered, by its lease."""
    found: dict[str, str] = {}
    entry, thread, task = inside.get(), get_ident(), current_task()
    while entry is not None:
        if entry.lease is not None and entry.thread == thread and entry.task is task:
            found[entry.lease.id] = entry.where
        entry = entry.outer
    for variable in (LEASE_VARIABLE, OUTER_VARIABLE):
        for lease in os.environ.get(variable, "").split():
            found.setdefault(lease, "`localgcl run`, under which this process runs")
    return found


def waits_for_itself(
    tx: Transaction, request: Request, leases: dict[str, str]
) -> tuple[str, str] | None:
    """Return a limit at which only the end of one of these leases makes room, and where it began.

    None if others can make room, or time.
    """
    marks = ", ".join("?" * len(leases))
    for key, name in request.limits.items():
        row = row_of(tx, key)
        if row is None or not row.active or row.decay or row.window:
            continue
        held: list[Any] = tx.execute(
            f"SELECT lease, slots FROM leases WHERE limit_key = ? AND lease IN ({marks})",
            (key, *leases),
        ).fetchall()
        if held and sum(slots for _, slots in held) + request.wanted_of(name) > row.limit:
            return name, leases[held[0][0]]
    return None
