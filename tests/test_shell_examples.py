"""The examples for cron, systemd, shells and make do what they say, as far as that can run here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.needs import lacks

pytestmark = pytest.mark.processes

EXAMPLES = Path(__file__).parent.parent / "examples"
DATABASE = "/var/lib/limits/limits.db"
UNITS = ("backup.service", "backup.timer", "localgcl.service", "localgcl.socket")
COMMAND = re.compile(r"(?:\S+\s+){5}(.+)")


@pytest.fixture
def limiter(tmp_path: Path) -> Limiter:
    """The limits that the examples are given in place of the machine's."""
    return Limiter(tmp_path / "limits.db")


@pytest.fixture
def environment(tmp_path: Path, limiter: Limiter) -> dict[str, str]:
    """As little as cron gives, with `localgcl` and stand-ins for the commands of the examples."""
    folder = tmp_path / "bin"
    folder.mkdir()
    names = ("sync-orders", "backup", "reindex", "report", "drain-queue", "send-newsletter", "curl")
    for name in names:
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/log\n')
    (folder / "localgcl").write_text(f'#!/bin/sh\nexec {sys.executable} -m localgcl "$@"\n')
    for file in folder.iterdir():
        file.chmod(0o755)
    return {
        "HOME": str(tmp_path),
        "PATH": f"{folder}:/usr/bin:/bin",
        "LOCALGCL_DB": str(tmp_path / "limits.db"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def log(tmp_path: Path) -> list[str]:
    """Return what the stand-ins were called with, and forget it."""
    file = tmp_path / "log"
    lines = file.read_text().splitlines() if file.exists() else []
    file.unlink(missing_ok=True)
    return lines


def run(
    words: list[str], environment: dict[str, str], given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        words,
        env=environment,
        cwd=environment["HOME"],
        capture_output=True,
        text=True,
        timeout=60,
        input=given,
    )


def jobs() -> list[str]:
    """Return the commands of the crontab."""
    lines = (EXAMPLES / "crontab").read_text().splitlines()
    found = []
    for line in lines:
        if not line or line.startswith("#") or re.match(r"[A-Z_]+=", line):
            continue
        command = COMMAND.fullmatch(line)
        assert command is not None, line
        assert "%" not in command[1]
        found.append(command[1])
    return found


def test_the_settings_of_the_crontab() -> None:
    """It names what cron does not give: a PATH with localgcl, and the database of all."""
    text = (EXAMPLES / "crontab").read_text()
    assert re.search(r"^PATH=/usr/local/bin:", text, re.MULTILINE)
    assert re.search(rf"^LOCALGCL_DB={DATABASE}$", text, re.MULTILINE)


@pytest.mark.parametrize("job", jobs())
def test_jobs_of_the_crontab(
    job: str, limiter: Limiter, environment: dict[str, str], tmp_path: Path
) -> None:
    """Each runs silently; where its slots are taken it gives up as its comment says."""
    limiter.create("newsletter", 1, slot_decay_per_second=0.000277)
    impatient = job.replace("--timeout 7200", "--timeout 0").replace(
        "--max-waiting 1", "--max-waiting 0"
    )
    words = shlex.split(job)
    done = run(["/bin/sh", "-c", job], environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert log(tmp_path) == [" ".join(words[words.index("--") + 1 :])]
    name = words[words.index("--") - 1]
    limiter.update(name, active_slots=limiter.read(name).limit)
    done = run(["/bin/sh", "-c", impatient], environment)
    gives_up = 0 if "-E 0" in job else 75
    assert (done.returncode, done.stdout, done.stderr) == (gives_up, "", "")
    assert log(tmp_path) == []


@pytest.mark.skipif(
    lacks("systemd-analyze"), reason="systemd-analyze is missing; `apt-get install systemd`"
)
@pytest.mark.parametrize("unit", UNITS)
def test_units_are_valid(unit: str, environment: dict[str, str], tmp_path: Path) -> None:
    """No fault is found in them by systemd, once their programs are where they are here."""
    for name in UNITS:
        text = (EXAMPLES / name).read_text().replace("/usr/local/bin", f"{tmp_path}/bin")
        (tmp_path / name).write_text(text)
    done = run(["systemd-analyze", "verify", "--man=no", f"./{unit}"], environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_unit_runs(limiter: Limiter, environment: dict[str, str], tmp_path: Path) -> None:
    """Its command line runs; no slot in time is the status that it takes for no failure."""
    text = (EXAMPLES / "backup.service").read_text()
    (line,) = re.findall(r"^ExecStart=(.+)$", text, re.MULTILINE)
    words = shlex.split(line.replace("/usr/local/bin", f"{tmp_path}/bin"))
    assert run(words, environment).returncode == 0
    assert log(tmp_path) == ["backup --full"]
    limiter.update("nightly", active_slots=2)
    words[words.index("7200")] = "0"
    assert f"SuccessExitStatus={run(words, environment).returncode}\n" in text
    assert log(tmp_path) == []


def test_fetch(limiter: Limiter, environment: dict[str, str], tmp_path: Path) -> None:
    """It fetches every address in order, at the rate, and says where it gives up."""
    limiter.create("api", 2, slot_decay_per_second=50)
    addresses = [f"https://example.org/{number}" for number in range(6)]
    script = str(EXAMPLES / "fetch.sh")
    done = run([script], environment, given="\n".join(addresses) + "\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert log(tmp_path) == [f"curl -fsS {address}" for address in addresses]
    limiter.update("api", active_slots=2, slot_decay_per_second=0.001)
    hurried = tmp_path / "fetch.sh"
    hurried.write_text(Path(script).read_text().replace("--timeout 60", "--timeout 0"))
    done = run(["sh", str(hurried)], environment, given="https://example.org/last\n")
    assert (done.returncode, done.stderr) == (75, "gave up on https://example.org/last\n")
    assert log(tmp_path) == []


def test_fetch_several_at_a_time(
    limiter: Limiter, environment: dict[str, str], tmp_path: Path
) -> None:
    """What its comment says of xargs works as it stands there."""
    limiter.create("api", 2, slot_decay_per_second=50)
    (line,) = re.findall(
        r"^# +(xargs .+) < addresses$", (EXAMPLES / "fetch.sh").read_text(), re.MULTILINE
    )
    addresses = [f"https://example.org/{number}" for number in range(12)]
    done = run(["sh", "-c", line], environment, given="\n".join(addresses))
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(log(tmp_path)) == sorted(f"curl -fsS {address}" for address in addresses)


def test_make(limiter: Limiter, environment: dict[str, str], tmp_path: Path) -> None:
    """`make -j` makes everything, and no more than two steps are at work at a time."""
    for number in range(6):
        (tmp_path / f"{number}.part").write_text(f"part {number}\n")
    slow = tmp_path / "bin" / "cp"
    slow.write_text(
        f'#!/bin/sh\necho begin >> {tmp_path}/log\nsleep 0.05\n/bin/cp "$@"\n'
        f"echo end >> {tmp_path}/log\n"
    )
    slow.chmod(0o755)
    done = run(["make", "-s", "-j", "6", "-f", str(EXAMPLES / "Makefile")], environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [(tmp_path / str(number)).read_text() for number in range(6)] == [
        f"part {number}\n" for number in range(6)
    ]
    running = [0]
    for entry in log(tmp_path):
        running.append(running[-1] + (1 if entry == "begin" else -1))
    assert (max(running) <= 2, len(running)) == (True, 13)
    assert limiter.read("link").limit == 2
