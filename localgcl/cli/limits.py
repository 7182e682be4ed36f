"""Commands that create, show, change and delete limits."""

from __future__ import annotations

from collections.abc import Sequence

import click

from localgcl._admin import reading as _reading
from localgcl._admin.action import together
from localgcl._base import clock
from localgcl.cli._layout import bar, duration, table
from localgcl.cli._shared import (
    administer,
    confirm,
    echo_json,
    limiter_of,
    output_option,
    yes_option,
)
from localgcl.cli._types import KNOWN_NAME, NEW_NAME, RATE, SLOTS
from localgcl.cli.holders import echo_holders, echo_waiters
from localgcl.models import Limit

_THE_LIMIT = "global concurrency limit"


@click.command()
@click.argument("name", type=NEW_NAME)
@click.option("-l", "--limit", type=SLOTS, required=True, help="Slots of the limit.")
@click.option(
    "--slot-decay-per-second",
    type=RATE,
    default=0.0,
    show_default=True,
    help="Slots that come back by themselves each second; 0: only by release.",
)
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
    name: str,
    limit: int,
    slot_decay_per_second: float,
    disable: bool,
    active_slots: int,
) -> None:
    """Create the limit NAME.

    \b
    Example:
      localgcl create database --limit 5
      localgcl create api --limit 10 --slot-decay-per-second 2
    """
    limiter_of(ctx).create(
        name,
        limit,
        slot_decay_per_second=slot_decay_per_second,
        active=not disable,
        active_slots=active_slots,
    )
    click.echo(f"Created {_THE_LIMIT} with name '{name}'.")


@click.command()
@click.argument("name", type=KNOWN_NAME)
@output_option
@click.pass_context
def inspect(ctx: click.Context, name: str, output: str | None) -> None:
    """Show the limit NAME with its holders and waiters.

    \b
    Example:
      localgcl inspect database
      localgcl inspect database -o json
    """
    limit, holders, waiters = administer(
        ctx, together(_reading.read(name), _reading.holders(name), _reading.waiters(name))
    )
    if output:
        echo_json(
            {
                **limit.model_dump(mode="json"),
                "holders": [one.model_dump(mode="json") for one in holders],
                "waiters": [one.model_dump(mode="json") for one in waiters],
            }
        )
        return
    for label, value in (
        ("Name", limit.name),
        ("Id", limit.id),
        ("Slots", f"{bar(limit.active_slots, limit.limit)} {_use(limit)}"),
        ("Decay", _decay(limit)),
        ("Active", _yes(limit.active)),
        ("Waiting", str(limit.waiting)),
        ("Held", f"{limit.avg_slot_occupancy_seconds:.3g} s on average"),
        ("Created", f"{limit.created:%Y-%m-%d %H:%M:%S} UTC"),
        ("Updated", f"{limit.updated:%Y-%m-%d %H:%M:%S} UTC"),
    ):
        click.echo(f"{label + ':':9}{value}")
    echo_holders(holders)
    echo_waiters(waiters)


@click.command()
@output_option
@click.pass_context
def ls(ctx: click.Context, output: str | None) -> None:
    """Show every limit: slots in use, waiting, decay, active.

    \b
    Example:
      localgcl ls
      localgcl ls -o json
    """
    limits = limiter_of(ctx).read_all()
    if output:
        echo_json([limit.model_dump(mode="json") for limit in limits])
    elif not limits:
        click.echo("No global concurrency limits found.")
    else:
        click.echo("\n".join(table_of_limits(limits)))


def table_of_limits(limits: Sequence[Limit]) -> list[str]:
    """Return the limits, one line each."""
    return table(
        ("NAME", "LIMIT", "IN USE", "", "WAITING", "DECAY", "ACTIVE", "UPDATED"),
        [
            (
                limit.name,
                str(limit.limit),
                str(limit.active_slots),
                bar(limit.active_slots, limit.limit),
                str(limit.waiting),
                _decay(limit),
                _yes(limit.active),
                _ago(limit),
            )
            for limit in limits
        ],
    )


@click.command()
@click.argument("name", type=KNOWN_NAME)
@click.option("-l", "--limit", type=SLOTS, help="Slots of the limit.  [default: unchanged]")
@click.option(
    "--slot-decay-per-second",
    type=RATE,
    help="Slots that come back by themselves each second; 0: only by release."
    "  [default: unchanged]",
)
@click.option(
    "--active-slots",
    type=SLOTS,
    help="Slots in use from now on, with no holder: frees every lease.  [default: unchanged]",
)
@click.option("--enable", is_flag=True, help="Make it active.  [default: unchanged]")
@click.option("--disable", is_flag=True, help="Make it inactive.  [default: unchanged]")
@click.pass_context
def update(
    ctx: click.Context,
    name: str,
    limit: int | None,
    slot_decay_per_second: float | None,
    active_slots: int | None,
    enable: bool,
    disable: bool,
) -> None:
    """Change what is given of the limit NAME; waiters are affected immediately.

    \b
    Example:
      localgcl update database --limit 10
      localgcl update api --slot-decay-per-second 0.5 --enable
    """
    if enable and disable:
        raise click.UsageError("--enable and --disable exclude each other.", ctx)
    active = (enable or None) if not disable else False
    if (limit, slot_decay_per_second, active_slots, active) == (None,) * 4:
        raise click.UsageError("Nothing to update: give at least one option.", ctx)
    limiter_of(ctx).update(
        name,
        limit=limit,
        slot_decay_per_second=slot_decay_per_second,
        active=active,
        active_slots=active_slots,
    )
    click.echo(f"Updated {_THE_LIMIT} with name '{name}'.")


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
    if limiter.read(name).active is active:
        raise click.ClickException(f"The {_THE_LIMIT} '{name}' is already {done}.")
    limiter.update(name, active=active)
    click.echo(f"{done.capitalize()} {_THE_LIMIT} with name '{name}'.")


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
    limiter.read(name)
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


def _use(limit: Limit) -> str:
    return f"{limit.active_slots} of {limit.limit} in use"


def _decay(limit: Limit) -> str:
    return f"{limit.slot_decay_per_second:g}/s" if limit.slot_decay_per_second else "-"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _ago(limit: Limit) -> str:
    return f"{duration(max(0.0, clock.wall() - limit.updated.timestamp()))} ago"
