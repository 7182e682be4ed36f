"""Prefect's own client and command line, unchanged, against the server.

They run under the interpreter that the variable LOCALGCL_PREFECT_PYTHON names, or else under this
one if it has Prefect. One server and few processes do for all, since Prefect is slow to start.
"""

from __future__ import annotations

import concurrent.futures
import functools
import json
import os
import select
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localgcl import Limiter
from tests.helpers.needs import PREFECT_PYTHON, takes_prefect
from tests.helpers.served import Process
from tests.helpers.waiting import until
from tests.server import prefect_client

pytestmark = [
    pytest.mark.processes,
    takes_prefect,
    pytest.mark.timeout(300),
]

# Prefect starts in seconds, and a lease that is lost is noticed after three tries.
DEADLINE_SECONDS = 120.0

AUTH = "app:password"


class Client:
    """A process with Prefect's client."""

    def __init__(self, url: str, home: Path, **variables: str) -> None:
        home.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
        given = {
            "PREFECT_API_URL": f"{url}/api",
            "PREFECT_HOME": str(home),
            "DO_NOT_TRACK": "1",
            "NO_COLOR": "1",
            "COLUMNS": "300",
            **variables,
        }
        self.errors = (home / "stderr").open("w+")
        assert PREFECT_PYTHON is not None
        self.process = subprocess.Popen(
            [PREFECT_PYTHON, prefect_client.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            bufsize=1,
            env={**kept, **given},
        )

    def tell(self, verb: str, *arguments: Any, **options: Any) -> None:
        """Tell it to begin something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, arguments, options]) + "\n")

    def answer(self) -> Any:
        """Return its next answer."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_SECONDS)
        assert ready, "the client did not answer"
        line = self.process.stdout.readline()
        assert line, self.written()
        return json.loads(line)

    def do(self, verb: str, *arguments: Any, **options: Any) -> Any:
        """Tell it something and return the answer."""
        self.tell(verb, *arguments, **options)
        return self.answer()

    def gcl(self, *arguments: str) -> tuple[int, str]:
        """Run a command about global concurrency limits; return its status and output."""
        status, output, errors = self.do("cli", "gcl", *arguments)
        assert errors == ""
        assert "Traceback" not in output, output
        return status, output

    def written(self) -> str:
        """Return what it has written on standard error."""
        self.errors.seek(0)
        return self.errors.read()

    def complaints(self) -> list[str]:
        """Return the lines that it has written on standard error, but one that is always there."""
        return [line for line in self.written().splitlines() if "Still processing" not in line]

    def end(self) -> int:
        """Let it end by itself, and return its status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """End it, however it is."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            assert stream is not None
            stream.close()


@pytest.fixture(scope="module")
def database(auth: str | None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the database of all these tests is, one for each server."""
    return str(tmp_path_factory.mktemp("prefect") / "limits.db")


@pytest.fixture(scope="module", params=[None, AUTH], ids=["for everybody", "with credentials"])
def auth(request: pytest.FixtureRequest) -> str | None:
    """The credentials that the server asks for: everything is tried with and without."""
    asked: str | None = request.param
    return asked


@pytest.fixture(scope="module")
def server(database: str, auth: str | None) -> Iterator[Process]:
    """The server of all these tests."""
    one = Process(database, *(() if auth is None else ("--auth", auth)))
    yield one
    one.popen.kill()
    one.popen.communicate()


Start = Callable[..., Client]


@pytest.fixture(scope="module")
def start_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start clients of any server, gone with the last of these tests."""
    started: list[Client] = []

    def starting(url: str, **variables: str) -> Client:
        home = tmp_path_factory.mktemp("home") / "prefect"
        started.append(Client(url, home, **variables))
        return started[-1]

    yield starting
    for one in started:
        one.close()


@pytest.fixture(scope="module")
def start(server: Process, auth: str | None, start_at: Start) -> Start:
    """Start clients of the server of all these tests."""
    variables = {} if auth is None else {"PREFECT_API_AUTH_STRING": auth}
    return functools.partial(start_at, server.url, **variables)


@pytest.fixture(scope="module")
def client(start: Start) -> Client:
    """A client for most of these tests."""
    return start()


@pytest.fixture
def limiter(database: str, server: Process) -> Iterator[Limiter]:
    """A limiter of the database, used directly; the limits go with the test."""
    with Limiter(database) as opened:
        yield opened
        for limit in opened.read_all():
            opened.delete(limit.name)


def failed(answer: Any, kind: str) -> str:
    """Return the text of an error that is of this kind."""
    assert isinstance(answer, dict), answer
    assert kind in answer["error"], answer
    return str(answer["text"])


REFUSED = "ConcurrencySlotAcquisitionError"


def test_the_command_line(client: Client, limiter: Limiter) -> None:
    """Every command of `prefect gcl`, done and refused, with what it says."""
    assert client.gcl("ls") == (0, "No global concurrency limits found.\n")
    status, output = client.gcl("create", "a", "--limit", "2")
    assert status == 0
    assert "Created global concurrency limit with name 'a'" in output
    status, output = client.gcl("create", "a", "--limit", "2")
    assert status == 1
    assert "already exists" in output
    for name in ("with a space", "été:ü.1", "filter"):
        assert client.gcl("create", name, "--limit", "1", "--disable")[0] == 0
    status, output = client.gcl("ls")
    assert status == 0
    assert all(name in output for name in ("a", "with a space", "été:ü.1", "filter"))
    listed = json.loads(client.gcl("ls", "-o", "json")[1])
    assert [one["name"] for one in listed] == ["a", "filter", "with a space", "été:ü.1"]
    shown = json.loads(client.gcl("inspect", "a", "-o", "json")[1])
    assert (shown["name"], shown["limit"], shown["active"]) == ("a", 2, True)
    assert uuid.UUID(shown["id"])
    status, output = client.gcl("inspect", "none")
    assert status == 1
    assert "not found" in output
    assert client.gcl("inspect", "filter")[0] == 0
    change = ("--limit", "3", "--active-slots", "1", "--slot-decay-per-second", "0.001")
    assert client.gcl("update", "a", *change)[0] == 0
    a = limiter.read("a")
    assert (a.limit, a.active_slots, a.slot_decay_per_second) == (3, 1, 0.001)
    assert client.gcl("update", "none", "--limit", "3")[0] == 1
    assert [client.gcl("disable", "a")[0] for _ in range(2)] == [0, 1]
    assert [client.gcl("enable", "a")[0] for _ in range(2)] == [0, 1]
    assert client.gcl("enable", "filter")[0] == 0
    for name in ("a", "with a space", "été:ü.1", "filter"):
        status, output = client.gcl("delete", name)
        assert status == 0
    assert client.gcl("delete", "a")[0] == 1
    assert client.gcl("ls") == (0, "No global concurrency limits found.\n")


def test_what_the_server_refuses_is_shown(client: Client, limiter: Limiter) -> None:
    """The command line shows the message of a name that only the server refuses."""
    status, output = client.gcl("create", "a" * 256, "--limit", "1")
    assert status == 1
    assert "longer than 255 characters" in output
    status, output = client.gcl("create", "a", "--limit", str(2**53))
    assert status == 1
    assert "less than or equal to" in output


def test_slots_of_every_kind(client: Client, limiter: Limiter) -> None:
    """Blocks over one and several limits, known and unknown, blocking and awaited."""
    for name, limit in (("a", 2), ("b", 1), ("none at all", 0)):
        limiter.create(name, limit)
    for names, options in (
        ("a", {}),
        (["b", "a"], {"occupy": 1}),
        ("a", {"occupy": 2}),
        (["a", "unknown"], {}),
        (["a", "unknown"], {"strict": True}),
        ("unknown", {}),
        (["a", "a"], {"lease_duration": 60}),
        ([], {}),
    ):
        assert client.do("hold", names, **options) == "held", names
        assert client.do("hold_async", names, 0, **options) == "held", names
    assert client.do("hold_together", ["a"], 10) == "held"
    assert "must be created" in failed(client.do("hold", "unknown", strict=True), REFUSED)
    for names, occupy in (("a", 3), ("none at all", 1)):
        text = failed(client.do("hold", names, occupy=occupy), REFUSED)
        assert "422 Unprocessable Entity: Slots requested is greater than the limit" in text
    text = failed(client.do("rate", "a", 1, 1), REFUSED)
    assert "Only concurrency limits with slot decay can be used for rate limiting" in text
    until(lambda: all(one.active_slots == 0 for one in limiter.read_all()))


def test_contention(client: Client, limiter: Limiter) -> None:
    """Behind a process of this machine: times out, gives up, passes once the limit is disabled."""
    limiter.create("a", 1)
    held = limiter.acquire("a")
    answer = client.do("hold", "a", timeout_seconds=1)
    failed(answer, "TimeoutError")
    until(lambda: limiter.waiters() == [])
    text = failed(client.do("hold", "a", max_retries=0), REFUSED)
    assert "423 Locked" in text
    client.tell("hold", "a")
    until(lambda: len(limiter.waiters()) == 1)
    limiter.update("a", active=False)
    assert client.answer() == "held"
    limiter.update("a", active=True)
    client.tell("hold", "a")
    until(lambda: len(limiter.waiters()) >= 1)
    held.release()
    assert client.answer() == "held"


def test_a_rate(client: Client, limiter: Limiter) -> None:
    """Five slots a call at 20/s: once full, no more than four calls a second."""
    limiter.create("api", 5, slot_decay_per_second=20)
    assert client.do("rate", "api", 5, 9) >= 1.95


def test_a_lease_is_renewed(client: Client, limiter: Limiter) -> None:
    """A block that lasts longer than its lease keeps its slot, and frees it at its end."""
    limiter.create("a", 1)
    assert client.do("enter", "a", lease_duration=4) == "entered"
    (holder,) = limiter.holders()
    until(lambda: limiter.holders()[0].held_seconds > 7)
    assert [one.lease for one in limiter.holders()] == [holder.lease]
    assert client.do("leave") == "left"
    assert limiter.read("a").active_slots == 0


def test_a_lease_that_is_taken_away(client: Client, limiter: Limiter) -> None:
    """An operator frees it: a strict block is cancelled, any other ends as if nothing had been."""
    limiter.create("a", 1)
    client.tell("hold_async", "a", 60, lease_duration=2, strict=True)
    until(lambda: len(limiter.holders()) == 1)
    assert limiter.release(limiter.holders()[0].lease)
    failed(client.answer(), "CancelledError")
    client.tell("hold_async", "a", 4, lease_duration=2)
    until(lambda: len(limiter.holders()) == 1)
    assert limiter.release(limiter.holders()[0].lease)
    assert client.answer() == "held"


def test_the_server_is_restarted_under_a_lease(start_at: Start, tmp_path: Path) -> None:
    """Killed and started again at the same address: the block goes on and frees its slot."""
    path = str(tmp_path / "limits.db")
    with Limiter(path) as limiter:
        limiter.create("a", 1)
        first = Process(path)
        client = start_at(first.url)
        assert client.do("enter", "a", lease_duration=60) == "entered"
        first.end(signal.SIGKILL)
        second = Process(path, "--port", first.url.rpartition(":")[2])
        try:
            assert limiter.read("a").active_slots == 1
            assert client.do("leave") == "left"
            assert limiter.read("a").active_slots == 0
        finally:
            second.end(signal.SIGTERM)


def test_together_with_processes_that_use_localgcl(
    client: Client, start: Start, limiter: Limiter, tmp_path: Path
) -> None:
    """Both on one limit of two: never more than two, each gets its turns; then one is killed."""
    limiter.create("a", 2)
    other = start()
    path = str(tmp_path / "count")
    for one in (client, other):
        one.tell("work", "a", 10, path)

    def directly() -> None:
        for _ in range(50):
            with limiter.concurrency("a"), prefect_client.counted(path):
                pass

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(directly) for _ in range(2)]:
            done.result(DEADLINE_SECONDS)
    assert [one.answer() for one in (client, other)] == ["done", "done"]
    assert json.loads(Path(path).read_text()) == [0, 2, 120]
    assert other.do("enter", "a", occupy=2, lease_duration=5) == "entered"
    other.process.kill()
    with limiter.concurrency("a", timeout_seconds=DEADLINE_SECONDS):
        assert limiter.read("a").active_slots == 1


def test_credentials(start_at: Start, tmp_path: Path) -> None:
    """Nothing without them; everything with a password; with a key all but the events."""
    path = str(tmp_path / "limits.db")
    server = Process(path, "--auth", AUTH)
    try:
        with Limiter(path) as limiter:
            limiter.create("a", 1)
            stranger = start_at(server.url)
            assert "401 Unauthorized" in failed(stranger.do("hold", "a"), REFUSED)
            status, *_ = stranger.do("cli", "gcl", "ls")
            assert status == 1
            for variable in ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
                known = start_at(server.url, **{variable: AUTH})
                assert known.gcl("update", "a", "--limit", "2")[0] == 0
                assert known.do("enter", "a") == "entered"
                if variable == "PREFECT_API_AUTH_STRING":
                    assert [one.user for one in limiter.holders()] == ["app"]
                assert known.do("leave") == "left"
                assert known.end() == 0
                if variable == "PREFECT_API_AUTH_STRING":
                    assert known.complaints() == []
    finally:
        server.end(signal.SIGTERM)


def test_a_client_ends_in_silence(start: Start, limiter: Limiter) -> None:
    """Nothing on standard error, and no hanging at the end: version and events are answered."""
    limiter.create("a", 2)
    one = start()
    assert one.do("hold", ["a"]) == "held"
    assert one.do("hold_async", "a", 0) == "held"
    assert one.end() == 0
    assert one.complaints() == []
