"""`python -m tests.mutants [WORD ...]`: whether the tests notice each mutant.

Each is made in a copy of the tree. With words, only those whose names hold one of them. It is
noticed where a test fails or does not end, and that same test then passes without it: a mutant
that cannot be imported proves nothing, nor does a test that fails now and then.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutants.table import MUTANTS, Mutant
from tests.mutants.trees import mutated
from tests.truths import TRUTHS

ROOT = Path(__file__).parents[2]
_COPIED = ("localgcl", "tests", "examples", "pyproject.toml", "README.md", "CHANGELOG.md")

# A mutant may wait for ever; that is noticed too.
_TEST_SECONDS, _FILE_SECONDS = 60, 600


def main() -> int:
    """Try each mutant, and return 1 if one was not noticed."""
    words = sys.argv[1:]
    chosen = [one for one in MUTANTS if not words or any(word in one.name for word in words)]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        tree = Path(directory)
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, tree / name)
        for tests in {tests: None for mutant in chosen for tests in mutant.tests}:
            failed = _run(tree, tests)
            if failed is not None:
                print(f"without any mutant fails {failed}")
                return 1
        for mutant in chosen:
            began = time.monotonic()
            by = _killer(tree, mutant)
            outcome = f"killed by {by}" if by else "SURVIVED"
            if by and _run(tree, by) is not None:
                by, outcome = None, f"{by} fails WITHOUT IT TOO"
            took = time.monotonic() - began
            broken = f"truth {mutant.truth} ({TRUTHS[mutant.truth]})"
            print(f"{mutant.name}: {outcome} ({took:.0f} s); {broken}", flush=True)
            if by is None:
                survivors.append(mutant)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants killed")
    return 1 if survivors else 0


def sources(tree: Path) -> dict[str, str]:
    """Return the source of each module of the package, by its path in there."""
    package = tree / "localgcl"
    return {
        str(file.relative_to(package)): file.read_text(encoding="utf-8")
        for file in sorted(package.rglob("*.py"))
    }


def _killer(tree: Path, mutant: Mutant) -> str | None:
    """Return the first test that notices a mutant."""
    whole = sources(tree)
    path, changed = mutated(mutant.place, mutant.change, whole)
    file = tree / "localgcl" / path
    file.write_text(changed, encoding="utf-8")
    try:
        for tests in mutant.tests:
            failed = _run(tree, tests)
            if failed is not None:
                return failed
        return None
    finally:
        file.write_text(whole[path], encoding="utf-8")


def _run(tree: Path, tests: str) -> str | None:
    options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout", str(_TEST_SECONDS)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, tests],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=_FILE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return tests
    if process.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (.+?::.+?)(?: - |$)", said, re.MULTILINE)
    if failed is None:
        raise SystemExit(f"{tests} broke off:\n{said}")
    return failed[1]


if __name__ == "__main__":
    sys.exit(main())
