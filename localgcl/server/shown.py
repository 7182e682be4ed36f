"""What each client was shown and has written, for those that write back all that they have read."""

from __future__ import annotations

from collections import OrderedDict

_MAX_SHOWN = 10_000


class Shown:
    """Which slots in use each client was last shown, and has written, of each limit.

    Some clients write back all that they have read, at times minutes later. That is no wish to
    take slots from their holders; and what such a client writes it expects to read next.
    """

    def __init__(self) -> None:
        self._shown: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._written: OrderedDict[tuple[str, str], int] = OrderedDict()

    def note(self, client: str, limit: str, slots: int) -> None:
        """Note what a client is shown."""
        _put(self._shown, (client, limit), slots)

    def is_written_back(self, client: str, limit: str, slots: int) -> bool:
        """Whether a client only writes what it was shown last."""
        return self._shown.get((client, limit)) == slots

    def write(self, client: str, limit: str, slots: int) -> None:
        """Note what a client has written, for its next reading."""
        _put(self._written, (client, limit), slots)

    def read_once(self, client: str, limit: str) -> int | None:
        """Return what a client has written since it last read, once."""
        return self._written.pop((client, limit), None)


def _put(known: OrderedDict[tuple[str, str], int], key: tuple[str, str], slots: int) -> None:
    known[key] = slots
    known.move_to_end(key)
    while len(known) > _MAX_SHOWN:
        known.popitem(last=False)
