"""A disk that is full."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from localgcl import DatabaseError, Limiter


@contextmanager
def full_disk() -> Iterator[None]:
    """Let this process write nothing for a block."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_admits_nobody(limiter: Limiter) -> None:
    """What cannot be written down is not granted, and everything goes on when it can be."""
    limiter.create("database", 2)
    lease = limiter.acquire("database")
    with full_disk():
        calls: list[Callable[[], object]] = [
            lambda: limiter.acquire("database"),
            lambda: limiter.create("new", 1),
            lambda: limiter.update("database", limit=5),
        ]
        for call in calls:
            with pytest.raises(DatabaseError):
                call()
    assert [one.lease for one in limiter.holders()] == [lease.id]
    assert limiter.read("database").limit == 2
    limiter.acquire("database", timeout_seconds=0)


def test_a_release_that_fails_can_be_tried_again(limiter: Limiter) -> None:
    """A slot that could not be freed is held until it can be."""
    limiter.create("database", 1)
    lease = limiter.acquire("database")
    with full_disk():
        for _ in range(2):
            with pytest.raises(DatabaseError):
                lease.release()
    assert [one.lease for one in limiter.holders()] == [lease.id]
    lease.release()
    assert limiter.holders() == []


def test_a_block_that_fails_on_a_full_disk_tells_of_both(limiter: Limiter) -> None:
    """The error of the release has the one that ended the block behind it."""
    limiter.create("database", 1)
    disk = full_disk()
    with pytest.raises(DatabaseError) as caught:
        try:
            with limiter.concurrency("database"):
                disk.__enter__()
                raise ValueError("what the block died of")
        finally:
            disk.__exit__(None, None, None)
    behind: list[BaseException] = [caught.value]
    while behind[-1].__context__ is not None:
        behind.append(behind[-1].__context__)
    assert "what the block died of" in map(str, behind)


def test_a_gate_that_cannot_be_made_leaves_nothing(limiter: Limiter, path: str) -> None:
    """The next try makes it, and what was begun does not pile up in the run folder."""
    limiter.create("database", 1)
    limiter.close()
    os.unlink(f"{path}-run/gate")
    with full_disk():
        for _ in range(3):
            with pytest.raises(DatabaseError):
                limiter.acquire("database")
    assert os.listdir(f"{path}-run") == []
    with limiter.concurrency("database", timeout_seconds=0):
        pass
