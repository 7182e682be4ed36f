"""One transaction of SQLite and FIFOs: it provides what `_engine/transaction.py` asks for.

An address is the name of a lifeline, a wake-up address is the name of a wake-up FIFO.
"""

from __future__ import annotations

import os

from localgcl._base.text import lifeline_of
from localgcl._liveness import identity
from localgcl._liveness.lifeline import end_lifeline, existing_lifeline, has_ended, lifeline

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from localgcl._engine import transaction
    from localgcl._engine.request import Listener
    from localgcl._storage.file import File

    Wakeups = dict[str, set[int]]  # the tickets for each wake-up FIFO
    Ends = dict[str, int]  # those of their write ends that are open already

# How many places in queues one transaction decides on, some 10 ms of work at most. It leaves the
# rest to further transactions, and in between others get their turn at the gate.
_SHARE = 256


class Transaction:
    """What a transaction works with: the connection, the time, the folder, and whom to wake."""

    __slots__ = (
        "ends",
        "execute",
        "folder",
        "inode",
        "known",
        "later",
        "now",
        "rest",
        "share",
        "wakeups",
    )

    def __init__(self, file: File, wakeups: Wakeups, ends: Ends) -> None:
        self.execute = file.execute
        self.folder = file.folder
        self.known = file.known
        self.inode = file.identity[1]
        self.wakeups = wakeups
        self.ends = ends
        self.now = 0.0  # until it has begun
        # If several requests share a transaction: the limits whose queues are served at its end.
        self.later: set[int] | None = None
        self.share = _SHARE  # the number of places that it may still decide on
        # For the next transaction.
        self.rest: Callable[[transaction.Transaction], object] | None = None

    def wake(self, wakes: str, ticket: int) -> None:
        self.wakeups.setdefault(wakes, set()).add(ticket)

    def listening_address(self, listener: Listener) -> str:
        return listener.wake_address(self.folder)

    def own_address(self) -> str:
        return lifeline(self.folder).name

    def own_address_if_any(self) -> str | None:
        ours = existing_lifeline(self.folder)
        return None if ours is None else ours.name

    def own_description(self) -> tuple[int, str, str, str | None]:
        me = identity.this_owner()
        return os.getpid(), me.user, me.command, identity.process_at(self.inode)

    def is_waiting(self) -> bool:
        ours = existing_lifeline(self.folder)
        return ours is not None and ours.is_listening()

    def end_own_address(self) -> None:
        end_lifeline(self.folder)

    def lives(self, address: str) -> bool:
        """Whether a lifeline's process lives; this one does, even if a cleaner took its files."""
        ours = existing_lifeline(self.folder)
        if ours is not None and ours.name == address:
            ours.recreate()
            return True
        if self.folder.is_alive(address):
            return True
        if has_ended(address):
            return False
        # It may have closed its lifeline, and run nevertheless.
        row = self.execute("SELECT process FROM owners WHERE lifeline = ?", (address,)).fetchone()
        process, _, inode = (row[0] or "").rpartition(" ") if row is not None else ("", "", "")
        return inode == str(self.inode) and self.folder.outlives(address, process)

    def can_wake(self, wakes: str) -> bool:
        """Whether a waiter's process lives; this leaves its FIFO open for the coming wake-up.

        A waiter that was granted slots by another process checks its lifeline before it uses them.
        """
        ours = existing_lifeline(self.folder)
        if ours is not None and lifeline_of(wakes) == ours.name:
            return True
        if wakes not in self.ends:
            try:
                end = self.folder.open_end(wakes)
            except ProcessLookupError:
                return False
            if end is not None:
                self.ends[wakes] = end
        return True

    def clear_away(self, address: str) -> None:
        self.folder.remove(address)

    def clear_away_others(self, besides: Collection[str]) -> None:
        # FIFOs of a process that died while it signed in, or that is about to sign in again.
        for fifo in self.folder.fifos(besides=besides):
            if not self.folder.is_alive(fifo):
                self.folder.discard(fifo)
