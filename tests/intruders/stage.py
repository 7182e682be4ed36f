"""A shared folder, users who come there, and what an intruder puts in it, as a test sees them."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import termios
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers.waiting import until
from tests.intruders.player import DEADLINE_SECONDS, LIFELINE, ROOT, STOCK, WAKE_UP, User

_LIBC = ctypes.CDLL(None, use_errno=True)
_IN_OPEN = 0x20

GROUP = 6000  # of folders that are shared by a group
MEMBER = User(5001, GROUP)
COLLEAGUE = User(5003, GROUP)
LOOSE_MEMBER = User(5001, 5001, (GROUP,))  # by a supplementary group, as `usermod -aG` has it
LOOSE_COLLEAGUE = User(5003, 5003, (GROUP,))
STRANGER = User(5004, 5004)
APP = User(5002, 5002)


class Ground(NamedTuple):
    """A folder for a database, one who may write there, and who makes the database."""

    mode: int
    owner: User
    intruder: User
    founder: User

    def __str__(self) -> str:
        return f"{self.mode:04o}"

    @property
    def group(self) -> int:
        """The folder's group."""
        return GROUP if self.mode & 0o777 == 0o770 else self.owner.gid


# In a folder of an application's own, and in a sticky one, all that root finds can be the
# intruder's.
GROUNDS = (
    Ground(0o2770, ROOT, MEMBER, ROOT),
    Ground(0o0770, ROOT, LOOSE_MEMBER, ROOT),
    Ground(0o0777, ROOT, STRANGER, ROOT),
    Ground(0o1777, ROOT, STRANGER, STRANGER),
    Ground(0o0755, APP, APP, APP),
)


class Stage:
    """The process that has loaded everything and forks the others."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.intruders.player", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
            )
        self._players: list[Player] = []

    def player(
        self, user: User, database: Path | str = "/nonexistent", umask: int = 0o022
    ) -> Player:
        """Start a process of a user."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            order = json.dumps([user, str(database), umask]).encode()
            socket.send_fds(self._socket, [order], [theirs.fileno()])
        pid = int(self._socket.recv(64))
        self._players.append(Player(pid, ours))
        return self._players[-1]

    def clear(self) -> None:
        """End every process that was started."""
        while self._players:
            self._players.pop().kill()

    def close(self) -> None:
        """End all of it."""
        self.clear()
        self._socket.close()
        self._process.wait(DEADLINE_SECONDS)


class HangsError(AssertionError):
    """A call has not ended in time."""


class Player:
    """A process of a user, which does what it is told."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self._socket = connection
        self._end = os.pidfd_open(pid)

    def tell(self, verb: str, *arguments: Any) -> None:
        """Tell it to begin something."""
        self._socket.send(json.dumps([verb, *arguments]).encode())

    def has_answered(self, seconds: float = 0.0) -> bool:
        """Whether an answer can be read within some seconds."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def answer(self, seconds: float = DEADLINE_SECONDS) -> Any:
        """Return its next answer; an exception that it met is raised here."""
        if not self.has_answered(seconds):
            raise HangsError(f"no answer within {seconds:g} s")
        return json.loads(self._socket.recv(1 << 20))

    def do(self, verb: str, *arguments: Any) -> Any:
        """Tell it something and return the answer."""
        self.tell(verb, *arguments)
        return self.answer()

    def ends_or_answers(self) -> bool:
        """Wait for its end or its answer; return whether it has ended."""
        assert self.has_answered(DEADLINE_SECONDS), "it neither ended nor answered"
        return not self._socket.recv(1 << 20)

    def kill(self) -> None:
        """Kill it and what it has started, and wait until it is gone."""
        if self._end < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # if it has come to no group of its own yet
        assert select.select([self._end], [], [], DEADLINE_SECONDS)[0]
        os.close(self._end)
        self._end = -1
        self._socket.close()


class Private:
    """A folder of root's that nobody else may enter, and what must never change in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700)
        for name in ("secret", "0123456789abcdef" * 2, "fedcba9876543210" * 2):
            (path / name).write_text("root's own, and nobody else's business\n" * 20)
            (path / name).chmod(0o600)
        (path / "empty").touch(0o600)
        os.mkfifo(path / "pipe", 0o600)
        os.mknod(path / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        self._pipe = os.open(path / "pipe", os.O_RDWR | os.O_NONBLOCK)
        os.write(self._pipe, b"mine")
        self._before = self._look()

    def _look(self) -> dict[str, object]:
        folder = self.path.stat()
        found: dict[str, object] = {"": (folder.st_mode, folder.st_uid, folder.st_gid)}
        # What was there for a moment counts, too.
        found["changed at"] = folder.st_mtime_ns
        for file in sorted(self.path.iterdir()):
            status = file.lstat()
            content = file.read_bytes() if file.is_file() else b""
            found[file.name] = (
                oct(status.st_mode), status.st_uid, status.st_gid, status.st_ino, content,
                status.st_mtime_ns,
            )  # fmt: skip
        unread = fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4))
        found["unread in the pipe"] = int.from_bytes(unread, sys.byteorder)
        return found

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], bool]]:
        """Yield a function that tells whether anybody has opened the secret file meanwhile.

        Inotify counts each open, by whatever name, unless it is one by O_PATH (inotify(7)).
        """
        opens = _LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            assert _LIBC.inotify_add_watch(opens, bytes(self.path / "secret"), _IN_OPEN) > 0
            yield lambda: bool(select.select([opens], [], [], 0)[0])
        finally:
            os.close(opens)

    def changes(self) -> dict[str, tuple[object, object]]:
        """Return what is not as it was: before and now."""
        now = self._look()
        return {
            name: (self._before.get(name), now.get(name))
            for name in {**self._before, **now}
            if self._before.get(name) != now.get(name)
        }

    def close(self) -> None:
        """Close what is open."""
        os.close(self._pipe)


class Scene:
    """A shared folder, root's private one beside it, and what an intruder has at hand."""

    def __init__(self, stage: Stage, top: Path, ground: Ground) -> None:
        self.stage = stage
        self.ground = ground
        self.folder = top / "limits"
        top.mkdir(mode=0o755)
        self.folder.mkdir()
        os.chown(self.folder, ground.owner.uid, ground.group)
        self.folder.chmod(ground.mode)
        self.database = self.folder / "limits.db"
        self.run = Path(f"{self.database}-run")
        self.private = Private(top / "private")
        self.mine = top / "mine"
        self.mine.mkdir(mode=0o700)
        os.chown(self.mine, ground.intruder.uid, ground.intruder.gid)

    def player(self, user: User, umask: int = 0o022) -> Player:
        """Start a process of a user."""
        return self.stage.player(user, self.database, umask)

    def lay_stock(self, kinds: Iterable[str]) -> None:
        """Lay at hand many of these, for an intruder who puts one after another."""
        for kind in kinds:
            for number in range(STOCK):
                self.prepare(kind, f"{kind} {number}")

    def prepare(self, kind: str, name: str = "entry") -> None:
        """Lay at hand for the intruder what it could not make, with the kernel of today."""
        targets = {
            "hard link": "secret",
            "hard link to a FIFO": "pipe",
            "hard link, empty": "empty",
        }
        if kind in targets:
            os.link(self.private.path / targets[kind], self.mine / name)
        elif kind == "device":
            os.mknod(self.mine / name, 0o600 | stat.S_IFCHR, os.makedev(1, 3))

    def put(self, intruder: Player, kind: str, place: Path) -> tuple[Any, ...] | None:
        """Have the intruder put an entry in a place; return what it is, None if it is barred."""
        self.prepare(kind)
        if not intruder.do("put", kind, str(place), str(self.mine), str(self.private.path)):
            return None
        return entry(place)

    def remove(self, place: Path) -> None:
        """Take away what the intruder put there, as an operator does."""
        # Where the whole database was replaced, whose the rest is may have changed as well.
        if place == self.database and self.ground.mode & stat.S_ISVTX:
            self.remove_all()
        else:
            _remove(place)

    def remove_all(self) -> None:
        """Take away all that there is."""
        for path in self.folder.iterdir():
            _remove(path)

    def names(self, like: re.Pattern[str]) -> list[str]:
        """Return what is in the run folder and named like this."""
        return sorted(name for name in os.listdir(self.run) if like.fullmatch(name))

    def close(self) -> None:
        """Close what is open."""
        self.private.close()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def entry(place: Path) -> tuple[Any, ...] | None:
    """Return what is in a place, without looking behind it."""
    try:
        status = place.lstat()
    except FileNotFoundError:
        return None
    return status.st_ino, oct(status.st_mode), status.st_uid, status.st_gid


def use(scene: Scene, user: User, umask: int = 0) -> tuple[Player, Player]:
    """Have two processes of a user hold and wait, so that everything that there is is there."""
    holder, waiter = scene.player(user, umask), scene.player(user, umask)
    holder.do("create", "x")
    holder.do("acquire", "x")
    waiter.tell("acquire", "x")
    until(lambda: holder.do("waiting", "x") == 1)
    return holder, waiter


def everything(scene: Scene) -> list[Path]:
    """Return all that belongs to the database."""
    found = [*scene.folder.iterdir(), *scene.run.iterdir()]
    names = {one.name for one in found}
    assert names >= {"limits.db", "limits.db-wal", "limits.db-shm", "limits.db-run", "gate"}
    assert scene.names(LIFELINE)
    assert scene.names(WAKE_UP)
    return found


# A wake-up takes less than a millisecond; without one, the next look is a second away or more.
AT_ONCE_SECONDS = 1.0


def hand_over(holder: Player, waiter: Player) -> float:
    """Have one wait for a slot of the other's; return how long after the release it has it."""
    holder.do("acquire", "x")
    waiter.tell("acquire", "x")
    until(lambda: holder.do("waiting", "x") == 1)
    released = holder.do("release")
    got = waiter.answer()
    assert isinstance(got, float), got
    assert isinstance(released, float), released
    waiter.do("release")
    return got - released
