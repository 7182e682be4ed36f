"""The page of all limits: what it shows, what can be done there, and how it keeps up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from selenium.webdriver.common.keys import Keys

from localgcl import Limiter
from tests.helpers.actors import Actor
from tests.helpers.page import Page, until

pytestmark = pytest.mark.processes


def test_every_limit_is_shown(page: Page, limiter: Limiter) -> None:
    """Slots in use, of how many, what is out of the ordinary, rate, and whether it is active."""
    limiter.create("api", 10, rate="100/min")
    limiter.create("database", 5)
    limiter.create("idle", 3, active=False)
    limiter.create("closed", 0)
    limiter.update("database", active_slots=5)
    limiter.create("sms", 5, window_seconds=60)
    limiter.pause("sms")
    limiter.create("user:*", 2)
    leases = [limiter.acquire(f"user:{number}") for number in range(3)]
    page.open()
    assert [row[:5] for row in page.rows()] == [
        ["api", "0 / 10", "-", "100/min", "on"],
        ["closed", "0 / 0\nclosed", "-", "-", "on"],
        ["database", "5 / 5\nfull", "-", "-", "on"],
        ["idle", "0 / 3\ninactive", "-", "-", "off"],
        ["sms", "0 / 5\npaused", "-", "5 in any 1 min", "on"],
        ["user:*", "3 in 3 keys", "-", "-", "on"],
    ]
    assert page.text("#summary") == "6 limits, 1 full"
    for lease in leases:
        lease.release()
    until(lambda: page.row("user:*")[1] == "0 in 0 keys")


@pytest.mark.parametrize(("used", "share"), [(0, 0.0), (3, 0.6), (5, 1.0), (9, 1.0)])
def test_the_bar_is_as_long_as_slots_are_in_use(
    page: Page, limiter: Limiter, used: int, share: float
) -> None:
    """More than all of it is never filled, however many more are in use."""
    limiter.create("database", 5, active_slots=used)
    page.open()

    def shown() -> bool:
        full, filled = (
            page.one(f"#limits {css}").rect["width"] for css in (".slots", ".slots .fill")
        )
        return bool(abs(filled - share * full) < 1)

    until(shown)  # it moves there


def test_what_other_processes_do_is_shown(
    page: Page, limiter: Limiter, actor: Callable[[], Actor]
) -> None:
    """A slot taken, somebody who waits, a new limit, a deleted one: without any reloading."""
    limiter.create("database", 1)
    page.open()
    holder, waiter = actor(), actor()
    holder.do("acquire", ["database"])
    until(lambda: page.row("database")[1].startswith("1 / 1"))
    waiter.tell("acquire", ["database"])
    until(lambda: page.text("#summary") == "1 limit, 1 full, 1 waiting")
    assert page.row("database")[2] == "1"
    holder.kill()
    waiter.answer()
    waiter.do("release")
    until(lambda: page.row("database")[1].startswith("0 / 1"))
    limiter.create("another", 2)
    until(lambda: page.names() == ["another", "database"])
    limiter.delete("database")
    until(lambda: page.names() == ["another"])


def test_create(page: Page, limiter: Limiter) -> None:
    """A limit is created as it was typed, and there is a word about it."""
    page.open()
    assert page.text("#none p") == "There are no limits yet."
    page.press("New limit")
    assert page.focused == "Name"
    page.type("name", "rate limited API")
    page.type("limit", "10")
    page.type("slot_decay_per_second", "30/min")
    page.one("#edit-active").click()
    page.submit()
    page.closes()
    until(lambda: page.names() == ["rate limited API"])
    made = limiter.read("rate limited API")
    assert (made.limit, made.slot_decay_per_second, made.active) == (10, 0.5, False)
    assert page.text("#news") == "Created rate limited API."
    assert page.focused == "New limit"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("1.5min", 90.0), ("2h", 7200.0), (" 1 day ", 86400.0)]
)
def test_a_window(page: Page, limiter: Limiter, text: str, seconds: float) -> None:
    """It is typed as on the command line, and replaces a rate."""
    limiter.create("sms", 5, rate="2/s")
    page.open()
    page.press("Edit sms")
    assert page.one("#edit-decay").get_property("value") == "2/s"
    page.type("window_seconds", text)
    page.submit()
    page.closes()
    until(lambda: page.row("sms")[3].startswith("5 in any "))
    assert limiter.read("sms").window_seconds == seconds


def test_what_cannot_be_is_said_at_its_field(page: Page, limiter: Limiter) -> None:
    """Each impossible value has its sentence, nothing is sent, and what was typed stays."""
    tables = {
        "name": {
            "": "Give it a name.",
            "  ": "Give it a name.",
            "a/b<c": "A name cannot contain / <.",
            "x" * 256: "A name has at most 255 characters; this has 256.",
        },
        "limit": {
            "": "A whole number, 0 or more.",
            "1.5": "A whole number, 0 or more.",
            "-1": "A whole number, 0 or more.",
            "ten": "A whole number, 0 or more.",
            str(2**53): f"At most {2**53 - 1}.",
        },
        "slot_decay_per_second": dict.fromkeys(
            ["", "-0.5", "0,5", "1e999", "/min", "5/", "5/15", "1/fortnight", "1/0s", "1/1/s"],
            "A number per second, 0 or more, or a rate such as 100/min.",
        ),
        "window_seconds": dict.fromkeys(
            ["", "-1", "soon", "min", "1e999", "5 fortnights"],
            "A time such as 60 (seconds), 1min or 1d; 0 for none.",
        ),
    }
    page.open()
    page.press("New limit")
    good = {
        "name": "database",
        "limit": "5",
        "slot_decay_per_second": "0",
        "window_seconds": "0",
    }
    for field, value in good.items():
        page.type(field, value)
    for field, table in tables.items():
        for typed, message in table.items():
            page.type(field, typed)
            page.submit()
            assert page.script(
                """const {name, value, ariaInvalid} = document.activeElement;
                const wrong = [...document.querySelectorAll("#edit .wrong")];
                const said = wrong.map((one) => one.innerText).filter(Boolean);
                return [name, value, ariaInvalid, said];"""
            ) == [field, typed, "true", [message]]
            assert page.wrong(field) == message
        page.type(field, good[field])
    assert limiter.read_all() == []


def test_what_the_server_refuses_is_said_at_its_field(page: Page, limiter: Limiter) -> None:
    """A name that is taken keeps the dialog with what was typed, and another can be given."""
    limiter.create("database", 5)
    page.open()
    page.press("New limit")
    page.type("name", "database")
    page.type("limit", "7")
    page.submit()
    until(lambda: "already exists" in page.wrong("name"))
    assert page.one("#edit-limit").get_property("value") == "7"
    page.type("name", "database 2")
    page.submit()
    page.closes()
    assert limiter.read("database 2").limit == 7


def test_a_fault_without_a_field_is_said_in_the_dialog(page: Page, limiter: Limiter) -> None:
    """A limit that is deleted while it is edited is not there to be saved, which is said."""
    limiter.create("database", 5)
    page.open()
    page.press("Edit database")
    limiter.delete("database")
    page.type("limit", "6")
    page.submit()
    until(lambda: page.text("#edit .refused") == "Concurrency Limit not found.")
    page.press("Cancel")
    page.closes()
    until(lambda: page.is_shown("#none"))


def test_an_edit_sends_only_what_was_changed(
    page: Page, limiter: Limiter, actor: Callable[[], Actor]
) -> None:
    """What others change or take while somebody edits is not undone."""
    limiter.create("database", 5)
    page.open()
    page.press("Edit database")
    holder = actor()
    holder.do("acquire", ["database"], 2)
    limiter.update("database", slot_decay_per_second=0.001)
    page.type("name", "db")
    page.type("limit", "6")
    page.submit()
    page.closes()
    changed = limiter.read("db")
    assert (changed.limit, changed.slot_decay_per_second, changed.active_slots) == (6, 0.001, 2)
    assert [one.pid for one in limiter.holders("db")] == [holder.pid]
    until(lambda: page.names() == ["db"])


def test_an_edit_of_nothing_saves_nothing(page: Page, limiter: Limiter) -> None:
    """Who looks and saves has changed nothing."""
    before = limiter.create("database", 5)
    page.open()
    page.press("Edit database")
    page.submit()
    page.closes()
    assert limiter.read("database") == before


def test_slots_in_use_can_be_written(page: Page, limiter: Limiter) -> None:
    """A number of slots in use is set by hand; the dialog for a new limit does not ask for one."""
    limiter.create("database", 5)
    page.open()
    page.press("New limit")
    assert not page.is_shown("#edit-used")
    page.press("Cancel")
    page.press("Edit database")
    page.type("active_slots", "4")
    page.submit()
    page.closes()
    assert limiter.read("database").active_slots == 4
    until(lambda: page.row("database")[1].startswith("4 / 5"))


def test_disable_and_enable(page: Page, limiter: Limiter) -> None:
    """The switch does it at once, shows what is so, and says it."""
    limiter.create("database", 5)
    page.open()
    switch = page.button("Active: database")
    assert (switch.aria_role, switch.get_attribute("aria-checked")) == ("switch", "true")
    switch.click()
    until(lambda: switch.get_attribute("aria-checked") == "false")
    assert not limiter.read("database").active
    assert page.text("#news") == "database is inactive, and passed by."
    switch.click()
    until(lambda: switch.get_attribute("aria-checked") == "true")
    assert limiter.read("database").active


def test_a_switch_that_fails_stays_and_says_why(page: Page, limiter: Limiter) -> None:
    """The reason stays until somebody dismisses it."""
    limiter.create("database", 5)
    page.open()
    # Deleted and clicked in one go, lest the stream take the row away in between.
    page.script(
        """const request = new XMLHttpRequest();
        request.open("DELETE", "/api/v2/concurrency_limits/database", false);
        request.send();
        document.querySelector("[role=switch]").click();"""
    )
    until(lambda: "database is active as before." in page.text("#faults"))
    page.press("Dismiss")
    assert page.text("#faults") == ""


def test_reset_asks_first(page: Page, limiter: Limiter, actor: Callable[[], Actor]) -> None:
    """Nothing happens on Cancel or Escape; then every slot is free."""
    limiter.create("database", 5)
    actor().do("acquire", ["database"], 3)
    page.open()
    page.press("Reset database")
    assert page.text("#confirm h2") == "Free every slot of database?"
    assert "3 slots are in use" in page.text("#confirm-text")
    assert page.focused == "Cancel"
    page.keys(Keys.ENTER)
    page.closes()
    page.press("Reset database")
    page.keys(Keys.ESCAPE)
    page.closes()
    assert limiter.read("database").active_slots == 3
    page.press("Reset database")
    page.submit()
    page.closes()
    assert limiter.read("database").active_slots == 0
    until(lambda: page.row("database")[1].startswith("0 / 5"))


def test_delete_asks_first(page: Page, limiter: Limiter) -> None:
    """The row goes, and the focus to the one that takes its place."""
    for name in ("a", "b", "c"):
        limiter.create(name, 1)
    page.open()
    page.press("Delete b")
    page.press("Cancel")
    page.closes()
    assert page.focused == "Delete b"
    page.press("Delete b")
    page.submit()
    page.closes()
    until(lambda: page.names() == ["a", "c"])
    assert [one.name for one in limiter.read_all()] == ["a", "c"]
    assert page.text("#news") == "Deleted b."
    until(lambda: page.focused == "c")


def test_the_focus_after_a_row_that_went_before_the_answer(page: Page, limiter: Limiter) -> None:
    """The stream may tell of a deletion sooner than the answer to it."""
    for name in ("a", "b", "c"):
        limiter.create(name, 1)
    page.open()
    page.script(
        "const asked = window.fetch; window.fetch = async (...all) => {"
        " const answer = await asked(...all);"
        " if (all[1]?.method === 'DELETE') await new Promise((go) => { window.go = go; });"
        " return answer; };"
    )
    page.press("Delete b")
    page.submit()
    until(lambda: page.names() == ["a", "c"])
    page.script("window.go()")
    page.closes()
    until(lambda: page.focused == "c")


def test_search(page: Page, limiter: Limiter) -> None:
    """By any part of a name in any case, kept in the address."""
    for name in ("Database", "data lake", "mail"):
        limiter.create(name, 1)
    page.open()
    page.one("#search").send_keys("DATA")
    assert page.names() == ["data lake", "Database"]
    assert page.text("#found") == "2 of 3"
    page.browser.refresh()
    until(lambda: page.names() == ["data lake", "Database"])
    page.one("#search").send_keys("<b>")
    assert page.text("#unmatched p") == "No name contains “DATA<b>”."
    limiter.create("data<b>"[:4], 1)  # found by itself once it is there
    page.press("Clear the search")
    until(lambda: page.names() == ["data", "data lake", "Database", "mail"])
    assert page.browser.current_url == f"{page.url}/"
    assert page.focused == "Search the names"


def test_sort(page: Page, limiter: Limiter) -> None:
    """By each column, both ways, said to a screen reader and kept in the address."""
    limiter.create("job 10", 10, active_slots=1)
    limiter.create("job 9", 2, active_slots=1, active=False)
    limiter.create("slow", 1, slot_decay_per_second=0.5)
    page.open()
    orders = {
        "Name": (["slow", "job 10", "job 9"], ["job 9", "job 10", "slow"]),
        "In use": (["job 9", "job 10", "slow"], ["slow", "job 10", "job 9"]),
        "Rate": (["slow", "job 9", "job 10"], ["job 9", "job 10", "slow"]),
        "Active": (["job 9", "job 10", "slow"], ["job 10", "slow", "job 9"]),
    }
    first = {"Name": "descending", "In use": "descending", "Rate": "descending"}
    for column, expected in orders.items():
        for names in expected:
            page.press(column)
            assert page.names() == names, column
            (sorted_by,) = page.all("#limits [aria-sort]")
            assert sorted_by.text.startswith(column)
        page.press(column)
        direction = page.one("#limits [aria-sort]").get_attribute("aria-sort")
        assert direction == first.get(column, "ascending")
    page.browser.refresh()
    until(lambda: page.names() == orders["Active"][0])


def test_a_row_in_use_does_not_move_away(page: Page, limiter: Limiter) -> None:
    """The order changes once neither the pointer nor the focus is in the table."""
    for name in ("a", "b"):
        limiter.create(name, 2)
    limiter.update("a", active_slots=1)
    page.open("/?sort=-used")
    assert page.names() == ["a", "b"]
    page.button("Edit a").send_keys("")  # which only gives it the focus
    limiter.update("b", active_slots=2)
    until(lambda: page.row("b")[1].startswith("2 / 2"))
    assert page.names() == ["a", "b"]
    page.one("#search").click()
    until(lambda: page.names() == ["b", "a"])
