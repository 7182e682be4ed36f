"""Mounts of a database file alone, or over what belongs to it: two gates, two logs, two limits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.needs import takes_root
from tests.intruders.player import ALLOWED, ROOT
from tests.intruders.stage import GROUNDS, Ground, Player, Scene

BESIDE = {"-run": "folder", "-wal": "file", "-shm": "file"}

pytestmark = [pytest.mark.processes, takes_root]


def mount(player: Player, source: Path, target: Path) -> None:
    """Mount a file or a folder for this player alone."""
    error = player.do("mount", str(source), str(target))
    if error and not os.environ.get("LOCALGCL_TEST_EVERYTHING"):
        pytest.skip(f"mount: {os.strerror(error)}; in a container, give it CAP_SYS_ADMIN")
    assert not error, os.strerror(error)


@pytest.mark.parametrize("where", ["elsewhere", "over itself"])
def test_a_file_that_is_mounted_alone(
    scene: Callable[[Ground], Scene], where: str, tmp_path: Path
) -> None:
    """It is refused at every opening, with the reason, and nothing is made beside it."""
    set_up = scene(GROUNDS[0])
    outside, inside = set_up.player(ROOT), set_up.player(ROOT)
    outside.do("create", "x")
    outside.do("acquire", "x")
    target = set_up.database
    if where == "elsewhere":
        target = tmp_path / "limits.db"
        target.touch()
    mount(inside, set_up.database, target)
    inside.do("turn_to", str(target))
    for _ in range(2):
        refused = [one for one in inside.do("uses") if one != "done"]
        assert len(refused) >= 4  # all that read or write
        for one in refused:
            assert one.startswith("DatabaseError: "), one
            assert "mount" in one.lower(), one
            assert str(target) in one
    status, _, errors = inside.do("command", "run", "--no-wait", "x", "true")
    assert status == 1
    assert errors.startswith("Error: ")
    assert "mount" in errors.lower()
    assert inside.do("command", "doctor")[0] == 1
    if where == "elsewhere":
        assert os.listdir(tmp_path) == ["limits.db"]

    outside.do("release")
    assert outside.do("works") is None


@pytest.mark.parametrize("suffix", BESIDE)
@pytest.mark.parametrize("when", ["before it is opened", "while it is open"])
def test_a_mount_over_what_lies_beside(
    scene: Callable[[Ground], Scene], suffix: str, when: str, tmp_path: Path
) -> None:
    """It is refused with what to do, nothing is made in what is mounted, and no slot is lost.

    Until it is opened again, the right files may stay in use.
    """
    set_up = scene(GROUNDS[0])
    outside, inside = set_up.player(ROOT), set_up.player(ROOT)
    outside.do("create", "x")
    outside.do("acquire", "x")
    if when == "while it is open":
        assert inside.do("waiting", "x") == 0
    point = Path(f"{set_up.database}{suffix}")
    other = tmp_path / "other"
    if BESIDE[suffix] == "folder":
        other.mkdir()
    else:
        other.touch()
    mount(inside, other, point)
    if when == "while it is open":
        outcomes = inside.do("uses")
        assert all(one.startswith(ALLOWED) for one in outcomes), outcomes
        assert outcomes[2] != "done"  # what the other one holds
    for _ in range(2):
        refused = [one for one in inside.do("uses") if one != "done"]
        assert len(refused) >= 4  # all that read or write
        for one in refused:
            assert one.startswith("DatabaseError: "), one
            assert f"{point} is a mount point" in one
            assert "mount the folder" in one
    status, _, errors = inside.do("command", "run", "--no-wait", "x", "true")
    assert (status, len(errors.splitlines())) == (1, 1)
    assert f"{point} is a mount point" in errors
    if BESIDE[suffix] == "folder":
        assert os.listdir(other) == []
    else:
        assert other.read_bytes() == b""

    again = set_up.player(ROOT)
    busy = again.do("acquire", "x", 0.0)
    assert busy["error"] == "AcquireConcurrencySlotTimeoutError"
    outside.do("release")
    assert again.do("works") is None
