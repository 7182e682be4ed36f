"""The page of a server that lets in only who knows its password."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.page import Page, Server, until

pytestmark = pytest.mark.processes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that asks who comes."""
    started = Server(tmp_path, "--auth", "app:a secret")
    yield started
    started.close()


def test_who_knows_the_password_uses_the_page(page: Page, limiter: Limiter) -> None:
    """The browser asks once, and says it again for all that the page reads, hears and changes."""
    page.browser.get(page.url)
    assert not page.all("h1")
    limiter.create("database", 5)
    plain = page.url
    page.url = plain.replace("//", "//app:a%20secret@")
    page.open()
    page.url = plain
    page.press("Active: database")
    until(lambda: not limiter.read("database").active)
    limiter.update("database", active_slots=3)
    until(lambda: page.row("database")[1].startswith("3 / 5"))
