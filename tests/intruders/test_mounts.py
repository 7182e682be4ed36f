"""A database file that is mounted alone, without its folder: two gates, two logs, two limits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.needs import takes_root
from tests.intruders.player import ROOT
from tests.intruders.stage import GROUNDS, Ground, Player, Scene

pytestmark = [pytest.mark.processes, takes_root]


def mount(player: Player, source: Path, target: Path) -> None:
    """Mount a file for this player alone."""
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
