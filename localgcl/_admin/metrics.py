"""What is counted for every limit, over all processes, and how it is exported.

The counters are columns of each limit's row of counters. The transactions that they count write
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from localgcl._admin.action import Action
from localgcl._base.checks import check_name
from localgcl._engine import decay, owners
from localgcl._engine.queue import promote
from localgcl._storage.database import Transaction

Row = dict[str, Any]

_COLUMNS = (
    "name",
    "slots",
    "active",
    "used",
    "decay",
    "level",
    "level_at",
    "waiting",
    "grants",
    "refusals",
    "timeouts",
    "reclaimed",
    "waited",
    "longest_wait",
    "held",
    "longest_hold",
)
_READ = f"SELECT {', '.join(_COLUMNS)} FROM limits ORDER BY name"


class Metric:
    """One figure of every limit: its name, its kind, its help text and its value.

    `name` has the prefix `localgcl_`, but not the `_total` that `exposition` appends to a counter.
    The value is a column, or is computed from a row.
    """

    __slots__ = ("help", "kind", "name", "value")

    def __init__(
        self,
        name: str,
        kind: Literal["gauge", "counter"],
        text: str,
        value: str | Callable[[Row], float],
    ) -> None:
        self.name = f"localgcl_{name}"
        self.kind = kind
        self.help = text
        self.value = value if callable(value) else lambda row: float(row[value])


METRICS = (
    Metric("slots", "gauge", "Slots of the limit.", "slots"),
    Metric("active", "gauge", "Whether the limit is active, 1, or passed by, 0.", "active"),
    Metric("slots_in_use", "gauge", "Slots in use, after decay.", lambda row: _in_use(row)),
    Metric("waiting", "gauge", "Requests in the queue.", "waiting"),
    Metric("grants", "counter", "Requests that got slots.", "grants"),
    Metric("refusals", "counter", "Requests that no wait would have served.", "refusals"),
    Metric("timeouts", "counter", "Requests that were given up before a grant.", "timeouts"),
    Metric("reclaimed", "counter", "Leases taken back from owners that had died.", "reclaimed"),
    Metric("wait_seconds", "counter", "Time that granted requests had waited.", "waited"),
    Metric("wait_seconds_max", "gauge", "Longest wait of a granted request.", "longest_wait"),
    Metric("hold_seconds", "counter", "Time that released leases had been held.", "held"),
    Metric("hold_seconds_max", "gauge", "Longest hold of a released lease.", "longest_hold"),
)


def _in_use(row: Row) -> float:
    if not row["decay"]:
        return float(row["used"])
    level = decay.level_at(row["level"], row["level_at"], row["decay"], row["now"])
    return float(decay.whole(level))


def counters() -> Action[list[Row]]:
    """Read what `METRICS` need, limit by limit."""

    def work(tx: Transaction) -> Any:
        promote(tx, owners.sweep(tx))
        return tx.now, tx.execute(_READ).fetchall()

    def view(result: tuple[float, list[Any]]) -> list[Row]:
        return _rows_of(*result)

    return Action(work, view, absent=list)


def _rows_of(now: float, rows: list[Any]) -> list[Row]:
    found = [{**dict(zip(_COLUMNS, row, strict=True)), "now": now} for row in rows]
    for row in found:
        check_name(row["name"])
        for metric in METRICS:
            metric.value(row)  # raises if the row is corrupt
    return found


def counters_part(after: int, most: int) -> Action[tuple[list[Row], int | None]]:
    """As `counters`, up to `most` limits whose key is greater than `after`; see `read_part`."""

    def work(tx: Transaction) -> Any:
        if not after:
            promote(tx, owners.sweep(tx))
        read = f"SELECT {', '.join(_COLUMNS)}, key FROM limits WHERE key > ? ORDER BY key LIMIT ?"
        return tx.now, tx.execute(read, (after, most)).fetchall()

    def view(result: tuple[float, list[Any]]) -> tuple[list[Row], int | None]:
        now, rows = result
        last = rows[-1][-1] if len(rows) == most else None
        return _rows_of(now, [row[:-1] for row in rows]), last

    return Action(work, view, absent=lambda: ([], None))


def exposition(rows: Iterable[Row]) -> str:
    """Return the counters in Prometheus' text format, empty if there is no limit.

    The format: https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    rows = list(rows)
    lines = []
    for metric in METRICS if rows else ():
        name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
        lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
        lines += [f'{name}{{limit="{_escaped(row["name"])}"}} {metric.value(row)}' for row in rows]
    return "".join(f"{line}\n" for line in lines)


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
