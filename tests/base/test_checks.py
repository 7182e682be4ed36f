"""What an argument may be, read from tables."""

from __future__ import annotations

import math
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from localgcl._base import checks

MAX = 2**53 - 1

GOOD_NAMES = [
    "a",
    "database",
    "two words",
    " spaces around ",
    "v1.2:eu-west_1",
    "-",
    "--help",
    "'quoted' \"twice\" `and` \\so\\ on",
    "*?[#;$!|()",
    "naïve café",
    "数据库",
    "база данных",
    "قاعدة",
    "👩‍💻",  # with a joiner, which is no control character
    "x" * 255,
    "🐘" * 255,
]
BAD_NAMES = [
    "",
    " ",
    "\t",
    "\u3000\u00a0",
    *(f"a{character}b" for character in "/%&><"),
    *"/%&><",
    "a\x00b",
    "a\nb",
    "trailing\n",
    "a\x1bb",
    "a\x7fb",
    "a\x85b",
    "a\x9fb",
    "half a \ud800 character",
    "x" * 256,
]


class Run(BaseModel):
    """As Prefect's `ConcurrencyLeaseHolder`."""

    type: str
    id: UUID


class Plain:
    """What has the method of a model, and is none of pydantic's."""

    def model_dump(self) -> dict[str, str]:
        return {"job": "nightly"}


HUGE = pytest.param(10**400, id="10**400")  # larger than any float
MINUS_HUGE = pytest.param(-(10**400), id="-10**400")
NOT_NAMES: list[Any] = [1, 1.5, True, b"a", object()]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names(name: str) -> None:
    """A name is free in what is not documented as forbidden."""
    assert checks.check_name(name) == name


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(name: str) -> None:
    """The refusal of a name is one printable line, whatever is in the name."""
    with pytest.raises(ValueError, match="the limit name") as caught:
        checks.check_name(name)
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("name", [*NOT_NAMES, None])
def test_names_of_other_types(name: Any) -> None:
    """Only a text is a name."""
    with pytest.raises(TypeError):
        checks.check_name(name)


@pytest.mark.parametrize(
    ("names", "checked"),
    [
        ("", ()),
        (None, ()),
        ([], ()),
        ((), ()),
        (iter([]), ()),
        ("a", ("a",)),
        ("customer:a/b & <c> 100%", ("customer:a/b & <c> 100%",)),
        (["a"], ("a",)),
        (["b", "a", "b", "a"], ("b", "a")),
        (("a", "b"), ("a", "b")),
        ((name for name in "ab"), ("a", "b")),
    ],
)
def test_names(names: Any, checked: tuple[str, ...]) -> None:
    """One name or any list of them; nothing is no names, and repeats count once."""
    assert checks.check_names(names) == checked


@pytest.mark.parametrize("names", [*NOT_NAMES, [1], ["a", None], [["a"]]])
def test_names_that_are_none(names: Any) -> None:
    """What is not a list of texts is refused."""
    with pytest.raises(TypeError):
        checks.check_names(names)


@pytest.mark.parametrize("names", [["a", ""], ["a", "b\x00c"], " ", ["x" * 256]])
def test_lists_with_a_bad_name(names: Any) -> None:
    """One bad name spoils the list."""
    with pytest.raises(ValueError, match="the limit name"):
        checks.check_names(names)


@pytest.mark.parametrize("name", [*GOOD_NAMES, *(f"a{character}b" for character in "/%&><")])
def test_requested_names(name: str) -> None:
    """A request may name a key of a template, which may contain what a limit's name cannot."""
    assert checks.check_requested_name(name) == name


@pytest.mark.parametrize("name", [one for one in BAD_NAMES if not set(one) & set("/%&><")])
def test_bad_requested_names(name: str) -> None:
    """All the rest of the rule is the same."""
    with pytest.raises(ValueError, match="the limit name") as caught:
        checks.check_requested_name(name)
    assert "/" not in str(caught.value)


def test_weights() -> None:
    """A mapping says how many slots to take of each name."""
    assert checks.check_weights({"b": 2, "a/b": 1, "c": MAX}, 1) == {"b": 2, "a/b": 1, "c": MAX}
    assert checks.check_weights({}, 1) == {}


@pytest.mark.parametrize(
    ("weights", "occupy", "error"),
    [
        ({"a": 0}, 1, ValueError),
        ({"a": -1}, 1, ValueError),
        ({"a": MAX + 1}, 1, ValueError),
        ({"a": 1}, 2, ValueError),
        ({}, 2, ValueError),
        ({"a": True}, 1, TypeError),
        ({"a": 1.0}, 1, TypeError),
        ({"a": "1"}, 1, TypeError),
        ({"a": None}, 1, TypeError),
        ({1: 1}, 1, TypeError),
        ({"": 1}, 1, ValueError),
        ({"a\nb": 1}, 1, ValueError),
        ({"x" * 256: 1}, 1, ValueError),
    ],
)
def test_bad_weights(weights: Any, occupy: int, error: type[Exception]) -> None:
    """Each is a whole number from 1 for a name, and stands in place of `occupy`."""
    with pytest.raises(error):
        checks.check_weights(weights, occupy)


@pytest.mark.parametrize("value", [0, 1, MAX])
def test_whole_numbers(value: int) -> None:
    """A whole number is what JSON carries exactly."""
    assert checks.check_whole("limit", value, 0) == value


@pytest.mark.parametrize("value", [True, False, 1.0, 1.5, math.nan, "1", None, b"1", Decimal(1)])
def test_numbers_that_are_not_whole(value: Any) -> None:
    """Neither a bool nor a float nor a text is a whole number."""
    with pytest.raises(TypeError, match="limit is an int"):
        checks.check_whole("limit", value, 0)


@pytest.mark.parametrize("value", [-1, MAX + 1, 10**30, HUGE, MINUS_HUGE])
def test_whole_numbers_out_of_range(value: int) -> None:
    """What is below or above is refused, however far."""
    with pytest.raises(ValueError, match="limit is a whole number"):
        checks.check_whole("limit", value, 0)


def test_lowest_whole_number() -> None:
    """The lowest number that is allowed is the caller's to say."""
    assert checks.check_whole("occupy", 1, 1) == 1
    with pytest.raises(ValueError, match="occupy is a whole number from 1"):
        checks.check_whole("occupy", 0, 1)


@pytest.mark.parametrize(
    ("value", "checked"),
    [
        (None, None),
        (math.inf, None),
        pytest.param(10**400, None, id="10**400"),
        (0, 0),
        (0.0, 0),
        (0.5, 0.5),
        (1, 1),
        (86400.0, 86400.0),
    ],
)
def test_timeouts(value: float | None, checked: float | None) -> None:
    """None and infinity wait for ever, and any other number is the longest wait."""
    assert checks.check_timeout(value) == checked


@pytest.mark.parametrize("value", [-1, -0.001, -math.inf, math.nan, MINUS_HUGE])
def test_timeouts_out_of_range(value: float) -> None:
    """There is no wait below zero."""
    with pytest.raises(ValueError, match="timeout_seconds is 0 or more"):
        checks.check_timeout(value)


@pytest.mark.parametrize("value", ["1", True, False, [], b"1", 1j, Decimal(1)])
def test_timeouts_of_other_types(value: Any) -> None:
    """Only a number is a timeout."""
    with pytest.raises(TypeError, match="timeout_seconds is a float"):
        checks.check_timeout(value)


@pytest.mark.parametrize("value", [None, 0, 1, MAX])
def test_max_retries(value: int | None) -> None:
    """None does not count, and a whole number does."""
    assert checks.check_max_retries(value) == value


@pytest.mark.parametrize("value", [True, 1.5, 1.0, "1", math.inf])
def test_max_retries_of_other_types(value: Any) -> None:
    """Tries are counted in whole numbers."""
    with pytest.raises(TypeError, match="max_retries is an int"):
        checks.check_max_retries(value)


@pytest.mark.parametrize("value", [-1, HUGE])
def test_max_retries_out_of_range(value: int) -> None:
    """Nobody tries less often than once."""
    with pytest.raises(ValueError, match="max_retries is a whole number"):
        checks.check_max_retries(value)


@pytest.mark.parametrize(
    ("holder", "text"),
    [
        (None, None),
        ("", ""),
        ("nightly run 7", "nightly run 7"),
        ({}, "{}"),
        ({"job": "nightly", "run": 7}, '{"job":"nightly","run":7}'),
        (MappingProxyType({"a": [1, None, True]}), '{"a":[1,null,true]}'),
        (Run(type="flow_run", id=UUID(int=7)), f'{{"type":"flow_run","id":"{UUID(int=7)}"}}'),
        (Plain(), '{"job":"nightly"}'),
    ],
)
def test_holders(holder: Any, text: str | None) -> None:
    """A holder is a text, or a mapping or a model that becomes compact JSON."""
    assert checks.check_holder(holder) == text


@pytest.mark.parametrize(
    "holder", [5, b"a", ["a"], ("a", 1), True, {"a": object()}, {(1, 2): 3}, Run]
)
def test_holders_of_other_types(holder: Any) -> None:
    """What is neither a text nor JSON is refused."""
    with pytest.raises(TypeError):
        checks.check_holder(holder)


@pytest.mark.parametrize("holder", ["half a \ud800 character", {"a": math.nan}, {"a": math.inf}])
def test_holders_that_no_file_can_hold(holder: Any) -> None:
    """What is a text but cannot be kept, or a number that JSON does not know, is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - json builds its own message
        checks.check_holder(holder)
