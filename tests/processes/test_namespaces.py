"""Processes in namespaces of their own, which share a database with those of the host."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from localgcl._base import clock
from localgcl._liveness.process import is_running, this_process
from tests.helpers.needs import takes_root
from tests.helpers.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.processes, takes_root]

AHEAD = ["unshare", "--time", "--fork", "--kill-child", "--boottime", "864000"]
BEHIND = ["unshare", "--time", "--fork", "--kill-child", "--boottime", "-1"]
EXEC = ["unshare", "--time", "--boottime", "864000"]
TIMES = pytest.mark.parametrize("within", [AHEAD, BEHIND, EXEC], ids=["ahead", "behind", "exec"])

CLOCK = "from localgcl._base import clock; print(clock.now())"

TELLS = """
from localgcl._liveness.process import this_process
print(this_process(), flush=True)
input()
"""
ASKS = """
import sys
from localgcl._liveness.process import is_running
print(is_running(sys.argv[1]))
"""
# Daemons close what they do not know.
HOLDS = """
import os, sys
from localgcl import Limiter
limiter = Limiter(sys.argv[1])
lease = limiter.acquire("db")
os.closerange(3, 256)
print("holds", flush=True)
input()
"""
MOUNTS = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'


@pytest.fixture(params=["host", "ahead", "behind", "just begun", "exec", "own boot_id"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The words before a command that have it run somewhere in the same pid namespace."""
    if request.param == "own boot_id":
        file = tmp_path / "boot_id"
        file.write_text("11111111-2222-3333-4444-555555555555\n")
        return ["unshare", "--mount", "sh", "-c", MOUNTS, str(file)]
    just_begun = [*AHEAD[:-1], str(10 - int(clock.now()))]
    places = {"ahead": AHEAD, "behind": BEHIND, "just begun": just_begun, "exec": EXEC}
    return places.get(request.param, [])


@contextmanager
def started(within: list[str], *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start Python in a namespace, with the line that it says; it ends at the end of its input."""
    run(within, "-c", "")  # skips where there is none
    with subprocess.Popen(
        [*within, sys.executable, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()


def run(within: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a namespace, to its end."""
    command = [*within, sys.executable, *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ran.stderr.startswith("unshare: ") and not os.environ.get("LOCALGCL_TEST_EVERYTHING"):
        pytest.skip(f"{ran.stderr.strip()}; in a container, give it CAP_SYS_ADMIN")
    return ran


def localgcl(within: list[str], path: Path, *words: str) -> int:
    """Run `localgcl` in a namespace, and return its status."""
    return run(within, "-m", "localgcl", "--db", str(path), *words).returncode


@TIMES
def test_one_clock_in_all_time_namespaces(within: list[str]) -> None:
    """Each of them reads the clock that the host reads."""
    before = clock.now()
    ran = run(within, "-c", CLOCK)
    assert before < float(ran.stdout) < clock.now(), ran.stderr


@TIMES
def test_decay_in_a_time_namespace(limiter: Limiter, path: Path, within: list[str]) -> None:
    """Slots decay there as they do at the host: a limit admits nobody too early."""
    limiter.create("api", 1, slot_decay_per_second=0.0003)
    limiter.rate_limit("api")
    assert localgcl(within, path, "rate-limit", "--no-wait", "api") == 75


@TIMES
def test_the_host_does_not_wait_for_a_time_to_come(
    limiter: Limiter, path: Path, within: list[str]
) -> None:
    """What was taken in a time namespace has decayed at the host when it is due."""
    limiter.create("api", 1, slot_decay_per_second=20)
    assert localgcl(within, path, "rate-limit", "api") == 0
    limiter.rate_limit("api", timeout_seconds=30)


def test_a_process_there_is_told_from_here(place: list[str]) -> None:
    """It runs while it runs, however its clock and its boot_id are shown to it."""
    with started(place, "-c", TELLS) as (process, told):
        assert is_running(told), told
        process.communicate("\n", timeout=DEADLINE_SECONDS)
        assert not is_running(told)


def test_a_process_here_is_told_from_there(place: list[str]) -> None:
    """Also one that began before the clock of the namespace did."""
    told = this_process()
    assert told is not None
    assert run(place, "-c", ASKS, told).stdout == "True\n"
    boot, space, pid, began = told.split(" ")
    other = f"{boot} {space} {pid} {int(began) - 100}"
    assert run(place, "-c", ASKS, other).stdout == "False\n"


def test_the_first_process_is_told_from_there(place: list[str]) -> None:
    """It began before the clock of nearly every time namespace."""
    told = "from localgcl._liveness import process; print(process._started(1))"
    here, there = (int(run(within, "-c", told).stdout) for within in ([], place))
    assert abs(here - there) <= 1


def test_a_daemon_there_keeps_its_slot(limiter: Limiter, path: Path, place: list[str]) -> None:
    """It has closed its lifeline, and nobody is admitted beside it until it ends."""
    limiter.create("db", 1)
    with started(place, "-c", HOLDS, str(path)) as (process, said):
        assert said == "holds"
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            limiter.acquire("db", timeout_seconds=0)
        process.communicate("\n", timeout=DEADLINE_SECONDS)
    limiter.acquire("db", timeout_seconds=DEADLINE_SECONDS).release()
