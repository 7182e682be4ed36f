"""`apply` and `export`: the limits become what a file says, all at once, or stay as they are."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from localgcl import DatabaseError, Limiter
from localgcl._admin import apply as _apply
from localgcl.models import Settings
from tests.helpers.database import tables
from tests.helpers.played import Processes
from tests.helpers.programs import Invoke

Apply = Callable[..., Result]

FILE = """
[limits.database]
limit = 5

[limits."rate limited api"]
limit = 10
slot_decay_per_second = 2.0
active = false
"""
NAMES = ["two words", "v1.2:eu", "数据库", "'\"`\\", "--", "[limits]", "# no comment", "🐘" * 255]


@pytest.fixture
def apply(invoke: Invoke, tmp_path: Path) -> Apply:
    """Apply a text as a file."""

    def run(text: str, *options: str) -> Result:
        file = tmp_path / "limits.toml"
        file.write_text(text, encoding="utf-8")
        return invoke("apply", str(file), *options)

    return run


def done(result: Result) -> str:
    """Check that a command succeeded without a word on standard error; return what it printed."""
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def refused(result: Result) -> str:
    """Check that a command failed with one line, and return that."""
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert result.stderr.startswith("Error: ")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_apply_to_no_database(apply: Apply, limiter: Limiter) -> None:
    """Limits are created as the file says, defaults included."""
    text = done(apply(FILE))
    assert text == (
        "+ database\n+ rate limited api\nCreated 2, updated 0, deleted 0, unchanged 0.\n"
    )
    database, api = limiter.read_all()
    assert (database.name, database.limit, database.active) == ("database", 5, True)
    assert (database.slot_decay_per_second, database.active_slots) == (0.0, 0)
    assert (api.name, api.limit, api.active) == ("rate limited api", 10, False)
    assert api.slot_decay_per_second == 2.0


def test_apply_changes_what_differs(apply: Apply, limiter: Limiter) -> None:
    """A line for each change, in a fixed order, and others are left alone."""
    limiter.create("rate limited api", 5, slot_decay_per_second=0.5)
    limiter.create("other", 1)
    before = limiter.read("other")
    text = done(apply(FILE))
    assert text.splitlines() == [
        "+ database",
        "~ rate limited api: limit 5 -> 10, slot_decay_per_second 0.5 -> 2.0, active true -> false",
        "Created 1, updated 1, deleted 0, unchanged 0.",
    ]
    assert limiter.read("other") == before


def test_apply_twice(apply: Apply, limiter: Limiter) -> None:
    """What is so already is not touched, and that is said."""
    done(apply(FILE))
    before = tables(limiter)
    assert done(apply(FILE)) == "Created 0, updated 0, deleted 0, unchanged 2.\n"
    assert done(apply(FILE, "--prune")) == "Created 0, updated 0, deleted 0, unchanged 2.\n"
    assert tables(limiter) == before


def test_apply_as_json(apply: Apply, limiter: Limiter) -> None:
    """The plan for programs, the same in a dry run."""
    limiter.create("rate limited api", 5, slot_decay_per_second=2.0, active=False)
    limiter.create("old", 1)
    expected = {
        "created": ["database"],
        "updated": [{"name": "rate limited api", "changes": {"limit": [5, 10]}}],
        "deleted": ["old"],
        "unchanged": 0,
    }
    for options in (["--dry-run"], []):
        assert json.loads(done(apply(FILE, "--prune", "-o", "json", *options))) == expected
    nothing = {"created": [], "updated": [], "deleted": [], "unchanged": 2}
    assert json.loads(done(apply(FILE, "--prune", "--output", "json"))) == nothing


@pytest.mark.parametrize("options", [[], ["--prune"], ["-o", "json"]], ids=str)
def test_dry_run(apply: Apply, limiter: Limiter, options: list[str]) -> None:
    """It prints what would be done, does nothing, and the same is then done."""
    limiter.create("rate limited api", 5)
    limiter.create("old", 1)
    before = tables(limiter)
    planned = done(apply(FILE, "--dry-run", *options))
    assert tables(limiter) == before
    carried_out = done(apply(FILE, *options))
    assert tables(limiter) != before
    words = (("Would create", "Created"), ("update ", "updated "), ("delete ", "deleted "))
    for would, did in words:
        planned = planned.replace(would, did)
    assert planned == carried_out


def test_dry_run_without_a_database(apply: Apply, path: str) -> None:
    """It is planned as if the database were empty, and none is made."""
    assert "Would create 2, update 0" in done(apply(FILE, "--dry-run"))
    assert json.loads(done(apply(FILE, "--dry-run", "-o", "json")))["created"] == [
        *("database", "rate limited api"),
    ]
    assert not os.path.exists(os.path.dirname(path))


def test_a_file_that_names_no_limit(apply: Apply, path: str) -> None:
    """Without a database it asks for none."""
    assert done(apply("")) == "Created 0, updated 0, deleted 0, unchanged 0.\n"
    assert not os.path.exists(os.path.dirname(path))


def test_slots_and_leases_stay(apply: Apply, limiter: Limiter, processes: Processes) -> None:
    """Who holds a slot of a limit that changes keeps it, and who waits feels the change."""
    limiter.create("database", 1)
    limiter.create("rate limited api", 10, slot_decay_per_second=0.001, active_slots=4)
    holder = processes().ask("database")
    waiter = processes().ask("database")
    done(apply(FILE))
    assert waiter.is_woken
    waiter.look()
    assert waiter.granted
    assert len(limiter.holders("database")) == 2
    assert limiter.read("rate limited api").active_slots == 4
    assert holder.release()


def test_commits_are_durable() -> None:
    """What is applied outlives a power cut; a dry run and a file without limits write nothing."""
    wanted = {"a": Settings(limit=1)}
    assert _apply.apply(wanted, prune=False, dry_run=False).durable
    assert not _apply.apply(wanted, prune=True, dry_run=True).durable
    assert not _apply.apply({}, prune=False, dry_run=False).durable


def test_all_or_nothing(apply: Apply, limiter: Limiter) -> None:
    """Where one limit cannot be written, none is: they are one transaction."""
    limiter.create("a", 1)
    with sqlite3.connect(limiter._database.path) as connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE UPDATE OF slots ON settings BEGIN"
            " SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    connection.close()
    before = tables(limiter)
    error = refused(apply("[limits.new]\nlimit = 1\n[limits.a]\nlimit = 2"))
    assert limiter._database.path in error
    assert tables(limiter) == before


# Prune


def test_prune(apply: Apply, limiter: Limiter) -> None:
    """Limits that the file does not name are deleted, slots set by hand or taken by rate too."""
    limiter.create("database", 5)
    limiter.create("old", 1)
    limiter.create("by hand", 1, active_slots=1)
    limiter.create("rate", 5, slot_decay_per_second=0.001)
    limiter.rate_limit("rate")
    assert done(apply(FILE, "--prune")).splitlines() == [
        *("+ rate limited api", "- by hand", "- old", "- rate"),
        "Created 1, updated 0, deleted 3, unchanged 1.",
    ]
    assert [one.name for one in limiter.read_all()] == ["database", "rate limited api"]


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["-o", "json"]], ids=str)
@pytest.mark.parametrize("way", ["held", "waited for", "held by rate", "behind an inactive one"])
def test_prune_refuses(
    apply: Apply, limiter: Limiter, processes: Processes, way: str, options: list[str]
) -> None:
    """While one is held or waited for nothing at all is done, and it is named."""
    limiter.create("old", 1)
    limiter.create("older", 1)
    if way == "held by rate":
        limiter.update("old", slot_decay_per_second=0.001)
    if way == "waited for":
        limiter.update("old", active_slots=1)
    processes().ask("old")
    if way == "behind an inactive one":
        limiter.update("old", active=False)
    before = tables(limiter)
    error = refused(apply(FILE, "--prune", *options))
    assert "'old'" in error
    assert "'older'" not in error
    assert tables(limiter) == before
    assert "- older" not in done(apply(FILE))


def test_prune_clears_the_dead_away_first(
    apply: Apply, limiter: Limiter, processes: Processes
) -> None:
    """What a dead process held is not held."""
    limiter.create("old", 1)
    dead = processes()
    dead.ask("old")
    dead.die()
    assert "- old" in done(apply(FILE, "--prune"))


@pytest.mark.parametrize("content", ["", "# nothing", "[limits]"])
@pytest.mark.parametrize("options", [[], ["--dry-run"]], ids=str)
def test_prune_with_a_file_that_names_no_limit(
    apply: Apply, limiter: Limiter, content: str, options: list[str]
) -> None:
    """An empty file is more likely an accident than a wish to delete everything."""
    limiter.create("old", 1)
    before = tables(limiter)
    assert "names no limit" in refused(apply(content, "--prune", *options))
    assert tables(limiter) == before


# What is refused


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[limits.a]\nlimit = 1\nslots = 2", "[limits.a]"),
        ("[limits.a]\nlimit = 1\n[limits.b]\nlimit = '5'", "[limits.b]"),
        ("[limits.a]\nlimit = 1\n[limits.'b/c']\nlimit = 1", '[limits."b/c"]'),
        ('[limits.a]\nlimit = 1\n[limits."two\u2028lines"]', "limit is required"),
        ("limits: yaml", "TOML"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--prune"]], ids=str)
def test_bad_files(
    apply: Apply, limiter: Limiter, content: str, reason: str, options: list[str]
) -> None:
    """The error names the file, the table and the reason, before anything is changed."""
    limiter.create("a", 9)
    before = tables(limiter)
    error = refused(apply(content, *options))
    assert "limits.toml: " in error
    assert reason in error
    assert tables(limiter) == before


def test_bad_files_make_no_database(apply: Apply, path: str) -> None:
    """Nothing is touched before the file is known to be good."""
    refused(apply("[limits.a]"))
    assert not os.path.exists(os.path.dirname(path))


@pytest.mark.parametrize(
    "words",
    [
        ["apply"],
        ["apply", "missing.toml"],
        ["apply", "."],
        ["apply", "a.toml", "b.toml"],
        ["apply", "-", "-o", "yaml"],
        ["export", "-o", "json"],
        ["export", "file"],
    ],
    ids=" ".join,
)
def test_wrong_usage(invoke: Invoke, words: list[str]) -> None:
    """A file that is not there is wrong usage, as a missing argument is."""
    result = invoke(*words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Usage: localgcl ")


def test_rows_of_another_program(apply: Apply, invoke: Invoke, limiter: Limiter) -> None:
    """What another program wrote is an error with the path, in both commands."""
    limiter.create("database", 1)
    with sqlite3.connect(limiter._database.path) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute("UPDATE settings SET name = 'a/b', slots = -1")
    connection.close()
    for result in (apply(FILE), apply(FILE, "--dry-run"), apply(FILE, "--prune"), invoke("export")):
        assert limiter._database.path in refused(result)


def run(words: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command line as a program."""
    program = [sys.executable, "-m", "localgcl", *words]
    return subprocess.run(program, capture_output=True, check=False, **options)


@pytest.mark.parametrize("file", ["-", "/dev/stdin"])
@pytest.mark.parametrize("redirected", ["<&-", "0>/dev/null"])
def test_standard_input_that_cannot_be_read(path: str, redirected: str, file: str) -> None:
    """It is an error of one line."""
    program = [sys.executable, "-m", "localgcl", "--db", path, "apply", file]
    ended = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *program], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(("Error: standard input", "Error: /dev/stdin"))
    assert len(ended.stderr.splitlines()) == 1


# Export


def test_export(invoke: Invoke, limiter: Limiter) -> None:
    """Every limit by name, every setting written out."""
    limiter.create("rate limited api", 10, slot_decay_per_second=2.0, active=False)
    limiter.create("database", 5, active_slots=3)
    assert done(invoke("export")) == (
        "[limits.database]\nlimit = 5\nslot_decay_per_second = 0.0\nactive = true\n\n"
        '[limits."rate limited api"]\nlimit = 10\nrate = "2/s"\nactive = false\n'
    )


def test_export_of_nothing(invoke: Invoke, path: str) -> None:
    """Without a database there is nothing to write, and none is made."""
    assert done(invoke("export")) == ""
    assert not os.path.exists(os.path.dirname(path))


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_the_round_trip_changes_nothing(
    invoke: Invoke, limiter: Limiter, path: str, locale: str
) -> None:
    """`export | apply -` says that nothing changed, in any locale and with any name."""
    for number, name in enumerate(NAMES):
        limiter.create(name, number, slot_decay_per_second=number / 7, active=number % 2 == 0)
    before = tables(limiter)
    env = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    exported = run(["--db", path, "export"], env=env)
    assert (exported.returncode, exported.stderr) == (0, b"")
    for options in ([], ["--prune"]):
        applied = run(["--db", path, "apply", "-", *options], env=env, input=exported.stdout)
        assert applied.stderr == b""
        assert (
            applied.stdout == f"Created 0, updated 0, deleted 0, unchanged {len(NAMES)}.\n".encode()
        )
    assert tables(limiter) == before
    result = invoke("--db", f"{path}-new", "apply", "-", answer=exported.stdout)
    assert f"Created {len(NAMES)}" in done(result)
    assert done(invoke("--db", f"{path}-new", "export")).encode() == exported.stdout


def test_apply_on_a_file_of_another_program(apply: Apply, path: str) -> None:
    """It is refused as everywhere."""
    os.makedirs(os.path.dirname(path))
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    assert path in refused(apply(FILE))
    with pytest.raises(DatabaseError, match="another program"):
        Limiter(path).read_all()
