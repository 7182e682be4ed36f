"""What the endpoints share: the limiter of the served database, and who asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote
from uuid import UUID

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import HTTPConnection

from localgcl._admin import reading
from localgcl._admin.action import Action
from localgcl._base.checks import MAX_NAME_LENGTH
from localgcl._drivers.session import Session
from localgcl._drivers.sessions import session_of
from localgcl._engine.clients import Client
from localgcl._storage.database import Transaction
from localgcl.asyncio import AsyncLimiter
from localgcl.errors import LimitNotFoundError
from localgcl.server.addresses import address_of
from localgcl.server.credentials import USER, Credentials
from localgcl.server.events import Events
from localgcl.server.live import Live
from localgcl.server.shown import ReadCache
from localgcl.server.waiting_room import WaitingRoom

T = TypeVar("T")

_MAX_AGENT_LENGTH = 200


class Service:
    """One database, for the clients of one server."""

    def __init__(self, path: str, credentials: Credentials | None, most_connections: int) -> None:
        self.limiter = AsyncLimiter(path)
        self.room = WaitingRoom(path, most_connections)
        self.live = Live(self.limiter, most_connections)
        self.events = Events(most_connections)
        self.shown = ReadCache()
        self.empty_leases: deque[str] = deque()
        self.credentials = credentials

    async def start(self) -> None:
        """Open the database before anybody is admitted, and start to look at it."""
        await self.administer(reading.read_page(0, 1))
        self.live.start()

    async def close(self) -> None:
        """Answer all waiters and end what is under way."""
        await self.live.close()
        await self.room.close()

    async def session(self) -> Session:
        """Return the event loop's session with the database."""
        return await session_of(self.limiter.path)

    async def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction."""
        session = await self.session()
        result: T = await session.transact(work)
        return result

    async def administer(self, action: Action[T]) -> T:
        """Carry out a call of administration."""
        return await action.run_in(await self.session())

    async def name_of(self, id_or_name: str) -> str:
        """Return the name of the limit that a path means; LimitNotFoundError if it can be none.

        A text that reads as a UUID, in any case and without dashes too, is tried as an id first.
        """
        if len(id_or_name) > MAX_NAME_LENGTH:
            raise LimitNotFoundError(f"{id_or_name[:60]}...")
        try:
            identity = str(UUID(id_or_name))
        except ValueError:
            return id_or_name
        try:
            return await self.administer(reading.name_of(identity))
        except LimitNotFoundError:
            return id_or_name


def service_of(connection: HTTPConnection) -> Service:
    """Return the service that answers a request."""
    service: Service = connection.app.state.service
    return service


class _Name(PathConvertor):
    """The rest of a path, which may contain slashes, but not nothing."""

    regex = ".+"


register_url_convertor("name", _Name())


def limit_in(connection: HTTPConnection) -> str:
    """Return the id or the name at the end of a request's path; LimitNotFoundError if it is none.

    A key of a template may contain slashes. They belong to it if the client has encoded them.
    """
    text: str = connection.path_params["limit"]
    path: bytes = connection.scope["raw_path"]
    if unquote(path.rpartition(b"/")[2].decode("ascii")) != text:
        raise LimitNotFoundError(text)
    return text


def party_of(connection: HTTPConnection) -> tuple[str, str]:
    """Return whose share a request counts for: user and address."""
    return connection.scope.get(USER) or "-", address_of(connection)


def client_of(connection: HTTPConnection, holder: str | None) -> Client:
    """Return the client of a request, as `ps` shows it."""
    user: str | None = connection.scope.get(USER)
    agent = connection.headers.get("user-agent", "")[:_MAX_AGENT_LENGTH]
    return Client(user or "-", f"{address_of(connection)} {agent}".strip(), holder)
