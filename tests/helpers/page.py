"""The page in a real Chromium, before a real `localgcl serve`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.helpers.waiting import DEADLINE_SECONDS

T = TypeVar("T")


WIDE = (1200, 900)


NARROW = (360, 740)


class Server:
    """`localgcl serve` in a process of its own, which can be ended and started anew."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.database = folder / "limits.db"
        self._environment = {**os.environ, "HOME": str(folder)}
        self._options = options
        self._port = "0"
        self.start()

    def start(self) -> None:
        """Start it, at the port that it had."""
        command = [sys.executable, "-m", "localgcl", "--db", str(self.database), "serve"]
        self.process = subprocess.Popen(
            [*command, "--port", self._port, *self._options],
            stdout=subprocess.PIPE,
            env=self._environment,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        self.url = said.strip().rpartition(" ")[2].rstrip("/")
        self._port = self.url.rpartition(":")[2]
        assert self._port.isdecimal(), said

    def end(self) -> None:
        """End it as an operator does."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE_SECONDS) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()

    def close(self) -> None:
        """End it, if it runs."""
        if self.process.poll() is None:
            self.end()

    def connections(self) -> int:
        """Return how many connections clients have with it."""
        here = f"0100007F:{int(self._port):04X}"
        established = "01"
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table]
        return sum(row[1] == here and row[3] == established for row in rows)


class Page:
    """The page as somebody sees it."""

    def __init__(self, browser: webdriver.Chrome, url: str) -> None:
        self.browser = browser
        self.url = url

    def open(self, path: str = "/") -> None:
        """Go to an address, and wait until what is there was read."""
        self.browser.get(self.url + path)
        until(lambda: self.is_live and not self.is_shown("#loading"))

    @property
    def is_live(self) -> bool:
        """Whether it says that it is connected."""
        return self.one("#connection").text == "Live"

    def one(self, css: str) -> WebElement:
        """Return an element."""
        return self.browser.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        """Return elements."""
        return self.browser.find_elements(By.CSS_SELECTOR, css)

    def is_shown(self, css: str) -> bool:
        """Whether one such element can be seen."""
        return any(one.is_displayed() for one in self.all(css))

    def text(self, css: str) -> str:
        """Return what can be read in an element."""
        return self.one(css).text

    def script(self, code: str, *arguments: Any) -> Any:
        """Run JavaScript."""
        return self.browser.execute_script(code, *arguments)

    def command(self, name: str, **parameters: Any) -> None:
        """Give the browser a command of its DevTools."""
        self.browser.execute_cdp_cmd(name, parameters)

    # What is live may change between two questions, so each of these is one.

    def rows(self) -> list[list[str]]:
        """Return what can be read in the cells of each limit's row, in order."""
        found: list[list[str]] = self.script(
            """const rows = [...document.querySelectorAll("#limits tbody tr")];
            return rows.filter((row) => row.checkVisibility())
                .map((row) => [...row.children].map((cell) => cell.innerText.trim()));"""
        )
        return found

    def row(self, name: str) -> list[str]:
        """Return what can be read in the cells of a limit's row."""
        (found,) = [row for row in self.rows() if row[0] == name]
        return found

    def names(self) -> list[str]:
        """Return the names that are listed, in order."""
        return [row[0] for row in self.rows()]

    def follow(self, name: str) -> None:
        """Click a limit's name."""
        self.script(
            """const names = [...document.querySelectorAll("#limits a")];
            return names.find((one) => one.textContent === arguments[0]);""",
            name,
        ).click()

    def press(self, name: str) -> None:
        """Click the button that is called `name`."""
        self.button(name).click()

    def button(self, name: str) -> WebElement:
        """Return the button that can be used and is called `name`, as a screen reader has it."""
        found: list[WebElement] = self.script(
            """const place = document.querySelector("dialog[open]") ?? document;
            return [...place.querySelectorAll("button")].filter((one) => one.checkVisibility()
                && (one.ariaLabel ?? one.textContent.trim()) === arguments[0]);""",
            name,
        )
        assert [one.accessible_name for one in found] == [name]
        return found[0]

    def type(self, field: str, text: str) -> None:
        """Type into a field of the open dialog, in place of what is there."""
        self.script(
            "const field = document.querySelector(arguments[0]); field.focus(); field.select();"
            "if (!arguments[1]) document.execCommand('delete')",
            f"dialog[open] [name={field}]",
            text,
        )
        if text:
            self.command("Input.insertText", text=text)  # all at once, as from an input method

    def submit(self) -> None:
        """Do what the open dialog is for."""
        self.one("dialog[open] [type=submit]").click()

    def closes(self) -> None:
        """Wait until no dialog is open."""
        until(lambda: not self.all("dialog[open]"))

    def wrong(self, field: str) -> str:
        """Return what is said to be wrong at a field of the open dialog."""
        described = self.one(f"dialog[open] [name={field}]").get_attribute("aria-describedby")
        assert described is not None
        return self.text(f"#{described.split()[-1]}")

    @property
    def focused(self) -> str:
        """What has the focus, as a screen reader calls it."""
        return self.browser.switch_to.active_element.accessible_name

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        webdriver.ActionChains(self.browser).send_keys(*keys).perform()

    def resize(self, size: tuple[int, int]) -> None:
        """Give the window another size, a phone's too."""
        width, height = size
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=size == NARROW,
        )

    def prefer(self, scheme: str) -> None:
        """Have the user prefer "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)


def until(condition: Callable[[], T]) -> T:
    """Wait for what the page brings about, and return it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            found = condition()
        except StaleElementReferenceException:  # replaced while it was looked at
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)
