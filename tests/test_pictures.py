"""What the benchmarks write into their README: tables between their marks, and small pictures."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import pictures, readme
from tests.benchmarks.__main__ import SECTIONS
from tests.benchmarks.curves import picture as curves_picture
from tests.benchmarks.curves import report as curves_report
from tests.benchmarks.curves.measures import HAND_OVER, PAIR, VISIT, Curve, Point
from tests.benchmarks.figures import Comparison as Ratio
from tests.benchmarks.peers import picture as peers_picture
from tests.benchmarks.peers import report as peers_report
from tests.benchmarks.peers.compare import Comparison, Findings
from tests.benchmarks.peers.measures import Delivery
from tests.benchmarks.peers.roll import ADAPTERS

_MOST_BYTES = 60_000

MARKED = "before\n<!-- benchmarks: a -->\nold\n<!-- end of benchmarks: a -->\nafter\n"


def comparison() -> Comparison:
    """Return findings in which each peer lacks something else, and one is not installed."""
    peers = [Findings(name, adapter.title, "1.2") for name, adapter in ADAPTERS.items()]
    for index, peer in enumerate(peers, 1):
        peer.figures = {
            figure: [index * 1e-4, index * 3e-4, index * 2e-4]
            for figure in ("pair", "hand-over", "start")
        }
        peer.figures["throughput"] = [1000.0 / index] * 3
        peer.turns = list(range(index, index + 8))
        peer.delivery = Delivery(0.5 + index / 20, 0.25, peer.turns)
        peer.killed = [0.001 * index, 0.003 * index, None if index == 3 else 0.002]
    peers[1].figures.pop("hand-over")
    peers[2].server_start_seconds = 9.0
    peers[3].delivery, peers[3].killed = None, []
    peers[4].failures["pair"] = "it failed"
    peers[6].turns = []
    peers[7].version = None
    return Comparison(peers, 0.014)


def curves() -> list[Curve]:
    """Return curves, one of which leaves the usual range."""
    values = (0, 10, 1_000, 100_000)
    figures = {name: Ratio(2e-4, 1e-4, 2.0) for name in (PAIR, VISIT)}
    points = [Point(value, {**figures}, 20_000 + value) for value in values]
    points[-1].figures[HAND_OVER] = Ratio(3e-3, 1e-4, 30.0)
    return [Curve(name, name, points) for name in ("limits", "leases", "waiters", "processes")]


def test_what_stands_between_the_marks_is_replaced() -> None:
    """The marks stay, for the next time, and so does everything around them."""
    replaced = readme.replace(MARKED, "a", r"new \1")
    assert replaced == MARKED.replace("old", "\nnew \\1\n")
    assert readme.replace(replaced, "a", "newer") == MARKED.replace("old", "\nnewer\n")


@pytest.mark.parametrize("text", ["", MARKED + MARKED, MARKED.replace("end of", "")])
def test_a_readme_without_the_place_is_refused(text: str) -> None:
    """A table that would go nowhere, or to two places, is an error that names it."""
    with pytest.raises(ValueError, match="benchmarks' a"):
        readme.replace(text, "a", "new")


@pytest.mark.parametrize("section", SECTIONS)
def test_the_readme_has_a_place_for_every_section(section: str) -> None:
    """What `--readme` writes finds its marks."""
    text = Path(readme.PATH).read_text(encoding="utf-8")
    assert "new" in readme.replace(text, section, "new")


def test_the_table_says_what_there_is_and_what_is_not() -> None:
    """Figures with their ratios to localgcl's, what failed, and what is not installed."""
    found = comparison()
    lines = {line[0]: line for line in peers_report.lines(found)}
    assert {len(line) for line in lines.values()} == {len(peers_report.HEAD)}
    assert lines["localgcl 1.2"][1:4] == ("200 µs", "1,000/s", "200 µs")
    assert lines["localgcl run 1.2"][1:4] == ("400 µs (2.0x)", "500/s (0.50x)", "-")
    assert lines["localgcl 1.2"][4] == "22.2%, 2.8% of 36"
    assert lines["Prefect 1.2"][6] == "not in 5 s"
    assert lines["PyrateLimiter 1.2"][5:7] == ("-", "-")
    assert lines["portalocker 1.2"][1] == "failed"
    assert lines["GNU sem"][1] == "not installed"
    assert any("9 s to start" in note for note in peers_report.notes(found))
    assert curves_report.lines(curves())[3] == (
        "100,000 limits",
        "200 µs (2.00x)",
        "3.0 ms (30.00x)",
        "200 µs (2.00x)",
        "117 KiB",
    )


def draw_peers(path: str) -> None:
    """Draw the comparison."""
    peers_picture.draw(comparison(), path)


def draw_curves(path: str) -> None:
    """Draw the curves."""
    curves_picture.draw(curves(), path)


@pytest.mark.parametrize("draw", [draw_peers, draw_curves])
def test_pictures_are_small_and_legible_on_light_and_on_dark(
    draw: Callable[[str], None], tmp_path: Path
) -> None:
    """They are well-formed, have no background, and every colour stands out from both pages."""
    path = tmp_path / "drawn.svg"
    draw(str(path))
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < _MOST_BYTES
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314 - our own
    colours = set(re.findall(r"#[0-9a-f]{6}\b", text))
    assert colours >= {pictures.INK, pictures.OURS}
    for colour in colours:
        assert min(contrast(colour, page) for page in ("#ffffff", "#0d1117")) > 3.5, colour


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, as https://www.w3.org/TR/WCAG21/ has it."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    """Return how bright a colour is, from 0 to 1."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
