"""`python -m tests.benchmarks.served`: `localgcl serve` under load, and beside Prefect's server.

With `--prefect PYTHON`, an interpreter that has Prefect, the client of which is used unchanged
against both servers, which take turns. The status is 1 where a figure does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localgcl import Limiter
from tests.benchmarks.figures import NONE
from tests.benchmarks.table import headline, render

LIMITS = "/api/v2/concurrency_limits"
CLIENT = Path(__file__).parent.parent / "server" / "prefect_client.py"
ROUNDS = 3

_FEW = 5  # slots, for which 205 clients contend

# What an allocator keeps for itself, in a quarter of the time.
_GROWTH_KILOBYTES = 4096


@dataclass(frozen=True)
class Line:
    """A line of a table, and whether its figure holds."""

    figure: str
    measured: list[str]
    target: str
    holds: bool


@dataclass
class Server:
    """A server in a process, and where it listens."""

    name: str
    command: list[str]
    port: int
    variables: dict[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and return once it answers."""
        self.process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.variables},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 90
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/api/health")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                time.sleep(0.02)
            finally:
                connection.close()
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name} did not start")

    def end(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal and wait for its end."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)

    def resident_kilobytes(self) -> int:
        """Return how much memory it has."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def create(self, name: str, limit: int, decay: float = 0.0) -> None:
        """Create a limit through it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        body = {"name": name, "limit": limit, "slot_decay_per_second": decay}
        connection.request("POST", f"{LIMITS}/", json.dumps(body), _JSON)
        assert connection.getresponse().status == 201
        connection.close()


_JSON = {"content-type": "application/json"}


def free_port() -> int:
    """Return a port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        port: int = one.getsockname()[1]
        return port


def ours(folder: str) -> Server:
    """Return our server."""
    port = free_port()
    words = [sys.executable, "-m", "localgcl", "--db", f"{folder}/limits.db"]
    return Server("localgcl serve", [*words, "serve", "--port", str(port)], port, {})


def theirs(folder: str, python: str) -> Server:
    """Return Prefect's."""
    port = free_port()
    words = [python, "-m", "prefect", "server", "start", "--no-ui", "--port", str(port)]
    variables = {"PREFECT_HOME": f"{folder}/prefect", "DO_NOT_TRACK": "1"}
    return Server("prefect server", words, port, variables)


# Under load


class Connection:
    """A client's connection, which asks and waits for the answer."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def post(self, path: str, body: object) -> tuple[int, bytes]:
        """Return status and body; ConnectionError where the server is gone."""
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        content = json.dumps(body).encode()
        head = f"POST {LIMITS}/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json"
        self.writer.write(f"{head}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
        try:
            answer = await self.reader.readuntil(b"\r\n\r\n")
            length = answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
            return int(answer[9:12]), await self.reader.readexactly(int(length or 0))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            raise ConnectionError from None

    def close(self) -> None:
        """Hang up."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


class Load:
    """What many clients do for a while, and what they have seen."""

    def __init__(self, port: int, ends: float) -> None:
        self.port = port
        self.ends = ends
        self.answers = 0
        self.cut_takes = 0
        self.cut_releases = 0
        self.holding: set[str] = set()
        self.most = 0
        self.never_served = 0

    async def turn_over(self, name: str, *, hold: float = 0.0, every: float = 0.0) -> None:
        """Take, hold for so long and give back, over and over, or once in so many seconds."""
        connection = Connection(self.port)
        due = time.monotonic()
        served = False
        while time.monotonic() < self.ends:
            lease = await self._take(connection, name)
            if lease is None:
                continue
            served = True
            self.holding.add(lease)
            self.most = max(self.most, len(self.holding))
            due += every
            await asyncio.sleep(max(hold, due - time.monotonic()))
            self.holding.discard(lease)
            await self._insist(connection, "decrement-with-lease", {"lease_id": lease})
        connection.close()
        self.never_served += not served

    async def _take(self, connection: Connection, name: str) -> str | None:
        body = {"names": [name], "slots": 1, "lease_duration": 3600}
        try:
            status, answer = await connection.post("increment-with-lease", body)
        except OSError:
            self.cut_takes += 1
            await asyncio.sleep(0.05)
            return None
        self.answers += 1
        if status == 423:  # to ask again, in its place
            await asyncio.sleep(0.05)
            return None
        assert status == 200, (status, answer)
        return str(json.loads(answer)["lease_id"])

    async def _insist(self, connection: Connection, path: str, body: object) -> None:
        while True:
            try:
                status, _ = await connection.post(path, body)
            except OSError:
                self.cut_releases += 1
                await asyncio.sleep(0.05)
                continue
            self.answers += 1
            assert status == 204, status
            return


def under_load(seconds: float, rate: int) -> list[Line]:
    """Have 200 wait at once and others ask `rate` times a second; kill the server in between."""
    with tempfile.TemporaryDirectory() as folder:
        server = ours(folder)
        server.start()
        server.create("few", _FEW)
        server.create("many", 1000)
        before = server.resident_kilobytes()
        resident = [before]
        load = Load(server.port, time.monotonic() + seconds)
        others = Load(server.port, load.ends)

        async def main() -> None:
            clients = [load.turn_over("few", hold=0.01) for _ in range(205)]
            busy = [others.turn_over("many", every=2 * 40 / rate) for _ in range(40)]
            running = asyncio.gather(*clients, *busy)
            await asyncio.sleep(seconds / 2)
            resident.append(server.resident_kilobytes())
            server.end(signal.SIGKILL)
            server.start()
            await asyncio.sleep(seconds / 4)
            resident.append(server.resident_kilobytes())
            await running
            resident.append(server.resident_kilobytes())

        began = time.monotonic()
        asyncio.run(main())
        took = time.monotonic() - began
        with Limiter(f"{folder}/limits.db") as limiter:
            # A grant whose answer the kill has cut off is held until its lease ends, as anywhere.
            left = {one.name: one.active_slots for one in limiter.read_all()}
        server.end()
    answers = (load.answers + others.answers) / took
    cut_takes, kept = load.cut_takes + others.cut_takes, sum(left.values())
    cut = cut_takes + load.cut_releases + others.cut_releases
    shown = " ".join(f"{kb // 1024} MB" for kb in resident)
    return [
        Line(
            "requests answered, 245 clients, 200 of them waiting",
            [f"{answers:.0f}/s"],
            f"≥ {rate}/s",
            answers >= rate,
        ),
        Line(f"most that held a slot of {_FEW}", [f"{load.most}"], f"{_FEW}", load.most == _FEW),
        Line("clients never served", [f"{load.never_served}"], "0", load.never_served == 0),
        Line("connections that the kill has cut", [f"{cut}"], "≥ 1", cut >= 1),
        Line(
            "slots of grants that it has cut, held until their leases end",
            [f"{kept}"],
            f"≤ {cut_takes} asking then",
            kept <= cut_takes,
        ),
        Line(
            "resident memory, by quarters",
            [shown],
            f"+ {_GROWTH_KILOBYTES // 1024} MB",
            # The first is of a server that has not served, and the third of a new one.
            resident[3] - resident[2] <= _GROWTH_KILOBYTES,
        ),
    ]


# Beside Prefect's server

_BARE = "a pair over one connection, ms"
_PAIR = "a pair by Prefect's client, ms"
_JOBS = "20 jobs of 10 ms, s"
_RATE = "of 20/s delivered, %"

# What ours is to reach, beside theirs.
_TARGETS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    _BARE: (NONE, lambda _ours, _theirs: True),
    _PAIR: ("≤ 0.33", lambda ours, theirs: ours <= theirs / 3),
    _JOBS: ("≤ 0.25", lambda ours, theirs: ours <= theirs / 4),
    # A slot or two have decayed when the first of 200 asks, which are half a percent each.
    _RATE: ("99 to 101 %", lambda ours, _theirs: 99 <= ours <= 101),
}


class Client:
    """A process with Prefect's client."""

    def __init__(self, python: str, server: Server, folder: str) -> None:
        home = tempfile.mkdtemp(dir=folder)
        variables = {
            "PREFECT_API_URL": f"http://127.0.0.1:{server.port}/api",
            "PREFECT_HOME": home,
            "DO_NOT_TRACK": "1",
        }
        self.process = subprocess.Popen(
            [python, str(CLIENT)],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )

    def tell(self, verb: str, *arguments: Any) -> None:
        """Tell it to begin something."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([verb, arguments, {}]) + "\n")

    def answer(self) -> Any:
        """Return its next answer."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def do(self, verb: str, *arguments: Any) -> Any:
        """Tell it something and return the answer."""
        self.tell(verb, *arguments)
        return self.answer()


@contextmanager
def clients(python: str, server: Server, folder: str, number: int) -> Iterator[list[Client]]:
    """Start clients that have used the server already."""
    started = [Client(python, server, folder) for _ in range(number)]
    try:
        for one in started:
            one.tell("hold", "warm")
        for one in started:
            assert one.answer() == "held"
        yield started
    finally:
        for one in started:
            one.process.kill()
            one.process.wait()


def bare_pair(server: Server, seconds: float) -> float:
    """Return the median time of taking and giving back over one connection, without a client."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    took = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        began = time.perf_counter()
        body = {"names": ["warm"], "slots": 1, "lease_duration": 300}
        connection.request("POST", f"{LIMITS}/increment-with-lease", json.dumps(body), _JSON)
        lease = json.loads(connection.getresponse().read())["lease_id"]
        body = {"lease_id": lease}
        connection.request("POST", f"{LIMITS}/decrement-with-lease", json.dumps(body), _JSON)
        connection.getresponse().read()
        took.append(time.perf_counter() - began)
    connection.close()
    return statistics.median(took)


def crowd(python: str, server: Server, folder: str) -> float:
    """Return how long 20 jobs of 10 ms take at a limit of 2, from 8 processes at once."""
    with clients(python, server, folder, 8) as started:
        for number, one in enumerate(started):
            one.tell("jobs", "two", 3 if number < 4 else 2, 0.01)
        times = [one.answer() for one in started]
    return float(max(end for _, end in times) - min(begin for begin, _ in times))


def delivered(python: str, server: Server, folder: str) -> float:
    """Return the part of 20/s that four clients get together, once the limit is full."""
    with clients(python, server, folder, 4) as started:
        started[0].do("rate", "rate", 1, 5)
        began = time.monotonic()
        for one in started:
            one.tell("rate", "rate", 1, 50)
        for one in started:
            one.answer()
        return 200 / (time.monotonic() - began) / 20


def beside_prefect(python: str) -> list[Line]:
    """Measure both servers in turns."""
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        servers = [ours(folder), theirs(folder, python)]
        try:
            for server in servers:
                server.start()
                for name, limit, decay in (("warm", 100, 0), ("two", 2, 0), ("rate", 5, 20)):
                    server.create(name, limit, decay)
            for _ in range(ROUNDS):
                for server in servers:
                    with clients(python, server, folder, 1) as (one,):
                        pair = statistics.median(one.do("pairs", "warm", 3))
                    for figure, value in (
                        (_BARE, 1000 * bare_pair(server, 2)),
                        (_PAIR, 1000 * pair),
                        (_JOBS, crowd(python, server, folder)),
                        (_RATE, 100 * delivered(python, server, folder)),
                    ):
                        by_server = figures.setdefault(figure, {})
                        by_server.setdefault(server.name, []).append(value)
        finally:
            for server in servers:
                server.end()
    lines: list[Line] = []
    for figure, by_server in figures.items():
        first, second = (statistics.median(by_server[server.name]) for server in servers)
        target, holds = _TARGETS[figure]
        measured = [f"{first:.4g}", f"{second:.4g}", f"{first / second:.2f}"]
        lines.append(Line(figure, measured, target, holds(first, second)))
    return lines


def show(head: tuple[str, ...], lines: list[Line]) -> bool:
    """Print a table, and return whether every figure holds."""
    rows = [
        [line.figure, *line.measured, line.target, "yes" if line.holds else "NO"] for line in lines
    ]
    print(render((*head, "target", "holds"), rows, markdown=False), end="\n\n")
    return all(line.holds for line in lines)


def main() -> int:
    """Measure, print, and return 1 if any figure does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefect", metavar="PYTHON", help="an interpreter that has Prefect")
    parser.add_argument("--seconds", type=float, default=60, help="of the load (60)")
    parser.add_argument("--rate", type=int, default=1000, help="requests a second to try for")
    options = parser.parse_args()
    print(headline(), end="\n\n")
    holds = True
    if options.seconds:
        holds &= show(("under load", "measured"), under_load(options.seconds, options.rate))
    if options.prefect:
        head = ("beside it", "localgcl serve", "prefect server", "ours / theirs")
        holds &= show(head, beside_prefect(options.prefect))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
