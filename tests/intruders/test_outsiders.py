"""Who may not write in the folder gets nothing of the database, and is told how to be let in."""

from __future__ import annotations

import errno
import grp
import json
import os
import pwd
import re
import stat
from collections.abc import Callable

import pytest

from tests.helpers.needs import takes_root
from tests.intruders.player import ROOT, User
from tests.intruders.stage import (
    APP,
    GROUP,
    MEMBER,
    STRANGER,
    Ground,
    Player,
    Scene,
    everything,
    use,
)

pytestmark = [pytest.mark.processes, takes_root]
SetUp = Callable[[Ground], Scene]

APP_OF_GROUP = User(APP.uid, GROUP)


def ground(mode: int, owner: User = APP_OF_GROUP) -> Ground:
    """Return an application's folder of this mode."""
    return Ground(mode, owner, STRANGER, owner)


@pytest.mark.parametrize("umask", [0, 0o077], ids=oct)
@pytest.mark.parametrize("user", [APP_OF_GROUP, ROOT], ids=["the owner", "root"])
@pytest.mark.parametrize(
    ("mode", "shared"),
    [(0o755, 0), (0o750, 0), (0o2755, 0), (0o700, 0), (0o2770, 0o60), (0o775, 0o60), (0o777, 0o66)],
    ids=lambda bits: f"{bits:04o}",
)
def test_modes_follow_from_who_may_write(
    scene: SetUp, mode: int, shared: int, user: User, umask: int
) -> None:
    """Those who may write in the folder may use all of it, and nobody else any of it."""
    set_up = scene(ground(mode))
    use(set_up, user, umask)
    wrong = {}
    for path in everything(set_up):
        bits = stat.S_IMODE(path.stat().st_mode)
        # To use a folder is to enter it, too.
        expected = shared | (shared & 0o44) >> 2 if path.is_dir() else shared
        if bits & 0o077 != expected:
            wrong[path.name] = f"{bits:04o}"
    assert wrong == {}


@pytest.mark.parametrize(
    ("mode", "outsider"),
    [(0o755, STRANGER), (0o2755, MEMBER), (0o2750, MEMBER), (0o2775, STRANGER)],
    ids=["0755", "2755-group", "2750-group", "2775"],
)
def test_who_may_only_read_opens_nothing(scene: SetUp, mode: int, outsider: User) -> None:
    """Neither the gate, to lock it, nor FIFOs, nor -shm, nor the database."""
    set_up = scene(ground(mode))
    holder, waiter = use(set_up, APP_OF_GROUP)
    there = everything(set_up)
    player = set_up.player(outsider)
    for path in there:
        for flags in (os.O_RDONLY, os.O_WRONLY):
            if not (path.is_dir() and flags):
                assert player.do("open", str(path), flags) == errno.EACCES, path.name
    holder.kill()
    assert isinstance(waiter.answer(), float)


# Users and groups that have names everywhere.
NOBODY = User(65534, 65534)
DAEMONS = 1


def messages_of(scene: Scene, player: Player) -> list[str]:
    """Return what a user is told who may not use the database."""
    outcomes: list[str] = player.do("uses")
    refused = [one for one in outcomes if one != "done"]
    assert len(refused) >= 4, outcomes  # all that read or write
    for one in refused:
        assert one.startswith("DatabaseError: "), one
    status, _, errors = player.do("command", "run", "--no-wait", "x", "true")
    assert status == 1, errors
    return [*refused, errors]


@pytest.mark.parametrize("mode", [0o2770, 0o2775, 0o770], ids=oct)
def test_a_user_is_told_how_to_be_let_in(scene: SetUp, mode: int) -> None:
    """The error names file, mode and group, and the command; doctor lists it as permissions."""
    owner = User(0, DAEMONS)
    set_up = scene(ground(mode, owner))
    os.chown(set_up.folder, 0, DAEMONS)
    founder = set_up.player(ROOT)
    founder.do("create", "x")
    player = set_up.player(NOBODY)
    group, user = grp.getgrgid(DAEMONS).gr_name, pwd.getpwuid(NOBODY.uid).pw_name
    for message in messages_of(set_up, player):
        assert f"usermod -aG {group} {user}" in message
        check_message(set_up, message, group)

    status, out, errors = player.do("command", "doctor", "-o", "json")
    assert status == 1, errors
    faults = {one["name"]: one for one in json.loads(out)["checks"] if one["status"] == "fault"}
    assert "permissions" in faults
    assert f"usermod -aG {group} {user}" in str(faults["permissions"]["remedy"])


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o700], ids=oct)
def test_where_no_group_would_help(scene: SetUp, mode: int) -> None:
    """The error names file, mode and group, too, and does not send the user elsewhere."""
    owner = User(APP.uid, DAEMONS)
    set_up = scene(ground(mode, owner))
    set_up.player(owner).do("create", "x")
    for message in messages_of(set_up, set_up.player(NOBODY)):
        check_message(set_up, message, grp.getgrgid(DAEMONS).gr_name)


def check_message(scene: Scene, message: str, group: str) -> None:
    """A message of permissions names what it is about, and never advises another folder."""
    assert str(scene.folder) in message
    assert re.search(r"[-d][-rwxsStT]{9}|\b[0-7]{3,4}\b", message), message
    assert re.search(rf"\b{group}\b", message), message
    for advice in ("another folder", "LOCALGCL_DB", "--db", "elsewhere"):
        assert advice not in message
