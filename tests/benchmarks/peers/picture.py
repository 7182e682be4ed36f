"""The comparison as a picture: a panel for each column, a bar for each peer."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from matplotlib.axes import Axes

from tests.benchmarks.figures import duration
from tests.benchmarks.peers.adapter import PROCESSES, RATE
from tests.benchmarks.peers.compare import Comparison, Findings
from tests.benchmarks.peers.measures import PATIENCE_SECONDS
from tests.benchmarks.pictures import INK, OTHERS, OURS, OURS_TOO, bare, drawing

_WIDTH, _HEIGHT = 9.6, 4.4  # inches
_COLUMNS = 4
_KEY = "Bars of times and of pairs\nare logarithmic.\n\n-  is not its business."
_ROOM = 12.0  # beside the longest bar of a logarithmic panel, for its number


def draw(comparison: Comparison, path: str) -> None:
    """Draw what was measured into an SVG."""
    peers = [peer for peer in comparison.peers if peer.version is not None]
    with drawing(path, _WIDTH, _HEIGHT) as figure:
        panels = figure.subplots(2, _COLUMNS, sharey=True)
        flat = list(panels.flat)
        for axes, panel in zip(flat, _PANELS, strict=False):
            panel(axes, peers)
            bare(axes)
        for axes in flat[len(_PANELS) :]:
            axes.set_axis_off()
            axes.text(0, 0, _KEY, va="top")
        for axes in panels[:, 0]:
            axes.set_yticks(range(len(peers)), [peer.title for peer in peers])
            axes.set_ylim(len(peers) - 0.5, -0.5)


def _colour(peer: Findings) -> str:
    return {"localgcl": OURS, "run": OURS_TOO}.get(peer.name, OTHERS)


def _bars(
    axes: Axes,
    peers: list[Findings],
    title: str,
    value_of: Callable[[Findings], float | None],
    show: Callable[[float], str],
) -> None:
    """Draw a logarithmic bar for each, with its number."""
    values = [value_of(peer) for peer in peers]
    there = [value for value in values if value is not None]
    axes.set_title(title)
    if not there:
        return
    axes.set_xscale("log")
    start = min(there) / 3
    axes.set_xlim(start, max(there) * _ROOM)
    for place, (peer, value) in enumerate(zip(peers, values, strict=True)):
        if value is not None:
            axes.barh(place, value - start, left=start, height=0.6, color=_colour(peer))
        text = "-" if value is None else show(value)
        axes.annotate(
            text, (value or start, place), (3, 0), textcoords="offset points", va="center"
        )


def _pair(axes: Axes, peers: list[Findings]) -> None:
    _bars(axes, peers, "take and free a slot", lambda peer: peer.median("pair"), duration)


def _throughput(axes: Axes, peers: list[Findings]) -> None:
    _bars(
        axes,
        peers,
        f"{PROCESSES} at once (more is better)",
        lambda peer: peer.median("throughput"),
        lambda rate: f"{rate:,.0f}/s",
    )


def _hand_over(axes: Axes, peers: list[Findings]) -> None:
    _bars(axes, peers, "hand-over", lambda peer: peer.median("hand-over"), duration)


def _start(axes: Axes, peers: list[Findings]) -> None:
    _bars(axes, peers, "a whole job", lambda peer: peer.median("start"), duration)


def _killed(axes: Axes, peers: list[Findings]) -> None:
    def seconds(peer: Findings) -> float | None:
        waits = [wait if wait is not None else PATIENCE_SECONDS for wait in peer.killed]
        return statistics.median(waits) if waits else None

    def show(value: float) -> str:
        return f"> {duration(value)}" if value >= PATIENCE_SECONDS else duration(value)

    _bars(axes, peers, "back after SIGKILL", seconds, show)


def _order(axes: Axes, peers: list[Findings]) -> None:
    axes.set_title(f"unluckiest to luckiest of {PROCESSES}")
    axes.set_xlim(-0.03, 1.45)
    axes.axvline(1 / PROCESSES, color=INK, linewidth=0.8, linestyle=":")
    for place, peer in enumerate(peers):
        shares = peer.shares
        if shares is None:
            axes.annotate("-", (0.0, place), (3, 0), textcoords="offset points", va="center")
            continue
        luckiest, unluckiest = shares
        axes.plot(
            [unluckiest, luckiest],
            [place, place],
            color=_colour(peer),
            linewidth=3,
            marker="o",
            markersize=4,
        )
        text = f"{unluckiest:.0%} to {luckiest:.0%}"
        axes.annotate(text, (luckiest, place), (5, 0), textcoords="offset points", va="center")


def _rate(axes: Axes, peers: list[Findings]) -> None:
    axes.set_title(f"delivered of {RATE:.0f}/s")
    axes.set_xlim(0.0, 1.6)
    axes.axvline(1.0, color=INK, linewidth=0.8, linestyle=":")
    for place, peer in enumerate(peers):
        share = None if peer.delivery is None else peer.delivery.share
        if share is not None:
            axes.barh(place, share, height=0.6, color=_colour(peer))
        text = "-" if share is None else f"{share:.0%}"
        axes.annotate(text, (share or 0.0, place), (3, 0), textcoords="offset points", va="center")


_PANELS = (_pair, _throughput, _hand_over, _order, _rate, _killed, _start)
