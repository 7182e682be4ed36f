"""Real processes: actors that are told what to do, and a database of their own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.actors import Actor
from tests.helpers.programs import Program


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a database that is not there yet."""
    return tmp_path / "limits.db"


@pytest.fixture
def limiter(path: Path) -> Iterator[Limiter]:
    """A limiter on it, in this process."""
    with Limiter(path) as opened:
        yield opened


@pytest.fixture
def actor(path: Path) -> Iterator[Callable[..., Actor]]:
    """Start actors, as a user and its group if these are given, that are ended with the test."""
    started: list[Actor] = []

    def start(*account: int) -> Actor:
        started.append(Actor(path, *account))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def localgcl(path: Path) -> Iterator[Program]:
    """The program."""
    program = Program(path)
    yield program
    program.close()


@pytest.fixture
def database(limiter: Limiter) -> Limiter:
    """A limiter of a database with one limit of one slot, `a`."""
    limiter.create("a", 1)
    return limiter
