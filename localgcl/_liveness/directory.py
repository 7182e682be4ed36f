"""The run folder itself, with its gate: opened once, and made if it is missing.

Everything in it is reached through the open folder, without following links: other users of the
database can write in it.
"""

from __future__ import annotations

import contextlib
import errno
import os

from localgcl._base.descriptors import FOLDER_OF_DESCRIPTORS, Kept, close_if_ours, mark
from localgcl._liveness.access import kind_of, open_ours, user_called
from localgcl._liveness.making import (
    FOLDER_FLAGS,
    GATE,
    LOCK,
    correct_access,
    holds_others,
    make_folder,
    make_gate,
)
from localgcl.errors import DatabaseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from localgcl._base.descriptors import Descriptor
    from localgcl._liveness.access import Access

# A cleaner may take a file at any moment, even while it is being made.
TRIES = 3

Identity = tuple[int, int]  # device and inode


def _identity_in(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


class _Opened(Kept):
    """The run folder, open."""

    __slots__ = ("identity",)

    def __init__(self, descriptor: Descriptor, status: os.stat_result) -> None:
        super().__init__(descriptor)
        self.identity = _identity_in(status)


class Directory:
    """The run folder of the `database`: its path, and the access to what is made in it."""

    def __init__(self, path: str, access: Access, database: str) -> None:
        self.path = path
        self.access = access
        self.database = database
        self._directory: _Opened | None = None

    def opened(self) -> _Opened:
        """Return the open folder; FileNotFoundError if there is none."""
        directory = self._directory
        if directory is None or directory.is_lost():
            directory = self._directory = self._open()
        return directory

    def _open(self) -> _Opened:
        try:
            descriptor = mark(os.open(self.path, FOLDER_FLAGS))
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            kind = kind_of(os.lstat(self.path).st_mode)
            raise DatabaseError(
                self.database,
                f"its run folder {self.path} is {kind} and not a folder; remove it, and the next"
                " use makes the folder",
            ) from None
        try:
            status = os.fstat(descriptor)
            if status.st_uid not in self.access.trusted():
                raise DatabaseError(
                    self.database,
                    f"its run folder {self.path} belongs to {user_called(status.st_uid)}, and"
                    f" neither to root nor to {user_called(self.access.owner)}, whose the database"
                    " is; move it away, with all processes that use the database ended",
                )
            return _Opened(descriptor, status)
        except BaseException:
            close_if_ours(descriptor)
            raise

    @property
    def identity(self) -> Identity:
        """Device and inode of the open folder."""
        directory = self._directory
        return (self.opened() if directory is None else directory).identity

    def is_there(self) -> bool:
        """Whether the open folder is still the one at the path."""
        directory = self._directory
        try:
            status = os.lstat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return directory is not None and directory.identity == _identity_in(status)

    def has_gate(self, descriptor: int) -> bool:
        """Whether an open file is still the gate that every process finds here."""
        if not self.is_there():
            return False
        folder = self.opened()  # keeps another thread from closing it
        try:
            status = os.stat(GATE, dir_fd=folder.descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(descriptor))

    def close(self) -> None:
        """Close what is open; it is opened again on the next use."""
        self._directory = None

    def make(self) -> bool:
        """Make the folder with its gate unless it exists; return whether it was made."""
        if os.path.lexists(self.path):
            return False
        if not self.access.may_begin():
            owner = user_called(self.access.owner)
            raise DatabaseError(
                self.database,
                f"its run folder {self.path} is missing, and only {owner} or root can make it;"
                f" have {owner} use the database once, for example by `localgcl ls`",
            )
        is_made = make_folder(self.path, self.access)
        self._directory = None
        return is_made

    def correct_access(self, gate: int) -> None:
        """Give the folder and its gate, which is open, their owner, group and mode if needed."""
        directory = self.opened()  # keeps another thread from closing it
        correct_access(directory.descriptor, gate, self.access)

    @contextlib.contextmanager
    def lock_file(self) -> Iterator[str]:
        """Yield the path of the file that is locked while an older file is brought up to date.

        The path leads into the open folder, even if another folder is at the folder's path by now.
        """
        name = LOCK
        directory = self.opened()
        folder = directory.descriptor
        with contextlib.suppress(FileNotFoundError):
            os.close(open_ours(name, self.access, self.database, f"{self.path}/{name}", folder))
        yield f"{FOLDER_OF_DESCRIPTORS}/{directory.descriptor}/{name}"

    def remove_empty(self) -> None:
        """Remove the folder, which holds nothing but the gate."""
        folder = self.opened()
        os.unlink(GATE, dir_fd=folder.descriptor)
        os.rmdir(self.path)
        self.close()

    def open_gate(self) -> int:
        """Return the open gate file; make it if a cleaner took it or the folder."""
        for _ in range(TRIES):
            try:
                return self.open_existing_gate()
            except FileNotFoundError:
                if self._directory is None or not self.is_there():
                    self._directory = None
                    self.make()
                elif self.access.may_begin():
                    folder = self.opened()
                    if holds_others(folder.descriptor):
                        self._refuse()
                    make_gate(self.access, folder.descriptor)
                else:
                    owner = user_called(self.access.owner)
                    raise DatabaseError(
                        self.database,
                        f"{self.path}/{GATE} is missing, and only {owner} or root can make it; have"
                        f" {owner} use the database once, for example by `localgcl ls`",
                    ) from None
        return self.open_existing_gate()

    def open_existing_gate(self) -> int:
        """Return the open gate file; FileNotFoundError if it or the folder is missing."""
        folder = self.opened()
        return self._open_gate(folder.descriptor)

    def _refuse(self) -> NoReturn:
        raise DatabaseError(
            self.database,
            f"{self.path} has no {GATE} and holds what is not localgcl's; move it away, once you"
            " know whose it is",
        )

    def refuse_gate(self) -> NoReturn:
        """Raise DatabaseError for a gate that another program has written to."""
        raise DatabaseError(
            self.database,
            f"{self.path}/{GATE} holds what localgcl did not write there; remove it, with all"
            " processes that use the database ended",
        )

    def _open_gate(self, folder: int) -> int:
        return open_ours(GATE, self.access, self.database, f"{self.path}/{GATE}", folder)
