"""Whose the run folder may be: root's, that of the database's owner, or the user's own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from tests.helpers.needs import takes_root
from tests.intruders.player import ROOT, User
from tests.intruders.stage import COLLEAGUE, GROUNDS, LOOSE_COLLEAGUE, MEMBER, Ground, Scene

pytestmark = [pytest.mark.processes, takes_root]
SetUp = Callable[[Ground], Scene]


def look(folder: os.PathLike[str]) -> list[tuple[object, ...]]:
    """Return what is known of a folder and of what lies in it."""
    found = []
    for path in (os.fspath(folder), *(one.path for one in os.scandir(folder))):
        status = os.lstat(path)
        found.append((path, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns))
    return sorted(found)


@pytest.mark.parametrize("gate", ["a gate of its own", "the gate of the database"])
@pytest.mark.parametrize("caller", ["root", "a colleague"])
@pytest.mark.parametrize("ground", GROUNDS[:3], ids=str)
def test_of_another_member(scene: SetUp, ground: Ground, caller: str, gate: str) -> None:
    """It is refused, and nothing in it is touched, even if the gate was moved into it."""
    set_up = scene(ground)
    founder, intruder = set_up.player(ROOT), set_up.player(ground.intruder)
    founder.do("create", "x")
    founder.do("close")
    assert set_up.put(intruder, "directory", set_up.run) is not None
    names = {"gate": "file", "create.lock": "file", "0123456789abcdef" * 2: "FIFO", "other": "file"}
    for name, kind in names.items():
        assert set_up.put(intruder, kind, set_up.run / name) is not None
    if gate == "the gate of the database":
        (former,) = set_up.folder.glob("*-run.*/gate")
        former.rename(set_up.run / "gate")
    before = look(set_up.run)

    colleague = LOOSE_COLLEAGUE if ground.mode == 0o770 else COLLEAGUE
    user = set_up.player(ROOT if caller == "root" else colleague)
    outcomes = user.do("uses")
    assert look(set_up.run) == before
    refused = [one for one in outcomes if one != "done"]
    assert len(refused) >= 4, outcomes  # all that read or write
    for one in refused:
        assert one.startswith("DatabaseError: "), one
        assert str(set_up.run) in one
    set_up.remove(set_up.run)
    assert founder.do("works") is None


@pytest.mark.parametrize("owner", [ROOT, MEMBER, COLLEAGUE], ids=["root", "database", "user"])
def test_of_somebody_who_is_trusted(scene: SetUp, owner: User) -> None:
    """Members use a run folder of root's, of the owner of the database, and of their own."""
    set_up = scene(GROUNDS[0])
    founder, user = set_up.player(MEMBER), set_up.player(COLLEAGUE)
    founder.do("create", "x")
    founder.do("close")
    os.chown(set_up.run, owner.uid, -1)
    assert user.do("works") is None


def test_that_of_another_database(scene: SetUp) -> None:
    """A link to it is refused: the limits of two databases are not behind one gate."""
    set_up, another = scene(GROUNDS[0]), scene(GROUNDS[0])
    root = set_up.player(ROOT)
    for one in (another, set_up):
        root.do("turn_to", str(one.database))
        root.do("create", "x")
        root.do("close")
    set_up.run.rename(set_up.folder / "away")
    set_up.run.symlink_to(another.run)
    os.lchown(set_up.run, GROUNDS[0].intruder.uid, -1)
    before = look(another.run)

    outcomes = root.do("uses")
    assert look(another.run) == before
    refused = [one for one in outcomes if one != "done"]
    assert len(refused) >= 4, outcomes  # all that read or write
    for one in refused:
        assert one.startswith("DatabaseError: "), one
        assert "a symbolic link and not a folder" in one
    set_up.run.unlink()
    assert root.do("works") is None


@pytest.mark.parametrize("what", ["the run folder", "the gate"])
@pytest.mark.parametrize("maker", [MEMBER, ROOT], ids=["the owner", "root"])
def test_only_the_trusted_make_it_again(scene: SetUp, what: str, maker: User) -> None:
    """A member would make one that others refuse: it is told who can, and goes on after that."""
    set_up = scene(GROUNDS[0])
    founder, other = set_up.player(MEMBER), set_up.player(COLLEAGUE)
    founder.do("create", "x")
    founder.do("close")
    if what == "the gate":
        (set_up.run / "gate").unlink()
    else:
        shutil.rmtree(set_up.run)

    refused = [one for one in other.do("uses") if one != "done"]
    assert len(refused) >= 4  # all that read or write
    for one in refused:
        assert one.startswith("DatabaseError: "), one
        assert f"is missing, and only {MEMBER.uid} or root can make it" in one
    assert not (set_up.run / "gate").exists()
    assert set_up.player(maker).do("works") is None
    assert other.do("works") is None


@pytest.mark.parametrize("ground", [GROUNDS[0], GROUNDS[-1]], ids=str)
def test_a_private_folder_of_roots_in_its_place(scene: SetUp, ground: Ground) -> None:
    """It may have been moved there, and is root's own: it is given to nobody."""
    set_up = scene(ground)
    root = set_up.player(ROOT)
    root.do("create", "x")
    root.do("close")
    set_up.run.rename(set_up.folder / "former")
    set_up.run.mkdir(mode=0o700)
    (set_up.run / "secret").write_text("secret")
    before = look(set_up.run), set_up.run.stat()[:6]
    for one in root.do("uses"):
        assert one == "done" or one.startswith("DatabaseError: "), one
    assert (look(set_up.run), set_up.run.stat()[:6]) == before


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_in_a_folder_above(scene: SetUp, is_there: bool) -> None:
    """Nothing is made where the link of another user leads to."""
    set_up = scene(GROUNDS[0])
    private = set_up.folder.parent / "private-of-root"
    if is_there:
        private.mkdir(mode=0o700)
    link = set_up.folder / "sub"
    link.symlink_to(private)
    os.chown(link, MEMBER.uid, -1, follow_symlinks=False)
    root = set_up.player(ROOT)
    root.do("turn_to", str(link / "limits.db"))
    outcomes = root.do("uses")
    refused = [one for one in outcomes if one != "done"]
    assert refused
    assert all(one.startswith("DatabaseError: ") and str(link) in one for one in refused)
    assert private.exists() is is_there
    assert not is_there or list(private.iterdir()) == []
