"""Making the run folder and its gate, with their owner, group and mode.

Other users of the database can write in the folder, and a cleaner may take a file at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat

from localgcl._base import threads
from localgcl._liveness.access import adopt, by_descriptor, looked_at
from localgcl._liveness.fifo import is_fifo_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from localgcl._liveness.access import Access

GATE = "gate"
LOCK = "create.lock"
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_NO_NOTE = b"0"  # of a gate without a note; an empty file is no gate
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)

_LOCK_TRIES = 50
_LOCK_PAUSE_SECONDS = 0.01


def make_folder(path: str, access: Access) -> bool:
    """Make the folder with its gate; return False if another process has just made it.

    It is made under another name first, so that nobody finds it before they can use it.
    """
    unfinished = f"{path}.{os.urandom(8).hex()}"
    os.mkdir(unfinished, 0o700)
    is_made = False
    try:
        descriptor = open_made(unfinished, None, FOLDER_FLAGS)
        try:
            adopt(descriptor, access, access.folder_mode)
            make_gate(access, descriptor)
            os.rename(unfinished, path)
            is_made = True
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        finally:
            if not is_made:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(GATE, dir_fd=descriptor)
            os.close(descriptor)
    finally:
        if not is_made:
            os.rmdir(unfinished)
    return is_made


def correct_access(folder: int, gate: int, access: Access) -> None:
    """Give the folder and its gate, which are open, their owner, group and mode if needed.

    A folder that holds anything else is not ours to give away, no matter who owns it.
    """
    with contextlib.suppress(PermissionError):
        if not access.is_that_of(os.fstat(gate)):
            adopt(gate, access)
        status = os.fstat(folder)
        if not access.is_that_of(status, access.folder_mode) and not holds_others(folder):
            adopt(folder, access, access.folder_mode)


def holds_others(folder: int) -> bool:
    """Whether the folder holds anything that localgcl does not make there."""
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            known = name.partition(".")[0] == GATE or name == LOCK
            if not (
                stat.S_ISFIFO(status.st_mode)
                if is_fifo_name(name)
                else known and stat.S_ISREG(status.st_mode)
            ):
                return True
    return False


def make_gate(access: Access, folder: int) -> None:
    """Make the gate's file in the run folder, unless it exists."""
    # A lock keeps two processes from making one each and using it. But this does not wait long for
    # a lock that somebody keeps.
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        threads.sleep(_LOCK_PAUSE_SECONDS)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.stat(GATE, dir_fd=folder, follow_symlinks=False)
            return
        unfinished = f"{GATE}.{os.urandom(8).hex()}"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(unfinished, flags, 0o600, dir_fd=folder)
        try:
            try:
                os.write(descriptor, _NO_NOTE)
                adopt(descriptor, access)
            finally:
                os.close(descriptor)
            os.rename(unfinished, GATE, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:  # a full disk, say: the next try has another name
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished, dir_fd=folder)
            raise
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


def open_made(name: str, folder: int | None, flags: int) -> int:
    """Open a file that this process has just made, whatever mode the umask has left it.

    OSError if another user has put something in its place.
    """
    try:
        descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    except PermissionError:
        with looked_at(name, folder) as (there, status):
            if status.st_uid != os.geteuid():
                raise
            os.chmod(by_descriptor(there), 0o700)
        descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=folder)
    status = os.fstat(descriptor)
    if flags & os.O_DIRECTORY:
        is_made = stat.S_ISDIR(status.st_mode)
    else:
        is_made = stat.S_ISFIFO(status.st_mode) and status.st_nlink == 1
    if not is_made or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "another user has replaced it", name)
    return descriptor
