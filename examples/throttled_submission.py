"""Tasks for a pool of threads, submitted at a bounded pace and only so many at a time.

`rate_limit` before `submit` bounds how fast tasks start. A lease of a second limit goes along with
each task and is released when it is done, so that whoever submits waits while enough are under way
and the queue of the pool stays short. Both hold for all processes that use the same names.

    $ python examples/throttled_submission.py
    20 tasks started in ... s; 20 a second, after a first 4, allow that in 0.80 s
    at most 3 were under way at once
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor

from localgcl import Lease, Limiter

TASKS = 20
AT_ONCE = 4
PER_SECOND = 20
UNDER_WAY = 3


def task() -> tuple[float, float]:
    started = time.monotonic()
    time.sleep(0.1)
    return started, time.monotonic()


def submit(limiter: Limiter, pool: ThreadPoolExecutor) -> Future[tuple[float, float]]:
    lease: Lease = limiter.acquire("tasks-under-way", strict=True)
    limiter.rate_limit("tasks-started", strict=True)
    future = pool.submit(task)
    future.add_done_callback(lambda _: lease.release())
    return future


def main() -> int:
    with (
        tempfile.TemporaryDirectory() as folder,
        Limiter(os.path.join(folder, "limits.db")) as limiter,
    ):
        limiter.create("tasks-started", AT_ONCE, slot_decay_per_second=PER_SECOND)
        limiter.create("tasks-under-way", UNDER_WAY)
        begun = time.monotonic()
        with ThreadPoolExecutor() as pool:
            futures = [submit(limiter, pool) for _ in range(TASKS)]
        times = [future.result() for future in futures]

    took = max(started for started, _ in times) - begun
    least = (TASKS - AT_ONCE) / PER_SECOND
    most = max(sum(start <= moment < end for start, end in times) for moment, _ in times)
    print(
        f"{TASKS} tasks started in {took:.2f} s; {PER_SECOND} a second, after a first {AT_ONCE},"
        f" allow that in {least:.2f} s"
    )
    print(f"at most {most} were under way at once")
    return 0 if took >= least and most <= UNDER_WAY else 1


if __name__ == "__main__":
    sys.exit(main())
