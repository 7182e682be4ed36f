"""What all the pictures share: small SVGs that are legible on a light page and on a dark one."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# In the middle between black and white: each has a contrast above 4 to either.
INK = "#6e7781"
OURS = "#2f7fd6"
OURS_TOO = "#7b62d3"
OTHERS = "#b0722a"

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: smaller, sharper, and can be searched
    "svg.hashsalt": "localgcl",  # the same figures give the same file
    "font.family": "sans-serif",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


@contextlib.contextmanager
def drawing(path: str, width: float, height: float) -> Iterator[Figure]:
    """Give a figure of so many inches to draw on, and save it."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
    with open(path, encoding="utf-8") as file:
        lines = [_shortened(line) for line in file]
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines if line))


def _shortened(line: str) -> str:
    """Return a line of an SVG without what nobody sees: its margins, and thousandths of a point."""
    return re.sub(r"(\.\d\d)\d+", r"\1", line.strip())


def bare(axes: Axes) -> None:
    """Leave nothing of a panel's frame but its left side."""
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False, which="both", left=False)
