"""The two flavours offer the same: each call has the same name, parameters and defaults in both."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import localgcl.asyncio
import localgcl.sync
from localgcl import AsyncLease, AsyncLimiter, Lease, Limiter

FUNCTIONS = ("concurrency", "rate_limit")
RENAMED = {"close": "aclose"}
NOT_AWAITED = {"concurrency"}


def public(kind: type) -> dict[str, Any]:
    """Return what a class offers beside its special methods."""
    return {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith("_") and inspect.isfunction(value)
    }


def parameters(call: Any) -> list[tuple[str, object, object, object]]:
    """Return the parameters of a call, with kinds, defaults and types."""
    return [
        (one.name, one.kind, one.default, one.annotation)
        for one in inspect.signature(call).parameters.values()
    ]


@pytest.mark.parametrize(("blocking", "awaited"), [(Limiter, AsyncLimiter), (Lease, AsyncLease)])
def test_a_class_and_its_twin(blocking: type, awaited: type) -> None:
    """They have the same methods, which take the same; the twin's say whose they are."""
    ours, twins = public(blocking), public(awaited)
    assert {RENAMED.get(name, name) for name in ours} == set(twins)
    for name, call in ours.items():
        twin = twins[RENAMED.get(name, name)]
        assert parameters(call) == parameters(twin), name
        assert inspect.iscoroutinefunction(twin) == (name not in NOT_AWAITED), name
        assert (inspect.getdoc(twin) or "").startswith(f"As `{_original(blocking, name)}`"), name


def test_the_two_limiters_are_made_alike() -> None:
    """A database is chosen in the same way."""
    assert parameters(Limiter) == parameters(AsyncLimiter)


def _original(blocking: type, name: str) -> str:
    if name in FUNCTIONS:
        return f"localgcl.asyncio.{name}"
    return f"{blocking.__name__}.{name}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_and_its_twin(name: str) -> None:
    """They take the same, as the methods of that name do; the twin says whose it is."""
    ours, twin = getattr(localgcl.sync, name), getattr(localgcl.asyncio, name)
    assert parameters(ours) == parameters(twin)
    assert parameters(ours) == parameters(getattr(Limiter, name))[1:]
    assert (inspect.getdoc(twin) or "").startswith(f"As `localgcl.sync.{name}`")
