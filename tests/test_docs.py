"""The documentation keeps up: README has every command with every option, and help says it all."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from localgcl.cli import localgcl

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = localgcl.list_commands(click.Context(localgcl))

_TIMES = ("timeout", "interval")


def options_of(name: str) -> list[click.Option]:
    """Return the options of a command."""
    command = localgcl.get_command(click.Context(localgcl), name)
    assert command is not None
    return [one for one in command.params if isinstance(one, click.Option)]


def text_about(name: str) -> str:
    """Return what README says of a command: its row, and the section with it in its title."""
    row = re.search(rf"^\| [^|]*`{name}\b.*", README, re.MULTILINE)
    assert row is not None, f"README's table of commands has no row for {name}"
    section = re.search(rf"(?ms)^##+ [^\n]*`(localgcl )?{name}`.*?(?=^##|\Z)", README)
    return row[0] + (section[0] if section else "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme(name: str) -> None:
    """The table has each command, with every option it has."""
    text = text_about(name)
    for option in options_of(name):
        written = max(option.opts, key=len)
        assert re.search(rf"`(-\w/)?{written}\b", text), f"README lacks {name} {written}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_its_default_and_its_unit(name: str) -> None:
    """Whoever reads the help knows what happens without an option, and what its number counts."""
    for option in options_of(name):
        where = f"{name} {option.opts[-1]}"
        assert option.help, where
        assert option.required or option.show_default or "[default: " in option.help, where
        assert option.name not in _TIMES or "econds" in option.help, where


def test_no_command_in_the_readme_is_gone() -> None:
    """What the table names is there."""
    table = README[README.index("| command |") :].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        named = re.findall(r"`([a-z-]+)\b[^`]*`", row.split("|")[1])
        assert named, row
        assert set(named) <= set(COMMANDS), row
