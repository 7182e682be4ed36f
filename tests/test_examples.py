"""Every example runs as it stands, and prints what its docstring says."""

from __future__ import annotations

import ast
import contextlib
import doctest
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("[!_]*.py"))
DEADLINE_SECONDS = 60


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
    docstring = ast.get_docstring(ast.parse(example.read_text())) or ""
    _, command, shown = docstring.partition(f"$ python examples/{example.name}\n")
    assert command, "the docstring shows how to run the example, and what it prints then"

    status, printed, errors = _run(example, folder)

    assert status == 0, printed + errors
    expected = textwrap.dedent(shown) + "\n"
    assert doctest.OutputChecker().check_output(expected, printed, doctest.ELLIPSIS), printed
    assert list(folder.iterdir()) == []


def _run(example: Path, folder: Path) -> tuple[int, str, str]:
    environment = {"LOCALGCL_DB": str(folder / "of-the-user.db"), "TMPDIR": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-W", "error", example],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            printed, errors = process.communicate(timeout=DEADLINE_SECONDS)
        finally:
            # Whatever an example started is in its session, and must not outlive it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, printed, errors
