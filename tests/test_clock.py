"""The clock: seconds since boot, the same in every process, whatever time it is told to be."""

from __future__ import annotations

from localgcl import _clock


def since_boot() -> float:
    """Return what the kernel says, to a hundredth of a second that it rounds down."""
    with open("/proc/uptime", encoding="ascii") as file:
        return float(file.read().split()[0])


def test_it_counts_from_boot() -> None:
    """So that a wall clock that is set, or a machine that has slept, changes no decay."""
    before = since_boot()
    now = _clock.now()
    assert before <= now <= since_boot() + 0.01
