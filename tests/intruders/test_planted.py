"""What somebody who may write in the folder has put in the place of what is localgcl's.

Root's next call touches nothing that is not localgcl's own, ends, and says what is wrong. With the
entry out of the way, everything works again. Each test tries every kind of entry in one place.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.needs import takes_root
from tests.helpers.waiting import until
from tests.intruders.player import ALLOWED, LIFELINE, ROOT, WAKE_UP
from tests.intruders.stage import GROUNDS, Ground, Player, Scene, entry

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

by_ground = pytest.mark.parametrize("ground", GROUNDS, ids=str)


class Attempt:
    """One kind of entry in one place; root and the intruder outlive it, unless it goes wrong."""

    def __init__(
        self, scene: Scene, kind: str, root: Player, intruder: Player, founder: Player
    ) -> None:
        self.scene = scene
        self.kind = kind
        self.root = root
        self.intruder = intruder
        self.founder = founder
        self.root.do("turn_to", str(scene.database))

    def place(self, name: str) -> Path:
        """Return where something of the database is."""
        scene = self.scene
        if name == "database":
            return scene.database
        if name == "run folder":
            return scene.run
        if name in ("gate", "create.lock"):
            return scene.run / name
        return Path(f"{scene.database}{name}")

    def check(self, place: Path, *, may_be_barred: bool) -> None:
        """Put the entry there; check root's calls while it is there, and once it is gone."""
        put = self.scene.put(self.intruder, self.kind, place)
        assert put is not None or may_be_barred
        outcomes = self.check_uses()
        if self.scene.ground == GROUNDS[0]:
            self.check_commands()
        if put is None:  # whoever has the place could not be driven out
            assert outcomes == ["done"] * len(outcomes)
            return
        self.check_entry(place, put)
        self.scene.remove(place)
        assert self.root.do("works") is None
        assert self.scene.private.changes() == {}

    def check_uses(self) -> list[str]:
        """Have root use it: nothing of root's is touched, and errors are localgcl's."""
        outcomes: list[str] = self.root.do("uses")
        assert self.scene.private.changes() == {}
        assert [one for one in outcomes if not one.startswith(ALLOWED)] == []
        return outcomes

    def check_commands(self) -> None:
        """The same for root's commands, which end with one line at the most."""
        for command in (["ls"], ["doctor"], ["run", "--no-wait", "x", "true"]):
            status, _, errors = self.root.do("command", *command)
            assert self.scene.private.changes() == {}, command
            assert status in ((0, 1, 75) if command[0] == "run" else (0, 1)), (command, errors)
            assert "Traceback" not in errors
            if status == 1:
                assert errors.startswith("Error: "), (command, errors)
                assert errors.count("\n") == 1, (command, errors)

    def check_entry(self, place: Path, put: tuple[object, ...]) -> None:
        """Nothing but a FIFO of localgcl's own name may be removed, nothing foreign changed."""
        # SQLite unlinks its log and its journal by itself.
        if self.kind in ("file", "directory") or place.name.endswith(("-wal", "-shm", "-journal")):
            return
        is_fifo = self.kind in ("FIFO", "hard link to a FIFO")
        if is_fifo and place.parent == self.scene.run:
            return
        # It may be out of the way, together with its folder.
        assert entry(place) == put or put in [entry(one) for one in self.scene.folder.glob("*/*")]


def wrong_in(scene: SetUp, ground: Ground, attempt: Callable[[Attempt], None]) -> dict[str, str]:
    """Try each kind of entry; return what went wrong with which."""
    wrong: dict[str, str] = {}
    first = scene(ground)
    root = first.player(ROOT)
    intruder, founder = first.player(ground.intruder), first.player(ground.founder)
    for kind in KINDS + (MORE if ground == GROUNDS[0] else ()):
        try:
            attempt(Attempt(scene(ground), kind, root, intruder, founder))
        except AssertionError as error:
            wrong[kind] = str(error)[:600]
            root.kill()
            root = first.player(ROOT)
    return wrong


@pytest.mark.parametrize("place", FILES)
@by_ground
def test_before_there_is_a_database(scene: SetUp, ground: Ground, place: str) -> None:
    """The entry lies there before root makes the database."""

    def attempt(one: Attempt) -> None:
        one.check(one.place(place), may_be_barred=False)

    assert wrong_in(scene, ground, attempt) == {}


@pytest.mark.parametrize("place", [*FILES, *INSIDE])
@by_ground
def test_while_nobody_uses_it(scene: SetUp, ground: Ground, place: str) -> None:
    """The entry is put there after somebody was killed and everybody else has ended."""

    def attempt(one: Attempt) -> None:
        set_up = one.scene
        if place in ("lifeline", "wake-up FIFO"):
            there = set_up.run / leave_dead(set_up)[place]
        else:
            there = one.place(place)
            one.founder.do("turn_to", str(set_up.database))
            one.founder.do("create", "x")
            one.founder.do("close")
        if place == "create.lock":
            set_up.database.unlink()  # or else nobody wants it
        one.check(there, may_be_barred=place in INSIDE)

    assert wrong_in(scene, ground, attempt) == {}


def leave_dead(scene: Scene) -> dict[str, str]:
    """Have somebody killed who holds a slot and has waited; return what is left in the folder."""
    dead = scene.player(scene.ground.founder)
    dead.do("create", "x")
    dead.do("acquire", "x")
    dead.do("acquire", "x", 0.001)
    (lifeline,), (fifo,) = scene.names(LIFELINE), scene.names(WAKE_UP)
    dead.kill()
    return {"lifeline": lifeline, "wake-up FIFO": fifo}


OF_ROOT = ("root's lifeline", "root's wake-up FIFO")
OF_ANOTHER = ("another's lifeline", "another's wake-up FIFO")


@pytest.mark.parametrize(
    ("ground", "place"),
    [(GROUNDS[0], one) for one in (*FILES, "gate", "create.lock", *OF_ROOT, *OF_ANOTHER)]
    + [(GROUNDS[-1], one) for one in ("gate", *OF_ROOT, *OF_ANOTHER)],
    ids=str,
)
def test_while_it_is_used(scene: SetUp, ground: Ground, place: str) -> None:
    """The entry is put there between two calls of root's process, which holds a slot.

    Another one waits for that slot, and root has waited for one of the other's.
    """

    def attempt(one: Attempt) -> None:
        set_up = one.scene
        root, other = one.root, set_up.player(ground.intruder)
        (root if ground.founder == ROOT else other).do("create", "x")
        root.do("create", "y")
        root.do("acquire", "y")
        (roots,) = set_up.names(LIFELINE)
        other.do("acquire", "x")
        assert root.do("acquire", "x", 0.001)["error"] == "AcquireConcurrencySlotTimeoutError"
        (roots_fifo,) = set_up.names(WAKE_UP)
        other.tell("acquire", "y")
        until(lambda: root.do("waiting", "y") == 1)
        there = one.place(place)
        if place in OF_ROOT:
            there = set_up.run / (roots if place == OF_ROOT[0] else roots_fifo)
        elif place in OF_ANOTHER:
            names = set_up.names(LIFELINE if place == OF_ANOTHER[0] else WAKE_UP)
            there = set_up.run / next(name for name in names if name not in (roots, roots_fifo))
        put = set_up.put(one.intruder, one.kind, there)
        assert put is not None or there.parent == set_up.run
        one.check_uses()
        other.kill()
        if put is not None:
            one.check_entry(there, put)
            set_up.remove(there)
        assert root.do("works") is None
        assert set_up.private.changes() == {}

    assert wrong_in(scene, ground, attempt) == {}
