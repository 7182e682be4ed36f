"""A process of a user, forked from one that has loaded everything.

The interpreter and localgcl may lie where only root can go, so what a user needs is loaded before
its process gives up root's privileges: `python -m tests.intruders.player DESCRIPTOR`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import gc
import importlib
import itertools
import json
import logging
import os
import pkgutil
import re
import shutil
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import localgcl
from localgcl import Lease, Limiter, LocalGCLError

# Only a fault makes anything here take as long.
DEADLINE_SECONDS = 20.0

LIFELINE = re.compile(r"[0-9a-f]{32}")
WAKE_UP = re.compile(r"[0-9a-f]{32}\..+")

# What may come of a call, as `Script.uses` has it.
ALLOWED = ("done", "DatabaseError: ", "AcquireConcurrencySlotTimeoutError: ")

# What an intruder cannot make where the kernel protects hard links; root lays some at hand.
LAID_AT_HAND = ("hard link", "hard link to a FIFO", "hard link, empty", "device")
STOCK = 200


class User(NamedTuple):
    """A user, who need not be in /etc/passwd."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


ROOT = User(0, 0)


# What an intruder does, with no more than its own rights


def make(kind: str, path: str, private: str) -> None:
    """Make an entry, unless it was laid at hand."""
    targets = {
        "symlink": "secret",
        "dangling": "new",
        "symlink to a folder": ".",
        "symlink to a FIFO": "pipe",
        "symlink, empty": "empty",
        "symlink to a device": "device",
    }
    if kind in targets:
        os.symlink(os.path.join(private, targets[kind]), path)
    elif kind == "loop":
        os.symlink(os.path.basename(path), path)
    elif kind == "file":
        with open(path, "wb") as file:
            file.write(b"somebody else's" * 100)
        os.chmod(path, 0o666)  # noqa: S103
    elif kind == "directory":
        os.mkdir(path)
        os.chmod(path, 0o777)  # noqa: S103
    elif kind == "FIFO":
        os.mkfifo(path)
        os.chmod(path, 0o666)  # noqa: S103
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as unix:
            os.chdir(os.path.dirname(path))  # for the bound of 108 characters
            unix.bind(os.path.basename(path))
        os.chmod(path, 0o666)  # noqa: S103
    else:
        assert os.path.lexists(path), kind


def install(path: str, place: str) -> bool:
    """Move an entry into a place, whatever is there; return whether that was allowed."""
    try:
        os.rename(path, place)
    except (PermissionError, FileNotFoundError):
        return False
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
            raise
        # Folders take the place of files, and files that of folders, only once it is empty.
        try:
            os.rename(place, f"{place}.{os.urandom(4).hex()}")
            os.rename(path, place)
        except OSError:
            return False
    return True


class Script:
    """The verbs."""

    def __init__(self, database: str) -> None:
        self.database = database
        self.limiter = Limiter(database)
        self.leases: list[Lease] = []
        self.seen: set[str] = set()

    # a user of localgcl

    def turn_to(self, database: str) -> None:
        """Use another database from now on."""
        self.database = database
        self.limiter = Limiter(database)
        self.leases = []

    def create(self, name: str, limit: int = 1) -> None:
        self.limiter.create(name, limit)

    def acquire(self, name: str, timeout: float | None = None) -> float:
        """Take a slot; return the moment."""
        self.leases.append(self.limiter.acquire(name, timeout_seconds=timeout, strict=True))
        return time.monotonic()

    def release(self) -> float:
        """Free what was taken last; return the moment before."""
        now = time.monotonic()
        self.leases.pop().release()
        return now

    def waiting(self, name: str) -> int:
        return len(self.limiter.waiters(name))

    def close(self) -> None:
        self.limiter.close()

    def works(self) -> None:
        """Set up a limit, take a slot and free it."""
        self.limiter.upsert("x", 1)
        self.limiter.acquire("x", timeout_seconds=DEADLINE_SECONDS / 2, strict=True).release()
        self.limiter.close()

    def uses(self) -> list[str]:
        """Do each thing that a program does; return what came of it."""
        leases: list[Lease] = self.leases

        def release() -> None:
            while leases:
                leases[-1].release()
                leases.pop()

        return [
            self._outcome(call)
            for call in (
                self.limiter.read_all,
                release,
                lambda: leases.append(self.limiter.acquire("x", timeout_seconds=0.05)),
                lambda: leases.append(self.limiter.acquire("y", timeout_seconds=0.05)),
                lambda: self.limiter.upsert("z", 1),
                release,
                self.limiter.close,
            )
        ]

    def _outcome(self, call: Callable[[], object]) -> str:
        try:
            call()
        except Exception as error:
            expected = isinstance(error, LocalGCLError)
            detail = str(error) if expected else traceback.format_exc()
            return f"{type(error).__name__}: {detail}"
        return "done"

    def uses_often(self, seconds: float, fresh: bool) -> list[str]:
        """Do all of it again and again; return each different outcome."""
        found: dict[str, None] = {}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.limiter = Limiter(self.database)
            found.update(dict.fromkeys(self.uses()))
            self.leases.clear()
            if fresh:
                for path in (self.database, f"{self.database}-wal", f"{self.database}-shm"):
                    with contextlib.suppress(OSError):
                        os.unlink(path)
        return sorted(found)

    def uses_while_swapped(
        self, step: int, kind: str, place: str, mine: str, private: str, user: list[Any]
    ) -> list[Any]:
        """Use it all, and at one step, before a call that names a file, be the intruder.

        Return the number of steps, what the intruder did before which call (None if it was never
        its turn), and the outcomes.
        """
        done = None

        def intrude(call: str, function: str) -> None:
            nonlocal done
            done = [call, function, self._as_intruder(kind, place, mine, private, User(*user))]

        steps = _Steps(step, intrude)
        outcomes = steps.of(self.uses)
        return [steps.count, done, outcomes]

    def uses_until_killed(self, step: int) -> list[str]:
        """Use it all, and be killed at one step; return what came of it if there are not so many.

        Its leases are never released, for the sake of what else there is to be left behind.
        """
        return _Steps(step, lambda *_: os.kill(os.getpid(), signal.SIGKILL)).of(self.uses)

    def works_until_killed(self) -> None:
        """Open, use and close it again and again."""
        while True:
            self.works()

    def _as_intruder(self, kind: str, place: str, mine: str, private: str, user: User) -> bool:
        folder, name = os.path.split(place)
        if name in _PATTERNS:
            if not os.path.isdir(folder):
                return False
            names = [one for one in os.listdir(folder) if _PATTERNS[name].fullmatch(one)]
            if not names:
                return False
            place = f"{folder}/{names[0]}"
        os.setgroups(user.groups)
        os.setegid(user.gid)
        os.seteuid(user.uid)
        try:
            make(kind, f"{mine}/entry", private)
            return install(f"{mine}/entry", place)
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups([])

    def command(self, *arguments: str) -> list[Any]:
        """Run a command line; return its status and what it wrote."""
        streams = [os.memfd_create("out"), os.memfd_create("err")]
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(streams[0], 1)
            os.dup2(streams[1], 2)
            sys.stdout = sys.__stdout__ = os.fdopen(1, "w")  # type: ignore[misc]
            sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1)  # type: ignore[misc]
            status = 70
            try:
                _command(["localgcl", "--db", self.database, *arguments])
            except SystemExit as ended:
                status = ended.code if isinstance(ended.code, int) else 71
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        written = []
        for stream in streams:
            os.lseek(stream, 0, os.SEEK_SET)
            with os.fdopen(stream, errors="replace") as file:
                written.append(file.read())
        return [status, *written]

    # a user of the kernel

    def put(self, kind: str, place: str, mine: str, private: str) -> bool:
        """Put an entry in a place; return whether that was allowed."""
        make(kind, f"{mine}/entry", private)
        return install(f"{mine}/entry", place)

    def open(self, path: str, flags: int) -> int:
        """Open a file and keep it open; return 0, or the number of the error."""
        try:
            os.open(path, flags | os.O_NONBLOCK)
        except OSError as error:
            return error.errno or -1
        return 0

    def lock(self, path: str) -> int:
        """Lock a file and keep it locked; return 0, or the number of the error."""
        try:
            fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)
        except OSError as error:
            return error.errno or -1
        return 0

    def mount(self, source: str, target: str) -> int:
        """Mount a file alone, for this process only; return 0, or the number of the error."""
        libc = ctypes.CDLL(None, use_errno=True)
        new_namespace, bind, private = 0x20000, 0x1000, 0x44000
        failed = (
            libc.unshare(new_namespace)
            or libc.mount(b"none", b"/", None, private, None)
            or libc.mount(source.encode(), target.encode(), None, bind, None)
        )
        return ctypes.get_errno() if failed else 0

    def swap(self, kinds: list[str], place: str, mine: str, private: str) -> None:
        """Put one entry after another in a place, as fast as can be, without end.

        The place may be a pattern of what is new in its folder.
        """
        folder, _, name = place.rpartition("/")
        pattern = re.compile(name) if "[" in name else None
        ready: list[str] = []
        for count in itertools.count():
            if not ready:
                ready = self._stock(count, kinds, mine, private)
            if pattern is not None:
                with contextlib.suppress(OSError):
                    self._swap_new(ready, folder, pattern)
                continue
            if install(ready[-1], place):
                ready.pop()
            _remove(place)
            if count % 50 == 0:
                time.sleep(0.003)  # for others to get on with it, as far as the next swap

    def _swap_new(self, ready: list[str], folder: str, pattern: re.Pattern[str]) -> None:
        for name in os.listdir(folder):
            if name not in self.seen and pattern.fullmatch(name):
                self.seen.add(name)
                os.rename(ready[-1], f"{folder}/{name}")
                ready.pop()
                return

    def _stock(self, count: int, kinds: list[str], mine: str, private: str) -> list[str]:
        """Make one entry of each kind."""
        made: list[str] = []
        for kind in kinds:
            new = f"{mine}/{count}.{len(made)}"
            if kind in LAID_AT_HAND:
                laid = f"{mine}/{kind} {count % STOCK}"
                if not os.path.lexists(laid):
                    continue
                os.rename(laid, new)
            make(kind, new, private)
            made.append(new)
        return made


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.lstat(path).st_mode):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


# What has a name that cannot be known before.
_PATTERNS = {"LIFELINE": LIFELINE, "NEW": re.compile(r".+\.[0-9a-f]{8,}")}

_FILE_CALLS = {
    "access", "chmod", "chown", "lchown", "link", "listdir", "lstat", "mkdir", "mkfifo", "open",
    "readlink", "remove", "rename", "replace", "rmdir", "scandir", "stat", "statvfs", "symlink",
    "truncate", "unlink", "utime",
}  # fmt: skip


def _names_a_file(call: Any) -> bool:
    owner = getattr(call, "__self__", None)
    if type(owner).__module__ == "sqlite3":
        return call.__name__ in ("close", "execute")
    module = call.__module__
    return (module == "posix" and call.__name__ in _FILE_CALLS) or (
        module == "_sqlite3" and call.__name__ == "connect"
    )


class _Steps:
    """The steps of a call, before each of which something may happen: calls that name a file.

    Statements of SQLite's in a row are one.
    """

    def __init__(self, step: int, happens: Callable[[str, str], object]) -> None:
        self.count = 0
        self._step = step
        self._happens = happens
        self._was_statement = False

    def of(self, do: Callable[[], list[str]]) -> list[str]:
        """Do it, with what happens at one step."""
        sys.setprofile(self._trace)
        try:
            return do()
        finally:
            sys.setprofile(None)

    def _trace(self, frame: Any, event: str, call: Any) -> None:
        if event != "c_call" or not _names_a_file(call):
            return
        was_statement, self._was_statement = self._was_statement, call.__name__ == "execute"
        if was_statement and self._was_statement:
            return
        self.count += 1
        if self.count == self._step:
            sys.setprofile(None)
            self._happens(call.__name__, frame.f_code.co_name)
            sys.setprofile(self._trace)


def _command(words: list[str]) -> None:
    from localgcl.__main__ import main

    sys.argv = words
    # It ends by itself, at once.
    leave = os._exit

    def end(status: int) -> None:
        sys.stdout.flush()
        leave(status)

    os._exit = end  # type: ignore[assignment]
    main()


def _load_everything() -> None:
    for module in pkgutil.walk_packages(localgcl.__path__, "localgcl."):
        if not module.name.startswith(("localgcl.server", "localgcl.testing")):
            importlib.import_module(module.name)
    for name in ("difflib", "encodings.ascii", "encodings.idna", "filelock", "grp", "pwd", "uuid"):
        importlib.import_module(name)


def _play(connection: socket.socket, user: User, database: str, umask: int) -> None:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.umask(umask)
    os.chdir("/")
    if user != ROOT:
        os.setgroups(user.groups)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    logging.getLogger("localgcl").setLevel(logging.CRITICAL)  # limits are missing by intention
    script = Script(database)
    while order := connection.recv(1 << 20):
        verb, *arguments = json.loads(order)
        try:
            answer = getattr(script, verb)(*arguments)
        except Exception as error:
            answer = {"error": type(error).__name__, "message": str(error)}
        connection.send(json.dumps(answer).encode())


def _orders(control: socket.socket) -> Iterator[tuple[list[Any], socket.socket]]:
    while True:
        order, descriptors, _, _ = socket.recv_fds(control, 4096, 1)
        if not order:
            return
        yield json.loads(order), socket.socket(fileno=descriptors[0])


def main() -> None:
    """Fork whoever is asked for, until the test has ended."""
    _load_everything()
    gc.freeze()  # or else each child would copy all of it at its first collection
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: no zombies
    control = socket.socket(fileno=int(sys.argv[1]))
    for (user, database, umask), connection in _orders(control):
        child = os.fork()
        if not child:
            control.close()
            try:
                _play(connection, User(user[0], user[1], tuple(user[2])), database, umask)
            finally:
                os._exit(0)
        connection.close()
        control.send(str(child).encode())


if __name__ == "__main__":
    main()
