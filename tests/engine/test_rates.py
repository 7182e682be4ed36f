"""Slots by rate, and slots that are held over a limit with decay."""

from __future__ import annotations

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from localgcl._engine.decay import HORIZON_SECONDS
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.usage import in_use, is_free, level

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def test_a_rate_is_exact(limiter: Limiter, clock: Clock) -> None:
    """The limit is the burst; after it each grant comes at its very moment."""
    limiter.create("api", 5, slot_decay_per_second=20.0)
    moments = []
    for _ in range(105):
        limiter.rate_limit("api")
        moments.append(clock.now - 1_000)
    assert moments[:5] == [0.0] * 5
    assert moments[5:] == pytest.approx([n / 20 for n in range(1, 101)])


def test_a_rate_holds_in_every_window(limiter: Limiter, clock: Clock) -> None:
    """No window of length T admits more than n + r*T, in bursts and pauses."""
    limiter.create("api", 3, slot_decay_per_second=2.0)
    grants: list[tuple[float, int]] = []
    for pause in (0, 0, 0.1, 0, 3, 0, 0, 0, 0.7, 0, 10, 0, 0, 0, 0.25, 0.25):
        clock.advance(pause)
        slots = 1 + len(grants) % 2
        limiter.rate_limit("api", slots)
        grants.append((clock.now, slots))
    for index, (begin, _) in enumerate(grants):
        admitted = 0
        for end, slots in grants[index:]:
            admitted += slots
            assert admitted <= 3 + 2.0 * (end - begin) + 1e-6


def test_a_stopped_waiter_at_a_rate_delays_nobody(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Each waiter has its own moment, and whoever wakes serves all that are due."""
    limiter.create("api", 2, slot_decay_per_second=1.0, active_slots=2)
    stopped, second, third = (processes().ask("api", holds=False) for _ in range(3))
    clock.advance(2)
    second.look()
    assert second.granted
    assert stopped.is_woken
    third.look()
    assert third.waits
    clock.advance(1)
    third.look()
    assert third.granted
    stopped.look()
    assert stopped.granted


def test_a_timer_is_set_to_ones_own_moment(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Who waits behind others looks when its own slots are due; nothing is lost until then."""
    limiter.create("api", 6, slot_decay_per_second=10.0, active_slots=6)
    asks = [processes().ask("api", occupy=2, holds=False) for _ in range(3)]
    timers = [ask.outcome.look_at - clock.now for ask in asks]
    assert timers == pytest.approx([at - HORIZON_SECONDS for at in (0.2, 0.4, 0.6)])
    assert all(timer <= due for timer, due in zip(timers, [0.2, 0.4, 0.6], strict=True))


def test_a_timer_is_set_anew_when_one_ahead_leaves(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Who becomes the first of a rate's queue is told of its earlier moment."""
    limiter.create("api", 5, slot_decay_per_second=10.0, active_slots=5)
    ahead, behind = (processes().ask("api", occupy=occupy, holds=False) for occupy in (5, 1))
    ahead.withdraw()
    assert behind.is_woken
    behind.look()
    assert behind.outcome.look_at == pytest.approx(clock.now + 0.1 - HORIZON_SECONDS)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_who_waits_elsewhere_does_not_wake_itself_at_a_rate(
    limiter: Limiter, processes: Processes, clock: Clock, decay: float
) -> None:
    """A waiter whose rate has room, but whose other limit is full, sleeps until that has room."""
    limiter.create("full", 1, slot_decay_per_second=decay, active_slots=1)
    limiter.create("api", 1, slot_decay_per_second=1.0)
    holder = processes()
    held = holder.ask("api")
    waiting = processes().ask("full", "api")
    behind = processes().ask("api")
    clock.advance(0.25)
    held.release()
    for _ in range(3):
        for ask in (waiting, behind):
            if ask.is_woken:
                ask.look()
    assert not waiting.is_woken
    assert not behind.is_woken
    assert waiting.waits
    assert waiting.outcome.look_at > clock.now


def test_who_waits_elsewhere_does_not_wake_itself_at_an_inactive_rate(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """The moment of a limit that is passed by is nobody's moment."""
    limiter.create("full", 1, slot_decay_per_second=0.001, active_slots=1)
    limiter.create("asleep", 1, slot_decay_per_second=1.0, active_slots=3, active=False)
    waiting = processes().ask("full", "asleep")
    limiter.update("asleep", limit=2)
    for _ in range(3):
        if waiting.is_woken:
            waiting.look()
    assert not waiting.is_woken
    assert waiting.outcome.look_at > clock.now + 1


def test_who_comes_to_the_front_of_an_inactive_limit_sleeps_on(
    limiter: Limiter, processes: Processes
) -> None:
    """There is nothing to watch at a limit that is passed by, and nothing to be woken for."""
    limiter.create("full", 1)
    limiter.create("asleep", 1, active=False)
    limiter.acquire("full")
    asks = [processes().ask("full", "asleep") for _ in range(12)]
    for ask in asks[:6]:
        ask.withdraw()
    for _ in range(3):
        for ask in asks[6:]:
            if ask.is_woken:
                ask.look()
    assert [ask.is_woken for ask in asks[6:]] == [False] * 6
    assert all(ask.waits for ask in asks[6:])


def test_a_cancelled_grant_by_rate_is_given_back(limiter: Limiter, processes: Processes) -> None:
    """Nobody made use of it, so the next need not wait for it."""
    limiter.create("api", 1, slot_decay_per_second=0.001)
    taken = processes().ask("api", holds=False)
    assert taken.granted
    taken.abandon()
    limiter.rate_limit("api", timeout_seconds=0)


def test_a_cancelled_grant_by_rate_is_not_given_back_twice(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """What has decayed by then is free already: the rate admits nothing extra."""
    limiter.create("api", 1, slot_decay_per_second=1.0, active_slots=1)
    stopped, other = (processes().ask("api", holds=False) for _ in range(2))
    clock.advance(1)
    other.look()  # which grants to the stopped one
    clock.advance(1)
    other.look()
    assert other.granted
    stopped.abandon()
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.rate_limit("api", timeout_seconds=0)


@pytest.mark.parametrize(
    ("held", "left"), [(0, 2.0), (1, 2.0), (2, 2.0), (3, 2.0), (4, 1.0), (5, 0.0), (99, 0.0)]
)
def test_slots_come_back_once(limiter: Limiter, clock: Clock, held: float, left: float) -> None:
    """At exit only what decay has not freed is freed: max(0, k - r * held)."""
    limiter.create("api", 10, slot_decay_per_second=1.0)
    with limiter.concurrency("api", 3):
        limiter.rate_limit("api", 2)
        clock.advance(held)
        assert in_use(limiter, "api") == max(0, 5 - held)
    assert level(limiter, "api") == pytest.approx(left)


def test_a_release_just_before_the_moment_of_a_grant_gives_back_no_more(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Where a slot was granted a moment ahead, a holder's slots have decayed by that moment too."""
    limiter.create("api", 2, slot_decay_per_second=20.0)
    held = processes().ask("api")
    limiter.rate_limit("api")
    waiting = processes().ask("api", holds=False)
    clock.advance(0.03)
    waiting.look()
    assert waiting.outcome.at == pytest.approx(1_000.05)
    held.release()
    assert level(limiter, "api") == pytest.approx(2.0)


def test_a_dead_holder_gives_back_what_decay_has_not_freed(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """A process that died frees its slots of a rate as its exit would have."""
    limiter.create("api", 10, slot_decay_per_second=1.0)
    limiter.rate_limit("api", 2)
    holder = processes()
    holder.ask("api", occupy=3)
    clock.advance(1)
    holder.die()
    assert in_use(limiter, "api") == 2


def test_held_slots_of_a_rate_let_nobody_in_too_early(limiter: Limiter, clock: Clock) -> None:
    """While slots are held they decay, and others enter at the rate."""
    limiter.create("api", 1, slot_decay_per_second=0.5)
    with limiter.concurrency("api"):
        assert not is_free(limiter, "api")
        clock.advance(1.9)
        assert not is_free(limiter, "api")
        clock.advance(0.1)
        limiter.acquire("api", timeout_seconds=0)
    assert not is_free(limiter, "api")


def test_mean_occupancy(limiter: Limiter, clock: Clock) -> None:
    """It begins at 2.0 and is a running mean over the last 2 * limit releases."""
    limiter.create("database", 2)
    expected = 2.0
    for held in (4.0, 0.0, 10.0, 1.0):
        with limiter.concurrency("database"):
            clock.advance(held)
        expected += (held - expected) / 4
        assert limiter.read("database").avg_slot_occupancy_seconds == pytest.approx(expected)


def test_mean_occupancy_counts_releases_of_held_slots_only(limiter: Limiter, clock: Clock) -> None:
    """A second release, and slots taken by rate, say nothing of how long slots are held."""
    limiter.create("api", 1, slot_decay_per_second=1.0)
    limiter.rate_limit("api")
    lease = limiter.acquire("api")
    clock.advance(4)
    lease.release()
    lease.release()
    assert limiter.read("api").avg_slot_occupancy_seconds == pytest.approx(3.0)
