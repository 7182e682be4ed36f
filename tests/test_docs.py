"""The documentation keeps up: README has every command with every option, and help says it all."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import click
import pytest

from localgcl import Limiter
from localgcl.cli import localgcl
from tests.helpers.programs import Invoke

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"(?ms)^```python\n(.*?)^```", README)
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


@pytest.mark.parametrize("number", range(len(PYTHON_BLOCKS)))
def test_the_python_in_the_readme_runs(
    number: int, limiter: Limiter, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block by itself, with the limits that the text before it has made; a function is run."""
    monkeypatch.setenv("LOCALGCL_DB", path)
    monkeypatch.chdir(tmp_path)
    for name, slots, decay in (("database", 5, 0.0), ("reports", 2, 0.0), ("api", 10, 2.0)):
        limiter.create(name, slots, slot_decay_per_second=decay)
    block: dict[str, Any] = {}
    exec(PYTHON_BLOCKS[number], block)  # noqa: S102
    for name in {"report", "fetch"} & block.keys():
        outcome = block[name]()
        if inspect.iscoroutine(outcome):
            asyncio.run(outcome)
    held = {one.name: one.active_slots for one in limiter.read_all()}
    assert (held["database"], held["reports"]) == (0, 0)


def test_the_file_of_limits_in_the_readme(limiter: Limiter, tmp_path: Path, invoke: Invoke) -> None:
    """`apply` takes it as it stands."""
    (block,) = re.findall(r"(?ms)^```toml\n(.*?)^```", README)
    (tmp_path / "limits.toml").write_text(block, encoding="utf-8")
    assert invoke("apply", str(tmp_path / "limits.toml")).exit_code == 0
    assert [one.name for one in limiter.read_all()] == ["database", "rate limited api"]


def test_no_command_in_the_readme_is_gone() -> None:
    """What the table names is there."""
    table = README[README.index("| command |") :].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        named = re.findall(r"`([a-z-]+)\b[^`]*`", row.split("|")[1])
        assert named, row
        assert set(named) <= set(COMMANDS), row
