"""What `doctor` checks in the rows: whether sums are right, and whether each row is possible."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence

from localgcl._base.checks import MAX_SLOTS, check_name, check_requested_name
from localgcl._engine.tables import keys_in

_LARGEST_REAL = 1.7976931348623157e308
_CALENDAR = (-62135596800, 253402300799)  # the years 1 to 9999

_RANGES = (
    ("settings", "slots", 0, MAX_SLOTS),
    ("settings", "decay", 0, _LARGEST_REAL),
    ("settings", "window", 0, _LARGEST_REAL),
    ("settings", "created", *_CALENDAR),
    ("settings", "updated", *_CALENDAR),
    ("ledger", "slots", 0, MAX_SLOTS),
    ("ledger", "waiting", 0, MAX_SLOTS),
    ("ledger", "mixed", 0, MAX_SLOTS),
    ("ledger", "level", 0, _LARGEST_REAL),
    ("ledger", "level_at", -_LARGEST_REAL, _LARGEST_REAL),
    ("ledger", "occupancy", 0, _LARGEST_REAL),
    ("leases", "slots", 1, MAX_SLOTS),
    ("leases", "since", *_CALENDAR),
    ("taken", "slots", 1, MAX_SLOTS),
    ("taken", "at", -_LARGEST_REAL, _LARGEST_REAL),
    ("waits", "slots", 1, MAX_SLOTS),
    ("waiters", "since", *_CALENDAR),
)

_SUMS = """
SELECT name, used, (SELECT coalesce(sum(leases.slots), 0) FROM leases WHERE limit_key = key),
    waiting, (SELECT count(*) FROM waits WHERE limit_key = key)
FROM limits ORDER BY name
"""

# Rows whose counterpart is missing, so that nothing would ever clear them away. And a row of
# counters that lacks one: SQLite does not check that, since other rows of the table have none.
_ODD = {
    "counters without all their figures": (
        "SELECT count(*) FROM ledger WHERE owner = -1 AND max(waiting, mixed, level, level_at,"
        " occupancy, grants, waited, longest_wait, held, longest_hold, refusals, timeouts,"
        " reclaimed) IS NULL"
    ),
    "settings of a limit that has no counters": (
        "SELECT count(*) FROM settings WHERE key NOT IN (SELECT key FROM limits)"
    ),
    "counters of a limit that does not exist, or a second row of them": (
        "SELECT count(*) FROM ledger WHERE owner < 0"
        " AND NOT (owner = -1 AND lease = '' AND limit_key IN (SELECT key FROM settings))"
    ),
    "slots held at a limit that does not exist": (
        "SELECT count(*) FROM leases WHERE limit_key NOT IN (SELECT key FROM settings)"
    ),
    "slots held by an owner that does not exist": (
        "SELECT count(*) FROM leases WHERE owner <> 0 AND owner NOT IN (SELECT key FROM owners)"
    ),
    "slots taken of a limit that does not exist": (
        "SELECT count(*) FROM taken WHERE limit_key NOT IN (SELECT key FROM settings)"
    ),
    "settings of a key whose template does not exist": (
        "SELECT count(*) FROM settings"
        " WHERE template IS NOT NULL AND template NOT IN (SELECT key FROM settings)"
    ),
    "settings of a template whose prefix is not that of its name": (
        "SELECT count(*) FROM settings WHERE prefix IS NOT NULL AND prefix || '*' <> name"
    ),
    "places in the queue of a limit that does not exist": (
        "SELECT count(*) FROM waits WHERE limit_key NOT IN (SELECT key FROM settings)"
    ),
    "places in a queue for a request that does not exist": (
        "SELECT count(*) FROM waits WHERE ticket NOT IN (SELECT ticket FROM waiters)"
    ),
}


# Keys of limits, separated by spaces, and what else is written like them.
_LISTS = (
    ("waiters", "limits", "keys"),
    ("waiters", "taken", "keys"),
    ("owners", "limits", "keys"),
    ("ledger", "numbers", "numbers"),
)

_COLUMNS = (
    "SELECT tables.name, columns.name, columns.type"
    " FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns"
    " WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%'"
)


def columns_of(execute: Callable[..., sqlite3.Cursor]) -> list[tuple[str, str, str]]:
    """Return the columns of a database: table, name and type."""
    return execute(_COLUMNS).fetchall()


def senseless(execute: Callable[..., sqlite3.Cursor]) -> str | None:
    """Return what no release of ours can have written, None if every row is valid.

    It reads every row. It is for a caller that could not use a row and asks why.
    """
    return next(_impossible(execute, columns_of(execute)), None)


def problems_of(
    execute: Callable[..., sqlite3.Cursor], columns: Sequence[tuple[str, str, str]]
) -> list[str]:
    """Return what contradicts itself in the rows, one line each.

    `columns` are those of a new file: table, name and type.
    """
    return [*_impossible(execute, columns), *_of_sums(execute)]


def _impossible(
    execute: Callable[..., sqlite3.Cursor], columns: Sequence[tuple[str, str, str]]
) -> Iterator[str]:
    yield from _of_types(execute, columns)
    yield from _of_ranges(execute)
    yield from _of_names(execute)
    yield from _of_lists(execute)
    yield from _of_weights(execute)
    yield from _odd(execute)


def _of_types(
    execute: Callable[..., sqlite3.Cursor], columns: Sequence[tuple[str, str, str]]
) -> Iterator[str]:
    # The tables are strict, but a file that another program has made or changed may have others.
    # Which values may be missing, SQLite always enforces; `_ODD` checks that for rows of counters.
    for table, column, type_ in columns:
        ((wrong,),) = execute(
            f"SELECT count(*) FROM {table} WHERE typeof({column}) NOT IN ('null', ?)",
            (type_.lower(),),
        ).fetchall()
        if wrong:
            yield f"{table}.{column} is no {type_.lower()} in {wrong} row(s)"


def _of_ranges(execute: Callable[..., sqlite3.Cursor]) -> Iterator[str]:
    for table, column, least, most in _RANGES:
        ((wrong,),) = execute(
            f"SELECT count(*) FROM {table}"
            f" WHERE typeof({column}) IN ('integer', 'real') AND NOT {column} BETWEEN ? AND ?",
            (least, most),
        ).fetchall()
        if wrong:
            yield f"{table}.{column} is out of range in {wrong} row(s)"


def _of_names(execute: Callable[..., sqlite3.Cursor]) -> Iterator[str]:
    names = "SELECT name, template IS NOT NULL FROM settings WHERE typeof(name) = 'text'"
    for name, is_key in execute(names).fetchall():
        try:
            (check_requested_name if is_key else check_name)(name)
        except ValueError as error:
            yield str(error)


def _of_lists(execute: Callable[..., sqlite3.Cursor]) -> Iterator[str]:
    for table, column, what in _LISTS:
        texts = f"SELECT DISTINCT {column} FROM {table} WHERE typeof({column}) = 'text'"
        for (text,) in execute(texts).fetchall():
            try:
                makes_sense = all(-(2**63) <= key < 2**63 for key in keys_in(text))
            except ValueError:
                makes_sense = False
            if not makes_sense:
                yield f"{table}.{column} is no list of {what}: {text!r}"


def _of_weights(execute: Callable[..., sqlite3.Cursor]) -> Iterator[str]:
    texts = "SELECT limits, weights FROM waiters WHERE typeof(limits) = 'text' AND weights <> ''"
    for limits, weights in execute(f"{texts} AND typeof(weights) = 'text'").fetchall():
        try:
            slots = keys_in(weights)
            makes_sense = len(slots) == len(limits.split()) and all(
                1 <= one <= MAX_SLOTS for one in slots
            )
        except ValueError:
            makes_sense = False
        if not makes_sense:
            yield f"waiters.weights is no list of the slots of each limit: {weights!r}"


def _of_sums(execute: Callable[..., sqlite3.Cursor]) -> Iterator[str]:
    for name, used, slots, waiting, places in execute(_SUMS).fetchall():
        if used != slots:
            yield f"the limit {name!r} counts {used} slot(s) in use, its leases have {slots}"
        if waiting != places:
            yield f"the limit {name!r} counts {waiting} waiting, its queue has {places}"


def _odd(execute: Callable[..., sqlite3.Cursor]) -> Iterator[str]:
    for what, query in _ODD.items():
        ((number,),) = execute(query).fetchall()
        if number:
            yield f"{number} row(s) of {what}"
