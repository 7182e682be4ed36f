"""What a process has in the run folder: its lifeline, the ears of those who wait, and a watch.

A process has one lifeline for each run folder and, beside it, one ear for each thread (or event
loop) that waits. What is written to an ear is a hint to look at the database, never a message.
"""

from __future__ import annotations

import os
import select
import weakref

from localgcl import _threads
from localgcl._folder import NAME_LENGTH, Folder, WriteEnd, hint, keep_spare, open_for_writing
from localgcl._forks import at_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# How many ears that nobody uses are kept open at the most, and how many write ends each of them.
_MAX_IDLE = 32
_MAX_WATCHED_IDLE = 16


class _Fifo:
    """A FIFO that this process reads, made again where a cleaner took it away."""

    descriptor = -1

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder = folder
        self.name = name
        self._open()

    def _open(self) -> None:
        self.descriptor = self.folder.make_fifo(self.name)

    def is_there(self) -> bool:
        return os.fstat(self.descriptor).st_nlink > 0

    def mend(self) -> None:
        taken = self.renew()
        if taken is not None:
            os.close(taken)

    def renew(self) -> int | None:
        """Make it again where it was taken; return the old end then, for the caller to close."""
        if self.is_there():
            return None
        # The new one is there before the old one ends, lest a watcher see a death.
        taken = self.descriptor
        self._open()
        return taken

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Watch:
    """Write ends of other processes' lifelines, held to learn of their deaths at once."""

    def __init__(self) -> None:
        self.ends: dict[str, WriteEnd] = {}
        self.is_whole = True  # or else deaths go unnoticed until `turn_to` is called again

    def turn_to(self, folder: Folder, lifelines: Iterable[str]) -> list[str]:
        """Watch these lifelines and no others; return those that are dead."""
        wanted = list(lifelines)
        for name in (self.ends.keys() - set(wanted)) | self._ended():
            del self.ends[name]
        ends, dead = folder.open_to_watch(name for name in wanted if name not in self.ends)
        self.is_whole = None not in ends.values()
        self.ends.update({name: end for name, end in ends.items() if end is not None})
        return dead

    def _ended(self) -> set[str]:
        # Whether the owner made it anew, only opening it by name tells.
        if not self.ends:
            return set()
        poll = _threads.poll()
        for end in self.ends.values():
            poll.register(end.descriptor, 0)
        failed = {descriptor for descriptor, _ in poll.poll(0)}
        return {name for name, end in self.ends.items() if end.descriptor in failed}

    def close(self) -> None:
        """Hold nothing open any more."""
        self.ends.clear()


class Ear(_Fifo):
    """What wakes one waiting thread, or all the tasks of one event loop."""

    _writer: WriteEnd | None = None

    def __init__(self, folder: Folder, name: str) -> None:
        # Kept with the ear: who waits again mostly finds the same processes in its way.
        self.watch = Watch()
        super().__init__(folder, name)

    def __del__(self) -> None:
        super().close()  # Ctrl-C may have kept its borrower from giving it back

    def _open(self) -> None:
        reader = self.folder.make_fifo(self.name)
        try:
            # Once a writer has come and gone, a FIFO without any reports a hang-up for ever.
            writer = WriteEnd(open_for_writing(f"{self.folder.path}/{self.name}"))
        except BaseException:
            os.close(reader)
            raise
        self.descriptor, self._writer = reader, writer

    def close(self) -> None:
        super().close()
        self._writer = None
        self.watch.close()

    def ring(self, tickets: Iterable[int]) -> bool:
        """Write hints to it, for which no descriptor need be to be had; False if that is lost."""
        writer = self._writer  # kept open by this, whatever becomes of the ear meanwhile
        if writer is None:
            return True  # closed, and so nobody waits
        if writer.is_lost():
            return False
        hint(writer.descriptor, tickets)
        return True

    def drain(self) -> bytes:
        """Read away the hints, before looking, so that none is missed; return them."""
        hints = b""
        try:
            while chunk := os.read(self.descriptor, select.PIPE_BUF):
                hints += chunk
                if len(chunk) < select.PIPE_BUF:
                    break
        except BlockingIOError:
            pass  # no more
        return hints


class Lifeline(_Fifo):
    """What shows that this process lives, and the ears that its waiters borrow."""

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder, os.urandom(NAME_LENGTH // 2).hex())
        keep_spare()
        self.pid = os.getpid()
        self._ears: weakref.WeakValueDictionary[str, Ear] = weakref.WeakValueDictionary()
        self._made = 0
        self._idle: list[Ear] = []
        self._names: list[str] = []  # of ears that were closed

    def borrow_ear(self) -> Ear:
        """Return an ear that nobody uses; give it back with `return_ear`."""
        if self._idle:
            ear = self._idle.pop()
            try:
                ear.mend()
                ear.drain()
            except BaseException:
                self._idle.append(ear)
                raise
        else:
            ear = self._new_ear()
            self._ears[ear.name] = ear
        return ear

    def _new_ear(self) -> Ear:
        if not self._names:
            ear = Ear(self.folder, f"{self.name}.{self._made + 1}")
            self._made += 1
            return ear
        name = self._names.pop()
        try:
            return Ear(self.folder, name)
        except BaseException:
            self._names.append(name)
            raise

    def return_ear(self, ear: Ear) -> None:
        if len(self._idle) >= _MAX_IDLE:
            ear.close()  # before it is forgotten, lest a child that is forked now keep it open
            self._ears.pop(ear.name, None)
            self._names.append(ear.name)
            return
        if len(ear.watch.ends) > _MAX_WATCHED_IDLE:
            ear.watch.close()
        self._idle.append(ear)

    def ring(self, name: str, tickets: Iterable[int]) -> bool:
        """Wake whoever listens on an ear of this process; return whether it has that one."""
        ear = self._ears.get(name)
        return ear is not None and ear.ring(tickets)

    def is_listening(self) -> bool:
        """Whether somebody waits."""
        return len(self._idle) < len(self._ears)

    def drop(self) -> None:
        """Close every descriptor, and leave the files to whoever finds them."""
        self.close()
        for known in self._ears.valuerefs():  # a copy, whatever another thread gives back
            ear = known()
            if ear is not None:
                ear.close()


_lifelines: dict[str, Lifeline] = {}


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
    try:
        return ours is None or ours.is_there()
    except OSError as error:
        if error.errno is None:
            raise  # what a signal's handler has raised
        return False  # closed by now


def end_lifeline(folder: Folder) -> None:
    """Close this process's lifeline in `folder` and remove its files."""
    ours = _lifelines.pop(folder.path, None)
    if ours is not None:
        ours.drop()
        folder.remove(ours.name)


def _forget_after_fork() -> None:
    # The child is another owner: were it to keep these open, its parent could not be seen to die.
    for ours in _lifelines.values():
        ours.drop()
    _lifelines.clear()


at_fork(after_in_child=_forget_after_fork)
