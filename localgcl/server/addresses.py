"""Where a request comes from: this machine or another, and whether a proxy forwarded it."""

from __future__ import annotations

import ipaddress

from starlette.requests import HTTPConnection

# Headers in which a proxy says for whom it asks.
FORWARDED_HEADERS = ("forwarded", "x-forwarded-for", "x-real-ip")


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_forwarded(connection: HTTPConnection) -> bool:
    """Whether a proxy says that it asks for somebody else."""
    return any(name in connection.headers for name in FORWARDED_HEADERS)


def address_of(connection: HTTPConnection) -> str:
    """Return the address that a request comes from, without its port."""
    return connection.client.host if connection.client else "-"
