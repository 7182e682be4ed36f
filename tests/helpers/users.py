"""What other users do, and what belongs to them."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def umask_of(mask: int) -> Iterator[None]:
    """Set the umask for a block."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def as_nobody(code: str, *arguments: str, groups: str = "[]") -> subprocess.CompletedProcess[str]:
    """Run code as a user without privileges: where root runs the tests, as nobody."""
    # What is loaded later could lie in a folder that this user cannot enter.
    prelude = """
    import ctypes, difflib, encodings.ascii, grp, json, logging, os, pwd, resource, sys
    import unicodedata, uuid
    import filelock, pydantic
    import localgcl, localgcl._admin.limits, localgcl._drivers.departure
    import localgcl.cli.limits, localgcl.cli.holders, localgcl.cli.doctor
    from localgcl import DatabaseError, Limiter
    filelock.FileLock("/dev/null").is_locked
    limiter_of_imports = Limiter("/nonexistent/limits.db").read_all()
    if os.geteuid() == 0:
        os.setgroups(GROUPS)
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
    """
    program = textwrap.dedent(prelude.replace("GROUPS", groups)) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True
    )


def files_of(path: str | Path) -> list[Path]:
    """Return the files that belong to a database and are there."""
    path = Path(path)
    run = path.with_name(f"{path.name}-run")
    companions = [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm")]
    return [one for one in companions if one.exists()] + [run, *sorted(run.iterdir())]


def mode_of(path: Path) -> int:
    """Return the mode of a file."""
    return stat.S_IMODE(path.stat().st_mode)
