"""The command lines of `run` and `rate-limit`, read without click.

A cron job waits for all imports before it begins, and click takes as long as everything else. The
plain cases are read here. Everything else is left to click: help, completion, wrong usage, several
letters behind one dash. click's options are made from the table here, and a test checks that both
readers agree.
"""

from __future__ import annotations

import os

from localgcl._base.checks import MAX_SLOTS, check_holder, check_requested_name
from localgcl._base.rates import parse_duration
from localgcl._drivers.blocking import database_of
from localgcl._run.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from localgcl._storage.database import Database

    # The name of a switch in Job, and how its value is read; None if it takes no value.
    Options = dict[str, tuple[str, Callable[..., Any] | None]]

_COMPLETION = "_LOCALGCL_COMPLETE"  # set by a shell that completes, as click defines it


class Whole:
    """Reads a whole number within bounds."""

    def __init__(self, lowest: int, highest: int = MAX_SLOTS) -> None:
        self.lowest = lowest
        self.highest = highest

    def __call__(self, text: str) -> int:
        value = int(text)
        if not self.lowest <= value <= self.highest:
            raise ValueError(text)
        return value


def seconds(text: str) -> float:
    """Read a time to wait: seconds, or a number with a unit."""
    value = parse_duration(text)
    if value < 0:
        raise ValueError(text)
    return value


def taken(name: str, slots: str) -> tuple[str, int]:
    """Read a limit and the slots to take from it: the one value that has two words."""
    return check_requested_name(name), Whole(1)(slots)


_BOTH: Options = {
    "-n": ("also", check_requested_name),
    "--also": ("also", check_requested_name),
    "--take": ("take", taken),
    "--occupy": ("occupy", Whole(1)),
    "--timeout": ("timeout", seconds),
    "--no-wait": ("no_wait", None),
    "-v": ("verbose", None),
    "--verbose": ("verbose", None),
}
OPTIONS: dict[str, Options] = {
    "rate-limit": _BOTH,
    "run": {
        **_BOTH,
        "-l": ("limit", Whole(0)),
        "--limit": ("limit", Whole(0)),
        "--max-waiting": ("max_waiting", Whole(0)),
        "-E": ("conflict_exit_code", Whole(0, 255)),
        "--conflict-exit-code": ("conflict_exit_code", Whole(0, 255)),
        "--rate-limit": ("rate_limit", None),
        "--holder": ("holder", check_holder),
    },
}
REPEATED = ("also", "take")


def read(arguments: list[str]) -> tuple[Job, Database] | None:
    """Return what a command line asks for and of which database; None if click has to read it.

    DatabaseError if there can be no database.
    """
    words, database = list(arguments), None
    values: dict[str, Any] = {}
    try:
        while words[0].partition("=")[0] == "--db":
            database = _take_value(words)
        command = words.pop(0)
        options = OPTIONS[command]
        if _COMPLETION in os.environ:
            return None
        _take_options(words, options, values)
        name = check_requested_name(words.pop(0))
        if name == "--":
            return None
        _take_options(words, options, values)
        if words[:1] == ["--"]:
            del words[0]
        if bool(words) != (command == "run"):
            return None
        return Job(name, command=words or None, **values), database_of(database)
    except (LookupError, ValueError):
        return None


def _take_options(words: list[str], options: Options, values: dict[str, Any]) -> None:
    """Take the switches at the start of `words`; LookupError or ValueError leaves it to click."""
    while words and words[0][:1] == "-" and words[0] != "--":
        switch, separator, _ = words[0].partition("=")
        parameter, convert = options[switch]
        if convert is None:
            if separator:
                raise ValueError(words[0])
            del words[0]
            values[parameter] = True
            continue
        if convert is taken:
            if separator:
                raise ValueError(words[0])
            value = taken(words[1], words[2])
            del words[:3]
        else:
            value = convert(_take_value(words))
        if parameter in REPEATED:
            values.setdefault(parameter, []).append(value)
        else:
            values[parameter] = value


def _take_value(words: list[str]) -> str:
    """Take a switch and its value from the start of `words`, and return the value."""
    switch, separator, value = words.pop(0).partition("=")
    if not separator:
        return words.pop(0)
    if switch[:2] != "--":
        raise ValueError(switch)  # behind one dash, "=" is part of the value
    return value
