"""Which boot of the machine the times in the file belong to, and how a reboot converts them.

The recorded boot and this process's boot differ after a reboot. They also differ in a container
that sees a boot_id of its own. After a reboot every process is dead, so if one lives, there was no
reboot.
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

# A smaller step of the wall clock counts as none.
_STEP_SECONDS = 1.0


class Boot:
    """This boot as it is recorded; `offset` is the wall time at which its clock started."""

    def __init__(self) -> None:
        self.id = clock.boot_id()
        self.offset = clock.wall() - clock.now()

    def is_recorded(self, execute: Callable[..., sqlite3.Cursor], path: str) -> bool:
        """Whether the file records this boot, so that nothing has to be written."""
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
        """Record this boot and convert every time to its clock; inside a transaction.

        `lives` tells whether an owner lives, by its lifeline and by the identity of its process.
        After a reboot only wall time tells how long the machine was down, and it may be off by
        decades. So the conversion never raises a level, and it puts no time in the future, except
        the end of a client: that is at most one lease duration away.
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
            ("ledger", ("level_at", "since", "decays_from", "asked", "granted_at", "timed_out_at")),
            ("taken", ("at",)),
            ("waiters", ("since", "until", "wakes_at")),
        ):
            for column in columns:
                execute(f"UPDATE {table} SET {column} = min({column} + ?, ?)", (shift, now))
        # A pause has an end by the clock on the wall, or none.
        execute("UPDATE settings SET paused = paused + ? WHERE paused", (shift,))
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
