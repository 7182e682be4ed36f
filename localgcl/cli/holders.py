"""Commands about who holds and who waits."""

from __future__ import annotations

from collections.abc import Sequence

import click

from localgcl._admin import usage
from localgcl._admin.action import together
from localgcl._base.text import shortened
from localgcl.cli._layout import duration, table
from localgcl.cli._shared import administer, echo_json, limiter_of, output_option
from localgcl.cli._types import KNOWN_NAME
from localgcl.models import Holder, Waiter


@click.command()
@click.argument("name", type=KNOWN_NAME, required=False)
@output_option
@click.pass_context
def ps(ctx: click.Context, name: str | None, output: str | None) -> None:
    """Show who holds and who waits, at the limit NAME or at all.

    \b
    Example:
      localgcl ps
      localgcl ps database -o json
    """
    holders, waiters = administer(ctx, together(usage.holders(name), usage.waiters(name)))
    if output:
        echo_json(
            {
                "holders": [one.model_dump(mode="json") for one in holders],
                "waiters": [one.model_dump(mode="json") for one in waiters],
            }
        )
        return
    if not holders and not waiters:
        click.echo("Nobody holds a slot and nobody waits.")
    echo_holders(holders)
    echo_waiters(waiters)


@click.command()
@click.argument("lease")
@click.pass_context
def release(ctx: click.Context, lease: str) -> None:
    """Free one lease by its id, as `ps` shows it.

    \b
    Example:
      localgcl release 1f0c6a0b7e5d4f7c9a3f0d8f4f7b2a11
    """
    if not limiter_of(ctx).release(lease):
        raise click.ClickException(
            f"No lease with id {lease!r} is held; `localgcl ps` shows those that are."
        )
    click.echo(f"Released lease {lease!r}.")


def echo_holders(holders: Sequence[Holder]) -> None:
    """Print the holders, if there are any."""
    if holders:
        click.echo("\n" + "\n".join(table_of_holders(holders)))


def table_of_holders(holders: Sequence[Holder]) -> list[str]:
    """Return the holders, one line each."""
    return table(
        ("HOLDS", "SLOTS", "PID", "USER", "COMMAND", "HOLDER", "SINCE", "LEASE"),
        [
            (one.limit, *_request(one), f"{duration(one.held_seconds)} ago", one.lease)
            for one in holders
        ],
    )


def echo_waiters(waiters: Sequence[Waiter]) -> None:
    """Print the waiters, if there are any."""
    if waiters:
        click.echo("\n" + "\n".join(table_of_waiters(waiters)))


def table_of_waiters(waiters: Sequence[Waiter]) -> list[str]:
    """Return the waiters, one line each."""
    return table(
        ("WAITS FOR", "SLOTS", "PID", "USER", "COMMAND", "HOLDER", "SINCE", "POSITION", "EXPECTED"),
        [
            (
                one.limit,
                *_request(one),
                f"{duration(one.waited_seconds)} ago",
                str(one.position),
                _expected(one),
            )
            for one in waiters
        ],
    )


def _expected(one: Waiter) -> str:
    """Return when a waiter is expected to be granted its slots, "-" if only a release can tell."""
    seconds = one.expected_seconds
    return "-" if seconds is None else f"in {duration(seconds)}"


def _request(one: Holder | Waiter) -> tuple[str, ...]:
    return (
        str(one.slots),
        "-" if one.pid is None else str(one.pid),
        shortened(one.user),
        shortened(one.command),
        shortened(one.holder or "-"),
    )
