"""What the commands share: the database in use, the types of their arguments, and the layout."""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from localgcl._checks import MAX_SLOTS, check_name
from localgcl._location import choose
from localgcl.errors import LocalGCLError
from localgcl.sync import Limiter

if TYPE_CHECKING:
    from localgcl._location import ChosenBy


def limiter_of(ctx: click.Context) -> Limiter:
    """Return the limiter of the database that --db, the environment or the default names."""
    return Limiter(database_of(ctx)[0])


def database_of(ctx: click.Context) -> tuple[str, ChosenBy]:
    """Return the path of that database, and which of the three has named it."""
    try:
        return choose(ctx.find_root().params.get("database"))
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from None


def in_unicode(argument: str) -> str:
    """Return an argument as the UTF-8 it was typed in, where the locale (C) knows of no UTF-8."""
    if any("\udc80" <= one <= "\udcff" for one in argument):
        with contextlib.suppress(UnicodeError):
            return os.fsencode(argument).decode()
    return argument


class _Name(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since 8.4
    """The name of a limit."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_name(in_unicode(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _KnownName(_Name):
    """The name of a limit, completed from those that are there."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            limits = limiter_of(ctx).read_all()
        except (LocalGCLError, click.UsageError):
            return []  # a shell that completes has no place for an error
        begun = in_unicode(incomplete)
        return [CompletionItem(one.name) for one in limits if one.name.startswith(begun)]


class _Rate(click.ParamType):  # type: ignore[type-arg,unused-ignore] # as above
    """Slots per second: a finite number, 0 or more."""

    name = "float"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            rate = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of slots per second.", param, ctx)
        if not (math.isfinite(rate) and rate >= 0):
            self.fail(
                f"{value!r} is not a finite number of slots per second, 0 or more.", param, ctx
            )
        return rate


class _Seconds(click.ParamType):  # type: ignore[type-arg,unused-ignore] # as above
    """A time to wait: 0 or more, inf for ever."""

    name = "float"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        if not seconds >= 0:
            self.fail(f"{value!r} is not a number of seconds, 0 or more.", param, ctx)
        return seconds


NEW_NAME = _Name()
KNOWN_NAME = _KnownName()
RATE = _Rate()
SECONDS = _Seconds()
SLOTS = click.IntRange(0, MAX_SLOTS)

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["json"]),
    help="Print JSON for programs.  [default: text for people]",
)
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.  [default: ask]")


def confirm(question: str, yes: bool) -> None:
    """Ask on standard error and read the answer from standard input; end unless it is yes."""
    if yes:
        return
    click.echo(f"{question} [y/N]: ", err=True, nl=False)
    answer = ""
    # It is None where it was closed; and what is no text is not yes.
    with contextlib.suppress(AttributeError, UnicodeDecodeError):
        answer = sys.stdin.readline()
    if not answer or not sys.stdin.isatty():
        click.echo(err=True)  # nobody pressed Enter here
    if answer.strip().lower() not in ("y", "yes"):
        raise click.ClickException("Not confirmed, so nothing was changed; --yes does not ask.")


def echo_json(value: object) -> None:
    """Print JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows in aligned columns, numbers to the right, a line each below the headings."""
    lines = [headings, *rows]
    right = [
        all(line[column][:1].isdigit() or not line[column] for line in lines[1:])
        for column in range(len(headings))
    ]
    widths = [max(width_of(line[column]) for line in lines) for column in range(len(headings))]
    aligned = []
    for line in lines:
        cells = []
        for text, width, to_the_right in zip(line, widths, right, strict=True):
            space = " " * (width - width_of(text))
            cells.append(space + text if to_the_right else text + space)
        aligned.append("  ".join(cells).rstrip())
    return aligned


def width_of(text: str) -> int:
    """Return the columns that a text takes in a terminal."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0  # drawn over the one before it
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """Return as much of a text as so many columns take."""
    if text.isascii():
        return text[:columns]
    width = 0
    for place, character in enumerate(text):
        width += _width(character)
        if width > columns:
            return text[:place]
    return text


def bar(used: int, limit: int, width: int = 10) -> str:
    """Return a bar of the slots in use, never empty and never full unless they are."""
    if limit <= 0:
        filled = width if used else 0
    else:
        filled = min(width, used * width // limit)
        filled = max(filled, 1) if used else filled
    return "#" * filled + "." * (width - filled)


def duration(seconds: float) -> str:
    """Return a time as people say it: 12 s, 3 min, 2 h, 5 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
