"""A server that really listens, in a thread of the test's own process, and clients of it."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from localgcl import Limiter
from localgcl.server import waiting_room
from tests.helpers.flavours import never_blocking
from tests.helpers.served import Serve, Served


@pytest.fixture(autouse=True)
def _never_blocking() -> Iterator[None]:
    with never_blocking():
        yield


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a first request held for as long as the others, lest a slow machine cut it short."""
    monkeypatch.setattr(waiting_room, "FIRST_HOLD_SECONDS", waiting_room.NEXT_HOLD_SECONDS)


@pytest.fixture
def serve(path: str) -> Iterator[Serve]:
    """Start servers that end with the test."""
    started: list[Served] = []

    def start(**options: Any) -> Served:
        started.append(Served(path, **options))
        return started[-1]

    yield start
    for one in started:
        one.end()
        one.hang_up()


@pytest.fixture
def served(serve: Serve) -> Served:
    """A server for this machine alone."""
    return serve()


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """A client of it."""
    with served.client() as opened:
        yield opened


@pytest.fixture
def limiter(path: str) -> Iterator[Limiter]:
    """A limiter of the database that is served."""
    with Limiter(path) as opened:
        yield opened


@pytest.fixture
def pool() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """Threads for calls that wait."""
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        yield threads
