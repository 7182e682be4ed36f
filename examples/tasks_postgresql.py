"""Tasks of several processes that share a PostgreSQL server of 10 connections.

Each process runs 20 tasks in an event loop of its own; an `asyncio.Semaphore` in each would not
know of the others. With `async with concurrency(...)` the tasks of all of them wait for one
another, and none is turned away. The example starts a server of its own, which needs PostgreSQL's
programs (apt-get install postgresql) and psycopg (pip install "psycopg[binary]").

    $ python examples/tasks_postgresql.py
    without localgcl: ... of 60 tasks were refused: too many clients
    with localgcl: 0 of 60 tasks were refused
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor

import psycopg
from _postgresql import connect_async, has_no_room, server

from localgcl import Limiter
from localgcl.asyncio import concurrency

PROCESSES = 3
TASKS = 20
CONNECTIONS = 10


async def query(conninfo: str, limit: str | None) -> bool:
    """Use a connection for a while; return whether the server refused it."""
    try:
        async with concurrency(limit, strict=True), connect_async(conninfo) as connection:
            await connection.execute("SELECT pg_sleep(0.25)")
    except psycopg.OperationalError as error:
        if not has_no_room(error):
            raise
        return True
    return False


async def queries(conninfo: str, limit: str | None) -> int:
    """Have many tasks query at once; return how many were refused."""
    return sum(await asyncio.gather(*[query(conninfo, limit) for _ in range(TASKS)]))


def process(conninfo: str, limit: str | None) -> int:
    return asyncio.run(queries(conninfo, limit))


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, server(CONNECTIONS) as conninfo:
        # The processes of the pool inherit the environment, and so share one database of limits.
        os.environ["LOCALGCL_DB"] = os.path.join(folder, "limits.db")
        with Limiter() as limiter:
            limiter.create("postgresql", CONNECTIONS)

        def refused(limit: str | None) -> int:
            return sum(pool.map(process, [conninfo] * PROCESSES, [limit] * PROCESSES))

        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(PROCESSES, context) as pool:
            without, within = refused(None), refused("postgresql")

    tasks = PROCESSES * TASKS
    print(f"without localgcl: {without} of {tasks} tasks were refused: too many clients")
    print(f"with localgcl: {within} of {tasks} tasks were refused")
    return 0 if without > 0 and within == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
