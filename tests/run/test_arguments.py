"""The two readers of the command lines of `run`: the quick one, and that of click."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from localgcl import Limiter
from localgcl._drivers.flow import Terms
from localgcl._run import arguments
from localgcl._run.job import Job
from localgcl._storage.database import Database
from localgcl.cli import localgcl
from tests.helpers.programs import Invoke


def meaning(job: Job, database: Database) -> dict[str, Any]:
    """Return all that a job says."""
    terms = {name: getattr(job.terms, name) for name in ("holds", *Terms.__slots__)}
    said = {name: value for name, value in vars(job).items() if name != "terms"}
    command = None if job.command is None else list(job.command)
    return {**terms, **said, "command": command, "database": database.path}


class ReadError(Exception):
    """What click has read, in place of doing it."""


@pytest.fixture
def by_click(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], Any]:
    """Return what click makes of a command line: its meaning, or its exit code."""

    def tell(job: Job, database: Database) -> int:
        raise ReadError(meaning(job, database))

    monkeypatch.setattr(Job, "do", tell)

    def read(words: list[str]) -> Any:
        result = CliRunner().invoke(localgcl, words)
        return (
            result.exception.args[0]
            if isinstance(result.exception, ReadError)
            else result.exit_code
        )

    return read


def quickly(words: list[str]) -> dict[str, Any] | None:
    """Return what is made of a command line without click, None where that is left to click."""
    found = arguments.read(words)
    return None if found is None else meaning(*found)


@pytest.mark.parametrize("name", ["run", "rate-limit"])
def test_both_readers_have_the_same_options(name: str) -> None:
    """What click knows of, the quick one does too, and the other way around."""
    command = localgcl.get_command(click.Context(localgcl), name)
    assert command is not None
    by_click = {
        switch: (one.name, one.is_flag)
        for one in command.params
        if isinstance(one, click.Option) and one.name != "help"
        for switch in one.opts
    }
    quick = {switch: (to, read is None) for switch, (to, read) in arguments.OPTIONS[name].items()}
    assert quick == by_click


PLAIN = [
    ["run", "a", "true"],
    ["run", "a", "--", "true"],
    ["run", "a", "--", "--", "true"],
    ["run", "a", "true", "--timeout", "5", "--", "-v"],
    ["run", "--timeout", "5", "a", "true"],
    ["run", "a", "--timeout=5", "--", "true"],
    ["run", "a", "-v", "--timeout", "inf", "true"],
    ["run", "-n", "b", "--also", "a", "--also=c", "a", "--occupy", "2", "-E", "0", "ls", "-l"],
    ["run", "--holder", "--", "a", "true"],
    ["run", "--holder=", "a", "true"],
    ["run", "--rate-limit", "--max-waiting", "3", "a", "true"],
    ["run", "--limit", " 1_0 ", "a", "true"],
    ["run", "--no-wait", "-v", "-l", "0", "two words", "true", ""],
    ["rate-limit", "a"],
    ["rate-limit", "--occupy", "3", "a", "--timeout", "0.5"],
    ["rate-limit", "a", "--no-wait", "--"],
    ["rate-limit", "--take", "b", "3", "-v", "-n", "c", "--take", "d", "4", "a/b"],
    ["rate-limit", "a", "--take", "b", "1", "--take", "b", "1"],
    ["run", "a", "--take", "b", "3", "--occupy", "2", "--timeout", "1.5min", "true"],
    ["--db", "other.db", "run", "a", "true"],
    ["--db=one.db", "--db", "other.db", "rate-limit", "a"],
]


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_plain_command_lines(words: list[str], by_click: Callable[[list[str]], Any]) -> None:
    """What is read without click means what it means with it."""
    assert quickly(words) == by_click(words)
    assert quickly(words) is not None


FOR_CLICK = [
    ["run", "-vl2", "a", "true"],
    ["run", "-l2", "a", "true"],
    ["run", "--take=b", "3", "a", "-v", "true"],
    ["run", "--", "a", "true"],
    ["run", "--", "a", "--", "-v"],
    ["run", "a", "-vn", "b", "-v", "true"],
]


@pytest.mark.parametrize("words", FOR_CLICK, ids=" ".join)
def test_what_is_left_to_click(words: list[str], by_click: Callable[[list[str]], Any]) -> None:
    """What is not plain is right all the same."""
    assert quickly(words) is None
    assert isinstance(by_click(words), dict)


def test_letters_behind_one_dash(by_click: Callable[[list[str]], Any]) -> None:
    """The first letter that takes a value takes the rest of the word, or else the next word."""
    said = by_click(["run", "-vl2", "a", "-vn", "b", "-En", "true"])
    assert said == 2  # -E takes the n, which is no number
    said = by_click(["run", "-vl2", "a", "-vn", "b", "-E7", "true", "-v"])
    assert (said["limit"], said["names"], said["no_slot"]) == (2, ("a", "b"), 7)
    assert said["command"] == ["true", "-v"]


WRONG = [
    ["run"],
    ["run", "a"],
    ["run", "a", "--"],
    ["run", "--", "a"],
    ["run", "a\nb", "true"],
    ["run", "", "true"],
    ["run", "a\udc80", "true"],
    ["run", "--also", "a\x7f", "a", "true"],
    ["run", "--take", "b", "0", "a", "true"],
    ["run", "--take", "b", "a", "true"],
    ["run", "--take", "\n", "1", "a", "true"],
    ["run", "--take", "a", "2", "a", "true"],
    ["run", "--occupy", "0", "a", "true"],
    ["run", "--occupy", str(2**53), "a", "true"],
    ["run", "--occupy", "1.5", "a", "true"],
    ["run", "--limit", "-1", "a", "true"],
    ["run", "--timeout", "-1", "a", "true"],
    ["run", "--timeout", "nan", "a", "true"],
    ["run", "--timeout", "soon", "a", "true"],
    ["run", "--timeout", "5 fortnights", "a", "true"],
    ["run", "--timeout", "1", "--no-wait", "a", "true"],
    ["run", "--rate-limit", "--limit", "1", "a", "true"],
    ["run", "--max-waiting", "-1", "a", "true"],
    ["run", "--conflict-exit-code", "256", "a", "true"],
    ["run", "--holder", "\udc80", "a", "true"],
    ["run", "--no-wait=1", "a", "true"],
    ["run", "--no-such", "a", "true"],
    ["run", "a", "--no-such", "true"],
    ["run", "a", "-l"],
    ["rate-limit"],
    ["rate-limit", "a", "b"],
    ["rate-limit", "--timeout", "1", "--no-wait", "a"],
    ["rate-limit", "--limit", "1", "a"],
    ["--db", ":memory:", "run", "a", "true"],
    ["--db", "file:x", "rate-limit", "a"],
]


@pytest.mark.parametrize("words", WRONG, ids=lambda words: ascii(" ".join(words)))
def test_wrong_usage(invoke: Invoke, words: list[str], path: str) -> None:
    """Status 2 and click's usage, before anything is touched."""
    result = invoke(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: localgcl ")
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert quickly(words) is None
    assert not os.path.exists(path)


TOKENS = st.sampled_from(
    [
        *("a", "b", "c d", "", "-", "--", "x/y", "true", "5", "0", "-1", "1.5", "nan", "300"),
        *("-v", "-n", "-l", "-E", "-vv", "-vl", "-l5", "-l=5", "--help", "-h", "--wrong"),
        *("--also", "--also=b", "--limit", "--limit=3", "--occupy", "--timeout", "--timeout=2"),
        *("--take", "--take=b"),
        *("--no-wait", "--no-wait=1", "--max-waiting", "--conflict-exit-code", "--rate-limit"),
        *("--holder", "--holder=x=y", "--verbose", "--db", "--db=x.db", "run", "rate-limit"),
    ]
)


def test_the_quick_reader_never_differs(by_click: Callable[[list[str]], Any]) -> None:
    """Whatever is typed: what the quick one accepts, click reads in the same way."""

    @settings(max_examples=400, deadline=None)
    @given(
        st.lists(st.sampled_from(["--db", "x.db", "--db=y.db"]), max_size=2),
        st.sampled_from(["run", "run", "rate-limit"]),
        st.lists(TOKENS, max_size=7),
    )
    def agree(before: list[str], command: str, after: list[str]) -> None:
        words = [*before, command, *after]
        quick = quickly(words)
        assert quick is None or quick == by_click(words)

    agree()


def test_completion_is_clicks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a shell that completes, nothing is run."""
    monkeypatch.setenv("_LOCALGCL_COMPLETE", "bash_complete")
    assert arguments.read(["run", "a", "true"]) is None


def completed(path: str, *words: str) -> list[tuple[str, str]]:
    """Return what completes the last word: each with its kind."""
    shell = ShellComplete(localgcl, {}, "localgcl", "_LOCALGCL_COMPLETE")
    found = shell.get_completions(["--db", path, *words[:-1]], words[-1])
    return [(one.value, one.type) for one in found]


def test_completion(limiter: Limiter, path: str) -> None:
    """Names of limits, then options, then the shell's own files for the command."""
    for name in ("database", "datalake", "api"):
        limiter.create(name, 1)
    names = [("database", "plain"), ("datalake", "plain")]
    assert completed(path, "run", "da") == names
    assert completed(path, "run", "--also", "da") == names
    assert completed(path, "rate-limit", "da") == names
    assert completed(path, "rate-limit", "--take", "da") == names
    assert completed(path, "run", "--max") == [("--max-waiting", "plain")]
    assert completed(path, "run", "api", "--conf") == [("--conflict-exit-code", "plain")]
    assert completed(path, "run", "api", "pg_") == [("pg_", "file")]
    assert completed(path, "run", "api", "cat", "/et") == [("/et", "file")]
