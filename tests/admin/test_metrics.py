"""The counters: what each event adds, and how they are told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    AsyncLimiter,
    ConcurrencySlotAcquisitionError,
    Limiter,
)
from localgcl._admin import metrics
from tests.helpers.played import Clock, Process
from tests.helpers.programs import Invoke

MakeProcess = Callable[[], Process]


def samples(text: str) -> dict[tuple[str, str], float]:
    """Return the value of each metric and limit, read as Prometheus does."""
    return {
        (sample.name.removeprefix("localgcl_"), sample.labels["limit"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def told(limiter: Limiter, *names: str, limit: str = "db") -> list[float]:
    """Return metrics of a limit."""
    rows = metrics.counters().run(limiter._database)
    found = samples(metrics.exposition(rows))
    return [found[name, limit] for name in names]


def test_grants_and_holds(clock: Clock, limiter: Limiter) -> None:
    """Each lease counts once, however many slots it has, with how long it was held."""
    limiter.create("db", 5)
    for occupy, seconds in ((1, 4), (3, 2)):
        lease = limiter.acquire("db", occupy=occupy)
        clock.advance(seconds)
        lease.release()
    assert told(limiter, "grants_total", "hold_seconds_total", "hold_seconds_max") == [2, 6, 4]
    assert told(limiter, "wait_seconds_total", "wait_seconds_max") == [0, 0]


@pytest.mark.parametrize("holds", [True, False])
def test_waits(clock: Clock, limiter: Limiter, processes: MakeProcess, holds: bool) -> None:
    """What waited for its grant is counted when it is granted, a rate's too."""
    limiter.create("db", 1, slot_decay_per_second=0.0 if holds else 0.1)
    ahead = processes().ask("db", holds=holds)
    waits = [processes().ask("db", holds=holds) for _ in range(2)]
    for ask in waits:
        clock.advance(10)
        if holds:
            ahead.release()
        ask.look()
        assert ask.granted
        ahead = ask
    assert told(limiter, "grants_total", "wait_seconds_total", "wait_seconds_max") == [
        3,
        pytest.approx(30, abs=0.1),
        pytest.approx(20, abs=0.1),
    ]


def test_a_rate_counts_its_grants(clock: Clock, limiter: Limiter) -> None:
    """With and without a lease, a limit with decay counts each grant once."""
    limiter.create("db", 5, slot_decay_per_second=1)
    limiter.rate_limit("db")
    limiter.acquire("db").release()
    assert told(limiter, "grants_total") == [2]


def test_refusals(clock: Clock, limiter: Limiter, processes: MakeProcess) -> None:
    """What no wait would serve is counted at the limit that is the reason, waiting or not."""
    limiter.create("db", 2)
    limiter.create("other", 5)
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire(["db", "other"], occupy=3)
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.rate_limit("db")
    processes().ask("db", occupy=2)
    waiting = processes().ask("db", occupy=2)
    limiter.update("db", limit=1)
    waiting.look()
    assert told(limiter, "refusals_total", "timeouts_total") == [3, 0]
    assert told(limiter, "refusals_total", limit="other") == [0]


def test_timeouts(clock: Clock, limiter: Limiter, path: str, processes: MakeProcess) -> None:
    """Tries, waits that end without a grant, and cancelled ones are given up; grants are not."""
    limiter.create("db", 1)
    processes().ask("db")
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("db", timeout_seconds=0)
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("db", timeout_seconds=3)
    with pytest.raises(ConcurrencySlotAcquisitionError):
        limiter.acquire("db", max_retries=1)
    processes().ask("db").abandon()
    assert told(limiter, "timeouts_total", "waiting", "grants_total") == [4, 0, 1]


def test_a_cancelled_task_has_given_up(limiter: Limiter, path: str) -> None:
    """A task's own timeout counts like any other."""
    limiter.create("db", 1)
    limiter.acquire("db")

    async def main() -> None:
        async with AsyncLimiter(path) as waiting:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await waiting.acquire("db")

    asyncio.run(main())
    assert told(limiter, "timeouts_total") == [1]


def test_what_the_dead_held_is_reclaimed(
    clock: Clock, limiter: Limiter, processes: MakeProcess
) -> None:
    """A lease of a process that was killed counts once; one that ends in peace does not."""
    limiter.create("db", 5)
    killed, ended = processes(), processes()
    killed.ask("db", occupy=2)
    killed.ask("db")
    ended.ask("db")
    killed.die()
    ended.sign_out()
    assert told(limiter, "reclaimed_total", "slots_in_use") == [2, 0]


def test_what_is_set_by_hand_is_no_grant(clock: Clock, limiter: Limiter) -> None:
    """Slots without a holder are in use, and nobody was granted them."""
    limiter.create("db", 5, active_slots=2)
    assert told(limiter, "slots", "slots_in_use", "active", "grants_total") == [5, 2, 1, 0]


def test_decay_is_in_what_is_in_use(clock: Clock, limiter: Limiter) -> None:
    """As `ls` shows it: rounded up, as of now."""
    limiter.create("db", 5, slot_decay_per_second=1, active_slots=4)
    clock.advance(1.5)
    assert told(limiter, "slots_in_use") == [3]


def test_a_hostile_name_is_escaped(limiter: Limiter, invoke: Invoke) -> None:
    """A name that Prometheus' format has to escape comes back as it was."""
    name = 'a"b\\n} 1 # HELP'
    limiter.create(name, 3)
    assert samples(invoke("metrics").output)["slots", name] == 3


def test_the_command_prints_them(limiter: Limiter, invoke: Invoke) -> None:
    """Help and type stand before the samples of each metric, one a limit."""
    for name in ("a", "b"):
        limiter.create(name, 2)
    limiter.acquire("a").release()
    done = invoke("metrics")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    at = lines.index("# HELP localgcl_grants_total Requests that got slots.")
    assert lines[at + 1 : at + 4] == [
        "# TYPE localgcl_grants_total counter",
        'localgcl_grants_total{limit="a"} 1.0',
        'localgcl_grants_total{limit="b"} 0.0',
    ]
    never = 3  # `b` was never granted, and nobody has given up: there is no time to tell
    assert len(lines) == len(metrics.METRICS) * 4 - never


def test_without_a_database_it_prints_nothing(invoke: Invoke, path: str) -> None:
    """Nothing is there to count, and nothing is made for it."""
    done = invoke("metrics")
    assert (done.exit_code, done.output) == (0, "")
    assert not os.path.exists(os.path.dirname(path))
