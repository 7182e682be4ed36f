"""Everything at once, for a minute: `python -m tests.endurance` runs the same for any length."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SECONDS = 60


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_endurance() -> None:
    """Processes of every kind, an operator and faults: the witness finds nothing wrong."""
    command = ["-m", "tests.endurance", "--seconds", str(_SECONDS), "--seed", "1"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 violation(s)" in done.stdout
