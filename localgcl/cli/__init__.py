"""The command line: the group of commands, each family of them in a file of its own."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from localgcl import __version__
from localgcl._base.text import on_one_line
from localgcl.cli import _streams
from localgcl.errors import LocalGCLError

# Loaded when used: a cron job that runs one command does not wait for the imports of others.
_COMMANDS = {
    "adjust": "limits",
    "apply": "files",
    "create": "limits",
    "delete": "limits",
    "disable": "limits",
    "doctor": "doctor",
    "enable": "limits",
    "export": "files",
    "inspect": "views",
    "ls": "views",
    "metrics": "metrics",
    "pause": "limits",
    "ps": "holders",
    "rate-limit": "run",
    "release": "holders",
    "reset": "limits",
    "resume": "limits",
    "run": "run",
    "serve": "server",
    "top": "top",
    "update": "limits",
}


class _Commands(click.Group):
    """A group that loads its commands when they are used, and turns errors into one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"localgcl.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise _in_one_line(error) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            # If click knows of no context, it leaves out the usage.
            name = ctx.invoked_subcommand
            if error.ctx is None and name is not None:
                command = self.get_command(ctx, name)
                assert command is not None  # it was just invoked
                error.ctx = click.Context(command, info_name=name, parent=ctx)
            raise _in_one_line(error) from None
        except click.ClickException as error:
            if type(error) is not click.ClickException:
                raise  # it has its own exit code
            raise click.ClickException(on_one_line(error.message)) from None
        except LocalGCLError as error:
            raise click.ClickException(on_one_line(str(error))) from error
        except KeyboardInterrupt:
            raise click.ClickException("interrupted") from None
        except OSError as error:  # of a terminal that is gone, for example
            raise click.ClickException(f"reading or writing failed: {error}") from None


def _in_one_line(error: click.UsageError) -> click.UsageError:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return error  # this is the help, which has many lines
    return click.UsageError(on_one_line(error.format_message()), error.ctx)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--db",
    "database",
    metavar="PATH",
    help="The database file.  [default: LOCALGCL_DB, or else the user's state folder]",
)
@click.version_option(__version__, prog_name="localgcl")
def localgcl(database: str | None) -> None:
    """Named concurrency limits and rate limits for the processes of one machine.

    \b
    Example:
      localgcl create database --limit 5
      localgcl ls
    """


def main() -> None:
    """Run the command line under one name, however it was started, so that completion finds it."""
    _streams.prepare()
    try:
        localgcl(prog_name="localgcl")
    except click.ClickException as error:  # from shell completion, which runs first of all
        error.show()
        sys.exit(error.exit_code)
