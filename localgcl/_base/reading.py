"""Reading a file that a command is given: only its content, and never without an end."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat

# A limit takes some 60 bytes. This keeps a mistyped name from filling the memory.
MAX_BYTES = 16 * 2**20

# How long a FIFO may be without a writer, which may be about to open it.
_WRITER_SECONDS = 1.0

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MAX_LINKS = 40  # as many as Linux follows in one path


def read_file(path: str) -> bytes:
    """Return the content of a file, or of a pipe that somebody writes to.

    OSError if it cannot be read; its `strerror` says why.
    """
    inherited = _inherited(path)
    if inherited is not None:
        return read_descriptor(inherited)
    try:
        descriptor = _open(path)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise OSError(errno.ENXIO, "it is a socket, or a device that is not there") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if stat.S_ISFIFO(mode):
            return _read_fifo(descriptor)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a device, and no file")
        return read_descriptor(descriptor)
    finally:
        os.close(descriptor)


def read_descriptor(descriptor: int) -> bytes:
    """Return all that can be read from a descriptor, blocking or not; OSError."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    content = bytearray()
    while True:
        try:
            part = os.read(descriptor, 65536)
        except BlockingIOError:
            poll.poll()
            continue
        content += part
        if not part:
            return bytes(content)
        if len(content) > MAX_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MAX_BYTES // 2**20} MiB")


def _inherited(path: str) -> int | None:
    """Return the descriptor of this process that a path stands for, as shells write it."""
    if path == "/dev/stdin":
        return 0
    folder, _, number = path.rpartition("/")
    if folder in ("/dev/fd", "/proc/self/fd") and number.isascii() and number.isdigit():
        return int(number)
    return None


def _read_fifo(descriptor: int) -> bytes:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    begun = b""
    if not poll.poll(_WRITER_SECONDS * 1000):
        with contextlib.suppress(BlockingIOError):  # there is a writer, which takes its time
            begun = os.read(descriptor, 65536)
            if not begun:
                raise OSError(errno.EPIPE, "it is a FIFO that nobody writes to")
    return begun + read_descriptor(descriptor)


def _open(path: str) -> int:
    """Open a file for reading, without following a link made by an untrusted user.

    fs.protected_symlinks prevents that only in sticky folders, not for links made by the folder's
    owner, and not on every machine.
    """
    if not hasattr(os, "O_PATH"):
        return os.open(path, _READ)
    with contextlib.ExitStack() as opened:

        def look(name: str, folder: int | None) -> int:
            entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            opened.callback(os.close, entry)
            return entry

        folder = look("/" if path.startswith("/") else ".", None)
        parts = _parts(path)
        links = 0
        while parts:
            name = parts.pop()
            entry = look(name, folder)
            status = os.fstat(entry)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                _refuse_link_of_stranger(os.fstat(folder), status, name)
                target = os.readlink("", dir_fd=entry)  # of the same link that was checked
                parts += _parts(target)
                if target.startswith("/"):
                    folder = look("/", None)
            elif parts:
                folder = entry
            else:
                return os.open(name, _READ | os.O_NOFOLLOW, dir_fd=folder)
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _parts(path: str) -> list[str]:
    """Return the names in a path, with the first one at the end."""
    return [one for one in reversed(path.split("/")) if one not in ("", ".")]


def _refuse_link_of_stranger(folder: os.stat_result, link: os.stat_result, name: str) -> None:
    ours = (0, os.geteuid())
    others_may_write = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    # Others may not be allowed to see what root reads, no matter who owns the folder.
    is_anothers = os.geteuid() == 0 and folder.st_uid != 0
    if (others_may_write or is_anothers) and link.st_uid not in ours:
        raise PermissionError(
            errno.EACCES,
            f"{name} is a link that another user has put there, and may lead anywhere; give the"
            " path that it leads to",
        )
