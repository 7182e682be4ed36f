"""Commands that bring the limits to what a TOML file says, and write a file of that kind."""

from __future__ import annotations

import io
import sys

import click

from localgcl._admin import apply as _apply
from localgcl._admin import plan as _plan
from localgcl._base.reading import read_descriptor, read_file
from localgcl._base.text import quoted
from localgcl.cli._shared import connection_of, echo_json, limiter_of, output_option
from localgcl.models import Settings

_STANDARD_INPUT = ("-", "/dev/stdin")


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--dry-run", is_flag=True, help="Print the changes, make none.  [default: make them]")
@click.option(
    "--prune",
    is_flag=True,
    help="Delete the limits that are not in the file, unless one is held or waited for."
    "  [default: leave them]",
)
@output_option
@click.pass_context
def apply(ctx: click.Context, file: str, dry_run: bool, prune: bool, output: str | None) -> None:
    """Bring the limits to what the TOML file FILE says, `-` for standard input.

    All of it is done or nothing is. Who holds a slot of a limit that stays keeps it.

    \b
    Example:
      localgcl apply limits.toml --dry-run
      localgcl apply limits.toml --prune
      localgcl --db old.db export | localgcl --db new.db apply -

    \b
    The file:
      [limits.database]
      limit = 5                     # required
    \b
      [limits."rate limited api"]
      limit = 10
      slot_decay_per_second = 2.0   # default: 0.0
      active = true                 # default: true
    """
    database = connection_of(ctx)
    shown = "standard input" if file == "-" else click.format_filename(file)
    try:
        wanted = _plan.settings_of(_content(file))
    except (FileNotFoundError, IsADirectoryError) as error:
        if file in _STANDARD_INPUT:
            raise _refusal(f"{shown} cannot be read: {error.strerror}") from None
        what = "is a directory" if isinstance(error, IsADirectoryError) else "does not exist"
        raise click.BadParameter(f"File {shown!r} {what}.", ctx, param_hint="'FILE'") from None
    except OSError as error:
        raise _refusal(f"{shown} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise _refusal(f"{shown}: {error}; nothing was changed") from None
    if prune and not wanted:
        raise _refusal(
            f"{shown} names no limit, and --prune would delete all there are; nothing was changed."
            " `localgcl delete NAME` deletes one"
        )
    plan = _apply.apply(wanted, prune=prune, dry_run=dry_run).run(database)
    if plan.in_the_way:
        raise _refusal(
            f"--prune would delete {quoted(plan.in_the_way)}, held or waited for; nothing was"
            " changed. `localgcl ps` shows by whom; try again when it is free"
        )
    if output:
        echo_json(
            {
                "created": list(plan.created),
                "updated": [
                    {"name": name, "changes": changes} for name, changes in plan.updated.items()
                ],
                "deleted": list(plan.deleted),
                "unchanged": plan.unchanged,
            }
        )
        return
    for line in plan.lines():
        click.echo(line)
    click.echo(plan.summary(dry_run=dry_run))


def _content(file: str) -> bytes:
    if file not in _STANDARD_INPUT:
        return read_file(file)
    if sys.stdin is None:
        raise ValueError("it is closed")
    try:
        descriptor = sys.stdin.fileno()
    except io.UnsupportedOperation:  # it is in memory
        return sys.stdin.buffer.read()
    return read_descriptor(descriptor)


def _refusal(reason: str) -> click.ClickException:
    return click.ClickException(f"{reason}.")


@click.command()
@click.pass_context
def export(ctx: click.Context) -> None:
    """Print the limits as a TOML file that `apply` reads.

    \b
    Example:
      localgcl export > limits.toml
    """
    limits = limiter_of(ctx).read_all()
    settings = {
        one.name: Settings(
            limit=one.limit, slot_decay_per_second=one.slot_decay_per_second, active=one.active
        )
        for one in limits
    }
    # TOML is UTF-8, whatever the locale.
    click.echo(_plan.in_toml(settings).encode(), nl=False)
