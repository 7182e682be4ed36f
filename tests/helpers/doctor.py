"""What `localgcl doctor` finds."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from click.testing import Result

Checks = dict[str, dict[str, str]]


def found(result: Result) -> Checks:
    """Return the checks by their names, of a command that agrees with itself about faults."""
    report = json.loads(result.stdout)
    assert list(report) == ["database", "chosen_by", "exists", "checks"]
    for check in report["checks"]:
        assert list(check) == ["name", "status", "detail", "remedy"]
        assert check["status"] in ("ok", "note", "fault")
        assert (check["remedy"] is None) == (check["status"] == "ok"), check
    faults = [check for check in report["checks"] if check["status"] == "fault"]
    if faults:
        assert result.exit_code == 1
        assert result.stderr == f"Error: {len(faults)} fault(s) found in {report['database']}\n"
    else:
        assert (result.exit_code, result.stderr) == (0, "")
    return {check["name"]: check for check in report["checks"]}


Examine = Callable[[], Checks]


def statuses(checks: Checks, status: str) -> list[str]:
    """Return the names of the checks with a status."""
    return [name for name, check in checks.items() if check["status"] == status]


def files(path: str) -> dict[str, tuple[int, ...]]:
    """Return everything about the files of a database but their content and when it was read."""
    seen: dict[str, tuple[int, ...]] = {}
    for folder, _, names in os.walk(os.path.dirname(path)):
        for one in [folder, *(os.path.join(folder, name) for name in names)]:
            status = os.lstat(one)
            seen[one] = (status.st_ino, status.st_mode, status.st_uid, status.st_gid)
            if not one.endswith("-shm"):  # the memory that SQLite's connections share
                seen[one] += (status.st_size, status.st_mtime_ns)
    return seen
