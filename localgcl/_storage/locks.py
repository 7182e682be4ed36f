"""Locks of open files (`flock`): taken without a wait, and closed in a forked child."""

from __future__ import annotations

import fcntl
import os

from localgcl._base import threads
from localgcl._base.descriptors import Descriptor, close_if_ours
from localgcl._base.forks import at_fork

PAUSE_SECONDS = 50e-6


class ForkedError(Exception):
    """This is a child now, which has no gate of its parent's."""


def pause(seconds: float) -> None:
    """Sleep; ForkedError in a child that was forked meanwhile."""
    # All greenlets go on in a child that one of them forks; so does what was interrupted by a
    # signal's handler that forks. The descriptors are closed there, and the numbers others' maybe.
    pid = os.getpid()
    threads.sleep(seconds)
    if pid != os.getpid():
        raise ForkedError


def locks_now(descriptor: int) -> bool:
    """Lock if that is possible at once; return whether it was."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def locks_within(descriptor: int, tries: int) -> bool:
    """Lock without standing in the queue; return whether one of so many tries did."""
    for _ in range(tries):
        if locks_now(descriptor):
            return True
        pause(PAUSE_SECONDS)
    return False


_descriptors: dict[int, Descriptor] = {}


def keep_in_mind(descriptor: Descriptor) -> Descriptor:
    """Have a descriptor closed in a forked child; return it."""
    _descriptors[int(descriptor)] = descriptor
    return descriptor


def forget(descriptor: Descriptor) -> bool:
    """Keep a descriptor in mind no more; return whether it was."""
    if _descriptors.get(descriptor) is not descriptor:
        return False
    del _descriptors[descriptor]
    return True


def close_and_forget(descriptor: Descriptor) -> None:
    """Close a descriptor that is kept in mind, unless it is lost."""
    # A child that was forked in the middle of something has closed it already.
    if forget(descriptor):
        close_if_ours(descriptor)


def _close_after_fork() -> None:
    # A flock belongs to the open file, which the fork shares: kept open here, the gate would stay
    # shut if the parent died inside a transaction. Closing does not unlock while the parent lives.
    for descriptor in tuple(_descriptors.values()):
        close_and_forget(descriptor)


at_fork(after_in_child=_close_after_fork)
