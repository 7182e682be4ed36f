"""The comparison: rounds in which the peers take turns, and what they come to."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import localgcl
from tests.benchmarks.figures import Setting, progress
from tests.benchmarks.peers import measures
from tests.benchmarks.peers.adapter import Adapter
from tests.benchmarks.peers.company import Company, PeerError
from tests.benchmarks.peers.roll import ADAPTERS

T = TypeVar("T")

_ROUNDS = 3
_STARTS = 4


@dataclass
class Findings:
    """What was measured of a peer, round by round; `version` None: it is not installed.

    `ratios` are those to localgcl in the same round, by figure. What a peer cannot do stays empty,
    and what it failed at is in `failures`.
    """

    name: str
    title: str
    version: str | None
    figures: dict[str, list[float]] = field(default_factory=dict)
    hand_overs: list[float] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)
    delivery: measures.Delivery | None = None
    killed: list[float | None] = field(default_factory=list)
    server_start_seconds: float | None = None
    failures: dict[str, str] = field(default_factory=dict)

    def median(self, figure: str) -> float | None:
        """Return the median of a figure's rounds."""
        found = self.figures.get(figure)
        return statistics.median(found) if found else None

    def ratio(self, figure: str, to: Findings) -> float | None:
        """Return the median of the ratios of the rounds to those of another."""
        ours, theirs = self.figures.get(figure), to.figures.get(figure)
        if not ours or not theirs:
            return None
        return statistics.median(a / b for a, b in zip(ours, theirs, strict=False))

    @property
    def shares(self) -> tuple[float, float] | None:
        """Return which part of all turns the luckiest and the unluckiest process had."""
        total = sum(self.turns)
        return (max(self.turns) / total, min(self.turns) / total) if total else None


@dataclass(frozen=True)
class Comparison:
    """All the peers, and what an interpreter takes that does nothing."""

    peers: list[Findings]
    bare_start_seconds: float


def compare(setting: Setting, prefect: str) -> Comparison:
    """Measure the peers that are installed; `prefect` is an interpreter that has Prefect."""
    scale = setting.scale
    peers = [
        Findings(name, ADAPTERS[name].title, version_of(ADAPTERS[name], _python(name, prefect)))
        for name in ADAPTERS
    ]
    bare: list[float] = []
    with contextlib.ExitStack() as stack:
        companies: list[tuple[Findings, Company]] = []
        for peer in peers:
            if peer.version is None:
                continue
            python, folder = _python(peer.name, prefect), setting.path(peer.name)
            progress(f"{peer.title}: beginning")
            with _failures_of(peer, "begin"):
                company = stack.enter_context(Company(peer.name, python, folder))
                peer.server_start_seconds = company.server_start_seconds
                companies.append((peer, company))
        for index in range(_ROUNDS):
            for peer, company in companies:
                progress(f"{peer.title}: round {index + 1} of {_ROUNDS}")
                with company.awake():
                    _round(peer, company, scale)
        for peer, company in companies:
            progress(f"{peer.title}: rate, order, deaths")
            with company.awake():
                _once(peer, company, scale)
        for turn in range(1 + setting.count(_STARTS)):
            progress("whole jobs")
            bare.append(measures.bare_start())
            for peer, company in companies:
                with company.awake(), _failures_of(peer, "start"):
                    seconds = measures.start(company)
                    if turn:  # the first one may compile
                        peer.figures.setdefault("start", []).append(seconds)
    return Comparison(peers, statistics.median(bare))


def _round(peer: Findings, company: Company, scale: float) -> None:
    def note(figure: str, measure: Callable[[], float]) -> None:
        with _failures_of(peer, figure):
            peer.figures.setdefault(figure, []).append(measure())

    note("pair", functools.partial(measures.pair, company, scale))
    note("throughput", functools.partial(measures.throughput, company, scale))
    if company.peer.has_slots:
        with _failures_of(peer, "hand-over"):
            found = measures.hand_overs(company)
            peer.hand_overs += found
            peer.figures.setdefault("hand-over", []).append(statistics.median(found))


def _once(peer: Findings, company: Company, scale: float) -> None:
    if company.peer.has_rate:
        with _failures_of(peer, "rate"):
            peer.delivery = measures.delivery(company, scale)
            peer.turns = peer.delivery.counts
    if company.peer.has_slots:
        with _failures_of(peer, "order"):
            peer.turns = measures.order(company, scale)
        with _failures_of(peer, "killed"):
            peer.killed = measures.killed(company)  # which is the end of some of the processes


@contextlib.contextmanager
def _failures_of(peer: Findings, figure: str) -> Iterator[None]:
    """Note it where a peer fails at a figure, and go on with the others."""
    try:
        yield
    except (PeerError, subprocess.CalledProcessError) as error:
        peer.failures[figure] = str(error)
        print(f"{peer.title} failed at {figure}: {error}", file=sys.stderr)


def _python(name: str, prefect: str) -> str:
    return prefect if name == "prefect" else sys.executable


def version_of(adapter: type[Adapter], python: str) -> str | None:
    """Return the version of a peer; None where it is not installed."""
    if adapter.command is not None:
        if shutil.which(adapter.command) is None:
            return None
        told = subprocess.run([adapter.command, "--version"], capture_output=True, text=True)
        found = re.search(r"\d[\d.]+", told.stdout)
        return found[0] if found else ""
    if adapter.distribution is None:
        return localgcl.__version__
    if python == sys.executable:
        try:
            return importlib.metadata.version(adapter.distribution)
        except importlib.metadata.PackageNotFoundError:
            return None
    code = f"import importlib.metadata as m; print(m.version({adapter.distribution!r}))"
    told = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=os.sep)
    return told.stdout.strip() or None if told.returncode == 0 else None
