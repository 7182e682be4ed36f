"""Processes that are stopped at the head of a rate's queue: they cost their own slots, no more.

Those who are stopped here are those who never look. The others look when their sleep has it.
"""

from __future__ import annotations

import math

import pytest

from localgcl import Limiter
from localgcl._drivers import blocking
from localgcl._engine import request, wait, watchers
from localgcl._engine.decay import HORIZON_SECONDS
from tests.helpers.played import Ask, Clock, Process, Processes


@pytest.fixture(autouse=True)
def _time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every test move its time itself, with no safety net."""
    monkeypatch.setattr(wait, "NET_SECONDS", math.inf)
    monkeypatch.setattr(blocking.Listener, "recheck_seconds", math.inf)


def run_on(clock: Clock, asks: list[Ask], seconds: float) -> list[float]:
    """Let time pass, and those who run look as their sleep has it; return when each was granted."""
    ends, granted = clock.now + seconds, {}
    while True:
        for ask in asks:
            while ask.waits and (ask.is_woken or ask.reported_dead):
                ask.look()
        granted.update({ask: ask.outcome.at for ask in asks if ask.granted and ask not in granted})
        waiting = [ask for ask in asks if ask.waits]
        following = min((ask.outcome.look_at for ask in waiting), default=math.inf)
        if following > ends:
            clock.advance(ends - clock.now)
            return [granted[ask] for ask in asks if ask in granted]
        clock.advance(max(0.0, following - clock.now))
        for ask in waiting:
            if ask.outcome.look_at <= clock.now:
                ask.look()


@pytest.mark.parametrize(
    ("limit", "occupy"), [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (5, 1), (5, 5)]
)
@pytest.mark.parametrize("rate", [0.1, 1.0, 30.0, 200.0])
@pytest.mark.parametrize("stopped", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 5])
def test_stopped_processes_at_a_rate_cost_their_own_slots(
    limiter: Limiter,
    processes: Processes,
    clock: Clock,
    limit: int,
    occupy: int,
    rate: float,
    stopped: int,
    threads: int,
) -> None:
    """Those behind are granted at the very moments at which they would be if the others ran."""
    limiter.create("api", limit, slot_decay_per_second=rate, active_slots=limit)
    begins = clock.now

    def ask(process: Process) -> Ask:
        return process.ask("api", occupy=occupy, holds=False)

    def ask_in(number: int) -> list[Ask]:
        made = [processes() for _ in range(number)]
        return [ask(process) for process in made for _ in range(threads)]

    asleep, awake = ask_in(stopped), ask_in(3)
    places = range(len(asleep) + 1, len(asleep) + len(awake) + 1)
    moments = [begins + place * occupy / rate for place in places]
    found = run_on(clock, awake, moments[-1] - begins)
    assert found == pytest.approx(moments, abs=1e-6)
    for one in asleep:
        assert one.granted or isinstance(one.look(), request.Granted)


def test_a_stopped_process_gives_up_its_place(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """Who leaves makes all that comes earlier, for the timers of those that run, too."""
    limiter.create("api", 1, slot_decay_per_second=0.5, active_slots=1)
    begins = clock.now
    asks = [processes().ask("api", holds=False) for _ in range(6)]
    asks[1].withdraw()
    asks[3].withdraw()
    awake = asks[2::2] + asks[5:]
    found = run_on(clock, awake, 8.0)
    assert found == pytest.approx([begins + at for at in (4, 6, 8)], abs=1e-6)


@pytest.mark.parametrize("how", ["given up", "granted"])
def test_who_comes_to_stand_in_is_told(
    limiter: Limiter, processes: Processes, clock: Clock, how: str
) -> None:
    """Whoever was too far back at first looks at the head's moment once it is among the next."""
    limiter.create("api", 1, slot_decay_per_second=0.5, active_slots=1)
    begins = clock.now
    asks = [processes().ask("api", holds=False) for _ in range(watchers.DEPUTIES + 2)]
    last = asks[-1]
    if how == "granted":
        run_on(clock, asks[:1], 2.0)
    else:
        asks.pop(1).withdraw()
    assert last.is_woken
    head = asks[0] if how == "given up" else asks[1]
    last.look()
    assert head.waits
    due = begins + (2 if how == "given up" else 4)
    assert due - HORIZON_SECONDS < last.outcome.look_at < due


def test_a_rate_is_raised_behind_a_stopped_process(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """The timers of a change are for all, not for the head alone."""
    limiter.create("api", 1, slot_decay_per_second=0.1, active_slots=1)
    asks = [processes().ask("api", holds=False) for _ in range(3)]
    limiter.update("api", slot_decay_per_second=1.0)
    found = run_on(clock, asks[1:], 3.0)
    assert found == pytest.approx([clock.now - 1, clock.now], abs=1e-6)


def test_a_stopped_process_that_waits_at_several_rates(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """It waits for the latest, and those behind it at the others do not wait for it."""
    limiter.create("quick", 1, slot_decay_per_second=1.0, active_slots=1)
    limiter.create("slow", 1, slot_decay_per_second=0.1, active_slots=1)
    limiter.create("plain", 2)
    begins = clock.now
    processes().ask("quick", "slow", "plain")
    quick = processes().ask("quick", holds=False)
    plain = processes().ask("plain")
    slow = processes().ask("slow", holds=False)
    found = run_on(clock, [quick, plain, slow], 22.0)
    assert found == pytest.approx([begins + 1, begins, begins + 20], abs=0.03)


def test_a_blocked_loop_beside_another(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """One thread of a process may be stuck while another runs."""
    limiter.create("api", 1, slot_decay_per_second=0.5, active_slots=1)
    begins, process = clock.now, processes()
    _, *awake = (process.ask("api", holds=False) for _ in range(3))
    found = run_on(clock, awake, 6.0)
    assert found == pytest.approx([begins + 4, begins + 6], abs=1e-6)


def test_deputies_are_few(limiter: Limiter, processes: Processes) -> None:
    """A long queue does not wake for its head, however slow the rate is."""
    limiter.create("api", 1, slot_decay_per_second=0.01, active_slots=1)
    asks = [processes().ask("api", holds=False) for _ in range(10)]
    awake = [ask.outcome.look_at - 1000.0 < 101 for ask in asks]
    assert awake == [place <= watchers.DEPUTIES for place in range(10)]
