"""A pool of processes of which no more than two write to one SQLite database at once.

SQLite lets one writer in at a time, and whoever finds it locked for too long gets an error. Here
`concurrency` lets two of six processes in, and the others sleep in a queue instead of hammering on
the lock. Each order is written with the moments between which its process was inside.

    $ python examples/pool_sqlite.py
    6 processes wrote 30 of 30 orders
    at most 2 of them were inside at once
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import time

from localgcl import Limiter, concurrency

PROCESSES = 6
ORDERS = 30
LIMIT = 2

# For each row, how many rows were inside at the moment when it came in.
INSIDE_AT_ONCE = """
    SELECT max((SELECT count(*) FROM orders WHERE entered <= newcomer.entered
                                              AND newcomer.entered < left))
    FROM orders AS newcomer
"""


@concurrency("app-database", strict=True)
def write_order(path: str, number: int) -> None:
    entered = time.monotonic()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        with connection:
            connection.execute("INSERT INTO orders VALUES (?, ?, NULL)", (number, entered))
        time.sleep(0.02)  # stands for the rest of the work on the database
        with connection:
            connection.execute(
                "UPDATE orders SET left = ? WHERE number = ?", (time.monotonic(), number)
            )


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        # The processes of the pool inherit the environment, and so share one database of limits.
        os.environ["LOCALGCL_DB"] = os.path.join(folder, "limits.db")
        with Limiter() as limiter:
            limiter.create("app-database", LIMIT)

        path = os.path.join(folder, "app.db")
        with contextlib.closing(sqlite3.connect(path)) as app:
            app.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, entered REAL, left REAL)")
            with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
                pool.starmap(write_order, [(path, number) for number in range(ORDERS)], chunksize=1)
                pool.close()
                pool.join()
            (written,) = app.execute("SELECT count(left) FROM orders").fetchone()
            (most,) = app.execute(INSIDE_AT_ONCE).fetchone()

    print(f"{PROCESSES} processes wrote {written} of {ORDERS} orders")
    print(f"at most {most} of them were inside at once")
    return 0 if written == ORDERS and most <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
