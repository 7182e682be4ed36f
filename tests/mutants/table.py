"""Small changes that each break one of the ten truths on purpose."""

from __future__ import annotations

from dataclasses import dataclass

SLOTS = "tests/test_slots.py"
AT_ONCE = "tests/test_at_once.py"
HAND_OVER = "tests/test_hand_over.py"
MACHINE = "tests/test_machine.py"
DECAY = "tests/test_decay.py"
LIMITS = "tests/test_limits.py"
DATABASE = "tests/test_database.py"
LATER = "tests/test_later.py"
CLIENTS = "tests/test_clients.py"
CLOCK = "tests/test_clock.py"
GATE = "tests/test_gate.py"
CLI_RUN = "tests/test_cli_run.py"
RUN = "tests/processes/test_run.py"
SERVER = "tests/server/test_leases.py"
TASKS = "tests/tasks/test_tasks.py"
LOOPS = "tests/tasks/test_loops.py"
WATCH = "tests/test_watch.py"
BOOT = "tests/test_boot.py"
STOPPED_HEADS = "tests/test_stopped_heads.py"
LOST_WAKEUPS = "tests/test_lost_wakeups.py"
CLOSED_LOOPS = "tests/tasks/test_closed_loops.py"
CANCELLATION = "tests/tasks/test_cancellation.py"
OWNERS = "tests/processes/test_owners.py"
CROWDS = "tests/processes/test_crowds.py"
TRANSACTIONS = "tests/processes/test_transactions.py"
DESCRIPTORS = "tests/processes/test_descriptors.py"
GREEN = "tests/processes/test_green.py"
EXHAUSTED = "tests/processes/test_exhausted.py"
LOCATION = "tests/test_location.py"
ERRORS_OF_OTHERS = "tests/test_errors_of_others.py"
PLANTED = "tests/intruders/test_planted.py"
OUTSIDERS = "tests/intruders/test_outsiders.py"
RUN_FOLDER = "tests/intruders/test_run_folder.py"
ROOT_AND_APP = "tests/intruders/test_root_and_app.py"
SWAPPED = "tests/intruders/test_swapped.py"
MEMBERS = "tests/intruders/test_members.py"
HOT_JOURNAL = "tests/intruders/test_hot_journal.py"

# What is run where a mutant does not say, in this order.
USUAL = (SLOTS, AT_ONCE, HAND_OVER, LIMITS, DATABASE, MACHINE, OWNERS, CROWDS)


@dataclass(frozen=True)
class Mutant:
    """In `file`, `old` becomes `new`, and one of `tests` is to fail."""

    name: str
    truth: int
    file: str
    old: str
    new: str
    tests: tuple[str, ...] = USUAL


MUTANTS = (
    Mutant(
        "slots of several are not added",
        1,
        "_slots.py",
        "elif row.used + slots > row.limit or not request.holds:",
        "elif row.used >= row.limit or not request.holds:",
    ),
    Mutant(
        "slots of several are not added at once",
        1,
        "_at_once.py",
        "AND used + ? <= slots",
        "AND used < slots AND ? > 0",
    ),
    Mutant(
        "a limit that has come to decay is taken as if it had not",
        1,
        "_at_once.py",
        "AND active AND NOT decay AND NOT waiting",
        "AND active AND NOT waiting",
    ),
    Mutant(
        "a waiter fits where one slot is left",
        1,
        "_queue.py",
        "elif row.used + slots > row.limit:",
        "elif row.used >= row.limit:",
    ),
    Mutant(
        "the sum counts leases and not slots",
        1,
        "_schema.py",
        "SET slots = slots + NEW.slots,",
        "SET slots = slots + 1,",
    ),
    Mutant(
        "a child opens what crossed the fork",
        1,
        "_database.py",
        "        elif file is not None or not kept_closed:\n",
        "        elif file is not None and kept_closed is None:\n",
        (TRANSACTIONS,),
    ),
    Mutant(
        "a file that was replaced is used on",
        1,
        "_file.py",
        "if tuple(map(identity_of, self._names)) != self._found:",
        "if tuple(map(identity_of, self._names))[1:] != self._found[1:]:",
        (DATABASE,),
    ),
    Mutant(
        "a log that was replaced is used on",
        1,
        "_file.py",
        "if tuple(map(identity_of, self._names)) != self._found:",
        "if tuple(map(identity_of, self._names))[:1] != self._found[:1]:",
        (DESCRIPTORS,),
    ),
    Mutant(
        "a file that is a mount point itself is used",
        1,
        "_location.py",
        "    if point == real:",
        "    if not point:",
        (DESCRIPTORS,),
    ),
    Mutant(
        "a network file system is refused only for a new file",
        1,
        "_file.py",
        "            refuse_unfit_place(real, path)\n            return",
        "            return",
        (LOCATION,),
    ),
    Mutant(
        "what the dead hold stays taken",
        2,
        "_owners.py",
        '    tx.execute("DELETE FROM ledger WHERE owner = ?", (owner,))\n',
        "",
    ),
    Mutant(
        "a slot is handed on to a waiter that takes by rate",
        2,
        "_queue.py",
        "AND holds AND limits = ?",
        "AND limits = ?",
    ),
    Mutant(
        "who has a lifeline takes every waiter for alive",
        2,
        "_owners.py",
        "    if ours is not None and lifeline_of(ear) == ours.name:",
        "    if ours is not None:",
    ),
    Mutant(
        "nobody is found dead",
        2,
        "_folder.py",
        "            if error.errno in _GONE:",
        "            if error.errno in ():",
    ),
    Mutant(
        "a watch that is just ending is still asked",
        2,
        "_descriptors.py",
        "        self._end.atexit = False\n",
        "        self._end.detach()\n"
        "\n    def __del__(self) -> None:\n        close_if_ours(self.descriptor)\n",
        (WATCH,),
    ),
    Mutant(
        "a release serves nobody",
        2,
        "_release.py",
        "    elif queued:\n        promote(tx, queued)\n",
        "",
    ),
    Mutant(
        "a release at once serves nobody",
        2,
        "_release.py",
        " AND NOT decay AND NOT waiting)",
        " AND NOT decay)",
    ),
    Mutant(
        "slots are taken for an owner that was cleared away",
        2,
        "_at_once.py",
        "AND EXISTS (SELECT 1 FROM owners WHERE key = ? AND lifeline = ?)",
        "AND ? >= 0 AND ? <> ''",
    ),
    Mutant(
        "an exit serves nobody",
        2,
        "_departure.py",
        "promote(tx, _owners.sign_out(tx, if_idle=if_idle))",
        "_owners.sign_out(tx, if_idle=if_idle)",
        (DATABASE, OWNERS, CROWDS),
    ),
    Mutant(
        "who leaves a queue does not tell who watched it",
        2,
        "_queue.py",
        "        if behind is not None and not behind[0]:",
        "        if behind is not None and False:",
        (SLOTS,),
    ),
    Mutant(
        "who waits at a limit that is enabled goes on to watch nobody there",
        2,
        "_changes.py",
        "    if wakes:",
        "    if False:",
        (SLOTS,),
    ),
    Mutant(
        "of a thousand grants to a loop few are heard of",
        2,
        "_folder.py",
        "        hints = HINT_AT_ALL.to_bytes(HINT_LENGTH)",
        "        hints = hints[: select.PIPE_BUF]",
        (TASKS, WATCH),
    ),
    Mutant(
        "a ring needs a descriptor that there may not be",
        2,
        "_folder.py",
        "                if end is None and _give_up_spare():",
        "                if False:",
        (WATCH,),
    ),
    Mutant(
        "an event loop does not see a holder die",
        2,
        "_loop_watch.py",
        "return None in found, [name for name in found if name is not None]",
        "return None in found, []",
        (TASKS, LOOPS),
    ),
    Mutant(
        "a child keeps its parent's lifeline open",
        2,
        "_lifeline.py",
        "    for ours in _lifelines.values():\n        ours.drop()\n    _lifelines.clear()",
        "    _kept.append(dict(_lifelines))\n    _lifelines.clear()\n\n\n_kept: list[object] = []",
        (TRANSACTIONS, OWNERS),
    ),
    Mutant(
        "a child keeps the gate open",
        2,
        "_gate.py",
        "    for descriptor in tuple(_descriptors):\n        _close(descriptor)",
        "    _descriptors.clear()",
        (TRANSACTIONS, OWNERS),
    ),
    Mutant(
        "a child that Python was not told of goes on as its parent",
        2,
        "_forks.py",
        "    if pid != _pid:",
        "    if pid < 0:",
        (DESCRIPTORS,),
    ),
    Mutant(
        "a clean-up that failed is not tried again",
        2,
        "_later.py",
        "            works.rotate(-1)",
        "            return",
        (LATER,),
    ),
    Mutant(
        "a command does not keep the slot of a `run` that is killed",
        3,
        "_child.py",
        "passed = None if keep_open is None else _inheritable(keep_open)",
        "passed = None",
        (CLI_RUN, RUN),
    ),
    Mutant(
        "who has closed its lifeline counts as dead",
        3,
        "_folder.py",
        "        if not is_running(process):\n            return False",
        "        if process:\n            return False",
        (DESCRIPTORS,),
    ),
    Mutant(
        "a file of the program's is taken for one of ours",
        10,
        "_descriptors.py",
        "            return _fcntl(descriptor, _GET) == _MARK",
        "            return _fcntl(descriptor, _GET) >= 0",
        (DESCRIPTORS, WATCH),
    ),
    Mutant(
        "a lifeline that was taken is not made anew",
        3,
        "_database.py",
        "                    ours.mend()  # lest this process take itself for dead",
        "                    pass",
    ),
    Mutant(
        "a release in a forked child frees its parent's",
        3,
        "sync.py",
        "        if self._pid == os.getpid():\n            insist(database, self._release)",
        "        if self._pid:\n            insist(database, self._release)",
    ),
    Mutant(
        "a release frees all of its process",
        3,
        "_release.py",
        '_FREE = "DELETE FROM ledger WHERE limit_key = ? AND owner = ? AND lease = ?"',
        "_FREE = \"DELETE FROM ledger WHERE limit_key = ? AND owner = ? AND lease > '' || ?1 * 0\"",
    ),
    Mutant(
        "a client's lease lapses at once",
        3,
        "_owners.py",
        "if (lives(tx, name) if expires is None else expires > tx.now)",
        "if (lives(tx, name) if expires is None else expires < tx.now)",
        (CLIENTS,),
    ),
    Mutant(
        "a newcomer overtakes at once those who wait",
        4,
        "_at_once.py",
        "AND active AND NOT decay AND NOT waiting",
        "AND active AND NOT decay",
    ),
    Mutant(
        "a newcomer overtakes those who wait",
        4,
        "_slots.py",
        "if row.waiting or slots > row.limit:",
        "if slots > row.limit:",
    ),
    Mutant(
        "two are inside the gate",
        4,
        "_gate.py",
        "        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        (GATE, DATABASE),
    ),
    Mutant(
        "a client takes up the place of another whose connection is open",
        4,
        "server/waiting.py",
        "for one in self._kept.get(key, ()) if one.is_free), None)",
        "for one in self._kept.get(key, ())), None)",
        (SERVER,),
    ),
    Mutant(
        "who is not first at each limit is served",
        4,
        "_queue.py",
        "            first = False\n",
        "            pass\n",
    ),
    Mutant(
        "the smallest request is asked first",
        4,
        "_queue.py",
        '        " ORDER BY ticket LIMIT 1",\n        (key,),',
        '        " ORDER BY waits.slots, ticket LIMIT 1",\n        (key,),',
    ),
    Mutant(
        "one limit of several is taken",
        5,
        "_queue.py",
        "        taken.append(row.key)\n    return taken",
        "        taken.append(row.key)\n        break\n    return taken",
    ),
    Mutant(
        "a release frees one limit of several",
        5,
        "_release.py",
        "        held = True\n        if undecayed",
        "        if held:\n            continue\n        held = True\n        if undecayed",
    ),
    Mutant(
        "a waiter leaves one queue of several",
        5,
        "_queue.py",
        "    keys = keys_in(limits)\n    for key in keys:",
        "    keys = keys_in(limits)\n    for key in keys[:1]:",
    ),
    Mutant(
        "the clock is one that can be set",
        6,
        "_clock.py",
        "time.clock_gettime, time.CLOCK_BOOTTIME",
        "time.clock_gettime, time.CLOCK_REALTIME",
        (CLOCK,),
    ),
    Mutant(
        "decay comes in whole slots",
        6,
        "_decay.py",
        "return max(0.0, level - rate * max(0.0, now - then))",
        "return max(0.0, level - math.floor(rate * max(0.0, now - then)))",
        (DECAY, SLOTS),
    ),
    Mutant(
        "the rate forgets a slot of a burst",
        6,
        "_decay.py",
        "if excess <= DUST:",
        "if excess <= 1.0:",
        (DECAY, SLOTS),
    ),
    Mutant(
        "a grant ahead of its moment is not slept out",
        6,
        "_request.py",
        "if outcome.at > _clock.now():",
        "if outcome.at > _clock.now() + 60:",
        (SLOTS, TASKS, CROWDS, OWNERS),
    ),
    Mutant(
        "a lease gives back what has decayed",
        6,
        "_owners.py",
        "_decay.given_back(slots, rate, at - decays_from)",
        "_decay.given_back(slots, rate, 0.0)",
    ),
    Mutant(
        "a reboot does not count as time",
        6,
        "_boot.py",
        "if recorded is not None and recorded[0] != self.id:",
        "if recorded is None:",
        (BOOT, DATABASE, MACHINE, SLOTS),
    ),
    Mutant(
        "a container's boot_id is a reboot",
        6,
        "_boot.py",
        "if any(lives(*owner) for owner in execute(owners).fetchall()):",
        "if not owners:",
        (BOOT,),
    ),
    Mutant(
        "a reboot gives a client a day",
        6,
        "_boot.py",
        "ifnull(lasts, ?)",
        "ifnull(NULL, ?)",
        (BOOT,),
    ),
    Mutant(
        "nobody looks at the moment of a stopped head",
        6,
        "_slots.py",
        "look_at = min(look_at, empty - DEPUTY_SECONDS)",
        "pass",
        (STOPPED_HEADS,),
    ),
    Mutant(
        "who comes to stand in for a stopped head is not told",
        6,
        "_queue.py",
        "_wake_if_later(tx, ticket, last)",
        "pass",
        (STOPPED_HEADS,),
    ),
    Mutant(
        "a waiter's timer forgets those before it",
        6,
        "_slots.py",
        "slots = slots_ahead(tx, key, ticket) + request.occupy",
        "slots = slots_ahead(tx, key, ticket) * 0 + request.occupy",
    ),
    Mutant(
        "a slot is handed on to who fits, and not to the first",
        4,
        "_queue.py",
        "AND ticket = (SELECT min(ticket) FROM waits WHERE limit_key = ?)",
        "AND ticket > -(SELECT min(ticket) FROM waits WHERE limit_key = ?)",
    ),
    Mutant(
        "a slot is handed on and its taker's other limits are forgotten",
        5,
        "_queue.py",
        "AND holds AND limits = ?",
        "AND holds AND '' <> ?",
    ),
    Mutant(
        "a lease is handed over to who wants more than it has",
        1,
        "_queue.py",
        "lease = ? AND slots = ?",
        "lease = ? AND slots <> -?",
    ),
    Mutant(
        "who has handed its lease over leaves what else is free",
        4,
        "_queue.py",
        "    if not is_last:\n        promote(tx, [key])\n",
        "",
    ),
    Mutant(
        "who was passed by at a limit does not learn of it",
        9,
        "_slots.py",
        "if granted is not None and len(granted.taken) == len(request.names)",
        "if granted is not None",
        (WATCH,),
    ),
    Mutant(
        "nobody is woken",
        7,
        "_queue.py",
        "    tx.rings.setdefault(ear, set()).add(ticket)",
        "    tx.rings.setdefault(ear, set())",
    ),
    Mutant(
        "a waiter polls",
        7,
        "_waiting.py",
        "PERIOD_SECONDS = 1.0",
        "PERIOD_SECONDS = 0.002",
        (WATCH,),
    ),
    Mutant(
        "a lost wake-up is not noticed once somebody else has committed",
        9,
        "_recheck.py",
        "if request.checked != seen:",
        "if request.checked is None:",
        (LOST_WAKEUPS,),
    ),
    Mutant(
        "who comes to the front unheard does not look",
        7,
        "_slots.py",
        "if not watches or stood !=",
        "if stood !=",
        (LOST_WAKEUPS,),
    ),
    Mutant(
        "a loop that was closed keeps its places",
        9,
        "_loop.py",
        "return _LOOP_SECONDS if self._unsettled and not self.closed else None",
        "return None",
        (CLOSED_LOOPS,),
    ),
    Mutant(
        "who comes to the front is not told to watch",
        7,
        "_queue.py",
        "    if not all(watches for _, watches, *_ in front):",
        "    if not front:",
        (SLOTS,),
    ),
    Mutant(
        "a view shows the level of long ago",
        8,
        "_limits.py",
        "_decay.level_at(level, then, rate, now)",
        "_decay.level_at(level, then, rate, then)",
    ),
    Mutant(
        "a view shows the queue backwards",
        8,
        "_limits.py",
        "ORDER BY name, ticket",
        "ORDER BY name, ticket DESC",
    ),
    Mutant(
        "a view shows the dead",
        8,
        "_limits.py",
        "        key_of(tx, name)\n        promote(tx, _owners.sweep(tx))",
        "        key_of(tx, name)",
    ),
    Mutant(
        "a timeout stays in the queue",
        9,
        "_slots.py",
        "        _leave(tx, request.ticket, gives_up=True)\n        return",
        "        return",
    ),
    Mutant(
        "an interruption leaves everything",
        9,
        "sync.py",
        "        if not request.settled:\n            clean_up",
        "        if request.settled:\n            clean_up",
    ),
    Mutant(
        "a cancellation leaves everything",
        9,
        "asyncio.py",
        "        if request.settled:\n            session.forget",
        "        if request:\n            session.forget",
        (CANCELLATION, TASKS),
    ),
    Mutant(
        "an abandoned grant stays taken",
        9,
        "_slots.py",
        "            release_granted(tx, request.id, request.occupy, granted)",
        "            pass",
        (SLOTS, CANCELLATION, MACHINE),
    ),
    Mutant(
        "a client that hung up keeps its slots",
        9,
        "_clients.py",
        "    release(tx, request.id)\n    _slots.abandon",
        "    _slots.abandon",
        (CLIENTS,),
    ),
    Mutant(
        "a place that was kept for a client stays",
        9,
        "server/waiting.py",
        "        self._release(place)\n        self._begin_undoing(place)",
        "        self._release(place)",
        (SERVER,),
    ),
    Mutant(
        "a grant leaves its waiter's row",
        9,
        "_queue.py",
        "    tx.execute(_FORGET, (ticket,))\n    _wake",
        "    _wake",
        (OWNERS,),
    ),
    Mutant(
        "who is granted a slot goes on without a lifeline",
        3,
        "_blocking.py",
        "        if seems_whole(place.ear.folder):",
        "        if place.ear.folder:",
        (OWNERS,),
    ),
    Mutant(
        "administration is not on the disk when it returns",
        10,
        "_database.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
        (DATABASE,),
    ),
    Mutant(
        "an emptied file is used on",
        10,
        "_file.py",
        "return os.fstat(self._descriptors[0]).st_size > 0",
        "return True",
        (DATABASE,),
    ),
    Mutant(
        "a failed transaction stays open",
        10,
        "_database.py",
        "                    if file.connection.in_transaction:",
        "                    if not file.connection:",
    ),
    Mutant(
        "a newer schema is used",
        10,
        "_file.py",
        "if version > _schema.VERSION:",
        "if version < 0:",
    ),
    Mutant(
        "a schema that becomes newer is not noticed",
        10,
        "_database.py",
        "!= _schema.VERSION:\n                    raise newer",
        "< 0:\n                    raise newer",
        (DESCRIPTORS,),
    ),
    Mutant(
        "any error inside a transaction is the file's",
        10,
        "_database.py",
        "        if problem is not None:\n            raise strange",
        "        if self._file is not None:\n            raise strange",
        (ERRORS_OF_OTHERS,),
    ),
    Mutant(
        "what is used up is not said",
        10,
        "_problems.py",
        "    if resource is not None:",
        "    if resource == '':",
        (EXHAUSTED,),
    ),
    Mutant(
        "threads that were replaced after the import are gone on with",
        9,
        "_threads.py",
        'return None if library == "gevent" and are_green else library',
        "return None",
        (GREEN,),
    ),
    Mutant(
        "links are followed to the FIFOs of others",
        2,
        "_folder.py",
        "_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW",
        "_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC",
        (PLANTED, SWAPPED),
    ),
    Mutant(
        "what is no FIFO is removed",
        10,
        "_folder.py",
        "        if not stat.S_ISFIFO(status.st_mode) or status.st_nlink > 1:\n            return False",
        "        if stat.S_ISDIR(status.st_mode):\n            return False",
        (PLANTED,),
    ),
    Mutant(
        "anybody's run folder is used",
        10,
        "_folder.py",
        "            if status.st_uid not in self.access.trusted():",
        "            if not self.access.trusted():",
        (RUN_FOLDER,),
    ),
    Mutant(
        "a file with other names is one of ours",
        10,
        "_access.py",
        "    if status.st_nlink > 1:",
        "    if status.st_nlink > 9:",
        (PLANTED,),
    ),
    Mutant(
        "links of others lead to the database",
        10,
        "_location.py",
        "        if status.st_uid not in (0, os.geteuid()):",
        "        if status.st_uid < 0:",
        (PLANTED,),
    ),
    Mutant(
        "root opens with root's rights what others can replace",
        10,
        "_rights.py",
        'if sys.platform != "linux" or os.geteuid() != 0 or not _others_write(folder):',
        'if sys.platform == "linux" or os.geteuid() != 0 or not _others_write(folder):',
        (HOT_JOURNAL, SWAPPED),
    ),
    Mutant(
        "what root makes is root's",
        10,
        "_access.py",
        "return Access(owner or folder.st_uid, folder.st_gid, folder.st_mode)",
        "return Access(owner, folder.st_gid, folder.st_mode)",
        (ROOT_AND_APP,),
    ),
    Mutant(
        "who may only read can open what there is",
        10,
        "_access.py",
        "    return writers | writers << 1\n",
        "    return writers | mode & 0o444\n",
        (OUTSIDERS,),
    ),
    Mutant(
        "another program's file is used",
        10,
        "_schema.py",
        "return 0 if (application_id, version, objects) == (0, 0, 0) else None",
        "return 0",
    ),
    Mutant(
        "a failed write is passed over",
        10,
        "_database.py",
        "                raise\n            raise explained(self.path, error) from error",
        "                raise\n            return None  # type: ignore[return-value]",
    ),
)
