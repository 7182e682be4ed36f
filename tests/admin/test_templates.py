"""Templates: each name that begins as one does is a limit of its own, for as long as it is used."""

from __future__ import annotations

import os
from typing import Any

import pytest

from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    Limiter,
    LimitNotFoundError,
)
from tests.helpers.database import tables
from tests.helpers.flavours import both_flavours
from tests.helpers.played import Clock, Processes
from tests.helpers.programs import Invoke
from tests.helpers.usage import in_use, is_free

pytest_generate_tests = both_flavours


@pytest.fixture(autouse=True)
def _time(clock: Clock) -> None:
    """Have every test here move its time itself."""


def keys_left(limiter: Limiter) -> list[str]:
    """Return the names of the keys that have a row, without the clearing up of a reader."""
    return [row[1] for row in tables(limiter)["settings"] if row[0] < 0]


def test_each_key_has_slots_of_its_own(limiter: Limiter) -> None:
    """It is a limit of that name in every way, and gone when it is idle."""
    limiter.create("customer:*", 1)
    with limiter.concurrency("customer:42", strict=True) as lease:
        assert lease.slots == {"customer:42": 1}
        assert not is_free(limiter, "customer:42")
        assert is_free(limiter, "customer:43")
        key = limiter.read("customer:42")
        assert (key.name, key.template, key.limit, key.active_slots) == (
            *("customer:42", "customer:*"),
            *(1, 1),
        )
        assert [one.limit for one in limiter.holders("customer:42")] == ["customer:42"]
        template = limiter.read("customer:*")
        assert (template.active_slots, template.keys, template.template) == (1, 1, None)
    assert keys_left(limiter) == []
    idle = limiter.read("customer:42")
    assert (idle.id, idle.active_slots, idle.template) == (key.id, 0, "customer:*")
    assert limiter.read("customer:*").keys == 0
    assert [one.name for one in limiter.read_all()] == ["customer:*"]


@pytest.mark.parametrize(
    ("names", "request_of", "template"),
    [
        (["*"], "anything", "*"),
        (["*", "a*", "a:b*"], "a:bc", "a:b*"),
        (["*", "a*", "a:b*"], "a:", "a*"),
        (["customer:*"], "customer:", "customer:*"),
        (["a*b*"], "a*b1", "a*b*"),
        (["**"], "*x", "**"),
        (["path:*"], "path:/home/%s?a=1&b=<2>", "path:*"),
        (["x" * 254 + "*"], "x" * 255, "x" * 254 + "*"),
        (["ключ:*"], "ключ:Ж", "ключ:*"),
    ],
)
def test_the_longest_prefix_that_fits(
    limiter: Limiter, names: list[str], request_of: str, template: str
) -> None:
    """Whatever characters are in it."""
    for name in names:
        limiter.create(name, 1)
    with limiter.concurrency(request_of, strict=True):
        assert limiter.read(request_of).template == template
        assert limiter.read(template).keys == 1


def test_a_limit_of_that_name_comes_before_templates(limiter: Limiter) -> None:
    """And is none of their keys."""
    limiter.create("customer:*", 1)
    limiter.create("customer:1", 5)
    with limiter.concurrency("customer:1", 3):
        assert limiter.read("customer:1").template is None
        assert limiter.read("customer:*").keys == 0


@pytest.mark.parametrize("name", ["customer:*", "other:*"])
def test_a_template_cannot_be_asked_for(limiter: Limiter, name: str) -> None:
    """Its name is not that of a key."""
    limiter.create("customer:*", 1)
    limiter.create("o*", 1)
    if name == "customer:*":
        with pytest.raises(ConcurrencySlotAcquisitionError, match="template"):
            limiter.acquire(name, timeout_seconds=0)
    else:
        with limiter.concurrency(name, strict=True):  # a key like any other
            assert limiter.read(name).template == "o*"


@pytest.mark.parametrize("name", ["customer:" + "x" * 247, "customer:\n", "customer:\x00"])
def test_names_that_no_key_can_have(limiter: Limiter, name: str) -> None:
    """They are refused before anything is touched."""
    limiter.create("customer:*", 1)
    with pytest.raises(ValueError, match=r"longer|control"):
        limiter.acquire(name)
    assert keys_left(limiter) == []


def test_many_keys_one_after_another_leave_nothing(limiter: Limiter) -> None:
    """No row, and no larger file."""
    limiter.create("customer:*", 1)

    def use(numbers: range) -> int:
        for number in numbers:
            with limiter.concurrency(f"customer:{number}", strict=True):
                pass
        limiter.close()  # which writes the log into the file
        return os.stat(limiter._database.path).st_size

    before = use(range(50))
    assert use(range(50, 1500)) == before
    assert keys_left(limiter) == []


def test_ten_thousand_keys_at_once(limiter: Limiter) -> None:
    """Each is held, and counted; then all are gone."""
    limiter.create("customer:*", 1)
    leases = [limiter.acquire(f"customer:{number}", strict=True) for number in range(10_000)]
    template = limiter.read("customer:*")
    assert (template.keys, template.active_slots) == (10_000, 10_000)
    assert not is_free(limiter, "customer:9999")
    for lease in leases:
        lease.release()
    assert keys_left(limiter) == []


# Changes of a template


@pytest.mark.parametrize("change", ["larger", "disabled", "resumed", "deleted", "by rate"])
def test_a_change_of_the_template_concerns_the_waiters_of_all_keys(
    limiter: Limiter, processes: Processes, clock: Clock, change: str
) -> None:
    """Each of them is served in the transaction of the change."""
    limiter.create("customer:*", 1)
    keys = [f"customer:{number}" for number in range(3)]
    if change == "resumed":
        limiter.pause("customer:*")
    else:
        for key in keys:
            limiter.acquire(key, strict=True)
    asks = [processes().ask(key) for key in keys]
    assert not any(ask.granted for ask in asks)
    if change == "larger":
        limiter.update("customer:*", limit=2)
    elif change == "disabled":
        limiter.update("customer:*", active=False)
    elif change == "resumed":
        limiter.resume("customer:*")
    elif change == "deleted":
        limiter.delete("customer:*")
    else:
        limiter.update("customer:*", limit=2, slot_decay_per_second=1.0)
    assert all(ask.is_woken for ask in asks)  # before a look, which would serve them itself
    for ask in asks:
        ask.look()
    assert all(ask.granted for ask in asks)


def test_a_reset_frees_all_keys(limiter: Limiter) -> None:
    """Of the template; that of a key, its own."""
    limiter.create("customer:*", 1)
    leases = [limiter.acquire(f"customer:{number}") for number in range(3)]
    limiter.reset("customer:0")
    assert limiter.read("customer:*").active_slots == 2
    limiter.reset("customer:*")
    assert limiter.read("customer:*").active_slots == 0
    assert keys_left(limiter) == []
    for lease in leases:
        lease.release()


def test_a_longer_template_takes_over_new_keys_alone(limiter: Limiter) -> None:
    """A key belongs to its template until it is idle."""
    limiter.create("a*", 1)
    lease = limiter.acquire("a:1")
    limiter.create("a:*", 5)
    assert limiter.read("a:1").template == "a*"
    assert limiter.read("a:2").template == "a:*"
    lease.release()
    assert limiter.read("a:1").template == "a:*"


def test_a_limit_of_its_own_takes_over_what_the_key_has(
    limiter: Limiter, processes: Processes
) -> None:
    """Leases and waiters."""
    limiter.create("customer:*", 1)
    lease = limiter.acquire("customer:1")
    waiting = processes().ask("customer:1")
    limiter.create("customer:1", 2)
    own = limiter.read("customer:1")
    waiting.look()
    assert waiting.granted
    assert (own.template, own.limit, in_use(limiter, "customer:1")) == (None, 2, 2)
    assert limiter.read("customer:*").keys == 0
    lease.release()
    assert waiting.release()
    assert in_use(limiter, "customer:1") == 0


def test_a_renamed_template(limiter: Limiter) -> None:
    """Keys that the new name does not match go on until they are idle."""
    limiter.create("customer:*", 1)
    lease = limiter.acquire("customer:1")
    limiter.update("customer:*", new_name="client:*")
    assert limiter.read("customer:1").template == "client:*"
    assert not is_free(limiter, "customer:1")
    lease.release()
    with pytest.raises(LimitNotFoundError):
        limiter.read("customer:1")
    assert is_free(limiter, "client:1")


@pytest.mark.parametrize("call", ["update", "pause", "resume", "delete"])
def test_what_is_the_templates_alone(limiter: Limiter, call: str) -> None:
    """A key has no settings of its own, and the error says whose it is."""
    limiter.create("customer:*", 1)
    arguments: dict[str, Any] = {"update": {"limit": 2}}.get(call, {})
    with (
        limiter.concurrency("customer:1"),
        pytest.raises(LimitNotFoundError, match=r"customer:\*"),
    ):
        getattr(limiter, call)("customer:1", **arguments)


def test_the_slots_of_a_template_are_not_set_by_hand(limiter: Limiter) -> None:
    """Of which key would they be?"""
    limiter.create("customer:*", 1)
    with pytest.raises(ValueError, match="active_slots"):
        limiter.update("customer:*", active_slots=1)
    with pytest.raises(ValueError, match="active_slots"):
        limiter.create("other:*", 1, active_slots=1)


# By time


def test_keys_with_a_rate(limiter: Limiter, clock: Clock) -> None:
    """Each key has the whole rate, and is gone once all has come back."""
    limiter.create("customer:*", 1, rate="1/min")
    for number in range(3):
        limiter.rate_limit(f"customer:{number}", timeout_seconds=0)
        with pytest.raises(AcquireConcurrencySlotTimeoutError):
            limiter.rate_limit(f"customer:{number}", timeout_seconds=0)
    assert limiter.read("customer:*").keys == 3
    limiter.adjust("customer:1", 1)
    clock.advance(61)
    assert limiter.read("customer:*").keys == 1
    clock.advance(61)
    limiter.rate_limit("customer:1", timeout_seconds=0)


def test_keys_with_a_window(limiter: Limiter, clock: Clock) -> None:
    """As plain limits have it."""
    limiter.create("customer:*", 2, window_seconds=60.0)
    limiter.rate_limit("customer:1", timeout_seconds=0)
    clock.advance(30)
    limiter.rate_limit("customer:1", timeout_seconds=0)
    assert limiter.read("customer:1").next_slot_seconds == pytest.approx(30)
    assert limiter.read("customer:2").next_slot_seconds == 0
    clock.advance(30)
    limiter.rate_limit("customer:1", timeout_seconds=0)
    clock.advance(120)
    assert limiter.read("customer:*").keys == 0


# On the command line


def test_keys_are_listed_on_demand(limiter: Limiter, invoke: Invoke) -> None:
    """`ls` says how many there are, and `ls --keys` which."""
    limiter.create("customer:*", 1)
    with limiter.concurrency("customer:7"):
        listed = invoke("ls").output
        assert "customer:*" in listed
        assert "KEYS" in listed
        assert "customer:7" not in listed
        assert "customer:7" in invoke("ls", "--keys").output
        assert "customer:7" in invoke("ps", "customer:*").output
        assert "customer:7" in invoke("inspect", "customer:*").output
