"""Both flavours have the same calls: the awaitable one adds `await` to them, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import localgcl.asyncio
import localgcl.sync
from localgcl import AsyncLease, AsyncLimiter, Lease, Limiter
from localgcl._admin import limits, reading

# What is called otherwise there, as is usual for asyncio.
RENAMED = {
    "close": "aclose",
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "Lease": "AsyncLease",
    "Limiter": "AsyncLimiter",
}
PAIRS: dict[type, type] = {Limiter: AsyncLimiter, Lease: AsyncLease}
FUNCTIONS = ("concurrency", "rate_limit")
DECORATORS = ("rate_limited",)


def methods(owner: type) -> dict[str, Callable[..., Any]]:
    """Return what a user may call of a class, by name."""
    return {
        name: method
        for name, method in inspect.getmembers(owner, inspect.isfunction)
        if not name.startswith("_") or name in RENAMED or name in RENAMED.values()
    }


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any, Any]]:
    """Return the parameters of a function in order: name, kind, default and annotation."""
    return [
        (one.name, one.kind, one.default, one.annotation)
        for one in inspect.signature(function).parameters.values()
    ]


METHODS = [(owner, name) for owner in PAIRS for name in methods(owner)]


def test_the_same_names() -> None:
    """What one module or class offers, the other one does too."""
    blocking, awaitable = localgcl.sync.__all__, localgcl.asyncio.__all__
    assert {RENAMED.get(name, name) for name in blocking} == set(awaitable)
    for owner, other in PAIRS.items():
        assert {RENAMED.get(name, name) for name in methods(owner)} == set(methods(other))


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=lambda one: getattr(one, "__name__", one))
def test_the_same_parameters(owner: type, name: str) -> None:
    """Names, kinds, defaults and types of a method are the same, in the same order."""
    other = getattr(PAIRS[owner], RENAMED.get(name, name))
    assert parameters(other) == parameters(getattr(owner, name))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_same_parameters_of_the_functions(name: str) -> None:
    """The functions of both modules, and the methods of the same name, take the same."""
    expected = parameters(getattr(localgcl.sync, name))
    assert parameters(getattr(localgcl.asyncio, name)) == expected
    for limiter in (Limiter, AsyncLimiter):
        assert parameters(getattr(limiter, name))[1:] == expected


@pytest.mark.parametrize("name", DECORATORS)
def test_the_same_parameters_of_the_decorators(name: str) -> None:
    """They are functions of both modules, and called without `await` in each."""
    blocking, awaitable = getattr(localgcl.sync, name), getattr(localgcl.asyncio, name)
    assert parameters(awaitable) == parameters(blocking)
    assert not inspect.iscoroutinefunction(awaitable)
    assert (inspect.getdoc(awaitable) or "").startswith(f"As `localgcl.sync.{name}`")


def test_what_of_a_lease_is_awaited() -> None:
    """Its methods are, and what it tells is not."""
    for name in methods(AsyncLease):
        assert inspect.iscoroutinefunction(getattr(AsyncLease, name)), name
    for name in ("names", "occupy", "slots"):
        assert getattr(AsyncLease, name) is getattr(Lease, name)


@pytest.mark.parametrize("name", ["__init__", *methods(AsyncLimiter)])
def test_what_is_awaited(name: str) -> None:
    """All of it is, but for what makes a limiter or a block."""
    is_awaited = inspect.iscoroutinefunction(getattr(AsyncLimiter, name))
    assert is_awaited is (name not in ("__init__", "concurrency"))


@pytest.mark.parametrize(
    "name", [name for name in methods(AsyncLimiter) if not name.startswith("_")]
)
def test_the_text_is_written_once(name: str) -> None:
    """The awaitable flavour refers to the blocking one, or to its own function of that name."""
    blocking = {other: one for one, other in RENAMED.items()}.get(name, name)
    said = inspect.getdoc(getattr(AsyncLimiter, name)) or ""
    if name in FUNCTIONS:
        assert said.startswith(f"As `localgcl.asyncio.{name}`")
        said = inspect.getdoc(getattr(localgcl.asyncio, name)) or ""
        assert said.startswith(f"As `localgcl.sync.{name}`")
    else:
        assert said.startswith(f"As `Limiter.{blocking}`")
    text = inspect.getdoc(getattr(Limiter, blocking)) or ""
    assert text
    assert not text.startswith("As `Limiter")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *[(limits, name) for name in ("create", "update", "upsert", "delete", "reset")],
        *[(limits, name) for name in ("adjust", "pause", "resume")],
        (reading, "read"),
    ],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_administration_takes_the_same(module: Any, name: str) -> None:
    """Both flavours pass their arguments on in this order."""
    expected = [one[0] for one in parameters(getattr(Limiter, name))[1:]]
    assert [one[0] for one in parameters(getattr(module, name))] == expected
