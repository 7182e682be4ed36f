"""Who uses the page, and how: by keyboard, by ear, in the dark, on a phone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from selenium.webdriver.common.keys import Keys

from localgcl import Limiter
from tests.helpers.actors import Actor
from tests.helpers.page import NARROW, Page, until

pytestmark = pytest.mark.processes

# All text that can be seen, with its colour and every background behind it, from the nearest.
_COLOURS = """
const found = [];
const walker = document.createTreeWalker(arguments[0], NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
  if (element.closest(".unseen, .skip, thead") && getComputedStyle(
      element.closest(".unseen, .skip, thead")).clipPath !== "none") continue;
  const behind = [];
  for (let one = element; one; one = one.parentElement) {
    behind.push(getComputedStyle(one).backgroundColor);
    if (one.matches("dialog")) break;
  }
  found.push([walker.currentNode.data.trim(), getComputedStyle(element).color, behind]);
}
return found;
"""


def rgb(colour: str) -> list[float]:
    """Return red, green, blue (0 to 1) and alpha of a computed colour."""
    kind, _, rest = colour.rstrip(")").partition("(")
    numbers = [
        float(part)
        for part in rest.replace("/", " ").replace(",", " ").split()[-4:]
        if part != "srgb"
    ]
    scale = 255 if kind.startswith("rgb") else 1
    red, green, blue, *alpha = numbers
    return [red / scale, green / scale, blue / scale, *(alpha or [1.0])]


def luminance(colour: list[float]) -> float:
    """Return the relative luminance, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(text: str, behind: list[str]) -> float:
    """Return the contrast of a text to what is behind it."""
    shown = [1.0, 1.0, 1.0]
    for colour in reversed(behind):
        *parts, alpha = rgb(colour)
        shown = [alpha * new + (1 - alpha) * old for new, old in zip(parts, shown, strict=True)]
    light, dark = sorted((luminance(rgb(text)), luminance(shown)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_computed_as_it_is_defined() -> None:
    """Black on white is 21, and a half transparent black is grey."""
    assert contrast("rgb(0, 0, 0)", ["rgba(0, 0, 0, 0)", "rgb(255, 255, 255)"]) == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", ["rgb(255, 255, 255)"]) == pytest.approx(4.54, abs=0.01)
    assert contrast("color(srgb 1 1 1)", ["rgba(0, 0, 0, 0.5)"]) == pytest.approx(3.98, abs=0.01)


@pytest.fixture
def crowded(limiter: Limiter, actor: Callable[[], Actor]) -> Limiter:
    """Limits in every state, with long names, a holder and one who waits."""
    limiter.create("api", 20, slot_decay_per_second=0.125)
    limiter.create("database", 1)
    limiter.create("closed", 0)
    limiter.create("inactive", 3, active=False)
    limiter.create("x" * 255, 2**53 - 1)
    limiter.update("x" * 255, active_slots=2**53 - 1)
    limiter.create("over", 1)
    limiter.update("over", active_slots=9)
    first, second = actor(), actor()
    first.do("acquire", ["database"])
    second.tell("acquire", ["database"])
    until(lambda: limiter.waiters())
    return limiter


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(page: Page, crowded: Limiter, scheme: str) -> None:
    """Each has a contrast of at least 4.5, on both pages, in dialogs and their faults."""
    page.prefer(scheme)
    grounds = set()

    def examine(css: str, at_least: int) -> None:
        found = page.script(_COLOURS, page.one(css))
        assert len(found) > at_least
        grounds.add(page.one("html").value_of_css_property("background-color"))
        faint = {
            text: contrast(colour, behind)
            for text, colour, behind in found
            if contrast(colour, behind) < 4.5
        }
        assert faint == {}

    page.open()
    until(lambda: "database" in page.names())
    page.script("document.getAnimations().forEach((one) => one.finish())")
    examine("body", 40)
    page.press("New limit")
    page.submit()
    examine("#edit", 10)
    page.press("Cancel")
    page.press("Delete api")
    examine("#confirm", 3)
    page.press("Cancel")
    page.open("/limits/database")
    until(lambda: page.is_shown("#waiters"))
    examine("body", 40)
    (ground,) = grounds
    assert (luminance(rgb(ground)) > 0.5) == (scheme == "light")


@pytest.mark.parametrize("path", ["/", "/limits/database", "/limits/" + "x" * 255])
def test_a_phone_needs_no_sideways_scrolling(page: Page, crowded: Limiter, path: str) -> None:
    """Nothing is wider than the window, neither the page nor a dialog; everything is there."""
    page.resize(NARROW)
    page.open(path)
    width, right = page.script(
        "return [document.documentElement.scrollWidth, Math.max(...[...document.querySelectorAll("
        "'main *')].filter((one) => one.checkVisibility() && !one.closest('.unseen, thead, svg'))"
        ".map((one) => one.getBoundingClientRect().right))]"
    )
    assert width <= NARROW[0]
    assert right <= NARROW[0]
    squeezed = page.script(
        "return [...document.querySelectorAll('main tbody th, main tbody td, main dd')].filter("
        "(one) => one.checkVisibility() && one.scrollWidth > one.clientWidth + 1)"
        ".map((one) => one.innerText)"
    )
    assert squeezed == []
    page.script("document.querySelector('[data-part=edit]').click()")
    box = page.one("#edit").rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= NARROW[0]
    assert page.script(
        "const one = document.getElementById('edit');return one.scrollWidth <= one.clientWidth"
    )


def test_a_phone_sorts_as_well(page: Page, crowded: Limiter) -> None:
    """Without headings to press there is a choice."""
    page.resize(NARROW)
    page.open()
    page.one("#by option[value='-waiting']").click()
    assert page.names()[0] == "database"


@pytest.mark.parametrize("path", ["/", "/limits/database"])
def test_every_control_has_a_name(page: Page, crowded: Limiter, path: str) -> None:
    """A screen reader can say what each does; none is called as another; ids are there once."""
    page.open(path)
    names = [
        one.accessible_name
        for one in page.all("button, a, input, select, table, svg, [tabindex='0'], dialog")
        if one.is_displayed()
    ]
    assert len(names) > 10
    assert "" not in names
    ids = page.script("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    missing = page.script(
        "return [...document.querySelectorAll('[aria-describedby], [aria-labelledby], label[for]')]"
        ".flatMap((one) => [one.getAttribute('aria-describedby'), one.htmlFor,"
        " one.getAttribute('aria-labelledby')].filter(Boolean).join(' ').split(' '))"
        ".filter((id) => !document.getElementById(id))"
    )
    assert missing == []
    page.script("document.querySelector('[data-part=edit]').click()")
    fields = page.all("#edit input")
    assert [one.accessible_name for one in fields if one.is_displayed()] == [
        "Name",
        "Slots",
        "Rate",
        "Window",
        "Slots in use",
        "Active",
    ]


def test_tables_are_tables_to_a_screen_reader(page: Page, crowded: Limiter) -> None:
    """Also where they are shown as cards."""
    for size in ((1200, 900), NARROW):
        page.resize(size)
        page.open()
        roles = [
            one.aria_role
            for one in page.all("#limits, #limits tr:first-child, #limits tr:first-child > *")
        ]
        assert set(roles) == {"table", "row", "columnheader", "rowheader", "cell"}


def test_changes_are_said(page: Page, limiter: Limiter) -> None:
    """What a limit's page shows at a glance is in a live region, after it was there before."""
    limiter.create("database", 5)
    page.open("/limits/database")
    assert page.one("#heard").get_attribute("role") == "status"
    limiter.update("database", active_slots=3)
    until(
        lambda: page.one("#heard").get_property("textContent") == "3 slots of 5 in use, 0 waiting"
    )


def test_by_keyboard_alone(page: Page, limiter: Limiter) -> None:
    """From the top: create, edit, disable and delete, and the focus is always to be seen."""
    limiter.create("database", 5)
    page.open()

    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keys(Keys.TAB)
            if page.focused == name:
                break
        else:
            raise AssertionError(f"{name} cannot be reached")
        style = page.script("return getComputedStyle(document.activeElement).outlineStyle")
        assert style not in ("none", ""), name

    page.keys(Keys.TAB)
    assert page.focused == "Skip to the content"
    assert page.one(".skip").rect["x"] >= 0
    page.keys(Keys.ENTER)
    tab_to("New limit")
    page.keys(Keys.ENTER)
    assert page.focused == "Name"
    page.keys("mail", Keys.TAB, "2", Keys.TAB)
    assert page.focused == "Rate"
    page.keys(Keys.ENTER)
    page.closes()
    until(lambda: page.names() == ["database", "mail"])
    assert page.focused == "New limit"
    tab_to("Edit mail")
    page.keys(Keys.ENTER)
    assert page.text("#edit h2") == "Edit mail"
    page.keys(Keys.ESCAPE)
    page.closes()
    assert page.focused == "Edit mail"
    page.browser.switch_to.active_element.send_keys(Keys.SHIFT, Keys.TAB)
    assert page.focused == "Active: mail"
    page.keys(Keys.SPACE)
    until(lambda: not limiter.read("mail").active)
    tab_to("Delete mail")
    page.keys(Keys.ENTER)
    assert page.focused == "Cancel"
    page.keys(Keys.TAB, Keys.ENTER)
    page.closes()
    until(lambda: page.names() == ["database"])
    until(lambda: page.focused == "database")
    page.keys(Keys.ENTER)
    until(lambda: page.browser.title == "database · localgcl")


def test_a_dialog_keeps_the_focus(page: Page, limiter: Limiter) -> None:
    """What is behind it is not reached by any number of tabs."""
    limiter.create("database", 5)
    page.open()
    page.press("Reset database")
    for _ in range(6):
        page.keys(Keys.TAB)
        assert not page.script(
            "return document.querySelector('main').contains(document.activeElement)"
        )
