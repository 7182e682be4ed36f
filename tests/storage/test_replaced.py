"""A file that is deleted, replaced or emptied while it is used."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from localgcl import Limiter, LimitNotFoundError
from localgcl._base import clock as _clock
from localgcl._base import descriptors as _descriptors
from localgcl._drivers import places
from localgcl._drivers.blocking import Listener
from localgcl._drivers.flow import HoldingTerms
from localgcl._drivers.places import Place, look_round
from localgcl._engine.wait import NET_SECONDS
from localgcl._storage.database import Database
from tests.helpers.played import Clock
from tests.helpers.waiting import DEADLINE_SECONDS


def remove(path: str) -> None:
    """Delete a database, as people do."""
    for file in (path, f"{path}-wal", f"{path}-shm"):
        if os.path.exists(file):
            os.unlink(file)


def test_a_deleted_file_is_noticed(limiter: Limiter, path: str) -> None:
    """At the next call there is no limit, and no ghost of one."""
    limiter.create("database", 1)
    limiter.acquire("database")
    remove(path)
    assert limiter.read_all() == []
    assert not os.path.exists(path)
    with pytest.raises(LimitNotFoundError):
        limiter.read("database")
    limiter.create("database", 1)
    limiter.acquire("database", timeout_seconds=0)


def test_a_release_in_a_deleted_file_is_a_silent_nothing(limiter: Limiter, path: str) -> None:
    """Whoever leaves its block after that leaves in peace, and makes no new file."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    with limiter.concurrency([]):
        pass
    remove(path)
    lease.release()
    lease.release()
    assert not os.path.exists(path)
    shutil.rmtree(os.path.dirname(path))
    assert limiter.release(lease.id) is False
    assert not os.path.exists(os.path.dirname(path))


def test_a_replaced_file_is_noticed(limiter: Limiter, path: str, tmp_path: Path) -> None:
    """At the next call the new file counts; what was held in the old one frees nothing there."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    other = Limiter(tmp_path / "other.db")
    other.create("database", 5, active_slots=2)
    other.create("new", 1)
    other.close()
    remove(path)
    os.rename(tmp_path / "other.db", path)
    assert [one.name for one in limiter.read_all()] == ["database", "new"]
    lease.release()
    limit = limiter.read("database")
    assert (limit.limit, limit.active_slots) == (5, 2)
    limiter.acquire("database", 3, timeout_seconds=0)


def test_a_link_that_leads_elsewhere_is_noticed(tmp_path: Path) -> None:
    """Where a link is turned to another file, the other file counts."""
    for name in ("one", "two"):
        Limiter(tmp_path / f"{name}.db").create(name, 1)
    link = tmp_path / "limits.db"
    link.symlink_to("one.db")
    limiter = Limiter(link)
    assert [one.name for one in limiter.read_all()] == ["one"]
    link.unlink()
    link.symlink_to("two.db")
    assert [one.name for one in limiter.read_all()] == ["two"]


def test_a_process_on_the_old_file_does_no_harm_to_the_new_one(limiter: Limiter, path: str) -> None:
    """A ghost's end must not take away the journal of whoever made the file anew."""
    limiter.create("old", 1)
    remove(path)
    newcomer = Limiter(path)
    newcomer._database = Database(path)  # as another process has one
    newcomer.create("first", 1)
    assert [one.name for one in limiter.read_all()] == ["first"]  # the ghost has ended
    newcomer.create("second", 1)
    third = Database(path)
    sorted_by_name = "SELECT name FROM limits ORDER BY name"
    names = third.transact(lambda tx: tx.execute(sorted_by_name).fetchall())
    assert names == [("first",), ("second",)]
    assert [one.name for one in limiter.read_all()] == ["first", "second"]


def test_an_emptied_file_is_noticed(limiter: Limiter, path: str) -> None:
    """As `: > limits.db` does it: nothing is there, and what is made next is a database."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    os.truncate(path, 0)
    assert limiter.read_all() == []
    lease.release()
    limiter.create("database", 1)
    limiter.acquire("database", timeout_seconds=0)
    limiter.close()
    assert [one.name for one in limiter.read_all()] == ["database"]


def test_an_emptied_file_keeps_nobody_out(limiter: Limiter, path: str) -> None:
    """Whoever comes first begins anew, while another process has the old one open still."""
    limiter.create("old", 1)
    lease = limiter.acquire("old")
    mode = os.stat(path).st_mode
    os.truncate(path, 0)
    made = subprocess.run(
        [sys.executable, "-m", "localgcl", "--db", path, "create", "new", "--limit", "1"],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert (made.returncode, made.stderr) == (0, "")
    assert [one.name for one in limiter.read_all()] == ["new"]
    lease.release()
    limiter.acquire("new", timeout_seconds=0)
    limiter.close()
    assert [one.name for one in limiter.read_all()] == ["new"]
    assert os.stat(path).st_mode == mode


def test_an_emptied_file_is_not_written_into_at_the_end(limiter: Limiter, path: str) -> None:
    """Whoever closes it does not write into it what no database begins with."""
    limiter.create("old", 1)
    os.truncate(path, 0)
    limiter.close()
    assert limiter.read_all() == []
    limiter.create("new", 1)
    assert [one.name for one in limiter.read_all()] == ["new"]


def test_who_waits_looks_at_the_new_file(
    limiter: Limiter, path: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A waiter notices within its safety net, and finds the limit missing there."""
    limiter.create("database", 1)
    limiter.acquire("database")
    step = clock.sleep

    def replaced(one: object) -> list[str]:
        remove(path)
        return step(one)

    clock.sleep = replaced  # type: ignore[method-assign,assignment]
    lease = limiter.acquire("database", timeout_seconds=60)
    assert lease.waited_seconds <= NET_SECONDS
    assert ["'database'" in message for message in caplog.messages] == [True]
    assert limiter.read_all() == []


def waiting(database: Database) -> tuple[Listener, Place]:
    """Return a listener and its place, of a request that leaves nothing to undo."""
    request = HoldingTerms("database", 1, None).request()
    request.settled = True
    listener = Listener(database, request)
    database.transact(lambda tx: listener.wake_address(tx.folder))
    place = listener._place
    assert place is not None
    place.until = math.inf
    return listener, place


def is_woken_in_a_round(place: Place) -> bool:
    """Whether the periodic check finds anything that this place is to be told of."""
    place.told = None
    look_round([place])
    return place.told is not None


def test_who_waits_notices_that_another_thread_opened_the_new_file(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the file in which it waits, not the one that its process has open by now."""
    monkeypatch.setattr(places, "concerned", lambda *_: [])  # its row is in none of the files
    database = Database(path)
    listener, place = waiting(database)
    assert not is_woken_in_a_round(place)
    remove(path)
    assert is_woken_in_a_round(place)
    database.transact(lambda tx: tx.now)
    assert is_woken_in_a_round(place)
    listener.recreate()  # as a look does that has found its row
    assert not is_woken_in_a_round(place)
    listener.close()
    database.close()


def test_who_waits_looks_again_where_a_lifeline_is_being_mended(path: str) -> None:
    """Another thread has closed its former end, of which the one that waits asks."""
    database = Database(path)
    listener, place = waiting(database)
    ours = database.lifeline()
    assert ours is not None
    descriptor, ours.descriptor = ours.descriptor, _descriptors.NONE
    assert is_woken_in_a_round(place)
    ours.descriptor = descriptor
    assert not is_woken_in_a_round(place)
    listener.close()
    database.close()


def test_the_note_outlives_the_gate(limiter: Limiter, path: str) -> None:
    """A cleaner who takes the gate's file does not make another file's log pass for this one's."""
    limiter.create("a", 1)
    file = limiter._database._file
    assert file is not None
    noted = file.gate.note()
    shutil.rmtree(f"{path}-run")
    file.gate._seen_at = -math.inf
    limiter.read("a")
    with open(f"{path}-run/gate", encoding="ascii") as gate:
        assert gate.read() == noted != ""


def test_who_has_a_deadline_waits_for_no_other_thread(limiter: Limiter) -> None:
    """One that stands at a shut gate keeps neither a close nor a look at a grant."""
    limiter.create("a", 1)
    database = limiter._database
    held, ends = threading.Event(), threading.Event()

    def stand() -> None:
        with database._lock:
            held.set()
            ends.wait()

    thread = threading.Thread(target=stand)
    thread.start()
    held.wait()
    try:
        assert database.read(lambda execute: execute("SELECT 1").fetchall()) is None
        database.close(_clock.now())
        assert database._file is not None
    finally:
        ends.set()
        thread.join()
    assert database.read(lambda execute: execute("SELECT 1").fetchall()) == [(1,)]
