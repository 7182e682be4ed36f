"""The documentation keeps up: every command with every option is in it, and what it shows runs."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
import pytest

from localgcl import Limiter
from localgcl.cli import localgcl
from tests.helpers.programs import Invoke

ROOT = Path(__file__).parent.parent
# That of the project, and those of the folders.
READMES = {
    str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
    for file in (
        ROOT / "README.md",
        *sorted((ROOT / "examples").glob("README.md")),
        *sorted((ROOT / "localgcl").rglob("README.md")),
        *sorted((ROOT / "tests").rglob("README.md")),
    )
}
README = READMES["README.md"]
COMMAND_LINE = READMES["localgcl/cli/README.md"]


def blocks(language: str) -> list[Any]:
    """Return the blocks of a language in all READMEs, each with the file it is from."""
    return [
        pytest.param(block, id=f"{name}-{number}")
        for name, text in READMES.items()
        for number, block in enumerate(re.findall(rf"(?ms)^```{language}\n(.*?)^```", text))
    ]


COMMANDS = localgcl.list_commands(click.Context(localgcl))

_TIMES = ("timeout", "interval", "window_seconds", "seconds")


def options_of(name: str) -> list[click.Option]:
    """Return the options of a command."""
    command = localgcl.get_command(click.Context(localgcl), name)
    assert command is not None
    return [one for one in command.params if isinstance(one, click.Option)]


def text_about(name: str) -> str:
    """Return what there is on a command: its row, and the section with it in its title."""
    row = re.search(rf"^\| [^|]*`{name}\b.*", COMMAND_LINE, re.MULTILINE)
    assert row is not None, f"the table of commands has no row for {name}"
    section = re.search(rf"(?ms)^##+ [^\n]*`(localgcl )?{name}`.*?(?=^##|\Z)", COMMAND_LINE)
    return row[0] + (section[0] if section else "")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readmes(name: str) -> None:
    """The README names it, and the table has it with every option it has."""
    assert re.search(rf"`(localgcl )?{name}\b", README), f"README lacks {name}"
    text = text_about(name)
    for option in options_of(name):
        written = max(option.opts, key=len)
        assert re.search(rf"`(-\w/)?{written}\b", text), f"the table lacks {name} {written}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_its_default_and_its_unit(name: str) -> None:
    """Whoever reads the help knows what happens without an option, and what its number counts."""
    for option in options_of(name):
        where = f"{name} {option.opts[-1]}"
        assert option.help, where
        assert option.required or option.show_default or "[default: " in option.help, where
        assert option.name not in _TIMES or "econds" in option.help, where


@pytest.mark.parametrize("text", blocks("python"))
def test_the_python_in_the_readmes_runs(
    text: str, limiter: Limiter, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block by itself, with the limits that the text before it has made; a function is run."""
    monkeypatch.setenv("LOCALGCL_DB", path)
    monkeypatch.chdir(tmp_path)
    for name, slots, decay in (("database", 5, 0.0), ("reports", 2, 0.0), ("api", 10, 2.0)):
        limiter.create(name, slots, slot_decay_per_second=decay)
    block: dict[str, Any] = {}
    exec(text, block)  # noqa: S102
    for name in {"report", "fetch", "slot"} & block.keys():
        outcome = block[name]()
        if inspect.iscoroutine(outcome):
            asyncio.run(outcome)
        if inspect.isasyncgen(outcome):
            asyncio.run(_to_its_end(outcome))
    held = {one.name: one.active_slots for one in limiter.read_all()}
    assert (held["database"], held["reports"]) == (0, 0)


async def _to_its_end(generator: AsyncIterator[object]) -> None:
    async for _ in generator:
        pass


def test_there_is_python_in_the_readmes() -> None:
    """The finder of blocks sees both flavours, and the READMEs of the folders too."""
    assert [one.id for one in blocks("python")] == [
        "README.md-0",
        "README.md-1",
        "README.md-2",
        "examples/README.md-0",
    ]


@pytest.mark.processes
def test_the_script_of_the_examples(limiter: Limiter, path: str, tmp_path: Path) -> None:
    """A script that locks a part of itself runs that part while it holds a slot."""
    (block,) = re.findall(r"(?ms)^```sh\n(.*?)^```", READMES["examples/README.md"])
    script, localgcl_command = tmp_path / "script", tmp_path / "localgcl"
    script.write_text(block.replace('echo "one at a time"', "localgcl ps"), encoding="utf-8")
    localgcl_command.write_text(f'#!/bin/sh\nexec {sys.executable} -m localgcl "$@"\n')
    for file in (script, localgcl_command):
        file.chmod(0o755)
    done = subprocess.run(
        [script],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "LOCALGCL_DB": path,
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, *shown, last = done.stdout.splitlines()
    assert (first, last) == ("any number at once", "any number again")
    assert any(line.startswith("deploy ") for line in shown)
    assert limiter.read("deploy").active_slots == 0


@pytest.mark.parametrize("command", re.findall(r"\| `localgcl (create [a-z][^`]+)` \|", README))
def test_the_rates_in_the_readme(command: str, limiter: Limiter, invoke: Invoke) -> None:
    """Each wish is written as a command that is understood."""
    assert invoke(*command.split()).exit_code == 0
    (limit,) = limiter.read_all()
    if limit.name == "strict":
        assert (limit.limit, limit.window_seconds) == (60, 60.0)
    else:
        assert limit.slot_decay_per_second > 0
    if limit.name == "hourly":
        assert 3600 * limit.slot_decay_per_second <= 1


def test_there_are_four_wishes() -> None:
    """The finder of rates sees every row."""
    assert len(re.findall(r"\| `localgcl create [a-z][^`]+` \|", README)) == 4


def test_the_file_of_limits_in_the_readme(limiter: Limiter, tmp_path: Path, invoke: Invoke) -> None:
    """`apply` takes it as it stands."""
    (block,) = (text for one in blocks("toml") for text in one.values)
    (tmp_path / "limits.toml").write_text(block, encoding="utf-8")
    assert invoke("apply", str(tmp_path / "limits.toml")).exit_code == 0
    assert [one.name for one in limiter.read_all()] == ["database", "rate limited api"]


def test_no_command_in_the_readme_is_gone() -> None:
    """What the table names is there."""
    table = COMMAND_LINE[COMMAND_LINE.index("| command |") :].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        named = re.findall(r"`([a-z-]+)\b[^`]*`", row.split("|")[1])
        assert named, row
        assert set(named) <= set(COMMANDS), row


def test_the_readme_is_short() -> None:
    """It is read in a few minutes; the rest is in the READMEs of the folders."""
    assert len(README.splitlines()) <= 220


@pytest.mark.parametrize("name", READMES)
def test_links_and_paths_of_a_readme_lead_somewhere(name: str) -> None:
    """Relative links go to files and headings that are there, as do the paths that README names."""
    text = READMES[name]
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        there, _, heading = link.partition("#")
        file = ((ROOT / name).parent / there).resolve() if there else ROOT / name
        assert file.exists(), link
        if heading:
            assert heading in headings(file.read_text(encoding="utf-8")), link
    for mentioned in re.findall(r"`([\w/]+\.md)`", text):
        assert (ROOT / mentioned).exists(), mentioned


def test_links_of_the_readme_work_on_the_page_of_an_index() -> None:
    """No link of it is relative: an index has the text and none of the files."""
    assert not re.findall(r"\]\((?!https?://|#)", README)


def headings(text: str) -> set[str]:
    """Return the anchors of a file's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in found}
