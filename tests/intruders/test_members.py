"""Members of one group, of whom none is ever shut out by what another one has left half made."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.needs import takes_root
from tests.intruders.player import ROOT, User
from tests.intruders.stage import (
    APP,
    COLLEAGUE,
    GROUNDS,
    GROUP,
    LOOSE_COLLEAGUE,
    LOOSE_MEMBER,
    MEMBER,
    Ground,
    Scene,
)

pytestmark = [pytest.mark.processes, takes_root]
SetUp = Callable[[Ground], Scene]

SHARED, LOOSE, OWN = GROUNDS[0], GROUNDS[1], GROUNDS[4]
CASES = [
    pytest.param(LOOSE, LOOSE_MEMBER, LOOSE_COLLEAGUE, id="0770"),
    pytest.param(LOOSE, LOOSE_MEMBER, ROOT, id="0770-root"),
    pytest.param(SHARED, MEMBER, COLLEAGUE, id="2770"),
    pytest.param(OWN, ROOT, APP, id="0755-root-killed"),
]


@pytest.mark.parametrize("umask", [0o077], ids=oct)
@pytest.mark.parametrize(("ground", "killed", "other"), CASES[:1] + CASES[2:])
def test_killed_at_each_step(
    scene: SetUp, ground: Ground, killed: User, other: User, umask: int
) -> None:
    """One is killed at any step of its first call; the other, and then itself, goes on."""
    first = scene(ground)
    players = [first.player(other, umask), first.player(killed, umask)]
    wrong: dict[int, list[object]] = {}
    step, was_killed = 1, True
    while was_killed:
        set_up = scene(ground)
        victim = set_up.player(killed, umask)
        victim.tell("uses_until_killed", step)
        was_killed = victim.ends_or_answers()
        victim.kill()
        for player in players:
            player.do("turn_to", str(set_up.database))
            answer = player.do("works")
            if answer is not None:
                wrong.setdefault(step, []).append(answer)
        step += 1
    assert step > 10
    assert wrong == {}


@pytest.mark.parametrize("is_new", [True, False], ids=["a new one each time", "one for all"])
@pytest.mark.parametrize(("ground", "killed", "other"), CASES)
def test_killed_at_any_moment(
    scene: SetUp, ground: Ground, killed: User, other: User, is_new: bool
) -> None:
    """One opens, uses and closes it until it is killed, while the other uses it all the time."""
    set_up = scene(ground)
    player = set_up.player(other, 0o077)
    chance = random.Random(17)
    for _ in range(12):
        if is_new:
            set_up = scene(ground)
            player.do("turn_to", str(set_up.database))
        victim = set_up.player(killed, 0o077)
        victim.tell("works_until_killed")
        end = time.monotonic() + chance.random() * 0.06
        while time.monotonic() < end:
            assert player.do("works") is None
        victim.kill()
        assert player.do("works") is None
        again = set_up.player(killed, 0o077)
        assert again.do("works") is None
        again.kill()


@pytest.mark.parametrize("left_by", ["a crash", "a cleaner"])
@pytest.mark.parametrize("newcomer", [LOOSE_COLLEAGUE, ROOT], ids=["a colleague", "root"])
def test_a_log_that_is_gone_while_its_index_is_there(
    scene: SetUp, left_by: str, newcomer: User
) -> None:
    """Both are made again for all members, and what is committed in the file stays as it is."""
    set_up = scene(LOOSE)
    log, index = (Path(f"{set_up.database}{suffix}") for suffix in ("-wal", "-shm"))
    holder = set_up.player(LOOSE_MEMBER)
    holder.do("create", "x")
    holder.do("acquire", "x")
    with contextlib.closing(sqlite3.connect(set_up.database)) as other:
        assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    holder.do("create", "of which the index tells")
    if left_by == "a crash":
        holder.kill()
        os.chown(index, 0, 0)
        index.chmod(0o600)
    else:
        assert log.stat().st_size > 0
    log.unlink()

    player = set_up.player(newcomer, 0o077)
    answer = player.do("acquire", "x", 0.0)
    if left_by == "a crash":
        assert isinstance(answer, float), answer  # who held it is dead
    else:
        assert answer["error"] == "AcquireConcurrencySlotTimeoutError", answer
    owner = set_up.database.stat().st_uid if newcomer == ROOT else newcomer.uid
    for file in (log, index):
        status = file.stat()
        assert (status.st_uid, status.st_gid) == (owner, GROUP)
        assert stat.S_IMODE(status.st_mode) == 0o660
    (player if left_by == "a crash" else holder).do("release")
    for one in (player, set_up.player(LOOSE_MEMBER), *([holder] * (left_by == "a cleaner"))):
        assert one.do("works") is None
    with contextlib.closing(sqlite3.connect(set_up.database)) as other:
        assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
