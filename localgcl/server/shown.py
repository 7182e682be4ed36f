"""What each client was shown and has written, for clients that write back all they have read."""

from __future__ import annotations

from collections import OrderedDict
from typing import TypeVar

from localgcl._base import clock

T = TypeVar("T")

_MAX_SHOWN = 10_000

# Other clients at the same address may read between a client's reading and its writing back. A
# value that was shown longer ago counts as intended.
_MAX_VALUES = 16
_SHOWN_SECONDS = 3600.0

# A client that reads what it has written does so immediately. A later reading asks for the current
# value.
_WRITTEN_SECONDS = 60.0


class ReadCache:
    """Which slots in use each client was shown recently, and has written, of each limit.

    Some clients write back all that they have read, sometimes minutes later. They do not mean to
    take slots from their holders by that. And they expect to read next what they have written.
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
        """Whether a client only writes back what it was shown recently."""
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
