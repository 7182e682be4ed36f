"""The registry of sessions: one for each event loop and database, from its first use to its end.

A loop announces its end by closing its asynchronous generators, as `asyncio.run` does. If a loop
was closed without that, the thread of its session notices it, or the next loop that begins.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator

from localgcl._base import threads
from localgcl._base.forks import at_fork
from localgcl._drivers.session import Session
from localgcl._storage.database import Database
from localgcl._storage.problems import explaining
from localgcl.errors import GreenThreadsError

_sessions: dict[tuple[asyncio.AbstractEventLoop, str], Session] = {}

# Slots that an ended loop still holds stay with the process. The process signs out of all databases
# that still exist as objects, so these are kept.
_last_databases: dict[str, Database] = {}


def last_database(path: str) -> Database:
    """Return the connection of the newest session with the database at `path`, ended or not."""
    return _last_databases[path]


async def session_of(path: str) -> Session:
    """Return the running loop's session with the database at `path`."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "localgcl.asyncio needs a running event loop of asyncio; under trio and the like, use"
            " localgcl.sync in a thread"
        ) from None
    session = _sessions.get((loop, path))
    if session is None:
        for (other, _), left in tuple(_sessions.items()):
            if other.is_closed():
                left.end_without_loop()
        if (library := threads.unfit()) is not None:
            raise GreenThreadsError(library)
        with explaining(path):
            session = _sessions[loop, path] = Session(loop, path, _leave)
        _last_databases[path] = session.worker.database
        if loop in _ending:
            session.ends_when_idle = True
        else:
            # `asyncio.run` closes asynchronous generators at its end, and so also this one.
            session.until_loop_ends = _until_the_loop_ends(session)
            await anext(session.until_loop_ends)
    return session


def _leave(session: Session) -> bool:
    """Remove a session from the registry; return whether it was still there."""
    return _sessions.pop((session.loop, session.path), None) is not None


# Loops that close their asynchronous generators. Another generator may release a lease after ours
# was closed.
_ending: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


async def _until_the_loop_ends(session: Session) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        if not session.closed:  # otherwise the garbage collector found this, after an `aclose`
            _ending.add(session.loop)
        await session.close()


def _forget_after_fork() -> None:
    # The child has none of the threads, and it shares the selectors with the parent's loops.
    for session in _sessions.values():
        session.closed = True
    _kept.extend(_sessions.values())
    _sessions.clear()


_kept: list[Session] = []  # so that the child does not close what belongs to its parent

at_fork(after_in_child=_forget_after_fork)
