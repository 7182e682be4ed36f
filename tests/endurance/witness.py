"""The witness: it reads the journal, knows nothing of localgcl's files, and says what was wrong.

It gives no false alarm, however long a process was held up between two of its lines. What it
counts as held was certainly held: the line `in` is written after the grant and `out` before the
release. Where an operator, a cleaner or a restored file may have changed what a request holds, the
request no longer counts at that limit (it is *excused* there). The lines:

    limit NAME SLOTS DECAY WINDOW   a limit, or a key of a template, is there from here on
    ask TAG TIME HOLDS SLOTS NAMES  a request begins; its tag is PROCESS-NUMBER, names by commas,
                                    and so are the slots of each if they differ
    in TAG TIME                     it was granted; `began`, if the time is a little early
    out TAG TIME                    it is about to be released
    free TAG TIME                   the release is done
    not TAG REASON TIME             it was not granted, and so has left nothing
    gone TAG TIME                   it was told that it holds nothing any more
    lost TAG TIME PROBLEM           it ended with a DatabaseError, so what it leaves goes later
    orphan TAG                      if a command holds for it, then until it says `out`
    fork PROCESS / born PROCESS PARENT
    kill PROCESS TIME               about to be killed / certainly gone: dead PROCESS
    shake NAME | *                  what is held there may change / calm NAME | * SLOTS DECAY OPEN
    paused NAME / resuming NAME     nothing may be granted from here on / about to be resumed
    resize NAME SLOTS               about to have so many slots / resized NAME SLOTS
    ghosts                          old rows may come back from here on / cleared: they are gone
    trouble / better TIME           calls may fail from here on / fail no more
    excuse TAG                      an operator may free it from here on
    look TIME / saw HOLDERS WAITERS what the views show: TAG,LIMIT,SLOTS by blanks
    blind PROBLEM                   the look ended with an error
    try / hindered PROBLEM          the operator does something / that ended with an error
    did WHAT                        to be counted
    wrong PROBLEM                   what a process itself found to be wrong
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from localgcl._engine.order import MAX_OVERTAKEN
from tests.endurance.rate import Meter
from tests.endurance.wishes import ASLEEP
from tests.truths import TRUTHS

# So long may a request take that is delayed by nothing but other requests and the faults; all that
# is held or stopped is let go within seconds.
PATIENCE_SECONDS = 60.0

# Who has given up while the gate was shut has a thread that tidies up once it opens.
_TIDY_SECONDS = 5.0

_COARSE_SECONDS = 0.02  # what a shell reads of the clock is so much early at most

_REMEMBERED = 200_000  # requests that are over, for the views to be compared with


@dataclass(eq=False)
class Request:
    """A request as far as its process has told."""

    tag: str
    process: str
    names: tuple[str, ...]
    slots: dict[str, int]  # of each name
    holds: bool
    began: int  # the number of its line
    began_at: float
    state: str = "ask"
    granted: int = 0
    granted_at: float = math.inf
    excused: set[str] = field(default_factory=set)
    killed: bool = False
    orphaned: bool = False
    ended: int = 0
    tidy_at: float = 0.0  # when nothing may be left of it any more
    waiting_since: int = 0  # the line that first showed it waiting

    @property
    def counts_at(self) -> list[str]:
        """The limits at which it certainly holds, if it holds anything."""
        return [name for name in self.names if name not in self.excused]


class Pool:
    """A limit as the operator has made it."""

    def __init__(self, slots: int, decay: float, window_seconds: float) -> None:
        self.sizes = [(0, slots)]  # the greatest it may have had since a line
        self.decay = decay
        self.window_seconds = window_seconds
        self.paused = 0  # the line since which nothing may be granted
        self.open = True  # whether it certainly counts
        self.shaken = 0
        self.measure_anew()

    def measure_anew(self) -> None:
        """Forget what was admitted: it may count no more."""
        self.meter = Meter(self.sizes[-1][1], self.decay, self.window_seconds)

    def largest_since(self, line: int) -> int:
        """Return the greatest number of slots it may have had at that line or later."""
        last = max(index for index, (begun, _) in enumerate(self.sizes) if begun <= line)
        return max(size for _, size in self.sizes[last:])


class Witness:
    """Everything that is known, and what is wrong with it."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self.report = report
        self.counts: Counter[str] = Counter()
        self.pools: dict[str, Pool] = {}
        self.requests: dict[str, Request] = {}  # that are not over, by tag
        self.over: dict[str, Request] = {}
        self.killed: set[str] = set()
        self.dead: set[str] = set()
        self.unborn: Counter[str] = Counter()  # forks whose child has not told of itself
        self.line = 0
        self.restored = 0.0  # the rows of what began before this line may be ghosts
        self.trouble = 0
        self.better_at = -1  # the line at which the last trouble ended
        self.calm_at = -1.0  # the line at which everything was shaken last
        self._kept_until = -math.inf  # when the limit of the sleepers was last seen held
        self._tidy_from = 0.0  # when what it has left is to be gone
        self._look_line, self._looked_at = 0, 0.0
        self._try_line = 0
        self._swept: set[str] = set()
        self._granted: deque[Request] = deque(maxlen=2_000)

    def read(self, lines: Iterable[list[str]]) -> None:
        """Go through new lines."""
        for verb, *words in lines:
            self.line += 1
            getattr(self, f"_{verb}")(*words)

    def wrong(self, truth: int, problem: str) -> None:
        """Say that one of the truths does not hold; 0 is the run itself."""
        self.counts["violations"] += 1
        self.report(f"truth {truth} ({TRUTHS[truth]}), line {self.line}: {problem}")

    def too_long(self, now: float) -> list[Request]:
        """Return the requests that should have come to an end; asked again and again."""
        asleep = [one for one in self.requests.values() if one.names == (ASLEEP,)]
        if any(one.state == "in" and not one.killed for one in asleep):
            self._kept_until = now  # its holder keeps it until a fault takes it away
        return [
            request
            for request in self.requests.values()
            if request.state == "ask"
            and not (request.killed or request.orphaned)
            and now - self._hindered_until(request) > PATIENCE_SECONDS
        ]

    def _hindered_until(self, request: Request) -> float:
        if request.names == (ASLEEP,):
            return max(request.began_at, self._kept_until)
        return request.began_at

    # Requests

    def _ask(self, tag: str, time: str, holds: str, slots: str, names: str) -> None:
        process = tag.rpartition("-")[0]
        wanted, each = tuple(dict.fromkeys(names.split(","))), slots.split(",")
        request = Request(
            tag,
            process,
            wanted,
            dict(zip(wanted, map(int, each if len(each) > 1 else each * len(wanted)), strict=True)),
            holds == "1",
            self.line,
            float(time),
        )
        request.killed = process in self.killed
        request.excused = {
            name
            for name in request.names
            if (pool := self.pools.get(name)) is None or pool.shaken or not pool.open
        }
        self.requests[tag] = request
        self.counts["asked"] += 1

    def _in(self, tag: str, time: str) -> None:
        request = self.requests[tag]
        request.state, request.granted, request.granted_at = "in", self.line, float(time)
        self.counts["granted"] += 1
        if request.killed:
            return
        self._granted.append(request)
        for name in request.counts_at:
            pool = self.pools[name]
            if 0 < pool.paused < request.began:
                self.wrong(1, f"{tag} was granted while {name} was paused")
            if pool.window_seconds and request.holds:
                continue  # its slots come back at its end, which may be any
            if pool.decay or pool.window_seconds:
                excess = pool.meter.admit(request.began_at, request.granted_at, request.slots[name])
                if excess > 0:
                    self.wrong(6, f"{tag} is {excess:.3f} slot(s) above the rate of {name}")
            else:
                self._check_sum(name, pool)
        if not request.holds:
            self._finish(request)

    def _began(self, tag: str, time: str) -> None:
        self._in(tag, str(float(time) + _COARSE_SECONDS))

    def _orphan(self, tag: str) -> None:
        if tag in self.requests:
            self.requests[tag].orphaned = True

    def _check_sum(self, name: str, pool: Pool) -> None:
        holders = [
            one
            for one in self.requests.values()
            if one.state == "in" and one.holds and not one.killed and name in one.counts_at
        ]
        # The last of them to be granted was granted after it had begun, as was every other.
        allowed = pool.largest_since(max((one.began for one in holders), default=self.line))
        used = sum(one.slots[name] for one in holders)
        self.counts[f"most of {name}"] = max(self.counts[f"most of {name}"], used)
        if used > allowed:
            tags = ", ".join(f"{one.tag} ({one.slots[name]})" for one in holders)
            self.wrong(1, f"{used} slots of {allowed} of {name} are in use: {tags}")

    def _out(self, tag: str, time: str) -> None:
        request = self.requests[tag]
        request.state = "out"
        self._returns(request, float(time))

    def _free(self, tag: str, time: str) -> None:
        request = self.requests[tag]
        self._returned(request, float(time))
        self._finish(request)

    def _not(self, tag: str, reason: str, time: str) -> None:
        request = self.requests[tag]
        self.counts[reason] += 1
        request.tidy_at = float(time) + _TIDY_SECONDS
        self._returns(request, float(time))
        self._returned(request, request.tidy_at)
        self._finish(request)

    def _gone(self, tag: str, time: str) -> None:
        request = self.requests[tag]
        self.counts["gone"] += 1
        if request.counts_at == list(request.names) and not self.trouble:
            self.wrong(3, f"{tag} was told that nothing is left of its lease")
        self._not(tag, "told that it is gone", time)

    def _lost(self, tag: str, time: str, problem: str) -> None:
        request = self.requests[tag]
        self.counts["failed"] += 1
        excused = problem.startswith("cramped") or request.killed
        if not excused and not self._may_have_failed_since(request.began):
            self.wrong(10, f"{tag} failed without a reason: {problem}")
        request.excused.update(request.names)
        self._returns(request, float(time))
        request.tidy_at = float(time) + _TIDY_SECONDS
        self._finish(request)

    def _finish(self, request: Request) -> None:
        request.state, request.ended = "over", self.line
        self.over[request.tag] = self.requests.pop(request.tag)
        if len(self.over) > _REMEMBERED:
            del self.over[next(iter(self.over))]

    def _returns(self, request: Request, at: float) -> None:
        """Note what a request may give back to rates from now on."""
        for name in request.names:
            pool = self.pools.get(name)
            if pool is None or not pool.decay:
                continue
            if name in request.excused:
                pool.meter.give_back(request.tag, request.slots[name])
            elif request.granted:
                held = at - request.granted_at
                left = max(0.0, request.slots[name] - pool.decay * held)
                pool.meter.give_back(request.tag, left)

    def _returned(self, request: Request, at: float) -> None:
        for name in request.names:
            if name in self.pools:
                self.pools[name].meter.given_back(request.tag, at)

    # Processes

    def _fork(self, process: str) -> None:
        self.unborn[process] += 1

    def _born(self, _: str, parent: str) -> None:
        self.unborn[parent] -= 1

    def _kill(self, process: str, time: str) -> None:
        self.killed.add(process)
        for request in self.requests.values():
            if request.process == process and not request.killed:
                self._returns(request, float(time))
                request.killed = True

    def _dead(self, process: str) -> None:
        self.killed.add(process)
        self.dead.add(process)

    # The operator and the faults

    def _limit(self, name: str, slots: str, decay: str, window_seconds: str = "0") -> None:
        self.pools[name] = Pool(int(slots), float(decay), float(window_seconds))

    def _paused(self, name: str) -> None:
        self.pools[name].paused = self.line

    def _resuming(self, name: str) -> None:
        self.pools[name].paused = 0

    def _shake(self, name: str) -> None:
        if name == "*":
            self.calm_at = math.inf
        for one in self._pools_of(name):
            self.pools[one].shaken += 1
            for request in self.requests.values():
                if one in request.names:
                    request.excused.add(one)

    def _calm(self, name: str, *state: str) -> None:
        if name == "*":
            self.calm_at = self.line
        for one in self._pools_of(name):
            pool = self.pools[one]
            pool.shaken -= 1
            if state:
                slots, pool.decay, pool.open = int(state[0]), float(state[1]), state[2] == "1"
                pool.sizes = [(self.line, slots)]
            pool.measure_anew()
            # Who began before this may have been granted before it, and is to give back after it.
            for request in self.requests.values():
                if one in request.names:
                    request.excused.add(one)
                    if request.killed or request.state == "out":
                        pool.meter.give_back(request.tag, request.slots[one])

    def _pools_of(self, name: str) -> list[str]:
        return list(self.pools) if name == "*" else [name]

    def _resize(self, name: str, slots: str) -> None:
        pool = self.pools[name]
        pool.sizes.append((self.line, max(int(slots), pool.sizes[-1][1])))

    def _resized(self, name: str, slots: str) -> None:
        self.pools[name].sizes.append((self.line, int(slots)))

    def _excuse(self, tag: str) -> None:
        request = self._known(tag)
        if request is not None:
            self._free_at_will(request, request.names)

    def _free_at_will(self, request: Request, names: Iterable[str]) -> None:
        for name in names:
            request.excused.add(name)
            if name in self.pools:
                self.pools[name].meter.give_back(request.tag, request.slots[name])

    def _ghosts(self) -> None:
        # Until they are cleared away: what comes back when a log is lost may have been asked for
        # after this, and granted before the loss.
        self.restored = math.inf

    def _cleared(self) -> None:
        self.restored = self.line

    def _trouble(self) -> None:
        self.trouble += 1

    def _better(self, time: str) -> None:
        self.trouble -= 1
        self.better_at, self._tidy_from = self.line, float(time) + _TIDY_SECONDS

    def _did(self, what: str) -> None:
        self.counts[what] += 1

    def _try(self) -> None:
        self._try_line = self.line

    def _hindered(self, problem: str) -> None:
        self.counts["hindered"] += 1
        if not self._may_have_failed_since(self._try_line):
            self.wrong(10, f"the operator was hindered without a reason: {problem}")

    def _may_have_failed_since(self, line: int) -> bool:
        """Whether a fault may have made fail what began at a line and ends here."""
        return bool(self.trouble) or line < max(self.better_at, self.calm_at)

    def _wrong(self, problem: str) -> None:
        self.wrong(0, problem)

    # The views

    def _look(self, time: str) -> None:
        self._look_line, self._looked_at = self.line, float(time)
        # The view is to clear away what these have left.
        self._swept = {process for process in self.dead if not self.unborn[process]}

    def _blind(self, problem: str) -> None:
        self.counts["views that failed"] += 1
        if not self._may_have_failed_since(self._look_line):
            self.wrong(10, f"a view failed without a reason: {problem}")

    def _saw(self, holders: str, waiters: str) -> None:
        held: dict[str, dict[str, int]] = {}
        for tag, name, slots in _rows(holders):
            held.setdefault(tag, {})[name] = int(slots)
        waiting: dict[str, set[str]] = {}
        for tag, name, _ in _rows(waiters):
            waiting.setdefault(tag, set()).add(name)
        self.counts["views"] += 1
        for tag, shown in held.items():
            self._check_shown(tag, shown)
        for tag in waiting:
            self._check_waiting(tag)
        self._check_order(waiting)
        for request in self.requests.values():
            if (
                request.state == "in"
                and request.holds
                and not request.killed
                and request.granted < self._look_line
                and (missing := set(request.counts_at) - held.get(request.tag, {}).keys())
            ):
                self.wrong(3, f"{request.tag} holds {missing}, and no view shows it")
        for request in [one for one in self.requests.values() if one.process in self._swept]:
            self._finish(request)

    def _check_shown(self, tag: str, shown: dict[str, int]) -> None:
        request = self._known(tag)
        if request is None or request.began < self.restored:
            return
        if request.state == "over" and request.ended < self._look_line:
            if self._is_tidy_by_now(request):
                self.wrong(9, f"{tag} is over and still holds {shown}")
        elif request.process in self._swept:
            self.wrong(2, f"the process of {tag} is gone, which still holds {shown}")
        else:
            if set(request.counts_at) - shown.keys():
                self.wrong(5, f"{tag} asked for {request.names} and holds {shown}")
            if any(slots != request.slots.get(name, slots) for name, slots in shown.items()):
                self.wrong(8, f"{tag} holds {request.slots}, and is shown with {shown}")

    def _is_tidy_by_now(self, request: Request) -> bool:
        """Whether nothing may be left of a request that is over."""
        return not self.trouble and self._looked_at > max(request.tidy_at, self._tidy_from)

    def _check_waiting(self, tag: str) -> None:
        request = self._known(tag)
        if request is None or request.began < self.restored:
            return
        if request.state == "over" and request.ended < self._look_line:
            if self._is_tidy_by_now(request):
                self.wrong(9, f"{tag} is over and still waits")
        elif request.process in self._swept:
            self.wrong(2, f"the process of {tag} is gone, which still waits")
        elif 0 < request.granted < self._look_line:
            self.wrong(8, f"{tag} was granted, and is shown as waiting")

    def _known(self, tag: str) -> Request | None:
        return self.requests.get(tag) or self.over.get(tag)

    def _check_order(self, waiting: dict[str, set[str]]) -> None:
        """See that nobody was granted who came while another was seen to wait, and still waits.

        Who waits at several limits may be overtaken while it lacks room at one of them, but not
        without end.
        """
        for tag, names in waiting.items():
            earlier = self.requests.get(tag)
            if earlier is None:
                continue
            if not earlier.waiting_since:
                earlier.waiting_since = self.line
                continue
            shared = names.intersection(earlier.counts_at)
            before = [
                later.tag
                for later in self._granted
                if earlier.waiting_since < later.began
                and later.granted < self._look_line
                and shared.intersection(later.counts_at)
            ]
            most = 0 if len(earlier.names) == 1 else MAX_OVERTAKEN
            self.counts["most overtakings"] = max(self.counts["most overtakings"], len(before))
            if len(before) > most:
                self.wrong(4, f"{before[-1]} was granted before {tag}, which waited already")


def _rows(text: str) -> Iterator[list[str]]:
    for row in text.split():
        yield row.split(",")
