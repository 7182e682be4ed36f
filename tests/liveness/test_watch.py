"""The watch over other processes' lifelines, and the wake-up FIFOs, which threads share."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import resource
import select
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from localgcl import Limiter
from localgcl._base import descriptors
from localgcl._liveness import fifo
from localgcl._liveness import folder as _folder
from localgcl._liveness import lifeline as _lifeline
from localgcl._liveness.access import Access
from localgcl._liveness.folder import Folder
from localgcl._liveness.lifeline import Lifeline, LifelineWatch, WakeFifo
from tests.helpers.database import tables
from tests.helpers.descriptors import open_files


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A run folder that is there."""
    folder = Folder(
        str(tmp_path / "limits.db-run"), Access(os.geteuid(), os.getegid(), 0o600), "limits.db"
    )
    folder.make()
    return folder


@pytest.fixture
def other(folder: Folder) -> Iterator[Lifeline]:
    """The lifeline of a process that lives."""
    lifeline = Lifeline(folder)
    yield lifeline
    lifeline.drop()


def open_in(folder: Folder) -> int:
    """Return how many files of a run folder this process has open."""
    return len(open_files(folder.path))


def test_many_watch_one_lifeline_with_one_descriptor(
    folder: Folder, other: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many threads wait for a process, the limit of what is watched is not reached."""
    monkeypatch.setattr(_folder, "MAX_WATCHED", 1)
    before = open_in(folder)
    watches = [LifelineWatch() for _ in range(500)]
    for watch in watches:
        assert watch.turn_to(folder, [other.name]) == []
        assert not watch.unwatched
    assert open_in(folder) == before + 1
    for watch in watches[1:]:
        watch.close()
    assert open_in(folder) == before + 1
    watches[0].turn_to(folder, [])
    assert open_in(folder) == before


def test_beyond_the_limit_a_watch_is_not_whole(
    folder: Folder, other: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever cannot watch somebody knows it, and still learns who is dead."""
    monkeypatch.setattr(_folder, "MAX_WATCHED", 1)
    one_more = Lifeline(folder)
    watch, late = LifelineWatch(), LifelineWatch()
    watch.turn_to(folder, [other.name])
    assert late.turn_to(folder, [other.name, one_more.name]) == []
    assert late.unwatched == {one_more.name}
    one_more.drop()
    assert late.turn_to(folder, [other.name, one_more.name]) == [one_more.name]


def test_everybody_who_watches_sees_a_death(folder: Folder, other: Lifeline) -> None:
    """The first to see it does not keep it from the next, nor from who begins to watch then."""
    first, second, third = LifelineWatch(), LifelineWatch(), LifelineWatch()
    for watch in (first, second):
        watch.turn_to(folder, [other.name])
    other.drop()
    for watch in (first, second, third):
        assert watch.turn_to(folder, [other.name]) == [other.name]
    other.descriptor = folder.make_fifo(other.name)  # to be dropped with the test


def test_who_is_watched_lives_by_name(folder: Folder, other: Lifeline) -> None:
    """A lifeline that was removed counts as dead, whoever reads it still and whoever watches it."""
    watch = LifelineWatch()
    watch.turn_to(folder, [other.name])
    assert folder.is_alive(other.name)
    folder.discard(other.name)
    assert not folder.is_alive(other.name)
    other.recreate()
    assert folder.is_alive(other.name)
    other.drop()
    assert not folder.is_alive(other.name)
    other.descriptor = folder.make_fifo(other.name)  # to be dropped with the test


def test_a_watch_that_ends_is_no_longer_found(folder: Folder, other: Lifeline) -> None:
    """Threads that ask whether somebody lives meet others that just stop watching."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            watch = LifelineWatch()
            watch.turn_to(folder, [other.name])
            watch.close()

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(5_000):
            assert folder.is_alive(other.name)
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()


def test_a_watch_is_closed_when_nobody_can_find_it(
    folder: Folder, other: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or else a thread that finds it just then would ask a descriptor of something else."""
    found: list[object] = []
    close = descriptors.close_if_ours

    def look_and_close(descriptor: descriptors.Descriptor) -> bool:
        found.append(end())
        return close(descriptor)

    monkeypatch.setattr(descriptors, "close_if_ours", look_and_close)
    watch = LifelineWatch()
    watch.turn_to(folder, [other.name])
    end = weakref.ref(watch.ends[other.name])
    watch.close()
    assert found == [None]


def test_a_file_in_place_of_a_lifeline_is_dead(folder: Folder) -> None:
    """Nobody reads it, and nothing would ever report so."""
    name = "a" * 32
    Path(folder.path, name).touch()
    assert LifelineWatch().turn_to(folder, [name]) == [name]
    assert not folder.is_alive(name)


def test_a_lifeline_made_anew_is_watched_anew(folder: Folder, other: Lifeline) -> None:
    """Also by who begins while another one has not yet noticed that the former is gone."""
    slow, quick = LifelineWatch(), LifelineWatch()
    slow.turn_to(folder, [other.name])
    folder.discard(other.name)
    other.recreate()
    assert quick.turn_to(folder, [other.name]) == []
    assert not quick.ends[other.name].has_ended()
    assert slow.ends[other.name].has_ended()
    assert slow.turn_to(folder, [other.name]) == []
    assert slow.ends[other.name] is quick.ends[other.name]


def test_an_ear_that_cannot_be_made_anew(
    folder: Folder, other: Lifeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays as it was, to be tried again, and nothing more is open than before."""
    wake_fifo = other.borrow_wake_fifo()
    other.return_wake_fifo(wake_fifo)
    folder.discard(wake_fifo.name)
    before = open_in(folder)

    def too_many(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "open_for_writing", too_many)
        with pytest.raises(OSError, match="Too many"):
            other.borrow_wake_fifo()
        with pytest.raises(OSError, match="Too many"):
            WakeFifo(folder, f"{other.name}.7")
    assert open_in(folder) == before
    assert not other.is_listening()
    assert other.borrow_wake_fifo() is wake_fifo
    folder.wake(wake_fifo.name, [7])
    assert wake_fifo.drain()
    poll = select.poll()
    poll.register(wake_fifo.descriptor, select.POLLIN)
    assert poll.poll(0) == []


@pytest.mark.parametrize("name", ["missing", "deleted"])
def test_who_is_granted_less_than_it_asked_for_is_told(
    limiter: Limiter, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """Of a name that was missing from the first, or since it waits; and nothing is left of it."""
    for one in ("database", "deleted"):
        limiter.create(one, 1)
    held = limiter.acquire("database")
    names = ["database", name]
    waiter = threading.Thread(target=lambda: limiter.acquire(names).release(), daemon=True)
    waiter.start()
    while not limiter.waiters():
        time.sleep(0.001)
    limiter.delete("deleted")
    held.release()
    waiter.join()
    assert [f"'{name}'" in message for message in caplog.messages] == [True]
    assert tables(limiter)["waiters"] == []
    limiter.close()
    assert sorted(os.listdir(f"{limiter._database.path}-run")) == ["gate"]


def test_an_ear_that_was_lost_is_closed(folder: Folder, other: Lifeline) -> None:
    """Ctrl-C may keep whoever has borrowed it from giving it back, and from keeping it."""
    other.borrow_wake_fifo()
    before = open_in(folder)
    for _ in range(2):
        other.borrow_wake_fifo()  # and nobody has it
        gc.collect()
    assert open_in(folder) == before
    assert not other.is_listening()
    kept = other.borrow_wake_fifo()
    assert other.is_listening()
    other.return_wake_fifo(kept)
    assert not other.is_listening()
    folder.remove(other.name)
    assert folder.fifos() == []
    other.descriptor = folder.make_fifo(other.name)  # to be dropped with the test


def test_a_ring_without_a_descriptor_to_spare(folder: Folder, other: Lifeline) -> None:
    """Whoever was granted a slot is woken by a process that can open nothing more, each time."""
    wake_fifos = [other.borrow_wake_fifo() for _ in range(3)]
    with no_descriptors_left():
        assert folder.open_end(wake_fifos[0].name) is None
        for _ in range(2):
            for wake_fifo in wake_fifos:
                folder.wake(wake_fifo.name, [7])
    assert [len(wake_fifo.drain()) for wake_fifo in wake_fifos] == [2 * fifo.HINT_LENGTH] * 3


def test_ears_that_nobody_needs_are_closed(folder: Folder, other: Lifeline) -> None:
    """After many have waited at once, few are kept open, and files are made for no more."""
    before = open_in(folder)
    for _ in range(3):
        wake_fifos = [other.borrow_wake_fifo() for _ in range(100)]
        assert len({wake_fifo.name for wake_fifo in wake_fifos}) == 100
        for wake_fifo in wake_fifos:
            other.return_wake_fifo(wake_fifo)
    assert open_in(folder) == before + 2 * _lifeline._MAX_IDLE
    assert not other.is_listening()
    assert len(folder.fifos()) == 101
    folder.remove(other.name)
    assert folder.fifos() == []
    other.descriptor = folder.make_fifo(other.name)  # to be dropped with the test


@contextlib.contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Open files until there are no more to be had."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    opened = []
    try:
        with contextlib.suppress(OSError):
            while True:
                opened.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_the_program_has_closed_is_written_to_no_more(folder: Folder, other: Lifeline) -> None:
    """Nor closed: what has its number by now is the program's."""
    wake_fifo = other.borrow_wake_fifo()
    writer = wake_fifo._writer
    assert writer is not None
    assert other.wake(wake_fifo.name, [7])
    assert wake_fifo.drain()
    for closed in (writer, *fifo._spares):
        reader, foreign = os.pipe()
        os.dup2(foreign, closed.descriptor, inheritable=False)  # which closes what was there
        os.close(foreign)
        assert closed.is_lost()
        assert not closed.close()
        os.fstat(closed.descriptor)
        assert not other.wake(wake_fifo.name, [7])
        assert select.select([reader], [], [], 0)[0] == []
        os.close(closed.descriptor)
        os.close(reader)
    assert not other.wake(wake_fifo.name, [7])
    folder.wake(wake_fifo.name, [7])
    assert wake_fifo.drain()


def test_more_hints_than_one_write_takes(folder: Folder, other: Lifeline) -> None:
    """They become one, at all there are."""
    wake_fifo = other.borrow_wake_fifo()
    most = select.PIPE_BUF // fifo.HINT_LENGTH
    folder.wake(wake_fifo.name, range(1, most + 1))
    assert len(wake_fifo.drain()) == select.PIPE_BUF
    folder.wake(wake_fifo.name, range(1, most + 2))
    assert wake_fifo.drain() == fifo.HINT_AT_ALL.to_bytes(fifo.HINT_LENGTH)


@pytest.mark.parametrize("disposition", [signal.SIG_IGN, signal.SIG_DFL])
def test_to_wake_who_has_died_since_ends_nobody(
    folder: Folder, disposition: signal.Handlers
) -> None:
    """Where a program wants to be ended by SIGPIPE, it is not by ours."""
    wake_fifos = [Lifeline(folder).borrow_wake_fifo() for _ in range(2)]
    ends = [folder.open_end(wake_fifo.name) for wake_fifo in wake_fifos]
    assert None not in ends
    wake_fifos[1].close()
    before = signal.signal(signal.SIGPIPE, disposition)
    try:
        for wake_fifo, end in zip(wake_fifos, ends, strict=True):
            folder.wake(wake_fifo.name, [7], end)
        assert signal.SIGPIPE not in signal.sigpending()
        assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert wake_fifos[0].drain()


def switches(thread: threading.Thread) -> int:
    """Return how often a thread has given up its processor by itself, as the kernel counts it."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_a_waiter_sleeps(limiter: Limiter) -> None:
    """It wakes when its slot is its own, and does not look every few milliseconds until then."""
    limiter.create("database", 1)
    held = limiter.acquire("database")
    waiter = threading.Thread(target=lambda: limiter.acquire("database").release(), daemon=True)
    waiter.start()
    while not limiter.waiters():
        time.sleep(0.001)
    before = switches(waiter)
    time.sleep(0.5)
    assert switches(waiter) - before < 20
    held.release()
    waiter.join()
