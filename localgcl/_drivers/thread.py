"""The thread of one event loop: it runs the functions that it is given, one after another."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

import aiosqlite
from aiosqlite.core import _STOP_RUNNING_SENTINEL

from localgcl._base import threads
from localgcl._storage.database import Database


class Thread(aiosqlite.Connection):
    """aiosqlite's thread, which is given whole functions.

    aiosqlite has no public call for that. Its queue is the smallest way in. What the thread holds
    as its connection is the `Database`, which opens the file itself, and opens it again if it was
    replaced.

    When the thread has had nothing to do for `pause()` seconds, it calls `look`. If `pause()`
    returns None, it does not.
    """

    def __init__(
        self, database: Database, pause: Callable[[], float | None], look: Callable[[], None]
    ) -> None:
        super().__init__(lambda: database, 0)  # type: ignore[arg-type, return-value]
        self._functions: SimpleQueue[Callable[[], Any]] = SimpleQueue()
        self._is_over = False
        self._pause = pause
        self._look = look
        self._thread.name = f"{threads.NAME}-loop"
        self._thread.daemon = True  # one that was never closed must not keep the process alive
        self._tx.put_nowait((None, self._work))
        self._thread.start()

    def _work(self) -> Any:
        """Run what is posted, until the last."""
        while not self._is_over:
            try:
                function = self._functions.get(timeout=self._pause())
            except Empty:
                function = self._look
            try:
                function()
            except BaseException:
                self._tx.put_nowait((None, self._work))  # go on with the next
                raise
        return _STOP_RUNNING_SENTINEL

    def post(self, function: Callable[[], Any]) -> None:
        """Run a function in the thread, after those before it."""
        self._functions.put(function)

    def post_last(self, function: Callable[[], object]) -> None:
        """Run a function in the thread, after those before it, and then end the thread."""

        def last() -> None:
            self._is_over = True
            function()

        self.post(last)

    def native_id(self) -> int:
        """Return the kernel's number of the thread."""
        found = self._thread.native_id
        assert found is not None  # it has begun
        return found

    def is_alive(self) -> bool:
        """Whether it has not ended yet."""
        return self._thread.is_alive()
