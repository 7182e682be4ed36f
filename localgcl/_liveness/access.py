"""Who may use a database, and how files are made and opened where others can write.

Everything that belongs to a database has its owner and its group. Its permissions are for users who
may write to the database; users who may only read it get none. The reason: a user who can open the
gate can lock it, and one who can open a FIFO can read away the bytes that wake somebody.

In a folder where others can write, any name may lead anywhere at any moment. So nothing is changed
by its name: a file is opened without following a link, checked, and changed by its descriptor.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import sys

from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# It identifies a file without opening it. So no lock is lost when the descriptor is closed
# (https://sqlite.org/howtocorrupt.html, 2.2).
_O_PATH = getattr(os, "O_PATH", None)

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISREG, "a file"),
)


class Access:
    """Owner, group and mode of everything that belongs to a database."""

    __slots__ = ("group", "mode", "owner")

    def __init__(self, owner: int, group: int, mode: int) -> None:
        self.owner = owner
        self.group = group
        self.mode = 0o600 | usable(mode)

    @property
    def folder_mode(self) -> int:
        """The mode of a folder: those who may use a file in it may also enter and list it."""
        return self.mode | (self.mode & 0o444) >> 2

    def is_that_of(self, status: os.stat_result, mode: int | None = None) -> bool:
        """Whether a file already has this access, as far as this process may give it."""
        wanted = self.mode if mode is None else mode
        return (stat.S_IMODE(status.st_mode), status.st_gid) == (wanted, self.group) and (
            status.st_uid == self.owner or os.geteuid() != 0
        )

    def may_begin(self) -> bool:
        """Whether this process may make the files that all others will trust."""
        return os.geteuid() in (0, self.owner)

    def trusted(self) -> tuple[int, int, int]:
        """Return the owners whose run folder and whose gate this process uses."""
        return 0, self.owner, os.geteuid()


def usable(mode: int) -> int:
    """Return read and write permission for each class of users that may write, and nothing else.

    >>> oct(usable(0o2775)), oct(usable(0o644))
    ('0o660', '0o600')
    """
    writers = mode & 0o222
    return writers | writers << 1


def access_of(status: os.stat_result) -> Access:
    """Return the access to what belongs to an existing database."""
    return Access(status.st_uid, status.st_gid, status.st_mode)


def access_in(folder: os.stat_result) -> Access:
    """Return the access to a new database in a folder: for those who may write in the folder."""
    owner = os.geteuid()
    # As SQLite has it: what root makes in another user's folder belongs to that user.
    return Access(owner or folder.st_uid, folder.st_gid, folder.st_mode)


def adopt(descriptor: int, access: Access, mode: int | None = None) -> None:
    """Give an open file of ours its owner, group and mode."""
    _adopt(descriptor, os.fstat(descriptor), access, access.mode if mode is None else mode)


def _adopt(file: int | str, status: os.stat_result, access: Access, mode: int) -> None:
    is_root = os.geteuid() == 0
    owner = access.owner if is_root else status.st_uid
    if (status.st_uid, status.st_gid) != (owner, access.group):
        try:
            os.chown(file, owner if is_root else -1, access.group)
        except PermissionError:
            # A user can give files only to groups that it is in. If this fails, the file keeps the
            # user's own group, which then gets the same rights as others have.
            mode = mode & ~0o070 | (mode & 0o007) << 3
    if stat.S_IMODE(status.st_mode) != mode:
        os.chmod(file, mode)


def resolved(path: str) -> str:
    """Return a path without links, or as it is if the links change while they are followed."""
    try:
        return os.path.realpath(path)
    except OSError:
        return os.path.abspath(path)


def kind_of(mode: int) -> str:
    """Return the kind of a file, in the usual word for it."""
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")


def fault_of(status: os.stat_result, owners: Collection[int] | None = None) -> str | None:
    """Return why a file is not one of ours, else None: ours have one name and a known owner."""
    if not stat.S_ISREG(status.st_mode):
        return f"is {kind_of(status.st_mode)} and not a file"
    if status.st_nlink > 1:
        return f"has {status.st_nlink} names (hard links), of which others may be in use elsewhere"
    if owners is not None and status.st_uid not in owners:
        return f"belongs to {user_called(status.st_uid)}"
    return None


def user_called(uid: int) -> str:
    """Return the name of a user, or its number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def open_ours(
    name: str, access: Access, database: str, shown: str, folder: int | None = None
) -> int:
    """Return a descriptor of one of our files, for reading and writing; the file must exist.

    DatabaseError for anything that another program or user has put there.
    """
    owners = access.trusted()
    refuse_foreign(os.stat(name, dir_fd=folder, follow_symlinks=False), owners, database, shown)
    flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        # It may be another file by now.
        refuse_foreign(os.fstat(descriptor), owners, database, shown)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def refuse_foreign(
    status: os.stat_result, owners: Collection[int] | None, database: str, shown: str
) -> None:
    """Raise DatabaseError for a file that is not one of ours."""
    fault = fault_of(status, owners)
    if fault is not None:
        raise DatabaseError(database, f"{shown} {fault}; remove it, once you know whose it is")


@contextlib.contextmanager
def looked_at(name: str, folder: int | None = None) -> Iterator[tuple[int, os.stat_result]]:
    """Yield a descriptor that refers to a file without opening it, and the file's status."""
    if _O_PATH is None:  # pragma: no cover - macOS, not tested there
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=folder)
    else:
        descriptor = os.open(name, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield descriptor, os.fstat(descriptor)
    finally:
        os.close(descriptor)


def by_descriptor(descriptor: int) -> int | str:
    """Return what `os.chmod` and `os.chown` take for a file from `looked_at`."""
    return f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else descriptor


def correct(name: str, access: Access, database: str, opened: Collection[os.stat_result]) -> None:
    """Give a file that belongs to the database its owner, group and mode, if this user may.

    It is one of those that SQLite has `opened`, so this does not open it. DatabaseError for a file
    that is not one of ours.
    """
    with looked_at(name) as (descriptor, status):
        refuse_foreign(status, None, database, name)
        if not any(os.path.samestat(status, one) for one in opened):
            return  # another file has been put in its place by now
        if os.geteuid() not in (0, status.st_uid):
            return
        with contextlib.suppress(PermissionError):  # root here may lack root's rights
            _adopt(by_descriptor(descriptor), status, access, access.mode)


def make_file(
    path: str, access: Access, content: bytes = b"", *, in_place_of: os.stat_result | None = None
) -> None:
    """Make a file with this content and access, unless there is one.

    The file gets its name last, so nobody finds it half made. `in_place_of` is a file that it
    replaces.
    """
    unfinished = f"{path}.{os.urandom(8).hex()}"
    flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(unfinished, flags, 0o600)
    try:
        try:
            adopt(descriptor, access)
            written = os.write(descriptor, content)
            while written < len(content):
                written += os.write(descriptor, content[written:])
        finally:
            os.close(descriptor)
        if in_place_of is not None:
            os.rename(unfinished, path)
            return
        os.link(unfinished, path)
    except FileExistsError:
        pass  # somebody else was first, which is just as good
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
