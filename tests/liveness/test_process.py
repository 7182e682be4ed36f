"""By what a process is known that keeps no lifeline open: its pid alone does not tell."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from localgcl._base import clock
from localgcl._liveness.process import end_of, is_running, this_process

SAYS = """
from localgcl._liveness.process import this_process
print(this_process(), flush=True)
input()
"""


def told() -> list[str]:
    """Return what tells this process: boot, pid namespace, pid, and when it began."""
    process = this_process()
    assert process is not None
    return process.split(" ")


def test_this_process_runs() -> None:
    """It is known by all of what is told of it."""
    assert is_running(" ".join(told()))
    descriptor = end_of(" ".join(told()))
    if descriptor is not None:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("word", "other"),
    [
        (0, "another-boot"),
        (0, "another-boot@5"),
        (0, "another-boot@x"),
        (1, "1"),
        (2, "x"),
        (3, "1"),
        (3, "x"),
    ],
    ids=[
        "another boot",
        "another boot, at another time",
        "another boot, at no time",
        "another namespace",
        "no pid",
        "a pid that was given again",
        "no start",
    ],
)
def test_another_one_of_the_same_pid(word: int, other: str) -> None:
    """What is told of a process fits no other in a single word."""
    words = told()
    assert words[word] != other
    words[word] = other
    assert not is_running(" ".join(words))


def test_the_end_of_another_one_of_the_same_pid() -> None:
    """A process that has the pid now is not watched in its place."""
    boot, space, pid, _ = told()
    with pytest.raises(ProcessLookupError):
        end_of(f"{boot} {space} {pid} 1")


def test_a_process_that_ends() -> None:
    """It runs until it has ended, and not until its parent has asked how it ended."""
    with subprocess.Popen(
        [sys.executable, "-c", SAYS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        process = child.stdout.readline().strip()
        assert is_running(process)
        end = end_of(process)
        try:
            child.kill()
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert not is_running(process)
            if end is not None:
                assert select.select([end], [], [], 10)[0] == [end]
        finally:
            if end is not None:
                os.close(end)
    with pytest.raises(ProcessLookupError):
        end_of(process)


def test_the_wall_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked only where the boot_id is another's; where it is the same, that is enough."""
    process = " ".join(told())
    wall = clock.wall
    monkeypatch.setattr(clock, "wall", lambda: wall() + 3600)
    assert is_running(process)


@pytest.mark.parametrize(("seconds", "same"), [(0, True), (-1, True), (1, True), (10, False)])
def test_a_boot_id_of_its_own(monkeypatch: pytest.MonkeyPatch, seconds: int, same: bool) -> None:
    """A container may be shown another; then the machine has started at the same wall time."""
    process = " ".join(told())
    wall = clock.wall
    monkeypatch.setattr(clock, "boot_id", lambda: "a container's")
    monkeypatch.setattr(clock, "wall", lambda: wall() + seconds)
    assert is_running(process) == same
