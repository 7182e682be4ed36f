"""Windows and a rate in one request, taken by eight processes, as a witness outside sees it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from localgcl import Limiter

pytestmark = pytest.mark.processes

PROCESSES, GRANTS = 8, 8
# Slots and seconds: "so many in any period of so long".
WINDOWS = {"a moment": (5, 0.25), "a while": (20, 1.5)}
BURST, PER_SECOND = 10, 30.0

# Half of them wait for their slots. The others try again and again, so that each grant is known to
# lie between two moments that are close together.
_TAKE = """
import json, sys, time
from localgcl import AcquireConcurrencySlotTimeoutError, Limiter

def now():
    return time.clock_gettime(time.CLOCK_BOOTTIME)

path, waits, grants, *names = sys.argv[1:]
limiter, granted = Limiter(path), []
while len(granted) < int(grants):
    began = now()
    try:
        limiter.rate_limit(names, timeout_seconds=None if waits == "True" else 0, strict=True)
    except AcquireConcurrencySlotTimeoutError:
        time.sleep(0.002)
    else:
        granted.append((began, now()))
print(json.dumps(granted))
"""


def surely_within(grants: list[tuple[float, float]], began: float, seconds: float) -> int:
    """Return how many were granted in a period, whenever it was between their two moments."""
    return sum(began <= asked and answered < began + seconds for asked, answered in grants)


def test_never_more_than_its_slots_in_any_period(path: str) -> None:
    """Of any window, and never more than the rate allows."""
    with Limiter(path) as limiter:
        for name, (slots, seconds) in WINDOWS.items():
            limiter.create(name, slots, window_seconds=seconds)
        limiter.create("a rate", BURST, slot_decay_per_second=PER_SECOND)
    names = [*WINDOWS, "a rate"]
    command = [sys.executable, "-c", _TAKE, path]
    takers = [
        subprocess.Popen(
            [*command, str(number % 2 == 0), str(GRANTS), *names], stdout=subprocess.PIPE, text=True
        )
        for number in range(PROCESSES)
    ]
    grants = sorted(
        (asked, answered)
        for taker in takers
        for asked, answered in json.loads(taker.communicate()[0])
    )
    assert len(grants) == PROCESSES * GRANTS
    for began, _ in grants:
        for slots, seconds in WINDOWS.values():
            assert surely_within(grants, began, seconds) <= slots
        for _, ended in grants:
            if ended > began:
                most = BURST + PER_SECOND * (ended - began)
                assert surely_within(grants, began, ended - began) <= most
    # The witness could see it: more than half of a window's slots are surely within one.
    slots, seconds = WINDOWS["a while"]
    assert max(surely_within(grants, began, seconds) for began, _ in grants) > slots / 2
