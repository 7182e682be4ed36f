"""What this process tells others about itself: its user, its command line, its identity.

It is looked up before a transaction: a name service may take its time to answer, and everybody
waits for the process that is inside one.
"""

from __future__ import annotations

import os
import sys

from localgcl._base.text import MAX_COMMAND_LENGTH
from localgcl._liveness.process import this_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Owner:
    """A process as others see it; the module `process` recognizes it by `process`."""

    __slots__ = ("command", "process", "user")

    def __init__(self, user: str, command: str, process: str | None) -> None:
        self.user = user
        self.command = command
        self.process = process


_users: dict[int, str] = {}  # by user id, as the name service has told them
_shown: list[str] = []  # the words given to `show_as`


def look_up() -> None:
    """Look up what `this_owner` returns, unless it is known already."""
    this_process()
    user = os.geteuid()
    if user not in _users:
        _users[user] = _name_of(user)


def this_owner() -> Owner:
    """Return this process as others see it."""
    user = os.geteuid()
    return Owner(_users.get(user, str(user)), _command(), this_process())


def process_at(inode: int) -> str | None:
    """Return what identifies this process in the file with this inode.

    In a copy of that file it owns nothing. None if the system identifies no processes.
    """
    process = this_process()
    return None if process is None else f"{process} {inode}"


def show_as(words: Iterable[str]) -> None:
    """Have `ps` show these words from the next sign-in on, in place of the real command line."""
    _shown[:] = words


def _name_of(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # containers run as users without a name
        return str(user)


def _command() -> str:
    if _shown:
        return _readable(_shown)
    # With `-c` and at a prompt, nothing in sys.argv distinguishes one process from another.
    script = sys.argv[:1] not in ([], [""], ["-c"])
    words = sys.argv if script else sys.orig_argv
    return _readable(words)


def _readable(words: Iterable[str]) -> str:
    return " ".join(words).encode(errors="replace").decode()[:MAX_COMMAND_LENGTH]
