"""The page of one limit: who holds, who waits, what was, and what can be done there."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from localgcl import Limiter
from tests.helpers.actors import Actor
from tests.helpers.page import Page, until
from tests.helpers.waiting import DEADLINE_SECONDS
from tests.helpers.websockets import opened, told

pytestmark = pytest.mark.processes

# Each is text, whatever it looks like: to HTML, to a script, to an address, to the eye.
HOSTILE = [
    "<img src=x onerror=document.title='hacked'>",
    "</script><script>document.title='hacked'</script>",
    "{{ 7 * 7 }} ${7 * 7} javascript:document.title='hacked'",
    '" onmouseover=\'document.title="hacked"',
    "\N{RIGHT-TO-LEFT OVERRIDE}esrever",
]
HOSTILE_NAMES = [*("".join(c for c in text if c not in "/%&><") for text in HOSTILE), "..", "a?b#c"]


def cells(page: Page, table: str) -> list[list[str]]:
    """Return what can be read in each row of a table."""
    rows: list[list[str]] = page.script(
        "return [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility())"
        ".map((row) => [...row.children].map((cell) => cell.innerText))",
        f"#{table} tbody tr",
    )
    return rows


def test_it_has_an_address_of_its_own(page: Page, limiter: Limiter) -> None:
    """The name in the list leads there, back leads back, and a search is still in its place."""
    limit = limiter.create("database", 5)
    limiter.create("mail", 1)
    page.open()
    page.one("#search").send_keys("data")
    page.follow("database")
    until(lambda: page.text("#limit h1") == "database")
    assert page.browser.current_url == f"{page.url}/limits/{limit.id}"
    assert page.browser.title == "database · localgcl"
    page.browser.back()
    until(lambda: page.names() == ["database"])
    page.browser.forward()
    until(lambda: page.text("#limit h1") == "database")
    page.one(".up a").click()
    until(lambda: page.names() == ["database", "mail"])


def test_a_limit_is_found_by_its_name_too(page: Page, limiter: Limiter) -> None:
    """Whoever types an address need not know the id."""
    limiter.create("my database", 5, slot_decay_per_second=0.5, active_slots=3)
    page.open("/limits/my%20database")
    assert page.text("#limit h1") == "my database"
    assert page.text("[data-part=rate]") == "30/min"
    assert "come back by themselves" in page.text("#no-holders")
    limiter.update("my database", new_name="renamed")
    until(lambda: page.text("#limit h1") == "renamed")


def test_holders_and_waiters(page: Page, limiter: Limiter, actor: Callable[[], Actor]) -> None:
    """Who it is, since when, and what changes as it changes."""
    limiter.create("database", 3)
    page.open(f"/limits/{limiter.read('database').id}")
    assert page.text("#no-holders") == page.text("#no-waiters") == "Nobody."
    first, second, third = actor(), actor(), actor()
    first.do("acquire", ["database"], 2)
    second.tell("acquire", ["database"], 3)
    until(lambda: len(limiter.waiters("database")) == 1)
    third.tell("acquire", ["database"], 1)
    until(lambda: (len(cells(page, "holders")), len(cells(page, "waiters"))) == (1, 2))
    (holder,) = cells(page, "holders")
    (known,) = limiter.holders("database")
    assert holder[:5] == ["2", str(first.pid), known.user, known.command, "-"]
    assert holder[5].endswith(" s)") or holder[5].endswith(" ms)")
    assert [row[:3] for row in cells(page, "waiters")] == [
        ["1", "3", str(second.pid)],
        ["2", "1", str(third.pid)],
    ]
    assert (page.text("[data-part=held]"), page.text("[data-part=queued]")) == ("1", "2")
    assert page.text(".usage .count") == "2 / 3"
    first.kill()
    until(lambda: [row[1] for row in cells(page, "holders")] == [str(second.pid)])
    until(lambda: [row[2] for row in cells(page, "waiters")] == [str(third.pid)])


def facts(page: Page) -> dict[str, str]:
    """Return what is said of a limit, by its terms."""
    return {
        one.find_element(By.TAG_NAME, "dt").text: one.find_element(By.TAG_NAME, "dd").text
        for one in page.all("#limit .facts > div")
        if one.is_displayed()
    }


def test_a_template_and_its_keys(page: Page, limiter: Limiter) -> None:
    """The keys in use lead to pages of their own, on which only a reset is theirs."""
    template = limiter.create("user:*", 2)
    leases = [limiter.acquire(name) for name in ("user:7", "user:a/b%20c")]
    page.open(f"/limits/{template.id}")
    assert facts(page)["In use"] == "2 in 2 keys"
    assert [row[:2] for row in cells(page, "keys")] == [
        ["user:7", "1 / 2"],
        ["user:a/b%20c", "1 / 2"],
    ]
    page.one("#keys tbody tr:last-child a").click()
    until(lambda: page.text("#limit h1") == "user:a/b%20c")
    assert facts(page)["Template"] == "user:*"
    assert [page.is_shown(f"[data-part={one}]") for one in ("edit", "reset", "delete")] == [
        *(False, True, False),
    ]
    page.press("Reset")
    page.submit()
    page.closes()
    until(lambda: page.text(".usage .count") == "0 / 2")
    assert [one.limit for one in limiter.holders()] == ["user:7"]
    page.one("[data-part=template]").click()
    until(lambda: [row[0] for row in cells(page, "keys")] == ["user:7"])
    leases[0].release()
    until(lambda: page.text("#no-keys") == "None.")


def test_a_pause(page: Page, limiter: Limiter) -> None:
    """It is said until when; and nothing is said of a mean before there has been a release."""
    limiter.create("sms", 5, window_seconds=60)
    page.open("/limits/sms")
    assert (facts(page)["Rate"], facts(page)["Held for, on average"]) == ("5 in any 1 min", "-")
    assert "Paused until" not in facts(page)
    limiter.pause("sms")
    until(lambda: facts(page).get("Paused until") == "it is resumed")
    limiter.pause("sms", 3600)
    until(lambda: ":" in facts(page).get("Paused until", ""))
    limiter.resume("sms")
    until(lambda: "Paused until" not in facts(page))


class _Elsewhere:
    """A client's way to the server of a page."""

    def __init__(self, page: Page) -> None:
        host, _, port = page.url.rpartition("//")[2].partition(":")
        self.address = host, int(port)

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, DEADLINE_SECONDS)


def test_what_clients_told(page: Page, limiter: Limiter) -> None:
    """Their events are listed, the latest first, as text; without any there is no such list."""
    limit = limiter.create("database", 3)
    page.open(f"/limits/{limit.id}")
    assert not page.is_shown("#told")
    client = opened(_Elsewhere(page))
    client.tell({"type": "auth", "token": None})
    assert client.said()["type"] == "auth_success"
    client.tell(told(limit.id, "acquired", **{"slots-acquired": "2"}))
    client.tell({**told(limit.id, HOSTILE[0], **{"slots-acquired": ""}), "occurred": "whenever"})
    client.ping()
    until(lambda: len(cells(page, "events")) == 2)
    latest, first = cells(page, "events")
    assert latest == ["whenever", HOSTILE[0], ""]
    assert first[1:] == ["acquired", "2"]
    client.close()


def test_slots_that_change_hands_are_seen(
    page: Page, limiter: Limiter, actor: Callable[[], Actor]
) -> None:
    """A holder is shown as the one that it is, also where no number has changed."""
    limiter.create("database", 1)
    first, second = actor(), actor()
    first.do("acquire", ["database"])
    page.open(f"/limits/{limiter.read('database').id}")
    until(lambda: [row[1] for row in cells(page, "holders")] == [str(first.pid)])
    second.tell("acquire", ["database"])
    first.do("release")
    second.answer()
    until(lambda: [row[1] for row in cells(page, "holders")] == [str(second.pid)])


def test_free(page: Page, limiter: Limiter, actor: Callable[[], Actor]) -> None:
    """A slot is freed once somebody has said yes, and whoever waits has it."""
    limiter.create("database", 1)
    first, second = actor(), actor()
    first.do("acquire", ["database"])
    second.tell("acquire", ["database"])
    page.open(f"/limits/{limiter.read('database').id}")
    page.press(f"Free what {first.pid} holds")
    assert page.text("#confirm h2") == "Free 1 slot of database?"
    assert f"process {first.pid}" in page.text("#confirm-text")
    page.press("Cancel")
    page.closes()
    assert [one.pid for one in limiter.holders()] == [first.pid]
    page.press(f"Free what {first.pid} holds")
    page.submit()
    second.answer()
    page.closes()
    assert page.text("#news") == "Freed 1 slot of database."
    until(lambda: [row[1] for row in cells(page, "holders")] == [str(second.pid)])
    assert page.browser.switch_to.active_element.get_attribute("id") == "main"


def test_free_what_is_gone(page: Page, limiter: Limiter, actor: Callable[[], Actor]) -> None:
    """Who asks too late is told, in the dialog."""
    limiter.create("database", 1)
    holder = actor()
    holder.do("acquire", ["database"])
    page.open("/limits/database")
    page.press(f"Free what {holder.pid} holds")
    holder.do("release")
    page.submit()
    until(lambda: page.text("#confirm .refused") == "No such lease is held any more.")
    page.keys(Keys.ESCAPE)
    page.closes()
    until(lambda: page.text("#no-holders") == "Nobody.")


def test_everything_can_be_done_here_too(page: Page, limiter: Limiter) -> None:
    """Edit, switch, reset, and delete, which leads back to the list and says so there."""
    limiter.create("database", 5, active_slots=2)
    page.open("/limits/database")
    page.press("Edit")
    page.type("limit", "8")
    page.submit()
    page.closes()
    until(lambda: page.text(".usage .count") == "2 / 8")
    page.press("Active: database")
    until(lambda: page.text(".usage .state") == "inactive")
    page.press("Reset")
    page.submit()
    page.closes()
    until(lambda: page.text(".usage .count") == "0 / 8")
    page.press("Delete")
    page.submit()
    until(lambda: page.browser.current_url == f"{page.url}/")
    until(lambda: page.text("#news") == "Deleted database.")
    assert limiter.read_all() == []


def test_there_is_no_such_limit(page: Page, limiter: Limiter) -> None:
    """Neither at first nor, where somebody deletes it, any more; a new one is found by its name."""
    page.open("/limits/database")
    assert page.text("#gone h1") == "There is no such limit"
    limiter.create("database", 5)
    until(lambda: page.is_shown("#limit"))
    limiter.delete("database")
    until(lambda: page.is_shown("#gone"))
    assert page.browser.title == "No such limit · localgcl"


def test_the_chart_shows_what_was(page: Page, limiter: Limiter) -> None:
    """Steps up and down, told to a screen reader, and read moment by moment with arrow keys."""
    limiter.create("database", 4)
    page.open("/limits/database")
    for used in (1, 3):
        limiter.update("database", active_slots=used)
        until(lambda used=used: f"Now: {used} in use" in page.one("svg").accessible_name)  # type: ignore[misc]
    assert "at most 3 in use and 0 waiting" in page.one("svg").accessible_name

    def heights(line: str) -> list[str]:
        drawn = page.one(f"path.{line}").get_attribute("d")
        assert drawn is not None
        return re.findall(r"(?:M\S+ |V)([\d.]+)", drawn)

    # Of 120 units for four slots: one is at 90, three are at 30.
    assert heights("used")[-2:] == ["90.0", "30.0"]
    assert [one.text for one in page.all(".scale span")] == ["4", "2", "0"]
    page.one(".plot").send_keys(Keys.ARROW_LEFT)
    assert page.text("#chart output").startswith("10 s ago: ")
    page.keys(Keys.ARROW_RIGHT)
    assert page.text("#chart output") == "Now: 3 in use, 0 waiting."


def test_hostile_text_is_text(page: Page, limiter: Limiter, actor: Callable[[], Actor]) -> None:
    """Whatever a name, a command or a holder looks like, it is shown as it is and does nothing."""
    for name in HOSTILE_NAMES:
        limiter.create(name, len(HOSTILE))
    page.open()
    assert sorted(page.names()) == sorted(HOSTILE_NAMES)
    leases = [limiter.acquire(HOSTILE_NAMES[0], holder=text) for text in HOSTILE]
    page.press(f"Delete {HOSTILE_NAMES[1]}")
    assert page.one("#confirm h2").get_property("textContent") == f"Delete {HOSTILE_NAMES[1]}?"
    page.press("Cancel")
    page.closes()
    for name in (HOSTILE_NAMES[0], "..", "a?b#c"):
        page.follow(name)
        until(lambda name=name: page.browser.title == f"{name} · localgcl")  # type: ignore[misc]
        assert page.one("#limit h1").get_property("textContent") == name
        page.browser.back()
        until(lambda: len(page.rows()) == len(HOSTILE_NAMES))
    page.follow(HOSTILE_NAMES[0])
    until(lambda: len(cells(page, "holders")) == len(HOSTILE))
    assert sorted(row[4] for row in cells(page, "holders")) == sorted(HOSTILE)
    assert page.all("main img, main script") == []
    for lease in leases:
        lease.release()
