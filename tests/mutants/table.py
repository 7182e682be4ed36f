"""Small changes that each break one of the ten truths on purpose."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutants.trees import Change, Code, Sql

ORDER = "tests/engine/test_order.py"
SLOTS = (
    "tests/engine/test_slots.py",
    ORDER,
    "tests/engine/test_timeouts.py",
    "tests/engine/test_rates.py",
    "tests/engine/test_decorators.py",
    "tests/engine/test_deaths.py",
    "tests/engine/test_reboots.py",
)
SHARES = "tests/engine/test_shares.py"
AT_ONCE = "tests/engine/test_at_once.py"
HAND_OVER = "tests/engine/test_hand_over.py"
MACHINE = "tests/engine/test_machine.py"
DECAY = "tests/engine/test_decay.py"
LIMITS = (
    "tests/admin/test_limits.py",
    "tests/admin/test_slots_by_hand.py",
    "tests/admin/test_decay_changes.py",
    "tests/admin/test_deletions.py",
    "tests/admin/test_holders.py",
)
DATABASE = (
    "tests/storage/test_database.py",
    "tests/storage/test_replaced.py",
    "tests/storage/test_foreign_files.py",
    "tests/storage/test_full_disk.py",
    "tests/storage/test_modes.py",
)
LATER = "tests/storage/test_later.py"
CLIENTS = "tests/engine/test_clients.py"
CLOCK = "tests/base/test_clock.py"
GATE = "tests/storage/test_gate.py"
WEIGHTS = "tests/engine/test_weights.py"
TEMPLATES = "tests/admin/test_templates.py"
NUMBERS = "tests/engine/test_numbers.py"
WINDOWS = "tests/engine/test_windows.py"
PAUSES = "tests/engine/test_pauses.py"
CLI_RUN = "tests/run/test_cli_run.py"
RUN = "tests/processes/test_run.py"
SERVER = (
    "tests/server/test_leases.py",
    "tests/server/test_waiting.py",
    "tests/server/test_places.py",
)
TASKS = "tests/drivers/tasks/test_tasks.py"
LOOPS = "tests/drivers/tasks/test_loops.py"
WATCH = "tests/liveness/test_watch.py"
BOOT = "tests/storage/test_boot.py"
STOPPED_HEADS = "tests/engine/test_stopped_heads.py"
INTERRUPTS = "tests/drivers/test_interrupts.py"
LOST_WAKEUPS = "tests/drivers/test_lost_wakeups.py"
CLOSED_LOOPS = "tests/drivers/tasks/test_closed_loops.py"
CANCELLATION = "tests/drivers/tasks/test_cancellation.py"
OWNERS = "tests/processes/test_owners.py"
CROWDS = "tests/processes/test_crowds.py"
TRANSACTIONS = "tests/processes/test_transactions.py"
DESCRIPTORS = "tests/processes/test_descriptors.py"
GREEN = "tests/processes/test_green.py"
EXHAUSTED = "tests/processes/test_exhausted.py"
LOCATION = "tests/storage/test_location.py"
PROCESS = "tests/liveness/test_process.py"
ERRORS_OF_OTHERS = "tests/storage/test_errors_of_others.py"
PLANTED = "tests/intruders/test_planted.py"
OUTSIDERS = "tests/intruders/test_outsiders.py"
RUN_FOLDER = "tests/intruders/test_run_folder.py"
ROOT_AND_APP = "tests/intruders/test_root_and_app.py"
SWAPPED = "tests/intruders/test_swapped.py"
MEMBERS = "tests/intruders/test_members.py"
HOT_JOURNAL = "tests/intruders/test_hot_journal.py"
MOUNTS = "tests/intruders/test_mounts.py"
FORKS = "tests/storage/test_forks.py"
CLOSED_DESCRIPTORS = "tests/storage/test_closed_descriptors.py"

# What is run where a mutant does not say, in this order.
USUAL = (*SLOTS, AT_ONCE, HAND_OVER, *LIMITS, *DATABASE, MACHINE, OWNERS, CROWDS)


@dataclass(frozen=True)
class Mutant:
    """What `place` names is changed, and one of `tests` is to fail."""

    name: str
    truth: int
    place: str
    change: Change
    tests: tuple[str, ...] = USUAL


MUTANTS = (
    Mutant(
        "slots of several are not added",
        1,
        "opening",
        Code("moment(tx, row, row.wants)", "moment(tx, row, 1)"),
    ),
    Mutant(
        "slots of several are not added at once",
        1,
        "_engine:_TAKE",
        Sql("AND used + ? <= slots", "AND used < slots AND ? > 0"),
    ),
    Mutant(
        "a limit that has come to decay is taken as if it had not",
        1,
        "_engine:_TAKE",
        Sql("active AND NOT decay AND NOT window", "active AND NOT window"),
    ),
    Mutant(
        "a waiter fits where one slot is left",
        1,
        "moment",
        Code("row.used + slots > row.limit", "row.used >= row.limit"),
    ),
    Mutant(
        "the sum counts leases and not slots",
        1,
        "TRIGGERS",
        Sql("SET slots = slots + NEW.slots", "SET slots = slots + 1"),
    ),
    Mutant(
        "a child opens what crossed the fork",
        1,
        "SharedFile.forget_after_fork",
        Code("file is not None or not stayed_closed", "False"),
        (TRANSACTIONS,),
    ),
    Mutant(
        "a file that was replaced is used on",
        1,
        "File.is_there",
        Code(
            "tuple(map(identity_of, self._names)) != self._found",
            "tuple(map(identity_of, self._names))[1:] != self._found[1:]",
        ),
        DATABASE,
    ),
    Mutant(
        "a log that was replaced is used on",
        1,
        "File.is_there",
        Code(
            "tuple(map(identity_of, self._names)) != self._found",
            "tuple(map(identity_of, self._names))[:1] != self._found[:1]",
        ),
        (DESCRIPTORS,),
    ),
    Mutant(
        "a file that is a mount point itself is used",
        1,
        "refuse_unfit_place",
        Code("point is not None", "not point and point is not None"),
        (DESCRIPTORS,),
    ),
    Mutant(
        "a network file system is refused only for a new file",
        1,
        "prepare",
        Code(
            "refuse_unfit_place(real, path)\nreturn real, folder_of(real, status, path)",
            "return real, folder_of(real, status, path)",
        ),
        (LOCATION,),
    ),
    Mutant(
        "what a transaction leaves is left undone",
        4,
        "Database.transact",
        Code("self.go_on(left, deadline)", ""),
        (SHARES,),
    ),
    Mutant(
        "a transaction serves a queue to its end, however long",
        4,
        "_Promotion._try_in_turn",
        Code("if tx.share <= 0:\n    _leave_queue(tx, key, asked, last)\n    return", ""),
        (SHARES,),
    ),
    Mutant(
        "who would go on with what is left is not woken",
        4,
        "_wake_for_rest",
        Code("tx.wake(wakes[0], ticket)", "pass"),
        (SHARES,),
    ),
    Mutant(
        "a waiter whose last limit was deleted is in no queue for ever",
        4,
        "look",
        Code("tx.share > 0 and _has_lost_a_queue(tx, keys, request.ticket)", "False"),
        (SHARES,),
    ),
    Mutant(
        "what is left of a changed queue is only its first ones",
        4,
        "_leave_queue",
        Code("queues[key] = min(asked, queues.get(key, asked))", "queues[key] = _ASKED"),
        (SHARES,),
    ),
    Mutant(
        "what the dead hold stays taken",
        2,
        "_clear",
        Code(
            'if leases:\n    tx.execute(f"DELETE FROM ledger WHERE {theirs}")',
            "",
        ),
    ),
    Mutant(
        "a slot is handed on to a waiter that takes by rate",
        2,
        "_NEXT",
        Sql("AND holds AND waiters.limits = ?", "AND waiters.limits = ?"),
    ),
    Mutant(
        "who has a lifeline takes every waiter for alive",
        2,
        "Transaction.can_wake",
        Code("ours is not None and lifeline_of(wakes) == ours.name", "ours is not None"),
    ),
    Mutant(
        "nobody is found dead",
        2,
        "Folder.open_end",
        Code("error.errno in _GONE", "error.errno in ()"),
    ),
    Mutant(
        "a watch that is just ending is still asked",
        2,
        "Kept",
        Code(
            "def __init__(self, descriptor: Descriptor) -> None:\n"
            "    self.descriptor = descriptor\n"
            "    self._end = weakref.finalize(self, close_if_ours, self.descriptor)\n"
            "    self._end.atexit = False",
            "def __init__(self, descriptor: Descriptor) -> None:\n"
            "    self.descriptor = descriptor\n"
            "    self._end = weakref.finalize(self, close_if_ours, self.descriptor)\n"
            "    self._end.detach()\n"
            "    self._end = lambda: close_if_ours(descriptor)\n"
            "\n"
            "def __del__(self) -> None:\n"
            "    close_if_ours(self.descriptor)",
        ),
        (WATCH,),
    ),
    Mutant(
        "a release serves nobody",
        2,
        "_engine:release",
        Code("promote(tx, queued, freed=0 if slots is None else slots)", "pass"),
    ),
    Mutant(
        "a release at once serves nobody",
        2,
        "_COUNT_IF_ALONE",
        Sql(" AND NOT waiting", ""),
    ),
    Mutant(
        "slots are taken for an owner that was cleared away",
        2,
        "_engine:_TAKE",
        Sql(
            "AND EXISTS (SELECT 1 FROM owners WHERE key = ? AND lifeline = ?)",
            "AND ? >= 0 AND ? <> ''",
        ),
    ),
    Mutant(
        "an exit serves nobody",
        2,
        "depart",
        Code(
            "promote(tx, owners.sign_out(tx, if_idle=if_idle))",
            "owners.sign_out(tx, if_idle=if_idle)",
        ),
        (*DATABASE, OWNERS, CROWDS),
    ),
    Mutant(
        "who leaves a queue does not tell who watched it",
        2,
        "leave_queues",
        Code("behind is not None and not behind[0]", "False"),
        (ORDER,),
    ),
    Mutant(
        "who waits at a limit that is enabled goes on to watch nobody there",
        2,
        "change",
        Code("changes.active and not was_active", "False"),
        (ORDER,),
    ),
    Mutant(
        "of a thousand grants to a loop few are heard of",
        2,
        "hint",
        Code("hints = HINT_AT_ALL.to_bytes(HINT_LENGTH)", "hints = hints[: select.PIPE_BUF]"),
        (TASKS, WATCH),
    ),
    Mutant(
        "a ring needs a descriptor that there may not be",
        2,
        "Folder.wake",
        Code("end is None and give_up_spare()", "False"),
        (WATCH,),
    ),
    Mutant(
        "an event loop does not see a holder die",
        2,
        "LoopWatch.hear",
        Code(
            "return None in found, [name for name in found if name is not None]",
            "return None in found, []",
        ),
        (TASKS, LOOPS),
    ),
    Mutant(
        "a child keeps its parent's lifeline open",
        2,
        "_liveness:_forget_after_fork",
        Code(
            "for ours in _lifelines.values():\n    ours.drop()",
            "_forget_after_fork.kept = dict(_lifelines)",
        ),
        (TRANSACTIONS, OWNERS),
    ),
    Mutant(
        "a child keeps the gate open",
        2,
        "_close_after_fork",
        Code(
            "for descriptor in tuple(_descriptors.values()):\n    close_and_forget(descriptor)",
            "_descriptors.clear()",
        ),
        (TRANSACTIONS, OWNERS),
    ),
    Mutant(
        "a child that Python was not told of goes on as its parent",
        2,
        "catch_up",
        Code("for callback in _in_child:\n    callback()", "pass"),
        (DESCRIPTORS,),
    ),
    Mutant(
        "what a handler has opened in a child is closed as its parent's",
        2,
        "catch_up",
        Code(
            "if pid != _pid:\n    for callback in _in_child:\n        callback()\n    _pid = pid",
            "for callback in _in_child:\n    callback()\n_pid = pid",
        ),
        (FORKS,),
    ),
    Mutant(
        "a folder that is mounted over the run folder is used",
        2,
        "Gate.enter",
        Code(
            'refuse_unfit_place(self._folder.path.removesuffix("-run"), self._folder.database)', ""
        ),
        (MOUNTS,),
    ),
    Mutant(
        "a database that has the number of a lost one goes on without its locks",
        1,
        "tied_to",
        Code("number in numbers and is_ours(number)", "False"),
        (CLOSED_DESCRIPTORS,),
    ),
    Mutant(
        "a clean-up that failed is not tried again",
        2,
        "_work_off",
        Code("works.rotate(-1)", "return"),
        (LATER,),
    ),
    Mutant(
        "a command does not keep the slot of a `run` that is killed",
        3,
        "_run:start",
        Code("passed = None if keep_open is None else _inheritable(keep_open)", "passed = None"),
        (CLI_RUN, RUN),
    ),
    Mutant(
        "who has closed its lifeline counts as dead",
        3,
        "Folder.outlives",
        Code(
            "if not is_running(process):\n    return False",
            "if process:\n    return False",
        ),
        (DESCRIPTORS,),
    ),
    Mutant(
        "a pid that is given again is the same process",
        2,
        "is_running",
        Code("_is_near(started, _started(int(pid)), 1)", "_started(int(pid)) is not None"),
        (PROCESS,),
    ),
    Mutant(
        "the owners in a copy of the file live",
        2,
        "Transaction.lives",
        Code(
            "inode == str(self.inode) and self.folder.outlives(address, process)",
            "self.folder.outlives(address, process)",
        ),
        (DESCRIPTORS, *DATABASE),
    ),
    Mutant(
        "a file of the program's is taken for one of ours",
        10,
        "_base:is_ours",
        Code(
            "bool(_fcntl(descriptor, _GET) == descriptor.told_by)",
            "_fcntl(descriptor, _GET) >= 0",
        ),
        (DESCRIPTORS, WATCH),
    ),
    Mutant(
        "a lifeline that was taken is not made anew",
        3,
        "Database._inside",
        Code("ours.recreate()", ""),
    ),
    Mutant(
        "a release in a forked child frees its parent's",
        3,
        "Lease.release",
        Code(
            "if request.pid == os.getpid():\n    run_until_committed(database, self._release)",
            "if request.pid:\n    run_until_committed(database, self._release)",
        ),
    ),
    Mutant(
        "a release frees all of its process",
        3,
        "_FREE",
        Sql("lease = ?", "lease > '' || ?1 * 0"),
    ),
    Mutant(
        "a client's lease lapses at once",
        3,
        "sweep",
        Code(
            "tx.lives(name) if expires is None else expires > tx.now",
            "tx.lives(name) if expires is None else expires < tx.now",
        ),
        (CLIENTS,),
    ),
    Mutant(
        "a newcomer overtakes at once those who wait",
        4,
        "_engine:_TAKE",
        Sql("AND NOT waiting AND used", "AND used"),
    ),
    Mutant(
        "a newcomer overtakes those who wait",
        4,
        "_passed",
        Code("row.active and row.waiting", "False"),
    ),
    Mutant(
        "two are inside the gate",
        4,
        "locks_now",
        Code(
            "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
            "fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        ),
        (GATE, *DATABASE),
    ),
    Mutant(
        "who lacks room elsewhere blocks those behind it",
        4,
        "lacks_elsewhere",
        Code("not place[2]", "True"),
        (ORDER, MACHINE),
    ),
    Mutant(
        "who was overtaken often is overtaken again",
        4,
        "blocks",
        Code("overtaken >= MAX_OVERTAKEN", "False"),
        (ORDER, MACHINE),
    ),
    Mutant(
        "who was overtaken often is overtaken again by those who wait",
        4,
        "_Promotion._try_in_turn",
        Code(
            "overtaken < MAX_OVERTAKEN and lacks_elsewhere(rooms, key, place)",
            "lacks_elsewhere(rooms, key, place)",
        ),
        (ORDER, MACHINE),
    ),
    Mutant(
        "one promotion overtakes as often as there is room",
        4,
        "_Promotion._try_in_turn",
        Code("max(passed.values()) >= MAX_OVERTAKEN", "False"),
        (ORDER, MACHINE),
    ),
    Mutant(
        "who ceases to have room elsewhere goes on to block",
        4,
        "_engine:acquire",
        Code("promote_neighbours(tx, outcome.taken)", "pass"),
        (ORDER, MACHINE),
    ),
    Mutant(
        "nobody counts how often a waiter is overtaken",
        4,
        "count_overtaken",
        Sql("SET overtaken = overtaken + 1", "SET overtaken = overtaken"),
        (ORDER, MACHINE),
    ),
    Mutant(
        "a window forgets too early what was taken",
        6,
        "drop_passed",
        Code(
            "(key, now - seconds + _MICROSECOND, seconds, now)",
            "(key, now - seconds / 2, seconds / 2, now)",
        ),
        (WINDOWS, MACHINE),
    ),
    Mutant(
        "the oldest slot of a window comes back too early",
        6,
        "moment",
        Code("then + seconds", "then + 0.9 * seconds"),
        (WINDOWS, MACHINE),
    ),
    Mutant(
        "a window keeps what a block gives back",
        6,
        "_engine:lower",
        Code("window.give_back(tx, key, since, request)", "pass"),
        (WINDOWS, MACHINE),
    ),
    Mutant(
        "a paused limit grants at once",
        1,
        "_engine:_TAKE",
        Sql("AND paused <= ?", "AND ? >= 0"),
        (PAUSES, MACHINE),
    ),
    Mutant(
        "a paused limit hands its slots on",
        1,
        "_NEXT",
        Sql("AND paused <= ?", "AND ? >= 0"),
        (PAUSES, MACHINE),
    ),
    Mutant(
        "a paused limit grants",
        1,
        "moment",
        Code("row.paused <= at", "True"),
        (ORDER, PAUSES, MACHINE),
    ),
    Mutant(
        "each limit gives as many slots as the first",
        1,
        "Request.wanted_of",
        Code("self.weights[name]", "next(iter(self.weights.values()))"),
        (WEIGHTS, MACHINE),
    ),
    Mutant(
        "a waiter wants as much of each limit as of the first",
        1,
        "_enqueue",
        Code(
            "(row.key, ticket, row.wants, row.waiting < WATCHERS, mixed)",
            "(row.key, ticket, rows[0].wants, row.waiting < WATCHERS, mixed)",
        ),
        (WEIGHTS, ORDER, MACHINE),
    ),
    Mutant(
        "an idle key stays",
        9,
        "forget_if_idle",
        Code("tx.execute(_FORGET, (key, key, tx.now))", "pass"),
        (TEMPLATES, MACHINE),
    ),
    Mutant(
        "a change of a template leaves the waiters of its keys alone",
        7,
        "change",
        Code("promote(tx, all_keys, all_of_them=True)", "promote(tx, [key], all_of_them=True)"),
        (TEMPLATES,),
    ),
    Mutant(
        "two leases get the same number",
        1,
        "assign",
        Code("number not in taken", "True"),
        (NUMBERS,),
    ),
    Mutant(
        "a turn at a gate that was taken away is one at its successor",
        4,
        "Gate._renew",
        Code("turn, self._turn = self._turn, None", "turn = None"),
        (GATE,),
    ),
    Mutant(
        "a folder whose opening is interrupted is closed twice",
        10,
        "Directory._open",
        Code("close_if_ours(descriptor)", "os.close(descriptor)"),
        (INTERRUPTS,),
    ),
    Mutant(
        "a client takes up the place of another whose connection is open",
        4,
        "WaitingRoom._take_up",
        Code(
            "(one for one in self._kept.get(key, ()) if one.is_free)",
            "(one for one in self._kept.get(key, ()))",
        ),
        SERVER,
    ),
    Mutant(
        "who is not first at each limit is served",
        4,
        "_engine:try_grant",
        Code("behind.append(key)", "pass"),
    ),
    Mutant(
        "the smallest request is asked first",
        4,
        "QUEUE",
        Sql("ORDER BY ticket LIMIT", "ORDER BY waits.slots, ticket LIMIT"),
    ),
    Mutant(
        "one limit of several is taken",
        5,
        "_engine:take",
        Code("taken.append(row.key)", "taken.append(row.key)\nbreak"),
    ),
    Mutant(
        "a release frees one limit of several",
        5,
        "_engine:release",
        Code("queued.append(key)", "queued.append(key)\nbreak"),
    ),
    Mutant(
        "a waiter leaves one queue of several",
        5,
        "leave_queues",
        Code(
            "if behind is not None and not behind[0]:\n    tx.wake(behind[2], behind[1])",
            "if behind is not None and not behind[0]:\n    tx.wake(behind[2], behind[1])\nbreak",
        ),
    ),
    Mutant(
        "the clock is one that can be set",
        6,
        "_base:now",
        Code(
            "functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)",
            "functools.partial(time.clock_gettime, time.CLOCK_REALTIME)",
        ),
        (CLOCK,),
    ),
    Mutant(
        "decay comes in whole slots",
        6,
        "level_at",
        Code(
            "return max(0.0, level - rate * max(0.0, now - then))",
            "return max(0.0, level - math.floor(rate * max(0.0, now - then)))",
        ),
        (DECAY, *SLOTS),
    ),
    Mutant(
        "the rate forgets a slot of a burst",
        6,
        "moment",
        Code("excess <= DUST", "excess <= 1.0"),
        (DECAY, *SLOTS),
    ),
    Mutant(
        "a grant ahead of its moment is not slept out",
        6,
        "flow",
        Code("outcome.at > clock.now()", "outcome.at > clock.now() + 60"),
        (*SLOTS, TASKS, CROWDS, OWNERS),
    ),
    Mutant(
        "a lease gives back what has decayed",
        6,
        "_engine:lower",
        Code("decay.given_back(slots, rate, at - since)", "decay.given_back(slots, rate, 0.0)"),
    ),
    Mutant(
        "a reboot does not count as time",
        6,
        "Boot.enter",
        Code(
            "self._bring_over(execute, recorded[1] - self.offset)",
            "self._bring_over(execute, 0.0)",
        ),
        (BOOT, *DATABASE, MACHINE, *SLOTS),
    ),
    Mutant(
        "a container's boot_id is a reboot",
        6,
        "Boot.enter",
        Code("any(lives(*owner) for owner in execute(owners).fetchall())", "not owners"),
        (BOOT,),
    ),
    Mutant(
        "a reboot gives a client a day",
        6,
        "Boot._bring_over",
        Sql("ifnull(lasts, ?)", "ifnull(NULL, ?)"),
        (BOOT,),
    ),
    Mutant(
        "nobody looks at the moment of a stopped head",
        6,
        "waiting_state",
        Code("look_at = min(look_at, lost - DEPUTY_SECONDS)", "pass"),
        (STOPPED_HEADS,),
    ),
    Mutant(
        "who comes to stand in for a stopped head is not told",
        6,
        "_set_timers",
        Code("_wake_if_later(tx, ticket, last)", "pass"),
        (STOPPED_HEADS,),
    ),
    Mutant(
        "a waiter's timer forgets those before it",
        6,
        "waiting_state",
        Code("slots_ahead(tx, rooms, key, ticket) + row.wants", "row.wants"),
    ),
    Mutant(
        "a slot is handed on to who fits, and not to the first",
        4,
        "_NEXT",
        Sql(
            "AND ticket = (SELECT min(ticket) FROM waits WHERE limit_key = ?)",
            "AND ticket > -(SELECT min(ticket) FROM waits WHERE limit_key = ?)",
        ),
    ),
    Mutant(
        "a slot is handed on and its taker's other limits are forgotten",
        5,
        "_NEXT",
        Sql("AND holds AND waiters.limits = ?", "AND holds AND '' <> ?"),
    ),
    Mutant(
        "a lease is handed over to who wants more than it has",
        1,
        "_MOVE",
        Sql("lease = ? AND slots = ?", "lease = ? AND slots <> -?"),
    ),
    Mutant(
        "who has handed its lease over leaves what else is free",
        4,
        "hand_over",
        Code(
            "if not is_last:\n    promote(tx, [key])",
            "",
        ),
    ),
    Mutant(
        "who was passed by at a limit does not learn of it",
        9,
        "peek",
        Code(
            "granted is not None and len(granted.taken) == len(request.names)",
            "granted is not None",
        ),
        (WATCH,),
    ),
    Mutant(
        "nobody is woken",
        7,
        "Transaction.wake",
        Code(
            "self.wakeups.setdefault(wakes, set()).add(ticket)",
            "self.wakeups.setdefault(wakes, set())",
        ),
    ),
    Mutant(
        "a waiter polls",
        7,
        "PERIOD_SECONDS",
        Code("1.0", "0.002"),
        (WATCH,),
    ),
    Mutant(
        "a lost wake-up is not noticed once somebody else has committed",
        9,
        "_concerned",
        Code("request.checked != seen", "request.checked is None"),
        (LOST_WAKEUPS,),
    ),
    Mutant(
        "who comes to the front unheard does not look",
        7,
        "would_look",
        Code(
            "not place[0] or stood != _stands(LimitRow(place[:-2], place[-2]))",
            "stood != _stands(LimitRow(place[:-2], place[-2]))",
        ),
        (LOST_WAKEUPS,),
    ),
    Mutant(
        "a loop that was closed keeps its places",
        9,
        "Session.pause",
        Code(
            "return _LOOP_SECONDS if self._unsettled and not self.closed else None",
            "return None",
        ),
        (CLOSED_LOOPS,),
    ),
    Mutant(
        "who comes to the front is not told to watch",
        7,
        "wake_watchers",
        Code("not all(watches for _, watches, *_ in front)", "not front"),
        (ORDER,),
    ),
    Mutant(
        "a view shows the level of long ago",
        8,
        "_seen",
        Code(
            "decay.level_at(row.level, row.level_at, row.decay, tx.now)",
            "decay.level_at(row.level, row.level_at, row.decay, row.level_at)",
        ),
    ),
    Mutant(
        "a view shows the queue backwards",
        8,
        "_admin:waiters",
        Sql("ORDER BY name, ticket", "ORDER BY name, ticket DESC"),
    ),
    Mutant(
        "a view shows the dead",
        8,
        "_admin:look",
        Code("promote(tx, owners.sweep(tx))", "pass"),
    ),
    Mutant(
        "a timeout stays in the queue",
        9,
        "withdraw",
        Code("_leave(tx, request.ticket, gives_up=True)", ""),
    ),
    Mutant(
        "an interruption leaves everything",
        9,
        "obtain",
        Code("not request.settled", "request.settled"),
    ),
    Mutant(
        "a cancellation leaves everything",
        9,
        "grant",
        Code("request.settled", "request"),
        (CANCELLATION, TASKS),
    ),
    Mutant(
        "an abandoned grant stays taken",
        9,
        "abandon",
        Code("release_granted(tx, request.id, request.occupy, granted)", "pass"),
        (*SLOTS, CANCELLATION, MACHINE),
    ),
    Mutant(
        "a client that hung up keeps its slots",
        9,
        "undo",
        Code(
            "release(tx, request.id)\nwait.abandon(tx, request)",
            "wait.abandon(tx, request)",
        ),
        (CLIENTS,),
    ),
    Mutant(
        "a place that was kept for a client stays",
        9,
        "WaitingRoom._forget",
        Code("self._begin_undoing(place)", ""),
        SERVER,
    ),
    Mutant(
        "a grant leaves its waiter's row",
        9,
        "tell_by_lease",
        Code("tx.execute(_FORGET, (ticket,))", ""),
        (OWNERS,),
    ),
    Mutant(
        "who is granted a slot goes on without a lifeline",
        3,
        "Listener.grant",
        Code("seems_whole(place.wake_fifo.folder)", "place.wake_fifo.folder"),
        (OWNERS,),
    ),
    Mutant(
        "administration is not on the disk when it returns",
        10,
        "Database._inside",
        Sql("PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"),
        DATABASE,
    ),
    Mutant(
        "an emptied file is used on",
        10,
        "File.is_there",
        Code("return os.fstat(self.descriptors[0]).st_size > 0", "return True"),
        DATABASE,
    ),
    Mutant(
        "a failed transaction stays open",
        10,
        "Database._inside",
        Code("file.connection.in_transaction", "not file.connection"),
    ),
    Mutant(
        "a newer schema is used",
        10,
        "version_in",
        Code("version > schema.VERSION", "version < 0"),
    ),
    Mutant(
        "a schema that becomes newer is not noticed",
        10,
        "Database._inside",
        Code(
            "(version := execute('PRAGMA user_version').fetchone()[0]) != schema.VERSION",
            "(version := execute('PRAGMA user_version').fetchone()[0]) < 0",
        ),
        (DESCRIPTORS,),
    ),
    Mutant(
        "any error inside a transaction is the file's",
        10,
        "Database._explain",
        Code("problem is not None", "self._file is not None"),
        (ERRORS_OF_OTHERS,),
    ),
    Mutant(
        "memory that is used up is not explained",
        10,
        "Database._inside",
        Code("(MemoryError, ImportError)", "ImportError"),
        (EXHAUSTED,),
    ),
    Mutant(
        "a connection whose log is another's is closed as usual",
        10,
        "File.is_whole",
        Code("return self._found == () or self.is_there()", "return True"),
        (DESCRIPTORS,),
    ),
    Mutant(
        "what is used up is not said",
        10,
        "known_problem",
        Code("resource is not None", "resource == ''"),
        (EXHAUSTED,),
    ),
    Mutant(
        "threads that were replaced after the import are gone on with",
        9,
        "unfit",
        Code('return None if library == "gevent" and are_green else library', "return None"),
        (GREEN,),
    ),
    Mutant(
        "links are followed to the FIFOs of others",
        2,
        "_WRITE",
        Code(
            "os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW",
            "os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC",
        ),
        (PLANTED, SWAPPED),
    ),
    Mutant(
        "what is no FIFO is removed",
        10,
        "unlink_fifo",
        Code(
            "not stat.S_ISFIFO(status.st_mode) or status.st_nlink > 1",
            "stat.S_ISDIR(status.st_mode)",
        ),
        (PLANTED,),
    ),
    Mutant(
        "anybody's run folder is used",
        10,
        "Directory._open",
        Code("status.st_uid not in self.access.trusted()", "not self.access.trusted()"),
        (RUN_FOLDER,),
    ),
    Mutant(
        "a log that replaced another is read by the index of that one",
        1,
        "drop_stale_log",
        Code('remove([f"{real}-shm"])', ""),
        (DESCRIPTORS,),
    ),
    Mutant(
        "SQLite makes its log with the group of whoever comes first",
        10,
        "File._make_companions",
        Code("make_file(name, self.folder.access)", ""),
        (MEMBERS,),
    ),
    Mutant(
        "anybody makes what all are to trust",
        10,
        "Access.may_begin",
        Code("return os.geteuid() in (0, self.owner)", "return os.geteuid() >= 0"),
        (RUN_FOLDER,),
    ),
    Mutant(
        "a link in the place of the run folder is followed",
        10,
        "FOLDER_FLAGS",
        Code(
            "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
            "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
        ),
        (RUN_FOLDER,),
    ),
    Mutant(
        "a gate is opened through a link",
        10,
        "open_ours",
        Code(
            "flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC",
            "flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC",
        ),
        (SWAPPED,),
    ),
    Mutant(
        "a file is changed through a link",
        10,
        "looked_at",
        Code("_O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC", "_O_PATH | os.O_CLOEXEC"),
        (SWAPPED,),
    ),
    Mutant(
        "a file with other names is one of ours",
        10,
        "fault_of",
        Code("status.st_nlink > 1", "status.st_nlink > 9"),
        (PLANTED,),
    ),
    Mutant(
        "links of others lead to the database",
        10,
        "real_path",
        Code("status.st_uid not in (0, os.geteuid())", "status.st_uid < 0"),
        (PLANTED,),
    ),
    Mutant(
        "root opens with root's rights what others can replace",
        10,
        "of_the_writers",
        Code(
            'sys.platform != "linux" or os.geteuid() != 0 or not _others_write(folder)',
            'sys.platform == "linux" or os.geteuid() != 0 or not _others_write(folder)',
        ),
        (HOT_JOURNAL, SWAPPED),
    ),
    Mutant(
        "what root makes is root's",
        10,
        "access_in",
        Code(
            "return Access(owner or folder.st_uid, folder.st_gid, folder.st_mode)",
            "return Access(owner, folder.st_gid, folder.st_mode)",
        ),
        (ROOT_AND_APP,),
    ),
    Mutant(
        "who may only read can open what there is",
        10,
        "usable",
        Code("return writers | writers << 1", "return writers | mode & 0o444"),
        (OUTSIDERS,),
    ),
    Mutant(
        "another program's file is used",
        10,
        "version_of",
        Code("return 0 if (application_id, version, objects) == (0, 0, 0) else None", "return 0"),
    ),
    Mutant(
        "a failed write is passed over",
        10,
        "Database._inside",
        Code(
            "if is_foreign(error):\n    raise\nraise database_error(self.path, error) from error",
            "if is_foreign(error):\n    raise\nreturn None",
        ),
    ),
)
