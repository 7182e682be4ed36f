"""What the commands share: the database in use, common options, the question, and JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, TypeVar

import click
from pydantic import ValidationError

from localgcl._drivers import blocking
from localgcl._storage.location import choose
from localgcl.models import first_fault
from localgcl.sync import Limiter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localgcl._admin.action import Action
    from localgcl._storage.database import Database
    from localgcl._storage.location import ChosenBy

T = TypeVar("T")


def limiter_of(ctx: click.Context) -> Limiter:
    """Return the limiter for the database named by --db, the environment or the default."""
    return Limiter(database_of(ctx)[0])


def database_of(ctx: click.Context) -> tuple[str, ChosenBy]:
    """Return the path of that database, and which of the three named it."""
    try:
        return choose(ctx.find_root().params.get("database"))
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from None


def connection_of(ctx: click.Context) -> Database:
    """Return the connection to that database."""
    return blocking.database_of(database_of(ctx)[0])


def administer(ctx: click.Context, action: Action[T]) -> T:
    """Carry out a call of administration on that database."""
    return action.run(connection_of(ctx))


@contextlib.contextmanager
def refused_values(ctx: click.Context) -> Iterator[None]:
    """Turn the errors of bad values into wrong usage, and of what a limit does not allow into one.

    A model says that a value can never be right. A plain ValueError is about the limit as it is.
    """
    try:
        yield
    except ValidationError as error:
        raise click.UsageError(f"{first_fault(error)}.", ctx) from None
    except ValueError as error:
        raise click.ClickException(f"{error}.") from None


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
    # stdin is None if it was closed. An answer that cannot be read, or is no text, is not yes.
    with contextlib.suppress(AttributeError, OSError, UnicodeDecodeError):
        answer = sys.stdin.readline()
    if not answer or not sys.stdin.isatty():
        click.echo(err=True)  # nobody pressed Enter here
    if answer.strip().lower() not in ("y", "yes"):
        raise click.ClickException("Not confirmed, so nothing was changed; --yes does not ask.")


def echo_json(value: object) -> None:
    """Print JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
