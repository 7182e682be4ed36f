"""Who may come in: credentials, names, other sites, and those who take their time."""

from __future__ import annotations

import base64
import fcntl
import os
import socket
from typing import Any

import httpx
import pytest

from localgcl import Limiter
from localgcl.server import guard, live, protocol, serving
from localgcl.server.answers import MAX_BODY_BYTES
from localgcl.server.credentials import Credentials
from tests.helpers.served import LIMITS, Serve, Served

AUTH = "app:pass:wörd"


def basic(text: str) -> str:
    """Return the header for a user and password."""
    return "Basic " + base64.b64encode(text.encode()).decode()


ADMITTED = {
    "user and password": basic(AUTH),
    "the scheme in another case": basic(AUTH).replace("Basic", "bAsIc"),
    "a key that is both": f"Bearer {AUTH}",
    "a key that is the password": "Bearer pass:wörd",
}

REFUSED = {
    "nothing": "",
    "another password": basic("app:password"),
    "another user": basic("root:pass:wörd"),
    "a part of the password": basic("app:pass"),
    "more than the password": basic(f"{AUTH}x"),
    "no password": basic("app:"),
    "both without a scheme": basic(AUTH).removeprefix("Basic "),
    "no Base64": "Basic !!!!",
    "Base64 of half a byte": "Basic YQ",
    "letters of no code": "Basic \xff\xfe",
    "another scheme": basic(AUTH).replace("Basic", "Digest"),
    "a key of nothing": "Bearer",
    "the user as a key": "Bearer app",
}


def test_credentials(serve: Serve) -> None:
    """Right ones come in, in each way in which clients send them; others do not, for anything."""
    with serve(auth=AUTH).client() as client:
        for what, value in ADMITTED.items():
            headers = [(b"authorization", value.encode())]
            assert client.post(f"{LIMITS}/filter", headers=headers).status_code == 200, what
        for what, refused in REFUSED.items():
            headers = [(b"authorization", refused.encode("latin-1"))] if refused else []
            for path in ("/api/nothing", f"{LIMITS}/a", "/api/csrf-token", "/", "/ui/events"):
                answer = client.get(path, headers=headers)
                assert answer.status_code == 401, (what, path)
            assert answer.json() == {"exception_message": "Unauthorized"}
            assert answer.headers["www-authenticate"].startswith("Basic ")
        for probe in ("/api/health", "/api/ready"):
            assert client.get(probe).status_code == 200


def test_who_holds_is_shown_by_name(serve: Serve, limiter: Limiter) -> None:
    """`ps` has the user of a client that has come in with a password."""
    limiter.create("db", 1)
    with serve(auth=AUTH).client(headers={"authorization": basic(AUTH).encode()}) as client:
        client.post(f"{LIMITS}/increment-with-lease", json={"names": ["db"], "slots": 1})
    assert [one.user for one in limiter.holders()] == ["app"]


HOSTS = {
    "127.0.0.1": 200,
    "127.0.0.1:4200": 200,
    "127.8.8.8": 200,
    "localhost": 200,
    "LocalHost:1": 200,
    "app.localhost": 200,
    "[::1]:4200": 200,
    "attacker.example": 421,
    "attacker.example:4200": 421,
    "127.0.0.1.attacker.example": 421,
    "localhost.attacker.example": 421,
    "10.0.0.1": 421,
    "[::ffff:10.0.0.1]": 421,
    "127.0.0.1@attacker.example": 421,
    "": 421,
    "[": 421,
    "\xff": 421,
}


def test_only_names_of_this_machine_are_served(client: httpx.Client) -> None:
    """Or a page of anybody's could have its own name point here, and read everything."""
    for host, status in HOSTS.items():
        answer = client.get("/ui/limits", headers=[(b"host", host.encode("latin-1"))])
        assert answer.status_code == status, host


def test_with_credentials_the_name_is_free(serve: Serve) -> None:
    """A proxy, or a network of containers, has names of its own."""
    with serve(auth=AUTH).client(headers={"authorization": basic(AUTH).encode()}) as client:
        assert client.get("/ui/limits", headers={"host": "limits.example"}).status_code == 200


def test_other_sites_change_nothing(served: Served, client: httpx.Client, limiter: Limiter) -> None:
    """What a browser sends for another site's page is refused, whatever its method."""
    limiter.create("db", 1)
    own = str(client.base_url).rstrip("/")
    refused: list[dict[str, str]] = [
        {"origin": "https://attacker.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": own.replace("127.0.0.1", "localhost")},
        {"origin": f"http://127.0.0.1:{served.address[1] + 1}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ]
    for headers in refused:
        answer = client.delete(f"{LIMITS}/db", headers=headers)
        assert answer.status_code == 403, headers
    for headers in refused[:5]:
        assert client.get("/ui/limits", headers=headers).status_code == 403, headers
    assert client.delete(f"{LIMITS}/db", headers={"origin": own}).status_code == 204


FETCHED: dict[str, tuple[str, str, int]] = {
    "a link": ("navigate", "document", 200),
    "an image": ("no-cors", "image", 403),
    "a script": ("no-cors", "script", 403),
    "a call": ("cors", "empty", 403),
    "a stream": ("cors", "empty", 403),
    "a frame": ("navigate", "iframe", 403),
    "an object": ("navigate", "object", 403),
}


@pytest.mark.parametrize("site", ["cross-site", "same-site", "of tomorrow"])
def test_other_sites_read_nothing(client: httpx.Client, limiter: Limiter, site: str) -> None:
    """Whatever a page of another site loads is refused; a link to a page may be followed."""
    limiter.create("db", 1)
    for what, (mode, kind, status) in FETCHED.items():
        headers = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": kind}
        for page in ("/", "/limits/db", "/api/docs"):
            for method in ("GET", "HEAD"):
                assert client.request(method, page, headers=headers).status_code == status, what
        for path in ("/ui/events", "/ui/limits", "/metrics", f"{LIMITS}/db", "/static/base.css"):
            assert client.get(path, headers=headers).status_code == 403, (what, path)
        assert client.post(f"{LIMITS}/filter", headers=headers).status_code == 403, what
    for ours in ("same-origin", "none"):
        assert client.get("/ui/limits", headers={"sec-fetch-site": ours}).status_code == 200


def test_other_sites_use_up_no_streams(served: Served, client: httpx.Client) -> None:
    """However many images of a page elsewhere ask for the stream, the operator's own opens."""
    for number in range(live.MAX_LISTENERS + 5):
        connection = served.connect()
        connection.sendall(
            b"GET /ui/events HTTP/1.1\r\nHost: a%d.localhost\r\nSec-Fetch-Site: cross-site\r\n"
            b"Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n\r\n" % number
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")
    headers = {"sec-fetch-site": "same-origin"}
    with client.stream("GET", "/ui/events", headers=headers) as stream:
        assert stream.status_code == 200


def test_every_answer_has_the_headers_that_browsers_heed(client: httpx.Client) -> None:
    """No script but ours, no frame around us, nothing kept; and JSON is never taken for a page."""
    for path in ("/", "/api/docs", "/ui/limits", f"{LIMITS}/none", "/nothing", "/api/health"):
        answer = client.get(path)
        is_json = answer.headers["content-type"] == "application/json"
        for name in guard.JSON_HEADERS if is_json else guard.HEADERS:
            assert answer.headers[name] == guard.HEADERS[name], path
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_a_body_without_end(served: Served, client: httpx.Client) -> None:
    """It is cut off where no body of ours can be as long, said before or not."""
    large = b" " * (MAX_BODY_BYTES + 1)
    assert client.post(f"{LIMITS}/", content=large).status_code == 413

    def pieces() -> Any:
        for _ in range(20):
            yield large[: MAX_BODY_BYTES // 8]

    assert client.post(f"{LIMITS}/", content=pieces()).status_code == 413
    assert client.get("/api/health").status_code == 200


STRANGE = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 200_000,
    "two lengths": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\n",
    "two hosts": b"GET /ui/limits HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: attacker.example\r\n\r\n",
    "a length and chunks": b"POST /api/v2/concurrency_limits/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET",
    "a negative length": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -1\r\n\r\n",
    "no host": b"GET /ui/limits HTTP/1.1\r\n\r\n",
    "no host, as of old": b"GET /ui/limits HTTP/1.0\r\n\r\n",
    "bytes in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "an upgrade to what is none": b"GET /ui/limits HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
}


def test_strange_requests(served: Served, client: httpx.Client) -> None:
    """Each is refused by itself, and the server goes on."""
    for what, request in STRANGE.items():
        with served.connect() as connection:
            try:
                connection.sendall(request)
                status = connection.recv(65536).split(b" ", 2)[1:2]
            except ConnectionError:
                status = []  # hung up on
            assert status in ([], [b"400"], [b"403"], [b"404"], [b"421"], [b"422"]), what
        assert client.get("/api/health").status_code == 200, what


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"POST /api/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
    ],
)
def test_slow_clients_are_cut_off(
    monkeypatch: pytest.MonkeyPatch, serve: Serve, beginning: bytes
) -> None:
    """A request that never becomes whole does not keep its connection, wherever it stops."""
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.1)
    with serve().connect() as connection:
        connection.sendall(beginning)
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass


def test_who_hangs_up_inside_a_body(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """It is no fault of the server's, and nothing to be told of."""
    served = serve()
    with served.connect() as connection:
        connection.sendall(
            b"POST /api/v2/concurrency_limits/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")  # and so it reads the body
        connection.sendall(b"{")
    served.end()
    assert [message for message in caplog.messages if "Exception" in message] == []


def test_slow_but_whole(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    """The time counts for each request anew, and not for answers."""
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 5.0)
    served = serve()
    with served.connect() as connection:
        for _ in range(3):
            for piece in (b"GET /api/health HTTP/1.1\r\n", b"Host: 127.0.0.1\r\n\r\n"):
                connection.sendall(piece)
            answer = b""
            while not answer.endswith(b"true"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 ")


# Addresses


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


IPV6 = _has_ipv6()


@pytest.mark.parametrize("host", ["0.0.0.0", *(["::"] if IPV6 else [])])  # noqa: S104
def test_other_addresses_need_credentials(host: str) -> None:
    """Whoever can be reached from elsewhere must say who may come in."""
    with pytest.raises(serving.AddressError, match="--auth"):
        serving.sockets_for(host, 0, None)
    for one in serving.sockets_for(host, 0, Credentials(AUTH)):
        one.close()


def test_addresses_of_this_machine() -> None:
    """By name or number, all at one port."""
    for host in ("127.0.0.1", "localhost", "127.0.0.7", *(["::1"] if IPV6 else [])):
        listening = serving.sockets_for(host, 0, None)
        assert len({one.getsockname()[1] for one in listening}) == 1
        assert all(serving.url_of(one).startswith("http://") for one in listening)
        assert all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in listening)
        for one in listening:
            one.close()


def test_addresses_that_are_none() -> None:
    """What cannot be served at is told with the reason, and nothing stays open."""
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(serving.AddressError, match="in use"):
        serving.sockets_for("127.0.0.1", taken.getsockname()[1], None)
    for host in ("nowhere.invalid", "256.1.1.1", "192.0.2.1", "a" * 300, "a..b"):
        with pytest.raises(serving.AddressError, match="cannot serve at"):
            serving.sockets_for(host, 0, None)


WRONGLY_PASSED: dict[str, tuple[str | None, str | None, str]] = {
    "to another process": ("1", "1", "LISTEN_PID"),
    "to a process without a number": ("x", "1", "LISTEN_PID"),
    "to nobody": ("", "1", "LISTEN_PID"),
    "without saying to whom": (None, "1", "LISTEN_PID"),
    "how many is not said": ("ours", None, "LISTEN_FDS"),
    "none": ("ours", "0", "LISTEN_FDS"),
    "fewer than none": ("ours", "-1", "LISTEN_FDS"),
    "no number": ("ours", "one", "LISTEN_FDS"),
    "a number in other letters": ("ours", "\u0661", "LISTEN_FDS"),
    "more than there are": ("ours", "2", "LISTEN_FDS"),
    "more than there can be": ("ours", "9" * 30, "LISTEN_FDS"),
}


@pytest.mark.parametrize(
    ("pid", "number", "told"), WRONGLY_PASSED.values(), ids=list(WRONGLY_PASSED)
)
def test_sockets_that_are_passed_wrongly(
    monkeypatch: pytest.MonkeyPatch, pid: str | None, number: str | None, told: str
) -> None:
    """It is told, and nothing else is served at in their place."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        monkeypatch.setattr(serving, "_FIRST_PASSED", _last_of_all(passed))
        for name, value in (("LISTEN_PID", pid), ("LISTEN_FDS", number)):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, str(os.getpid()) if value == "ours" else value)
        with pytest.raises(serving.AddressError, match=told) as refused:
            serving.sockets_for("127.0.0.1", 0, None)
    assert "\n" not in str(refused.value)


def _last_of_all(passed: socket.socket) -> int:
    """Return a descriptor of a socket after which there is none."""
    return fcntl.fcntl(passed, fcntl.F_DUPFD_CLOEXEC, 900)


@pytest.mark.parametrize(
    ("family", "kind", "told"),
    [
        (socket.AF_UNIX, socket.SOCK_STREAM, "a UNIX socket"),
        (socket.AF_INET, socket.SOCK_DGRAM, "TCP"),
        (socket.AF_INET, socket.SOCK_STREAM, "does not listen"),
    ],
)
def test_sockets_of_other_kinds(
    monkeypatch: pytest.MonkeyPatch, family: int, kind: int, told: str
) -> None:
    """Only what listens for TCP connections is served at."""
    with socket.socket(family, kind) as passed:
        monkeypatch.setattr(serving, "_FIRST_PASSED", os.dup(passed.fileno()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        with pytest.raises(serving.AddressError, match=told) as refused:
            serving.sockets_for("127.0.0.1", 0, None)
    assert "ListenStream=" in str(refused.value)


def test_the_path_of_a_socket_is_no_address() -> None:
    """Whoever asks for a UNIX socket is told so."""
    with pytest.raises(serving.AddressError, match="UNIX socket"):
        serving.sockets_for("/run/localgcl.sock", 0, None)


def test_sockets_that_systemd_has_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are served at where the variables are meant for this process."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        monkeypatch.setattr(serving, "_FIRST_PASSED", os.dup(passed.fileno()))
        monkeypatch.setenv("LISTEN_FDS", "1")
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        (taken,) = serving.sockets_for("192.0.2.1", 1, None)
        assert taken.getsockname() == passed.getsockname()
        taken.close()
