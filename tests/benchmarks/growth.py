"""What a great many acquires leave behind: memory of the process, and files of the database."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable

from localgcl import Limiter
from tests.benchmarks.figures import NONE, Row, Setting
from tests.benchmarks.pairs import pair_of
from tests.benchmarks.team import Line, Team

_ACQUIRES = 200_000
_MILLION = 1_000_000
_PART = 100_000  # after so many it says that it goes on: a million outlast a team's patience
_WARM_UP = 20_000  # past several checkpoints
# What the allocator rounds to, and a write-ahead log that was checkpointed a moment later.
_MEMORY_DUST = 512 * 1024
_FILES_DUST = 64 * 1024

# Bytes of resident memory, and of files.
Sizes = tuple[int, int]


def acquire_often(line: Line, path: str, acquires: int) -> tuple[Sizes, Sizes]:
    """Acquire and release so often; return the sizes after the warm-up and at the end."""
    limiter = Limiter(path)
    pair = pair_of(limiter, "often")
    line.meet()
    for _ in range(_WARM_UP):
        pair()
    before = _sizes(path)
    for done in range(1, acquires + 1):
        pair()
        if done % _PART == 0:
            line.say(done)
    return before, _sizes(path)


def _sizes(path: str) -> Sizes:
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize()
    files = 0
    for folder, _, names in os.walk(os.path.dirname(path)):
        files += sum(os.stat(os.path.join(folder, name)).st_size for name in names)
    return resident, files


def growth(setting: Setting) -> Iterable[Row]:
    """Acquire and release a million times in one process, or a fifth of it."""
    path = setting.path("localgcl.db")
    with Limiter(path) as limiter:
        limiter.create("often", 1)
    acquires = _MILLION if setting.million else setting.count(_ACQUIRES)
    with Team(acquire_often, [(path, acquires)]) as team:
        team.meet()
        for _ in range(acquires // _PART):
            team.hear(0)
        (((memory, files), (memory_after, files_after)),) = team.results()
    yield Row(
        f"{acquires:,} acquires in one process: memory, files",
        f"{_kib(memory_after - memory)}, {_kib(files_after - files)}",
        f"from {memory // 1024:,} KiB, {files // 1024:,} KiB",
        NONE,
        "do not grow",
        memory_after - memory <= _MEMORY_DUST and files_after - files <= _FILES_DUST,
    )


def _kib(size: int) -> str:
    return f"{size / 1024:+,.0f} KiB"
