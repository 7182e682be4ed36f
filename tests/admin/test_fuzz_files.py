"""Files with bytes that nobody wrote: the database, its -wal, the FIFOs, and what `apply` reads."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from localgcl import DatabaseError, Lease, Limiter, LocalGCLError
from tests.helpers.database import forget_everything
from tests.helpers.programs import Invoke
from tests.helpers.waiting import DEADLINE_SECONDS

# The fixtures hold for all examples of a test: each example writes its own files anew.
PERSISTENT = settings(
    deadline=None,
    derandomize=True,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

FLIPS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=12
)

# It ends without closing again, and so leaves a -wal beside a file that is full.
_LEFT_OPEN = """
import os, sys
from localgcl import Limiter
limiter = Limiter(sys.argv[1])
for number in range(20):
    limiter.create(f"limit {number}", 2)
limiter.create("rate", 2, slot_decay_per_second=1.0)
limiter.close()
limiter.acquire("limit 1")
limiter.rate_limit("rate")
os._exit(0)
"""


def files(path: Path) -> dict[str, bytes]:
    """Return what a database and its -wal consist of, while nobody has it open."""
    found = {}
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            found[suffix] = Path(f"{path}{suffix}").read_bytes()
    return found


@pytest.fixture
def origin(tmp_path: Path) -> dict[str, bytes]:
    """A database that was not closed, to be copied."""
    path = tmp_path / "origin.db"
    subprocess.run([sys.executable, "-c", _LEFT_OPEN, str(path)], check=True)
    found = files(path)
    assert len(found[""]) > 1024
    assert len(found["-wal"]) > 1024
    return found


def flipped(content: bytes, flips: list[tuple[float, int]]) -> bytes:
    """Return some bytes with others in some places."""
    changed = bytearray(content)
    for place, mask in flips:
        changed[int(place * len(changed))] ^= mask
    return bytes(changed)


def try_everything(limiter: Limiter) -> list[Lease]:
    """Make every kind of call; return the leases that were granted of one limit of two slots."""
    leases: list[Lease] = []
    calls = (
        limiter.read_all,
        limiter.holders,
        limiter.waiters,
        lambda: leases.append(limiter.acquire("limit 3", timeout_seconds=0)),
        lambda: leases.append(limiter.acquire("limit 3", timeout_seconds=0.001)),
        lambda: leases.append(limiter.acquire("limit 3", timeout_seconds=0, strict=True)),
        lambda: limiter.acquire(["limit 2", "rate"], timeout_seconds=0).release(),
        lambda: limiter.rate_limit("rate", timeout_seconds=0),
        lambda: limiter.update("limit 4", limit=5),
        lambda: limiter.upsert("new", 5),
        lambda: limiter.reset("limit 1"),
        lambda: limiter.delete("limit 5"),
        lambda: limiter.create("newer", 1),
    )
    for call in calls:
        with contextlib.suppress(LocalGCLError):
            call()
    return leases


@PERSISTENT
@given(suffix=st.sampled_from(["", "-wal"]), flips=FLIPS)
def test_flipped_bytes(
    suffix: str,
    flips: list[tuple[float, int]],
    origin: dict[str, bytes],
    path: str,
    invoke: Invoke,
) -> None:
    """Every call gives something or an error of ours, and no limit that is sound is exceeded."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}-shm")
    for other, content in origin.items():
        damaged = flipped(content, flips) if other == suffix else content
        Path(f"{path}{other}").write_bytes(damaged)
    limiter = Limiter(path)
    leases = try_everything(limiter)
    for command in (["ls"], ["ps", "-o", "json"], ["doctor", "-o", "json"], ["metrics"]):
        result = invoke(*command)
        assert result.exit_code in (0, 1)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert len(result.stderr.splitlines()) <= 1
    checks = json.loads(invoke("doctor", "-o", "json").stdout)["checks"]
    if all(check["status"] != "fault" for check in checks):
        with contextlib.suppress(LocalGCLError):
            found = limiter.read("limit 3")
            if found.active and not found.slot_decay_per_second:
                assert sum(lease.names == ("limit 3",) for lease in leases) <= found.limit
    for lease in leases:
        with contextlib.suppress(DatabaseError):
            lease.release()
    forget_everything()


@PERSISTENT
@given(content=st.binary(max_size=4096), suffix=st.sampled_from(["", "-wal", "-shm"]))
@example(content=b"", suffix="")
@example(content=b"SQLite format 3\0", suffix="")
def test_any_bytes(
    content: bytes, suffix: str, origin: dict[str, bytes], path: str, invoke: Invoke
) -> None:
    """The same where one of the files is something else altogether."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}-shm")
    for other, whole in {**origin, suffix: content}.items():
        Path(f"{path}{other}").write_bytes(whole)
    try_everything(Limiter(path))
    for command in (["ls"], ["doctor"]):
        result = invoke(*command)
        assert result.exit_code in (0, 1)
        assert result.exception is None or isinstance(result.exception, SystemExit)
    forget_everything()


KEYS = st.one_of(
    st.sampled_from(["limits", "limit", "slot_decay_per_second", "active", "active_slots"]),
    st.text(max_size=20),
)
DOCUMENTS = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
        st.sampled_from([1, 5, 2**53, -1, 0.5]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def in_toml(value: Any) -> str:
    """Return a value as TOML writes it inline; what it cannot write, it writes wrongly."""
    if isinstance(value, dict):
        pairs = (f"{json.dumps(key)} = {in_toml(one)}" for key, one in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(in_toml, value))}]"
    return json.dumps(value)


@settings(PERSISTENT, max_examples=150)
@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")),
        st.dictionaries(KEYS, DOCUMENTS, max_size=3).map(
            lambda tables: "\n".join(
                f"{json.dumps(key)} = {in_toml(value)}" for key, value in tables.items()
            ).encode(errors="replace")
        ),
        st.dictionaries(
            st.text(max_size=8), st.dictionaries(KEYS, DOCUMENTS, max_size=3), max_size=3
        ).map(
            lambda limits: f"limits = {in_toml(limits)}".encode(errors="replace"),
        ),
    ),
    options=st.lists(st.sampled_from(["--dry-run", "--prune", "-ojson"]), max_size=2),
)
@example(content=b"[limits.a]\nlimit = 1", options=[])
def test_apply(content: bytes, options: list[str], invoke: Invoke) -> None:
    """Whatever is in the file, it is applied or refused with one line."""
    result = invoke("apply", "-", *options, answer=content)
    assert result.exit_code in (0, 1)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert len(result.stderr.splitlines()) == result.exit_code
    if result.exit_code:
        assert result.stdout == ""


@settings(PERSISTENT, max_examples=40)
@given(content=st.binary(min_size=1, max_size=6000))
def test_bytes_in_fifos(content: bytes, limiter: Limiter) -> None:
    """Bytes written to every FIFO grant nothing, and keep nobody from being granted."""
    path = limiter._database.path
    limiter.upsert("a", 1)
    lease = limiter.acquire("a")
    granted: list[Lease] = []
    waiter = threading.Thread(target=lambda: granted.append(limiter.acquire("a")), daemon=True)
    waiter.start()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not limiter.waiters("a"):
        assert time.monotonic() < deadline
    for name in os.listdir(f"{path}-run"):
        if len(name) >= 32:
            fifo = os.open(f"{path}-run/{name}", os.O_WRONLY | os.O_NONBLOCK)
            os.write(fifo, content)
            os.close(fifo)
    assert [holder.lease for holder in limiter.holders()] == [lease.id]
    assert granted == []
    lease.release()
    waiter.join(DEADLINE_SECONDS)
    assert [holder.lease for holder in limiter.holders()] == [granted[0].id]
    granted[0].release()
    assert limiter.read("a").active_slots == 0
