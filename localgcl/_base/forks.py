"""What happens around a fork, in spite of a Ctrl-C, and in a child of which Python was not told."""

from __future__ import annotations

# Without the enumerations of `signal`.
import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_in_child: list[Callable[[], object]] = []
_pid = os.getpid()


def at_fork(**callbacks: Callable[[], object]) -> None:
    """As `os.register_at_fork`, for functions that may be called twice in a row, as they are.

    A signal that arrives during the fork is raised as the first of them is entered; Python tells
    of it, passes that one by, and goes on with the next.
    """
    for _ in range(2):
        os.register_at_fork(**callbacks)
    if "after_in_child" in callbacks:
        _in_child.append(callbacks["after_in_child"])


def catch_up() -> None:
    """Do in this process what the hooks do in a child, if C code has forked without them.

    Extensions and servers such as uWSGI do; it is asked at each transaction.
    """
    global _pid
    pid = os.getpid()
    if pid != _pid:
        # What a signal broke off half way would stay open here: the gate, or a lifeline.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
            # A handler may have run up to here, and what it has opened is this process's own.
            if pid != _pid:
                for callback in _in_child:
                    callback()
                _pid = pid
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def _note_pid() -> None:
    global _pid
    _pid = os.getpid()


os.register_at_fork(after_in_child=_note_pid)
