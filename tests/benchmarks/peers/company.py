"""One peer as the benchmark sees it: its processes, and what they are asked together."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
from collections.abc import Iterator, Sequence
from typing import IO, Any

from tests.benchmarks.peers.adapter import PLENTY, PROCESSES, Adapter, now
from tests.benchmarks.peers.prefect_server import NoServerError, Server
from tests.benchmarks.peers.roll import ADAPTERS

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))

# From the word to the beginning: long enough for everybody to have heard it.
_LEAD_SECONDS = 0.05
# So long may a process stay silent before the benchmark gives up on its peer.
_PATIENCE_SECONDS = 90.0


# Of what a peer has written to standard error, so many characters are told where it fails.
_LOGGED = 2000


class PeerError(Exception):
    """The peer failed at what it was asked."""


class SilenceError(PeerError):
    """A process of the peer did not answer in time."""


class Member:
    """One process; what it writes to standard error goes to the file `log`."""

    def __init__(self, python: str, name: str, peer: Adapter, log: IO[bytes]) -> None:
        self._log = log.name
        self._process = subprocess.Popen(
            [python, "-m", "tests.benchmarks.peers.worker", name, peer.folder],
            cwd=_ROOT,
            env=peer.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            bufsize=0,
        )

    def tell(self, do: str, at: float = 0.0, **arguments: Any) -> None:
        """Tell it to do something at a moment."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps({'do': do, 'at': at, **arguments})}\n".encode())

    def hear(self, seconds: float = _PATIENCE_SECONDS) -> Any:
        """Return its answer; SilenceError where none comes in time."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            raise SilenceError(f"a process was silent for {seconds:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"a process ended with status {self._process.wait()}{self._logged()}")
        word = json.loads(line)
        if isinstance(word, dict):
            raise PeerError(word["failed"] + self._logged())
        return word

    def _logged(self) -> str:
        with open(self._log, encoding="utf-8", errors="replace") as file:
            return f"\n{file.read()[-_LOGGED:]}"

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.communicate()


class Company:
    """A peer with its processes, all there until the end of the `with` block."""

    def __init__(self, name: str, python: str, folder: str) -> None:
        self.name = name
        self._python = python
        self._folder = folder
        self._server: Server | None = None
        self._members: list[Member] = []

    def __enter__(self) -> Company:
        os.mkdir(self._folder)
        with contextlib.ExitStack() as stack:
            stack.callback(self._end)
            if self.name == "prefect":
                try:
                    self._server = Server(self._python, self._folder)
                except NoServerError as error:
                    raise PeerError(str(error)) from error
            self.peer = ADAPTERS[self.name](self._folder)
            with open(os.path.join(self._folder, "log"), "wb") as log:
                for _ in range(PROCESSES):
                    self._members.append(Member(self._python, self.name, self.peer, log))
            self.ask("prepare", members=1)
            self.ask("warm_up", limit=PLENTY)
            if self._server is not None:
                self._server.stop()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        for member in self._members:
            member.end()
        if self._server is not None:
            self._server.end()

    @property
    def server_start_seconds(self) -> float | None:
        """How long its server took to start, if it has one."""
        return None if self._server is None else self._server.start_seconds

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Have its server run, if it has one."""
        with contextlib.nullcontext() if self._server is None else self._server.running():
            yield

    def ask(self, do: str, *, members: int = PROCESSES, **arguments: Any) -> list[Any]:
        """Have the first so many processes do something at one moment; return their answers."""
        asked = self._members[:members]
        at = now() + _LEAD_SECONDS
        for member in asked:
            member.tell(do, at, **arguments)
        answers, failed = [], None
        for member in asked:
            try:
                answers.append(member.hear())
            except PeerError as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return answers

    def member(self, index: int) -> Member:
        """Return one of the processes."""
        return self._members[index]

    def job(self) -> Sequence[str]:
        """Return a command that takes one slot, frees it and ends."""
        once = self.peer.once()
        return [self._python, "-c", once] if isinstance(once, str) else once
