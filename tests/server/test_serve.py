"""`localgcl serve` as a process: where it serves, whom it refuses to, and how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from localgcl import Limiter
from tests.helpers.programs import Invoke
from tests.helpers.served import LIMITS, Process, give, leased
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes


Start = Callable[..., Process]


@pytest.fixture
def start(path: str) -> Iterator[Start]:
    """Start servers that are gone with the test."""
    started: list[Process] = []

    def starting(*options: str) -> Process:
        started.append(Process(path, *options))
        return started[-1]

    yield starting
    for one in started:
        one.popen.kill()
        one.popen.communicate()


def test_it_ends_cleanly(start: Start, limiter: Limiter) -> None:
    """On either signal: who waits is answered, who listens is let go, nothing is written."""
    limiter.create("db", 1)
    limiter.acquire("db")
    for number in (signal.SIGTERM, signal.SIGINT):
        server = start()
        with server.client() as client, client.stream("GET", "/ui/events") as stream:
            next(stream.iter_lines())
            body = '{"names": ["db"], "slots": 1}'
            waiting = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    "import http.client, sys\n"
                    "one = http.client.HTTPConnection(sys.argv[1])\n"
                    "one.request('POST', sys.argv[2], sys.argv[3])\n"
                    "sys.exit(0 if one.getresponse().status == 503 else 1)",
                    server.url.removeprefix("http://"),
                    f"{LIMITS}/increment-with-lease",
                    body,
                ]
            )
            until(lambda: limiter.read("db").waiting == 1)
            assert server.end(number) == (0, "")
            assert waiting.wait(DEADLINE_SECONDS) == 0
            assert limiter.waiters() == []


def test_it_is_killed_and_started_again(start: Start, limiter: Limiter) -> None:
    """Leases are there again, what waited is gone, and nothing is counted twice."""
    limiter.create("db", 2)
    first = start()
    with first.client() as client:
        leases = [leased(client, "db") for _ in range(2)]
        first.end(signal.SIGKILL)
    assert limiter.read("db").active_slots == 2
    with start().client() as client:
        renew = f"{LIMITS}/leases/{leases[0]}/renew"
        assert client.post(renew, json={"lease_duration": 60}).status_code == 204
        for left, lease in ((1, leases[0]), (1, leases[0]), (0, leases[1])):
            assert give(client, lease).status_code == 204
            assert limiter.read("db").active_slots == left


def test_it_serves_at_the_socket_of_systemd(path: str) -> None:
    """What was passed to it is used, whatever the options say; clients before it began waited."""
    with socket.create_server(("127.0.0.1", 0)) as passed:
        waiting = socket.create_connection(passed.getsockname(), DEADLINE_SECONDS)
        waiting.sendall(b"GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        script = 'exec 3<&"$0"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        serve = [sys.executable, "-m", "localgcl", "--db", path, "serve", "--port", "1"]
        server = subprocess.Popen(
            ["bash", "-c", script, str(passed.fileno()), *serve], pass_fds=[passed.fileno()]
        )
    with waiting:
        assert waiting.recv(4096).startswith(b"HTTP/1.1 200 OK\r\n")
    server.terminate()
    assert server.wait(DEADLINE_SECONDS) == 0


PASSED = {
    "a UNIX socket": (socket.AF_UNIX, "1", "$$", "ListenStream="),
    "to another process": (socket.AF_INET, "1", "1", "LISTEN_PID"),
    "in no number": (socket.AF_INET, "x", "$$", "LISTEN_FDS"),
    "fewer than said": (socket.AF_INET, "2", "$$", "LISTEN_FDS"),
}


@pytest.mark.parametrize("what", PASSED)
def test_what_is_passed_by_mistake(path: str, tmp_path: Path, what: str) -> None:
    """One line says what is wrong, and nothing is served."""
    family, number, pid, told = PASSED[what]
    with socket.socket(family) as passed:
        passed.bind(str(tmp_path / "socket") if family == socket.AF_UNIX else ("127.0.0.1", 0))
        passed.listen()
        script = f'exec 3<&"$0"; exec 4<&-; LISTEN_FDS={number} LISTEN_PID={pid} exec "$@"'
        done = subprocess.run(
            [
                *("bash", "-c", script, str(passed.fileno())),
                *(sys.executable, "-m", "localgcl", "--db", path, "serve", "--port", "0"),
            ],
            pass_fds=[passed.fileno()],
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
        )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("Error: ")
    assert told in done.stderr


def test_a_fault_is_told_in_the_log(start: Start, limiter: Limiter, path: str) -> None:
    """Once, with the path that its clients are not told."""
    limiter.create("db", 1)
    limiter.close()
    server = start()
    Path(path).unlink()
    Path(path).write_text("no database at all")
    with server.client() as client:
        until(lambda: client.get("/api/ready").status_code == 503)
        for _ in range(3):
            assert path not in client.get("/api/ready").text
    status, errors = server.end(signal.SIGTERM)
    assert status == 0
    assert errors.count(path) == 1


def test_strangers_write_nothing_into_the_log(start: Start) -> None:
    """Whatever they send."""
    server = start("--auth", "app:password")
    address = server.url.removeprefix("http://").partition(":")
    for request in (b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: x\r\n"):
        with socket.create_connection((address[0], int(address[2])), DEADLINE_SECONDS) as one:
            one.sendall(request + b"Connection: upgrade\r\n\r\n")
            while one.recv(65536):
                pass
    assert server.end(signal.SIGTERM) == (0, "")


def test_the_password_is_not_in_the_database(
    start: Start, limiter: Limiter, tmp_path: Path, path: str
) -> None:
    """Who waits is shown with the command line of the server, without what lets in."""
    limiter.create("db", 1)
    held = limiter.acquire("db")
    known = "app:zwiebelkuchen"
    file = tmp_path / "auth"
    file.write_text(f"{known}\n")
    for options in (("--auth", known), ("--auth-file", str(file))):
        server = start(*options)
        with server.client() as client:
            assert client.get("/").status_code == 401
            client.auth = ("app", "zwiebelkuchen")
            with pytest.raises(httpx.ReadTimeout):
                client.post(
                    f"{LIMITS}/increment-with-lease",
                    json={"names": ["db"], "slots": 1},
                    timeout=0.5,
                )
        assert server.end(signal.SIGTERM) == (0, "")
    held.release()
    limiter.close()
    for one in (path, f"{path}-wal"):
        if Path(one).exists():
            assert b"zwiebelkuchen" not in Path(one).read_bytes()


def test_wrong_usage(invoke: Invoke, tmp_path: Path) -> None:
    """It is told what is wrong before anything is opened."""
    empty, binary = tmp_path / "empty", tmp_path / "binary"
    empty.touch()
    binary.write_bytes(b"\xff\xfe")
    for options in (
        ("--port", "65536"),
        ("--port", "x"),
        ("--auth", "app"),
        ("--auth", "app:"),
        ("--auth", ":password"),
        ("--auth", ""),
        ("--auth", "a:b", "--auth-file", str(empty)),
        ("--auth-file", str(empty)),
        ("--auth-file", str(tmp_path)),
        ("--auth-file", str(tmp_path / "none")),
    ):
        done = invoke("serve", *options)
        assert done.exit_code == 2, options
        assert "Usage:" in done.output
    done = invoke("serve", "--auth-file", str(binary))
    assert (done.exit_code, done.output.count("\n")) == (1, 1)


def test_where_it_cannot_serve(start: Start, invoke: Invoke, tmp_path: Path) -> None:
    """One line says why: the address is taken, of elsewhere, or none; the file is no database."""
    taken = start().url.rpartition(":")[2]
    for options, reason in (
        (("--port", taken), "in use"),
        (("--host", "0.0.0.0"), "--auth"),  # noqa: S104
        (("--host", "nowhere.invalid"), "cannot serve at"),
    ):
        done = invoke("serve", *options)
        assert done.exit_code == 1, options
        assert done.output.startswith("Error: ")
        assert done.output.count("\n") == 1
        assert reason in done.output
    (tmp_path / "text").write_text("no database")
    arguments = ["--db", str(tmp_path / "text"), "serve", "--port", "0"]
    run = subprocess.run(
        [sys.executable, "-m", "localgcl", *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (1, "", 1)
    assert run.stderr.startswith("Error: ")


def test_without_the_extra(path: str) -> None:
    """One line says how to install it, whichever library is missing."""
    for missing in ("starlette", "uvicorn", "h11", "wsproto", "jinja2", "prometheus_client"):
        code = (
            "import sys\n"
            f"sys.modules[{missing!r}] = None\n"
            "from localgcl.cli import localgcl\n"
            f"localgcl(['--db', {path!r}, 'serve', '--port', '0'])"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_SECONDS
        )
        assert run.returncode == 1, missing
        assert run.stderr == (
            f"Error: {missing} is missing; install the server with:"
            " pip install 'localgcl[server]'\n"
        )
