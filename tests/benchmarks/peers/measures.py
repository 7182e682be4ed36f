"""What is measured of each peer: a function for each column, given the peer's processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.benchmarks.peers.adapter import BURST, KILLED, ONE, PLENTY, PROCESSES, RATE, now
from tests.benchmarks.peers.company import Company, PeerError, SilenceError
from tests.benchmarks.rate import Admission, excess_of

_PAIR_SECONDS = 0.5
_THROUGHPUT_SECONDS = 1.0
_HOLD_SECONDS = 0.02
_ORDER_SECONDS = 5.0
_LONGEST_HOLD_SECONDS = 0.001
_RATE_SECONDS = 5.0
# What is asked at once at the beginning is over by then, also where each is a process to start; and
# where a peer lets as many through at once again and again, it does so in the middle of what is
# counted and not at its ends.
_BURST_SECONDS = 1.5 * BURST / RATE
_KILLS = 3
PATIENCE_SECONDS = 5.0


def pair(company: Company, scale: float) -> float:
    """Seconds to take a slot and free it, nobody else there."""
    ((count, taken),) = company.ask("pairs", members=1, limit=PLENTY, seconds=_PAIR_SECONDS * scale)
    seconds: float = taken / count
    return seconds


def throughput(company: Company, scale: float) -> float:
    """Pairs in a second of all processes at once, none of which has to wait for a slot."""
    found: list[tuple[int, float]] = company.ask(
        "pairs", limit=PLENTY, seconds=_THROUGHPUT_SECONDS * scale
    )
    return sum(count / taken for count, taken in found)


def hand_overs(company: Company) -> list[float]:
    """Seconds from each release to the next entry, from when all the others wait."""
    first, *others = (company.member(index) for index in range(PROCESSES))
    first.tell("hold", limit=ONE)
    first.hear()
    for member in others:
        member.tell("turn", limit=ONE, hold=_HOLD_SECONDS)
    time.sleep(company.peer.settle_seconds)
    first.tell("leave", limit=ONE)
    left = first.hear()
    turns = sorted(member.hear() for member in others)
    gaps = [
        entered - left
        for left, (entered, _) in zip([left, *(turn[1] for turn in turns)], turns, strict=False)
    ]
    if min(gaps) < 0:
        raise PeerError("two held the only slot at once")
    return gaps


def order(company: Company, scale: float) -> list[int]:
    """How many turns each of the processes has that contend for one slot."""
    return company.ask(
        "turns", limit=ONE, seconds=_ORDER_SECONDS * scale, longest_hold=_LONGEST_HOLD_SECONDS
    )


@dataclass(frozen=True)
class Delivery:
    """What a rate delivered: a part of what was asked for, and how often to each process.

    `excess` are the slots that the worst window has above burst + rate * T, by the readings.
    """

    share: float
    excess: float
    counts: list[int]


def delivery(company: Company, scale: float) -> Delivery:
    """What all the processes together get of a rate, once the burst is over."""
    seconds = _RATE_SECONDS * scale
    company.ask("open_rate")
    found: list[list[Admission]] = company.ask("rate", seconds=_BURST_SECONDS + seconds)
    began = min(asked for admissions in found for asked, _ in admissions)
    moments = [after - began - _BURST_SECONDS for admissions in found for _, after in admissions]
    served = sum(0 < moment <= seconds for moment in moments)
    return Delivery(served / (RATE * seconds), excess_of(found, BURST, RATE), [*map(len, found)])


def killed(company: Company) -> list[float | None]:
    """Seconds from the SIGKILL of a holder to the next one's entry; None: it never came."""
    company.member(0).tell("hold", limit=KILLED)
    company.member(0).hear()
    waits: list[float | None] = []
    for index in range(min(_KILLS, PROCESSES - 1)):
        holder, waiter = company.member(index), company.member(index + 1)
        waiter.tell("hold", limit=KILLED)
        time.sleep(company.peer.settle_seconds)
        holder.tell("die")
        at = holder.hear()
        try:
            waits.append(waiter.hear(PATIENCE_SECONDS) - at)
        except SilenceError:
            waits.append(None)
            break
    return waits


def start(company: Company) -> float:
    """Seconds that a job takes which takes one slot, frees it and ends."""
    return _seconds_of(list(company.job()), company.peer.environment)


def bare_start() -> float:
    """The same of an interpreter that does nothing."""
    return _seconds_of([sys.executable, "-c", "pass"], dict(os.environ))


def _seconds_of(argv: list[str], environment: dict[str, str]) -> float:
    began = now()
    subprocess.run(argv, env=environment, check=True, capture_output=True)
    return now() - began
