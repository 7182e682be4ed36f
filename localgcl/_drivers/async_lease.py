"""The lease of the awaitable flavour."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from localgcl._drivers import blocks
from localgcl._drivers.held import UNLIMITED, Held
from localgcl._drivers.sessions import last_database, session_of
from localgcl._storage.backlog import run_later
from localgcl._storage.database import NoDatabaseError

if TYPE_CHECKING:
    from types import TracebackType

    from localgcl._engine.request import Granted, Request


class AsyncLease(Held):
    """As `localgcl.Lease`, for an `async with`, with methods that are awaited."""

    __slots__ = ("_path",)

    def __init__(
        self,
        request: Request,
        waited_seconds: float = 0.0,
        granted: Granted | None = None,
        path: str = "",
    ) -> None:
        self.id = request.id
        self._request = request
        self.waited_seconds = waited_seconds
        self._granted = granted
        self._path = path
        self._of_block = False  # whether a block releases it; the last attribute

    def __del__(self) -> None:
        # The collector may find a forgotten task in a thread without a loop that could release it.
        of_block = getattr(self, "_of_block", False)  # missing if `__init__` was interrupted
        if of_block and self._is_held() and self._request.pid == os.getpid():
            blocks.entered.pop(self.id, None)
            run_later(last_database(self._path), self._release)

    def _is_held(self) -> bool:
        return self._granted is not None and self._request.granted is not None

    async def __aenter__(self) -> AsyncLease:
        self._of_block = True
        blocks.enter(self.id)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        blocks.entered.pop(self.id, None)
        await self.release()

    async def release(self) -> None:
        """As `Lease.release`, awaited; if that is cancelled, it is released nevertheless."""
        if not self._is_held():
            return
        if self._request.pid == os.getpid():
            session = await session_of(self._path)
            self._of_block = False  # from here on the session releases it in any case
            with contextlib.suppress(NoDatabaseError):  # so there is nothing to free
                await session.transact(self._release, create=False, retry=True)
        self._request.granted = None

    async def numbers(self, name: str | None = None) -> list[int]:
        """As `Lease.numbers`, awaited."""
        place = self._place_of(name)
        if self._granted is UNLIMITED:
            return list(range(self.slots[place[2]]))
        work = functools.partial(self._numbers, place=place)
        session = await session_of(self._path)
        try:
            numbers: list[int] = await session.transact(work, create=False)
        except NoDatabaseError:
            numbers = []
        if not numbers:
            raise self._has_none(name)
        return numbers
