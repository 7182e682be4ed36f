"""What is counted for every limit, over all processes, and how it is exported.

The counters are columns of each limit's row of counters. The transactions that they count write
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from localgcl._admin.action import Action
from localgcl._admin.reading import look
from localgcl._base import clock
from localgcl._base.checks import MAX_SLOTS, check_name
from localgcl._engine import decay
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
    "granted_at",
    "timed_out_at",
    "key",
    "template",
    "window",
    "in_window",
    "held_since",
    "waiting_since",
)
# The last three are of the slots in use of a window, the oldest lease and the oldest waiter.
_READ = (
    f"SELECT {', '.join(_COLUMNS[:-3])}, iif(window, (SELECT ifnull(sum(slots), 0) FROM taken"
    " WHERE limit_key = key AND at <= :now AND at + window > :now), 0),"
    " (SELECT min(since) FROM leases WHERE limit_key = key AND owner > 0),"
    " (SELECT min(since) FROM waits JOIN waiters USING (ticket) WHERE limit_key = key)"
    " FROM limits"
)
_SUMS = ("waiting", "grants", "refusals", "timeouts", "reclaimed", "waited", "held")
_HIGHEST = ("longest_wait", "longest_hold", "granted_at", "timed_out_at")
_EARLIEST = ("held_since", "waiting_since")


class Metric:
    """One figure of every limit: its name, its kind, its help text and its value.

    `name` has the prefix `localgcl_`, but not the `_total` that `exposition` appends to a counter.
    The value is a column, or is computed from a row; None for a limit that has none.
    """

    __slots__ = ("help", "kind", "name", "value")

    def __init__(
        self,
        name: str,
        kind: Literal["gauge", "counter"],
        text: str,
        value: str | Callable[[Row], float | None],
    ) -> None:
        self.name = f"localgcl_{name}"
        self.kind = kind
        self.help = text
        self.value = value if callable(value) else lambda row: float(row[value])


def _age(column: str) -> Callable[[Row], float]:
    return lambda row: 0.0 if row[column] is None else max(0.0, row["now"] - row[column])


def _wall(column: str) -> Callable[[Row], float | None]:
    return lambda row: None if row[column] is None else clock.wall() + row[column] - row["now"]


METRICS = (
    Metric("slots", "gauge", "Slots of the limit.", "slots"),
    Metric("active", "gauge", "Whether the limit is active, 1, or ignored, 0.", "active"),
    Metric("slots_in_use", "gauge", "Slots in use, after decay.", "in_use"),
    Metric("waiting", "gauge", "Requests in the queue.", "waiting"),
    Metric("grants", "counter", "Requests that got slots.", "grants"),
    Metric("refusals", "counter", "Requests that no wait would have served.", "refusals"),
    Metric("timeouts", "counter", "Requests that were given up before a grant.", "timeouts"),
    Metric("reclaimed", "counter", "Leases taken back from owners that had died.", "reclaimed"),
    Metric("wait_seconds", "counter", "Time that granted requests had waited.", "waited"),
    Metric("wait_seconds_max", "gauge", "Longest wait of a granted request.", "longest_wait"),
    Metric("hold_seconds", "counter", "Time that released leases had been held.", "held"),
    Metric("hold_seconds_max", "gauge", "Longest hold of a released lease.", "longest_hold"),
    Metric(
        "oldest_hold_seconds",
        "gauge",
        "Age of the oldest lease, 0 without one.",
        _age("held_since"),
    ),
    Metric(
        "oldest_wait_seconds",
        "gauge",
        "Wait of the oldest request in the queue, 0 without one.",
        _age("waiting_since"),
    ),
    Metric(
        "last_granted_timestamp_seconds",
        "gauge",
        "When slots were last granted, in seconds since 1970.",
        _wall("granted_at"),
    ),
    Metric(
        "last_timed_out_timestamp_seconds",
        "gauge",
        "When a request was last given up, in seconds since 1970.",
        _wall("timed_out_at"),
    ),
)


def _in_use(row: Row) -> int:
    if row["window"]:
        return int(row["in_window"])
    if not row["decay"]:
        return int(row["used"])
    return decay.whole(decay.level_at(row["level"], row["level_at"], row["decay"], row["now"]))


def counters() -> Action[list[Row]]:
    """Read what `METRICS` need, limit by limit; a template has the sums over its keys."""

    def work(tx: Transaction) -> list[Row]:
        look(tx)
        rows = tx.execute(f"{_READ} WHERE template IS NULL ORDER BY name", {"now": tx.now})
        return _with_keys(tx, _rows_of(tx.now, rows.fetchall()))

    return Action(work, _checked, absent=list)


def _rows_of(now: float, rows: Iterable[Any]) -> list[Row]:
    found = [{**dict(zip(_COLUMNS, row, strict=True)), "now": now} for row in rows]
    for row in found:
        row["in_use"] = _in_use(row)
    return found


def _with_keys(tx: Transaction, found: list[Row]) -> list[Row]:
    """Add to templates what their keys have counted so far."""
    templates = {row["key"]: row for row in found}
    of_these = {"first": min(templates, default=0), "last": max(templates, default=0)}
    keys = tx.execute(
        f"{_READ} WHERE key < 0 AND template BETWEEN :first AND :last", {"now": tx.now, **of_these}
    )
    for key in _rows_of(tx.now, keys.fetchall()):
        row = templates.get(key["template"])
        if row is None:
            continue  # of another part
        for column in ("in_use", *_SUMS):
            row[column] += key[column]
        for columns, choose in ((_HIGHEST, max), (_EARLIEST, min)):
            for column in columns:
                there = [one for one in (row[column], key[column]) if one is not None]
                row[column] = choose(there, default=None)
    return found


def _checked(rows: list[Row]) -> list[Row]:
    for row in rows:
        check_name(row["name"])
        for metric in METRICS:
            metric.value(row)  # raises if the row is corrupt
    return rows


def counters_part(after: int | None, most: int) -> Action[tuple[list[Row], int | None]]:
    """As `counters`, up to `most` limits whose key is greater than `after`; see `read_part`."""

    def work(tx: Transaction) -> list[Row]:
        if after is None:
            look(tx)
        rows = tx.execute(
            f"{_READ} WHERE key > :after AND template IS NULL ORDER BY key LIMIT :most",
            {"now": tx.now, "after": -MAX_SLOTS if after is None else after, "most": most},
        )
        return _with_keys(tx, _rows_of(tx.now, rows.fetchall()))

    def view(rows: list[Row]) -> tuple[list[Row], int | None]:
        return _checked(rows), rows[-1]["key"] if len(rows) == most else None

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
        lines += [
            f'{name}{{limit="{_escaped(row["name"])}"}} {value}'
            for row in rows
            if (value := metric.value(row)) is not None
        ]
    return "".join(f"{line}\n" for line in lines)


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
