"""The command line: what is typed, and what comes back."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import localgcl as package
from localgcl import Limiter
from localgcl.cli import localgcl
from tests.helpers.database import note_transactions, tables
from tests.helpers.played import Clock, Processes
from tests.helpers.programs import Invoke

COMMANDS = localgcl.list_commands(click.Context(localgcl))
SCRIPT = Path(sys.executable).with_name("localgcl")

LIMIT_KEYS = [
    *("id", "created", "updated", "name", "active", "limit", "active_slots"),
    *("available_slots", "next_slot_seconds", "slot_decay_per_second", "rate", "window_seconds"),
    *("paused_until", "avg_slot_occupancy_seconds", "waiting", "template", "keys"),
    *("last_granted", "last_timed_out"),
]
# What follows from other keys, and changes with them.
DERIVED = {"available_slots": 0, "next_slot_seconds": 0.0, "rate": None}
HOLDER_KEYS = [
    *("lease", "limit", "slots", "pid", "user", "command", "holder", "since", "held_seconds"),
]
WAITER_KEYS = [
    *("position", "limit", "slots", "pid", "user", "command", "holder", "since"),
    *("waited_seconds", "expected_seconds"),
]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def done(result: Result) -> str:
    """Check that a command succeeded without a word on standard error; return what it printed."""
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return result.stdout


def failed(result: Result) -> str:
    """Check that a command failed without a result; return what stands on standard error."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


def printed(result: Result) -> Any:
    """Check that a command succeeded, and return the JSON it printed."""
    return json.loads(done(result))


# Help


def command_at(name: str) -> click.Command:
    """Return a command of the command line."""
    command = localgcl.get_command(click.Context(localgcl), name)
    assert command is not None
    return command


@pytest.mark.parametrize("switch", ["-h", "--help"])
def test_help(invoke: Invoke, switch: str) -> None:
    """The group's help lists every command with what it does."""
    text = done(invoke(switch))
    assert text.startswith("Usage: localgcl ")
    assert "Example:" in text
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", text, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(invoke: Invoke, name: str, path: str) -> None:
    """Each command says what it does and shows how it is typed, under -h and --help alike."""
    text = done(invoke(name, "--help"))
    assert text == done(invoke(name, "-h"))
    assert text.startswith(f"Usage: localgcl {name} ")
    assert re.search(rf"^ +Example:\n +localgcl {name}\b", text, re.MULTILINE)
    for option in command_at(name).params:
        if isinstance(option, click.Option):
            assert option.help, option.name
    assert not os.path.exists(path)


def test_version(invoke: Invoke) -> None:
    """The version is the package's."""
    assert package.__version__ in done(invoke("--version"))


def test_the_documented_commands_are_there() -> None:
    """Nothing that is documented is missing."""
    expected = {"create", "inspect", "ls", "update", "enable", "disable", "delete", "reset"}
    assert expected | {"ps", "release"} <= set(COMMANDS)


# create


def test_create(invoke: Invoke, limiter: Limiter) -> None:
    """A limit is created as the options say."""
    assert "database" in done(invoke("create", "database", "--limit", "5"))
    limit = limiter.read("database")
    assert (limit.limit, limit.active, limit.active_slots) == (5, True, 0)
    assert limit.slot_decay_per_second == 0


@pytest.mark.usefixtures("clock")
def test_create_with_everything(invoke: Invoke, limiter: Limiter) -> None:
    """Each setting has an option."""
    options = ["-l", "10", "--slot-decay-per-second", "2.5", "--disable", "--active-slots", "4"]
    done(invoke("create", "api", *options))
    limit = limiter.read("api")
    assert (limit.limit, limit.active, limit.active_slots) == (10, False, 4)
    assert limit.slot_decay_per_second == 2.5


def test_create_a_known_name(invoke: Invoke, limiter: Limiter) -> None:
    """A known name is an error that names it and what to do instead."""
    limiter.create("database", 5)
    error = failed(invoke("create", "database", "--limit", "7"))
    assert error.startswith("Error: ")
    assert "'database'" in error
    assert limiter.read("database").limit == 5


# ls and inspect


def test_ls(invoke: Invoke, limiter: Limiter, processes: Processes) -> None:
    """Every limit has its line: limit, slots in use, waiting, decay, active."""
    limiter.create("database", 5, active_slots=2)
    limiter.create("api", 10, slot_decay_per_second=0.5, active=False)
    limiter.create("数据库", 1)
    limiter.acquire("数据库")
    processes().ask("数据库")
    _, *lines = done(invoke("ls")).splitlines()
    cells = [re.split(r"\s+", line) for line in lines]
    assert [line[:3] for line in cells] == [
        ["api", "10", "0"],
        ["database", "5", "2"],
        ["数据库", "1", "1"],
    ]
    assert [line[4] for line in cells] == ["0", "0", "1"]
    assert [line[5] for line in cells] == ["30/min", "-", "-"]
    assert [line[6] for line in cells] == ["no", "yes", "yes"]


def test_ls_as_json(invoke: Invoke, limiter: Limiter, processes: Processes) -> None:
    """A list of limits by name, each with the documented keys."""
    made = limiter.create("database", 5, active_slots=2)
    limiter.create("api", 1, slot_decay_per_second=0.001, active_slots=1)
    processes().ask("api")
    api, database = printed(invoke("ls", "-o", "json"))
    assert list(database) == LIMIT_KEYS
    assert database | {"created": None, "updated": None} == {
        "id": made.id,
        "created": None,
        "updated": None,
        "name": "database",
        "active": True,
        "limit": 5,
        "active_slots": 2,
        "available_slots": 3,
        "next_slot_seconds": 0.0,
        "slot_decay_per_second": 0.0,
        "rate": None,
        "window_seconds": 0.0,
        "paused_until": None,
        "avg_slot_occupancy_seconds": 2.0,
        "waiting": 0,
        "template": None,
        "keys": None,
        "last_granted": None,
        "last_timed_out": None,
    }
    assert MOMENT.fullmatch(database["created"])
    assert MOMENT.fullmatch(database["updated"])
    assert (api["name"], api["active_slots"], api["waiting"]) == ("api", 1, 1)
    assert isinstance(api["active_slots"], int)


@pytest.mark.parametrize("output", [[], ["-o", "json"], ["--output", "json"]], ids=str)
@pytest.mark.parametrize("command", ["ls", "ps"])
def test_nothing_to_show(invoke: Invoke, path: str, command: str, output: list[str]) -> None:
    """Without a database there is nothing to show, that is no error, and none is made."""
    text = done(invoke(command, *output))
    if output:
        assert json.loads(text) == ([] if command == "ls" else {"holders": [], "waiters": []})
    assert not os.path.exists(os.path.dirname(path))


def test_inspect(invoke: Invoke, limiter: Limiter, processes: Processes) -> None:
    """One limit, with who holds and who waits."""
    limiter.create("database", 1)
    lease = limiter.acquire("database", holder="nightly")
    processes().ask("database")
    text = done(invoke("inspect", "database"))
    assert "1 of 1" in text
    assert lease.id in text
    assert "nightly" in text
    assert "HOLDS" in text
    assert "WAITS FOR" in text


def test_inspect_as_json(
    invoke: Invoke, limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """One object: the limit's keys, its holders and its waiters."""
    limiter.create("database", 1)
    limiter.create("other", 1)
    lease = limiter.acquire(["database", "other"], holder={"job": "nightly"})
    waiting = processes().ask("database")
    clock.advance(4.5)
    seen = printed(invoke("inspect", "database", "-o", "json"))
    assert list(seen) == [*LIMIT_KEYS, "holders", "waiters"]
    assert (seen["name"], seen["active_slots"], seen["waiting"]) == ("database", 1, 1)
    (holder,) = seen["holders"]
    assert list(holder) == HOLDER_KEYS
    assert (holder["lease"], holder["limit"], holder["slots"]) == (lease.id, "database", 1)
    assert (holder["pid"], holder["holder"]) == (os.getpid(), '{"job":"nightly"}')
    assert holder["held_seconds"] == 4.5
    assert MOMENT.fullmatch(holder["since"])
    (waiter,) = seen["waiters"]
    assert list(waiter) == WAITER_KEYS
    assert (waiter["position"], waiter["limit"], waiter["slots"]) == (1, "database", 1)
    assert (waiter["holder"], waiter["waited_seconds"]) == (None, 4.5)
    assert MOMENT.fullmatch(waiter["since"])
    assert waiting.waits


@pytest.mark.parametrize(
    "words", [["inspect", "database"], ["ps"], ["ps", "database"], ["top"], ["ls"], ["export"]],
    ids=" ".join,
)  # fmt: skip
def test_what_is_shown_is_of_one_moment(
    invoke: Invoke, limiter: Limiter, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """One transaction reads it all, so that slots in use and holders agree."""
    limiter.create("database", 1)
    limiter.acquire("database")
    read = note_transactions(monkeypatch, limiter._database.path)
    done(invoke(*words))
    assert len(read) == 1


# update, enable, disable


@pytest.mark.parametrize(
    ("options", "field", "value"),
    [
        (["--limit", "7"], "limit", 7),
        (["-l", "0"], "limit", 0),
        (["--slot-decay-per-second", "0.5"], "slot_decay_per_second", 0.5),
        (["--rate", "30/min"], "slot_decay_per_second", 0.5),
        (["--window", "1.5h"], "window_seconds", 5400.0),
        (["--name", "database"], "name", "database"),
        (["--active-slots", "3"], "active_slots", 3),
        (["--disable"], "active", False),
        (["--enable"], "active", True),
    ],
    ids=str,
)
def test_update(
    invoke: Invoke, limiter: Limiter, options: list[str], field: str, value: float
) -> None:
    """Each option changes its part, and nothing else."""
    before = limiter.create("database", 5)
    assert "database" in done(invoke("update", "database", *options))
    after = limiter.read("database")
    changed = before.model_copy(update={field: value, "updated": after.updated})
    assert after.model_copy(update=DERIVED) == changed.model_copy(update=DERIVED)


def test_update_of_several(invoke: Invoke, limiter: Limiter) -> None:
    """Several changes are one."""
    limiter.create("database", 5, active=False)
    done(invoke("update", "database", "--limit", "9", "--enable", "--active-slots", "2"))
    limit = limiter.read("database")
    assert (limit.limit, limit.active, limit.active_slots) == (9, True, 2)


def test_enable_and_disable(invoke: Invoke, limiter: Limiter) -> None:
    """A switch that stands there already is an error that says so."""
    limiter.create("database", 5)
    assert "already" in failed(invoke("enable", "database"))
    done(invoke("disable", "database"))
    assert limiter.read("database").active is False
    assert "already" in failed(invoke("disable", "database"))
    done(invoke("enable", "database"))
    assert limiter.read("database").active is True


# delete and reset

QUESTIONS = {
    "delete": "Are you sure you want to delete global concurrency limit 'database'? [y/N]: ",
    "reset": "Are you sure you want to reset global concurrency limit 'database'? [y/N]: ",
}


@pytest.fixture
def full(limiter: Limiter) -> Limiter:
    """A limiter of a database whose one limit is held."""
    limiter.create("database", 1)
    limiter.acquire("database")
    return limiter


def is_done(limiter: Limiter) -> bool:
    """Whether the limit was deleted or reset."""
    return [one.active_slots for one in limiter.read_all()] in ([], [0])


@pytest.mark.parametrize("switch", ["-y", "--yes"])
@pytest.mark.parametrize("command", ["delete", "reset"])
def test_without_a_question(invoke: Invoke, full: Limiter, command: str, switch: str) -> None:
    """Told yes beforehand, nothing is asked."""
    text = done(invoke(command, "database", switch, answer="n\n"))
    assert "'database'" in text
    assert is_done(full)


@pytest.mark.parametrize("answer", ["y\n", "Y\n", "yes\n", "YES\n", " y \n", "y"])
@pytest.mark.parametrize("command", ["delete", "reset"])
def test_a_question_answered_with_yes(
    invoke: Invoke, full: Limiter, command: str, answer: str
) -> None:
    """The question stands on standard error, the answer is read without a terminal too."""
    result = invoke(command, "database", answer=answer)
    assert result.exit_code == 0
    assert result.stderr.startswith(QUESTIONS[command])
    assert result.stderr[len(QUESTIONS[command]) :].strip() == ""
    assert "'database'" in result.stdout
    assert is_done(full)


@pytest.mark.parametrize("answer", ["n\n", "no\n", "\n", "", "yesss\n", "ja\n", "n\ny\n", "1\n"])
@pytest.mark.parametrize("command", ["delete", "reset"])
def test_any_other_answer(invoke: Invoke, full: Limiter, command: str, answer: str) -> None:
    """Any answer but yes, or none, changes nothing and is an error."""
    before = tables(full)
    error = failed(invoke(command, "database", answer=answer))
    assert error.startswith(QUESTIONS[command])
    assert error.splitlines()[-1].startswith("Error: ")
    assert error.count("Error: ") == 1
    assert tables(full) == before


def test_delete_says_so(invoke: Invoke, full: Limiter) -> None:
    """The confirmation is Prefect's."""
    text = done(invoke("delete", "database", "--yes"))
    assert text == "Deleted global concurrency limit with name 'database'.\n"
    assert full.read_all() == []


def test_reset_leaves_the_limit(invoke: Invoke, full: Limiter) -> None:
    """A reset frees the slots and keeps the limit."""
    done(invoke("reset", "database", "--yes"))
    assert full.read("database").active_slots == 0
    assert full.holders() == []


# ps and release


def test_ps(invoke: Invoke, limiter: Limiter, processes: Processes) -> None:
    """Who holds and who waits, of one limit or of all, with what tells them apart."""
    for name in ("a", "b", "idle"):
        limiter.create(name, 1)
    limiter.create("by hand", 1, active_slots=1)
    lease = limiter.acquire(["a", "b"], holder="nightly\x1b[31m\x07\nrun")
    processes().ask("b")
    text = done(invoke("ps"))
    assert text.count(lease.id) == 2
    assert str(os.getpid()) in text
    assert "\x1b" not in text
    assert "\x07" not in text
    assert all(lease.id in line for line in text.splitlines() if "nightly" in line)
    assert sum("nightly" in line for line in text.splitlines()) == 2
    assert "by hand" not in text
    assert "idle" not in text
    assert done(invoke("ps", "a")).count(lease.id) == 1
    assert "WAITS FOR" not in done(invoke("ps", "a"))
    assert "WAITS FOR" in done(invoke("ps", "b"))
    assert lease.id not in done(invoke("ps", "idle"))


def test_ps_as_json(invoke: Invoke, limiter: Limiter, processes: Processes, clock: Clock) -> None:
    """A lease over several limits gives a row for each, slots set by hand none."""
    limiter.create("a", 3, active_slots=1)
    limiter.create("b", 2)
    lease = limiter.acquire(["b", "a"], 2)
    clock.advance(12.5)
    processes().ask("a", "b")
    seen = printed(invoke("ps", "-o", "json"))
    assert list(seen) == ["holders", "waiters"]
    assert [list(one) for one in seen["holders"]] == [HOLDER_KEYS] * 2
    assert [list(one) for one in seen["waiters"]] == [WAITER_KEYS] * 2
    assert [(one["limit"], one["lease"], one["slots"]) for one in seen["holders"]] == [
        ("a", lease.id, 2),
        ("b", lease.id, 2),
    ]
    assert [one["held_seconds"] for one in seen["holders"]] == [12.5, 12.5]
    assert [(one["limit"], one["position"]) for one in seen["waiters"]] == [("a", 1), ("b", 1)]
    one_limit = printed(invoke("ps", "b", "-o", "json"))
    assert [one["limit"] for one in one_limit["holders"] + one_limit["waiters"]] == ["b", "b"]


def test_release(invoke: Invoke, limiter: Limiter) -> None:
    """A lease is freed by its id, in all its limits, and only once."""
    limiter.create("a", 1)
    limiter.create("b", 1)
    lease = limiter.acquire(["a", "b"])
    assert lease.id in done(invoke("release", lease.id))
    assert limiter.holders() == []
    assert lease.id in failed(invoke("release", lease.id))


# Which database


def test_db_is_found_in_the_environment(limiter: Limiter, path: str) -> None:
    """Without --db the environment says which database."""
    limiter.create("database", 1)
    result = CliRunner(env={"LOCALGCL_DB": path}).invoke(localgcl, ["ls", "-o", "json"])
    assert [one["name"] for one in printed(result)] == ["database"]


def test_db_comes_before_the_environment(limiter: Limiter, path: str, tmp_path: Path) -> None:
    """--db wins."""
    limiter.create("database", 1)
    other = {"LOCALGCL_DB": str(tmp_path / "other.db")}
    result = CliRunner(env=other).invoke(localgcl, ["--db", path, "ls", "-o", "json"])
    assert [one["name"] for one in printed(result)] == ["database"]
    assert not (tmp_path / "other.db").exists()


# As a program


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **(env or {})})


WAYS = pytest.mark.parametrize(
    "program", [[str(SCRIPT)], [sys.executable, "-m", "localgcl"]], ids=["localgcl", "python -m"]
)


@WAYS
def test_both_ways_to_start_it(program: list[str], path: str) -> None:
    """`localgcl` and `python -m localgcl` are one program, under one name."""
    assert run(*program, "--db", path, "create", "database", "-l", "1").returncode == 0
    failure = run(*program, "--db", path, "create", "database", "-l", "1")
    assert (failure.returncode, failure.stdout) == (1, "")
    assert failure.stderr.startswith("Error: ")
    assert len(failure.stderr.splitlines()) == 1
    wrong = run(*program, "--db", path, "create")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("Usage: localgcl create ")
    assert "\x1b" not in failure.stderr + wrong.stderr


def complete(program: list[str], words: str, count: int, path: str, **more: str) -> list[str]:
    """Return what the shell is given to complete the last of `words`."""
    env = {"_LOCALGCL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    completed = run(*program, env={**env, "LOCALGCL_DB": path, **more})
    assert completed.stderr == ""
    return [line.partition(",")[2] for line in completed.stdout.split("\n") if line]


@WAYS
def test_completion(program: list[str], limiter: Limiter, path: str, tmp_path: Path) -> None:
    """The shell completes commands, options and the names of limits."""
    for name in ("database", "datalake", "api", "two words"):
        limiter.create(name, 1)
    assert complete(program, "localgcl dis", 1, path) == ["disable"]
    assert complete(program, "localgcl create x --lim", 3, path) == ["--limit"]
    assert complete(program, "localgcl inspect data", 2, path) == ["database", "datalake"]
    assert complete(program, "localgcl delete ", 2, path) == [
        *("api", "database", "datalake", "two words"),
    ]
    missing = tmp_path / "missing" / "limits.db"
    assert complete(program, f"localgcl --db {path} ps ap", 4, str(missing)) == ["api"]
    assert complete(program, "localgcl ps ", 2, str(missing)) == []
    assert not missing.parent.exists()


@pytest.mark.parametrize(
    "name",
    [
        *("inspect", "update", "enable", "disable", "delete", "reset", "ps", "top"),
        *("adjust", "pause", "resume"),
    ],
)
def test_names_are_completed_in_every_command_that_takes_one(
    name: str, limiter: Limiter, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Each command completes the names that are there, of the database that --db names."""
    from click.shell_completion import ShellComplete

    limiter.create("database", 1)
    monkeypatch.setenv("LOCALGCL_DB", f"{path}-other")
    shell = ShellComplete(localgcl, {}, "localgcl", "_LOCALGCL_COMPLETE")
    found = shell.get_completions(["--db", path, name], "da")
    assert [one.value for one in found] == ["database"]
    assert shell.get_completions(["--db", path, "create"], "da") == []


def test_completion_of_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A shell that completes has no place for an error."""
    from click.shell_completion import ShellComplete

    noise = tmp_path / "noise.db"
    noise.write_bytes(b"no database" * 1000)
    shell = ShellComplete(localgcl, {}, "localgcl", "_LOCALGCL_COMPLETE")
    assert shell.get_completions(["--db", str(noise), "ps"], "") == []
    assert shell.get_completions(["--db", ":memory:", "ps"], "") == []


def test_names_in_a_locale_without_utf_8(limiter: Limiter, path: str) -> None:
    """Where the locale leaves the bytes of an argument alone they are UTF-8, or no name."""
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    program = [sys.executable, "-m", "localgcl", "--db", path]
    assert run(*program, "create", "数据库", "-l", "1", env=env).returncode == 0
    assert run(*program, "create", "é🐘", "-l", "1", env=env).returncode == 0
    assert [one.name for one in limiter.read_all()] == ["é🐘", "数据库"]
    shown = run(*program, "inspect", "数据库", env=env)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "数据库" in shown.stdout
    assert complete(program[:3], "localgcl inspect 数", 2, path, **env) == ["数据库"]
    assert run(*program, "delete", "é🐘", "--yes", env=env).returncode == 0
    for text in ("\udcff", "a\udce6b"):
        wrong = run(*program, "create", text, "-l", "1", env=env)
        assert (wrong.returncode, wrong.stdout) == (2, "")
        assert "Traceback" not in wrong.stderr
    assert [one.name for one in limiter.read_all()] == ["数据库"]


def test_names_that_the_terminal_cannot_write(limiter: Limiter, path: str) -> None:
    """A name in any alphabet is shown, escaped where it must be, and never a traceback."""
    limiter.create("数据库", 1)
    env = {"PYTHONIOENCODING": "latin-1"}
    program = [sys.executable, "-m", "localgcl", "--db", path]
    shown = run(*program, "ls", env=env)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\\u6570" in shown.stdout
    failure = run(*program, "create", "数据库", "-l", "1", env=env)
    assert failure.returncode == 1
    assert failure.stderr.startswith("Error: ")
    assert "Traceback" not in failure.stderr
