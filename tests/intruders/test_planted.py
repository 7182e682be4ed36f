"""What somebody who may write in the folder has put in the place of what is localgcl's.

Root's next call touches nothing that is not localgcl's own, ends, and says what is wrong. With the
entry out of the way, everything works again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.intruders.player import LIFELINE, ROOT, WAKE_UP
from tests.intruders.stage import GROUNDS, Ground, Player, Scene, entry, until
from tests.needs import takes_root

pytestmark = [pytest.mark.processes, takes_root]
SetUp = Callable[[Ground], Scene]

KINDS = (
    "file",
    "symlink",
    "dangling",
    "symlink to a folder",
    "hard link",
    "hard link to a FIFO",
    "directory",
    "FIFO",
    "socket",
    "device",
)
MORE = ("loop", "symlink to a FIFO", "symlink, empty", "hard link, empty")
FILES = ("database", "-wal", "-shm", "-journal", "run folder")
INSIDE = ("gate", "create.lock", "lifeline", "wake-up FIFO")
ALLOWED = ("done", "DatabaseError: ", "AcquireConcurrencySlotTimeoutError: ")

by_kind_and_ground = pytest.mark.parametrize(
    ("ground", "kind"),
    [(ground, kind) for ground in GROUNDS for kind in KINDS] + [(GROUNDS[0], one) for one in MORE],
    ids=str,
)


def place_of(scene: Scene, name: str) -> Path:
    """Return where something of the database is."""
    if name == "database":
        return scene.database
    if name == "run folder":
        return scene.run
    return scene.run / name if name in ("gate", "create.lock") else Path(f"{scene.database}{name}")


def check_uses(scene: Scene, root: Player) -> list[str]:
    """Have root use the database: nothing of root's is touched, and errors are localgcl's."""
    outcomes: list[str] = root.do("uses")
    assert scene.private.changes() == {}
    assert [one for one in outcomes if not one.startswith(ALLOWED)] == []
    return outcomes


def check_commands(scene: Scene, root: Player) -> None:
    """The same for root's commands."""
    for command in (["ls"], ["doctor"], ["run", "--no-wait", "x", "true"]):
        status, _, errors = root.do("command", *command)
        assert scene.private.changes() == {}, command
        assert status in ((0, 1, 75) if command[0] == "run" else (0, 1)), (command, errors)
        assert "Traceback" not in errors
        if status == 1:
            assert errors.startswith("Error: "), (command, errors)
            assert errors.count("\n") == 1, (command, errors)


def check(scene: Scene, place: Path, kind: str, put: object, root: Player) -> None:
    """Check root's calls while the entry is there, and after it was taken away."""
    outcomes = check_uses(scene, root)
    if scene.ground == GROUNDS[0]:
        check_commands(scene, scene.player(ROOT))
    if put is None:  # whoever has the place could not be driven out
        assert outcomes == ["done"] * len(outcomes)
        return
    # SQLite by itself unlinks its log and its journal; a FIFO may be taken for a dead owner's.
    if kind not in ("file", "FIFO", "directory") and not place.name.endswith(
        ("-wal", "-shm", "-journal")
    ):
        is_fifo = kind == "hard link to a FIFO"
        assert entry(place) == put or (is_fifo and entry(place) is None)
    scene.remove(place)
    assert root.do("works") is None
    assert scene.private.changes() == {}


@by_kind_and_ground
@pytest.mark.parametrize("place", FILES)
def test_before_there_is_a_database(scene: SetUp, ground: Ground, place: str, kind: str) -> None:
    """The entry lies there before root makes the database."""
    set_up = scene(ground)
    there = place_of(set_up, place)
    put = set_up.put(set_up.player(ground.intruder), kind, there)
    assert put is not None
    check(set_up, there, kind, put, set_up.player(ROOT))


@by_kind_and_ground
@pytest.mark.parametrize("place", (*FILES, *INSIDE))
def test_while_nobody_uses_it(scene: SetUp, ground: Ground, place: str, kind: str) -> None:
    """The entry is put there after somebody was killed and everybody else has ended."""
    set_up = scene(ground)
    dead = set_up.player(ground.founder)
    dead.do("create", "x")
    dead.do("acquire", "x")
    dead.do("acquire", "x", 0.01)
    if place == "lifeline":
        there = set_up.run / set_up.names(LIFELINE)[0]
    elif place == "wake-up FIFO":
        there = set_up.run / set_up.names(WAKE_UP)[0]
    else:
        there = place_of(set_up, place)
    dead.kill()
    if place == "create.lock":
        set_up.database.unlink()  # or else nobody wants it
    put = set_up.put(set_up.player(ground.intruder), kind, there)
    assert put is not None or place in INSIDE
    check(set_up, there, kind, put, set_up.player(ROOT))


OF_ROOT = ("root's lifeline", "root's wake-up FIFO")
OF_ANOTHER = ("another's lifeline", "another's wake-up FIFO")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", (*FILES, "gate", "create.lock", *OF_ROOT, *OF_ANOTHER))
@pytest.mark.parametrize("ground", [GROUNDS[0], GROUNDS[-1]], ids=str)
def test_while_it_is_used(scene: SetUp, ground: Ground, place: str, kind: str) -> None:
    """The entry is put there between two calls of root's process, which holds a slot.

    Another one waits for that slot, and root has waited for one of the other's.
    """
    set_up = scene(ground)
    root, other = set_up.player(ROOT), set_up.player(ground.intruder)
    if ground.founder == ROOT:
        root.do("create", "x")
    else:
        other.do("create", "x")
    root.do("create", "y")
    root.do("acquire", "y")
    roots = set_up.names(LIFELINE)
    other.do("acquire", "x")
    assert root.do("acquire", "x", 0.01)["error"] == "AcquireConcurrencySlotTimeoutError"
    roots_ears = set_up.names(WAKE_UP)
    other.tell("acquire", "y")
    until(lambda: root.do("waiting", "y") == 1)
    others = [name for name in set_up.names(LIFELINE) if name not in roots]
    others_ears = [name for name in set_up.names(WAKE_UP) if name not in roots_ears]
    named = {
        "root's lifeline": roots,
        "root's wake-up FIFO": roots_ears,
        "another's lifeline": others,
        "another's wake-up FIFO": others_ears,
    }
    there = set_up.run / named[place][0] if place in named else place_of(set_up, place)
    put = set_up.put(set_up.player(ground.intruder), kind, there)
    assert put is not None or there.parent == set_up.run
    check_uses(set_up, root)
    other.kill()
    check(set_up, there, kind, put, root)
