"""A fork that a Ctrl-C meets: parent and child go on as after any other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.waiting import DEADLINE_SECONDS

# Has a signal arrive just before localgcl is called around the fork, or what it registers after
# `module`: Python raises it there.
PROGRAM = """
import ctypes, functools, importlib, os, sys, threading
path, moment, module = sys.argv[1:]
strike = functools.partial(ctypes.CDLL(None)["raise"], 2)
if moment != "before":
    importlib.import_module(module)
    os.register_at_fork(**{moment: strike})
import localgcl._drivers.blocking, localgcl._drivers.sessions
if moment == "before":
    os.register_at_fork(before=strike)
from localgcl import Limiter
from localgcl._base.threads import inside
from localgcl._liveness.lifeline import existing_lifeline

limiter = Limiter(path)
limiter.create("a", 2)
lease = limiter.acquire("a")
child = os.fork()
assert not inside
if child:
    assert os.waitpid(child, 0)[1] == 0
    thread = threading.Thread(target=Limiter, args=(f"{path}.other",))
    thread.start()
    thread.join()
    assert os.waitpid(os.fork() or os._exit(0), 0)[1] == 0
else:
    assert limiter._database.lifeline() is None
with limiter.concurrency("a", strict=True, timeout_seconds=5):
    holders = {one.pid for one in limiter.holders()}
    assert holders == ({os.getpid()} if child else {os.getpid(), os.getppid()})
if not child:
    os._exit(0)
lease.release()
assert limiter.read("a").active_slots == 0
"""


@pytest.mark.parametrize(
    ("moment", "module"),
    [
        ("before", ""),
        ("after_in_parent", "os"),
        ("after_in_child", "os"),
        ("after_in_child", "localgcl._storage.gate"),
        ("after_in_child", "localgcl._liveness.lifeline"),
    ],
)
def test_interrupted_around_a_fork(path: str, moment: str, module: str) -> None:
    """Python passes by the function that it enters then, and the work is done all the same."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, path, moment, module],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode == 0, done.stderr


# A handler forks while its thread waits in the queue. The child leaves by an exception, or goes on
# where its parent waits, once the parent has been granted the slot.
HANDLER = """
import os, signal, sys, threading
from localgcl import DatabaseError, Limiter
path, leaves = sys.argv[1], sys.argv[2] == "leaves"
limiter = Limiter(path)
limiter.create("a", 1)
first = limiter.acquire("a")
goes_on, tell = os.pipe()

def fork(*_):
    global child
    child = os.fork()
    if not child:
        os.read(goes_on, 1)
        if leaves:
            sys.exit(0)

def release():
    while not limiter.waiters("a"):
        pass
    signal.pthread_kill(main, signal.SIGUSR1)
    while not child:
        pass
    first.release()

main, child = threading.get_ident(), None
signal.signal(signal.SIGUSR1, fork)
thread = threading.Thread(target=release)
thread.start()
try:
    lease = limiter.acquire("a")
except DatabaseError as error:
    os._exit(0 if not child and not leaves and "forked" in str(error) else 1)
thread.join()
assert child, "the child was granted the slot of its parent"
os.write(tell, b".")
assert os.waitpid(child, 0)[1] == 0
assert [one.lease for one in limiter.holders("a")] == [lease.id]
lease.release()
assert limiter.read("a").active_slots == 0
"""


@pytest.mark.parametrize("child", ["leaves", "goes on"])
def test_forked_by_a_handler_while_it_waits(path: str, child: str) -> None:
    """The child has no part in its parent's request: it takes, frees and undoes nothing of it."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HANDLER, path, child],
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 0, done.stderr


# A fork of which Python is not told, and then a signal at one step of what makes up for that: at a
# call or a return in `catch_up` and in what it calls, from the first to the last. Each step has one
# child; the last meets no signal.
SILENT = """
import ctypes, json, os, signal, sys
from localgcl import Limiter
path, handler = sys.argv[1:]
limiter = Limiter(path)
limiter.create("a", 1)
limiter.create("b", 1)
lease = limiter.acquire("a")
lifelines = {one for one in os.listdir(f"{path}-run") if one.isalnum() and len(one) == 32}
assert len(lifelines) == 1
lease_of_child = None

def uses(*_):
    global lease_of_child
    lease_of_child = limiter.acquire("b", timeout_seconds=20)

def raises(*_):
    raise InterruptedError

def opened():
    for number in os.listdir("/proc/self/fd"):
        try:
            yield os.path.basename(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            pass  # by which they were listed

class Steps:
    def __init__(self, wanted):
        self.wanted, self.inside, self.count = wanted, False, 0

    def __call__(self, frame, event, call):
        name = frame.f_code.co_name
        if name == "catch_up" and event == "call":
            self.inside = True
        if self.inside and "catch_up" in (name, frame.f_back.f_code.co_name):
            if name == "catch_up" and event == "return":
                self.inside = False
            self.count += 1
            if self.count == self.wanted:
                sys.setprofile(None)
                strike(signal.SIGUSR1)

strike = ctypes.PyDLL(None)["raise"]
signal.signal(signal.SIGUSR1, {"uses": uses, "raises": raises}[handler])
fork = ctypes.PyDLL(None).fork
step, is_over = 0, False
while not is_over:
    step += 1
    told, tell = os.pipe()
    goes_on, go_on = os.pipe()
    child = fork()
    if child == 0:
        os.close(go_on)
        steps, outcome = Steps(step), "passed by"
        sys.setprofile(steps)
        try:
            limiter.read("a")
        except InterruptedError:
            outcome = "raised"
        sys.setprofile(None)
        outcome = "over" if steps.count < step else outcome
        assert limiter.read("a").active_slots == 1
        assert lifelines.isdisjoint(opened()), "the child keeps its parent's lifeline"
        if handler == "raises":
            lease_of_child = limiter.acquire("b", timeout_seconds=20)
        lease.release()  # which is the parent's
        mine = [one for one in opened() if one.isalnum() and len(one) == 32]
        assert len(mine) == (lease_of_child is not None), "the child has lost its own lifeline"
        os.write(tell, json.dumps([outcome, lease_of_child and lease_of_child.id]).encode())
        os.close(tell)
        os.read(goes_on, 1)
        os._exit(0)
    os.close(tell)
    os.close(goes_on)
    answer = os.read(told, 999)
    assert answer, f"step {step}"
    outcome, taken = json.loads(answer)
    is_over = outcome == "over"
    assert is_over or taken, f"step {step}"
    held = [one.lease for one in limiter.holders()]
    assert held == [one for one in (lease.id, taken) if one], f"step {step}"
    os.close(told)
    os.close(go_on)
    assert os.waitpid(child, 0)[1] == 0
    with limiter.concurrency("b", timeout_seconds=20):
        pass
lease.release()
assert limiter.read("a").active_slots == 0
print(step)
"""


@pytest.mark.parametrize("handler", ["uses", "raises"])
def test_a_signal_while_a_silent_fork_is_made_up_for(path: str, handler: str) -> None:
    """The child has nothing of its parent's, and what its handler takes there stays taken."""
    done = subprocess.run(
        [sys.executable, "-c", SILENT, path, handler],
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 10
