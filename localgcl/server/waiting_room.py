"""Clients that wait: in the real queue, while their connection is held open.

A client that is told to ask again keeps its place until it does. So no order is lost between two of
its requests. The place belongs to the connection on which the client was told, as long as that is
open: clients of one machine look alike, and only the connection distinguishes them. Once it is
closed, the place is for the next client that asks for the same in the same words. A client that
hangs up while its request is held leaves the queue. A grant that nobody comes for is undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import NamedTuple

from localgcl._base import clock
from localgcl._drivers.awaiting import grant
from localgcl._drivers.flow import Terms
from localgcl._drivers.sessions import session_of
from localgcl._engine import clients
from localgcl._storage.database import NoDatabaseError
from localgcl.server.connections import Connection, Share

# A first request is held no longer than Prefect's own first wait, since a client with max_retries
# counts each answer. Further requests are held well under the 60 s after which their client gives
# up.
FIRST_HOLD_SECONDS = 2.0
NEXT_HOLD_SECONDS = 25.0

# A server has only a limited number of connections (`serving`). At most this many of them are held
# at once, so that there is room for clients that renew a lease or give one back. A further request
# is held just long enough to be granted what is free, and its client is told to come again later
# than others.
MAX_HELD = 800
_HELD_PART = 2 / 5  # of the connections, of which there may be few

# The most places that are kept between two requests. A further client is told to come again, and is
# last in the queue when it does.
MAX_KEPT = 2000
MAX_KEPT_FOR_ONE = 1000
CROWDED_HOLD_SECONDS = 0.2
CROWDED_AGAIN_SECONDS = 2.0

# The shortest time that a client with a kept place is told to wait before it asks again; and how
# much later than that it may come.
AGAIN_SECONDS = 0.05
GRACE_SECONDS = 2.0

# A client that will hold slots, or waits for the end of a pause without an end, comes back at least
# this often, as with Prefect. A kept place may be
# granted slots before its turn was expected, and nobody else has them until its client comes.
LONGEST_KEPT_SECONDS = 30.0


class AgainError(Exception):
    """Not yet: the client has to ask again after `seconds`, for a place that is kept for it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(seconds)


class ClosingError(Exception):
    """The server is about to end."""


class GoneError(Exception):
    """The client has hung up."""


class Key(NamedTuple):
    """Who asks, and for what: equal for all that ask for the same in the same words."""

    client: Hashable
    words: bytes


class Place:
    """A request in the queue, which outlives the HTTP requests that ask for it."""

    def __init__(self, key: Key, terms: Terms, path: str) -> None:
        self.key = key
        self.terms = terms
        self.request = terms.request()
        self.task = asyncio.create_task(self._wait(path))
        self.timer: asyncio.TimerHandle | None = None
        # Its owner while it is kept; None if connections do not distinguish clients.
        self.connection: Connection | None = None

    @property
    def is_free(self) -> bool:
        """Whether another connection may take it up."""
        return self.connection is None or not self.connection.is_open

    async def _wait(self, path: str) -> None:
        if self.terms.names:
            await grant(self.terms, self.request, await session_of(path))


class WaitingRoom:
    """The places of all clients of a server."""

    def __init__(self, path: str, most_connections: float = math.inf) -> None:
        self._path = path
        self._most_held = most_connections * _HELD_PART
        self._kept: dict[Key, OrderedDict[Place, None]] = {}
        self._share = Share(MAX_KEPT, MAX_KEPT_FOR_ONE)
        self._undoing: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Future[None] | None = None
        self._held = 0

    async def ask(
        self, key: Key, terms: Terms, connection: Connection | None, gone: asyncio.Future[None]
    ) -> Place:
        """Return a place that was granted; or raise what prevents that, for example its error.

        `connection` is the client's own, None if it shares one with others. `gone` is done when the
        client has hung up.
        """
        closing = self._closes()
        place, hold = self._take_up(key, connection), NEXT_HOLD_SECONDS
        if place is None:
            place, hold = Place(key, terms, self._path), FIRST_HOLD_SECONDS
        least = AGAIN_SECONDS
        if self._held >= min(MAX_HELD, self._most_held):
            hold, least = CROWDED_HOLD_SECONDS, CROWDED_AGAIN_SECONDS
        self._held += 1
        try:
            await asyncio.wait(
                (place.task, gone, closing),
                timeout=hold,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if gone.done():
                raise GoneError
            if place.task.done():
                await place.task
                return place
            if closing.done():
                raise ClosingError
        except BaseException:
            await self.undo(place)
            raise
        finally:
            self._held -= 1
        due = place.request.due
        seconds = max(least, due - clock.now())
        if terms.holds or due == math.inf:
            seconds = min(seconds, LONGEST_KEPT_SECONDS)
        if not self._share.enter(key.client):
            await self.undo(place)
            raise AgainError(CROWDED_AGAIN_SECONDS)
        self._keep(place, connection, seconds + GRACE_SECONDS)
        raise AgainError(seconds)

    async def undo(self, place: Place) -> None:
        """Have a place leave the queue, or give back what it was granted."""
        await asyncio.shield(self._begin_undoing(place))

    def _begin_undoing(self, place: Place) -> asyncio.Task[None]:
        # In a task of its own, so that it is done even if the caller is cancelled.
        undoing = asyncio.create_task(self._undo(place))
        self._undoing.add(undoing)
        undoing.add_done_callback(self._undone)
        return undoing

    def _undone(self, undoing: asyncio.Task[None]) -> None:
        self._undoing.discard(undoing)
        if not undoing.cancelled():
            undoing.exception()  # it is tried again, even if nobody waits for it

    async def _undo(self, place: Place) -> None:
        place.task.cancel()
        await asyncio.wait((place.task,))
        if not place.task.cancelled() and place.task.exception() is None:
            session = await session_of(self._path)
            with contextlib.suppress(NoDatabaseError):  # so there is nothing to undo
                await session.transact(
                    functools.partial(clients.undo, request=place.request),
                    create=False,
                    retry=True,
                )

    def _keep(self, place: Place, connection: Connection | None, seconds: float) -> None:
        place.connection = connection
        self._kept.setdefault(place.key, OrderedDict())[place] = None
        if connection is not None:
            connection.places[place] = None
        place.timer = asyncio.get_running_loop().call_later(seconds, self._forget, place)

    def _take_up(self, key: Key, connection: Connection | None) -> Place | None:
        """Return the oldest kept place of this connection, or else one that belongs to none now."""
        own = () if connection is None else connection.places
        place = next((one for one in own if one.key == key), None)
        if place is None:
            place = next((one for one in self._kept.get(key, ()) if one.is_free), None)
        if place is not None:
            self._release(place)
        return place

    def _release(self, place: Place) -> None:
        """Stop keeping a place."""
        assert place.timer is not None  # it is kept
        place.timer.cancel()
        if place.connection is not None:
            del place.connection.places[place]
        places = self._kept[place.key]
        del places[place]
        if not places:
            del self._kept[place.key]
        self._share.leave(place.key.client)

    def _forget(self, place: Place) -> None:
        self._release(place)
        self._begin_undoing(place)

    def _closes(self) -> asyncio.Future[None]:
        """Return a future that is done when the server ends; it belongs to the serving loop."""
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_future()
        return self._closing

    async def close(self) -> None:
        """Answer all waiters, and give up the places that are kept."""
        self._closes().set_result(None)
        for places in tuple(self._kept.values()):
            for place in tuple(places):
                self._forget(place)
        if self._undoing:
            await asyncio.wait(tuple(self._undoing))
