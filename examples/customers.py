"""One job at a time for each customer, in a pool of processes, however many customers there are.

`customer:*` is a template: each name that begins with `customer:` is a limit of its own, which is
there only while it is in use. The decorated function makes the name from its arguments.

    $ python examples/customers.py
    30 jobs of 5 customers by 6 processes
    at most 1 job of a customer at a time, and at most ... at all
    left behind: the template customer:* and no keys
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter

from localgcl import Limiter, concurrency

PROCESSES, CUSTOMERS, JOBS = 6, 5, 30


@concurrency(lambda customer, _: f"customer:{customer}", strict=True)
def work(customer: int, job: int) -> tuple[int, float, float]:
    began = time.monotonic()
    time.sleep(0.02)
    return customer, began, time.monotonic()


def at_once(jobs: list[tuple[int, float, float]]) -> tuple[int, int]:
    """Return how many jobs of a customer, and how many at all, were under way at once."""
    of_one, of_all = 0, 0
    for _, began, _ in jobs:
        under_way = Counter(customer for customer, since, until in jobs if since <= began < until)
        of_one = max(of_one, *under_way.values())
        of_all = max(of_all, under_way.total())
    return of_one, of_all


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOCALGCL_DB"] = os.path.join(folder, "limits.db")
        with Limiter() as limiter:
            template = limiter.create("customer:*", 1)
            wanted = [(job % CUSTOMERS, job) for job in range(JOBS)]
            with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
                jobs = pool.starmap(work, wanted, chunksize=1)
                pool.close()
                pool.join()
            of_one, of_all = at_once(jobs)
            left = limiter.read(template.name).keys

    print(f"{len(jobs)} jobs of {CUSTOMERS} customers by {PROCESSES} processes")
    print(f"at most {of_one} job of a customer at a time, and at most {of_all} at all")
    print(f"left behind: the template {template.name} and {left or 'no'} keys")
    return 0 if of_one == 1 and not left else 1


if __name__ == "__main__":
    sys.exit(main())
