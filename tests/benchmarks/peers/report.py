"""What the comparison looks like: a line for each peer, and the notes below."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

from tests.benchmarks.figures import NONE, duration
from tests.benchmarks.peers.adapter import BURST, PROCESSES, RATE
from tests.benchmarks.peers.compare import Comparison, Findings
from tests.benchmarks.peers.measures import PATIENCE_SECONDS

HEAD = (
    "peer",
    "take and free a slot",
    f"{PROCESSES} processes at once",
    "hand-over",
    f"luckiest, unluckiest of {PROCESSES}",
    f"share of {RATE:.0f}/s",
    "free again after SIGKILL",
    "a whole job",
)


def lines(comparison: Comparison) -> list[tuple[str, ...]]:
    """Return the table's lines."""
    ours = comparison.peers[0]
    return [_line(peer, ours) for peer in comparison.peers]


def _line(peer: Findings, ours: Findings) -> tuple[str, ...]:
    if peer.version is None:
        return peer.title, "not installed", *[NONE] * (len(HEAD) - 2)
    cells = {
        "pair": _figure(peer, ours, "pair", duration),
        "throughput": _figure(peer, ours, "throughput", lambda rate: f"{rate:,.0f}/s"),
        "hand-over": _figure(peer, ours, "hand-over", duration),
        "order": _order(peer),
        "rate": _rate(peer),
        "killed": _killed(peer),
        "start": _figure(peer, ours, "start", duration),
    }
    for figure in cells:
        if figure in peer.failures or "begin" in peer.failures:
            cells[figure] = "failed"
    return f"{peer.title} {peer.version}", *cells.values()


def _figure(peer: Findings, ours: Findings, figure: str, show: Callable[[float], str]) -> str:
    median, ratio = peer.median(figure), peer.ratio(figure, ours)
    if median is None or ratio is None:
        return NONE
    return show(median) if peer is ours else f"{show(median)} ({multiple(ratio)})"


def multiple(ratio: float) -> str:
    """Return a ratio with two digits that count."""
    digits = max(0, 1 - math.floor(math.log10(ratio)))
    return f"{ratio:,.{digits}f}x"


def _order(peer: Findings) -> str:
    shares = peer.shares
    return NONE if shares is None else f"{shares[0]:.1%}, {shares[1]:.1%} of {sum(peer.turns):,}"


def _rate(peer: Findings) -> str:
    found = peer.delivery
    return NONE if found is None else f"{found.share:.0%} (+{found.excess:.1f})"


def _killed(peer: Findings) -> str:
    if not peer.killed:
        return NONE
    waits = [wait for wait in peer.killed if wait is not None]
    if len(waits) < len(peer.killed):
        return f"not in {PATIENCE_SECONDS:.0f} s"
    return duration(statistics.median(waits))


def notes(comparison: Comparison) -> list[str]:
    """Return what is to be known of the columns, and of those who have nothing in one."""
    (server,) = [peer.server_start_seconds for peer in comparison.peers if peer.name == "prefect"]
    started = "" if server is None else f", which took {server:.0f} s to start,"
    return [
        "In brackets: how many times localgcl's own figure, the median of rounds in which all of"
        " them take turns.",
        "**Take and free a slot**, nobody else there. Of the commands (`localgcl run`, `sem`,"
        " `flock`): a whole command that runs `true`. PyrateLimiter has no slots: one `try_acquire`"
        " at a rate at which nothing waits; and so no hand-over, and nothing that a death could"
        " keep.",
        f"**{PROCESSES} processes at once**: the same by {PROCESSES} processes over {PROCESSES}"
        " slots, none of which has to wait; filelock and flock have one slot. diskcache is given no"
        " expiry, its default; portalocker, filelock, sem and flock have no rates. Prefect's"
        f" server{started} runs on the same cores, and counts as nothing but the time it takes.",
        "**Hand-over** of the only slot: from a release to the next entry, median, while up to"
        f" {PROCESSES - 1} processes wait. Of the commands: until the command runs.",
        f"**Luckiest, unluckiest**: their parts of the turns, where {PROCESSES} processes want the"
        f" only slot again as soon as they have freed it; {1 / PROCESSES:.1%} each would be even."
        " PyrateLimiter: of the rate.",
        f"**Share of {RATE:.0f}/s**, {BURST} at once: what {PROCESSES} processes together get while"
        " all ask for more, once the burst is over, and how many slots the worst stretch of T"
        " seconds has above burst + rate * T.",
        "**Free again after SIGKILL** of the holder, for commands of everything they run: until the"
        f" next one has the slot, watched for {PATIENCE_SECONDS:.0f} s. diskcache's does not come"
        " back; Prefect's when its lease ends, 300 s unless told otherwise.",
        "**A whole job**: an interpreter or a command that takes one slot, frees it and ends; an"
        f" interpreter that does nothing takes {duration(comparison.bare_start_seconds)}.",
    ]
