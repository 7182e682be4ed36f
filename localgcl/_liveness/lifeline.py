"""What a process has in the run folder: its lifeline, its wake-up FIFOs, and a watch.

A process has one lifeline for each run folder. Beside it, it has one wake-up FIFO for each thread
(or event loop) that waits. A byte written to a wake-up FIFO is a hint to look at the database,
never a message.
"""

from __future__ import annotations

import os
import select
import weakref

from localgcl._base import threads
from localgcl._base.descriptors import NONE, Descriptor, close_if_ours, is_ours, mark
from localgcl._base.forks import at_fork
from localgcl._liveness.duty import Duty
from localgcl._liveness.fifo import NAME_LENGTH, WriteEnd, hint, keep_spare
from localgcl._liveness.folder import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    E = TypeVar("E", bound="WakeFifo")

# The most unused wake-up FIFOs that are kept open, and the most write ends for each.
_MAX_IDLE = 32
_MAX_WATCHED_IDLE = 16


class _Fifo:
    """A FIFO that this process reads, recreated if it was taken away or closed by the program."""

    descriptor = NONE

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder = folder
        self.name = name
        self._open()

    def _open(self) -> None:
        self.descriptor = self.folder.make_fifo(self.name)
        self._place = self.folder.identity

    def is_there(self) -> bool:
        try:
            return (
                self.descriptor >= 0
                and is_ours(self.descriptor)
                and self._place == self.folder.identity
                and os.fstat(self.descriptor).st_nlink > 0
            )
        except FileNotFoundError:
            return False  # a cleaner took the folder

    def recreate(self) -> None:
        taken = self.renew()
        if taken is not None:
            close_if_ours(taken)

    def renew(self) -> Descriptor | None:
        """Recreate it if it was taken; then return the old read end, for the caller to close.

        The program may have closed the old end. So it is closed only if it still is what it was.
        """
        if self.is_there():
            return None
        # The new FIFO exists before the old end closes, so that no watcher sees a death.
        taken = self.descriptor
        self._open()
        return taken

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, NONE
        close_if_ours(descriptor)


class LifelineWatch:
    """Write ends of other processes' lifelines, held open to learn of their deaths at once."""

    def __init__(self) -> None:
        self.ends: dict[str, WriteEnd] = {}
        self.unwatched: set[str] = set()  # their deaths are found only by polling

    def turn_to(self, folder: Folder, lifelines: Iterable[str]) -> list[str]:
        """Watch these lifelines and no others; return those that are dead."""
        wanted = list(lifelines)
        for name in (self.ends.keys() - set(wanted)) | self._ended():
            del self.ends[name]
        ends, dead = folder.open_to_watch(name for name in wanted if name not in self.ends)
        self.unwatched = {name for name, end in ends.items() if end is None}
        self.ends.update({name: end for name, end in ends.items() if end is not None})
        return dead

    def _ended(self) -> set[str]:
        # Only opening it by name tells whether its owner has recreated it.
        if not self.ends:
            return set()
        poll = threads.poll()
        for end in self.ends.values():
            poll.register(end.descriptor, end.events)
        failed = {descriptor for descriptor, _ in poll.poll(0)}
        return {name for name, end in self.ends.items() if end.descriptor in failed}

    def close(self) -> None:
        """Close all of them."""
        self.ends.clear()
        self.unwatched = set()


class WakeFifo(_Fifo):
    """What wakes one waiting thread, all tasks of one event loop, or all other threads."""

    _writer: WriteEnd | None = None

    def __init__(self, folder: Folder, name: str) -> None:
        # The watch stays with the wake-up FIFO: the next waiter mostly has the same blockers.
        self.watch = LifelineWatch()
        super().__init__(folder, name)

    def __del__(self) -> None:
        super().close()  # Ctrl-C may have kept its borrower from returning it

    def _open(self) -> None:
        reader = self.folder.make_fifo(self.name)
        try:
            # After a writer has come and gone, a FIFO without a writer reports a hang-up for ever.
            writer = WriteEnd(mark(self.folder.open_for_writing(self.name)))
        except BaseException:
            os.close(reader)
            raise
        self.descriptor, self._writer = reader, writer
        self._place = self.folder.identity

    def close(self) -> None:
        super().close()
        self._writer = None
        self.watch.close()

    def is_used(self) -> bool:
        """Whether somebody has borrowed it and listens."""
        return True

    def wake(self, tickets: Iterable[int]) -> bool:
        """Write hints to it, which needs no new descriptor; False if its write end is lost."""
        writer = self._writer  # this reference keeps it open if the FIFO is closed meanwhile
        if writer is None:
            return True  # closed, and so nobody waits
        if writer.is_lost():
            return False
        hint(writer.descriptor, tickets)
        return True

    def drain(self) -> bytes:
        """Read away the hints before looking, so that none is missed; return them."""
        hints = b""
        if self.descriptor < 0 or not is_ours(self.descriptor):
            return hints  # another file has its number now, which is not ours to read
        try:
            while chunk := os.read(self.descriptor, select.PIPE_BUF):
                hints += chunk
                if len(chunk) < select.PIPE_BUF:
                    break
        except BlockingIOError:
            pass  # no more
        return hints


class Lifeline(_Fifo):
    """What shows that this process lives, and the wake-up FIFOs that its waiters borrow."""

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder, os.urandom(NAME_LENGTH // 2).hex())
        keep_spare()
        self.pid = os.getpid()
        self._wake_fifos: weakref.WeakValueDictionary[str, WakeFifo] = weakref.WeakValueDictionary()
        self._made = 0
        self._idle: list[WakeFifo] = []
        self._names: list[str] = []  # of closed wake-up FIFOs, to be used again
        self.keeper = Duty()  # the periodic check, which one of the waiting threads does
        self.shared: WakeFifo | None = None  # by all threads that have none of their own

    def borrow_wake_fifo(self) -> WakeFifo:
        """Return an unused wake-up FIFO; give it back with `return_wake_fifo`."""
        if self._idle:
            wake_fifo = self._idle.pop()
            try:
                wake_fifo.recreate()
                wake_fifo.drain()
            except BaseException:
                self._idle.append(wake_fifo)
                raise
        else:
            wake_fifo = self.new_wake_fifo(WakeFifo)
        return wake_fifo

    def new_wake_fifo(self, kind: type[E]) -> E:
        """Make a wake-up FIFO of some kind, which is woken like any other."""
        if self._names:
            name = self._names.pop()
            try:
                wake_fifo = kind(self.folder, name)
            except BaseException:
                self._names.append(name)
                raise
        else:
            wake_fifo = kind(self.folder, f"{self.name}.{self._made + 1}")
            self._made += 1
        self._wake_fifos[wake_fifo.name] = wake_fifo
        return wake_fifo

    def return_wake_fifo(self, wake_fifo: WakeFifo) -> None:
        if len(self._idle) >= _MAX_IDLE:
            # Close it before forgetting it: otherwise a child forked in between would keep it open.
            wake_fifo.close()
            self._wake_fifos.pop(wake_fifo.name, None)
            self._names.append(wake_fifo.name)
            return
        if len(wake_fifo.watch.ends) > _MAX_WATCHED_IDLE:
            wake_fifo.watch.close()
        self._idle.append(wake_fifo)

    def wake(self, name: str, tickets: Iterable[int]) -> bool:
        """Wake the waiter on a FIFO of this process; return whether this process has that FIFO."""
        wake_fifo = self._wake_fifos.get(name)
        return wake_fifo is not None and wake_fifo.wake(tickets)

    def borrowed(self) -> int:
        """Return how many wake-up FIFOs are in use, not counting the shared one."""
        return len(self._wake_fifos) - len(self._idle) - (self.shared is not None)

    def is_listening(self) -> bool:
        """Whether somebody waits."""
        return self.borrowed() > 0 or (self.shared is not None and self.shared.is_used())

    def drop(self) -> None:
        """Close every descriptor, and leave the files for others to clear away."""
        self.close()
        for known in self._wake_fifos.valuerefs():  # a copy: another thread may return one
            wake_fifo = known()
            if wake_fifo is not None:
                wake_fifo.close()


_lifelines: dict[str, Lifeline] = {}

# Lifelines that this process has ended. A backup may name one although its process runs.
_ended: set[str] = set()
_MAX_ENDED = 1000


def has_ended(name: str) -> bool:
    """Whether a lifeline was this process's and this process ended it."""
    return name in _ended


def lifeline(folder: Folder) -> Lifeline:
    """Return this process's lifeline in `folder`, made if there is none.

    Call it inside a transaction. The transaction has recreated a lifeline that a cleaner took, and
    its gate keeps two threads from making two.
    """
    ours = _lifelines.get(folder.path)
    if ours is None:
        ours = _lifelines[folder.path] = Lifeline(folder)
    return ours


def existing_lifeline(folder: Folder) -> Lifeline | None:
    """Return this process's lifeline in `folder` if it has one."""
    return _lifelines.get(folder.path)


def seems_whole(folder: Folder) -> bool:
    """Whether this process's lifeline in `folder`, if it has one, seems to exist and be open.

    This may be called outside a transaction, where another thread may end the lifeline meanwhile.
    """
    ours = _lifelines.get(folder.path)
    return ours is None or seems_there(ours)


def seems_there(fifo: _Fifo) -> bool:
    """Whether a FIFO of this process exists; another thread may close it meanwhile."""
    try:
        return fifo.is_there()
    except OSError as error:
        if error.errno is None:
            raise  # a signal handler raised it
        return False  # closed by now


def end_lifeline(folder: Folder) -> None:
    """Close this process's lifeline in `folder` and remove its files."""
    ours = _lifelines.pop(folder.path, None)
    if ours is not None:
        if len(_ended) >= _MAX_ENDED:
            _ended.clear()
        _ended.add(ours.name)
        ours.drop()
        folder.remove(ours.name)


def _forget_after_fork() -> None:
    # The child is another owner. If it kept these open, nobody would see its parent die.
    for ours in _lifelines.values():
        ours.drop()
    _lifelines.clear()


at_fork(after_in_child=_forget_after_fork)
