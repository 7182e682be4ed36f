"""Which file the write-ahead log beside a database belongs to, by a note in the gate.

The note has the device and inode of the database and, if it has a log, those of the log and of the
log's index, -shm.
"""

from __future__ import annotations

import contextlib
import os

from localgcl._storage.location import identity_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from localgcl._liveness.directory import Identity
    from localgcl._storage.gate import Gate

COMPANIONS = ("-wal", "-shm")


def drop_stale_log(gate: Gate, real: str, identity: Identity) -> bool:
    """Unlink a write-ahead log that belongs to another file than the present one.

    A process that has the other file open goes on in its log, and would keep everybody else out of
    this file. The log must not be replayed into a backup that has replaced the file either. If only
    the log was replaced, its index is dropped: SQLite would read the new log by the index of the
    old one for as long as somebody has that open. Return whether the gate's note is about this very
    file.
    """
    log, index = (identity_of(real + suffix) for suffix in COMPANIONS)
    noted = gate.note().split()
    replaced = noted[:2] != _words(identity)
    if log is not None and replaced and noted[2:4] == _words(log):
        remove(real + suffix for suffix in COMPANIONS)
    elif log and index and noted[2:4] != _words(log) and noted[4:] == _words(index):
        remove([f"{real}-shm"])
    if replaced:
        # Immediately: the new log may get the inode number of the old one.
        gate.write_note(" ".join(_words(identity)))
    return not replaced


def note_log(gate: Gate, real: str, identity: Identity) -> None:
    """Note in the gate which file the log belongs to."""
    if identity_of(real) != identity:
        return  # replaced by now, and the log is the other file's
    companions = (identity_of(real + suffix) for suffix in COMPANIONS)
    note = " ".join([*_words(identity), *(word for one in companions for word in _words(one))])
    if gate.note() != note:
        gate.write_note(note)


def remove(names: Iterable[str]) -> None:
    """Unlink those of these files that exist."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _words(identity: Identity | None) -> list[str]:
    return [str(number) for number in identity or ()]
