"""Whether a descriptor still is the file that was opened.

A program may close descriptors that it did not open (`os.closerange`, python-daemon), and files of
its own may then have their numbers. So each of ours is marked, and looked at before it is used.
"""

from __future__ import annotations

import fcntl
import os
import sys
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Holder(Protocol):
        """Whatever keeps a descriptor open."""

        def lose(self, descriptor: int) -> None:
            """Have it no more: the program has closed it, and another of ours has its number."""


# In place of a descriptor that was closed under us: a number that none ever has.
LOST = 2**31 - 1

if sys.platform == "linux":
    # The signal that a file would send if it were asked to (O_ASYNC); nothing else reads it. It
    # belongs to the open file, so that a file opened later has none, and asking for it takes a
    # fifth of the time of fstat(2).
    _GET, _SET, _MARK = fcntl.F_GETSIG, fcntl.F_SETSIG, 61
    _fcntl = fcntl.fcntl

    def mark(descriptor: int) -> None:
        """Mark what was just opened as ours."""
        _fcntl(descriptor, _SET, _MARK)

    def is_ours(descriptor: int) -> bool:
        """Whether a descriptor, which was marked once, is what it was then."""
        try:
            return _fcntl(descriptor, _GET) == _MARK
        except OSError as error:
            if error.errno is None:
                raise  # what a signal's handler has raised
            return False
        except ValueError:
            if descriptor >= 0:
                raise
            return False  # closed by ourselves

    FOLDER_OF_DESCRIPTORS = "/proc/self/fd"

else:  # pragma: no cover - macOS and others, not tested there
    _identities: dict[int, tuple[int, int]] = {}

    def mark(descriptor: int) -> None:
        """Mark what was just opened as ours."""
        status = os.fstat(descriptor)
        _identities[descriptor] = status.st_dev, status.st_ino

    def is_ours(descriptor: int) -> bool:
        """Whether a descriptor, which was marked once, is what it was then."""
        try:
            status = os.fstat(descriptor)
        except OSError:
            return False
        return _identities.get(descriptor) == (status.st_dev, status.st_ino)

    FOLDER_OF_DESCRIPTORS = "/dev/fd"


# Who has each of ours. All marks are the same, so they are told once another has its number.
_holders: dict[int, list[weakref.ref[Holder]]] = {}


def hold(descriptor: int, holder: Holder | None = None, *, beside: bool = False) -> None:
    """Mark what was just opened as ours, and tell whose it was before that they have lost it.

    `beside` those, where it is one descriptor that several have.
    """
    mark(descriptor)
    former = _holders.get(descriptor, [])
    ours = [] if holder is None else [weakref.ref(holder)]
    _holders[descriptor] = [*former, *ours] if beside else ours
    if not beside:
        for known in former:
            one = known()
            if one is not None and one is not holder:
                one.lose(descriptor)


def opened() -> set[int]:
    """Return the descriptors that are open in this process; none where that cannot be told."""
    try:
        numbers = [int(name) for name in os.listdir(FOLDER_OF_DESCRIPTORS)]
    except OSError:
        return set()
    return {number for number in numbers if is_open(number)}


def is_open(descriptor: int) -> bool:
    """Whether a descriptor is open; that by which they are listed is closed again."""
    try:
        fcntl.fcntl(descriptor, fcntl.F_GETFD)
    except OSError:
        return False
    return True


def close_if_ours(descriptor: int) -> bool:
    """Close a descriptor unless it is lost; return whether it was closed."""
    if not is_ours(descriptor):
        return False
    os.close(descriptor)
    return True


class Kept:
    """A descriptor that is open for as long as anybody has this object."""

    __slots__ = ("__weakref__", "_end", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        # Not by `__del__`: while that runs, another thread may still find this by a weak reference.
        self._end = weakref.finalize(self, close_if_ours, descriptor)
        self._end.atexit = False
        hold(descriptor, self)

    def lose(self, descriptor: int) -> None:
        """Have it no more; see `Holder`."""
        if self.descriptor == descriptor:
            self._end.detach()
            self.descriptor = LOST

    def close(self) -> bool:
        """Close it now; return whether there was anything to close."""
        return bool(self._end())

    def is_lost(self) -> bool:
        """Whether the program has closed it; its number may be that of another file by then."""
        return not is_ours(self.descriptor)
