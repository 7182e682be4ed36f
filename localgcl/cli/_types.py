"""The types of the commands' arguments: names of limits, slots, rates, times."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from localgcl._base import rates
from localgcl._base.checks import MAX_SLOTS, check_name, check_requested_name
from localgcl.cli._shared import limiter_of
from localgcl.errors import LocalGCLError


def in_unicode(argument: str) -> str:
    """Return an argument as the UTF-8 that was typed, even if the locale (C) has no UTF-8."""
    if any("\udc80" <= one <= "\udcff" for one in argument):
        with contextlib.suppress(UnicodeError):
            return os.fsencode(argument).decode()
    return argument


class _Name(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic since 8.4
    """The name of a limit."""

    name = "name"
    _check = staticmethod(check_name)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return self._check(in_unicode(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _KnownName(_Name):
    """The name of a limit or of a template's key, completed from the existing limits."""

    _check = staticmethod(check_requested_name)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            limits = limiter_of(ctx).read_all()
        except (LocalGCLError, click.UsageError):
            return []  # shell completion has no place for an error
        begun = in_unicode(incomplete)
        return [CompletionItem(one.name) for one in limits if one.name.startswith(begun)]


class _Decay(click.ParamType):  # type: ignore[type-arg,unused-ignore] # as above
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


class _RateText(click.ParamType):  # type: ignore[type-arg,unused-ignore] # as above
    """A rate as people write it, such as 100/min."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            rates.parse_rate(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        return str(value)


class _Duration(click.ParamType):  # type: ignore[type-arg,unused-ignore] # as above
    """A time within bounds: a number of seconds, or a number with a unit."""

    name = "duration"

    def __init__(self, lowest: float = 0.0, highest: float = math.inf) -> None:
        self._lowest = lowest
        self._highest = highest

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value  # the default
        try:
            seconds = rates.parse_duration(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        if not self._lowest <= seconds <= self._highest:
            bounds = f"from {self._lowest:g}"
            if self._highest < math.inf:
                bounds += f" to {self._highest:g}"
            self.fail(f"{value!r} is not a time {bounds} seconds.", param, ctx)
        return seconds


class _SlotsToTake(click.Tuple):
    """The name of a limit, and a number of slots."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return KNOWN_NAME.shell_complete(ctx, param, incomplete)


NEW_NAME = _Name()
KNOWN_NAME = _KnownName()
RATE = _RateText()
DECAY = _Decay()
SECONDS = _Duration()
WINDOW = _Duration(highest=sys.float_info.max)
PAUSE = _Duration(sys.float_info.min, sys.float_info.max)
INTERVAL = _Duration(0.1, 86400)
SLOTS = click.IntRange(0, MAX_SLOTS)
MORE_OR_FEWER_SLOTS = click.IntRange(-MAX_SLOTS, MAX_SLOTS)
SLOTS_TO_TAKE = _SlotsToTake([KNOWN_NAME, click.IntRange(1, MAX_SLOTS)])
