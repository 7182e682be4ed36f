"""The run folder of a database, and the FIFOs by which the kernel tells who is alive.

A process keeps the read end of its lifeline open for as long as it lives. No pid is involved, so
reuse of pids, namespaces and reboots cannot mislead it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import weakref

from localgcl._base.descriptors import mark
from localgcl._base.forks import at_fork
from localgcl._base.text import lifeline_of
from localgcl._liveness.access import adopt
from localgcl._liveness.directory import TRIES, Directory
from localgcl._liveness.fifo import (
    WriteEnd,
    give_up_spare,
    hint,
    is_fifo_name,
    keep_spare,
    open_write_end,
    unlink_fifo,
)
from localgcl._liveness.making import open_made
from localgcl._liveness.process import end_of, is_running
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from localgcl._base.descriptors import Descriptor
    from localgcl._liveness.access import Access

# The most lifelines that one process watches; further deaths are found by polling. The usual soft
# limit on open files is 1,024.
MAX_WATCHED = 256

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
# Nobody reads it, or no FIFO has that name: a link or a folder is nobody's lifeline.
_GONE = (errno.ENXIO, errno.ENOENT, errno.ELOOP, errno.EISDIR)


class Folder(Directory):
    """The run folder of a database with its FIFOs, those of this process and of others.

    A process has one Folder for each path; see `folder_at`.
    """

    def make_fifo(self, name: str) -> Descriptor:
        """Make the FIFO `name`, in place of an existing one, and return its read end."""
        for _ in range(TRIES):
            try:
                return self._make_fifo(name)
            except FileNotFoundError:  # a cleaner took the file, or the folder
                if not self.is_there():
                    self._directory = None
                    self.make()
        return self._make_fifo(name)

    def _make_fifo(self, name: str) -> Descriptor:
        folder = self.opened()
        try:
            os.mkfifo(name, self.access.mode, dir_fd=folder.descriptor)
        except FileExistsError:
            if not unlink_fifo(name, folder.descriptor):
                raise DatabaseError(
                    self.database, f"{self.path}/{name} is no FIFO; remove it"
                ) from None
            os.mkfifo(name, self.access.mode, dir_fd=folder.descriptor)
        descriptor = open_made(name, folder.descriptor, _READ)
        try:
            marked = mark(descriptor)
            adopt(descriptor, self.access)
        except BaseException:
            os.close(descriptor)
            raise
        return marked

    def open_for_writing(self, name: str) -> int:
        """Return the write end of a FIFO; OSError with ENXIO if nobody reads it."""
        folder = self.opened()
        return open_write_end(name, folder.descriptor)

    def fifos(self, besides: Collection[str] = ()) -> list[str]:
        """Return the names of the existing FIFOs, without those of `besides`."""
        try:
            folder = self.opened()
            names = os.listdir(folder.descriptor)
        except FileNotFoundError:
            return []  # a cleaner took the folder
        # Thousands of waiting threads have a wake-up FIFO each, and most belong to a few live
        # processes.
        return [one for one in names if lifeline_of(one) not in besides and is_fifo_name(one)]

    def is_alive(self, name: str) -> bool:
        """Whether somebody keeps the FIFO `name` open; True if that cannot be told."""
        watched = _watched.get(f"{self.path}/{name}")
        # A FIFO that a cleaner took, or its owner removed, counts as dead even if somebody reads
        # it.
        if watched is not None and watched.is_there() and not watched.has_ended():
            return True
        try:
            end = self.open_end(name)
        except ProcessLookupError:
            return False
        if end is not None:
            os.close(end)
        return True

    def open_end(self, name: str) -> int | None:
        """Return a write end of the FIFO `name`, None if it cannot be opened.

        ProcessLookupError if nobody reads it.
        """
        if not is_fifo_name(name):
            raise ProcessLookupError(name)
        try:
            return self.open_for_writing(name)
        except OSError as error:
            if error.errno in _GONE:
                raise ProcessLookupError(name) from None
            if error.errno is None:
                raise  # a signal handler raised it
            return None

    def wake(self, wake_fifo: str, tickets: Iterable[int], end: int | None = None) -> None:
        """Wake the waiter that listens on `wake_fifo`, with a hint about which requests to check.

        `end` is a write end of it that is open already; this closes it.
        """
        # A wake-up is a hint. The dead need none, and a process whose pipe is full has enough of
        # them. If the permission is missing, the waiter has to rely on its periodic check.
        try:
            if end is None:
                with contextlib.suppress(ProcessLookupError):
                    end = self.open_end(wake_fifo)
                    if end is None and give_up_spare():
                        end = self.open_end(wake_fifo)
            if end is not None:
                hint(end, tickets)
        finally:
            if end is not None:
                os.close(end)
            keep_spare()

    def open_to_watch(self, names: Iterable[str]) -> tuple[dict[str, WriteEnd | None], list[str]]:
        """Return the write ends of these lifelines, None for unwatchable ones; and the dead."""
        ends: dict[str, WriteEnd | None] = {}
        dead = []
        for name in names:
            try:
                ends[name] = self._open_to_watch(name)
            except ProcessLookupError:
                dead.append(name)
        return ends, dead

    def _open_to_watch(self, name: str) -> WriteEnd | None:
        """Return what reports the end of a lifeline, None if it cannot be watched.

        ProcessLookupError if it has ended.
        """
        path = f"{self.path}/{name}"
        watched = _watched.get(path)
        if watched is not None and not watched.has_ended():
            return watched
        try:
            descriptor = self.open_end(name)
            events = 0  # errors are always reported
        except ProcessLookupError:
            process = _unread.get(path)
            if process is None:
                raise
            descriptor = end_of(process)
            events = select.POLLIN
        if descriptor is None:
            return None  # if that cannot be told, it counts as alive
        if len(_watched) >= MAX_WATCHED:
            os.close(descriptor)
            return None
        watched = _watched[path] = WriteEnd(mark(descriptor), events)
        return watched

    def outlives(self, name: str, process: str) -> bool:
        """Whether the process of a lifeline runs although nobody reads the lifeline.

        It may have closed descriptors that it did not open itself. From then on its process is
        watched instead.
        """
        if not is_running(process):
            return False
        if len(_unread) >= MAX_WATCHED:
            _unread.clear()
        _unread[f"{self.path}/{name}"] = process
        return True

    def discard(self, fifo: str) -> None:
        """Unlink one FIFO if it exists."""
        folder = self.opened()
        unlink_fifo(fifo, folder.descriptor)

    def remove(self, lifeline: str) -> None:
        """Unlink a lifeline and its wake-up FIFOs, which are numbered from 1 without a gap."""
        if not is_fifo_name(lifeline):
            return
        try:
            folder = self.opened()
        except FileNotFoundError:
            return  # a cleaner took the folder
        number = 1
        while unlink_fifo(f"{lifeline}.{number}", folder.descriptor):
            number += 1
        unlink_fifo(lifeline, folder.descriptor)


_folders: dict[str, Folder] = {}


def folder_at(path: str, access: Access, database: str) -> Folder:
    """Return this process's Folder for the run folder at `path`; nothing is opened yet."""
    folder = _folders.get(path)
    if folder is None:
        folder = _folders.setdefault(path, Folder(path, access, database))
    folder.access, folder.database = access, database
    return folder


# The write ends of this process, by path.
_watched: weakref.WeakValueDictionary[str, WriteEnd] = weakref.WeakValueDictionary()


# Lifelines that nobody reads, of processes that still run: see `Folder.outlives`.
_unread: dict[str, str] = {}


# A child opens by itself what it watches.
at_fork(after_in_child=_watched.clear)
