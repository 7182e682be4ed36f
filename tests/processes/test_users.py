"""Root and another user at one database, in a folder that belongs to a group of both."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localgcl import Limiter
from tests.helpers.actors import Actor
from tests.helpers.users import umask_of
from tests.helpers.waiting import until

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.geteuid() != 0, reason="two users take root: run these tests as root"),
]
Start = Callable[..., Actor]

ROOT = ()
NOBODY = (65534, 65534)


@pytest.fixture
def path() -> Iterator[Path]:
    """A database in a folder of a group, which every user can reach."""
    folder = Path(tempfile.mkdtemp())
    os.chown(folder, 0, NOBODY[1])
    folder.chmod(0o2770)
    yield folder / "limits.db"
    shutil.rmtree(folder)


def files_of(path: Path) -> list[os.stat_result]:
    """Return what is known of the files beside the database and in its run folder."""
    folder = path.parent
    return [one.stat() for one in [*folder.iterdir(), *Path(f"{path}-run").iterdir()]]


@pytest.mark.parametrize("mask", [0o077, 0o022])
@pytest.mark.parametrize(("first", "second"), [(ROOT, NOBODY), (NOBODY, ROOT)], ids=str)
def test_users_hand_slots_to_each_other(
    actor: Start, path: Path, first: tuple[int, ...], second: tuple[int, ...], mask: int
) -> None:
    """Whoever comes first, they wait for each other, wake each other and see each other die."""
    with umask_of(mask):
        one = actor(*first)
        assert one.do("create", "a", 1) is None
        assert isinstance(one.do("acquire", ["a"]), str)
        other = actor(*second)
    for status in files_of(path):
        assert status.st_gid == NOBODY[1]
        assert stat.S_IMODE(status.st_mode) & 0o077 in (0o060, 0o070)

    limiter = Limiter(path)
    for holder, waiter in ((one, other), (other, one)):
        waiter.tell("acquire", ["a"])
        until(lambda: len(limiter.waiters("a")) == 1)
        holder.do("release")
        assert isinstance(waiter.answer(), str)
    assert [holder.user for holder in limiter.holders("a")] == ["nobody" if first else "root"]

    other.tell("acquire", ["a"])
    until(lambda: len(limiter.waiters("a")) == 1)
    one.kill()
    assert isinstance(other.answer(), str)
    limiter.close()
