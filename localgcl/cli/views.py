"""Commands that show limits: all of them in a table, or one with its holders and waiters."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import MAXYEAR, datetime

import click

from localgcl._admin import reading, usage
from localgcl._admin.action import together
from localgcl._base import clock
from localgcl.cli._layout import bar, duration, length, table
from localgcl.cli._shared import administer, echo_json, output_option
from localgcl.cli._types import KNOWN_NAME
from localgcl.cli.holders import echo_holders, echo_waiters
from localgcl.models import Limit

# The mean time that a slot was held begins with this, as Prefect's does, and leaves it for good at
# the first release.
_BEFORE_ANY_RELEASE = 2.0


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
        ctx, together(reading.read(name), usage.holders(name), usage.waiters(name))
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
        *_about_templates(limit),
        ("Slots", f"{bar(limit.active_slots, limit.limit)} {_use(limit)}"),
        ("Rate", _rate(limit)),
        ("Active", _yes(limit.active)),
        ("Paused", _pause(limit)),
        ("Waiting", str(limit.waiting)),
        ("Next slot", _next_slot(limit)),
        ("Held", _held(limit)),
        ("Granted", _moment(limit.last_granted)),
        ("Timed out", _moment(limit.last_timed_out)),
        ("Created", _moment(limit.created)),
        ("Updated", _moment(limit.updated)),
    ):
        click.echo(f"{label + ':':11}{value}")
    echo_holders(holders)
    echo_waiters(waiters)


@click.command()
@output_option
@click.option("--keys", is_flag=True, help="List the keys in use, too.  [default: templates alone]")
@click.pass_context
def ls(ctx: click.Context, output: str | None, keys: bool) -> None:
    """Show every limit: slots in use, waiting, rate or window, active.

    A template has the sums over its keys, and KEYS says how many are in use.

    \b
    Example:
      localgcl ls
      localgcl ls --keys
      localgcl ls -o json
    """
    limits = administer(ctx, reading.read_all(with_keys=keys))
    if output:
        echo_json([limit.model_dump(mode="json") for limit in limits])
    elif not limits:
        click.echo("No global concurrency limits found.")
    else:
        click.echo("\n".join(table_of_limits(limits)))


def table_of_limits(limits: Sequence[Limit]) -> list[str]:
    """Return the limits, one line each; there is a column of keys if one of them is a template."""
    with_keys = any(limit.keys is not None for limit in limits)
    headings = ["NAME", "LIMIT", "IN USE", "", "WAITING", "RATE", "ACTIVE", "UPDATED"]
    rows = [
        [
            limit.name,
            str(limit.limit),
            str(limit.active_slots),
            bar(limit.active_slots, limit.limit),
            str(limit.waiting),
            _rate(limit),
            _paused(limit) or _yes(limit.active),
            _ago(limit),
        ]
        for limit in limits
    ]
    if with_keys:
        headings.insert(1, "KEYS")
        for row, limit in zip(rows, limits, strict=True):
            row.insert(1, "-" if limit.keys is None else str(limit.keys))
    return table(headings, rows)


def _about_templates(limit: Limit) -> list[tuple[str, str]]:
    if limit.template is not None:
        return [("Template", limit.template)]
    return [] if limit.keys is None else [("Keys", str(limit.keys))]


def _use(limit: Limit) -> str:
    free = "" if limit.keys is not None else f", {limit.available_slots} free"
    of = str(limit.limit) if limit.keys is None else f"{limit.limit} for each key"
    return f"{limit.active_slots} of {of} in use{free}"


def _rate(limit: Limit) -> str:
    """Return how slots come back by themselves: 100/min, or 5 in any 1 min."""
    if limit.window_seconds:
        return f"{limit.limit} in any {length(limit.window_seconds)}"
    return limit.rate or "-"


def _paused(limit: Limit) -> str:
    """Return until when a limit is paused, "" if it is not."""
    if limit.paused_until is None:
        return ""
    seconds = limit.paused_until.timestamp() - clock.wall()
    return f"paused for {duration(max(0.0, seconds))}" if _ends(limit) else "paused"


def _ends(limit: Limit) -> bool:
    """Whether the pause of a limit ends by itself."""
    return limit.paused_until is not None and limit.paused_until.year < MAXYEAR


def _pause(limit: Limit) -> str:
    if limit.paused_until is None:
        return "no"
    return f"until {_moment(limit.paused_until)}" if _ends(limit) else "until `resume`"


def _next_slot(limit: Limit) -> str:
    if limit.next_slot_seconds is None:
        return "after a release" if limit.paused_until is None else "after `resume`"
    return "now" if not limit.next_slot_seconds else f"in {limit.next_slot_seconds:.3g} s"


def _held(limit: Limit) -> str:
    seconds = limit.avg_slot_occupancy_seconds
    return "-" if seconds == _BEFORE_ANY_RELEASE else f"{seconds:.3g} s on average"


def _moment(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _ago(limit: Limit) -> str:
    return f"{duration(max(0.0, clock.wall() - limit.updated.timestamp()))} ago"
