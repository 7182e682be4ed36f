"""Connections of clients: how many there may be, and which one is dropped for another.

A connection is a stranger until one whole request on it was admitted, and again while a further
request has arrived only in part. Strangers have a share of their own. However many of them connect
and say nothing, the rest is left to clients that are admitted.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from starlette.types import Scope

STATE_KEY = "localgcl.connection"  # the key of the connection in a scope's state

# The part of all possible connections that strangers may have.
_STRANGERS_PART = 5


class Share:
    """At most `most` at once, and at most `most_each` of them for one client."""

    def __init__(self, most: int, most_each: int) -> None:
        self.most = most
        self.most_each = most_each
        self._counts: Counter[Hashable] = Counter()

    def enter(self, client: Hashable) -> bool:
        """Count one more for a client, if there is room; return whether there was."""
        if self._counts.total() >= self.most or self._counts[client] >= self.most_each:
            return False
        self._counts[client] += 1
        return True

    def leave(self, client: Hashable) -> None:
        """Count one less."""
        self._counts[client] -= 1
        if not self._counts[client]:
            del self._counts[client]


class Connection:
    """One connection: how far its client has come, and what is kept for it."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._abort: Callable[[], None] | None = None
        self.is_open = True
        self.is_admitted = False
        self.is_whole = True  # no request has arrived only in part
        self.is_answering = False
        # The places in the queue that are kept for it, the oldest first.
        self.places: OrderedDict[Any, None] = OrderedDict()

    def made(self, abort: Callable[[], None]) -> None:
        """Note how to drop it; it may have been dropped while it was made."""
        self._abort = abort
        if not self.is_open:
            abort()

    def admit(self) -> None:
        """Count it among the admitted connections."""
        self.is_admitted = True
        self._connections.sort(self)

    def tell(self, *, is_whole: bool, is_answering: bool) -> None:
        """Note how far its request has come."""
        self.is_whole, self.is_answering = is_whole, is_answering
        self._connections.sort(self)

    def drop(self) -> None:
        """Hang up on it."""
        self.lost()
        if self._abort is not None:
            self._abort()

    def lost(self) -> None:
        """Note that it is closed."""
        self.is_open = False
        self._connections.remove(self)


class Connections:
    """All connections of a server, which are no more than `most`."""

    def __init__(self, most: int) -> None:
        self.most_strangers = max(1, most // _STRANGERS_PART)
        self.most_admitted = max(1, most - self.most_strangers)
        # Both in the order in which they came or last asked for something.
        self._strangers: OrderedDict[Connection, None] = OrderedDict()
        self._admitted: OrderedDict[Connection, None] = OrderedDict()
        self.on_room: Callable[[], None] | None = None  # called once, when one more may come

    def add(self) -> Connection:
        """Return a new connection; if there is no room, the oldest silent stranger is dropped.

        Accept nobody while it `is_full`.
        """
        while len(self._strangers) >= self.most_strangers:
            silent = _first_idle(self._strangers)
            if silent is None:
                break
            silent.drop()
        connection = Connection(self)
        self._strangers[connection] = None
        return connection

    @property
    def is_full(self) -> bool:
        """Whether there is no room, and no connection that could be dropped."""
        return len(self._strangers) >= self.most_strangers and _first_idle(self._strangers) is None

    def remove(self, connection: Connection) -> None:
        """Stop counting a connection."""
        self._strangers.pop(connection, None)
        self._admitted.pop(connection, None)
        self._tell_of_room()

    def sort(self, connection: Connection) -> None:
        """Count a connection in the share where it belongs now."""
        if not connection.is_open:
            return
        if not (connection.is_admitted and connection.is_whole):
            if connection in self._admitted:
                del self._admitted[connection]
                self._strangers[connection] = None
                if len(self._strangers) > self.most_strangers:
                    (_first_idle(self._strangers) or connection).drop()
        elif connection in self._admitted:
            self._admitted.move_to_end(connection)
        elif self._has_room_for_admitted():
            self._strangers.pop(connection)
            self._admitted[connection] = None
        # Otherwise it is answered as a stranger, and nobody can have its room until that is done.
        if not connection.is_answering:
            self._tell_of_room()

    def _has_room_for_admitted(self) -> bool:
        if len(self._admitted) < self.most_admitted:
            return True
        # A client with a kept place can take it up again on another connection.
        idle = _first_idle(one for one in self._admitted if not one.places)
        idle = idle or _first_idle(self._admitted)
        if idle is None:
            return False
        idle.drop()
        return True

    def _tell_of_room(self) -> None:
        told, self.on_room = self.on_room, None
        if told is not None:
            told()


def _first_idle(connections: Iterable[Connection]) -> Connection | None:
    return next((one for one in connections if not one.is_answering), None)


def connection_of(scope: Scope) -> Connection:
    """Return the connection on which a request came."""
    connection: Connection = scope["state"][STATE_KEY]
    return connection
