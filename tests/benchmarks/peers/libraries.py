"""The peers that are Python libraries; each import stands where only its own processes pass."""

from __future__ import annotations

import functools
import os
from typing import Any

from tests.benchmarks.peers.adapter import BURST, PLENTY, RATE, SLOTS, Adapter, Block, Call, Slot

_EVER_SECONDS = 1e6


class Localgcl(Adapter):
    title = "localgcl"

    def prepare(self) -> None:
        limiter = self._limiter()
        for name, slots in SLOTS.items():
            limiter.create(name, slots)
        limiter.create("rate", BURST, slot_decay_per_second=RATE)

    def _path(self) -> str:
        return os.path.join(self.folder, "localgcl.db")

    def _limiter(self) -> Any:
        from localgcl import Limiter

        return Limiter(self._path())

    def slot(self, limit: str) -> Slot:
        limiter = self._limiter()
        return Block(lambda: limiter.concurrency(limit))

    def rate(self) -> Call:
        limiter = self._limiter()
        return lambda: limiter.rate_limit("rate")

    def once(self) -> str:
        return (
            "from localgcl import Limiter\n"
            f"with Limiter({self._path()!r}).concurrency({PLENTY!r}): pass"
        )


class Portalocker(Adapter):
    title = "portalocker"
    distribution = "portalocker"
    has_rate = False

    def slot(self, limit: str) -> Slot:
        import portalocker

        semaphore = portalocker.NamedBoundedSemaphore(
            SLOTS[limit], name=limit, directory=self.folder, timeout=_EVER_SECONDS
        )
        return Block(lambda: semaphore)

    def once(self) -> str:
        return (
            "import portalocker\n"
            f"with portalocker.NamedBoundedSemaphore({SLOTS[PLENTY]}, name={PLENTY!r},"
            f" directory={self.folder!r}): pass"
        )


class Filelock(Adapter):
    title = "filelock"
    distribution = "filelock"
    has_rate = False

    def slot(self, limit: str) -> Slot:
        import filelock

        # It has one slot, which they all share.
        lock = filelock.FileLock(f"{self.folder}/{limit}")
        return Block(lambda: lock)

    def once(self) -> str:
        return f"import filelock\nwith filelock.FileLock({self.folder + '/' + PLENTY!r}): pass"


class Diskcache(Adapter):
    title = "diskcache"
    distribution = "diskcache"

    @functools.cached_property
    def _cache(self) -> Any:
        import diskcache

        # As its documentation asks for, lest a semaphore be evicted.
        return diskcache.Cache(self.folder, eviction_policy="none")

    def slot(self, limit: str) -> Slot:
        import diskcache

        semaphore = diskcache.BoundedSemaphore(self._cache, limit, value=SLOTS[limit])
        return Block(lambda: semaphore)

    def rate(self) -> Call:
        import diskcache

        throttle = diskcache.throttle(self._cache, BURST, BURST / RATE, name="rate")
        throttled: Call = throttle(lambda: None)
        return throttled

    def once(self) -> str:
        return (
            "import diskcache\n"
            f"cache = diskcache.Cache({self.folder!r}, eviction_policy='none')\n"
            f"with diskcache.BoundedSemaphore(cache, {PLENTY!r}, value={SLOTS[PLENTY]}): pass"
        )


class PyrateLimiter(Adapter):
    title = "PyrateLimiter"
    distribution = "pyrate-limiter"
    has_slots = False

    # Nothing waits at this rate, and each call counts those of its interval, a millisecond.
    _UNBOUND = (1_000_000, 1)

    def _try_acquire(self, name: str, rate: tuple[int, int]) -> Call:
        import pyrate_limiter as pyrate

        bucket = pyrate.SQLiteBucket.init_from_file(
            [pyrate.Rate(*rate)],
            db_path=os.path.join(self.folder, f"{name}.db"),
            use_file_lock=True,
        )
        limiter = pyrate.Limiter(bucket)
        return lambda: limiter.try_acquire(name)

    def pair(self, limit: str) -> Call:
        return self._try_acquire(limit, self._UNBOUND)

    def rate(self) -> Call:
        return self._try_acquire("rate", (BURST, round(1000 * BURST / RATE)))

    def once(self) -> str:
        path = os.path.join(self.folder, "once.db")
        return (
            "import pyrate_limiter as pyrate\n"
            f"rates = [pyrate.Rate(*{self._UNBOUND})]\n"
            "bucket = pyrate.SQLiteBucket.init_from_file("
            f"rates, db_path={path!r}, use_file_lock=True)\n"
            "pyrate.Limiter(bucket).try_acquire('once')"
        )
