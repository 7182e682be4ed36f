"""The clock: seconds since boot, the same in every process, whatever time it is told to be."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from localgcl._base import clock


def since_boot() -> float:
    """Return what the kernel says, to a hundredth of a second that it rounds down."""
    with open("/proc/uptime", encoding="ascii") as file:
        return float(file.read().split()[0]) - clock.offset


def test_it_counts_from_boot() -> None:
    """So that a wall clock that is set, or a machine that has slept, changes no decay."""
    before = since_boot()
    now = clock.now()
    assert before <= now <= since_boot() + 0.01


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (b"", 0.0),
        (b"monotonic           0         0\nboottime            0         0\n", 0.0),
        (b"monotonic          17         5\nboottime       864000 250000000\n", 864000.25),
        (b"monotonic          17         5\nboottime         -100 250000000\n", -99.75),
    ],
    ids=["an old kernel", "no namespace", "ahead", "behind"],
)
def test_how_far_a_time_namespace_is_ahead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: bytes, offset: float
) -> None:
    """As the kernel writes it: whole seconds, and nanoseconds to add; no file means none."""
    file = tmp_path / "timens_offsets"
    if text:
        file.write_bytes(text)
    opens = os.open
    monkeypatch.setattr(os, "open", lambda _, flags: opens(file, flags))
    assert clock._offset() == offset


def test_the_clock_of_the_host_is_asked_directly() -> None:
    """It is on the way of each slot: without an offset, no function of Python is around it."""
    if clock.offset:
        assert clock.now is clock._now_at_the_host
    else:
        assert isinstance(clock.now, functools.partial)
