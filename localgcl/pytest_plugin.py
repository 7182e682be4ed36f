"""The pytest fixture `localgcl_limiter`; nothing is imported until a test uses it."""

from __future__ import annotations

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from localgcl.sync import Limiter


@pytest.fixture
def localgcl_limiter() -> Iterator[Limiter]:
    """A `Limiter` of a new database, which LOCALGCL_DB names during the test."""
    from localgcl.testing import temporary_database

    with temporary_database() as limiter:
        yield limiter
