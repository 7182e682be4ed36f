"""What the tests of tasks and loops share: a limit of one slot, and no blocking of any loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.flavours import never_blocking


@pytest.fixture(autouse=True)
def _never_blocking() -> Iterator[None]:
    with never_blocking():
        yield


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database that is the default, with a limit of one slot."""
    database = tmp_path / "limits.db"
    monkeypatch.setenv("LOCALGCL_DB", str(database))
    with Limiter(database) as limiter:
        limiter.create("a", 1)
    return database
