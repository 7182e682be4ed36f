"""The types of the commands' arguments: names of limits, slots, rates, times."""

from __future__ import annotations

import contextlib
import math
import os
from typing import Any

import click
from click.shell_completion import CompletionItem

from localgcl._base.checks import MAX_SLOTS, check_name
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

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            return check_name(in_unicode(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _KnownName(_Name):
    """The name of a limit, completed from the existing ones."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            limits = limiter_of(ctx).read_all()
        except (LocalGCLError, click.UsageError):
            return []  # shell completion has no place for an error
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


class _Interval(click.FloatRange):
    """A time between two frames; NaN is not one."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = float(super().convert(value, param, ctx))
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return seconds


NEW_NAME = _Name()
KNOWN_NAME = _KnownName()
RATE = _Rate()
SECONDS = _Seconds()
SLOTS = click.IntRange(0, MAX_SLOTS)
INTERVAL = _Interval(0.1, 86400)
