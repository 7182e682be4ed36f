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
import localgcl._drivers.blocking, localgcl._drivers.session
if moment == "before":
    os.register_at_fork(before=strike)
from localgcl import Limiter
from localgcl._storage.database import inside
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
