"""Changes, reported as they come, and the past: in memory, for some minutes, while it runs."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections import deque
from collections.abc import AsyncIterator, Hashable
from typing import Any

from localgcl._base import clock
from localgcl.asyncio import AsyncLimiter
from localgcl.errors import DatabaseError
from localgcl.models import Limit
from localgcl.server.answers import limit_json
from localgcl.server.connections import Share
from localgcl.server.reading import all_limits

_log = logging.getLogger(__name__)

SAMPLE_SECONDS = 1.0
PAST_SECONDS = 600.0

# A comment line, so that a connection is closed whose client has vanished.
_HEARTBEAT_SECONDS = 15.0

# At most a part of all connections, of which there may be few.
MAX_LISTENERS = 100
MAX_LISTENERS_OF_ONE = 25
_LISTENERS_PART = 20

# The most changes that a listener is sent at once. If there are more, it is told to reload
# everything.
_MAX_TOLD = 500

# A pause is at least this many times as long as the look before it. So looking takes no more than
# about a twentieth of the time.
_PAUSE_PER_LOOK = 20


class Listener:
    """A client that listens for changes."""

    def __init__(self, client: Hashable) -> None:
        self.client = client
        self.queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(maxsize=10)


class Live:
    """The limits as they were a moment ago, their past, and the listeners."""

    def __init__(self, limiter: AsyncLimiter, most_connections: float = math.inf) -> None:
        self._limiter = limiter
        most = max(1, min(MAX_LISTENERS, most_connections // _LISTENERS_PART))
        self._share = Share(int(most), max(1, min(MAX_LISTENERS_OF_ONE, int(most) // 2)))
        self._limits: dict[str, tuple[object, ...]] = {}
        self._past: dict[str, deque[tuple[float, int, int]]] = {}
        self._listeners: set[Listener] = set()
        self._watching: asyncio.Task[None] | None = None
        self.fault: DatabaseError | None = None

    def start(self) -> None:
        """Start to look, once a second."""
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop looking, and end every stream."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        for listener in self._listeners:
            _put(listener.queue, None)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self.read()
                self.fault = None
            except DatabaseError as error:
                if self.fault is None or str(error) != str(self.fault):
                    _log.error("%s", error)
                self.fault = error  # reported by /api/ready, and tried again
            # Thousands of limits are looked at less often, and so at no greater cost.
            await asyncio.sleep(max(SAMPLE_SECONDS, _PAUSE_PER_LOOK * (loop.time() - began)))

    async def read(self) -> list[Limit]:
        """Return all limits as they are now, and report what has changed.

        All limits that are shown are read here. Otherwise a limit that came and went between two
        looks would never be reported, and would stay on the page of a user who saw it in between.
        """
        limits = await all_limits(self._limiter)
        self._compare(limits)
        return limits

    def _compare(self, limits: list[Limit]) -> None:
        now = {limit.id: _told_of(limit) for limit in limits}
        changed = [limit for limit in limits if self._limits.get(limit.id) != now[limit.id]]
        deleted = [identity for identity in self._limits if identity not in now]
        self._limits = now
        self._remember(changed, deleted)
        if changed or deleted:
            many = len(changed) + len(deleted) > _MAX_TOLD
            self._tell(
                {"missed": True}
                if many
                else {"limits": [limit_json(limit) for limit in changed], "deleted": deleted}
            )

    def _remember(self, changed: list[Limit], deleted: list[str]) -> None:
        at = clock.wall()
        for identity in deleted:
            self._past.pop(identity, None)
        for limit in changed:
            past = self._past.setdefault(limit.id, deque())
            if not past or past[-1][1:] != (limit.active_slots, limit.waiting):
                past.append((at, limit.active_slots, limit.waiting))
            # The last value before the window is the value at its start.
            while len(past) > 1 and past[1][0] < at - PAST_SECONDS:
                past.popleft()

    def past_of(self, identity: str) -> list[dict[str, Any]]:
        """Return when the slots in use and waiting changed to which values: the oldest first."""
        begin = clock.wall() - PAST_SECONDS
        past = self._past.get(identity, ())
        return [
            {"at": max(at, begin), "active_slots": used, "waiting": waiting}
            for at, used, waiting in past
        ]

    def _tell(self, change: dict[str, Any]) -> None:
        for listener in self._listeners:
            # A listener that is too slow for the changes is told to reload everything.
            _put(listener.queue, {"missed": True} if listener.queue.full() else change)

    def listen(self, client: Hashable = None) -> Listener | None:
        """Return a new listener, which has to `leave`; None if a client, or all, have enough."""
        if not self._share.enter(client):
            return None
        listener = Listener(client)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop reporting to a listener."""
        self._listeners.remove(listener)
        self._share.leave(listener.client)

    async def changes(self, listener: Listener) -> AsyncIterator[bytes]:
        """Yield server-sent events: `hello` at once, then a `change` for each second with one."""
        queue = listener.queue
        yield b"retry: 2000\nevent: hello\ndata: {}\n\n"
        while True:
            try:
                async with asyncio.timeout(_HEARTBEAT_SECONDS):
                    change = await queue.get()
            except TimeoutError:
                yield b": still there\n\n"
                continue
            if change is None:
                return
            yield f"event: change\ndata: {json.dumps(change)}\n\n".encode()


def _told_of(limit: Limit) -> tuple[object, ...]:
    """Return what listeners are told of a limit when it changes.

    What passes with time alone, such as the time until the next slot, is no change.
    """
    return (
        limit.name,
        limit.active,
        limit.limit,
        limit.active_slots,
        limit.waiting,
        limit.slot_decay_per_second,
        limit.window_seconds,
        limit.keys,
        limit.paused_until is None,
        limit.avg_slot_occupancy_seconds,
        limit.updated,
    )


def _put(queue: asyncio.Queue[dict[str, Any] | None], item: dict[str, Any] | None) -> None:
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(item)
