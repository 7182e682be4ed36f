"""Commands for shells and cron: run something, or allow it to go on, when there is a slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click
from click.shell_completion import CompletionItem

from localgcl._base.checks import check_holder, check_requested_name
from localgcl._run.arguments import OPTIONS, REPEATED, Whole, seconds, taken
from localgcl._run.job import NO_SLOT, Job
from localgcl.cli._shared import connection_of
from localgcl.cli._types import KNOWN_NAME, SECONDS, SLOTS_TO_TAKE

F = TypeVar("F", bound=Callable[..., Any])


class _Run(click.Command):
    """Options stand on both sides of NAME, and end where the command begins."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        before, rest = self._divide(args)
        if rest[:1] == ["--"]:
            rest = rest[1:]
            name, between, command = rest[:1], list[str](), rest[1:]
        else:
            name = rest[:1]
            between, command = self._divide(rest[1:])
        if command[:1] == ["--"]:
            command = command[1:]
        return super().parse_args(ctx, [*before, *between, "--", *name, *command])

    def _divide(self, args: list[str]) -> tuple[list[str], list[str]]:
        """Return the options at the beginning, with their values, and the rest."""
        values = {
            name: one.nargs
            for one in self.params
            if isinstance(one, click.Option) and not one.is_flag
            for name in one.opts
        }
        index = 0
        while index < len(args) and args[index] not in ("-", "--") and args[index][:1] == "-":
            word = args[index]
            index += 1
            # Of several letters behind one dash, the first one with a value takes the letters after
            # it as the value.
            if word[:2] == "--":
                name, separator, _ = word.partition("=")
                index += max(0, values.get(name, 0) - bool(separator))
                continue
            names = [f"-{letter}" for letter in word[1:]]
            taking = [position for position, name in enumerate(names, 1) if name in values]
            if taking[:1] == [len(names)]:
                index += 1
        return args[:index], args[index:]


def _files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _text(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    try:
        return check_holder(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


# The options in the order in which they are shown: the placeholder of the value, and the help.
_TEXTS: dict[str, tuple[str | None, str]] = {
    "also": (
        "NAME",
        "A further limit, repeatable; all are taken at one moment.  [default: none]",
    ),
    "take": (
        "NAME N",
        "A further limit, and the slots to take from it, repeatable.  [default: none]",
    ),
    "occupy": ("N", "Slots to take from each limit, but for those of --take."),
    "limit": (
        "N",
        "Create each missing limit with N slots; one that exists is left as it is."
        "  [default: a missing limit is an error]",
    ),
    "timeout": (
        "D",
        "Give up after that time, such as 90 (seconds), 1.5s, 5m or 2h, with status 75."
        "  [default: wait for ever]",
    ),
    "no_wait": (None, "Give up at once, with status 75.  [default: wait]"),
    "max_waiting": (
        "N",
        "Give up at once, with status 75, where it would have to wait and N or more already wait"
        " for one of its limits; 0 is --no-wait.  [default: any number may wait]",
    ),
    "conflict_exit_code": ("N", "Exit status where there was no slot in time."),
    "rate_limit": (
        None,
        "Take by rate: nothing is held while the command runs.  [default: hold]",
    ),
    "holder": ("TEXT", "Shown by `ps` beside the command.  [default: nothing]"),
    "verbose": (
        None,
        "Say on standard error what is waited for and who holds it.  [default: silent]",
    ),
}
_SHOWN_DEFAULTS = {"occupy": 1, "conflict_exit_code": NO_SLOT}
_KINDS: dict[object, dict[str, Any]] = {
    None: {"is_flag": True},
    check_requested_name: {"type": KNOWN_NAME},
    taken: {"type": SLOTS_TO_TAKE, "nargs": 2},
    check_holder: {"callback": _text},
    seconds: {"type": SECONDS},
}


def _options(command: str) -> Callable[[F], F]:
    """Add the options of a command, from the table that is also read without click."""
    table = OPTIONS[command]

    def add(function: F) -> F:
        for name, (metavar, text) in reversed(_TEXTS.items()):  # as decorators, from the last
            switches = [switch for switch, (parameter, _) in table.items() if parameter == name]
            if not switches:
                continue
            read = table[switches[0]][1]
            if isinstance(read, Whole):
                kind: dict[str, Any] = {"type": click.IntRange(read.lowest, read.highest)}
            else:
                kind = _KINDS[read]
            if name in REPEATED:
                kind = {**kind, "multiple": True}
            if name in _SHOWN_DEFAULTS:
                kind = {**kind, "default": _SHOWN_DEFAULTS[name], "show_default": True}
            function = click.option(*switches, metavar=metavar, help=text, **kind)(function)
        return function

    return add


@click.command(cls=_Run)
@click.argument("name", type=KNOWN_NAME)
@click.argument(
    "command",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
    metavar="[--] COMMAND [ARG]...",
    shell_complete=_files,
)
@_options("run")
@click.pass_context
def run(ctx: click.Context, /, name: str, command: tuple[str, ...], **options: Any) -> None:
    """Run COMMAND while holding a slot of the limit NAME.

    The command has the terminal, the standard streams and the signals as if it were run directly.
    The slot is free when the command ends, whatever it has left running. If localgcl itself is
    killed with SIGKILL, the command goes on and keeps the slot until it and what it has started
    have ended.

    Nothing is printed, so that cron mails nothing. The status is the command's own, or 128 + N
    where signal N has ended it or came while waiting, 126 if it cannot be executed, 127 if it is
    not found, 75 if there was no slot in time, 1 for an error, 2 for wrong usage.

    \b
    Example:
      localgcl run database -- pg_dump app
      localgcl run --limit 1 --no-wait backup -- backup.sh --full
      localgcl run --timeout 10m --also disk database -- vacuumdb app
      localgcl run --take ram 4 jobs -- make
      localgcl run --rate-limit api -- curl https://example.org/
    """
    _do(ctx, name, command=command, **options)


@click.command("rate-limit")
@click.argument("name", type=KNOWN_NAME)
@_options("rate-limit")
@click.pass_context
def rate_limit(ctx: click.Context, /, name: str, **options: Any) -> None:
    """Return when the rate of the limit NAME allows the next operation.

    However many processes call this, together they keep to the rate, in the order in which they
    came. Nothing is printed. The status is 0 when the operation may begin, 75 if that was not in
    time, 128 + N where signal N came while waiting, 1 for an error, 2 for wrong usage.

    \b
    Example:
      localgcl rate-limit api && curl https://example.org/
      localgcl rate-limit --occupy 5 --timeout 30 api || exit
      localgcl rate-limit --take tokens 1200 requests
    """
    _do(ctx, name, **options)


def _do(ctx: click.Context, name: str, **values: Any) -> NoReturn:
    try:
        job = Job(name, **values)
    except ValueError as error:
        raise click.UsageError(f"{error}.", ctx) from None
    ctx.exit(job.do(connection_of(ctx)))
