"""The arithmetic of levels: what every limit with decay rests on."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localgcl._engine import decay

# A process counts from boot in seconds, a limit in slots; what a machine can meet, and more.
TIMES = st.floats(0, 1e6)
GAPS = st.floats(0, 1e5)
RATES = st.floats(1e-3, 1e3)
LIMITS = st.integers(1, 10_000)
LEVELS = st.floats(0, 20_000)
# Moments are floats too: at a million seconds and a thousand slots a second, their last bit is
# so many slots.
NOTHING = 1e-6


@given(level=LEVELS, then=TIMES, rate=RATES, gap=GAPS)
def test_level_sinks_and_is_never_negative(
    level: float, then: float, rate: float, gap: float
) -> None:
    """A level only sinks, at the rate, and ends at zero."""
    later = decay.level_at(level, then, rate, then + gap)
    assert 0 <= later <= level
    # At so late a moment the last bit of a float is some tenths of a nanosecond.
    assert later == pytest.approx(max(0.0, level - rate * gap), rel=1e-12, abs=rate * 1e-9)


@given(level=LEVELS, then=TIMES, rate=RATES, gap=GAPS)
def test_level_before_its_moment_counts_as_it_stands(
    level: float, then: float, rate: float, gap: float
) -> None:
    """Slots granted for a moment that is about to come are in use already."""
    assert decay.level_at(level, then, rate, then - gap) == level


@given(level=LEVELS, then=TIMES, rate=RATES, first=GAPS, second=GAPS)
def test_level_does_not_depend_on_who_looked_in_between(
    level: float, then: float, rate: float, first: float, second: float
) -> None:
    """Storing a level on the way changes nothing of what it is later."""
    middle, end = then + first, then + first + second
    at_once = decay.level_at(level, then, rate, end)
    in_steps = decay.level_at(decay.level_at(level, then, rate, middle), middle, rate, end)
    assert in_steps == pytest.approx(at_once, abs=NOTHING)


@given(
    level=LEVELS,
    then=TIMES,
    rate=RATES,
    limit=LIMITS,
    share=st.floats(0, 1),
    gap=st.floats(-1, 1e3),
)
def test_moment_is_the_first_at_which_the_slots_fit(
    level: float, then: float, rate: float, limit: int, share: float, gap: float
) -> None:
    """At the moment the slots fit, and at no moment before it, unless all fits at once."""
    slots, now = max(1, round(limit * share)), max(0.0, then + gap)
    at = decay.moment(level, then, rate, limit, slots, now)

    def excess(moment: float) -> float:
        return decay.level_at(level, then, rate, moment) + slots - limit

    assert at >= now
    if at < then:
        assert at == now
        assert level + rate * (then - now) + slots - limit <= NOTHING
        return
    assert excess(at) <= NOTHING
    if at > max(now, then):
        earlier = at - max(2 * NOTHING / rate, math.ulp(at))
        assert earlier < max(now, then) or excess(earlier) > 0


def test_moment_is_exact() -> None:
    """The wait for slots is what is too much, divided by the rate."""
    assert decay.moment(level=5.0, then=100.0, rate=2.0, limit=5, slots=3, now=100.0) == 101.5
    assert decay.moment(level=5.0, then=100.0, rate=0.25, limit=5, slots=1, now=101.0) == 104.0
    assert decay.moment(level=2.0, then=100.0, rate=2.0, limit=5, slots=3, now=100.0) == 100.0


def test_moment_forgives_float_dust() -> None:
    """Sums of tenths are off by their last bits, and nobody waits for that."""
    level = sum([0.1] * 10) + 1e-12
    assert decay.moment(level, 100.0, 1.0, 2, 1, 100.0) == 100.0


@given(
    limit=st.integers(1, 50),
    rate=st.floats(0.01, 100),
    began=TIMES,
    asked=st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50)), min_size=1, max_size=40),
)
def test_no_window_admits_more_than_n_plus_r_times_t(
    limit: int, rate: float, began: float, asked: list[tuple[float, int]]
) -> None:
    """Any sequence of grants at their moments stays under n + r*T in every window."""
    level, then, now = 0.0, began, began
    grants: list[tuple[float, int]] = []
    for pause, slots in asked:
        now += pause
        taken = min(slots, limit)
        at = decay.moment(level, then, rate, limit, taken, now)
        level, then = decay.level_at(level, then, rate, at) + taken, at
        grants.append((at, taken))
    for first, (begin, _) in enumerate(grants):
        admitted = 0
        for end, taken in grants[first:]:
            admitted += taken
            assert admitted <= limit + rate * (end - begin) + NOTHING


@given(limit=st.integers(1, 20), rate=st.floats(0.1, 100), count=st.integers(1, 100))
def test_who_keeps_asking_loses_nothing_of_the_rate(limit: int, rate: float, count: int) -> None:
    """A full limit admits the next slots at exactly their share of the rate."""
    level, then = float(limit), 0.0
    for _ in range(count):
        at = decay.moment(level, then, rate, limit, 1, then)
        level, then = decay.level_at(level, then, rate, at) + 1, at
    assert then == pytest.approx(count / rate, rel=1e-6)


@given(slots=st.integers(1, 1000), rate=st.floats(0, 100), held=st.floats(-1, 1000))
def test_given_back_is_what_decay_has_not_freed(slots: int, rate: float, held: float) -> None:
    """A holder's slots come back once: by decay, or at its exit."""
    back = decay.given_back(slots, rate, held)
    assert 0 <= back <= slots
    assert back == pytest.approx(max(0.0, slots - rate * max(0.0, held)))


@pytest.mark.parametrize(
    ("level", "slots"),
    [(0.0, 0), (1e-12, 0), (0.001, 1), (1.0, 1), (1.0 + 1e-12, 1), (1.2, 2), (2.0 - 1e-12, 2)],
)
def test_whole_is_rounded_up_but_for_dust(level: float, slots: int) -> None:
    """A slot that is still decaying is in use, and float dust is not."""
    assert decay.whole(level) == slots
