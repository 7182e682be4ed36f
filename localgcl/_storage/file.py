"""The file of a database: found or made, opened, verified and closed."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time

from localgcl._base import clock
from localgcl._base.descriptors import Descriptor, is_ours, opened
from localgcl._liveness import identity as _identity
from localgcl._liveness.access import correct, make_file, refuse_foreign
from localgcl._liveness.lifeline import existing_lifeline
from localgcl._liveness.process import is_running
from localgcl._storage import schema
from localgcl._storage.boot import Boot
from localgcl._storage.connection import begin, connect
from localgcl._storage.creating import leave_no_folder, prepare, status_of_one
from localgcl._storage.gate import Gate, GateTimeoutError
from localgcl._storage.location import identity_of
from localgcl._storage.log import COMPANIONS, drop_stale_log, note_log, remove
from localgcl._storage.migration import migrate, version_in
from localgcl._storage.open_files import drop, files_of, is_lost, open_files, tied_to
from localgcl._storage.rights import of_the_writers
from localgcl._storage.sqlite_descriptors import find_descriptors
from localgcl.errors import DatabaseError

# A folder's time of change has steps of up to 10 ms. A folder that changed just now may change
# again within the same step.
_STEP_NANOSECONDS = 50_000_000


class VanishedError(Exception):
    """The file was taken away or emptied while it was opened; it is opened again."""


class File:
    """An open database: the connection, its gate, its run folder, and which file it is."""

    __slots__ = (
        "__weakref__",
        "_cursor",
        "_found",
        "_is_known",
        "_names",
        "_parent",
        "_unchanged",
        "connection",
        "descriptors",
        "execute",
        "folder",
        "gate",
        "identity",
        "known",
        "path",
        "real",
    )

    def __init__(self, path: str, deadline: float | None) -> None:
        self.path = path
        self.known: dict[str, tuple[int, int]] = {}  # see `at_once`
        self.real, self.folder = prepare(path, deadline)
        self._parent = os.path.dirname(self.real)
        self._names = (path, *(self.real + suffix for suffix in COMPANIONS))
        self.descriptors: tuple[Descriptor, ...] = ()
        self._is_known = False  # whether the gate's note is about this very file
        self._found: tuple[tuple[int, int] | None, ...] = ()  # what was opened, by `_names`
        self._unchanged: tuple[int, int, int] | None = None
        clock.boot_id()  # read here, while nobody waits for it
        made = self.folder.make()
        try:
            self.gate = Gate(self.folder)
            try:
                self._open(deadline)
            except BaseException:
                self.gate.close()
                raise
        except BaseException:
            self.folder.close()
            if made:
                leave_no_folder(self.folder)
            raise

    def _open(self, deadline: float | None) -> None:
        # All under the gate, so that nobody replaces the file in between: SQLite finds the log by
        # its name.
        with self.gate.entered(deadline):
            self._verify_place()
            if is_lost(self.identity):
                raise VanishedError  # lost just now: what is open is dropped first
            made = self._make_companions()
            before = opened()
            try:
                with of_the_writers(os.stat(self._parent), self.folder.access):
                    journal = self._connect()
            except BaseException:
                remove(made)
                raise
            try:
                self._find_descriptors(before)
                self._found = tuple(map(identity_of, self._names))
                version = version_in(self.connection, self.path)
                is_current = version == schema.VERSION and journal == "wal"
                self._correct_access()
                if is_current:
                    self._settle(deadline)
            except BaseException:
                self._close_connection()
                remove(made)
                raise
        if not is_current:
            try:
                migrate(self.path, self.connection, self.execute, self.gate, self.folder, deadline)
            finally:
                self.close(deadline)
            raise VanishedError

    def _connect(self) -> str:
        """Connect, open every file that SQLite needs, and return the journal's mode."""
        self.connection = connect(self.real)
        try:
            # One cursor for every statement. Making one costs a third of a small statement, and
            # each statement ends the one before it, COMMIT the last one.
            self._cursor = self.connection.cursor()
            self.execute = self._cursor.execute
            # A power cut may take the last transactions, but it also makes them void: every holder
            # died.
            self.execute("PRAGMA synchronous = NORMAL")
            journal = self.execute("PRAGMA journal_mode").fetchone()[0]
            self.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except BaseException:
            with contextlib.suppress(AttributeError):  # there is no cursor yet
                self._cursor.close()
            self.connection.close()
            raise
        return str(journal)

    def _verify_place(self) -> None:
        """Check that the file has one name and no other, and that its log is its own."""
        try:
            status = status_of_one(self.real)
        except FileNotFoundError:
            raise VanishedError from None
        refuse_foreign(status, None, self.path, self.real)
        if status.st_size == 0:
            raise VanishedError
        self.identity = (status.st_dev, status.st_ino)
        self._is_known = drop_stale_log(self.gate, self.real, self.identity)

    def _make_companions(self) -> list[str]:
        """Make the missing files beside it, and return their names.

        SQLite would make them with this user's own group, which would shut others out.
        """
        made = []
        log, index = self._names[1:]
        if not os.path.lexists(log):
            remove([index])  # of a removed log; processes that have that log open go on in it
        for name in (log, index):
            try:
                refuse_foreign(status_of_one(name), None, self.path, name)
            except FileNotFoundError:
                make_file(name, self.folder.access)
                made.append(name)
        # SQLite looks for a journal left by a crash, and would wait for the writer of a FIFO.
        with contextlib.suppress(FileNotFoundError):
            journal = f"{self.real}-journal"
            refuse_foreign(os.lstat(journal), None, self.path, journal)
        return made

    def _correct_access(self) -> None:
        """Give all files of the database their owner, group and mode, if this user may."""
        access = self.folder.access
        opened_ones = [os.fstat(descriptor) for descriptor in self.descriptors]
        for name in (self.real, *self._names[1:]):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(name)
                if not access.is_that_of(status):
                    correct(name, access, self.path, opened_ones)
        if self._is_known:
            self.folder.correct_access(self.gate.descriptor)

    def _find_descriptors(self, before: set[int]) -> None:
        """Find the descriptors that SQLite has opened, to notice when the program closes them."""
        others = {
            int(one): one
            for file in files_of(self.identity)
            for one in file.descriptors
            if is_ours(one)
        }
        beside = {identity_of(name) for name in self._names[1:]}
        shared = identity_of(self._names[2])  # one descriptor of -shm serves the whole process
        self.descriptors = find_descriptors(self.identity, beside, shared, before, others)
        open_files.add(self)  # before the next file is opened: its descriptors are not these

    def is_there(self) -> bool:
        """Whether the open file and its log are still those at the path, and were not emptied.

        The program must not have closed them either.
        """
        try:
            if not self.has_its_descriptors():
                return False
            # While no name in the folder changes, each name refers to the same file as before.
            status = os.stat(self._parent)
            seen = status.st_mtime_ns, status.st_ino, status.st_dev
            if seen != self._unchanged:
                if tuple(map(identity_of, self._names)) != self._found:
                    return False
                if (
                    self.descriptors
                    and self.path == self.real
                    and status.st_mtime_ns < time.time_ns() - _STEP_NANOSECONDS
                ):
                    self._unchanged = seen
            if self.descriptors:
                return os.fstat(self.descriptors[0]).st_size > 0
            return os.stat(self.path).st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False

    def has_its_descriptors(self) -> bool:
        """Whether the program has closed none of the descriptors that SQLite has opened."""
        for descriptor in self.descriptors:  # noqa: SIM110 - this takes half as long
            if not is_ours(descriptor):
                return False
        return True

    def close(self, deadline: float | None = None) -> None:
        """Close it; the checkpoint that this causes runs under the gate like any other."""
        try:
            with (
                contextlib.suppress(GateTimeoutError, DatabaseError),
                self.gate.entered(deadline),
            ):
                self._close_connection()
        finally:
            # Here the gate could not be entered. SQLite makes the checkpoint of a close under a
            # lock of its own, which it does not get while anybody else has the file open.
            self._close_connection()
            self.gate.close()
            self.folder.close()

    def is_opened(self) -> bool:
        """Whether it was opened completely; after a failure SQLite may hold it in part."""
        return bool(self._found)

    def discard_connection(self) -> None:
        """Close the connection; nothing can be written through its descriptors now."""
        with contextlib.suppress(sqlite3.Error):
            self._cursor.close()
        self.connection.close()
        self._forget_files()

    def _close_connection(self) -> None:
        if not self.is_whole():
            drop(tied_to([self]))
            return
        # SQLite keeps a file open while a statement is open, for example one that has failed. An
        # open file would cross a fork.
        with contextlib.suppress(sqlite3.ProgrammingError):  # the connection is closed already
            self._cursor.close()
        self._found, self._unchanged = (), None  # a Ctrl-C from here on loses nothing
        self.connection.close()
        open_files.discard(self)  # not before: another would take these descriptors for its own
        self.descriptors = ()

    def _forget_files(self) -> None:
        self.descriptors, self._found, self._unchanged = (), (), None

    def is_whole(self) -> bool:
        """Whether it can be closed normally, which writes the log into the file and removes it."""
        try:
            return self._found == () or self.is_there()
        except OSError:
            return False

    def never_close(self) -> None:
        """Keep the connection from being closed, even when the interpreter ends."""
        import ctypes

        # A reference that is never given back.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.connection))

    def close_all_but_connection(self) -> None:
        """Close gate and folder of a file whose connection was dropped."""
        self.gate.close()
        self.folder.close()

    def _settle(self, deadline: float | None) -> None:
        """Note which file the log belongs to, and convert every time to this boot's clock."""
        note_log(self.gate, self.real, self.identity)
        boot = Boot()
        if not boot.is_recorded(self.execute, self.path):
            begin(self.execute, deadline)
            boot.enter(self.execute, self.path, self._lives)
            self.execute("COMMIT")
        self._tell_owner(deadline)

    def _tell_owner(self, deadline: float | None) -> None:
        """Correct this process's identity in its row if a backup has brought that row."""
        ours = existing_lifeline(self.folder)
        if ours is None:
            return
        process = _identity.process_at(self.identity[1])
        known = (process, ours.name)
        stale = "FROM owners WHERE process IS NOT ? AND lifeline = ?"
        if self.execute(f"SELECT 1 {stale}", known).fetchone() is not None:
            begin(self.execute, deadline)
            self.execute("UPDATE owners SET process = ? WHERE lifeline = ?", known)
            self.execute("COMMIT")

    def _lives(self, lifeline: str, process: str | None) -> bool:
        if self.folder.is_alive(lifeline):
            return True
        told, _, _ = (process if isinstance(process, str) else "").rpartition(" ")
        return told.count(" ") == 3 and is_running(told)
