"""Locks of open files (`flock`): taken without waiting, and closed in a forked child."""

from __future__ import annotations

import fcntl
import os

from localgcl._base import threads
from localgcl._base.descriptors import Descriptor, close_if_ours
from localgcl._base.forks import at_fork

PAUSE_SECONDS = 50e-6


class ForkedError(Exception):
    """This is a forked child, which does not have its parent's gate."""


def pause(seconds: float) -> None:
    """Sleep; ForkedError in a child that was forked meanwhile."""
    # If one greenlet forks, all of them continue in the child too. So does a function interrupted
    # by a signal handler that forks. In the child the descriptors are closed, and their numbers may
    # belong to other files.
    pid = os.getpid()
    threads.sleep(seconds)
    if pid != os.getpid():
        raise ForkedError


def locks_now(descriptor: int) -> bool:
    """Lock if that is possible immediately; return whether it was."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def locks_within(descriptor: int, tries: int) -> bool:
    """Lock without queueing; return whether one of the tries did."""
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
    """Stop tracking a descriptor; return whether it was tracked."""
    if _descriptors.get(descriptor) is not descriptor:
        return False
    del _descriptors[descriptor]
    return True


def close_and_forget(descriptor: Descriptor) -> None:
    """Close a descriptor that is tracked, unless it is lost."""
    # In a child that was forked in the middle of something, it is closed already.
    if forget(descriptor):
        close_if_ours(descriptor)


def _close_after_fork() -> None:
    # A flock belongs to the open file, which a fork shares. If it stayed open here, the gate would
    # stay shut if the parent died inside a transaction. Closing it does not unlock while the parent
    # lives.
    for descriptor in tuple(_descriptors.values()):
        close_and_forget(descriptor)


at_fork(after_in_child=_close_after_fork)
