"""What happens around a fork, despite a Ctrl-C, and in a child that Python was not told of."""

from __future__ import annotations

# `_signal` does without the enumerations of `signal`, which take time to load.
import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_in_child: list[Callable[[], object]] = []
_pid = os.getpid()


def at_fork(**callbacks: Callable[[], object]) -> None:
    """As `os.register_at_fork`, for functions that are safe to call twice in a row.

    A signal that arrives during the fork is raised as the first of them is entered. Python reports
    the error, skips that function and goes on with the next.
    """
    for _ in range(2):
        os.register_at_fork(**callbacks)
    if "after_in_child" in callbacks:
        _in_child.append(callbacks["after_in_child"])


def catch_up() -> None:
    """Do what the fork hooks do in a child, if C code has forked this process without them.

    Extensions do that, and servers like uWSGI. The check runs at each transaction.
    """
    global _pid
    pid = os.getpid()
    if pid != _pid:
        # If a signal interrupted this half way, the gate or a lifeline would stay open in this
        # child.
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
            # A handler may have done this before signals were blocked. What it has opened since
            # then belongs to this process.
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
