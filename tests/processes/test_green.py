"""Green threads: under gevent everything works, and what cannot work says so at the first call.

Patching is for a whole process, so each of these runs in processes of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from localgcl import Limiter
from tests.helpers.waiting import DEADLINE_SECONDS, until

pytestmark = pytest.mark.processes

# A request is told, by the process, how many are inside at most, and in the end what is left.
PATCHED = """
import gevent.monkey
gevent.monkey.patch_all()
import gevent, os, random, signal, sys, time
from localgcl import AcquireConcurrencySlotTimeoutError, Limiter
limiter = Limiter(sys.argv[1])

class Inside:
    now = most = ended = 0

def hold(name="a", seconds=0.0, **arguments):
    with limiter.concurrency(name, strict=True, **arguments):
        Inside.now += 1
        Inside.most = max(Inside.most, Inside.now)
        gevent.sleep(seconds)
        Inside.now -= 1
    Inside.ended += 1

def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return type(error).__name__

def all_of(greenlets):
    gevent.joinall(greenlets)
    for one in greenlets:
        one.get()
"""


@pytest.fixture
def program(path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start programs that are given the database; they are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(source: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(source), str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for one in started:
        one.kill()
        one.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """Return what a program says until it ends, and see that it ends well and complains of none."""
    out, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert errors == ""
    assert process.returncode == 0
    return out.strip()


def line_of(process: subprocess.Popen[str]) -> str:
    """Return the next line that a program says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_greenlets_of_several_processes(
    limiter: Limiter, program: Callable[..., subprocess.Popen[str]], timeout: float | None
) -> None:
    """They share a limit, with a timeout and without; the signal mask stays as it is."""
    limiter.create("a", 2)
    source = f"""{PATCHED}
for _ in range(5):
    all_of([gevent.spawn(hold, seconds=0.001, timeout_seconds={timeout}) for _ in range(20)])
print(Inside.ended, Inside.most <= 2, signal.pthread_sigmask(signal.SIG_BLOCK, []) or "none")
"""
    assert [said(one) for one in [program(source) for _ in range(3)]] == ["100 True none"] * 3
    assert (limiter.read("a").active_slots, limiter.waiters()) == (0, [])


def test_others_run_while_one_waits(
    limiter: Limiter, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """A greenlet that waits for a slot, or for a timeout, stops none of the others."""
    limiter.create("a", 1)
    source = f"""{PATCHED}
lease = limiter.acquire("a")
waiting = gevent.spawn(hold)
late = gevent.spawn(outcome, limiter.acquire, "a", timeout_seconds=0.2)
turns = 0
while not late.ready():
    gevent.sleep(0.001)
    turns += 1
lease.release()
all_of([waiting])
print(late.value, turns > 20, Inside.ended)
"""
    assert said(program(source)) == "AcquireConcurrencySlotTimeoutError True 1"


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_others_run_while_the_gate_is_shut(
    limiter: Limiter, program: Callable[..., subprocess.Popen[str]], timeout: float | None
) -> None:
    """A process that was stopped inside a transaction holds up whoever asks, and nobody else."""
    limiter.create("a", 1)
    source = f"""{PATCHED}
import fcntl
limiter.read("a")
gate = os.open(limiter._database.path + "-run/gate", os.O_RDWR)
fcntl.flock(gate, fcntl.LOCK_EX)
waiting = [gevent.spawn(hold, timeout_seconds={timeout}) for _ in range(5)]
began, turns = time.monotonic(), 0
while time.monotonic() < began + 0.5:
    gevent.sleep(0.001)
    turns += 1
assert not any(one.ready() for one in waiting)
fcntl.flock(gate, fcntl.LOCK_UN)
all_of(waiting)
print(turns > 20, Inside.ended)
"""
    assert said(program(source)) == "True 5"


def test_killed_greenlets(limiter: Limiter, program: Callable[..., subprocess.Popen[str]]) -> None:
    """Hundreds wait; what is killed, or out of gevent's time, leaves no slot and no place."""
    limiter.create("a", 2)
    source = f"""{PATCHED}
def impatient():
    with gevent.Timeout(0.05, False):
        hold()

leases = [limiter.acquire("a") for _ in range(2)]
waiting = [gevent.spawn(hold, timeout_seconds=random.choice((None, 60))) for _ in range(300)]
gone = [gevent.spawn(impatient) for _ in range(50)]
while len(limiter.waiters()) < 300:
    gevent.sleep(0.01)
gevent.killall(waiting[::2])
all_of(gone)
print(len(limiter.waiters()), flush=True)
holding = [gevent.spawn(hold, seconds=60) for _ in range(2)]
for lease in leases:
    lease.release()
all_of(waiting[1::2])
while len(limiter.holders()) < 2:
    gevent.sleep(0.01)
gevent.killall(holding)
print(Inside.ended, Inside.most, limiter.read("a").active_slots, len(limiter.waiters()))
"""
    # A greenlet that is killed has not left by itself.
    assert said(program(source)).split("\n") == ["150", "150 2 0 0"]


def test_killed_anywhere(limiter: Limiter, program: Callable[..., subprocess.Popen[str]]) -> None:
    """A greenlet can be killed at every point at which another one runs."""
    limiter.create("a", 1)
    limiter.create("b", 100)
    source = f"""{PATCHED}
print("ready", flush=True)
for turn in range(400):
    one = gevent.spawn(hold, seconds=0.001, timeout_seconds=random.choice((None, 60)))
    other = gevent.spawn(hold, seconds=0.001)
    gevent.sleep(random.choice((0, 0.0005, 0.001, 0.002)))
    gevent.killall([one, other])
limiter.acquire("a", timeout_seconds=20).release()
print(limiter.read("a").active_slots, len(limiter.waiters()))
"""
    process = program(source)
    assert line_of(process) == "ready"
    until_over = threading.Event()

    def disturb() -> None:
        while not until_over.is_set():
            limiter.acquire("b").release()

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    try:
        assert said(process) == "0 0"
    finally:
        until_over.set()
        disturbing.join()


def test_a_greenlet_forks(limiter: Limiter, program: Callable[..., subprocess.Popen[str]]) -> None:
    """All greenlets go on in the child: there they have no part in what they asked for before."""
    limiter.create("a", 1)
    source = f"""{PATCHED}
lease = limiter.acquire("a")
waiting = gevent.spawn(outcome, limiter.acquire, "a")
while not limiter.waiters():
    gevent.sleep(0.001)
pid = os.fork()
if not pid:
    print(waiting.get(), len(limiter.holders()), len(limiter.waiters()))
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
lease.release()
waiting.get().release()
print(limiter.read("a").active_slots)
"""
    assert said(program(source)).split("\n") == ["DatabaseError 1 1", "0"]


def test_released_in_the_hub(
    limiter: Limiter, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """What is freed in gevent's own greenlet, which cannot wait, is not lost."""
    limiter.create("a", 1)
    source = f"""{PATCHED}
lease = limiter.acquire("a")
gevent.get_hub().loop.run_callback(lease.release)
gevent.sleep(0)
limiter.acquire("a", timeout_seconds=20).release()
print(limiter.read("a").active_slots)
"""
    assert said(program(source)) == "0"


def test_threads_beside_greenlets(
    limiter: Limiter, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """The threads of gevent's pool may use the same limiter."""
    limiter.create("a", 2)
    source = f"""{PATCHED}
pool = gevent.get_hub().threadpool
inside = [pool.spawn(hold, seconds=0.001) for _ in range(20)]
inside += [gevent.spawn(hold, seconds=0.001) for _ in range(20)]
for one in inside:
    one.get()
print(limiter.read("a").active_slots, len(limiter.waiters()))
"""
    assert said(program(source)) == "0 0"


def test_tasks_under_gevent(
    limiter: Limiter, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """The awaitable flavour works too, in a process whose threads are greenlets."""
    limiter.create("a", 2)
    source = f"""{PATCHED}
import asyncio
from localgcl import AsyncLimiter

async def main():
    limiter = AsyncLimiter(sys.argv[1])
    async def hold():
        async with limiter.concurrency("a", timeout_seconds=20):
            await asyncio.sleep(0.001)
    await asyncio.gather(*[hold() for _ in range(50)])
    print((await limiter.read("a")).active_slots, len(await limiter.waiters()))

processors = os.sched_getaffinity(0)
asyncio.run(main())
assert os.sched_getaffinity(0) == processors
"""
    assert said(program(source)) == "0 0"


UNFIT = {
    "gevent after the import": ("import gevent.monkey; gevent.monkey.patch_all()", "gevent"),
    "gevent without its threads": (
        "import gevent.monkey; gevent.monkey.patch_all(thread=False)",
        "gevent",
    ),
    "eventlet after the import": ("import eventlet; eventlet.monkey_patch()", "eventlet"),
}


@pytest.mark.parametrize("call", ["read", "acquire", "awaited", "contended"])
@pytest.mark.parametrize("patch", UNFIT)
def test_patched_too_late(
    limiter: Limiter, program: Callable[..., subprocess.Popen[str]], patch: str, call: str
) -> None:
    """The first call that would not work is one error, which names the library and the way out."""
    limiter.create("a", 1)
    patching, library = UNFIT[patch]
    source = f"""
import os, pickle, sys, warnings
warnings.simplefilter("ignore")
import asyncio, localgcl.asyncio
from localgcl import AsyncLimiter, Limiter, LocalGCLError
limiter = Limiter(sys.argv[1])
if sys.argv[2] == "contended":
    lease = limiter.acquire("a")
{patching}
try:
    if sys.argv[2] == "awaited":
        asyncio.run(AsyncLimiter(sys.argv[1]).read("a"))
    elif sys.argv[2] == "read":
        limiter.read("a")
    else:
        limiter.acquire("a")
except LocalGCLError as error:
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    print(error.library, "before localgcl is imported" in str(error))
if sys.argv[2] == "contended":
    lease.release()
    print(limiter.read("a").active_slots, len(limiter.waiters()))
sys.stdout.flush()
os._exit(0)
"""
    out, _ = program(source, call).communicate(timeout=DEADLINE_SECONDS)
    expected = [f"{library} True"] + ["0 0"] * (call == "contended")
    assert out.strip().split("\n") == expected


def test_eventlet_before_the_import(
    limiter: Limiter, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """Its green threads are not known here, whenever they were patched."""
    limiter.create("a", 1)
    source = """
import warnings
warnings.simplefilter("ignore")
import eventlet
eventlet.monkey_patch()
import os, sys
from localgcl import Limiter, LocalGCLError
try:
    Limiter(sys.argv[1]).acquire("a", timeout_seconds=5)
except LocalGCLError as error:
    print(error.library)
sys.stdout.flush()
os._exit(0)
"""
    out, _ = program(source).communicate(timeout=DEADLINE_SECONDS)
    assert out.strip() == "eventlet"


def test_libraries_that_have_patched_nothing(
    limiter: Limiter, program: Callable[..., subprocess.Popen[str]]
) -> None:
    """Where they are only imported, threads are threads."""
    limiter.create("a", 1)
    source = """
import warnings
warnings.simplefilter("ignore")
import eventlet.patcher, gevent.monkey, sys
from localgcl import Limiter
limiter = Limiter(sys.argv[1])
limiter.acquire("a", timeout_seconds=5).release()
print(limiter.read("a").active_slots)
"""
    out, _ = program(source).communicate(timeout=DEADLINE_SECONDS)
    assert out.strip() == "0"


APP = """
import gevent
from localgcl import Limiter

limiter = Limiter({path!r})

def app(environ, start_response):
    with limiter.concurrency("a", strict=True, timeout_seconds=60):
        gevent.sleep(float(environ["QUERY_STRING"]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"""


def test_a_worker_of_gunicorn_ends(limiter: Limiter, path: Path, tmp_path: Path) -> None:
    """A SIGTERM while requests hold and wait for slots ends it in time, and the slots are free."""
    limiter.create("a", 5)
    # Newer ones keep a socket in the user's home otherwise.
    (tmp_path / "gunicorn.conf.py").write_text("control_socket_disable = True")
    (tmp_path / "served.py").write_text(APP.format(path=str(path)))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--worker-class", "gevent", "--workers", "1"),
                *("--bind", f"fd://{listening.fileno()}", "--graceful-timeout", "2"),
                "served:app",
            ],
            cwd=tmp_path,
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), str(tmp_path)])},
        ) as server:
            try:
                assert urlopen(f"http://{address}/?0", timeout=DEADLINE_SECONDS).read() == b"done"
                clients = [threading.Thread(target=ask, args=(address,)) for _ in range(20)]
                for one in clients:
                    one.start()
                until(lambda: limiter.read("a").active_slots == 5 and len(limiter.waiters()) == 15)
                server.send_signal(signal.SIGTERM)
                _, log = server.communicate(timeout=DEADLINE_SECONDS)
            finally:
                server.kill()
        for one in clients:
            one.join(DEADLINE_SECONDS)
    assert server.returncode == 0, log
    assert "SIGKILL" not in log
    assert "Traceback" not in log
    assert (limiter.read("a").active_slots, limiter.waiters()) == (0, [])


def ask(address: str) -> None:
    """Ask for a page that takes longer than the server lives."""
    try:
        urlopen(f"http://{address}/?60", timeout=DEADLINE_SECONDS).read()
    except OSError:
        return  # it was ended
