"""Every example runs as it stands, and prints what its docstring says."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from localgcl import Limit
from tests.helpers.needs import PREFECT_PYTHON, takes_prefect

FOLDER = Path(__file__).parent.parent / "examples"
PREFECT = FOLDER / "prefect_flow.py"
EXAMPLES = sorted(set(FOLDER.glob("[!_]*.py")) - {PREFECT})
DEADLINE_SECONDS = 60
PREFECT_SECONDS = 240  # it makes a database, and starts a server


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's tmp_path is closed to other accounts, and as root PostgreSQL runs as another.
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        folder.chmod(0o711)
        yield folder


@pytest.mark.processes
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_prints_what_its_docstring_shows(example: Path, folder: Path) -> None:
    """An example exits with 0, prints what it shows, and leaves no file behind."""
    status, printed, errors = _run([sys.executable, "-W", "error", example], folder)
    assert status == 0, printed + errors
    _compare(example, printed)
    assert list(folder.iterdir()) == []


@takes_prefect
@pytest.mark.processes
@pytest.mark.timeout(PREFECT_SECONDS + 60)
def test_a_flow_of_prefect(folder: Path) -> None:
    """Its tasks keep to the limit; Prefect needs a home, and a server that it starts itself."""
    settings = {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(PREFECT_SECONDS),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "DO_NOT_TRACK": "1",
    }
    assert PREFECT_PYTHON is not None
    status, printed, errors = _run([PREFECT_PYTHON, PREFECT], folder, PREFECT_SECONDS, **settings)
    assert status == 0, printed + errors
    _compare(PREFECT, printed)


def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cells run as IPython runs them: in a loop, with `await` at the top."""
    monkeypatch.setenv("LOCALGCL_DB", str(tmp_path / "limits.db"))
    cells = json.loads((FOLDER / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]

    async def run() -> list[object]:
        names: dict[str, object] = {}
        return [await _value_of(source, names) for source in sources]

    made, queried, left = asyncio.run(run())
    assert isinstance(made, Limit)
    assert (made.limit, queried, left) == (2, [0, 1, 2, 3, 4, 5], 0)


async def _value_of(cell: str, names: dict[str, object]) -> object:
    """Run a cell, and return the value of its last line, as a notebook shows it."""
    *statements, last = ast.parse(cell).body
    assert isinstance(last, ast.Expr)
    await_at_top = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    module = compile(ast.Module(statements, []), "cell", "exec", flags=await_at_top)
    for code in (module, compile(ast.Expression(last.value), "cell", "eval", flags=await_at_top)):
        value = eval(code, names)  # noqa: S307 - a cell of our own
        if inspect.isawaitable(value):
            value = await value
    return value


def _compare(example: Path, printed: str) -> None:
    docstring = ast.get_docstring(ast.parse(example.read_text())) or ""
    _, command, shown = docstring.partition(f"$ python examples/{example.name}\n")
    assert command, "the docstring shows how to run the example, and what it prints then"
    expected = textwrap.dedent(shown) + "\n"
    assert doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS), printed


def _run(
    command: list[str | Path], folder: Path, seconds: float = DEADLINE_SECONDS, **settings: str
) -> tuple[int, str, str]:
    environment = {"LOCALGCL_DB": str(folder / "of-the-user.db"), "TMPDIR": str(folder), **settings}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, errors = process.communicate(timeout=seconds)
        finally:
            # Whatever an example started is in its session, and must not outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, printed, errors
