"""Jobs that each get two of four GPUs, and learn which: the numbers of their slots.

`localgcl run` tells the numbers to its command as LOCALGCL_SLOTS, so a shell job uses them as
CUDA_VISIBLE_DEVICES. In Python they are `lease.numbers()`.

    $ python examples/gpus.py
    6 jobs ran, each on 2 of the GPUs 0, 1, 2, 3
    no GPU had two jobs at once
    in Python: [0, 1]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from localgcl import Limiter

GPUS, EACH, JOBS = 4, 2, 6

# It takes a folder for each of its GPUs, which fails if another job has it.
JOB = """
export CUDA_VISIBLE_DEVICES=$LOCALGCL_SLOTS
for gpu in $(echo "$CUDA_VISIBLE_DEVICES" | tr , ' '); do mkdir "gpu-$gpu" || exit 1; done
sleep 0.1
for gpu in $(echo "$CUDA_VISIBLE_DEVICES" | tr , ' '); do rmdir "gpu-$gpu"; done
echo "$CUDA_VISIBLE_DEVICES"
"""


def job(folder: str) -> str:
    command = [sys.executable, "-m", "localgcl", "run", "gpu", "--occupy", str(EACH), "--"]
    done = subprocess.run(
        [*command, "sh", "-c", JOB], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOCALGCL_DB"] = os.path.join(folder, "limits.db")
        with Limiter() as limiter:
            limiter.create("gpu", GPUS)
            with ThreadPoolExecutor(JOBS) as pool:
                used = list(pool.map(job, [folder] * JOBS))
            with limiter.concurrency("gpu", occupy=EACH) as lease:
                numbers = lease.numbers()

    known = sorted({gpu for one in used for gpu in one.split(",")})
    print(f"{len(used)} jobs ran, each on {EACH} of the GPUs {', '.join(known)}")
    print("no GPU had two jobs at once")
    print(f"in Python: {numbers}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
