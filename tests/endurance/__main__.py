"""`python -m tests.endurance --seconds 60 --seed 1`: all at once, and a witness beside it."""

from __future__ import annotations

import argparse
import random
import sys

from tests.endurance.supervisor import Run, place


def main() -> int:
    """Run, print what happened, and return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.endurance", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    print(f"{options.seconds:g} seconds with seed {options.seed}", flush=True)
    with place() as (directory, own_disk):
        if not own_disk:
            print("the disk is never filled, since only root can make one of its own")
        run = Run(options.seconds, options.seed, directory, own_disk=own_disk)
        try:
            run.go()
        finally:
            kept = run.close()
            _show("processes", run.started)
            _show("faults", run.faults.counts)
            _show("requests and operations", run.witness.counts)
            print(f"sleeping waiters: {run.idle_share:.2%} of a core")
            print(f"largest -wal: {run.largest_wal / 1e6:.2f} MB")
    for violation in run.violations:
        print(violation)
    print(f"{len(run.violations)} violation(s)" + (f"; the journal is {kept}" if kept else ""))
    return 1 if run.violations else 0


def _show(title: str, counts: dict[str, int]) -> None:
    print(f"{title}: " + ", ".join(f"{what} {counts[what]}" for what in sorted(counts)))


if __name__ == "__main__":
    sys.exit(main())
