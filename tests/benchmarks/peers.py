"""Other libraries that limit processes of one machine, side by side, where they are installed."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from localgcl import Limiter
from tests.benchmarks import peer_prefect
from tests.benchmarks.figures import NONE, Setting, micros, times
from tests.benchmarks.rate import Admission, call_until, excess_of
from tests.benchmarks.team import Line, together

_PROCESSES = 8
_RATE = 20.0
_RATE_SECONDS = 5.0
_PAIR_SECONDS = 1.0
_SLOTS = 4
# Some admit as many at once as in a second, and all are asked for that; what comes first is over
# by then.
_BURST = 20
_BURST_SECONDS = 1.0

HEAD = ("library", "acquire + release", "to localgcl", "rate delivered", "worst window")
TITLE = (
    f"Acquire + release of one of {_SLOTS} slots, nobody else there; {_PROCESSES} processes ask for"
    f" {_RATE:.0f}/s, {_BURST} at once: what they get after the first second,"
    " and the worst excess over burst + rate * T of any window."
)

Call = Callable[[], object]


@dataclass(frozen=True)
class Peer:
    """A library; each function is called in a process of its own, with a folder for all of them.

    `prepare` is called once before the others. `pair` and `rate` return what acquires and releases
    once, and what returns when the rate allows. What the library does not have is None.
    """

    name: str
    module: str
    pair: Callable[[str], Call] | None = None
    rate: Callable[[str], Call] | None = None
    prepare: Callable[[str], None] | None = None


def localgcl_prepare(folder: str) -> None:
    with Limiter(f"{folder}/localgcl.db") as limiter:
        limiter.create("pair", _SLOTS)
        limiter.create("rate", _BURST, slot_decay_per_second=_RATE)


def localgcl_pair(folder: str) -> Call:
    limiter = Limiter(f"{folder}/localgcl.db")
    return lambda: limiter.acquire("pair").release()


def localgcl_rate(folder: str) -> Call:
    limiter = Limiter(f"{folder}/localgcl.db")
    return lambda: limiter.rate_limit("rate")


def portalocker_pair(folder: str) -> Call:
    import portalocker

    semaphore = portalocker.NamedBoundedSemaphore(_SLOTS, name="pair", directory=folder)

    def pair() -> None:
        with semaphore:
            pass

    return pair


def filelock_pair(folder: str) -> Call:
    import filelock

    lock = filelock.FileLock(f"{folder}/filelock")

    def pair() -> None:
        with lock:
            pass

    return pair


def pyrate_rate(folder: str) -> Call:
    import pyrate_limiter as pyrate

    bucket = pyrate.SQLiteBucket.init_from_file(
        [pyrate.Rate(_BURST, round(1000 * _BURST / _RATE))],
        db_path=f"{folder}/pyrate.db",
        use_file_lock=True,
    )
    limiter = pyrate.Limiter(bucket)
    return lambda: limiter.try_acquire("rate")


def diskcache_pair(folder: str) -> Call:
    import diskcache

    cache = diskcache.Cache(f"{folder}/diskcache", eviction_policy="none")
    semaphore = diskcache.BoundedSemaphore(cache, "pair", value=_SLOTS)

    def pair() -> None:
        with semaphore:
            pass

    return pair


def diskcache_rate(folder: str) -> Call:
    import diskcache

    cache = diskcache.Cache(f"{folder}/diskcache", eviction_policy="none")
    limited: Call = diskcache.throttle(cache, _BURST, _BURST / _RATE, name="rate")(lambda: None)
    return limited


def prefect_prepare(folder: str) -> None:
    peer_prefect.create(folder, "pair", _SLOTS)
    peer_prefect.create(folder, "rate", _BURST, slot_decay_per_second=_RATE)


def prefect_pair(folder: str) -> Call:
    return peer_prefect.pair(folder, "pair")


def prefect_rate(folder: str) -> Call:
    return peer_prefect.rate(folder, "rate")


PEERS = (
    Peer("localgcl", "localgcl", localgcl_pair, localgcl_rate, localgcl_prepare),
    Peer("portalocker NamedBoundedSemaphore", "portalocker", portalocker_pair),
    Peer("filelock FileLock (1 slot)", "filelock", filelock_pair),
    Peer("PyrateLimiter SQLiteBucket, file lock", "pyrate_limiter", rate=pyrate_rate),
    Peer("diskcache BoundedSemaphore, throttle", "diskcache", diskcache_pair, diskcache_rate),
    Peer("Prefect, local server", "prefect", prefect_pair, prefect_rate, prefect_prepare),
)


def compare(setting: Setting) -> Iterable[tuple[str, ...]]:
    """Measure each library that is installed."""
    ours = None
    for peer in PEERS:
        if importlib.util.find_spec(peer.module) is None:
            yield peer.name, "not installed", NONE, NONE, NONE
            continue
        folder = setting.path(peer.module)
        os.mkdir(folder)
        if peer.module != "prefect":
            pair, *rate = _measure(peer, folder, setting.scale)
        else:
            try:
                with peer_prefect.server(folder):
                    pair, *rate = _measure(peer, folder, setting.scale)
            except peer_prefect.NoServerError as error:
                yield peer.name, str(error), NONE, NONE, NONE
                continue
        ours = ours or pair
        assert ours is not None
        if pair is None:
            yield peer.name, NONE, NONE, *rate
        else:
            yield peer.name, micros(pair), times(pair / ours), *rate


def _measure(peer: Peer, folder: str, scale: float) -> tuple[float | None, str, str]:
    if peer.prepare is not None:
        together(_prepare, [(peer.prepare, folder)])
    pair = None
    if peer.pair is not None:
        (pair,) = together(_seconds_each, [(peer.pair, folder, _PAIR_SECONDS * scale)])
    if peer.rate is None:
        return pair, NONE, NONE
    seconds = _RATE_SECONDS * scale
    ends = _BURST_SECONDS + seconds
    found = together(_admissions, [(peer.rate, folder, ends)] * _PROCESSES)
    began = min(asked for admissions in found for asked, _ in admissions)
    moments = [after - began for admissions in found for _, after in admissions]
    served = sum(_BURST_SECONDS < moment <= ends for moment in moments) / seconds
    return pair, f"{served:.1f}/s", f"+{excess_of(found, _BURST, _RATE):.1f}"


def _prepare(line: Line, prepare: Callable[[str], None], folder: str) -> None:
    line.meet()
    prepare(folder)


def _seconds_each(line: Line, make: Callable[[str], Call], folder: str, seconds: float) -> float:
    pair = make(folder)
    pair()
    line.meet()
    count, began = 0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        pair()
        count += 1
    return (time.perf_counter() - began) / count


def _admissions(
    line: Line, make: Callable[[str], Call], folder: str, seconds: float
) -> list[Admission]:
    return call_until(line, make(folder), seconds)
