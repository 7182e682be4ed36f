"""Whether a descriptor is still the file that was opened.

A program may close descriptors that it did not open (`os.closerange`, python-daemon). Its own files
may then get their numbers. So each of our descriptors is marked, and checked before it is used.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import sys
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Descriptor(int):
    """The number of an open file, and what tells that file from a later one with this number."""

    told_by: Any

    def called(self, number: int) -> Descriptor:
        """Return another number of the same open file."""
        other = Descriptor(number)
        other.told_by = self.told_by
        return other


if sys.platform == "linux":
    # The mark is the signal that a file sends if it is asked to (O_ASYNC); nothing else reads it.
    # The signal belongs to the open file, so a file opened later has none. Reading it takes a fifth
    # of the time of fstat(2). The marks differ, since the number may belong to another of our
    # descriptors by now.
    _GET, _SET = fcntl.F_GETSIG, fcntl.F_SETSIG
    _marks = itertools.cycle(range(2, 64))
    _fcntl = fcntl.fcntl

    def mark(descriptor: int) -> Descriptor:
        """Mark what was just opened, and return the descriptor by which it is recognized."""
        marked = Descriptor(descriptor)
        marked.told_by = next(_marks)
        _fcntl(descriptor, _SET, marked.told_by)
        return marked

    def is_ours(descriptor: Descriptor) -> bool:
        """Whether a marked descriptor is still the file that it was then."""
        try:
            return bool(_fcntl(descriptor, _GET) == descriptor.told_by)
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler raised it
            return False

    def has_a_mark(descriptor: int) -> bool:
        """Whether any descriptor of ours has this number."""
        try:
            return bool(_fcntl(descriptor, _GET))
        except OSError as error:
            if error.errno is None:
                raise
            return False

    FOLDER_OF_DESCRIPTORS = "/proc/self/fd"

else:  # pragma: no cover - macOS and others, not tested there
    _told: dict[int, tuple[int, int]] = {}

    def mark(descriptor: int) -> Descriptor:
        """Mark what was just opened, and return the descriptor by which it is recognized."""
        status = os.fstat(descriptor)
        marked = Descriptor(descriptor)
        marked.told_by = _told[descriptor] = (status.st_dev, status.st_ino)
        return marked

    def is_ours(descriptor: Descriptor) -> bool:
        """Whether a marked descriptor is still the file that it was then."""
        try:
            status = os.fstat(descriptor)
        except OSError:
            return False
        return bool(descriptor.told_by == (status.st_dev, status.st_ino))

    def has_a_mark(descriptor: int) -> bool:
        """Whether any descriptor of ours has this number."""
        try:
            status = os.fstat(descriptor)
        except OSError:
            return False
        return _told.get(descriptor) == (status.st_dev, status.st_ino)

    FOLDER_OF_DESCRIPTORS = "/dev/fd"

NONE = Descriptor(-1)  # closed by us
NONE.told_by = None


def opened() -> set[int]:
    """Return the open descriptors of this process; none if they cannot be listed."""
    try:
        numbers = [int(name) for name in os.listdir(FOLDER_OF_DESCRIPTORS)]
    except OSError:
        return set()
    return {number for number in numbers if is_open(number)}


def is_open(descriptor: int) -> bool:
    """Whether a descriptor is open; the one used for listing them is closed again by then."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def close_if_ours(descriptor: Descriptor) -> bool:
    """Close a descriptor unless it is lost; return whether it was closed."""
    if descriptor < 0 or not is_ours(descriptor):
        return False
    os.close(descriptor)
    return True


class Kept:
    """A marked descriptor that stays open for as long as anybody holds this object.

    A caller that is interrupted closes it with `close_if_ours`: this may have closed it already.
    """

    __slots__ = ("__weakref__", "_end", "descriptor")

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        # Not `__del__`: while that runs, another thread may still reach this object by a weak
        # reference.
        self._end = weakref.finalize(self, close_if_ours, self.descriptor)
        self._end.atexit = False

    def close(self) -> bool:
        """Close it now; return whether there was anything to close."""
        return bool(self._end())

    def is_lost(self) -> bool:
        """Whether the program has closed it; another file may have its number by then."""
        return not is_ours(self.descriptor)
