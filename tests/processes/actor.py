"""A process that does what it is told: `python -m tests.processes.actor DATABASE`.

It reads a JSON list of a verb and its arguments from each line of standard input, and answers each
with one line of JSON once it is done.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from localgcl import Lease, Limiter


class Script:
    """The verbs."""

    def __init__(self, database: str) -> None:
        self.limiter = Limiter(database)
        self.leases: list[Lease] = []

    def acquire(self, names: list[str], occupy: int = 1, timeout: float | None = None) -> str:
        self.leases.append(self.limiter.acquire(names, occupy, timeout, strict=True))
        return self.leases[-1].id

    def rate_limit(self, name: str, timeout: float | None = None) -> None:
        self.limiter.rate_limit(name, timeout_seconds=timeout, strict=True)

    def release(self) -> None:
        self.leases.pop().release()

    def fork(self) -> bool:
        """Fork while holding: the child ends its lease, takes and frees one more, and ends."""
        child = os.fork()
        if not child:
            self.leases[-1].release()
            self.limiter.acquire("other", timeout_seconds=5).release()
            os._exit(0)
        return os.waitpid(child, 0)[1] == 0

    def leave(self) -> None:
        os._exit(3)


def main() -> None:
    """Answer until standard input ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    script = Script(sys.argv[1])
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        verb, *arguments = json.loads(line)
        answer: Any
        try:
            answer = getattr(script, verb)(*arguments)
        except (Exception, KeyboardInterrupt) as error:
            answer = {"error": type(error).__name__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
