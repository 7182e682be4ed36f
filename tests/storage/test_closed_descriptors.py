"""Whose a descriptor is: of ours there are many, and the program may close any of them."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from localgcl._base import threads
from localgcl._base.descriptors import Kept, is_ours, mark
from localgcl._liveness.lifeline import Lifeline, existing_lifeline
from localgcl._storage import file as _file
from localgcl._storage import open_files as registry
from localgcl._storage import sqlite_descriptors
from localgcl._storage.database import Transaction
from tests.helpers.descriptors import open_files
from tests.helpers.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="marks are Linux's")


def opened() -> int:
    """Return a new descriptor."""
    return os.open(os.devnull, os.O_RDONLY)


def lifeline_of(limiter: Limiter) -> Lifeline:
    """Return the lifeline of this process, which holds something."""
    folder = limiter._database._folder
    assert folder is not None
    ours = existing_lifeline(folder)
    assert ours is not None
    return ours


def test_one_of_ours_that_has_the_number_of_another() -> None:
    """Who lost it knows, and closes nothing at its end."""
    first = Kept(mark(opened()))
    os.close(first.descriptor)
    number = first.descriptor
    second = Kept(mark(opened()))
    assert second.descriptor == number
    assert first.is_lost()
    assert not second.is_lost()
    del first
    assert is_ours(second.descriptor)
    assert second.close()


def test_a_lifeline_that_was_closed_is_open_from_the_next_call_on(limiter: Limiter) -> None:
    """The new one mostly has the number of the old, and is not closed in its place."""
    limiter.create("a", 1)
    with limiter.concurrency("a"):
        ours = lifeline_of(limiter)
        os.close(ours.descriptor)
        limiter.read("a")
        limiter.update("a", limit=2)
        assert is_ours(ours.descriptor)
        os.close(os.open(f"{ours.folder.path}/{ours.name}", os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.parametrize("others", [0, 1, 2, 3, 20])
def test_files_of_the_program_that_have_some_of_the_numbers(
    limiter: Limiter, path: str, tmp_path: Path, others: int
) -> None:
    """They are what they were, however many they are."""
    limiter.create("a", 1)
    limiter.acquire("a").release()
    ours = [int(one) for one in os.listdir("/proc/self/fd") if path in _leads_to(one)]
    for number in ours:
        os.close(number)
    theirs = {}
    for count in range(others):
        name = f"{tmp_path}/theirs{count}"
        theirs[os.open(name, os.O_RDWR | os.O_CREAT)] = name
    try:
        for descriptor, name in theirs.items():
            os.write(descriptor, name.encode())
        with limiter.concurrency("a", timeout_seconds=5):
            assert limiter.read("a").active_slots == 1
        limiter.close()
        for descriptor, name in theirs.items():
            assert _leads_to(str(descriptor)) == name
            assert os.pread(descriptor, 999, 0) == name.encode()
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    assert [one for one in open_files(path) if not one.startswith(f"{path}-run")] == []


def _leads_to(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:  # that of the listing
        return ""


WRITES = """
import sqlite3, sys
try:
    sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute("BEGIN IMMEDIATE")
except sqlite3.OperationalError as error:
    print(error)
"""


def test_what_another_thread_has_the_numbers_of(
    limiter: Limiter, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that was opened since is in a transaction, and keeps its locks until the end."""
    other = Limiter(f"{path}-other")
    other.create("b", 1)
    other.close()
    limiter.create("a", 1)
    index = f"{path}-shm"  # which has the locks
    lost = {one for one in os.listdir("/proc/self/fd") if _leads_to(one) == index}
    for one in os.listdir("/proc/self/fd"):
        if path in _leads_to(one):
            os.close(int(one))
    inside, tried, goes_on = threading.Event(), threading.Event(), threading.Event()
    found: list[object] = []
    sleep = threads.sleep

    def tell_and_sleep(seconds: float) -> None:
        tried.set()
        sleep(seconds)

    def work(tx: Transaction) -> None:
        tx.execute("UPDATE settings SET updated = updated + 1")
        inside.set()
        assert goes_on.wait(DEADLINE_SECONDS)
        tx.execute("UPDATE settings SET updated = updated + 1")

    def find() -> None:
        found.append(limiter.read("a").name)
        tried.set()

    uses = threading.Thread(target=other._database.transact, args=(work,))
    finds = threading.Thread(target=find)
    try:
        uses.start()
        assert inside.wait(DEADLINE_SECONDS)
        assert [_leads_to(one) for one in lost] == [f"{path}-other-shm"]
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            limiter.acquire("a", timeout_seconds=0.05)
        monkeypatch.setattr(threads, "sleep", tell_and_sleep)
        finds.start()
        assert tried.wait(DEADLINE_SECONDS)
        writes = subprocess.run(
            [sys.executable, "-c", WRITES, f"{path}-other"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=DEADLINE_SECONDS,
        )
        assert writes.stdout == "database is locked\n"
    finally:
        goes_on.set()
        uses.join(DEADLINE_SECONDS)
    finds.join(DEADLINE_SECONDS)
    assert found == ["a"]
    assert other.read("b").name == "b"
    other.close()


def test_what_cannot_be_dropped_stays_as_it_is(
    limiter: Limiter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor for a copy of the program's file, it is not touched."""
    limiter.create("a", 1)
    file = limiter._database._file
    assert file is not None
    number = file.descriptors[0]
    os.close(number)
    theirs = os.open(tmp_path / "theirs", os.O_RDWR | os.O_CREAT)
    os.write(theirs, b"precious")
    assert theirs == number

    asked = fcntl.fcntl

    def refused(descriptor: int, what: int, *more: int) -> int:
        if what == fcntl.F_DUPFD_CLOEXEC:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return asked(descriptor, what, *more)

    with monkeypatch.context() as short:
        short.setattr(fcntl, "fcntl", refused)
        with pytest.raises(OSError, match="Too many"):
            registry.drop([file])
    assert os.pread(theirs, 99, 0) == b"precious"
    with limiter.concurrency("a", timeout_seconds=5):
        pass
    assert os.pread(theirs, 99, 0) == b"precious"
    os.close(theirs)


@pytest.mark.parametrize(
    ("module", "step"),
    [
        (_file, "opened"),
        (_file, "identity_of"),
        (sqlite_descriptors, "opened"),
        (sqlite_descriptors, "mark"),
    ],
)
def test_an_opening_that_is_broken_off(
    path: str, monkeypatch: pytest.MonkeyPatch, module: ModuleType, step: str
) -> None:
    """What breaks it off is raised as it is, and nothing stays open."""
    limiter = Limiter(path)
    limiter.create("a", 1)
    limiter.close()
    count = 1
    while True:
        remaining = count

        def broken_off(real: Callable[..., object], *args: object, **kwargs: object) -> object:
            nonlocal remaining
            remaining -= 1
            if not remaining:
                raise KeyboardInterrupt
            return real(*args, **kwargs)

        with monkeypatch.context() as patched:
            real = getattr(module, step)
            patched.setattr(
                module, step, lambda *args, real=real, **kwargs: broken_off(real, *args, **kwargs)
            )
            try:
                limiter.read("a")
            except KeyboardInterrupt:
                count += 1
            else:
                break
        limiter.close()
        assert open_files(path) == []
    limiter.close()
    assert count > 1


def test_a_file_is_known_before_the_next_one_is_opened(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else another thread, whose turn at the gate is next, takes its descriptors for its own."""
    known = list[bool]()
    settle = _file.File._settle

    def look_and_settle(self: _file.File, deadline: float | None) -> None:
        known.append(self in registry.open_files)
        settle(self, deadline)

    monkeypatch.setattr(_file.File, "_settle", look_and_settle)
    with Limiter(path) as limiter:
        limiter.create("a", 1)
    assert known == [True]
    assert not list(registry.open_files)
