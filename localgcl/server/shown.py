"""What each client was shown and has written, for those that write back all that they have read."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from localgcl._base import clock

T = TypeVar("T")

_MAX_SHOWN = 10_000

# Others at a client's address may read between its reading and its writing back; what it was shown
# longer ago, it means.
_MAX_VALUES = 16
_SHOWN_SECONDS = 3600.0

# Who reads what it has written does so at once; whoever reads later asks about what is.
_WRITTEN_SECONDS = 60.0


class ReadCache:
    """Which slots in use each client was shown of late, and has written, of each limit.

    Some clients write back all that they have read, at times minutes later. That is no wish to
    take slots from their holders; and what such a client writes it expects to read next.
    """

    def __init__(self) -> None:
        self._shown: OrderedDict[tuple[str, str], dict[int, float]] = OrderedDict()
        self._written: OrderedDict[tuple[str, str], tuple[int, float]] = OrderedDict()

    def note(self, client: str, limit: str, slots: int) -> None:
        """Note what a client is shown."""
        values = self._shown.get((client, limit), {})
        values.pop(slots, None)
        values[slots] = clock.now()
        if len(values) > _MAX_VALUES:
            del values[next(iter(values))]
        _put(self._shown, (client, limit), values)

    def is_written_back(self, client: str, limit: str, slots: int) -> bool:
        """Whether a client only writes what it was shown of late."""
        shown_at = self._shown.get((client, limit), {}).get(slots)
        return shown_at is not None and clock.now() - shown_at < _SHOWN_SECONDS

    def write(self, client: str, limit: str, slots: int) -> None:
        """Note what a client has written, for its next reading."""
        _put(self._written, (client, limit), (slots, clock.now()))

    def read_once(self, client: str, limit: str) -> int | None:
        """Return what a client has just written, if it has not read it yet."""
        slots, written_at = self._written.pop((client, limit), (None, 0.0))
        return slots if clock.now() - written_at < _WRITTEN_SECONDS else None


def _put(known: OrderedDict[tuple[str, str], T], key: tuple[str, str], value: T) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > _MAX_SHOWN:
        known.popitem(last=False)
