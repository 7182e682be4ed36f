"""What can be passed to another process: a limiter by its path, and never a lease."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import localgcl.asyncio
import localgcl.sync
from localgcl import AsyncLimiter, Limiter
from tests.helpers.usage import in_use


def again(one: Any) -> Any:
    """Return what another process would get."""
    return pickle.loads(pickle.dumps(one))  # noqa: S301


@localgcl.sync.concurrency("database", strict=True)
def report(year: int) -> int:
    return year


def name_of(year: int) -> str:
    return f"year:{year}"


@pytest.fixture
def limiter(path: str) -> Limiter:
    """A limiter with a limit of two slots."""
    limiter = Limiter(path)
    limiter.create("database", 2)
    return limiter


def test_a_limiter(limiter: Limiter, path: str) -> None:
    """It is the same database, and here the same connection."""
    other = again(limiter)
    assert type(other) is Limiter
    assert other._database is limiter._database
    assert again(AsyncLimiter(path)).path == path


def test_a_relative_path_stays_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may have another current folder."""
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(Limiter("limits.db"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert pickle.loads(pickled)._database.path == str(tmp_path / "limits.db")  # noqa: S301


@pytest.mark.parametrize(
    "names", ["database", ["database", "none"], {"database": 2}, {"database": 1, "none": 2}, []]
)
def test_what_is_not_entered(limiter: Limiter, names: Any) -> None:
    """It can be entered there, with all of its arguments."""
    block = again(limiter.concurrency(names, timeout_seconds=0, holder={"job": 1}))
    with block as lease:
        assert lease.names == tuple([names] if isinstance(names, str) else names)
        assert [one.holder for one in limiter.holders()] == ['{"job":1}'] * bool(names)


def test_decorators(limiter: Limiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The objects that decorate can be passed, as well as what a module decorates."""
    monkeypatch.setenv("LOCALGCL_DB", limiter._database.path)
    assert again(report) is report
    assert again(report)(2026) == 2026
    limiter.create("year:*", 1)
    assert again(limiter.concurrency(name_of))(name_of)(5) == "year:5"
    for module in (localgcl.sync, localgcl.asyncio):
        assert type(again(module.concurrency("database"))) is type(module.concurrency("database"))
        assert type(again(module.rate_limited("a"))) is type(module.rate_limited("a"))


@pytest.mark.parametrize("call", [again, copy.copy], ids=["pickle", "copy"])
def test_a_lease_cannot(limiter: Limiter, call: Callable[[Any], Any]) -> None:
    """Its slots belong to this process, and it says so."""
    with limiter.concurrency("database") as lease, pytest.raises(TypeError, match="this process"):
        call(lease)


def test_what_was_entered_cannot(limiter: Limiter) -> None:
    """It has a lease, in either flavour."""
    block = limiter.concurrency("database")
    with block, pytest.raises(TypeError, match="this process"):
        again(block)

    async def main() -> None:
        block = AsyncLimiter(limiter._database.path).concurrency("database")
        async with block as lease:
            for one in (block, lease):
                with pytest.raises(TypeError, match="this process"):
                    again(one)

    asyncio.run(main())


def test_a_pool_of_processes(limiter: Limiter) -> None:
    """A bound method is mapped by processes that share nothing but the file."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(limiter.read, ["database"] * 4) == [limiter.read("database")] * 4
        assert pool.apply(enter, (limiter.concurrency("database", 2, timeout_seconds=0),)) == 2
    assert in_use(limiter, "database") == 0


def enter(block: Any) -> int | None:
    """Enter a block that has come from another process."""
    with block as lease:
        occupy: int | None = lease.occupy
        return occupy
