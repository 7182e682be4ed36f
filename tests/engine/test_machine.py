"""The transactions against a model in plain Python, whatever happens in whatever order.

Hypothesis plays an operator and several processes that ask, wait, give up, are cancelled, release,
stop and die, at one database in time that it moves. The model below is the rules and nothing else.
It does not foresee who is served when: after each transaction it reads what the database has
decided, and checks that each decision was right, that none was left out, and that the rows say what
the model says.
"""

from __future__ import annotations

import copy
import math
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from localgcl import Limiter
from localgcl._drivers import blocking
from localgcl._engine import acquire, grant, wait, watchers
from localgcl._engine import request as _outcomes
from localgcl._liveness import folder
from localgcl._storage.database import Transaction
from tests.helpers.database import forget_everything
from tests.helpers.model import AHEAD, DUST, NAMES, Model, Place, Pool
from tests.helpers.played import Ask, Clock, Process

# Powers of two, so that the sums of the model are exact.
RATES = st.sampled_from([0.0, 0.0, 0.25, 0.5, 1.0, 2.0])
PAUSES = st.sampled_from([1 / 512, 1 / 8, 1 / 4, 1 / 2, 1 - 1 / 512, 1.0, 3.0])
# Few of each, so that they meet.
NAME = st.sampled_from(NAMES)
SOME_NAMES = st.lists(st.sampled_from([*NAMES, *NAMES, "missing"]), min_size=1, max_size=3)
SLOTS = st.sampled_from([2, 1, 3, 4, 0])
OCCUPY = st.sampled_from([1, 1, 2, 3])
WHICH = st.integers(0, 11)
BY_RATE = st.sampled_from([["c"], ["c"], ["c", "a"], ["d"], ["d", "c"]])
RARELY = st.sampled_from([False, False, False, True])
ACTIONS = [
    *("limit", "limit", "rate", "active", "slots", "rename", "reset", "delete", "create"),
    *("replace", "window", "pause", "pause", "resume", "adjust"),
]
WINDOWS = st.sampled_from([0.0, 0.5, 1.0, 2.0])


class World(RuleBasedStateMachine):
    """What an operator and some processes do."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock()
        self.clock.install(self.patch)
        # The played processes are all this one, which runs whatever becomes of them.
        self.patch.setattr(folder, "is_running", lambda _: False)
        self.directory = tempfile.TemporaryDirectory()
        self.path = str(Path(self.directory.name) / "limits.db")
        self.limiter = Limiter(self.path)
        self.model = Model()
        self.processes: dict[int, Process] = {}  # by number, also the dead
        self.lifelines: dict[int, str] = {}
        self.dead: set[int] = set()
        self.stopped: set[int] = set()
        self.born = 0
        self.asks: dict[str, Ask] = {}  # that wait as far as their process knows, by request
        self.places: dict[str, Place] = {}
        self.verdicts: dict[str, tuple[Any, ...]] = {}  # decided on, and not yet collected
        self.held: list[Ask] = []  # granted, also where an operator has freed it since
        self.by_rate: list[Ask] = []
        self.newest_first = False
        self.pools_made = 0
        self.late: dict[str, float] = {}  # since when they could have been served

    def teardown(self) -> None:
        try:
            if self.model.pools:
                self.all_end()
        finally:
            for process in self.processes.values():
                process.die()
            forget_everything()
            self.patch.undo()
            self.directory.cleanup()

    def all_end(self) -> None:
        """Nothing is left after everybody died, and somebody looked."""
        for process in self.processes.values():
            process.die()
        self.limiter.read_all()
        rows = self.rows()
        assert [lease for lease in rows["leases"] if lease[1]] == []
        assert rows["waiters"] == []
        assert rows["waits"] == []
        assert rows["owners"] == []
        assert set(os.listdir(f"{self.path}-run")) <= {"gate"}

    # The two sides

    @property
    def now(self) -> float:
        """This moment."""
        return self.clock.now

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return what the database holds."""
        queries = {
            "limits": "SELECT name, slots, active, used, waiting, decay, level, level_at, window,"
            " paused FROM limits",
            "leases": "SELECT name, owner, lease, leases.slots, lifeline, since FROM leases"
            " JOIN limits ON limits.key = limit_key LEFT JOIN owners ON owners.key = owner",
            "waits": "SELECT name, request FROM waits JOIN limits ON key = limit_key"
            " JOIN waiters USING (ticket) ORDER BY ticket",
            "waiters": "SELECT request, verdict, at, names FROM waiters ORDER BY ticket",
            "owners": "SELECT lifeline FROM owners",
            "orphans": "SELECT 1 FROM ledger WHERE limit_key NOT IN (SELECT key FROM settings)"
            " UNION ALL SELECT 1 FROM taken WHERE limit_key NOT IN"
            " (SELECT key FROM settings WHERE window)"
            " UNION ALL SELECT 1 FROM waits WHERE limit_key NOT IN (SELECT key FROM limits)"
            " UNION ALL SELECT 1 FROM waits WHERE ticket NOT IN (SELECT ticket FROM waiters)"
            " UNION ALL SELECT 1 FROM waiters WHERE owner NOT IN (SELECT key FROM owners)",
            "sums": "SELECT name FROM limits WHERE used <> (SELECT total(slots) FROM leases"
            " WHERE limit_key = key) OR waiting <> (SELECT count(*) FROM waits"
            " WHERE limit_key = key) OR mixed <> (SELECT count(*) FROM waits"
            " WHERE limit_key = key AND mixed) OR window AND level <> (SELECT total(slots)"
            " FROM taken WHERE limit_key = key)",
        }

        def read(tx: Transaction) -> dict[str, list[tuple[Any, ...]]]:
            return {what: tx.execute(query).fetchall() for what, query in queries.items()}

        return self.limiter._database.transact(read)

    def after(
        self,
        change: Callable[[], object] | None = None,
        *,
        newcomer: Place | None = None,
        told: tuple[str, Any] | None = None,
    ) -> None:
        """Bring the model after a transaction that made `change`, and compare.

        `newcomer` has joined the queue in it, and `told` is who was told what.
        """
        for number, process in self.processes.items():
            if process.lifeline is not None:
                self.lifelines[number] = process.lifeline.name
        rows = self.rows()
        there = {lifeline for (lifeline,) in rows["owners"]}
        reaped = {
            number
            for number in self.dead
            if number in self.lifelines and self.lifelines[number] not in there
        }
        for number in reaped:
            self.model.reap(number, self.now)
            del self.lifelines[number]
            for request in [one for one, ask in self.asks.items() if self.number(ask) == number]:
                del self.asks[request]
                self.verdicts.pop(request, None)
        if change is not None:
            change()
        if newcomer is not None:
            self.model.queue.append(newcomer)
        queued = {place.id for place in self.model.queue}
        decided: dict[str, tuple[Any, ...]] = {
            lease: ("granted", since, set())
            for *_, lease, _, _, since in rows["leases"]
            if lease in queued
        }
        decided |= {
            request: (verdict, at, set(names.split("\n")) if names else set())
            for request, verdict, at, names in rows["waiters"]
            if verdict is not None and request not in self.verdicts
        }
        if told is not None and told[0] not in self.verdicts:
            request, outcome = told
            if isinstance(outcome, _outcomes.Granted):
                decided[request] = ("granted", outcome.at, set())
            elif isinstance(outcome, _outcomes.Refused):
                decided[request] = (outcome.reason, None, set(outcome.names))
        self.judge(decided, exact=not reaped)
        if told is not None:
            self.collect(*told)
        self.compare(rows)

    def judge(self, decided: dict[str, tuple[Any, ...]], *, exact: bool) -> None:
        """Check that the decisions of one transaction were right, in some order."""
        waiting = dict(decided)
        while waiting:
            for place in [one for one in self.model.queue if one.id in waiting]:
                verdict, at, names = waiting[place.id]
                if verdict == "granted":
                    if not self.model.may_be_granted(place, self.now):
                        continue
                    moment = place.moment(self.now)
                    assert place.owner not in self.dead, "granted to the dead"
                    assert place.refusal is None
                    assert moment - DUST <= at <= self.now + AHEAD + DUST
                    assert at <= moment + DUST or not exact, "granted later than it could be"
                    self.model.grant(place, at)
                    self.check_rates(place)
                else:
                    if place.refusal != (verdict, names):
                        continue
                    self.model.queue.remove(place)
                self.verdicts[place.id] = waiting.pop(place.id)
                break
            else:
                raise AssertionError(f"out of turn, or without reason: {waiting}")

    def check_rates(self, place: Place) -> None:
        """Check that no window admits more than n + r * T by rate."""
        if place.holds:
            return
        for pool in place.active:
            grants = sorted(pool.by_rate.values())
            for index, (begin, _) in enumerate(grants):
                admitted = 0
                for end, slots in grants[index:]:
                    if pool.window and end - begin >= pool.window - DUST:
                        break
                    admitted += slots
                    assert admitted <= pool.slots + pool.decay * (end - begin) + 1e-6

    def collect(self, request: str, outcome: Any) -> None:
        """Check what a process was told against what was decided."""
        place = self.places[request]
        if isinstance(outcome, _outcomes.Waiting):
            assert place in self.model.queue
            return
        ask = self.asks.pop(request)
        verdict, at, names = self.verdicts.pop(request)
        if isinstance(outcome, _outcomes.Lost):
            self.check_taken_back(verdict, place)
        elif isinstance(outcome, _outcomes.Granted):
            assert (verdict, at) == ("granted", outcome.at)
            assert sorted(outcome.missing) == sorted(place.missing)
            (self.held if place.holds else self.by_rate).append(ask)
        else:
            assert isinstance(outcome, _outcomes.Refused), outcome
            assert (verdict, names) == (outcome.reason, set(outcome.names))

    def check_taken_back(self, verdict: str, place: Place) -> None:
        """Check that an operator freed what a process was granted and has not yet learnt of."""
        assert verdict == "granted"
        assert place.holds
        assert not any(place.id in pool.parts for pool in self.model.pools.values())

    def compare(self, rows: dict[str, list[tuple[Any, ...]]]) -> None:
        """Check that the rows say what the model says."""
        model = self.model
        assert rows["orphans"] == []
        assert rows["sums"] == []
        assert {row[0] for row in rows["limits"]} == set(model.pools)
        for name, slots, active, used, waiting, decay, level, level_at, *rest in rows["limits"]:
            pool = model.pools[name]
            assert (slots, bool(active), decay) == (pool.slots, pool.active, pool.decay)
            assert rest == [pool.window, pool.paused]
            assert used == pool.used
            assert waiting == sum(pool in place.pools for place in model.queue)
            if decay:
                seen = max(0.0, level - decay * max(0.0, self.now - level_at))
                assert seen == pytest.approx(pool.level_then(self.now), abs=1e-6)
            in_use = pool.in_use(self.now)
            pool.excused = min(pool.excused, pool.in_use_soon(self.now))
            assert in_use <= max(pool.slots, pool.excused) + 1e-6, "too many"
        parts = {
            (pool.name, lease, part.slots, self.lifelines[part.owner])
            for pool in model.pools.values()
            for lease, part in pool.parts.items()
        }
        assert {
            (name, lease, slots, lifeline)
            for name, owner, lease, slots, lifeline, _ in rows["leases"]
            if owner
        } == parts
        for pool in model.pools.values():
            queued = [request for name, request in rows["waits"] if name == pool.name]
            assert queued == [place.id for place in model.queue if pool in place.pools]

    # What must not be left out

    def duties(self) -> None:
        """Have each process that is not stopped do what its sleep wakes it for."""
        again = True
        looks: Counter[str] = Counter()
        while again:
            again = False
            asks = list(self.asks.values())
            for ask in reversed(asks) if self.newest_first else asks:
                if self.number(ask) in self.dead | self.stopped or not ask.waits:
                    continue
                due = ask.outcome.look_at <= self.now
                if ask.is_woken or ask.reported_dead or due:
                    outcome = ask.look()
                    self.after(told=(ask.request.id, outcome))
                    # A timer that is due again at once would be a waiter that polls.
                    assert not ask.waits or ask.outcome.look_at > self.now
                    looks[ask.request.id] += 1
                    assert looks[ask.request.id] < 20, "woken again and again for nothing"
                    again = True

    @invariant()
    def nobody_is_left_out(self) -> None:
        """Whoever fits and whose turn it is has its slots, now that everybody did its duties."""
        assert self.clone().left_out(self.now, by_time=False) == []
        self.duties()
        assert self.clone().left_out(self.now, by_time=False) == []
        # Who is stopped did not look at its moment; whoever runs did at its own.
        running = {place.id for place in self.model.queue if place.owner not in self.stopped}
        assert running.isdisjoint(self.left_out_by_time(besides=self.stopped))
        # What the grant to somebody who is stopped makes possible for others comes a moment later.
        late = running.intersection(self.left_out_by_time())
        self.late = {request: self.late.get(request, self.now) for request in late}
        assert all(self.now - since <= 2 * AHEAD for since in self.late.values())

    def left_out_by_time(self, besides: Iterable[int] = ()) -> list[str]:
        """Return who could be served or refused now; time brings nothing to those `besides`."""
        clone = self.clone()
        for number in self.dead:
            clone.reap(number, self.now)
        return clone.left_out(self.now, by_time=True, besides=set(besides))

    def clone(self) -> Model:
        """Return a model to try something on."""
        return copy.deepcopy(self.model) if self.model.queue else Model()

    def number(self, ask: Ask) -> int:
        """Return the number of a request's process."""
        return next(one for one, process in self.processes.items() if process is ask.process)

    # The operator

    @initialize(newest_first=st.booleans(), watching=st.sampled_from([1, 2, 8]))
    def begin(self, newest_first: bool, watching: int) -> None:
        """Begin with a limit of each kind and four processes."""
        self.newest_first = newest_first
        # The fewer they are, the sooner somebody stands too far back.
        for module in (acquire, grant, wait, watchers):
            self.patch.setattr(module, "WATCHERS", watching)
        # What others of a process that share an address are told is not told here.
        self.patch.setattr(blocking, "_OWN_FIFOS", 99)
        for name, slots, decay, window in (
            ("a", 3, 0.0, 0.0),
            ("b", 2, 0.0, 0.0),
            ("c", 3, 1.0, 0.0),
            ("d", 3, 0.0, 2.0),
        ):
            self.create(name, slots, decay, window, active=True)
        for _ in range(4):
            self.start()

    @rule(
        action=st.sampled_from(ACTIONS),
        name=NAME,
        new_name=NAME,
        slots=SLOTS,
        rate=RATES,
        window=WINDOWS,
        active=st.booleans(),
    )
    def operate(
        self,
        action: str,
        name: str,
        new_name: str,
        slots: int,
        rate: float,
        window: float,
        active: bool,
    ) -> None:
        """The operator changes something: one rule, so as not to be busier than all others."""
        now = self.now
        if name not in self.model.pools or action == "create":
            self.create(name, slots, rate, 0.0 if rate else window, active)
        elif action == "limit":
            self.change(name, lambda pool: setattr(pool, "slots", slots), limit=slots)
        elif action == "rate":
            kept = 0.0 if rate else self.model.pools[name].window
            self.change(name, lambda pool: pool.turn(rate, kept, now), slot_decay_per_second=rate)
        elif action == "window":
            kept = 0.0 if window else self.model.pools[name].decay
            self.change(name, lambda pool: pool.turn(kept, window, now), window_seconds=window)
        elif action == "pause":
            self.pause(name, None if rate == 0 else rate)
        elif action == "resume":
            self.pause(name, 0.0)
        elif action == "adjust":
            self.adjust(name, slots if active else -slots)
        elif action == "active":
            self.change(name, lambda pool: setattr(pool, "active", active), active=active)
        elif action == "slots":
            self.change(name, lambda pool: pool.set_slots(slots, self.now), active_slots=slots)
        elif action == "rename":
            self.rename(name, new_name)
        elif action == "reset":
            self.reset(name)
        else:
            self.delete(name)
            if action == "replace":
                self.create(name, slots, rate, 0.0 if rate else window, active)

    def create(self, name: str, slots: int, decay: float, window: float, active: bool) -> None:
        if name in self.model.pools:
            return
        self.limiter.create(
            name, slots, slot_decay_per_second=decay, window_seconds=window, active=active
        )
        self.pools_made += 1
        number = f"{self.pools_made}"
        pool = Pool(name, slots, decay, active, 0.0, self.now, id=number, window=window)
        self.after(partial(self.model.pools.__setitem__, name, pool))

    def pause(self, name: str, seconds: float | None) -> None:
        """Pause a limit, for ever with None; with 0, resume it."""
        pool = self.model.pools[name]
        if seconds == 0:
            self.limiter.resume(name)
        else:
            self.limiter.pause(name, seconds)
        until = math.inf if seconds is None else self.now + seconds if seconds else 0.0
        self.after(partial(setattr, pool, "paused", until))

    def adjust(self, name: str, slots: int) -> None:
        """Have so many more slots of a rate or a window in use, or fewer."""
        pool = self.model.pools[name]
        if not pool.decay and not pool.window:
            with pytest.raises(ValueError, match="neither a rate nor a window"):
                self.limiter.adjust(name, slots)
            self.after()
            return
        self.limiter.adjust(name, slots)

        def settle() -> None:
            pool.adjust(slots, self.now)
            pool.forget_rate(self.now)

        self.after(settle)

    def change(self, name: str, change: Callable[[Pool], object], **changes: Any) -> None:
        """Update a limit."""
        pool = self.model.pools[name]
        self.limiter.update(name, **changes)

        def change_and_excuse() -> None:
            change(pool)
            pool.forget_rate(self.now)

        self.after(change_and_excuse)

    def rename(self, name: str, new_name: str) -> None:
        if new_name in self.model.pools:
            return

        def follow(pool: Pool) -> None:
            self.model.pools[new_name] = self.model.pools.pop(name)
            pool.name = new_name

        self.change(name, follow, new_name=new_name)

    def reset(self, name: str) -> None:
        pool = self.model.pools[name]
        self.limiter.reset(name)

        def empty() -> None:
            pool.set_slots(0, self.now)
            pool.forget_rate(self.now)

        self.after(empty)

    def delete(self, name: str) -> None:
        pool = self.model.pools[name]
        self.limiter.delete(name)

        def remove() -> None:
            del self.model.pools[name]
            for place in [one for one in self.model.queue if pool in one.pools]:
                if place.strict:
                    self.model.queue.remove(place)
                    self.verdicts[place.id] = ("missing", None, {name})
                else:
                    place.pools.remove(pool)
                    place.missing.append(name)

        self.after(remove)

    @precondition(lambda self: self.held)
    @rule(which=WHICH)
    def release_by_operator(self, which: int) -> None:
        lease = self.held[which % len(self.held)].request.id
        held = any(lease in pool.parts for pool in self.model.pools.values())
        freed = self.limiter.release(lease)
        self.after(partial(self.free, lease))
        assert freed is held or not freed  # the dead may have been cleared away meanwhile

    @rule()
    def look_around(self) -> None:
        """Whoever looks sees things as they are, without the dead."""
        limits = self.limiter.read_all()
        self.after()
        assert not [number for number in self.dead if number in self.lifelines]
        for limit in limits:
            pool = self.model.pools[limit.name]
            assert limit.active_slots == math.ceil(pool.in_use(self.now) - 1e-6)
            assert limit.waiting == sum(pool in place.pools for place in self.model.queue)
        holders = {(one.limit, one.lease, one.slots) for one in self.limiter.holders()}
        assert holders == {
            (pool.name, lease, part.slots)
            for pool in self.model.pools.values()
            for lease, part in pool.parts.items()
        }
        for name in self.model.pools:
            pool = self.model.pools[name]
            seen = [(one.position, one.slots) for one in self.limiter.waiters(name)]
            queued = [one for one in self.model.queue if pool in one.pools]
            assert seen == [(index + 1, one.wanted(pool)) for index, one in enumerate(queued)]

    # The processes

    def start(self) -> None:
        """Start a process."""
        self.processes[self.born] = Process(self.limiter._database)
        self.born += 1

    @rule(how=st.sampled_from(["stop", "die", "die", "end"]), which=WHICH)
    def leave(self, how: str, which: int) -> None:
        """A process stops or goes on, or dies, or ends orderly; another comes instead."""
        number = self.alive[which % len(self.alive)]
        if how == "stop":
            self.stopped ^= {number}
            return
        if how == "die":
            self.die(number)
        elif number not in self.stopped:
            self.processes[number].sign_out()
            self.bury(number)
            self.after()
            assert number not in self.lifelines
        if len(self.alive) < 4:
            self.start()

    @rule(several=st.lists(WHICH, min_size=2, max_size=3))
    def die_together(self, several: list[int]) -> None:
        """Some die before anybody could see the first of them do so, and others come instead."""
        for number in {self.alive[which % len(self.alive)] for which in several}:
            self.die(number)
        while len(self.alive) < 4:
            self.start()

    def die(self, number: int) -> None:
        """A process is killed."""
        self.processes[number].die()
        self.bury(number)

    def bury(self, number: int) -> None:
        """Note that a process is no more."""
        self.dead.add(number)
        self.stopped.discard(number)
        self.held = [ask for ask in self.held if self.number(ask) != number]
        self.by_rate = [ask for ask in self.by_rate if self.number(ask) != number]

    @property
    def alive(self) -> list[int]:
        """The processes that have not ended."""
        return [number for number in self.processes if number not in self.dead]

    @property
    def running(self) -> list[int]:
        """The processes that can do something now."""
        return [number for number in self.alive if number not in self.stopped]

    def mine(self, asks: Iterable[Ask]) -> list[Ask]:
        """Return those requests whose process can do something now."""
        return [ask for ask in asks if self.number(ask) in self.running]

    @rule(asks=st.lists(st.tuples(WHICH, NAME, OCCUPY), min_size=1, max_size=6))
    def ask_in_a_rush(self, asks: list[tuple[int, str, int]]) -> None:
        for which, name, occupy in asks:
            self.ask(which, [name], occupy)
            self.nobody_is_left_out()

    @rule(which=WHICH, names=SOME_NAMES, occupy=OCCUPY, strict=RARELY)
    def ask_several(self, which: int, names: list[str], occupy: int, strict: bool) -> None:
        self.ask(which, names, occupy, strict=strict)

    @rule(which=WHICH, names=SOME_NAMES, weights=st.lists(OCCUPY, min_size=3, max_size=3))
    def ask_by_weight(self, which: int, names: list[str], weights: list[int]) -> None:
        self.ask(which, names, dict(zip(names, weights, strict=False)))

    @rule(which=WHICH, names=BY_RATE, occupy=OCCUPY)
    def ask_by_rate(self, which: int, names: list[str], occupy: int) -> None:
        self.ask(which, names, occupy, by_rate=True)

    @rule(which=WHICH, names=SOME_NAMES, occupy=OCCUPY, by_rate=RARELY)
    def try_once(self, which: int, names: list[str], occupy: int, by_rate: bool) -> None:
        self.ask(which, names, occupy, by_rate=by_rate, once=True)

    def ask(
        self,
        which: int,
        names: list[str],
        occupy: int | dict[str, int],
        *,
        by_rate: bool = False,
        strict: bool = False,
        once: bool = False,
    ) -> None:
        # Enough for some to stand too far back to watch those at the front.
        if not self.running or len(self.model.queue) >= 12:
            return
        number = self.running[which % len(self.running)]
        asked = list(dict.fromkeys(names))
        weights = occupy if isinstance(occupy, dict) else dict.fromkeys(asked, occupy)
        ask = self.processes[number].ask(
            *asked,
            occupy=None if isinstance(occupy, dict) else occupy,
            weights=weights if isinstance(occupy, dict) else None,
            holds=not by_rate,
            strict=strict,
            once=once,
        )
        pools = [self.model.pools[name] for name in asked if name in self.model.pools]
        missing = [name for name in asked if name not in self.model.pools]
        wants = {pool.id: weights[pool.name] for pool in pools}
        place = Place(ask.request.id, number, pools, wants, not by_rate, strict, missing)
        if strict and missing:
            self.after()
            assert (ask.outcome.reason, ask.outcome.names) == ("missing", tuple(missing))
            return
        self.places[place.id] = place
        self.asks[place.id] = ask
        if isinstance(ask.outcome, _outcomes.NotGranted):
            assert once
            self.refuse_a_try(place)
            return
        assert not (once and ask.waits)
        self.after(newcomer=place, told=(place.id, ask.outcome))

    def refuse_a_try(self, place: Place) -> None:
        """Check that a try was refused for a reason, and not because of the dead."""
        del self.asks[place.id]
        self.after()
        assert place.refusal is None
        model, tried = copy.deepcopy((self.model, place))
        for number in self.dead:
            model.reap(number, self.now)
        model.queue.append(tried)
        assert not model.in_turn(tried, self.now) or tried.moment(self.now) > self.now

    @precondition(lambda self: self.mine(self.asks.values()))
    @rule(which=WHICH)
    def give_up(self, which: int) -> None:
        """A timeout: one last look, and out of the queue."""
        asks = self.mine(self.asks.values())
        ask = asks[which % len(asks)]
        outcome = ask.withdraw()
        if not isinstance(outcome, _outcomes.NotGranted):
            self.after(told=(ask.request.id, outcome))
            return
        place = self.places[ask.request.id]
        del self.asks[place.id]
        if place.id in self.verdicts:
            self.check_taken_back(self.verdicts.pop(place.id)[0], place)
            return
        assert place in self.model.queue
        self.after(partial(self.model.queue.remove, place))

    @precondition(lambda self: self.cancellable)
    @rule(which=WHICH, twice=st.booleans())
    def cancel(self, which: int, twice: bool) -> None:
        """A cancellation or a Ctrl-C, at any moment and perhaps once more."""
        ask = self.cancellable[which % len(self.cancellable)]
        place = self.places[ask.request.id]
        ask.abandon()
        if twice:
            ask.abandon()
        self.asks.pop(place.id, None)
        self.verdicts.pop(place.id, None)
        self.held = [one for one in self.held if one is not ask]
        self.by_rate = [one for one in self.by_rate if one is not ask]

        def undo() -> None:
            if place in self.model.queue:
                self.model.queue.remove(place)
            self.free(place.id)
            for pool in self.model.pools.values():
                pool.give_back(place.id, self.now)

        self.after(undo)

    @property
    def cancellable(self) -> list[Ask]:
        """The requests that may still be undone."""
        return [
            ask
            for ask in self.mine([*self.asks.values(), *self.held, *self.by_rate])
            # What an operator has wiped out of a level since is nobody's to give back.
            if (place := self.places[ask.request.id]).holds
            or place.taken == sum(place.id in pool.by_rate for pool in self.model.pools.values())
        ]

    def free(self, lease: str) -> None:
        """Free all of a lease in the model."""
        for pool in self.model.pools.values():
            pool.free(lease, self.now)

    @precondition(lambda self: self.mine(self.held))
    @rule(which=WHICH)
    def release(self, which: int) -> None:
        asks = self.mine(self.held)
        ask = asks[which % len(asks)]
        held = any(ask.request.id in pool.parts for pool in self.model.pools.values())
        assert ask.release() is held
        self.after(partial(self.free, ask.request.id))
        assert ask.release() is False
        self.held.remove(ask)

    @rule(seconds=PAUSES)
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.asks)
    @rule(which=WHICH)
    def pass_time_until_due(self, which: int) -> None:
        """Until just after the timer of somebody who waits, and so just before its moment."""
        asks = list(self.asks.values())
        ask = asks[which % len(asks)]
        if ask.waits and self.now < ask.outcome.look_at < self.now + 8:
            self.clock.advance(ask.outcome.look_at + 0.001 - self.now)


World.TestCase.settings = settings(
    deadline=None,
    max_examples=100,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
TestWorld = World.TestCase


class Dice:
    """What hypothesis does, with a mind for long lives: mostly asking, seldom operating.

    Every other one has long queues, in which few are granted and many give up or die.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.crowded = bool(seed % 2)

    def name(self) -> str:
        return self.random.choice(NAMES)

    def names(self) -> list[str]:
        return self.random.choices([*NAMES, *NAMES, "missing"], k=self.random.choice([1, 1, 2, 3]))

    def which(self) -> int:
        return self.random.randrange(12)

    def one_in(self, number: int) -> bool:
        return self.random.randrange(number) == 0

    def throw(self, world: World) -> None:
        """Have one thing happen."""
        weights = {
            self.ask: 40,
            self.release: 2 if self.crowded else 16,
            self.give_up: 10 if self.crowded else 4,
            self.cancel: 6,
            self.operate: 9,
            self.leave: 7,
            self.die_together: 6 if self.crowded else 2,
            self.pass_time: 14,
            self.pass_time_until_due: 6,
            self.look_around: 1,
            self.release_by_operator: 1,
        }
        (happening,) = self.random.choices(list(weights), list(weights.values()))
        happening(world)

    def ask(self, world: World) -> None:
        by_rate = self.one_in(4)
        names = ["c"] if by_rate and not self.one_in(4) else self.names()
        if by_rate and self.one_in(3):
            names = ["d"]
        if self.crowded and not self.one_in(4):
            by_rate, names = False, ["a"]
        occupy: int | dict[str, int] = self.random.choice([1, 1, 1, 2, 2, 3])
        if self.one_in(5):
            occupy = {name: self.random.choice([1, 1, 2, 3]) for name in names}
        strict, once = self.one_in(5), self.one_in(6)
        world.ask(self.which(), names, occupy, by_rate=by_rate, strict=strict, once=once)

    def release(self, world: World) -> None:
        if world.mine(world.held):
            world.release(which=self.which())

    def give_up(self, world: World) -> None:
        if world.mine(world.asks.values()):
            world.give_up(which=self.which())

    def cancel(self, world: World) -> None:
        if world.cancellable:
            world.cancel(which=self.which(), twice=self.one_in(2))

    def operate(self, world: World) -> None:
        world.operate(
            action=self.random.choice(ACTIONS),
            name=self.name(),
            new_name=self.name(),
            slots=self.random.choice([1, 2, 3, 3, 4, 4, 0]),
            rate=self.random.choice([0.0, 0.25, 0.5, 1.0, 2.0]),
            window=self.random.choice([0.0, 0.5, 1.0, 2.0]),
            active=not self.one_in(3),
        )

    def leave(self, world: World) -> None:
        world.leave(how=self.random.choice(["stop", "die", "end"]), which=self.which())

    def die_together(self, world: World) -> None:
        world.die_together(several=[self.which() for _ in range(3)])

    def pass_time(self, world: World) -> None:
        pauses = [1 / 512, 1 / 512, 1 / 8, 1 / 4, 1 / 4 - 1 / 512, 1 / 2, 1.0, 3.0]
        world.pass_time(seconds=self.random.choice(pauses))

    def pass_time_until_due(self, world: World) -> None:
        if world.asks:
            world.pass_time_until_due(which=self.which())

    def look_around(self, world: World) -> None:
        world.look_around()

    def release_by_operator(self, world: World) -> None:
        if world.held:
            world.release_by_operator(which=self.which())


@pytest.mark.parametrize("seed", range(21))
def test_long_lives(seed: int) -> None:
    """The same with weighted dice: more happens between the beginning and the end."""
    dice = Dice(seed)
    world = World()
    try:
        world.begin(newest_first=dice.one_in(2), watching=[1, 2, 8][seed % 3])
        for _ in range(400):
            dice.throw(world)
            world.nobody_is_left_out()
    finally:
        world.teardown()
