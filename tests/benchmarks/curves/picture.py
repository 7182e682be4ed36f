"""The curves as a picture: a column for each thing that is varied, cost above and file below."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from tests.benchmarks.curves.measures import HAND_OVER, PAIR, VISIT, Curve
from tests.benchmarks.pictures import INK, OTHERS, OURS, OURS_TOO, drawing

_WIDTH, _HEIGHT = 9.6, 4.2  # inches
_LINES = {
    PAIR: (OURS, "o", "acquire + release"),
    HAND_OVER: (OTHERS, "s", "hand-over"),
    VISIT: (OURS_TOO, "^", "sign in, acquire + release, sign out"),
}
_LEAST, _MOST = 0.5, 8.0  # of the upper row, unless a curve leaves it


def draw(curves: list[Curve], path: str) -> None:
    """Draw what was measured into an SVG."""
    with drawing(path, _WIDTH, _HEIGHT) as figure:
        panels = figure.subplots(2, len(curves), sharex="col", sharey="row")
        for column, curve in enumerate(curves):
            _ratios(panels[0][column], curve)
            _sizes(panels[1][column], curve)
        every = [
            found.ratio
            for curve in curves
            for point in curve.points
            for found in point.figures.values()
        ]
        top = max(_MOST, *(1.2 * ratio for ratio in every))
        panels[0][0].set_ylim(_LEAST, top)
        ticks = [tick for tick in (0.5, 1, 2, 4, 8, 16, 32, 64, 128) if tick <= top]
        panels[0][0].yaxis.set_major_locator(FixedLocator(ticks))
        panels[0][0].yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}x"))
        panels[0][0].yaxis.set_minor_formatter(NullFormatter())
        panels[1][0].set_ylabel("file, KiB")
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(_LINES))


def _across(axes: Axes, curve: Curve) -> None:
    values = [point.value for point in curve.points]
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xticks(values, [_short(value) for value in values])
    axes.minorticks_off()
    axes.set_xlim(values[0] * 0.8 - (0 if values[0] else 0.2), values[-1] * 1.3)


def _ratios(axes: Axes, curve: Curve) -> None:
    axes.set_title(curve.name)
    axes.set_yscale("log")
    _across(axes, curve)
    axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=":")
    for figure, (colour, marker, label) in _LINES.items():
        there = [point for point in curve.points if figure in point.figures]
        axes.plot(
            [point.value for point in there],
            [point.figures[figure].ratio for point in there],
            color=colour,
            marker=marker,
            markersize=3,
            linewidth=1.2,
            label=label,
        )


def _sizes(axes: Axes, curve: Curve) -> None:
    axes.set_yscale("log")
    _across(axes, curve)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda size, _: _short(round(size))))
    axes.plot(
        [point.value for point in curve.points],
        [point.bytes / 1024 for point in curve.points],
        color=INK,
        marker="o",
        markersize=3,
        linewidth=1.2,
    )


def _short(value: int) -> str:
    return f"{value // 1000}k" if value >= 1000 else str(value)
