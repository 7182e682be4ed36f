"""A server that goes away and comes back, and a page that nobody looks at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.page import Page, Server, until

pytestmark = pytest.mark.processes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may end."""
    started = Server(tmp_path)
    yield started
    started.close()


def test_a_lost_connection_is_said_and_found_again(
    page: Page, limiter: Limiter, server: Server
) -> None:
    """What is shown is said to be old; once the server is back, it is new."""
    limiter.create("database", 5)
    page.open()
    server.end()
    until(lambda: page.text("#connection") == "Not connected")
    assert "What is shown is from" in page.text("#lost")
    assert page.row("database")[1].startswith("0 / 5")
    limiter.update("database", active_slots=3)
    server.start()
    until(lambda: page.row("database")[1].startswith("3 / 5"))
    assert page.is_live
    assert not page.is_shown("#lost")
    limiter.update("database", active_slots=2)
    until(lambda: page.row("database")[1].startswith("2 / 5"))


def test_a_save_that_fails_loses_nothing(page: Page, limiter: Limiter, server: Server) -> None:
    """The dialog stays with what was typed and says why, and the same is saved later."""
    page.open()
    page.press("New limit")
    page.type("name", "database")
    page.type("limit", "5")
    server.end()
    page.submit()
    until(lambda: "The server does not answer." in page.text("#edit .refused"))
    assert page.one("#edit-name").get_property("value") == "database"
    server.start()
    page.submit()
    page.closes()
    assert limiter.read("database").limit == 5


def test_what_fails_after_its_dialog_was_closed_is_said_all_the_same(
    page: Page, limiter: Limiter
) -> None:
    """Who closes a dialog while it saves hears of it on the page."""
    limiter.create("database", 5)
    page.open()
    page.press("New limit")
    page.type("name", "database")
    page.type("limit", "5")
    page.script(
        "document.querySelector('#edit [type=submit]').click();"
        "document.querySelector('#edit [data-close]').click()"
    )
    until(lambda: "New limit: A concurrency limit named" in page.text("#faults"))


def test_a_database_that_cannot_be_read_is_said(
    page: Page, limiter: Limiter, server: Server
) -> None:
    """The reason is there until it can be read again."""
    limiter.create("database", 5)
    page.open()
    limiter.close()
    aside = server.database.with_suffix(".aside")
    server.database.rename(aside)
    server.database.mkdir()
    page.browser.refresh()
    until(lambda: "cannot be used" in page.text("#faults"))
    server.database.rmdir()
    aside.rename(server.database)
    until(lambda: page.names() == ["database"])
    until(lambda: page.text("#faults") == "")


def test_a_hidden_page_costs_nothing(page: Page, limiter: Limiter, server: Server) -> None:
    """While another tab is seen it has no connection; it is up to date once it is seen again."""
    limit = limiter.create("database", 5)
    page.open(f"/limits/{limit.id}")
    assert server.connections() > 0
    this = page.browser.current_window_handle
    page.browser.switch_to.new_window("tab")
    other = page.browser.current_window_handle
    until(lambda: server.connections() == 0)
    limiter.update("database", active_slots=3)
    page.browser.close()
    page.browser.switch_to.window(this)
    assert other not in page.browser.window_handles
    until(lambda: page.text(".usage .count") == "3 / 5")
