"""Which boot of the machine the times in the file are of, and how they come over a reboot.

The recorded boot and this process's differ after a reboot; but also in a container that is shown a
boot_id of its own. After a reboot every process is dead. So where one lives, there was none.
"""

from __future__ import annotations

import math
import sqlite3

from localgcl._base import clock
from localgcl._storage.problems import corrupt_rows_error
from localgcl._storage.schema import MAX_LEASE_SECONDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A wall clock that is adjusted by less is as good as before.
_STEP_SECONDS = 1.0


class Boot:
    """This boot as it is to be recorded; `offset` is wall time less the clock that it began."""

    def __init__(self) -> None:
        self.id = clock.boot_id()
        self.offset = clock.wall() - clock.now()

    def is_recorded(self, execute: Callable[..., sqlite3.Cursor], path: str) -> bool:
        """Whether the file has it, and nothing is to be written."""
        recorded = _recorded(execute, path)
        if recorded is None or recorded[0] != self.id:
            return False
        return abs(self.offset - recorded[1]) < _STEP_SECONDS

    def enter(
        self,
        execute: Callable[..., sqlite3.Cursor],
        path: str,
        lives: Callable[[str, str | None], bool],
    ) -> None:
        """Record it, with every time brought onto its clock; inside a transaction.

        `lives` tells whether an owner does, by its lifeline and by what else tells its process.
        After a reboot, wall time is all that tells how long the machine was down, and it may be off
        by decades. A level cannot rise by it, and no time comes to lie ahead but the end of a
        client, by no more than it was given.
        """
        recorded = _recorded(execute, path)
        if recorded is not None and recorded[0] != self.id:
            owners = "SELECT lifeline, process FROM owners WHERE expires IS NULL"
            if any(lives(*owner) for owner in execute(owners).fetchall()):
                return
            self._bring_over(execute, recorded[1] - self.offset)
        execute("INSERT OR REPLACE INTO boot VALUES (1, ?, ?)", (self.id, self.offset))

    def _bring_over(self, execute: Callable[..., sqlite3.Cursor], shift: float) -> None:
        now = clock.now()
        for table, columns in (
            ("ledger", ("level_at", "since", "decays_from", "asked")),
            ("waiters", ("since", "until", "wakes_at")),
        ):
            for column in columns:
                execute(f"UPDATE {table} SET {column} = min({column} + ?, ?)", (shift, now))
        execute(
            "UPDATE owners SET expires = min(expires + ?, ? + ifnull(lasts, ?))",
            (shift, now, MAX_LEASE_SECONDS),
        )


def _recorded(execute: Callable[..., sqlite3.Cursor], path: str) -> tuple[str, float] | None:
    rows = execute("SELECT id, offset FROM boot").fetchall()
    if not rows:
        return None
    boot, offset = rows[0]
    if (
        not isinstance(boot, str)
        or not isinstance(offset, int | float)
        or not math.isfinite(offset)
    ):
        raise corrupt_rows_error(path, f"boot: {boot!r}, boot.offset: {offset!r}")
    return boot, offset
