"""The environment of a job is for its command: `run` is the same in each, and passes it on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

import localgcl as package
from localgcl import Limiter
from tests.helpers.programs import masks
from tests.helpers.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.processes

SCRIPT = Path(sys.executable).with_name("localgcl")
BY_SCRIPT, BY_MODULE = [sys.executable, str(SCRIPT)], [sys.executable, "-m", "localgcl"]
WAYS = pytest.mark.parametrize("program", [BY_SCRIPT, BY_MODULE], ids=["localgcl", "python -m"])

BROKEN = 'raise RuntimeError("this is not the module that was meant")\n'


def run(words: list[str], *, env: Mapping[str, str] = {}, **options: Any) -> tuple[int, str, str]:
    """Run a program in this environment with some more, and return status, output and errors."""
    usual = {one: value for one, value in os.environ.items() if not one.startswith("PYTHON")}
    done = subprocess.run(
        words,
        env={**usual, **env},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        stdin=subprocess.DEVNULL,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


def modules_after(code: str) -> set[str]:
    """Return the modules that are loaded once this code has run."""
    status, shown, _ = run([sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"])
    assert status == 0
    return {one for one in shown.split() if "." not in one}


@pytest.fixture(scope="module")
def broken_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a broken module by every name that `run` and click look for.

    Without those that Python itself, `-m` or the script that pip writes have loaded before the
    first line of localgcl.
    """
    folder = tmp_path_factory.mktemp("broken")
    before = modules_after("import contextlib, re, runpy, importlib.util")
    after = modules_after(
        "import localgcl.cli, localgcl._run.arguments, localgcl._doctor.diagnosis, filelock"
    )
    wanted = after - before - {"localgcl"}
    assert {"sqlite3", "select", "click", "threading"} <= wanted
    for name in wanted:
        (folder / f"{name}.py").write_text(BROKEN)
    return folder


@pytest.fixture
def words(path: Path, database: Limiter) -> list[str]:
    """What runs a command that shows its environment."""
    return ["--db", str(path), "run", "a", "env", "-0"]


# What `run` tells its command.
TOLD = {"LOCALGCL_DB", "LOCALGCL_LEASE", "LOCALGCL_SLOT", "LOCALGCL_SLOTS"}


def shown(output: str) -> dict[str, str]:
    """Return the environment that `env -0` has printed, without what `run` has told it."""
    printed = dict(one.split("=", 1) for one in output.split("\0") if one)
    return {name: value for name, value in printed.items() if name not in TOLD}


@WAYS
@pytest.mark.parametrize("where", ["{}", ".", "/nonexistent:{}", ":{}"])
def test_what_lies_on_the_jobs_pythonpath(
    program: list[str], words: list[str], broken_modules: Path, path: Path, where: str
) -> None:
    """Modules of the job do not take the place of Python's own, nor of what is installed."""
    env = {"PYTHONPATH": where.format(broken_modules), "HOME": "/"}
    status, output, error = run([*program, *words], env=env, cwd=broken_modules)
    assert (status, error) == (0, "")
    assert shown(output)["PYTHONPATH"] == env["PYTHONPATH"]
    assert run([*program, "--db", str(path), "ls"], env=env, cwd=broken_modules)[::2] == (0, "")
    new = ["--db", f"{path}-new", "run", "-l", "1", "a", "true"]
    assert run([*program, *new], env=env, cwd=broken_modules) == (0, "", "")


@WAYS
def test_what_lies_in_the_current_folder(
    program: list[str], words: list[str], broken_modules: Path
) -> None:
    """The working folder of cron is no place for modules either."""
    assert run([*program, *words], cwd=broken_modules)[::2] == (0, "")


def test_what_lies_beside_the_script(
    words: list[str], broken_modules: Path, tmp_path: Path
) -> None:
    """A folder of programs may hold anything."""
    script = tmp_path / "localgcl"
    script.write_text("from localgcl.__main__ import main\nmain()\n")
    for one in broken_modules.iterdir():
        (tmp_path / one.name).symlink_to(one)
    assert run([sys.executable, str(script), *words])[::2] == (0, "")


SABOTAGE = """
import os, select, sqlite3, sys, warnings
os.environ["PYTHONSTARTUP"] = os.environ["SET_BY_PYTHON"] = "sabotage"
del os.environ["KEPT"]
sqlite3.connect = select.poll = None
sys.modules["signal"] = None
"""


@WAYS
def test_what_the_job_has_every_python_do(
    program: list[str], words: list[str], tmp_path: Path
) -> None:
    """What Python has run before the first line of localgcl is undone."""
    (tmp_path / "sitecustomize.py").write_text(SABOTAGE)
    status, output, error = run(
        [*program, *words], env={"PYTHONPATH": str(tmp_path), "KEPT": "as it was"}
    )
    assert (status, error) == (0, "")
    assert shown(output)["KEPT"] == "as it was"
    assert {"PYTHONSTARTUP", "SET_BY_PYTHON"}.isdisjoint(shown(output))


# What Python itself says as it starts, whatever it is to run, cannot be kept from it.
LOUD = {"PYTHONVERBOSE": "1", "PYTHONPROFILEIMPORTTIME": "1", "PYTHONMALLOCSTATS": "1"}
VARIABLES = {
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONBREAKPOINT": "no.such.thing",
    "PYTHONCASEOK": "1",
    "PYTHONCOERCECLOCALE": "0",
    "PYTHONDEBUG": "1",
    "PYTHONDEVMODE": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONFAULTHANDLER": "1",
    "PYTHONHASHSEED": "5",
    "PYTHONINSPECT": "1",
    "PYTHONIOENCODING": "latin-1:strict",
    "PYTHONMALLOC": "debug",
    "PYTHONNOUSERSITE": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONPATH": "/nonexistent",
    "PYTHONSAFEPATH": "1",
    "PYTHONSTARTUP": "/nonexistent",
    "PYTHONTRACEMALLOC": "25",
    "PYTHONUNBUFFERED": "1",
    "PYTHONUSERBASE": "/nonexistent",
    "PYTHONUTF8": "0",
    "PYTHONWARNINGS": "error",
    **LOUD,
}


@pytest.mark.parametrize("name", VARIABLES)
@WAYS
def test_variables_of_python(program: list[str], words: list[str], path: Path, name: str) -> None:
    """Each is for the command, which gets it as it was given; nothing is said, nothing hangs."""
    given = {"PATH": os.environ["PATH"], "HOME": "/", "LANG": "C", name: VARIABLES[name]}
    done = subprocess.run(
        [*program, *words], env=given, capture_output=True, timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0
    assert shown(done.stdout.decode()) == given
    assert done.stderr == b"" or name in LOUD
    listed = [*program, "--db", str(path), "inspect", "a"]
    assert run(listed, env={name: VARIABLES[name]})[0] == 0


def test_what_python_ignores_in_itself(words: list[str]) -> None:
    """A Python that begins anew leaves no signal ignored for the command."""
    show = ["cat", "/proc/self/status"]
    bare = masks(run(show)[1])
    given = masks(run([*BY_MODULE, *words[:-2], *show], env={"PYTHONPATH": "/nonexistent"})[1])
    assert (given["Ign"], given["Blk"]) == (bare["Ign"], bare["Blk"])


def test_arguments_that_are_no_text(words: list[str]) -> None:
    """They reach the command as they were."""
    command: list[str | bytes] = [*BY_MODULE, *words[:-2], "printf", "%s", b"\xff\xe9"]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": "/nonexistent"}
    done = subprocess.run(command, env=env, capture_output=True, timeout=DEADLINE_SECONDS)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\xff\xe9", b"")


# Python without what is installed for these tests.
BARE = os.path.realpath(sys.executable)
CHECKOUT = str(Path(package.__file__).parent.parent)
BESIDE = str(Path(click.__file__).parent.parent)


@pytest.mark.parametrize("as_current_folder", [False, True])
def test_a_checkout_that_only_pythonpath_leads_to(
    words: list[str], broken_modules: Path, path: Path, as_current_folder: bool
) -> None:
    """It runs with what lies beside it, and with Python's own modules all the same."""
    env = {"PYTHONPATH": f"{CHECKOUT}:{BESIDE}:{broken_modules}"}
    options: dict[str, Any] = {"cwd": "/"}
    if as_current_folder:
        env, options = {"PYTHONPATH": f"{BESIDE}:{broken_modules}"}, {"cwd": CHECKOUT}
    assert run([BARE, "-m", "localgcl", *words], env=env, **options)[::2] == (0, "")
    listed = [BARE, "-m", "localgcl", "--db", str(path), "ls"]
    assert run(listed, env=env, **options)[::2] == (0, "")


def test_a_checkout_comes_before_what_is_installed(words: list[str], tmp_path: Path) -> None:
    """Of two localgcl, the one that was started is the one that goes on."""
    other = tmp_path / "localgcl"
    shutil.copytree(
        Path(package.__file__).parent, other, ignore=shutil.ignore_patterns("__pycache__")
    )
    (other / "_run" / "arguments.py").write_text(
        "def read(words):\n    print('the other')\n    raise SystemExit"
    )
    for options in ({"env": {"PYTHONPATH": str(tmp_path)}, "cwd": "/"}, {"cwd": str(tmp_path)}):
        assert run([*BY_MODULE, *words], **options) == (0, "the other\n", "")


def test_only_who_sets_such_a_variable_waits_for_a_second_python(words: list[str]) -> None:
    """Every other job has one start of Python to wait for, and those that others set too."""
    quiet = {one: value for one, value in VARIABLES.items() if one in (
        "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONUTF8",
        "PYTHONIOENCODING", "PYTHONFAULTHANDLER", "PYTHONSAFEPATH", "PYTHONNOUSERSITE",
    )}  # fmt: skip
    trace = "import os\nos.execve = None\nfrom localgcl.__main__ import main\nmain()\n"
    for env in ({}, quiet):
        assert run([sys.executable, "-c", trace, *words], env=env)[::2] == (0, "")
