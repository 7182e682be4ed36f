"""Folders with the sticky bit, as /tmp and /run/lock: everybody works there, nobody is shut out."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest

from tests.helpers.needs import takes_root
from tests.helpers.waiting import until
from tests.intruders.player import ROOT, User
from tests.intruders.stage import (
    AT_ONCE_SECONDS,
    GROUNDS,
    STRANGER,
    Ground,
    Scene,
    hand_over,
)

pytestmark = [pytest.mark.processes, takes_root]
SetUp = Callable[[Ground], Scene]

FIRST = User(5010, 5010)
COLLEAGUE = User(5011, 5010)  # of the same primary group
STICKY = GROUNDS[3]


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
@pytest.mark.parametrize("founder", [FIRST, ROOT], ids=["a user first", "root first"])
def test_several_users_share(scene: SetUp, founder: User, umask: int) -> None:
    """They wait for each other and are woken, whoever they are and whoever came first."""
    set_up = scene(STICKY)
    users = {
        "founder": founder,
        "colleague": COLLEAGUE,
        "stranger": STRANGER,
        "root": ROOT,
        "user": FIRST,
    }
    players = {name: set_up.player(user, umask) for name, user in users.items()}
    assert players["founder"].do("create", "x") is None
    for one, other in itertools.permutations(players, 2):
        assert hand_over(players[one], players[other]) < AT_ONCE_SECONDS, (one, other)


@pytest.mark.parametrize("founder", [FIRST, ROOT], ids=["a user first", "root first"])
@pytest.mark.parametrize("other", [COLLEAGUE, STRANGER, ROOT], ids=str)
def test_a_killed_holder(scene: SetUp, founder: User, other: User) -> None:
    """Its slot is free for another user, who waits or comes later."""
    set_up = scene(STICKY)
    set_up.player(founder).do("create", "x")
    first, player = set_up.player(FIRST), set_up.player(other)
    first.do("acquire", "x")
    player.tell("acquire", "x")
    until(lambda: first.do("waiting", "x") == 1)
    first.kill()
    assert isinstance(player.answer(), float)
    player.do("release")
    first = set_up.player(FIRST)
    assert isinstance(first.do("acquire", "x", 5), float)
    first.kill()
    assert isinstance(player.do("acquire", "x", 5), float)


@pytest.mark.parametrize("ground", [GROUNDS[3], GROUNDS[2]], ids=str)
def test_doctor_says_what_it_means(scene: SetUp, ground: Ground) -> None:
    """Everybody may change limits there: a note that names the folder, and no fault."""
    set_up = scene(ground)
    first = set_up.player(FIRST)
    first.do("create", "x")
    for user in (FIRST, STRANGER, ROOT):
        status, out, errors = set_up.player(user).do("command", "doctor", "-o", "json")
        assert out, errors
        checks = json.loads(out)["checks"]
        assert [one for one in checks if one["status"] == "fault"] == []
        assert (status, errors) == (0, "")
        notes = [one["detail"] for one in checks if one["status"] == "note"]
        assert [one for one in notes if str(set_up.folder) in one], notes
