"""A real Chromium before a real `localgcl serve`, and what a test does with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from localgcl import Limiter
from tests.helpers.actors import Actor
from tests.helpers.needs import lacks
from tests.helpers.page import WIDE, Page, Server


def program(name: str) -> str:
    """Return where a program of the browser is."""
    if lacks(name):
        pytest.skip(f"{name} is missing; `apt-get install chromium chromium-driver`")
    found = shutil.which(name)
    assert found is not None, f"{name} is missing"
    return found


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """One browser for all tests."""
    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless=new",
        "--no-sandbox",  # which is not there for root, and in most containers
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--lang=en-GB",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
    yield started
    started.quit()


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it alone."""
    started = Server(tmp_path_factory.mktemp("served"))
    yield started
    started.close()


@pytest.fixture
def server(shared_server: Server) -> Server:
    """The server of this test."""
    return shared_server


@pytest.fixture
def limiter(server: Server) -> Iterator[Limiter]:
    """A limiter of the database that is served, which has no limits."""
    with Limiter(server.database) as opened:
        for limit in opened.read_all():
            opened.delete(limit.name)
        yield opened


@pytest.fixture
def page(browser: webdriver.Chrome, server: Server, limiter: Limiter) -> Iterator[Page]:
    """The page, wide and light; nothing that it does is an error to the browser."""
    shown = Page(browser, server.url)
    shown.resize(WIDE)
    shown.prefer("light")
    yield shown
    browser.get("about:blank")
    logged = browser.get_log("browser")  # type: ignore[no-untyped-call]
    # An answer that is an error is logged too, and belongs to the tests of those.
    assert [entry for entry in logged if entry["source"] != "network"] == []


@pytest.fixture
def actor(server: Server) -> Iterator[Callable[[], Actor]]:
    """Start processes that take slots as they are told; they end with the test."""
    started: list[Actor] = []

    def start() -> Actor:
        started.append(Actor(server.database))
        return started[-1]

    yield start
    for one in started:
        one.close()
