"""Authentication, checked before anything else, for pages, calls and WebSockets alike.

Without credentials only this machine is served. Then the Host has to be this machine's: otherwise
any page of the Web could have its own name point here (DNS rebinding). A browser that speaks for
another site is refused in any case.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localgcl.server.addresses import is_loopback
from localgcl.server.connections import connection_of
from localgcl.server.credentials import USER, Credentials

_OPEN_TO_ALL = ("/api/health", "/api/ready")
_METHODS_OF_LINKS = ("GET", "HEAD")
_PAGES = re.compile(r"/|/limits/.+|/api/docs")
_OF_OURS = (None, "same-origin", "none")  # what Sec-Fetch-Site may be

# Terraform's provider may double slashes or the folder, and put its account before it all.
_ACCOUNT = re.compile(r"^/api/accounts/[^/]+/workspaces/[^/]+(?=/)")

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
        " font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self';"
        " base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_HEADERS = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
# JSON is neither displayed nor run, so it does not get the headers that only pages need.
JSON_HEADERS = ("cross-origin-resource-policy", "x-content-type-options")
_JSON_HEADERS = [(name.encode(), HEADERS[name].encode()) for name in JSON_HEADERS]
_NO_STORE = (b"cache-control", b"no-store")


class Guard:
    """Admits permitted requests, and gives every answer the headers that browsers obey."""

    def __init__(self, app: ASGIApp, credentials: Credentials | None, host: str) -> None:
        self.app = app
        self.credentials = credentials
        self.host = host.lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        scope["path"] = _straight(scope["raw_path"])
        refusal = self._refusal(scope)
        # A WebSocket is admitted by its first message.
        if refusal is None and scope["type"] == "http" and self._is_admitted(scope):
            connection_of(scope).admit()
        if refusal is not None and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # answered with 403
        elif refusal is not None:
            await refusal(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        else:
            await self.app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if "content-length" in headers and "transfer-encoding" in headers:
            # A proxy may use one of the two to find the next request, and this server the other.
            return JSONResponse(
                {"detail": "Content-Length and Transfer-Encoding exclude each other."},
                400,
                {"connection": "close"},
            )
        if not self._is_ours(headers.get("host", "")):
            return JSONResponse({"detail": "Not a name of this server."}, 421)
        if _is_cross_site(scope, headers):
            return JSONResponse({"detail": "Not from another site."}, 403)
        if self.credentials is None or scope["path"] in _OPEN_TO_ALL:
            return None
        if self.credentials.admit(headers.get("authorization")):
            scope[USER] = self.credentials.user
            return None
        if scope["type"] == "websocket" and "authorization" not in headers:
            return None  # it authenticates in its first message
        return JSONResponse(
            {"exception_message": "Unauthorized"},
            401,
            {"www-authenticate": 'Basic realm="localgcl", charset="UTF-8"'},
        )

    def _is_admitted(self, scope: Scope) -> bool:
        return self.credentials is None or USER in scope

    def _is_ours(self, host: str) -> bool:
        # With credentials the name may be anything, for example that of a proxy or in a network of
        # containers: a browser sends credentials only to names for which its user entered them.
        return (
            self.credentials is not None
            or is_loopback(_name_in(host))
            or (_name_in(host) == self.host)
        )


def _name_in(host: str) -> str:
    """Return a Host without its port and brackets."""
    name = host.lower()
    if name.startswith("["):
        return name[1:].partition("]")[0]
    return name.partition(":")[0]


def _is_cross_site(scope: Scope, headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != headers.get("host", "").lower():
        return True
    if headers.get("sec-fetch-site") in _OF_OURS:
        return False
    # A link from elsewhere may be followed: it shows a page to its user, and to nobody else.
    return not (
        scope["type"] == "http"
        and scope["method"] in _METHODS_OF_LINKS
        and headers.get("sec-fetch-mode", "navigate") == "navigate"
        and headers.get("sec-fetch-dest", "document") == "document"
        and _PAGES.fullmatch(scope["path"])
    )


def _straight(raw: bytes) -> str:
    """Return a path in the form that the routes have.

    Slashes that are encoded are part of a name.
    """
    path = unquote(re.sub(rb"//+", b"/", raw).decode("ascii"))
    path = re.sub(r"^(/api)+(?=/api(/|$))", "", path)
    return _ACCOUNT.sub("/api", path)


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.setdefault("headers", [])
            is_json = (b"content-type", b"application/json") in headers
            headers.extend(_JSON_HEADERS if is_json else _HEADERS)
            if not any(name == b"cache-control" for name, _ in headers):
                headers.append(_NO_STORE)
        await send(message)

    return sending
