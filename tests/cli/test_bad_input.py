"""Bad input, by table: each piece gets its error before anything is touched.

Through the API that is TypeError or ValueError, on the command line exit code 2 with the usage
block; what only the database can tell is one of our errors, or exit code 1 with one line.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from localgcl import (
    ConcurrencySlotAcquisitionError,
    LimitAlreadyExistsError,
    Limiter,
    LimitNotFoundError,
    LocalGCLError,
)
from tests.helpers.database import Tables, tables
from tests.helpers.flavours import Flavour, blocking_alone, both_flavours
from tests.helpers.programs import Invoke, database_error, wrong_usage

Call = Callable[[Limiter, Any], object]
pytest_generate_tests = both_flavours

MAX = 2**53 - 1
HUGE = 10**400  # larger than any float

BAD_NAMES = [
    " ",
    "\t\u3000",
    "a\x00b",
    "a\nb",
    "a\x7fb",
    "a\x9fb",
    "\ud800",
    "x" * 256,
]
# No limit has these names, but a key of a template may have them.
NAMES_OF_KEYS = [f"data{character}base" for character in "/%&><"]
GOOD_NAMES = ["two words", "v1.2:eu", "数据库", "'\"`\\", "--", "x" * 255, "🐘" * 255]
NOT_WHOLE: list[Any] = [-1, MAX + 1, 10**30, HUGE, 1.5, 1.0, math.nan, math.inf, True, "1", b"1"]
NOT_RATES: list[Any] = [-1, -0.001, math.nan, math.inf, -math.inf, True, "1", b"1", 1j]


@pytest.fixture
def known(limiter: Limiter) -> Limiter:
    """A limiter whose database has a limit, a rate and a lease that must stay as they are."""
    limiter.create("database", 2)
    limiter.create("api", 10, slot_decay_per_second=0.001)
    limiter.acquire("database", holder="stays")
    limiter.rate_limit("api", occupy=3)
    return limiter


def refused(limiter: Limiter, call: Call, values: Iterable[Any]) -> None:
    """Check that a call is refused as bad arguments are, and that nothing was touched."""
    folder = Path(limiter._database.path).parent
    before: Tables | None = tables(limiter) if folder.exists() else None
    for value in values:
        try:
            call(limiter, value)
        except (TypeError, ValueError) as error:
            assert not isinstance(error, LocalGCLError), ascii(value)
        else:
            pytest.fail(f"{ascii(value)[:80]} was accepted")
    if before is None:
        assert not folder.exists()
    else:
        assert tables(limiter) == before


@pytest.fixture(params=["no database", "a database"])
def either(request: pytest.FixtureRequest, limiter: Limiter) -> Limiter:
    """A limiter without a database, and one with."""
    if request.param == "a database":
        limiter = request.getfixturevalue("known")
    return limiter


# Names, through the API

NAMED: dict[str, Call] = {
    "concurrency": lambda limiter, name: limiter.concurrency(name),
    "concurrency, a list": lambda limiter, name: limiter.concurrency(["database", name]),
    "rate_limit": lambda limiter, name: limiter.rate_limit(["api", name]),
    "acquire": lambda limiter, name: limiter.acquire(name),
    "create": lambda limiter, name: limiter.create(name, 1),
    "read": lambda limiter, name: limiter.read(name),
    "update": lambda limiter, name: limiter.update(name, limit=1),
    "update, new_name": lambda limiter, name: limiter.update("database", new_name=name),
    "upsert": lambda limiter, name: limiter.upsert(name, 1),
    "delete": lambda limiter, name: limiter.delete(name),
    "reset": lambda limiter, name: limiter.reset(name),
    "holders": lambda limiter, name: limiter.holders(name),
    "waiters": lambda limiter, name: limiter.waiters(name),
}


@pytest.mark.parametrize("call", NAMED.values(), ids=NAMED)
def test_bad_names(call: Call, either: Limiter) -> None:
    """What can never be a name is refused wherever a name is asked for."""
    refused(either, call, [*BAD_NAMES, 5, b"database", 1.5, True, ["database", 5]])


@pytest.mark.parametrize("call", ["create", "upsert", "update, new_name"])
def test_names_that_only_keys_may_have(call: str, either: Limiter) -> None:
    """Some characters are not for limits, so that their names can stand in addresses."""
    refused(either, NAMED[call], NAMES_OF_KEYS)


@pytest.mark.parametrize("call", ["read", "update", "delete", "reset", "holders", "waiters"])
def test_keys_without_a_template(call: str, known: Limiter) -> None:
    """A name that only a key may have is not there where no template matches it."""
    before = tables(known)
    for name in NAMES_OF_KEYS:
        with pytest.raises(LimitNotFoundError):
            NAMED[call](known, name)
    assert tables(known) == before


@pytest.mark.parametrize("call", ["create", "read", "update", "upsert", "delete", "reset"])
def test_no_name(call: str, either: Limiter) -> None:
    """What is about one limit needs its name."""
    refused(either, NAMED[call], [None, ""])


@pytest.mark.parametrize("name", GOOD_NAMES, ids=lambda name: ascii(name[:12]))
def test_good_names(name: str, limiter: Limiter, invoke: Invoke) -> None:
    """A name may be anything else, through the API and on the command line."""
    assert limiter.create(name, 1).name == name
    with limiter.concurrency(name, strict=True) as lease:
        assert lease.names == (name,)
        assert [one.limit for one in limiter.holders(name)] == [name]
        assert name in invoke("inspect", "--", name).stdout
    limiter.delete(name)
    assert invoke("create", "--limit", "1", "--", name).exit_code == 0
    assert [one.name for one in limiter.read_all()] == [name]


# Numbers, through the API

LIMITS: dict[str, Call] = {
    "create": lambda limiter, value: limiter.create("new", value),
    "update": lambda limiter, value: limiter.update("database", limit=value),
    "upsert": lambda limiter, value: limiter.upsert("database", value),
    "create, active_slots": lambda limiter, value: limiter.create("new", 1, active_slots=value),
    "update, active_slots": lambda limiter, value: limiter.update("database", active_slots=value),
    "upsert, active_slots": lambda limiter, value: limiter.upsert(
        "database", 1, active_slots=value
    ),
}
OCCUPY: dict[str, Call] = {
    "concurrency": lambda limiter, value: limiter.concurrency("database", value),
    "rate_limit": lambda limiter, value: limiter.rate_limit("api", value),
    "acquire": lambda limiter, value: limiter.acquire("database", value),
}
RATES: dict[str, Call] = {
    "create": lambda limiter, value: limiter.create("new", 1, slot_decay_per_second=value),
    "update": lambda limiter, value: limiter.update("api", slot_decay_per_second=value),
    "upsert": lambda limiter, value: limiter.upsert("api", 1, slot_decay_per_second=value),
}
SWITCHES: dict[str, Call] = {
    "create": lambda limiter, value: limiter.create("new", 1, active=value),
    "update": lambda limiter, value: limiter.update("database", active=value),
    "upsert": lambda limiter, value: limiter.upsert("database", 1, active=value),
}
TIMEOUTS: dict[str, Call] = {
    "concurrency": lambda limiter, value: limiter.concurrency("database", timeout_seconds=value),
    "rate_limit": lambda limiter, value: limiter.rate_limit("api", timeout_seconds=value),
    "acquire": lambda limiter, value: limiter.acquire("database", timeout_seconds=value),
}
RETRIES: dict[str, Call] = {
    "concurrency": lambda limiter, value: limiter.concurrency("database", max_retries=value),
    "acquire": lambda limiter, value: limiter.acquire("database", max_retries=value),
}
HOLDERS: dict[str, Call] = {
    "concurrency": lambda limiter, value: limiter.concurrency("database", holder=value),
    "acquire": lambda limiter, value: limiter.acquire("database", holder=value),
}
VALUES: dict[str, tuple[dict[str, Call], list[Any]]] = {
    "limit": (LIMITS, NOT_WHOLE),
    "occupy": (OCCUPY, [*NOT_WHOLE, 0, None]),
    "rate": (RATES, NOT_RATES),
    "active": (SWITCHES, [1, 0, "yes", "false", 1.0]),
    "timeout": (TIMEOUTS, [-1, -0.001, math.nan, -math.inf, "1", True, False, [1], 1j]),
    "max_retries": (RETRIES, [-1, 1.5, 1.0, math.inf, True, "1", HUGE]),
    "holder": (HOLDERS, [5, b"a", ["a"], {"a": math.nan}, {"a": object}, "\ud800"]),
}


@pytest.mark.parametrize("what", VALUES)
def test_bad_values(what: str, either: Limiter) -> None:
    """A bad number, switch or holder is refused at the call."""
    calls, values = VALUES[what]
    for call in calls.values():
        refused(either, call, values)


@pytest.mark.parametrize("function", ["concurrency", "rate_limit"])
def test_bad_arguments_of_the_functions(function: str, flavour: Flavour, either: Limiter) -> None:
    """The functions of the module refuse what the methods refuse."""
    call = getattr(flavour, function)
    refused(either, lambda _, name: call(name), BAD_NAMES)
    refused(either, lambda _, value: call("a", occupy=value), VALUES["occupy"][1])
    refused(either, lambda _, value: call("a", timeout_seconds=value), VALUES["timeout"][1])


@pytest.mark.parametrize("call", ["create", "upsert"])
def test_a_limit_needs_its_number(call: str, either: Limiter) -> None:
    """None is no number of slots."""
    refused(either, LIMITS[call], [None])


def test_nothing_to_update(either: Limiter) -> None:
    """An update without a change is a mistake."""
    refused(either, lambda limiter, name: limiter.update(name), ["database", "unknown"])


@pytest.mark.parametrize("rate", [0, 0.0, 1, 0.5, 10**30, 1e300, 5e-324], ids=repr)
@pytest.mark.parametrize("limit", [0, 1, MAX], ids=repr)
@pytest.mark.usefixtures("clock")
def test_good_values(rate: float, limit: int, limiter: Limiter) -> None:
    """The ends of each range are in it."""
    made = limiter.create("new", limit, slot_decay_per_second=rate, active_slots=MAX)
    assert (made.limit, made.slot_decay_per_second, made.active_slots) == (limit, float(rate), MAX)
    limiter.upsert("new", limit, slot_decay_per_second=rate, active_slots=0)
    if limit:
        limiter.acquire("new", occupy=limit, timeout_seconds=0).release()


@pytest.mark.parametrize("timeout", [0, 0.0, 1, 0.5, math.inf, None, 1e308], ids=repr)
def test_good_timeouts(timeout: float | None, known: Limiter) -> None:
    """Any number that is not negative is a timeout, and infinity waits for ever."""
    known.acquire("database", timeout_seconds=timeout, max_retries=MAX).release()


@pytest.mark.parametrize("occupy", [3, 10**9, MAX])
@pytest.mark.parametrize("call", ["concurrency", "rate_limit", "acquire"])
def test_more_than_the_limit(call: str, occupy: int, known: Limiter) -> None:
    """More slots than a limit has are refused at once, since no wait could help."""
    before, seen = {**tables(known), "limits": [], "ledger": []}, in_use(known)
    with pytest.raises(ConcurrencySlotAcquisitionError) as caught:
        if call == "concurrency":
            with known.concurrency("database", occupy):
                pass
        else:
            getattr(known, call)("database", occupy)
    assert caught.value.names == ("database",)
    assert caught.value.occupy == occupy
    assert {**tables(known), "limits": [], "ledger": []} == before
    assert in_use(known) == seen


def in_use(limiter: Limiter) -> list[tuple[str, int, int]]:
    """Return of each limit what is in use and who waits."""
    return [(one.name, one.active_slots, one.waiting) for one in limiter.read_all()]


def test_a_limit_of_zero_admits_nobody(known: Limiter) -> None:
    """Nobody waits for a slot that is never there."""
    known.update("database", limit=0)
    with pytest.raises(ConcurrencySlotAcquisitionError):
        known.acquire("database")


@pytest.mark.parametrize("call", ["read", "update", "delete", "reset", "holders", "waiters"])
def test_unknown_names(call: str, either: Limiter) -> None:
    """A name that is not there is an error of its own, without a database too."""
    with pytest.raises(LimitNotFoundError) as caught:
        NAMED[call](either, "unknown")
    assert caught.value.name == "unknown"
    assert "unknown" not in [one.name for one in either.read_all()]


def test_known_names(known: Limiter) -> None:
    """A name is taken once, whether by creating or by renaming."""
    before = tables(known)
    with pytest.raises(LimitAlreadyExistsError) as caught:
        known.create("database", 5)
    assert caught.value.name == "database"
    with pytest.raises(LimitAlreadyExistsError) as caught:
        known.update("database", new_name="api", limit=7)
    assert caught.value.name == "api"
    assert tables(known) == before


def test_bad_leases(either: Limiter) -> None:
    """The id of a lease is a text."""
    refused(either, lambda limiter, lease: limiter.release(lease), [5, None, b"a", ["a"]])


@pytest.mark.parametrize("lease", ["", "unknown", "a\nb", "\ud800", "x" * 10_000], ids=ascii)
def test_unknown_leases(lease: str, known: Limiter) -> None:
    """Any other text is the id of a lease that is not held."""
    before = tables(known)
    assert known.release(lease) is False
    assert tables(known) == before


# The command line


@pytest.fixture(params=["no database", "a database"])
def unchanged(request: pytest.FixtureRequest, path: str, limiter: Limiter) -> Callable[[], None]:
    """Check that a command has left the database as it was, or not made one."""
    if request.param == "no database":
        return lambda: _not_there(path)
    request.getfixturevalue("known")
    before = tables(limiter)
    return lambda: _same(tables(limiter), before)


def _not_there(path: str) -> None:
    assert not os.path.exists(os.path.dirname(path))


def _same(now: Tables, before: Tables) -> None:
    assert now == before


NAMED_COMMANDS: dict[str, list[str]] = {
    "create": ["create", "--limit", "1"],
    "inspect": ["inspect"],
    "top": ["top"],
    "update": ["update", "--limit", "1"],
    "pause": ["pause"],
    "resume": ["resume"],
    "enable": ["enable"],
    "disable": ["disable"],
    "delete": ["delete", "--yes"],
    "reset": ["reset", "--yes"],
    "ps": ["ps"],
}


@pytest.mark.parametrize("command", NAMED_COMMANDS.values(), ids=NAMED_COMMANDS)
def test_bad_names_in_commands(
    command: list[str], invoke: Invoke, unchanged: Callable[[], None]
) -> None:
    """A bad name is wrong usage in every command that takes one.

    One that only a key may have is not there if there is no template.
    """
    for name in ("", *BAD_NAMES):
        wrong_usage(invoke(*command, "--", name))
    for name in NAMES_OF_KEYS:
        refuses = wrong_usage if command[0] == "create" else database_error
        refuses(invoke(*command, "--", name))
    unchanged()


BAD_WHOLE_NUMBERS = [
    *("-1", str(MAX + 1), "1" + "0" * 30, "9" * 5000, "1.5", "1.0", "1e3", "nan", "inf", "-inf"),
    *("", " ", "one", "True", "0x10", "1\n2"),
]
BAD_RATES = [
    *("-1", "-0.001", "nan", "inf", "-inf", "1e999", "nan\n"),
    *("", " ", "fast", "1/2", "True", "0x10", "1\n2"),
]


@pytest.mark.parametrize(
    "command",
    [
        ["create", "new", "--limit"],
        ["create", "new", "-l"],
        ["create", "new", "--limit", "1", "--active-slots"],
        ["update", "database", "--limit"],
        ["update", "database", "--active-slots"],
    ],
    ids=" ".join,
)
def test_bad_whole_numbers_in_commands(
    command: list[str], invoke: Invoke, unchanged: Callable[[], None]
) -> None:
    """A bad number of slots is wrong usage."""
    for value in BAD_WHOLE_NUMBERS:
        wrong_usage(invoke(*command, value))
    unchanged()


@pytest.mark.parametrize("command", [["create", "new", "-l", "1"], ["update", "api"]], ids=" ".join)
def test_bad_rates_in_commands(
    command: list[str], invoke: Invoke, unchanged: Callable[[], None]
) -> None:
    """A rate is a finite number, 0 or more."""
    for value in BAD_RATES:
        wrong_usage(invoke(*command, "--slot-decay-per-second", value))
    unchanged()


@pytest.mark.parametrize(
    "command",
    [
        ["create"],
        ["create", "new"],
        ["create", "--limit", "1"],
        ["create", "new", "other", "--limit", "1"],
        ["create", "new", "--limit"],
        ["inspect"],
        ["inspect", "database", "api"],
        ["inspect", "database", "-o", "yaml"],
        ["ls", "database"],
        ["ls", "--output", "text"],
        ["update", "database"],
        ["update", "--limit", "1"],
        ["update", "database", "--enable", "--disable"],
        ["update", "database", "--limit", "1", "--enable", "--disable"],
        ["enable"],
        ["disable"],
        ["delete", "--yes"],
        ["reset", "--yes"],
        ["ps", "database", "api"],
        ["release"],
        ["release", "one", "two"],
        ["export", "database"],
        ["doctor", "database"],
        ["doctor", "-o", "yaml"],
        ["drop", "database"],
        ["ls", "--colour"],
        ["--db"],
    ],
    ids=" ".join,
)
def test_wrong_usage(command: list[str], invoke: Invoke, unchanged: Callable[[], None]) -> None:
    """What is missing, too much or unknown is wrong usage."""
    wrong_usage(invoke(*command))
    unchanged()


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "unknown"],
        ["inspect", "unknown", "-o", "json"],
        ["update", "unknown", "--limit", "1"],
        ["enable", "unknown"],
        ["disable", "unknown"],
        ["delete", "unknown", "--yes"],
        ["delete", "unknown"],
        ["reset", "unknown", "--yes"],
        ["reset", "unknown"],
        ["ps", "unknown"],
        ["ps", "unknown", "-o", "json"],
        ["top", "unknown"],
        ["release", "unknown"],
        ["release", ""],
        ["release", "un\nknown"],
        ["release", "\udcff"],
    ],
    ids=lambda command: ascii(" ".join(command)),
)
def test_unknown_names_in_commands(command: list[str], invoke: Invoke, known: Limiter) -> None:
    """A name or a lease that is not there is an error, before any question is asked."""
    before = tables(known)
    database_error(invoke(*command))
    assert tables(known) == before


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", "database"],
        ["enable", "database"],
        ["disable", "database"],
        ["delete", "database", "--yes"],
        ["reset", "database", "--yes"],
        ["ps", "database"],
        ["release", "unknown"],
    ],
    ids=" ".join,
)
def test_unknown_names_without_a_database(command: list[str], invoke: Invoke, path: str) -> None:
    """Where no database is, no name is; and asking makes none."""
    database_error(invoke(*command))
    _not_there(path)


@pytest.mark.parametrize(
    "command",
    [
        ["create", "database", "--limit", "5"],
        ["create", "database", "--limit", "2"],
        ["enable", "database"],
        ["disable", "sleeping"],
    ],
    ids=" ".join,
)
def test_what_is_so_already(command: list[str], invoke: Invoke, known: Limiter) -> None:
    """What is so already is an error, so that a script learns of it."""
    known.create("sleeping", 1, active=False)
    before = tables(known)
    database_error(invoke(*command))
    assert tables(known) == before


@pytest.mark.parametrize(
    "name", ["two  spaces", "line\u2028separator", "bell\u200bwidth"], ids=ascii
)
@pytest.mark.parametrize(
    "command",
    [["create", "-l", "1"], ["enable"], ["delete"], ["inspect"], ["ps"], ["update", "-l", "1"]],
    ids=" ".join,
)
def test_an_error_is_one_line_whatever_the_name(
    command: list[str], name: str, invoke: Invoke, limiter: Limiter
) -> None:
    """What separates lines in some program does not separate them in an error."""
    limiter.create(name if command[0] in ("create", "enable") else "other", 1)
    database_error(invoke(*command, name))


@pytest.mark.parametrize("database", ["", ":memory:", "file:limits.db", "file:///x?mode=memory"])
def test_databases_that_no_process_could_share(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a database is wrong usage of --db, and a ValueError in Python."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="cannot be shared"):
        Limiter(database)
    done = subprocess.run(
        [sys.executable, "-m", "localgcl", "--db", database, "create", "new", "--limit", "1"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Usage:")
    assert done.stderr.splitlines()[-1].startswith("Error:")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("database", [5, b"limits.db", 1.5, ["limits.db"]], ids=repr)
def test_databases_of_other_types(database: Any, flavour: Flavour) -> None:
    """A database is a path."""
    with pytest.raises(TypeError):
        flavour.limiter(database)


@pytest.mark.parametrize("answer", [b"\xff\xfe\n", b"yes\xff\n", b"y" * 100_000, b"\x00\n"])
@pytest.mark.parametrize("command", ["delete", "reset"])
def test_answers_that_are_no_text(
    command: str, answer: bytes, invoke: Invoke, known: Limiter
) -> None:
    """Any answer but yes changes nothing and is an error, whatever its bytes."""
    before = tables(known)
    result = invoke(command, "database", answer=answer)
    assert result.exit_code == 1, repr(result.exception)
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert tables(known) == before


@pytest.mark.parametrize(
    ("redirected", "command"),
    [
        ("<&-", ["delete", "database"]),
        ("</dev/null", ["reset", "database"]),
        (">/dev/full", ["ls"]),
        (">/dev/full", ["ls", "-o", "json"]),
        (">/dev/full", ["inspect", "database"]),
        (">/dev/full", ["top"]),
        (">/dev/full", ["export"]),
        (">/dev/full", ["doctor"]),
        ("</dev/null >/dev/full", ["apply", "-"]),
        (">/dev/full", ["--help"]),
    ],
    ids=lambda one: one if isinstance(one, str) else " ".join(one),
)
@blocking_alone
def test_streams_that_do_not_work(
    redirected: str, command: list[str], known: Limiter, path: str
) -> None:
    """A closed standard input is no answer; a full disk under the output an error of one line."""
    before = tables(known)
    words = [sys.executable, "-m", "localgcl", "--db", path, *command]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *words], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert tables(known) == before


@pytest.mark.parametrize(
    "command", [["inspect", "nope"], ["release", "nope"], ["run", "nope", "true"]]
)
def test_what_is_told_on_a_closed_standard_error_is_told_nowhere(
    command: list[str], path: str
) -> None:
    """Whoever reads the output is not to take an error for it."""
    words = [sys.executable, "-m", "localgcl", "--db", path, *command]
    done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *words], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


@pytest.mark.parametrize("word", ["a\nb", "\r", "\u2028"])
def test_wrong_usage_is_one_line_too(word: str, invoke: Invoke) -> None:
    """The last line of wrong usage says what is wrong, whatever was typed."""
    for line in ([word], ["ls", word], ["create", "a", "--limit", word], ["update", f"--{word}"]):
        result = invoke(*line)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith("Error: ")
