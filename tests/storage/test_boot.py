"""Reboots, what only looks like one, and what clocks make of them."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from pathlib import Path

import pytest

from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
from localgcl._engine import clients
from localgcl._engine.clients import Client
from localgcl._storage import schema
from tests.helpers.database import tables
from tests.helpers.played import Clock, Process, Processes

CLIENT = Client("app", "192.0.2.7 prefect/3.8.8", None)


def entrusted(process: Process, name: str, seconds: float) -> str:
    """Have a client hold a slot for so many seconds; return the lease."""
    ask = process.ask(name)
    process.do(
        functools.partial(
            clients.assign_to_client, request=ask.request, client=CLIENT, seconds=seconds
        )
    )
    return ask.request.id


def used(limiter: Limiter, name: str) -> int:
    """The slots in use, as a reader finds them."""
    return limiter.read(name).active_slots


# What only looks like a reboot


@pytest.mark.parametrize("step", [0.0, 3600.0, -3600.0])
def test_a_container_with_a_boot_id_of_its_own(
    limiter: Limiter, processes: Processes, clock: Clock, step: float
) -> None:
    """Where a process lives, there was no reboot: nothing is moved, and nobody is refused."""
    limiter.create("db", 1)
    limiter.create("api", 2, slot_decay_per_second=0.5, active_slots=2)
    holder, waiter = processes(), processes()
    held = holder.ask("db")
    waiting = waiter.ask("db")
    brief = waiter.ask("db", until=clock.now + 60)
    clock.advance(1)
    before = tables(limiter)
    limiter.close()
    clock.boot, ours = "a container's", clock.boot
    clock.step_wall(step)
    assert used(limiter, "db") == 1
    assert used(limiter, "api") == 2
    with pytest.raises(AcquireConcurrencySlotTimeoutError):
        limiter.acquire("db", timeout_seconds=0)
    after = tables(limiter)
    assert after["waiters"] == before["waiters"]
    assert after["boot"] == before["boot"]
    limiter.close()
    clock.boot = ours
    held.release()
    waiting.look()
    assert waiting.granted
    waiting.release()
    brief.look()
    assert brief.granted


def test_a_container_where_nobody_lives(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """The same kernel all along: what is in the file is as it was, clients' leases too."""
    limiter.create("db", 1)
    limiter.create("api", 10, slot_decay_per_second=1.0, active_slots=10)
    server = processes()
    lease = entrusted(server, "db", 60)
    server.die()
    limiter.close()
    clock.boot = "a container's"
    clock.advance(3)
    assert used(limiter, "api") == 7
    assert used(limiter, "db") == 1
    limiter.close()
    clock.boot = "the host's"
    clock.advance(3)
    assert used(limiter, "api") == 4
    assert processes().do(functools.partial(clients.renew, lease=lease, seconds=60))
    clock.advance(60)
    assert used(limiter, "db") == 0


def test_the_dead_are_no_proof(limiter: Limiter, processes: Processes, clock: Clock) -> None:
    """Rows and files of processes that died with the boot before keep no time from its clock."""
    limiter.create("db", 1)
    limiter.create("api", 10, slot_decay_per_second=1.0, active_slots=10)
    process = processes()
    process.ask("db")
    process.ask("db")
    process.die()
    limiter.close()
    clock.reboot(4)
    assert used(limiter, "api") == 6
    assert used(limiter, "db") == 0
    assert limiter.waiters() == []


# Reboots with a wall clock that is wrong


@pytest.mark.parametrize("wall", [-1.7e9, -3600.0, 0.0, 30.0])
@pytest.mark.parametrize("renewed", [False, True])
def test_a_clients_lease_after_a_reboot(
    limiter: Limiter, processes: Processes, clock: Clock, wall: float, renewed: bool
) -> None:
    """It has at most what it was last given, whatever the wall clock says."""
    limiter.create("db", 1)
    server = processes()
    lease = entrusted(server, "db", 3600 if renewed else 60)
    if renewed:
        clock.advance(1000)
        assert server.do(functools.partial(clients.renew, lease=lease, seconds=60))
    server.die()
    limiter.close()
    clock.reboot(wall)
    left = 60 - max(0.0, wall)
    assert used(limiter, "db") == 1
    clock.advance(left - 0.001)
    assert used(limiter, "db") == 1
    clock.advance(0.002)
    assert used(limiter, "db") == 0


def test_a_wall_clock_that_is_years_ahead(
    limiter: Limiter, processes: Processes, clock: Clock
) -> None:
    """A machine without a clock boots in 1970, and again after its time was found out."""
    limiter.create("api", 10, slot_decay_per_second=0.001, active_slots=10)
    limiter.create("db", 1)
    limiter.close()
    clock.reboot(-clock.wall)
    server = processes()
    entrusted(server, "db", 60)
    assert used(limiter, "api") == 10
    server.die()
    limiter.close()
    clock.step_wall(1.75e9)  # seen by whoever opens next, in the same boot
    assert used(limiter, "db") == 1
    assert used(limiter, "api") == 10


@pytest.mark.parametrize("shift", [1e9, -1e9])
def test_levels_do_not_rise(limiter: Limiter, clock: Clock, shift: float) -> None:
    """A level is what it was or less, and nobody waits for longer than it takes from there."""
    limiter.create("api", 10, slot_decay_per_second=1.0, active_slots=6)
    limiter.close()
    clock.reboot(shift)
    assert used(limiter, "api") == (0 if shift > 0 else 6)
    clock.advance(6)
    limiter.rate_limit("api", 10, timeout_seconds=0)


# Files of the release before


VERSION_1 = (Path(__file__).parent / "version_1.sql").read_text(encoding="utf-8")


def old_file(path: Path, statements: str) -> None:
    """Make a file as schema 1 had it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(VERSION_1)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 1")
        connection.executescript(statements)


OLD = """
INSERT INTO boot VALUES (1, 'the first boot', 1749999000.0);
INSERT INTO settings (key, name, active, slots, decay, id, created, updated)
VALUES (7, 'db', 1, 3, 0.0, 'an id', 1.0, 1.0);
INSERT INTO owners (key, lifeline, user, command, expires, limits)
VALUES (1, 'lease granted', 'app', 'a client', 1050.0, '7'),
    (2, 'lease renewed', 'app', 'a client', 1400.0, '7'),
    (3, 'lease of nothing', 'app', 'a client', 1020.0, '');
INSERT INTO ledger (limit_key, owner, lease, slots, since)
VALUES (7, 1, 'granted', 1, 990.0), (7, 2, 'renewed', 1, 500.0);
"""


def test_a_file_of_version_1_is_carried_over(path: str, clock: Clock) -> None:
    """What its clients hold they keep, and each may have what lies between grant and end."""
    old_file(Path(path), OLD)
    limiter = Limiter(path)
    assert used(limiter, "db") == 2
    assert {row[1]: row[-1] for row in tables(limiter)["owners"]} == {
        "lease granted": 60.0,
        "lease renewed": 900.0,
        "lease of nothing": None,
    }
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    with limiter.concurrency("db", timeout_seconds=0):
        pass
    limiter.close()
    clock.reboot(-1.7e9)
    assert used(limiter, "db") == 2
    clock.advance(60.001)
    assert used(limiter, "db") == 1
    clock.advance(840)
    assert used(limiter, "db") == 0


def test_an_old_file_is_the_same_as_a_new_one(tmp_path: Path) -> None:
    """The columns of each table are the same in the same order, however it came to its version."""
    found = []
    for name, statements in (("old.db", OLD), ("new.db", None)):
        if statements is not None:
            old_file(tmp_path / name, statements)
        with Limiter(tmp_path / name) as limiter:
            limiter.upsert("db", 1)
        with contextlib.closing(sqlite3.connect(tmp_path / name)) as connection:
            found.append(
                connection.execute(
                    "SELECT tables.name AS tablename, columns.* FROM sqlite_master AS tables,"
                    " pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
                    " ORDER BY tablename, cid"
                ).fetchall()
            )
    assert found[0] == found[1]
