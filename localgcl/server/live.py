"""What changes, told as it comes, and what was: in memory, for some minutes, while it runs."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from localgcl import _clock
from localgcl.asyncio import AsyncLimiter
from localgcl.errors import DatabaseError
from localgcl.models import Limit
from localgcl.server.answers import limit_json

SAMPLE_SECONDS = 1.0
PAST_SECONDS = 600.0

# A comment, so that a connection whose client has vanished is found out.
_HEARTBEAT_SECONDS = 15.0

_MAX_LISTENERS = 100

# A pause is at least so many times as long as the look before it: looking then takes no more than
# about a twentieth of the time.
_PAUSE_PER_LOOK = 20


class Live:
    """The limits as they were a moment ago, their past, and who wants to hear of changes."""

    def __init__(self, limiter: AsyncLimiter) -> None:
        self._limiter = limiter
        self._limits: dict[str, Limit] = {}
        self._past: dict[str, deque[tuple[float, int, int]]] = {}
        self._listeners: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self.fault: str | None = None

    def start(self) -> None:
        """Begin to look, once a second."""
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Look no more, and end every stream."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))
        for queue in self._listeners:
            _put(queue, None)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self.read()
                self.fault = None
            except DatabaseError as error:
                self.fault = str(error)  # shown by /api/ready and tried again
            # Thousands of limits are looked at less often, and so at no greater cost.
            await asyncio.sleep(max(SAMPLE_SECONDS, _PAUSE_PER_LOOK * (loop.time() - began)))

    async def read(self) -> list[Limit]:
        """Return all limits as they are now, and tell of what has changed.

        Whoever is shown limits reads them here: what came and went between two looks would never
        be told of, and stay on the page of somebody who has seen it in between.
        """
        limits = await self._limiter.read_all()
        self._compare(limits)
        return limits

    def _compare(self, limits: list[Limit]) -> None:
        now = {limit.id: limit for limit in limits}
        changed = [limit for limit in limits if self._limits.get(limit.id) != limit]
        deleted = [identity for identity in self._limits if identity not in now]
        self._limits = now
        self._remember(changed, deleted)
        if changed or deleted:
            self._tell({"limits": [limit_json(limit) for limit in changed], "deleted": deleted})

    def _remember(self, changed: list[Limit], deleted: list[str]) -> None:
        at = _clock.wall()
        for identity in deleted:
            self._past.pop(identity, None)
        for limit in changed:
            past = self._past.setdefault(limit.id, deque())
            if not past or past[-1][1:] != (limit.active_slots, limit.waiting):
                past.append((at, limit.active_slots, limit.waiting))
            # The last one before the window says how it began.
            while len(past) > 1 and past[1][0] < at - PAST_SECONDS:
                past.popleft()

    def past_of(self, identity: str) -> list[dict[str, Any]]:
        """Return when slots in use and waiting came to be what: the oldest first."""
        begin = _clock.wall() - PAST_SECONDS
        past = self._past.get(identity, ())
        return [
            {"at": max(at, begin), "active_slots": used, "waiting": waiting}
            for at, used, waiting in past
        ]

    def _tell(self, change: dict[str, Any]) -> None:
        for queue in self._listeners:
            # Who is too slow for the changes is told to read everything anew.
            _put(queue, {"missed": True} if queue.full() else change)

    async def changes(self) -> AsyncIterator[bytes]:
        """Yield server-sent events: `hello` at once, then a `change` for each second with one."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(maxsize=10)
        self._listeners.add(queue)
        try:
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
        finally:
            self._listeners.discard(queue)

    def is_full(self) -> bool:
        """Whether no more can listen."""
        return len(self._listeners) >= _MAX_LISTENERS


def _put(queue: asyncio.Queue[dict[str, Any] | None], item: dict[str, Any] | None) -> None:
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(item)
