"""The plan of `apply`: what a file asks for, what is wrong with it, and the way there."""

from __future__ import annotations

import doctest
import re
import tomllib
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from localgcl._admin import plan as _plan
from localgcl._admin.plan import Plan, in_toml, plan, settings_of
from localgcl._base.checks import FORBIDDEN_IN_NAMES, MAX_SLOTS
from localgcl.models import Settings

NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=FORBIDDEN_IN_NAMES),
    min_size=1,
    max_size=255,
).filter(lambda name: not name.isspace())
SETTINGS = st.builds(
    Settings,
    limit=st.integers(0, MAX_SLOTS),
    slot_decay_per_second=st.floats(0, allow_nan=False, allow_infinity=False),
    active=st.booleans(),
)
LIMITS = st.dictionaries(NAMES, SETTINGS, max_size=5)


def test_the_examples_of_its_docstrings() -> None:
    """Each says what is printed."""
    failed, attempted = doctest.testmod(_plan)
    assert failed == 0
    assert attempted


@given(limits=LIMITS)
@example(limits={'quotes" and \\backslashes\\n': Settings(limit=1)})
@example(limits={"''' \"\"\" #": Settings(limit=1)})
@example(limits={"v1.2.eu": Settings(limit=1), "v1": Settings(limit=2)})
@example(limits={"数据库 🐘 \u202e\u2028\ufeff": Settings(limit=1)})
@example(limits={"-": Settings(limit=0, slot_decay_per_second=5e-324, active=False)})
@example(limits={"1e+22": Settings(limit=1, slot_decay_per_second=1.7976931348623157e308)})
def test_what_is_written_is_read_again(limits: dict[str, Settings]) -> None:
    """Whatever a limit may be called and be told to be survives the trip through TOML."""
    written = in_toml(limits).encode()
    assert settings_of(written) == limits
    assert list(settings_of(written)) == sorted(limits)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_key_is_written_as_toml_reads_it(key: str) -> None:
    """A key with characters that no name may have is shown in errors, and is TOML too."""
    assert tomllib.loads(f"{_plan.key_in_toml(key)} = 1") == {key: 1}


def test_a_file_that_asks_for_little() -> None:
    """What is left out takes its default; a rate may be a whole number, and a mark may lead."""
    content = "\ufeff[limits.a]\nlimit = 1\n[limits.'b c']\nlimit = 0\nslot_decay_per_second = 2"
    assert settings_of(content.encode()) == {
        "a": Settings(limit=1, slot_decay_per_second=0.0, active=True),
        "b c": Settings(limit=0, slot_decay_per_second=2.0, active=True),
    }


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"[limits]\n", b"limits = {}"])
def test_a_file_that_asks_for_nothing(content: bytes) -> None:
    """It names no limit, which is for `--prune` to refuse."""
    assert settings_of(content) == {}


# What is refused: the content, the table to be named, and part of the reason.
BAD: list[tuple[str, str, str]] = [
    ("limits = 5", "[limits]", "table"),
    ("limits = [1]", "[limits]", "table"),
    ("[[limits]]\nlimit = 1", "[limits]", "table"),
    ("[limits]\ndatabase = 5", "[limits.database]", "table"),
    ("[[limits.database]]\nlimit = 5", "[limits.database]", "table"),
    ("limit = 5", "the top level", "limit"),
    ("[limit.database]\nlimit = 5", "the top level", "limit"),
    ("[limits.a]\nlimit = 1\n[other]\n", "the top level", "other"),
    ("[limits.database]", "[limits.database]", "limit is required"),
    ("[limits.database]\nactive = true", "[limits.database]", "limit is required"),
    ("[limits.a]\nlimit = 1\nslots = 2", "[limits.a]", "slots is unknown"),
    ("[limits.a]\nlimit = 1\nactive_slots = 2", "[limits.a]", "active_slots is unknown"),
    ("[limits.a]\nlimit = 1\nname = 'b'", "[limits.a]", "name is unknown"),
    ("[limits.a]\nlimit = 1\n'a\\u0007' = 1", "[limits.a]", "unknown"),
    ("[limits.a.b]\nlimit = 1", "[limits.a]", "b is unknown"),
    ("[limits.a]\nlimit = 1\n[limits.a.b]", "[limits.a]", "b is unknown"),
    *(
        (f"[limits.a]\nlimit = {value}", "[limits.a]", "limit: ")
        for value in (
            *("-1", "9007199254740992", "1" * 100, "1.0", "1e3", "'5'", "true", "nan", "inf"),
            *("[]", "{}", "1979-05-27"),
        )
    ),
    *(
        (f"[limits.a]\nlimit = 1\nslot_decay_per_second = {value}", "[limits.a]", "slot_decay")
        for value in ("-1", "-0.5", "nan", "inf", "-inf", "'2'", "true", "1" * 400, "[2.0]")
    ),
    *(
        (f"[limits.a]\nlimit = 1\nactive = {value}", "[limits.a]", "active: ")
        for value in ("1", "0", "'true'", "1.0", "[]")
    ),
    *(
        (f'[limits."data{one}base"]\nlimit = 1', f'[limits."data{one}base"]', "the limit name")
        for one in FORBIDDEN_IN_NAMES
    ),
    ('[limits."a\\u0007"]\nlimit = 1', '[limits."a\\u0007"]', "control"),
    ('[limits."a\\u007f"]\nlimit = 1', '[limits."a\\u007f"]', "control"),
    ('[limits."a\\nb"]\nlimit = 1', '[limits."a\\nb"]', "control"),
    ('[limits.""]\nlimit = 1', '[limits.""]', "blank"),
    ('[limits." \\u3000"]\nlimit = 1', '[limits." \u3000"]', "blank"),
    (f"[limits.{'x' * 256}]\nlimit = 1", f"[limits.{'x' * 60}...]", "longer"),
    ('[limits."[key]"]\nlimit = "1"', '[limits."[key]"]', "limit: "),
]


@pytest.mark.parametrize(("content", "table", "reason"), BAD, ids=lambda one: ascii(one)[:60])
def test_bad_files(content: str, table: str, reason: str) -> None:
    """Unknown keys, wrong types and bad names are refused with the table and the reason."""
    with pytest.raises(ValueError, match=re.escape(reason)) as caught:
        settings_of(content.encode())
    error = str(caught.value)
    assert error.startswith(f"{table}: ")
    assert not any(unicodedata.category(one) == "Cc" for one in error)


NOT_TOML: dict[str, bytes] = {
    "no value": b"limit =",
    "twice": b"[limits.a]\nlimit = 1\n[limits.a]\nlimit = 2",
    "the same key twice": b"[limits.a]\nlimit = 1\nlimit = 2",
    "two names in one": b"[limits]\na.limit = 1\na = 2",
    "no toml": b'{"limits": {}}',
    "yaml": b"limits:\n  a:\n    limit: 1\n",
    "Latin-1": "[limits.é]".encode("latin-1"),
    "UTF-16": "[limits.a]\nlimit = 1".encode("utf-16"),
    "half a character": b'[limits."\\ud800"]',
    "a null": b"[limits.a]\nlimit = 1\x00",
    "too many digits": b"[limits.a]\nlimit = " + b"1" * 5000,
    "deeply nested": b"x = " + b"[" * 100_000,
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("content", NOT_TOML.values(), ids=NOT_TOML)
def test_what_is_not_toml(content: bytes) -> None:
    """It is said to be none, whatever the parser stumbles over."""
    with pytest.raises(ValueError, match="it is not "):
        settings_of(content)


# The way there


def one(limit: int, rate: float = 0.0, *, active: bool = True) -> Settings:
    """Return settings."""
    return Settings(limit=limit, slot_decay_per_second=rate, active=active)


def test_a_plan() -> None:
    """Each part is by name, and names what changes and nothing else."""
    ours = plan(
        {"new": one(1), "also new": one(2), "same": one(3, 0.5), "changed": one(4, 2.0)},
        {"same": one(3, 0.5), "changed": one(5, 2.0, active=False), "old": one(1)},
        busy=("old", "same", "changed"),
        prune=False,
    )
    assert list(ours.created.items()) == [("also new", one(2)), ("new", one(1))]
    assert ours.updated == {"changed": {"limit": (5, 4), "active": (False, True)}}
    assert (ours.deleted, ours.unchanged, ours.in_the_way) == ((), 1, ())
    assert ours.lines() == [
        "+ also new",
        "+ new",
        "~ changed: limit 5 -> 4, active false -> true",
    ]
    assert ours.summary(dry_run=False) == "Created 2, updated 1, deleted 0, unchanged 1."


def test_a_plan_that_prunes() -> None:
    """What the file does not name is deleted, unless somebody is in the way."""
    present = {"b": one(1), "a": one(1), "kept": one(1)}
    ours = plan({"kept": one(1)}, present, busy=("kept",), prune=True)
    assert (ours.deleted, ours.in_the_way, ours.unchanged) == (("a", "b"), (), 1)
    assert ours.lines() == ["- a", "- b"]
    assert ours.summary(dry_run=True) == "Would create 0, update 0, delete 2, unchanged 1."
    ours = plan({"kept": one(1)}, present, busy=("kept", "b"), prune=True)
    assert (ours.deleted, ours.in_the_way) == (("a", "b"), ("b",))


def test_rates_in_a_plan() -> None:
    """A rate is shown as it is written in the file."""
    ours = plan({"a": one(1, 0.1)}, {"a": one(1, 2.0)}, busy=(), prune=False)
    assert ours.lines() == ["~ a: slot_decay_per_second 2.0 -> 0.1"]


@given(wanted=LIMITS, present=LIMITS, prune=st.booleans())
def test_a_plan_leads_there_and_ends(
    wanted: dict[str, Settings], present: dict[str, Settings], prune: bool
) -> None:
    """Carried out, it makes what was wanted, and the next plan has nothing to do."""
    ours = plan(wanted, present, busy=(), prune=prune)
    after = carried_out(ours, present)
    assert after == (wanted if prune else {**present, **wanted})
    again = plan(wanted, after, busy=(), prune=prune)
    assert again == Plan({}, {}, (), unchanged=len(wanted))
    assert again.lines() == []
    assert len(ours.created) + len(ours.updated) + ours.unchanged == len(wanted)
    assert len(ours.lines()) == len(ours.created) + len(ours.updated) + len(ours.deleted)


def carried_out(ours: Plan, present: dict[str, Settings]) -> dict[str, Settings]:
    """Return the limits after a plan, each change from what the plan says was there."""
    after = {**present, **ours.created}
    for name, changes in ours.updated.items():
        was = after[name].model_dump()
        assert {key: was[key] for key in changes} == {key: a for key, (a, _) in changes.items()}
        after[name] = Settings(**{**was, **{key: b for key, (_, b) in changes.items()}})
    for name in ours.deleted:
        del after[name]
    return after
