"""Tests of a project that uses localgcl: its code is tried without waiting for any limit.

`fetch` keeps to the rate of an API and gives up after a while. The tests ask what it does with a
limit of their own, how long it would take, what happens when the time is over, and what it does
where limits do not matter.

    $ python examples/own_tests.py
    ....                                                                     [100%]
    4 passed in ...s
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter, rate_limit
from localgcl.testing import unlimited, virtual_time

# What is tested


def fetch(url: str) -> str:
    """Fetch a page, ten a minute, and give up after five minutes."""
    rate_limit("api", timeout_seconds=300, strict=True)
    return f"the page {url}"


# The tests


@pytest.fixture
def api(localgcl_limiter: Limiter) -> Limiter:
    localgcl_limiter.create("api", rate="10/min")
    return localgcl_limiter


def test_it_takes_a_slot(api: Limiter) -> None:
    fetch("/")
    assert api.read("api").active_slots == 1


def test_it_keeps_to_the_rate(api: Limiter) -> None:
    with virtual_time() as time:
        for number in range(31):
            fetch(f"/{number}")
        assert time.elapsed_seconds == pytest.approx(180, abs=1)


def test_it_gives_up(api: Limiter) -> None:
    api.pause("api")
    with virtual_time() as time, pytest.raises(AcquireConcurrencySlotTimeoutError):
        fetch("/")
    assert time.elapsed_seconds == pytest.approx(300, abs=1)


def test_what_it_returns() -> None:
    with unlimited():
        assert fetch("/about") == "the page /about"


if __name__ == "__main__":
    options = ["-q", "-c", os.devnull, "-p", "no:cacheprovider"]
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", *options, __file__]))
