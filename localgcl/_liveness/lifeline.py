"""What a process has in the run folder: its lifeline, its wake-up FIFOs, and a watch.

A process has one lifeline for each run folder and, beside it, one wake-up FIFO for each thread (or
event loop) that waits. What is written to that is a hint to look at the database, never a message.
"""

from __future__ import annotations

import os
import select
import weakref

from localgcl._base import threads
from localgcl._base.descriptors import NONE, Descriptor, close_if_ours, is_ours
from localgcl._base.forks import at_fork
from localgcl._liveness.duty import Duty
from localgcl._liveness.fifo import NAME_LENGTH, WriteEnd, hint, keep_spare
from localgcl._liveness.folder import Folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    E = TypeVar("E", bound="WakeFifo")

# How many wake-up FIFOs that nobody uses are kept open at the most, and how many write ends each.
_MAX_IDLE = 32
_MAX_WATCHED_IDLE = 16


class _Fifo:
    """A FIFO that this process reads, made again where it was taken away or closed under us."""

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
        """Make it again where it was taken; return the old end then, for the caller to close.

        The program may have closed that, so it is closed only if it still is what it was.
        """
        if self.is_there():
            return None
        # The new one is there before the old one ends, so that no watcher sees a death.
        taken = self.descriptor
        self._open()
        return taken

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, NONE
        close_if_ours(descriptor)


class LifelineWatch:
    """Write ends of other processes' lifelines, held to learn of their deaths at once."""

    def __init__(self) -> None:
        self.ends: dict[str, WriteEnd] = {}
        self.unwatched: set[str] = set()  # whose deaths only a look at them can tell

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
        # Whether the owner made it anew, only opening it by name tells.
        if not self.ends:
            return set()
        poll = threads.poll()
        for end in self.ends.values():
            poll.register(end.descriptor, end.events)
        failed = {descriptor for descriptor, _ in poll.poll(0)}
        return {name for name, end in self.ends.items() if end.descriptor in failed}

    def close(self) -> None:
        """Hold nothing open any more."""
        self.ends.clear()
        self.unwatched = set()


class WakeFifo(_Fifo):
    """What wakes one waiting thread, all the tasks of one event loop, or all other threads."""

    _writer: WriteEnd | None = None

    def __init__(self, folder: Folder, name: str) -> None:
        # Kept with the wake-up FIFO: who waits again mostly finds the same processes in its way.
        self.watch = LifelineWatch()
        super().__init__(folder, name)

    def __del__(self) -> None:
        super().close()  # Ctrl-C may have kept its borrower from giving it back

    def _open(self) -> None:
        reader = self.folder.make_fifo(self.name)
        try:
            # Once a writer has come and gone, a FIFO without any reports a hang-up for ever.
            writer = WriteEnd(self.folder.open_for_writing(self.name))
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
        """Whether somebody listens who has borrowed it."""
        return True

    def wake(self, tickets: Iterable[int]) -> bool:
        """Write hints to it, for which no descriptor need be to be had; False if that is lost."""
        writer = self._writer  # kept open by this, whatever becomes of the wake-up FIFO meanwhile
        if writer is None:
            return True  # closed, and so nobody waits
        if writer.is_lost():
            return False
        hint(writer.descriptor, tickets)
        return True

    def drain(self) -> bytes:
        """Read away the hints, before looking, so that none is missed; return them."""
        hints = b""
        if self.descriptor < 0 or not is_ours(self.descriptor):
            return hints  # what has its number now is not ours to read
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
        self._names: list[str] = []  # of wake-up FIFOs that were closed
        self.keeper = Duty()  # of the threads that wait here: the periodic check
        self.shared: WakeFifo | None = None  # by all the threads that have none of their own

    def borrow_wake_fifo(self) -> WakeFifo:
        """Return a wake-up FIFO that nobody uses; give it back with `return_wake_fifo`."""
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
        """Make one of some kind, which is woken like any other."""
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
            # Before it is forgotten: a child that is forked now would keep it open.
            wake_fifo.close()
            self._wake_fifos.pop(wake_fifo.name, None)
            self._names.append(wake_fifo.name)
            return
        if len(wake_fifo.watch.ends) > _MAX_WATCHED_IDLE:
            wake_fifo.watch.close()
        self._idle.append(wake_fifo)

    def wake(self, name: str, tickets: Iterable[int]) -> bool:
        """Wake who listens on a FIFO of this process; return whether it has that one."""
        wake_fifo = self._wake_fifos.get(name)
        return wake_fifo is not None and wake_fifo.wake(tickets)

    def borrowed(self) -> int:
        """Return how many wake-up FIFOs are in use, without the shared one."""
        return len(self._wake_fifos) - len(self._idle) - (self.shared is not None)

    def is_listening(self) -> bool:
        """Whether somebody waits."""
        return self.borrowed() > 0 or (self.shared is not None and self.shared.is_used())

    def drop(self) -> None:
        """Close every descriptor, and leave the files to whoever finds them."""
        self.close()
        for known in self._wake_fifos.valuerefs():  # a copy, whatever another thread gives back
            wake_fifo = known()
            if wake_fifo is not None:
                wake_fifo.close()


_lifelines: dict[str, Lifeline] = {}

# Those that this process has ended: a backup may name one, and its process runs.
_ended: set[str] = set()
_MAX_ENDED = 1000


def has_ended(name: str) -> bool:
    """Whether a lifeline was this process's and was ended by it."""
    return name in _ended


def lifeline(folder: Folder) -> Lifeline:
    """Return this process's lifeline in `folder`, made where there is none.

    To be called inside a transaction, which has mended one that a cleaner took, and whose gate
    keeps two threads from making two.
    """
    ours = _lifelines.get(folder.path)
    if ours is None:
        ours = _lifelines[folder.path] = Lifeline(folder)
    return ours


def existing_lifeline(folder: Folder) -> Lifeline | None:
    """Return this process's lifeline in `folder` if it has one."""
    return _lifelines.get(folder.path)


def seems_whole(folder: Folder) -> bool:
    """Whether this process's lifeline in `folder`, if it has one, is there by all appearance.

    It may be asked outside a transaction, where another thread may end the lifeline meanwhile.
    """
    ours = _lifelines.get(folder.path)
    return ours is None or seems_there(ours)


def seems_there(fifo: _Fifo) -> bool:
    """Whether a FIFO of this process, which another thread may close meanwhile, is there."""
    try:
        return fifo.is_there()
    except OSError as error:
        if error.errno is None:
            raise  # what a signal's handler has raised
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
    # The child is another owner: were it to keep these open, its parent could not be seen to die.
    for ours in _lifelines.values():
        ours.drop()
    _lifelines.clear()


at_fork(after_in_child=_forget_after_fork)
