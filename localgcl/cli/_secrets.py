"""Reading a file with credentials: that file, and nothing that was put in its place."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import deque

# As many as the kernel follows: https://man7.org/linux/man-pages/man7/path_resolution.7.html
_MAX_LINKS = 40
_MAX_BYTES = 4096

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without these flags, opening a FIFO would wait for a writer, and a terminal would become ours.
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_ENTER = stat.S_IXGRP | stat.S_IXOTH


class SecretError(Exception):
    """A file that cannot be trusted, or is not what it should be; the message says what to do."""


def first_line(path: str) -> tuple[str, str | None]:
    """Return the first line of the file at `path`, and a warning if others may read it.

    OSError if it cannot be read, SecretError if it cannot be trusted.
    """
    descriptor, folder, reached = _open(path)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _not_a_file(path, status.st_mode)
        if status.st_mode & stat.S_IWOTH:
            raise SecretError(
                f"{path} can be changed by every user of this machine, who could so let themselves"
                f" in; make it your own: `chmod 600 {path}`"
            )
        if status.st_uid not in _ours() and folder.st_mode & _OTHERS_WRITE:
            raise SecretError(
                f"{path} belongs to another user, who may have put it into a folder where others"
                " can write; keep it in a folder of your own"
            )
        content = os.read(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)
    line, end, _ = content.partition(b"\n")
    if not end and len(content) == _MAX_BYTES:
        raise SecretError(f"the first line of {path} is longer than {_MAX_BYTES} bytes")
    try:
        text = line.decode().rstrip("\r")
    except UnicodeDecodeError:
        raise SecretError(
            f"{path} is no text in UTF-8; write USER:PASSWORD as its first line"
        ) from None
    mode = stat.S_IMODE(status.st_mode)
    shared = reached and mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP)
    warning = (
        f"{path} can be read by other users of this machine (mode {mode:04o}), who can then come"
        f" in; `chmod 600 {path}` keeps it to its owner"
    )
    return text, warning if shared else None


def _open(path: str) -> tuple[int, os.stat_result, bool]:
    """Open a file; return its descriptor, its folder, and whether others can get to it.

    Each part of the path is opened relative to the one before. A symbolic link is followed only if
    nobody else can have put it there.
    """
    parts, links, reached = deque(path.split("/")), 0, True
    with contextlib.ExitStack() as opened:

        def enter(name: str, folder: int | None = None) -> int:
            entered = os.open(name, _FOLDER, dir_fd=folder)
            opened.callback(os.close, entered)
            return entered

        folder = enter("/" if path.startswith("/") else ".")
        while True:
            part = parts.popleft() or "."
            here = os.fstat(folder)
            reached = reached and bool(here.st_mode & _OTHERS_ENTER)
            status = os.stat(part, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MAX_LINKS or not _is_trusted(status, here):
                    raise SecretError(
                        f"{path} leads through the symbolic link {part!r}, which another user may"
                        " have put there; give the path of the file itself"
                    )
                target = os.readlink(part, dir_fd=folder)
                parts.extendleft(reversed(target.split("/")))
                if target.startswith("/"):
                    folder = enter("/")
            elif any(parts):
                folder = enter(part, folder)
            elif not stat.S_ISREG(status.st_mode):
                raise _not_a_file(path, status.st_mode)  # before opening: a device may act
            else:
                return os.open(part, _FILE, dir_fd=folder), here, reached


def _is_trusted(link: os.stat_result, folder: os.stat_result) -> bool:
    """Whether a symbolic link was put into its folder by root or by this user."""
    if link.st_uid not in _ours():
        return False
    # In a folder with the sticky bit nobody else can move our link.
    return folder.st_uid in _ours() and (
        not folder.st_mode & _OTHERS_WRITE or bool(folder.st_mode & stat.S_ISVTX)
    )


def _ours() -> tuple[int, int]:
    return 0, os.geteuid()


def _not_a_file(path: str, mode: int) -> SecretError:
    kinds = (
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
    )
    kind = next((name for is_kind, name in kinds if is_kind(mode)), "a device")
    return SecretError(f"{path} is {kind}; give a regular file whose first line is USER:PASSWORD")
