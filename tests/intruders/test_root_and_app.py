"""Root's jobs and an application share one file, in the application's own folder."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.needs import takes_root
from tests.helpers.waiting import until
from tests.intruders.player import ROOT, User
from tests.intruders.stage import (
    APP,
    AT_ONCE_SECONDS,
    GROUNDS,
    Ground,
    Player,
    Scene,
    everything,
    hand_over,
    use,
)

pytestmark = [pytest.mark.processes, takes_root]
SetUp = Callable[[Ground], Scene]

FOLDER = GROUNDS[4]

both_first = pytest.mark.parametrize("first", [ROOT, APP], ids=["root first", "app first"])
both_umasks = pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)


def pair(scene: Scene, first: User, umask: int) -> tuple[Player, Player]:
    """Return root and the application, of whom one has made the database."""
    root, app = scene.player(ROOT, umask), scene.player(APP, umask)
    (root if first == ROOT else app).do("create", "x")
    return root, app


@both_umasks
@pytest.mark.parametrize("first", [ROOT, APP], ids=["root first", "app first"])
def test_what_root_makes_is_the_owners(scene: SetUp, first: User, umask: int) -> None:
    """The database, what is beside it, the run folder and the FIFOs, as SQLite has it."""
    set_up = scene(FOLDER)
    maker = set_up.player(first, umask)
    maker.do("create", "y")
    maker.do("close")
    use(set_up, ROOT, umask)
    wrong = {one.name: one.stat().st_uid for one in everything(set_up)}
    assert {name: uid for name, uid in wrong.items() if uid != APP.uid} == {}


@both_umasks
@both_first
def test_they_wake_each_other(scene: SetUp, first: User, umask: int) -> None:
    """Whoever of them waits is woken when the other one releases."""
    root, app = pair(scene(FOLDER), first, umask)
    for _ in range(2):
        assert hand_over(root, app) < AT_ONCE_SECONDS
        assert hand_over(app, root) < AT_ONCE_SECONDS


@both_first
@pytest.mark.parametrize("killed", [ROOT, APP], ids=["root killed", "app killed"])
def test_a_slot_of_the_dead_comes_back(scene: SetUp, first: User, killed: User) -> None:
    """The other one gets it: at once where it waits, and where it comes later."""
    set_up = scene(FOLDER)
    for player in pair(set_up, first, 0o022):
        player.do("close")
    one = set_up.player(killed)
    other = set_up.player(APP if killed == ROOT else ROOT)
    one.do("acquire", "x")
    other.tell("acquire", "x")
    until(lambda: one.do("waiting", "x") == 1)
    one.kill()
    assert isinstance(other.answer(), float)
    other.do("release")

    one = set_up.player(killed)
    assert isinstance(one.do("acquire", "x", 5), float)
    one.kill()
    assert isinstance(other.do("acquire", "x", 5), float)
