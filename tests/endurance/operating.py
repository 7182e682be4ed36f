"""The operator: limits change, are disabled, deleted, reset and restored while they are in use.

`python -m tests.endurance.operating`; the environment has the database, the journal and the seed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator

from localgcl import Limiter, LocalGCLError
from tests.endurance.actor import Actor
from tests.endurance.faults import cleaners_kept_out
from tests.endurance.served import tag_of
from tests.endurance.wishes import ASLEEP, LIMITS, TEMPLATE, WINDOWS

_RETRY_SECONDS = 0.05

# So long after a cleaner took the gate, some may still use the old one.
_GATE_SECONDS = 0.1


class Operator:
    """Somebody who changes limits, one thing at a time."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.say = actor.journal.write
        self.limiter = Limiter(actor.database)
        self.rng = actor.rng("operator")
        self.limits = dict(LIMITS)  # slots and decay, as they are meant to be
        self.backup = f"{actor.database}.backup"

    def work(self) -> None:
        """Do one thing after another until the run ends, and leave everything as it was."""
        deeds: dict[Callable[[str], None], int] = {
            self.resize: 6,
            self.disable: 2,
            self.delete: 1,
            self.reset: 2,
            self.rename: 1,
            self.by_hand: 1,
            self.change_decay: 2,
            self.pause: 2,
            self.release: 4,
            self.back_up: 1,
            self.restore_in_place: 0,
            self.replace: 1,
            self.lose_log: 1,
        }
        while self.actor.goes_on(float("inf")):
            deed = self.rng.choices(list(deeds), list(deeds.values()))[0]
            if deed == self.replace and self.rng.random() < 0.5:
                deed = self.restore_in_place
            name = self.rng.choice(list(LIMITS))
            deed(name)
            self.say("did", deed.__name__)
            time.sleep(self.rng.uniform(0.02, 0.4))
        for name in LIMITS:
            with self.shaken(name):
                self.run_until_committed(name)

    # What keeps the witness informed

    @contextlib.contextmanager
    def shaken(self, name: str) -> Iterator[None]:
        """Tell that what is held of a limit may change, and in the end how the limit is."""
        self.say("shake", name)
        yield
        self.say("calm", name, *self.limits[name], 1)

    def attempt(self, deed: Callable[[], object]) -> bool:
        """Do something that a fault may hinder; return whether it was done for certain."""
        self.say("try")
        try:
            deed()
        except LocalGCLError as error:
            self.actor.tell("hindered", error)
            return False
        return True

    def run_until_committed(self, name: str) -> None:
        """Bring a limit to what it is meant to be, however long the disk is full."""
        slots, decay = self.limits[name]

        def bring() -> None:
            self.limiter.upsert(name, slots, slot_decay_per_second=decay)

        while not self.attempt(bring):
            time.sleep(_RETRY_SECONDS)

    # The deeds

    def resize(self, name: str) -> None:
        """Raise or lower a limit."""
        slots = max(1, self.limits[name][0] + self.rng.choice([-3, -2, -1, 1, 2, 3]))
        slots = min(slots, 2 * LIMITS[name][0] + 1)
        if self.limits[name][1]:
            with self.shaken(name):
                self.limits[name] = slots, self.limits[name][1]
                self.run_until_committed(name)
            return
        self.say("resize", name, slots)
        self.limits[name] = slots, 0.0
        self.run_until_committed(name)
        self.say("resized", name, slots)

    def disable(self, name: str) -> None:
        """Disable a limit for a moment."""
        with self.shaken(name):
            self.attempt(lambda: self.limiter.update(name, active=False))
            time.sleep(self.rng.uniform(0, 0.2))
            self.run_until_committed(name)

    def delete(self, name: str) -> None:
        """Delete a limit, and create it again."""
        with self.shaken(name):
            self.attempt(lambda: self.limiter.delete(name))
            time.sleep(self.rng.choice([0, 0, self.rng.uniform(0, 0.1)]))
            self.run_until_committed(name)

    def reset(self, name: str) -> None:
        """Free every slot."""
        with self.shaken(name):
            self.attempt(lambda: self.limiter.reset(name))

    def rename(self, name: str) -> None:
        """Give a limit another name for a moment."""
        with self.shaken(name):
            away = self.attempt(lambda: self.limiter.update(name, new_name=f"{name} moved"))
            time.sleep(self.rng.uniform(0, 0.05))
            back = False
            while away and not back:
                back = self.attempt(lambda: self.limiter.update(f"{name} moved", new_name=name))
                time.sleep(0 if back else _RETRY_SECONDS)
            self.run_until_committed(name)

    def by_hand(self, name: str) -> None:
        """Set slots in use by hand, and free them again."""
        with self.shaken(name):
            slots = self.rng.randint(0, self.limits[name][0] + 1)
            self.attempt(lambda: self.limiter.update(name, active_slots=slots))
            time.sleep(self.rng.uniform(0, 0.2))
            while not self.attempt(lambda: self.limiter.reset(name)):
                time.sleep(_RETRY_SECONDS)

    def change_decay(self, name: str) -> None:
        """Give a limit another rate, or none."""
        slots, _ = self.limits[name]
        decay = LIMITS[name][1] or self.rng.choice([0.0, 30.0])
        with self.shaken(name):
            self.limits[name] = slots, decay * self.rng.choice([0.5, 1.0, 2.0])
            self.run_until_committed(name)

    def pause(self, name: str) -> None:
        """Have nothing granted for a moment."""
        if self.attempt(lambda: self.limiter.pause(name)):
            self.say("paused", name)
        time.sleep(self.rng.uniform(0, 0.2))
        self.say("resuming", name)
        while not self.attempt(lambda: self.limiter.resume(name)):
            time.sleep(_RETRY_SECONDS)

    def release(self, name: str) -> None:
        """Free the lease of somebody who holds."""
        with contextlib.suppress(LocalGCLError):
            holders = self.limiter.holders(name)
            if holders:
                holder = self.rng.choice(holders)
                self.say("excuse", tag_of(str(holder.holder)))
                self.limiter.release(holder.lease)

    def back_up(self, _: str) -> None:
        """Make a backup by SQLite's own means."""
        with contextlib.suppress(OSError):
            os.unlink(self.backup)
        with contextlib.suppress(sqlite3.Error):
            self._copy(self.actor.database, f"{self.backup}.new")
            os.replace(f"{self.backup}.new", self.backup)

    def restore_in_place(self, _: str) -> None:
        """Write the backup into the file that is in use, by SQLite's own means."""
        with self._restoring(), contextlib.suppress(sqlite3.Error):
            self._copy(self.backup, self.actor.database)

    def replace(self, _: str) -> None:
        """Put the backup in the place of the file, while nobody is inside a transaction."""
        with self._restoring(), cleaners_kept_out(self.actor.journal.path, wait=True):
            time.sleep(_GATE_SECONDS)
            with self._alone():
                self._remove_log()
                with contextlib.suppress(FileNotFoundError):
                    os.replace(self.backup, self.actor.database)

    def lose_log(self, _: str) -> None:
        """Remove the log and its index under everybody, with what was written since a moment."""
        with self._restoring(), cleaners_kept_out(self.actor.journal.path, wait=True):
            time.sleep(_GATE_SECONDS)
            # What the log holds of a checkpoint that is not done would be missed for ever.
            whole = False
            while not whole:
                with self._alone(), contextlib.suppress(sqlite3.Error):
                    whole = self._checkpoint()
            time.sleep(self.rng.uniform(0, 0.02))
            with self._alone():
                self._remove_log()

    def _checkpoint(self) -> bool:
        with contextlib.closing(sqlite3.connect(self.actor.database, timeout=5)) as connection:
            ((busy, logged, done),) = connection.execute("PRAGMA wal_checkpoint").fetchall()
        return not busy and logged == done

    def _remove_log(self) -> None:
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.actor.database}{suffix}")

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Be at the gate, while no cleaner takes it."""
        gate = os.open(f"{self.actor.database}-run/gate", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield
        finally:
            os.close(gate)

    @contextlib.contextmanager
    def _restoring(self) -> Iterator[None]:
        while not os.path.exists(self.backup):
            self.back_up("")
        self.say("trouble")
        self.say("ghosts")
        self.say("shake", "*")
        yield
        # What the backup has of requests that are over would stay until their processes end.
        for name in (*LIMITS, ASLEEP, *WINDOWS, TEMPLATE):
            while not self.attempt(lambda: self._anew(name)):  # noqa: B023 - called at once
                time.sleep(_RETRY_SECONDS)
        self.say("cleared")
        with contextlib.ExitStack() as stack:
            for name in LIMITS:
                stack.enter_context(self.shaken(name))
                self.run_until_committed(name)
            self.say("calm", "*")
        self.say("better", self.actor.now())

    def _anew(self, name: str) -> None:
        if any(limit.name == name for limit in self.limiter.read_all()):
            self.limiter.delete(name)
        slots, seconds = WINDOWS.get(name, (1, 0.0))
        self.limiter.create(name, slots, window_seconds=seconds)

    def _copy(self, source: str, target: str) -> None:
        with (
            contextlib.closing(sqlite3.connect(source, timeout=5)) as old,
            contextlib.closing(sqlite3.connect(target, timeout=5)) as new,
        ):
            old.backup(new)


def main() -> None:
    """Work until the run ends."""
    Operator(Actor("operator")).work()


if __name__ == "__main__":
    main()
