"""Prefect as a peer: a server of its own on a free port of this machine."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from tests.benchmarks.peers.adapter import BURST, PLENTY, RATE, SLOTS, Adapter, Block, Call, Slot

_START_SECONDS = 120.0
_END_SECONDS = 10.0
# Once it is continued, it does first what it would have done meanwhile.
_SETTLE_SECONDS = 3.0
_ADDRESS = "address"  # the file in the folder with which its processes find the server


class NoServerError(Exception):
    """The server could not be started here."""


class Prefect(Adapter):
    title = "Prefect"
    distribution = "prefect"
    settle_seconds = 1.0

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.environment |= _environment(folder)

    def prepare(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

        limits = [*((name, slots, 0.0) for name, slots in SLOTS.items()), ("rate", BURST, RATE)]
        with get_client(sync_client=True) as client:
            for name, slots, decay in limits:
                client.create_global_concurrency_limit(
                    GlobalConcurrencyLimitCreate(
                        name=name, limit=slots, slot_decay_per_second=decay
                    )
                )

    def slot(self, limit: str) -> Slot:
        from prefect.concurrency.sync import concurrency

        return Block(lambda: concurrency(limit, strict=True))

    def rate(self) -> Call:
        from prefect.concurrency.sync import rate_limit

        return lambda: rate_limit("rate", strict=True)

    def once(self) -> str:
        return (
            "from prefect.concurrency.sync import concurrency\n"
            f"with concurrency({PLENTY!r}, strict=True): pass"
        )


class Server:
    """Prefect's server; it is stopped while others are measured, and continued for its own."""

    def __init__(self, python: str, folder: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}/api"
        with open(os.path.join(folder, _ADDRESS), "w", encoding="utf-8") as file:
            file.write(url)
        began = time.monotonic()
        self._process = subprocess.Popen(
            [python, "-m", "prefect", "server", "start", "--no-ui"],
            env={**os.environ, **_environment(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait_for(f"{url}/health", began + _START_SECONDS)
        except BaseException:
            self.end()
            raise
        self.start_seconds = time.monotonic() - began

    def _wait_for(self, url: str, ends: float) -> None:
        while time.monotonic() < ends:
            if self._process.poll() is not None:
                raise NoServerError(f"its server ended with status {self._process.returncode}")
            try:
                with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own address
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise NoServerError(f"its server did not start in {_START_SECONDS:.0f} s")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Have it run, and stop it again."""
        os.killpg(self._process.pid, signal.SIGCONT)
        time.sleep(_SETTLE_SECONDS)
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Have it use no processor."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def end(self) -> None:
        """End it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            os.killpg(self._process.pid, signal.SIGCONT)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def _environment(folder: str) -> dict[str, str]:
    with open(os.path.join(folder, _ADDRESS), encoding="utf-8") as file:
        url = file.read()
    return {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": folder,
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": url.rpartition(":")[2].partition("/")[0],
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
