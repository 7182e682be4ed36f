"""Arguments that nobody foresaw, on the command line and in Python: refused, or done."""

from __future__ import annotations

import contextlib
import string
from collections.abc import Callable
from typing import Any

import click
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from localgcl import Limiter, LocalGCLError
from localgcl._base.checks import MAX_SLOTS
from localgcl.cli import localgcl
from tests.helpers.database import tables
from tests.helpers.programs import Invoke

# The database is one for all examples of a test, which makes it the stranger.
PERSISTENT = settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

# `serve` and `run` would go on for ever, or run what was made up.
CONTEXT = click.Context(localgcl)
COMMANDS = sorted(set(localgcl.list_commands(CONTEXT)) - {"serve", "run"})
OPTIONS = sorted(
    {
        name
        for command in COMMANDS
        if (found := localgcl.get_command(CONTEXT, command)) is not None
        for one in found.params
        for name in one.opts
    }
)
WORDS = st.one_of(
    st.sampled_from(OPTIONS),
    st.sampled_from(["a", "b", "a/b", "-", "--", "", "json", "1", "0", "-1", "1e9", "nan", "inf"]),
    st.sampled_from(
        ["--yes", "--limit=1", "-l", "99999999999999999999", "٣", "\ud800", "~", "a b"]
    ),
    st.text(string.printable, max_size=8),
    st.text(max_size=8).filter(lambda word: "\0" not in word),  # no command line has that
)


@settings(PERSISTENT, max_examples=400)
@given(
    command=st.sampled_from(COMMANDS),
    words=st.lists(WORDS, max_size=5),
    answer=st.sampled_from([b"", b"y\n", b"n\n", b"\xff\n", b"[limits.a]\nlimit = 1\n"]),
)
@example(command="create", words=["a", "-l", "1"], answer=b"")
@example(command="update", words=["a", "--active-slots", "1"], answer=b"")
def test_command_line(command: str, words: list[str], answer: bytes, invoke: Invoke) -> None:
    """Every command line ends with 0, 1, 2 or 75, and never with a traceback."""
    # A rate might let it wait for as long as it takes.
    patience = ["--no-wait"] if command == "rate-limit" else []
    result = invoke(command, *patience, *words, answer=answer)
    told = f"{result.exception!r} {result.stderr}"
    assert result.exception is None or isinstance(result.exception, SystemExit), told
    assert result.exit_code in (0, 1, 2, 75), told
    if result.exit_code == 1:
        assert result.stderr.splitlines()[-1].startswith("Error: "), told
    elif result.exit_code == 2:
        assert "Usage: " in result.stderr, told
        assert result.stderr.splitlines()[-1].startswith("Error: "), told


NUMBERS = st.one_of(
    st.integers(-3, 5),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.decimals(),
    st.sampled_from([MAX_SLOTS, MAX_SLOTS + 1, 10**400, "1", b"1", None, [], 1j, object()]),
)
NAMES = st.one_of(
    st.sampled_from(["a", "b", "", " ", "a/b", "\0", "\ud800", "x" * 255, "x" * 256]),
    st.text(max_size=10),
    st.binary(max_size=3),
    st.sampled_from([None, 1, ["a"], {"a": 1}, object()]),
)


@PERSISTENT
@given(
    call=st.sampled_from(["create", "update", "upsert"]),
    name=NAMES,
    new_name=st.none() | NAMES,
    limit=NUMBERS,
    decay=NUMBERS,
    active=st.booleans() | NUMBERS,
    active_slots=NUMBERS,
)
def test_administration(
    call: str,
    name: Any,
    new_name: Any,
    limit: Any,
    decay: Any,
    active: Any,
    active_slots: Any,
    limiter: Limiter,
) -> None:
    """What is taken can be read again as it is; all the rest is one of three errors."""
    values = {
        "slot_decay_per_second": decay,
        "active": active,
        "active_slots": active_slots,
    }
    try:
        if call == "update":
            made = limiter.update(name, limit=limit, new_name=new_name, **values)
        else:
            made = getattr(limiter, call)(name, limit, **values)
    except (TypeError, ValueError, LocalGCLError):
        return
    found = limiter.read(made.name)
    assert (found.name, found.limit, found.active) == (made.name, made.limit, made.active)
    assert found.slot_decay_per_second == made.slot_decay_per_second
    if call != "update":
        assert (made.name, made.limit) == (name, limit)
    limiter.delete(made.name)


ANYTHING = st.one_of(NAMES, NUMBERS, st.lists(NAMES, max_size=3))


@PERSISTENT
@given(
    names=ANYTHING,
    occupy=st.sampled_from([1, 2, 3]) | NUMBERS,
    timeout=st.sampled_from([0, 0.001]) | NUMBERS.filter(lambda number: number is not None),
    max_retries=st.sampled_from([0, None]) | NUMBERS,
    holder=st.one_of(
        st.none(), st.text(), st.dictionaries(st.text(max_size=3), NUMBERS, max_size=2), NUMBERS
    ),
    strict=st.booleans(),
)
def test_requests(
    names: Any,
    occupy: Any,
    timeout: Any,
    max_retries: Any,
    holder: Any,
    strict: Any,
    limiter: Limiter,
) -> None:
    """A request is granted or refused, bad arguments before anything is touched."""
    # Both have room: with any timeout nobody waits but for what it is refused.
    limiter.upsert("a", 3, active_slots=0)
    limiter.upsert("b", 3, slot_decay_per_second=1.0, active_slots=0)

    def block() -> None:
        with limiter.concurrency(names, occupy, timeout, max_retries, strict=strict):
            pass

    calls: tuple[Callable[[], Any], ...] = (
        lambda: limiter.acquire(names, occupy, timeout, max_retries, strict, holder).release(),
        lambda: limiter.rate_limit(names, occupy, timeout, strict),
        block,
    )
    for call in calls:
        before = tables(limiter)
        try:
            call()
        except LocalGCLError:
            pass
        except (TypeError, ValueError):
            assert tables(limiter) == before
    assert limiter.holders() == []
    assert limiter.waiters() == []
    assert limiter.read("a").active_slots == 0


@PERSISTENT
@given(value=ANYTHING)
def test_names_and_ids(value: Any, limiter: Limiter) -> None:
    """What is no name or no id is refused or unknown, and deletes nothing."""
    limiter.upsert("kept", 1)
    for call in (
        limiter.read,
        limiter.reset,
        limiter.holders,
        limiter.waiters,
        limiter.release,
        lambda name: limiter.delete(name) if name != "kept" else None,
    ):
        with contextlib.suppress(TypeError, ValueError, LocalGCLError):
            call(value)
    assert limiter.read("kept").limit == 1
