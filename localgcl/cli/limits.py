"""Commands that create, change, pause and delete limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from localgcl.cli._shared import confirm, limiter_of, refused_values, yes_option
from localgcl.cli._types import (
    DECAY,
    KNOWN_NAME,
    MORE_OR_FEWER_SLOTS,
    NEW_NAME,
    PAUSE,
    RATE,
    SLOTS,
    WINDOW,
)
from localgcl.errors import LimitNotFoundError
from localgcl.models import Limit
from localgcl.sync import Limiter

F = TypeVar("F", bound=Callable[..., Any])

_THE_LIMIT = "global concurrency limit"
_HOW_SLOTS_COME_BACK = {
    "rate": "--rate",
    "slot_decay_per_second": "--slot-decay-per-second",
    "window_seconds": "--window",
}


def _rate_options(default: str) -> Callable[[F], F]:
    """Add the options that say how slots come back by themselves."""

    def add(function: F) -> F:
        for one in (
            click.option(
                "--window",
                "window_seconds",
                type=WINDOW,
                metavar="D",
                help="No more than --limit slots are taken in any period of that length, such as"
                f" 60 (seconds), 1min or 1d; 0: no window.  [default: {default}]",
            ),
            click.option(
                "--slot-decay-per-second",
                type=DECAY,
                metavar="F",
                help="The same as a number; 0: slots come back only by release."
                f"  [default: {default}]",
            ),
            click.option(
                "--rate",
                type=RATE,
                metavar="R",
                help="Slots that come back by themselves, such as 100/min, 5/s or 1/15min;"
                f" --limit is how many may start at once.  [default: {default}]",
            ),
        ):
            function = one(function)
        return function

    return add


def _how_slots_come_back(ctx: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """Return which of the three options were given, with their values: one at most."""
    found = {name: given[name] for name in _HOW_SLOTS_COME_BACK if given[name] is not None}
    if len(found) > 1:
        names = " and ".join(_HOW_SLOTS_COME_BACK[name] for name in found)
        raise click.UsageError(f"{names} exclude each other.", ctx)
    return found


@click.command()
@click.argument("name", type=NEW_NAME)
@click.option(
    "-l",
    "--limit",
    type=SLOTS,
    metavar="N",
    help="Slots of the limit.  [default: 1 with --rate, otherwise required]",
)
@_rate_options("slots come back only by release")
@click.option("--disable", is_flag=True, help="Create it inactive.  [default: active]")
@click.option(
    "--active-slots",
    type=SLOTS,
    default=0,
    show_default=True,
    help="Slots in use from the beginning, with no holder.",
)
@click.pass_context
def create(
    ctx: click.Context,
    /,
    name: str,
    limit: int | None,
    disable: bool,
    active_slots: int,
    **rate: Any,
) -> None:
    """Create the limit NAME.

    If NAME ends in an asterisk, it is a template: each name that begins like it has slots of its
    own, as soon as they are requested.

    \b
    Example:
      localgcl create database --limit 5
      localgcl create api --limit 10 --rate 100/min
      localgcl create sms --limit 5 --window 1min
      localgcl create "customer:*" --limit 1
    """
    given = _how_slots_come_back(ctx, rate)
    if limit is None and "rate" not in given:
        raise click.MissingParameter(ctx=ctx, param=ctx.command.params[1])
    with refused_values(ctx):
        limiter_of(ctx).create(name, limit, active=not disable, active_slots=active_slots, **given)
    click.echo(f"Created {_THE_LIMIT} with name '{name}'.")


@click.command()
@click.argument("name", type=KNOWN_NAME)
@click.option("-l", "--limit", type=SLOTS, help="Slots of the limit.  [default: unchanged]")
@_rate_options("unchanged")
@click.option(
    "--active-slots",
    type=SLOTS,
    help="Slots in use from now on, with no holder: frees every lease.  [default: unchanged]",
)
@click.option("--name", "new_name", type=NEW_NAME, help="Its new name.  [default: unchanged]")
@click.option("--enable", is_flag=True, help="Make it active.  [default: unchanged]")
@click.option("--disable", is_flag=True, help="Make it inactive.  [default: unchanged]")
@click.pass_context
def update(
    ctx: click.Context,
    /,
    name: str,
    limit: int | None,
    active_slots: int | None,
    new_name: str | None,
    enable: bool,
    disable: bool,
    **rate: Any,
) -> None:
    """Change what is given of the limit NAME; waiters are affected immediately.

    \b
    Example:
      localgcl update database --limit 10
      localgcl update api --rate 30/min --enable
      localgcl update database --name main-database
    """
    if enable and disable:
        raise click.UsageError("--enable and --disable exclude each other.", ctx)
    active = (enable or None) if not disable else False
    given = _how_slots_come_back(ctx, rate)
    if not given and (limit, active_slots, new_name, active) == (None,) * 4:
        raise click.UsageError("Nothing to update: give at least one option.", ctx)
    limiter = limiter_of(ctx)
    _limit_called(limiter, name)  # so that a misspelt name makes no database
    with refused_values(ctx):
        limiter.update(
            name,
            new_name=new_name,
            limit=limit,
            active=active,
            active_slots=active_slots,
            **given,
        )
    click.echo(f"Updated {_THE_LIMIT} with name '{name}'.")


@click.command(context_settings={"ignore_unknown_options": True})  # -5 is a number here
@click.argument("name", type=KNOWN_NAME)
@click.argument("slots", type=MORE_OR_FEWER_SLOTS)
@click.pass_context
def adjust(ctx: click.Context, name: str, slots: int) -> None:
    """Have SLOTS more slots of the limit NAME in use, or fewer if SLOTS is negative.

    NAME has a rate or a window. This settles an estimate once the real number is known. More than
    the limit is a debt, which time pays off.

    \b
    Example:
      localgcl adjust tokens 350
      localgcl adjust tokens -120
    """
    limiter = limiter_of(ctx)
    limiter.read(name)
    with refused_values(ctx):
        limit = limiter.adjust(name, slots)
    click.echo(f"Adjusted '{name}': {limit.active_slots} of {limit.limit} slots are in use.")


@click.command()
@click.argument("name", type=KNOWN_NAME)
@click.option(
    "--for",
    "seconds",
    type=PAUSE,
    metavar="D",
    help="Resume after that time, such as 90 (seconds), 5min or 2h.  [default: until `resume`]",
)
@click.pass_context
def pause(ctx: click.Context, name: str, seconds: float | None) -> None:
    """Have nothing granted at the limit NAME: requests wait, and holders continue.

    \b
    Example:
      localgcl pause api --for 10min
      localgcl pause database
    """
    limiter = limiter_of(ctx)
    _limit_called(limiter, name)
    with refused_values(ctx):
        limiter.pause(name, seconds)
    click.echo(f"Paused {_THE_LIMIT} with name '{name}'.")


@click.command()
@click.argument("name", type=KNOWN_NAME)
@click.pass_context
def resume(ctx: click.Context, name: str) -> None:
    """End the pause of the limit NAME.

    \b
    Example:
      localgcl resume database
    """
    limiter = limiter_of(ctx)
    _limit_called(limiter, name)
    limiter.resume(name)
    click.echo(f"Resumed {_THE_LIMIT} with name '{name}'.")


@click.command()
@click.argument("name", type=KNOWN_NAME)
@click.pass_context
def enable(ctx: click.Context, name: str) -> None:
    """Make the limit NAME active.

    \b
    Example:
      localgcl enable database
    """
    _switch(ctx, name, active=True)


@click.command()
@click.argument("name", type=KNOWN_NAME)
@click.pass_context
def disable(ctx: click.Context, name: str) -> None:
    """Make the limit NAME inactive: calls ignore it, and its waiters go on.

    \b
    Example:
      localgcl disable database
    """
    _switch(ctx, name, active=False)


def _switch(ctx: click.Context, name: str, *, active: bool) -> None:
    limiter = limiter_of(ctx)
    done = "enabled" if active else "disabled"
    if _limit_called(limiter, name).active is active:
        raise click.ClickException(f"The {_THE_LIMIT} '{name}' is already {done}.")
    limiter.update(name, active=active)
    click.echo(f"{done.capitalize()} {_THE_LIMIT} with name '{name}'.")


def _limit_called(limiter: Limiter, name: str) -> Limit:
    """Return a limit; a key is none, since it belongs to its template."""
    limit = limiter.read(name)
    if limit.template is not None:
        raise LimitNotFoundError(name, limit.template)
    return limit


@click.command()
@click.argument("name", type=KNOWN_NAME)
@yes_option
@click.pass_context
def delete(ctx: click.Context, name: str, yes: bool) -> None:
    """Delete the limit NAME with its leases.

    \b
    Example:
      localgcl delete database
      localgcl delete database --yes
    """
    limiter = limiter_of(ctx)
    _limit_called(limiter, name)
    confirm(f"Are you sure you want to delete {_THE_LIMIT} '{name}'?", yes)
    limiter.delete(name)
    click.echo(f"Deleted {_THE_LIMIT} with name '{name}'.")


@click.command()
@click.argument("name", type=KNOWN_NAME)
@yes_option
@click.pass_context
def reset(ctx: click.Context, name: str, yes: bool) -> None:
    """Free every slot of the limit NAME, no matter who holds it.

    \b
    Example:
      localgcl reset database
      localgcl reset database --yes
    """
    limiter = limiter_of(ctx)
    limiter.read(name)
    confirm(f"Are you sure you want to reset {_THE_LIMIT} '{name}'?", yes)
    limiter.reset(name)
    click.echo(f"Reset {_THE_LIMIT} with name '{name}'.")
