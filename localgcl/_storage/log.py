"""Whose the write-ahead log beside a database is, by a note in the gate.

The note has the device and inode of the database and, where it has one, those of its log.
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
    """Unlink a write-ahead log that was another file's than the one that is there now.

    A process that has the other file open goes on in its log, and would keep everybody else out of
    this file; and what is in there must not be replayed into a backup put in its place. Return
    whether the gate tells of this very file.
    """
    log = identity_of(f"{real}-wal")
    noted = gate.note().split()
    replaced = noted[:2] != _words(identity)
    if log is not None and replaced and noted[2:] == _words(log):
        remove(real + suffix for suffix in COMPANIONS)
    if replaced:
        # At once: the new log may be given the number of the old one.
        gate.write_note(" ".join(_words(identity)))
    return not replaced


def note_log(gate: Gate, real: str, identity: Identity) -> None:
    """Note at the gate which log is whose."""
    if identity_of(real) != identity:
        return  # replaced by now, and the log is the other's
    log = identity_of(f"{real}-wal")
    note = " ".join([*_words(identity), *_words(log)])
    if gate.note() != note:
        gate.write_note(note)


def remove(names: Iterable[str]) -> None:
    """Unlink what is there of these files."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _words(identity: Identity | None) -> list[str]:
    return [str(number) for number in identity or ()]
