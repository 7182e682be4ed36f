"""Prefect as a peer: its server on a free port of this machine, in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

_START_SECONDS = 60.0
_END_SECONDS = 10.0


class NoServerError(Exception):
    """The server could not be started here."""


@contextlib.contextmanager
def server(folder: str) -> Iterator[None]:
    """Run Prefect's server; who calls `create`, `pair` and `rate` finds it through the folder."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    with open(_address(folder), "w", encoding="utf-8") as file:
        file.write(url)
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--no-ui"],
        env={**os.environ, **_environment(folder)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"{url}/health", process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    ends = time.monotonic() + _START_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise NoServerError(f"its server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - our own address
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise NoServerError(f"its server did not start in {_START_SECONDS:.0f} s")


def _address(folder: str) -> str:
    return os.path.join(folder, "address")


def _environment(folder: str) -> dict[str, str]:
    with open(_address(folder), encoding="utf-8") as file:
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


def create(folder: str, name: str, limit: int, slot_decay_per_second: float = 0.0) -> None:
    """Create a limit."""
    os.environ.update(_environment(folder))  # before the import, which reads it
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    wanted = GlobalConcurrencyLimitCreate(
        name=name, limit=limit, slot_decay_per_second=slot_decay_per_second
    )
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(concurrency_limit=wanted)


def pair(folder: str, name: str) -> Callable[[], None]:
    """Return what acquires and releases a slot of a limit."""
    os.environ.update(_environment(folder))
    from prefect.concurrency.sync import concurrency

    def call() -> None:
        with concurrency(name, strict=True):
            pass

    return call


def rate(folder: str, name: str) -> Callable[[], None]:
    """Return what waits for the rate of a limit."""
    os.environ.update(_environment(folder))
    from prefect.concurrency.sync import rate_limit

    def call() -> None:
        rate_limit(name, strict=True)

    return call
