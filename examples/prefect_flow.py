"""A Prefect flow whose tasks share a limit through localgcl, with no server for it.

Only the import of `concurrency` differs from that of Prefect. The tasks of every flow on this
machine, and whatever else takes a slot of `database`, are in one queue.

    $ python examples/prefect_flow.py
    8 tasks wrote, at most 2 of them at once
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

from prefect import flow, task

from localgcl import Limiter
from localgcl.sync import concurrency

TASKS, LIMIT = 8, 2


@task
def write(number: int) -> tuple[float, float]:
    with concurrency("database", occupy=1, strict=True):
        began = time.monotonic()
        time.sleep(0.05)
        return began, time.monotonic()


@flow
def nightly() -> list[tuple[float, float]]:
    return [future.result() for future in [write.submit(number) for number in range(TASKS)]]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOCALGCL_DB"] = os.path.join(folder, "limits.db")
        with Limiter() as limiter:
            limiter.create("database", LIMIT)
            written = nightly()
    most = max(sum(since <= began < until for since, until in written) for began, _ in written)
    print(f"{len(written)} tasks wrote, at most {most} of them at once")
    return 0 if most <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
