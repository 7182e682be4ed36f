"""A rollback journal that somebody has planted: SQLite plays it back, and removes what it names.

See "super-journal" in https://sqlite.org/fileformat2.html#the_rollback_journal: the last record of
a journal names a file, which SQLite unlinks once the journal is played back.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable

import pytest

from tests.helpers.needs import takes_root
from tests.intruders.player import ALLOWED, ROOT
from tests.intruders.stage import GROUNDS, Ground, Scene

pytestmark = [pytest.mark.processes, takes_root]

_MAGIC = bytes.fromhex("d9d505f920a163d7")
_SECTOR = 512


def hot_journal(names: str, pages: int, page_size: int) -> bytes:
    """Return a journal without a single page, whose playback leaves a database as it is."""
    header = _MAGIC + struct.pack(">5L", 0, 0, pages, _SECTOR, page_size)
    name = names.encode()
    locked_page = 0x40000000 // page_size + 1
    last = struct.pack(">L", locked_page) + name + struct.pack(">2L", len(name), sum(name)) + _MAGIC
    return header.ljust(_SECTOR, b"\0") + last


@pytest.mark.parametrize("ground", GROUNDS, ids=str)
def test_a_file_that_a_journal_names(scene: Callable[[Ground], Scene], ground: Ground) -> None:
    """It stays, and once the journal is gone, everything works."""
    set_up = scene(ground)
    founder, root = set_up.player(ground.founder), set_up.player(ROOT)
    founder.do("create", "x")
    founder.do("close")
    content = set_up.database.read_bytes()
    page_size = int.from_bytes(content[16:18], "big")
    planted = hot_journal(str(set_up.private.path / "secret"), len(content) // page_size, page_size)
    (set_up.mine / "entry").write_bytes(planted)
    os.chown(set_up.mine / "entry", ground.intruder.uid, ground.intruder.gid)
    journal = set_up.folder / "limits.db-journal"
    intruder = set_up.player(ground.intruder)
    assert intruder.do("put", "laid at hand", str(journal), str(set_up.mine), "")

    outcomes = root.do("uses")
    assert set_up.private.changes() == {}
    assert [one for one in outcomes if not one.startswith(ALLOWED)] == []
    set_up.remove(journal)
    assert root.do("works") is None
