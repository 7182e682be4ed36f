"""What an intruder puts in the place of what is localgcl's while root's call is under way.

First at each single step of a call, one after another: whichever moment there is to be hit, it is
hit. Then by another process, as fast as it can. Hard links to files of root's and device nodes are
only put where localgcl itself opens: nobody can make them today, and SQLite opens its files by
name.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.helpers.needs import takes_root
from tests.intruders.player import ALLOWED, DEADLINE_SECONDS, LAID_AT_HAND, ROOT
from tests.intruders.stage import GROUNDS, Ground, Player, Scene

pytestmark = [pytest.mark.processes, takes_root]
SetUp = Callable[[Ground], Scene]

# Where, and the worst that can be put there.
STEPS = {
    "limits.db": ("symlink, empty", "dangling"),
    "limits.db-wal": ("symlink",),
    "limits.db-shm": ("symlink",),
    "limits.db-journal": ("symlink",),
    "limits.db-run": ("symlink to a folder",),
    "limits.db-run/gate": ("symlink", "hard link"),
    "limits.db-run/create.lock": ("symlink",),
    "limits.db-run/LIFELINE": ("symlink", "hard link to a FIFO", "device"),
    # Under the names that new files have before they are given their own.
    "limits.db-run*/NEW": ("symlink",),
    "NEW": ("symlink",),
}
CASES = [(place, kind) for place, kinds in STEPS.items() for kind in kinds]


@pytest.mark.parametrize(("place", "kind"), CASES)
def test_at_each_step_of_a_call(scene: SetUp, place: str, kind: str) -> None:
    """Root makes a database and uses it; before one of its steps, an entry is swapped in."""
    check_each_step(scene, place, kind, lambda *_: None)


@pytest.mark.parametrize("place", ["limits.db-run/gate", "limits.db-wal"])
def test_at_each_step_of_a_correction(scene: SetUp, place: str) -> None:
    """Root corrects the mode of what is there; no link has it change that of something else."""

    def leave(set_up: Scene, root: Player) -> None:
        root.do("create", "x")
        root.do("close")
        log = set_up.folder / "limits.db-wal"
        log.touch()
        os.chown(log, 0, set_up.folder.stat().st_gid)
        for path in (log, set_up.run / "gate"):
            path.chmod(0o600)

    check_each_step(scene, place, "symlink", leave)


def check_each_step(
    scene: SetUp, place: str, kind: str, prepare: Callable[[Scene, Player], object]
) -> None:
    """Swap an entry in before one step of root's, each time before the next one."""
    ground = GROUNDS[0]
    root = scene(ground).player(ROOT)
    wrong: dict[str, object] = {}
    step, steps, put = 1, 1, 0
    while step <= steps:
        set_up = scene(ground)
        set_up.prepare(kind)
        root.do("turn_to", str(set_up.database))
        prepare(set_up, root)
        there, mine, private = set_up.folder / place, set_up.mine, set_up.private.path
        with set_up.private.watched() as was_opened:
            steps, done, outcomes = root.do(
                "uses_while_swapped", step, kind, *map(str, (there, mine, private)), ground.intruder
            )
            # A hard link has to be opened before anything tells that it is one.
            followed = kind == "symlink" and was_opened()
        put += bool(done and done[-1])
        changes = set_up.private.changes()
        foreign = [one for one in outcomes if not one.startswith(ALLOWED)]
        if changes or foreign or followed:
            wrong[f"step {step}, before {done}"] = (changes, foreign, followed)
        step += 1
    assert put or place.endswith("NEW"), "the intruder never had a chance"
    assert wrong == {}


SECONDS = 0.25
BY_NAME = ("symlink", "dangling", "symlink to a folder", "directory", "socket", "file")
LOOPS = {
    # No FIFO in these four: what SQLite cannot open for writing it opens for reading, and if a FIFO
    # is there by then, it waits for a writer. `test_planted` has FIFOs that lie there. Whoever may
    # write there can keep everybody waiting in any case, by the gate.
    "limits.db": (*BY_NAME, "symlink, empty"),
    "limits.db-wal": BY_NAME,
    "limits.db-shm": BY_NAME,
    "limits.db-journal": BY_NAME,
    "limits.db-run": (*BY_NAME, "FIFO"),
    "limits.db-run/gate": (*BY_NAME, "FIFO", *LAID_AT_HAND),
    "limits.db-run/create.lock": (*BY_NAME, "FIFO", *LAID_AT_HAND),
    "limits.db-run/[0-9a-f]{32}": (*BY_NAME, "FIFO", *LAID_AT_HAND),
    "limits.db-run/[0-9a-f]{32}[.].*": (*BY_NAME, "FIFO", *LAID_AT_HAND),
}


@pytest.mark.parametrize("place", LOOPS)
@pytest.mark.parametrize("ground", GROUNDS, ids=str)
def test_in_a_tight_loop(scene: SetUp, ground: Ground, place: str) -> None:
    """Another process swaps every kind of entry in, while root uses the database all the time."""
    set_up = scene(ground)
    kinds = LOOPS[place]
    set_up.lay_stock(kind for kind in kinds if kind in LAID_AT_HAND)
    founder = set_up.player(ground.founder)
    founder.do("create", "x")
    founder.do("close")
    intruder, root = set_up.player(ground.intruder), set_up.player(ROOT)
    there, mine, private = set_up.folder / place, set_up.mine, set_up.private.path
    intruder.tell("swap", kinds, *map(str, (there, mine, private)))
    root.tell("uses_often", SECONDS, place == "limits.db-run/create.lock")
    outcomes = root.answer(SECONDS + DEADLINE_SECONDS)
    assert not intruder.has_answered(), intruder.answer()
    intruder.kill()

    assert set_up.private.changes() == {}
    assert [one for one in outcomes if not one.startswith(ALLOWED)] == []
    set_up.remove_all()
    assert root.do("works") is None
    assert set_up.private.changes() == {}
