"""Rates, windows, pauses and templates on the command line: what is typed, and what comes back."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from localgcl import Limiter
from tests.helpers.database import tables
from tests.helpers.played import Clock, Processes
from tests.helpers.programs import Invoke, database_error, wrong_usage


@pytest.fixture
def known(limiter: Limiter) -> Limiter:
    """A limiter whose database has one limit of each kind."""
    limiter.create("database", 2)
    limiter.create("api", 10, rate="100/min")
    limiter.create("sms", 5, window_seconds=60)
    limiter.create("customer:*", 1)
    return limiter


def printed(invoke: Invoke, *words: str) -> Any:
    """Return the JSON that a command prints."""
    result = invoke(*words)
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def facts(invoke: Invoke, name: str) -> dict[str, str]:
    """Return what `inspect` says of a limit, line by line."""
    lines = invoke("inspect", name).stdout.partition("\n\n")[0].splitlines()
    return {label: text.strip() for label, _, text in (line.partition(":") for line in lines)}


def row(invoke: Invoke, name: str, *options: str) -> dict[str, str]:
    """Return the row of a limit in `ls`, by its headings."""
    headings, *rows = invoke("ls", *options).stdout.splitlines()
    heads = re.split(r"\s{2,}", headings)
    heads.insert(heads.index("WAITING"), "BAR")
    (found,) = [one for one in rows if one.startswith(f"{name} ")]
    return dict(zip(heads, re.split(r"\s{2,}", found), strict=True))


# Rates and windows

RATES = {
    "100/min": (10, ["--limit", "10", "--rate", "100/min"], 100 / 60, 0.0),
    "1/s": (1, ["--rate", "1/s"], 1.0, 0.0),
    "4/h": (3, ["-l", "3", "--rate", "1/15min"], 1 / 900, 0.0),
    "30/min": (3, ["-l", "3", "--slot-decay-per-second", "0.5"], 0.5, 0.0),
    "5 in any 1 min": (5, ["-l", "5", "--window", "1min"], 0.0, 60.0),
    "5 in any 90 s": (5, ["-l", "5", "--window", "1.5m"], 0.0, 90.0),
    "5 in any 0.5 s": (5, ["-l", "5", "--window", "0.5"], 0.0, 0.5),
    "-": (5, ["-l", "5", "--window", "0"], 0.0, 0.0),
}


@pytest.mark.parametrize("text", RATES)
def test_how_slots_come_back(text: str, invoke: Invoke, limiter: Limiter) -> None:
    """A limit is created with a rate or a window, and shown with it as people write it."""
    slots, options, decay, window = RATES[text]
    assert invoke("create", "new", *options).exit_code == 0
    made = limiter.read("new")
    assert (made.limit, made.window_seconds) == (slots, window)
    assert made.slot_decay_per_second == pytest.approx(decay)
    assert row(invoke, "new")["RATE"] == text
    assert facts(invoke, "new")["Rate"] == text


def test_the_one_replaces_the_other(invoke: Invoke, known: Limiter) -> None:
    """A window takes the place of a rate, and the other way round."""
    assert invoke("update", "api", "--window", "2h").exit_code == 0
    assert (known.read("api").rate, known.read("api").window_seconds) == (None, 7200.0)
    assert invoke("update", "api", "--rate", "5/s", "--name", "calls").exit_code == 0
    assert (known.read("calls").rate, known.read("calls").window_seconds) == ("5/s", 0.0)


BAD_RATES = [
    "100",
    "/min",
    "100/fortnight",
    "0/min",
    "-1/s",
    "1e400/s",
    "nan/s",
    "",
    "1/0s",
    "1//s",
]
BAD_DURATIONS = ["-1", "nan", "soon", "5 fortnights", "", "-5min", "1min2", "min"]


@pytest.mark.parametrize("rate", BAD_RATES)
def test_bad_rates(rate: str, invoke: Invoke, known: Limiter) -> None:
    """What is no rate is wrong usage."""
    before = tables(known)
    for command in (["create", "new", "-l", "1"], ["create", "new"], ["update", "api"]):
        wrong_usage(invoke(*command, "--rate", rate))
    assert tables(known) == before


@pytest.mark.parametrize("text", BAD_DURATIONS)
def test_bad_durations(text: str, invoke: Invoke, known: Limiter) -> None:
    """What is no time is wrong usage, wherever a time is given."""
    before = tables(known)
    for command in (
        ["create", "new", "-l", "1", "--window"],
        ["update", "sms", "--window"],
        ["pause", "api", "--for"],
        ["top", "--interval"],
        ["rate-limit", "api", "--timeout"],
        ["run", "database", "--timeout"],
    ):
        wrong_usage(invoke(*command, text, *(["true"] if command[0] == "run" else [])))
    assert tables(known) == before


WRONG = [
    ["create", "new", "-l", "1", "--window", "1" + "0" * 400],
    ["create", "new", "-l", "1", "--window", "inf"],
    ["create", "new", "--window", "60"],
    ["create", "new", "-l", "1", "--rate", "5/s", "--window", "60"],
    ["create", "new", "-l", "1", "--rate", "5/s", "--slot-decay-per-second", "5"],
    ["create", "new", "-l", "1", "--slot-decay-per-second", "5", "--window", "60"],
    ["create", "a/b*", "-l", "1"],
    ["update", "api", "--rate", "5/s", "--window", "60"],
    ["update", "api", "--slot-decay-per-second", "1", "--window", "60"],
    ["update", "api", "--name", "a/b"],
    ["pause", "api", "--for", "0"],
    ["pause"],
    ["resume", "api", "5"],
    ["adjust", "api"],
    ["adjust", "api", "1.5"],
    ["adjust", "api", "many"],
    ["adjust", "api", "-many"],
    ["adjust", "api", "-5", "-5"],
    ["adjust", "api", str(2**53)],
    ["ls", "customer:*"],
    *(["run", "--take", *pair, "database", "true"] for pair in (("api", "0"), ("api", "-1"))),
    *(["run", "--take", *pair, "database", "true"] for pair in (("", "1"), ("a\nb", "1"))),
    ["run", "--take", "api", "1.5", "database", "true"],
    ["run", "--take", "api", "database", "true"],
    ["run", "--take", "database", "2", "database", "true"],
    ["rate-limit", "--take", "sms", "0", "api"],
    ["rate-limit", "--take", "sms"],
    ["rate-limit", "--occupy", "0", "--take", "sms", "1", "api"],
]


@pytest.mark.parametrize("command", WRONG, ids=lambda words: ascii(" ".join(words))[:60])
def test_wrong_usage(command: list[str], invoke: Invoke, known: Limiter) -> None:
    """Values that can never be right, and options that exclude each other, touch nothing."""
    before = tables(known)
    wrong_usage(invoke(*command))
    assert tables(known) == before


ERRORS = [
    ["adjust", "database", "5"],
    ["adjust", "customer:*", "5"],
    ["adjust", "unknown", "5"],
    ["pause", "unknown"],
    ["resume", "unknown"],
    ["update", "customer:*", "--active-slots", "1"],
    *([command, "customer:42"] for command in ("pause", "resume", "enable", "disable", "delete")),
    ["update", "customer:a/b", "--limit", "5"],
    ["inspect", "client:42"],
    ["run", "customer:*", "true"],
    ["run", "--take", "api", "11", "database", "true"],
    ["rate-limit", "--take", "sms", "6", "api"],
    ["rate-limit", "--also", "database", "api"],
    ["run", "--limit", "1", "a/b", "true"],
]


@pytest.mark.parametrize("command", ERRORS, ids=" ".join)
def test_what_a_limit_does_not_allow(command: list[str], invoke: Invoke, known: Limiter) -> None:
    """What only the database can tell is an error of one line, which changes no limit."""
    before, seen = tables(known), known.read_all()
    database_error(invoke(*command))
    after = tables(known)
    for table in ("settings", "leases", "taken", "waiters", "waits"):
        assert after[table] == before[table]
    assert known.read_all() == seen


def test_an_error_about_a_key_names_its_template(invoke: Invoke, known: Limiter) -> None:
    """A change to a key is one to its template, or to a limit of its own."""
    assert known.read("customer:42").template == "customer:*"
    for command in (["pause"], ["enable"], ["delete", "--yes"], ["update", "--limit", "2"]):
        assert "'customer:*'" in invoke(*command, "customer:42").stderr


# adjust


def test_adjust(invoke: Invoke, known: Limiter, clock: Clock) -> None:
    """More slots are in use, or fewer; negative numbers need no dashes before them."""
    assert known.read("api").active_slots == 0
    for words, left in ((["4"], 4), (["-3"], 1), (["--", "-3"], 0), (["12"], 12)):
        result = invoke("adjust", "api", *words)
        assert (result.exit_code, result.stderr) == (0, "")
        assert f"{left} of 10" in result.stdout
        assert known.read("api").active_slots == left
    assert invoke("adjust", "-h").exit_code == 0


# pause and resume


def test_pause_and_resume(invoke: Invoke, known: Limiter, clock: Clock) -> None:
    """Nothing is granted until then, and everybody who asks is told so."""
    assert invoke("pause", "api", "--for", "5min").exit_code == 0
    until = known.read("api").paused_until
    assert until is not None
    assert until.timestamp() - clock.wall == pytest.approx(300)
    assert row(invoke, "api")["ACTIVE"] == "paused for 5 min"
    assert facts(invoke, "api")["Next slot"] == "in 300 s"
    assert facts(invoke, "api")["Paused"] == f"until {until:%Y-%m-%d %H:%M:%S} UTC"
    assert invoke("rate-limit", "--no-wait", "api").exit_code == 75
    clock.advance(300)
    assert invoke("rate-limit", "--no-wait", "api").exit_code == 0
    assert row(invoke, "api")["ACTIVE"] == "yes"
    assert invoke("pause", "api").exit_code == 0
    assert row(invoke, "api")["ACTIVE"] == "paused"
    assert facts(invoke, "api")["Paused"] == "until `resume`"
    assert printed(invoke, "inspect", "api", "-o", "json")["paused_until"] == "9999-12-31T23:59:59Z"
    for _ in range(2):
        assert invoke("resume", "api").exit_code == 0
        assert facts(invoke, "api")["Paused"] == "no"
    assert invoke("rate-limit", "--no-wait", "api").exit_code == 0


# Templates


def test_templates(invoke: Invoke, known: Limiter, processes: Processes) -> None:
    """A template has the sums over its keys, which are listed if they are asked for."""
    leases = [known.acquire(f"customer:{name}") for name in ("42", "a/b")]
    processes().ask("customer:42")
    assert row(invoke, "customer:*")["KEYS"] == "2"
    assert (row(invoke, "customer:*")["IN USE"], row(invoke, "database")["KEYS"]) == ("2", "-")
    listed = [one["name"] for one in printed(invoke, "ls", "-o", "json")]
    assert listed == ["api", "customer:*", "database", "sms"]
    with_keys = printed(invoke, "ls", "--keys", "-o", "json")
    names = [one["name"] for one in with_keys if one["template"] == "customer:*"]
    assert names == ["customer:42", "customer:a/b"]
    assert row(invoke, "customer:a/b", "--keys")["IN USE"] == "1"
    assert facts(invoke, "customer:42")["Template"] == "customer:*"
    assert facts(invoke, "customer:*")["Keys"] == "2"
    shown = printed(invoke, "ps", "customer:*", "-o", "json")
    assert [one["limit"] for one in shown["holders"]] == ["customer:42", "customer:a/b"]
    assert [one["limit"] for one in shown["waiters"]] == ["customer:42"]
    assert "customer:a/b" in invoke("ps", "customer:a/b").stdout
    assert invoke("reset", "customer:a/b", "--yes").exit_code == 0
    assert [one.limit for one in known.holders()] == ["customer:42"]
    for lease in leases:
        lease.release()


def test_when_a_waiter_expects_its_slot(
    invoke: Invoke, known: Limiter, processes: Processes
) -> None:
    """A rate tells when; a plain limit cannot."""
    known.adjust("sms", 5)
    known.acquire("database", 2)
    for name in ("sms", "database"):
        processes().ask(name)
    expected = {
        one["limit"]: one["expected_seconds"]
        for one in printed(invoke, "ps", "-o", "json")["waiters"]
    }
    assert expected["database"] is None
    assert 0 < expected["sms"] <= 60
    assert "EXPECTED" in invoke("ps").stdout


def test_before_any_release(invoke: Invoke, known: Limiter, clock: Clock) -> None:
    """The mean time that a slot was held is shown once there is one."""
    assert facts(invoke, "database")["Held"] == "-"
    lease = known.acquire("database")
    clock.advance(10)
    lease.release()
    assert facts(invoke, "database")["Held"] == "4 s on average"
