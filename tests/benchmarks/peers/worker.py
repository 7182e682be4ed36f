"""`python -m tests.benchmarks.peers.worker NAME FOLDER`: one process of a peer, told what to do.

Orders and answers are lines of JSON. It may be run by another interpreter than the one that asks,
and imports nothing that only that one has.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from tests.benchmarks.peers.adapter import Adapter, Call, Slot, now
from tests.benchmarks.peers.roll import ADAPTERS


class Worker:
    """What one process can be told to do."""

    def __init__(self, peer: Adapter, say: Callable[[Any], None]) -> None:
        self._peer = peer
        self._say = say
        self._slots: dict[str, Slot] = {}
        self._pairs: dict[str, Call] = {}
        self._rate: Call | None = None

    def prepare(self) -> None:
        """Make the limits."""
        self._peer.prepare()

    def warm_up(self, limit: str) -> None:
        """Load and open what the first pair needs."""
        self._pairs[limit] = self._peer.pair(limit)
        self._pairs[limit]()

    def pairs(self, limit: str, seconds: float) -> tuple[int, float]:
        """Take and free a slot for so long, at least once; return how often, and how long."""
        pair, count, began = self._pairs[limit], 0, now()
        while True:
            pair()
            count += 1
            taken = now() - began
            if taken >= seconds:
                return count, taken

    def _slot(self, limit: str) -> Slot:
        if limit not in self._slots:
            self._slots[limit] = self._peer.slot(limit)
        return self._slots[limit]

    def turns(self, limit: str, seconds: float, longest_hold: float) -> int:
        """Hold a slot for a moment, again and again for so long; return how often that began."""
        slot, count, ends = self._slot(limit), 0, now() + seconds
        while now() < ends:
            slot.enter()
            count += now() < ends
            time.sleep(random.uniform(0.0, longest_hold))
            slot.leave()
        return count

    def turn(self, limit: str, hold: float) -> tuple[float, float]:
        """Hold a slot once; return when."""
        slot = self._slot(limit)
        slot.enter()
        entered = now()
        time.sleep(hold)
        left = now()
        slot.leave()
        return entered, left

    def hold(self, limit: str) -> float:
        """Take a slot and keep it; return when it came."""
        self._slot(limit).enter()
        return now()

    def leave(self, limit: str) -> float:
        """Free the slot; return the moment before."""
        left = now()
        self._slot(limit).leave()
        return left

    def die(self) -> None:
        """Kill whoever holds, and say when that was."""
        self._peer.die(self._say)

    def open_rate(self) -> None:
        """Load and open what the rate needs."""
        self._rate = self._peer.rate()

    def rate(self, seconds: float) -> list[tuple[float, float]]:
        """Ask again and again for so long; return when it was asked, and when it was let."""
        assert self._rate is not None
        found, ends = [], now() + seconds
        while (asked := now()) < ends:
            self._rate()
            found.append((asked, now()))
        return found


def main() -> None:
    """Do what is asked until nobody asks."""
    name, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(word: Any) -> None:
        print(json.dumps(word), file=answers, flush=True)

    worker = Worker(ADAPTERS[name](folder), say)
    for line in sys.stdin:
        order = json.loads(line)
        work = getattr(worker, order.pop("do"))
        time.sleep(max(0.0, order.pop("at") - now()))
        try:
            result = work(**order)
        except Exception:
            say({"failed": traceback.format_exc()})
        else:
            if work != worker.die:
                say(result)


if __name__ == "__main__":
    main()
