"""32 processes that share a PostgreSQL server of 10 connections, and none is turned away.

PostgreSQL refuses who comes when `max_connections` are taken; with `concurrency` they wait for one
another instead. The example starts a server of its own, which needs PostgreSQL's programs
(apt-get install postgresql) and psycopg (pip install "psycopg[binary]").

    $ python examples/pool_postgresql.py
    without localgcl: ... of 32 processes were refused: too many clients
    with localgcl: 0 of 32 processes were refused
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor

import psycopg
from _postgresql import connect, has_no_room, server

from localgcl import Limiter, concurrency

PROCESSES = 32
CONNECTIONS = 10


def query(conninfo: str, limit: str | None) -> bool:
    """Use a connection for a while; return whether the server refused it."""
    try:
        with concurrency(limit, strict=True), connect(conninfo) as connection:
            connection.execute("SELECT pg_sleep(0.25)")
    except psycopg.OperationalError as error:
        if not has_no_room(error):
            raise
        return True
    return False


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, server(CONNECTIONS) as conninfo:
        # The processes of the pool inherit the environment, and so share one database of limits.
        os.environ["LOCALGCL_DB"] = os.path.join(folder, "limits.db")
        with Limiter() as limiter:
            limiter.create("postgresql", CONNECTIONS)

        def refused(limit: str | None) -> int:
            return sum(pool.map(query, [conninfo] * PROCESSES, [limit] * PROCESSES))

        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["psycopg", "localgcl"])  # loaded once instead of 32 times
        all_started = context.Barrier(PROCESSES)
        with ProcessPoolExecutor(PROCESSES, context, initializer=all_started.wait) as pool:
            without, within = refused(None), refused("postgresql")

    print(f"without localgcl: {without} of {PROCESSES} processes were refused: too many clients")
    print(f"with localgcl: {within} of {PROCESSES} processes were refused")
    return 0 if without > 0 and within == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
