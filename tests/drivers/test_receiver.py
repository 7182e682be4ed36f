"""Many waiting threads of one process: they share a wake-up FIFO, and what is looked at for all."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Lease, Limiter
from localgcl._base import clock
from localgcl._drivers import blocking
from localgcl._drivers import places as _waiting
from localgcl._drivers.flow import Sleep
from localgcl._drivers.receiver import Receiver
from localgcl._engine import wait
from localgcl._liveness import fifo, lifeline
from localgcl._liveness.duty import Duty
from tests.helpers.descriptors import open_files
from tests.helpers.interrupts import Interrupts
from tests.helpers.waiting import DEADLINE_SECONDS, until


class Waiter(threading.Thread):
    """A thread that waits for a limit, and keeps what it gets."""

    def __init__(self, limiter: Limiter, name: str, timeout: float | None = None) -> None:
        super().__init__(daemon=True)
        self.limiter = limiter
        self.limit = name
        self.timeout = timeout
        self.lease: Lease | None = None
        self.error: BaseException | None = None
        self.seconds = 0.0

    def run(self) -> None:
        began = time.monotonic()
        try:
            self.lease = self.limiter.acquire(self.limit, timeout_seconds=self.timeout)
        except BaseException as error:
            self.error = error
        self.seconds = time.monotonic() - began

    def end(self) -> None:
        """Wait for its end."""
        self.join(DEADLINE_SECONDS)
        assert not self.is_alive(), "it was never woken"


def wait_for(limiter: Limiter, *names: str, timeout: float | None = None) -> list[Waiter]:
    """Start threads that wait for these limits, each once the one before it sleeps."""
    begun = []
    for name in names:
        before = len(asleep(limiter))
        begun.append(Waiter(limiter, name, timeout))
        begun[-1].start()
        until(lambda before=before: len(asleep(limiter)) > before)  # type: ignore[misc]
    return begun


def lifeline_of(limiter: Limiter) -> lifeline.Lifeline:
    """Return this process's lifeline."""
    ours = limiter._database.lifeline()
    assert ours is not None
    return ours


def asleep(limiter: Limiter) -> list[_waiting.Place]:
    """Return where threads of this process sleep."""
    return lifeline_of(limiter).keeper.asleep()


def receiver_of(limiter: Limiter) -> Receiver:
    """Return what they share."""
    shared = lifeline_of(limiter).shared
    assert isinstance(shared, Receiver)
    return shared


@pytest.fixture(autouse=True)
def _limits(limiter: Limiter) -> None:
    for name in "abcdef":
        limiter.create(name, 1)


@pytest.fixture
def held(limiter: Limiter) -> dict[str, Lease]:
    """Every limit is taken."""
    return {name: limiter.acquire(name) for name in "abcdef"}


@pytest.fixture
def no_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who wait share one FIFO, as if there were many."""
    monkeypatch.setattr(blocking, "_OWN_FIFOS", 0)


@pytest.fixture
def by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hints come from other processes, and nothing else helps who misses one."""
    monkeypatch.setattr(lifeline.Lifeline, "wake", lambda *_: False)
    monkeypatch.setattr(_waiting, "PERIOD_SECONDS", 1e6)
    monkeypatch.setattr(wait, "NET_SECONDS", 1e6)
    monkeypatch.setattr(blocking.Listener, "recheck_seconds", 1e6)


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each time that a thread has looked round; a handler must not come into one."""
    done: list[None] = []
    look_round = _waiting.look_round

    def look(places: list[_waiting.Place]) -> None:
        look_round(places)
        done.append(None)

    monkeypatch.setattr(_waiting, "look_round", look)
    return done


needs = pytest.mark.usefixtures


@pytest.mark.parametrize("wake", ["by a thread", "by another process"])
def test_many_are_served_in_order(
    limiter: Limiter, held: dict[str, Lease], request: pytest.FixtureRequest, wake: str
) -> None:
    """Those with a FIFO of their own and those without, each with its own timeout."""
    if wake == "by another process":
        request.getfixturevalue("by_others")
    waiters = wait_for(limiter, *["a"] * 30, timeout=DEADLINE_SECONDS)
    assert len(open_files(lifeline_of(limiter).folder.path)) < 30
    lease = held["a"]
    for waiter in waiters:
        lease.release()
        waiter.end()
        assert waiter.lease is not None
        lease = waiter.lease
    lease.release()
    assert limiter.waiters() == []


@needs("no_own")
def test_each_has_its_own_timeout(limiter: Limiter, held: dict[str, Lease]) -> None:
    """It is over when it is over, whoever is at the poll and however long that one stays."""
    limiter.create("g", 1)
    held["g"] = limiter.acquire("g")
    (first,) = wait_for(limiter, "a")
    (quick,) = wait_for(limiter, "b", timeout=0.2)
    (last,) = wait_for(limiter, "c")
    quick.end()
    assert isinstance(quick.error, AcquireConcurrencySlotTimeoutError)
    assert first.is_alive()
    assert last.is_alive()
    assert quick.seconds >= 0.2
    for name in "ac":
        held[name].release()
    first.end()
    last.end()


@needs("no_own", "by_others")
@pytest.mark.parametrize("leaves", ["granted", "late"])
def test_who_leaves_the_poll_has_another_take_its_place(
    limiter: Limiter, held: dict[str, Lease], leaves: str
) -> None:
    """Whether it was granted or its time is over."""
    timeout = None if leaves == "granted" else 1.0
    (first,) = wait_for(limiter, "a", timeout=timeout)
    poller = receiver_of(limiter).poller
    until(poller.holder)
    others = wait_for(limiter, *"bcd")
    holder = poller.holder()
    assert holder is not None
    assert holder.thread == first.ident
    if leaves == "granted":
        held["a"].release()
    first.end()
    assert poller.holder() is not holder
    for name, other in zip("bcd", others, strict=True):
        held[name].release()
        other.end()
        assert other.lease is not None


@needs("no_own", "by_others")
def test_a_hint_that_comes_before_its_ticket_is_known(
    limiter: Limiter, held: dict[str, Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is granted its slot between the commit and its sleep does not sleep on it."""
    (reader,) = wait_for(limiter, "b")
    drained = threading.Event()
    drain = Receiver.drain

    def drain_and_say(self: Receiver) -> bytes:
        hints = drain(self)
        drained.set()
        return hints

    monkeypatch.setattr(Receiver, "drain", drain_and_say)
    sleep = blocking.Listener.sleep

    def granted_before(self: blocking.Listener, step: Sleep) -> list[str]:
        if threading.current_thread() is late:
            drained.clear()
            held["a"].release()
            assert drained.wait(DEADLINE_SECONDS)
        return sleep(self, step)

    monkeypatch.setattr(blocking.Listener, "sleep", granted_before)
    late = Waiter(limiter, "a")
    late.start()
    late.end()
    assert late.lease is not None
    held["b"].release()
    reader.end()


@needs("no_own", "by_others")
@pytest.mark.parametrize("is_first", [True, False])
def test_interrupted_anywhere_it_leaves_the_others_to_be_woken(
    limiter: Limiter, held: dict[str, Lease], is_first: bool
) -> None:
    """At the poll, or beside it, or as it reads what is for others."""
    interrupts = Interrupts()
    points = 0
    while True:
        other = Waiter(limiter, "b")
        if is_first:
            begin = threading.Timer(0.002, other.start)
            begin.start()
            wake = threading.Timer(0.004, receiver_ring, (limiter,))
        else:
            other.start()
            until(lambda: asleep(limiter))
            wake = threading.Timer(0.002, receiver_ring, (limiter,))
        wake.start()
        with (
            contextlib.suppress(KeyboardInterrupt, AcquireConcurrencySlotTimeoutError),
            interrupts,
        ):
            limiter.acquire("a", timeout_seconds=0.008)
        wake.join()
        if is_first:
            begin.join()
        until(lambda: limiter.waiters("b"))
        held["b"].release()
        other.end()
        assert other.lease is not None
        held["b"] = other.lease
        if not interrupts.came:
            break
        points += 1
        until(lambda: limiter.waiters("a") == [])
    assert points > 20
    held["b"].release()


def receiver_ring(limiter: Limiter) -> None:
    """Wake whoever waits, as another process does; none of it is true."""
    with contextlib.suppress(AssertionError):  # nobody waits yet
        receiver = receiver_of(limiter)
        receiver.folder.wake(receiver.name, [fifo.HINT_AT_ALL])


@needs("no_own")
def test_ctrl_c_ends_a_wait_at_once(limiter: Limiter, held: dict[str, Lease]) -> None:
    """In the main thread, at the poll or not."""
    for others in ((), ("b",)):
        waiters = wait_for(limiter, *others)
        before = len(asleep(limiter))
        main = threading.main_thread().ident
        assert main is not None

        def strike(before: int = before, main: int = main) -> None:
            until(lambda: len(asleep(limiter)) > before)
            signal.pthread_kill(main, signal.SIGINT)

        striker = threading.Thread(target=strike)
        striker.start()
        with pytest.raises(KeyboardInterrupt):
            limiter.acquire("a")
        striker.join()
        assert limiter.waiters("a") == []
        for waiter in waiters:
            held["b"].release()
            waiter.end()


@needs("no_own")
@pytest.mark.parametrize("others", [0, 1])
def test_a_handler_that_waits_as_well(
    limiter: Limiter, held: dict[str, Lease], others: int, rounds: list[None]
) -> None:
    """It interrupts a wait, waits itself, and both are served; at the poll or not."""
    wait_for(limiter, *"c" * others)
    got: list[str] = []

    def handle(*_: object) -> None:
        threading.Thread(target=release_once_asleep, args=("b", 2 + others)).start()
        limiter.acquire("b")
        got.append("b")

    def release_once_asleep(name: str, count: int) -> None:
        until(lambda: len(limiter.waiters()) == count)
        # While the handler waits, what comes for the one that it interrupted is not lost.
        if name == "b":
            held["a"].release()
        held[name].release()

    def strike() -> None:
        until(lambda: rounds and len(asleep(limiter)) == 1 + others)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        striker = threading.Thread(target=strike)
        striker.start()
        limiter.acquire("a", timeout_seconds=DEADLINE_SECONDS)
        striker.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert got == ["b"]


@needs("no_own")
@pytest.mark.parametrize("others", [0, 1])
def test_a_handler_that_forks(
    limiter: Limiter, held: dict[str, Lease], others: int, rounds: list[None]
) -> None:
    """The child is told that it does not wait any more; its parent goes on."""
    wait_for(limiter, *"c" * others)
    parent = os.getpid()

    def handle(*_: object) -> None:
        child = os.fork()
        if child:
            threading.Thread(target=see_to, args=(child,)).start()

    statuses = []

    def see_to(child: int) -> None:
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        held["a"].release()

    def strike() -> None:
        until(lambda: rounds and len(asleep(limiter)) == 1 + others)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        threading.Thread(target=strike).start()
        limiter.acquire("a")
    except BaseException as error:
        if os.getpid() != parent:
            os._exit(7 if "forked" in str(error) else 8)
        raise
    finally:
        if os.getpid() != parent:
            os._exit(9)
        signal.signal(signal.SIGUSR1, before)
    assert statuses == [7]


@pytest.mark.parametrize("own", [0, 8])
@pytest.mark.parametrize("taken", ["the file", "the folder", "the FIFOs"])
def test_what_is_taken_is_noticed_by_all(
    limiter: Limiter,
    held: dict[str, Lease],
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    taken: str,
    own: int,
) -> None:
    """One looks round for all, be it at the poll or not, and all go on."""
    monkeypatch.setattr(blocking, "_OWN_FIFOS", own)
    monkeypatch.setattr(wait, "NET_SECONDS", 1e6)
    monkeypatch.setattr(blocking.Listener, "recheck_seconds", 1e6)
    waiters = wait_for(limiter, *"abcdef", *"abcdef")
    ours, folder = lifeline_of(limiter), f"{path}-run"
    if taken == "the file":
        for suffix in ("", "-wal", "-shm"):
            os.unlink(f"{path}{suffix}")
        # None of the limits is in the new one, so nobody has to wait.
    elif taken == "the folder":
        shutil.rmtree(folder)
    else:
        for fifo in ours.folder.fifos():
            if "." in fifo:
                os.unlink(f"{folder}/{fifo}")
        until(lambda: all(lifeline.seems_there(place.wake_fifo) for place in asleep(limiter)))
        until(
            lambda: {place.wake_fifo.name for place in asleep(limiter)} <= set(os.listdir(folder))
        )
    if taken == "the folder":
        until(lambda: os.path.exists(f"{folder}/{ours.name}"))
        until(
            lambda: {place.wake_fifo.name for place in asleep(limiter)} <= set(os.listdir(folder))
        )
    if taken != "the file":
        monkeypatch.setattr(lifeline.Lifeline, "wake", lambda *_: False)
        for name, lease in held.items():
            lease.release()
            waiters["abcdef".index(name)].end()
            first = waiters["abcdef".index(name)].lease
            assert first is not None
            first.release()
    for waiter in waiters:
        waiter.end()


@needs("no_own")
def test_one_looks_round_for_all(
    limiter: Limiter, held: dict[str, Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many wait, it is done once; by another one when that one leaves."""
    monkeypatch.setattr(_waiting, "PERIOD_SECONDS", 0.02)
    rounds: list[int] = []
    look_round = _waiting.look_round

    def looked(places: list[_waiting.Place]) -> None:
        rounds.append(threading.get_ident())
        look_round(places)

    monkeypatch.setattr(_waiting, "look_round", looked)
    waiters = wait_for(limiter, *"abcdef")
    for count in range(6, 0, -1):
        done = len(rounds)
        until(lambda done=done: len(rounds) > done + 3)  # type: ignore[misc]
        assert len(set(rounds[-2:])) == 1
        (keeper,) = (one for one in waiters if one.ident == rounds[-1])
        held[keeper.limit].release()
        keeper.end()
        until(lambda count=count: len(asleep(limiter)) == count - 1)  # type: ignore[misc]


@needs("no_own")
def test_a_timeout_passes_while_the_machine_sleeps(
    limiter: Limiter, held: dict[str, Lease], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No timer counts that time; whoever looks round does, for all."""
    waiters = wait_for(limiter, *"abcdef", timeout=3600.0)
    now = clock.now
    monkeypatch.setattr(clock, "now", lambda: now() + 7200.0)
    for waiter in waiters:
        waiter.end()
        assert isinstance(waiter.error, AcquireConcurrencySlotTimeoutError)


@needs("no_own")
def test_no_more_is_watched_than_is_in_the_way(limiter: Limiter, held: dict[str, Lease]) -> None:
    """Of many other processes that come and go, the lifelines that nobody waits for are closed."""
    (waiter,) = wait_for(limiter, "a")
    receiver, folder = receiver_of(limiter), lifeline_of(limiter).folder
    (place,) = asleep(limiter)
    others = [lifeline.Lifeline(folder) for _ in range(100)]
    try:
        for other in others:
            receiver.watch_for(place, [other.name])  # type: ignore[arg-type]
        until(lambda: len(receiver.watch.ends) < 60)
        assert others[-1].name in receiver.watch.ends
        others[-1].drop()
        until(lambda: others[-1].name not in receiver.watch.ends)
        held["a"].release()
        waiter.end()
        assert not receiver.is_used()
        assert receiver.watch.ends == {}
    finally:
        for other in others:
            other.drop()
            folder.discard(other.name)


@needs("no_own")
def test_nobody_is_said_to_listen_once_all_have_gone(
    limiter: Limiter, held: dict[str, Lease]
) -> None:
    """The shared FIFO stays for the next, and goes with the lifeline."""
    waiters = wait_for(limiter, *"abc")
    ours = lifeline_of(limiter)
    assert ours.is_listening()
    for name in held:
        held[name].release()
    for waiter in waiters:
        waiter.end()
        assert waiter.lease is not None
        waiter.lease.release()
    assert not ours.is_listening()
    limiter.close()
    assert [name for name in os.listdir(ours.folder.path) if name.startswith(ours.name)] == []


def test_a_duty_is_always_somebodys() -> None:
    """Threads that fall asleep and rise in a crowd never leave the others without."""

    class Sleeper:
        def __init__(self) -> None:
            self.thread = threading.get_ident()
            self.poked = threading.Event()

        def poke(self) -> None:
            self.poked.set()

    duty, had = Duty(), itertools.count()

    def sleep_and_rise() -> None:
        for _ in range(300):
            me = Sleeper()
            while duty.claim(me) is not me:
                assert me.poked.wait(DEADLINE_SECONDS), "nobody handed it on"
                me.poked.clear()
            next(had)
            duty.leave(me)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=sleep_and_rise) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert next(had) == 2400
    assert duty.holder() is None
    assert duty.asleep() == []


def test_a_duty_given_up_twice_for_a_ctrl_c_is_somebodys() -> None:
    """A thread that is interrupted anywhere as it hands the duty on does it again."""

    class Sleeper:
        thread = 0
        poked = False

        def poke(self) -> None:
            self.poked = True

    interrupts = Interrupts()
    points = 0
    while True:
        duty, first, second = Duty(), Sleeper(), Sleeper()
        duty.claim(first)
        duty.claim(second)
        with contextlib.suppress(KeyboardInterrupt), interrupts:
            duty.leave(first)
        duty.leave(first)
        assert second.poked
        assert duty.claim(second) is second
        if not interrupts.came:
            break
        points += 1
    assert points > 3


@pytest.fixture(autouse=True)
def _nobody_is_left(limiter: Limiter) -> Iterator[None]:
    """Let the threads of a test end with it."""
    yield
    limiter.upsert("a", 100)
    for name in "abcdef":
        limiter.upsert(name, 100)
    ours = limiter._database.lifeline()
    if ours is not None:
        until(lambda: not ours.keeper.asleep())
