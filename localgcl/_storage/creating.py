"""Creating a database where there is none, or an empty file, and its run folder with it."""

from __future__ import annotations

import contextlib
import os
import stat
import time

from localgcl._base import clock
from localgcl._liveness.access import (
    Access,
    access_in,
    access_of,
    kind_of,
    make_file,
    refuse_foreign,
)
from localgcl._liveness.folder import Folder, folder_at
from localgcl._storage import schema
from localgcl._storage.gate import Gate
from localgcl._storage.location import make_parents, real_path, refuse_unfit_place
from localgcl._storage.log import COMPANIONS, remove
from localgcl.errors import DatabaseError

# How long another user has to make the database after making its run folder.
_MAKER_SECONDS = 0.5
_MAKER_PAUSE_SECONDS = 0.005


def prepare(path: str, deadline: float | None) -> tuple[str, Folder]:
    """Make sure of a database at `path`; return its path without links, and its run folder."""
    patience = clock.now() + _MAKER_SECONDS
    while True:
        real = real_path(path, path)
        try:
            status = os.lstat(real)
        except FileNotFoundError:
            status = None
        if status is not None and not stat.S_ISREG(status.st_mode):
            problem = f"{real} is {kind_of(status.st_mode)} and not a file; choose another path"
            raise DatabaseError(path, problem)
        if status is not None and status.st_size:
            refuse_unfit_place(real, path)
            return real, folder_of(real, status, path)
        make_parents(real)
        refuse_unfit_place(real, path)
        _create(path, real, status, deadline, is_patient=clock.now() < patience)


def _create(
    path: str,
    real: str,
    empty: os.stat_result | None,
    deadline: float | None,
    *,
    is_patient: bool,
) -> None:
    """Make a new database, or one in the place of an empty file; the run folder comes first.

    The user who makes the run folder also makes the database. If another user has made the folder
    and may be about to make the database, this waits while it `is_patient`, and then moves that
    folder away.
    """
    access = access_in(os.stat(os.path.dirname(real)))
    if empty is not None:
        access = Access(os.geteuid() or empty.st_uid, empty.st_gid, empty.st_mode)
        refuse_foreign(empty, None, path, real)
    folder = folder_at(f"{real}-run", access, path)
    made = folder.make()
    try:
        owner = os.lstat(folder.path).st_uid
        is_foreign = owner not in access.trusted()
        if is_foreign:
            folder.access = Access(owner, access.group, access.mode)
        gate = Gate(folder)
        try:
            # Another user's gate may be shut for any time.
            until = clock.now() + _MAKER_SECONDS
            ends = until if deadline is None else min(deadline, until)
            with gate.entered(ends if is_foreign else deadline):
                if _holds_something(real):
                    return  # somebody was first
                if not is_foreign:
                    remove(real + suffix for suffix in COMPANIONS)
                    make_file(real, access, schema.new_file(), in_place_of=empty)
                elif not is_patient:
                    os.rename(folder.path, f"{folder.path}.{os.urandom(8).hex()}")
        finally:
            gate.close()
        if is_foreign:
            time.sleep(_MAKER_PAUSE_SECONDS)
    except FileNotFoundError:
        if is_patient:
            return  # it is just being taken away: the caller checks everything again
        raise
    except BaseException:
        if made:
            leave_no_folder(folder)
        raise
    finally:
        folder.close()


def _holds_something(real: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.lstat(real).st_size > 0
    return False


def folder_of(real: str, status: os.stat_result, database: str) -> Folder:
    """Return the run folder of the database at `real`."""
    return folder_at(f"{real}-run", access_of(status), database)


def existing_folder(path: str) -> Folder | None:
    """Return the run folder of the database at `path`; None if there is no database."""
    real = real_path(path, path)
    try:
        return folder_of(real, os.lstat(real), path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def leave_no_folder(folder: Folder) -> None:
    """Remove a run folder that was just made: nothing new stays beside another program's file."""
    with contextlib.suppress(OSError):
        folder.remove_empty()


def status_of_one(real: str) -> os.stat_result:
    """Return the status of a file, after removing the name under which it was made.

    A process that ended in the middle of `make_file` has left it that name.
    """
    status = os.lstat(real)
    if status.st_nlink == 1 or not stat.S_ISREG(status.st_mode):
        return status
    folder, name = os.path.split(real)
    for other in os.listdir(folder):
        end = other.removeprefix(f"{name}.")
        if end != other and len(end) == 16 and end.isalnum():
            path = os.path.join(folder, other)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.lstat(path), status):
                    os.unlink(path)
    return os.lstat(real)
