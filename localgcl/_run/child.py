"""A command that runs as if nothing stood between it and its caller.

Signals that are passed to the command are blocked from before it starts until it has ended, and
taken one by one: none is lost in between, and no handler runs. The command stays in its caller's
process group and session, so a terminal's Ctrl-C and Ctrl-Z reach it as always.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from types import FrameType

_PASSED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

# A terminal delivers these to every process of the group in its foreground.
_KEYS = (signal.SIGINT, signal.SIGQUIT)

# A terminal stops its jobs by these. A process stopped inside a transaction blocks everybody else.
_STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

# Python ignores these itself; the command has to start with a shell's defaults.
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)

# An error is the last output, so a slow reader gets a moment.
ERROR_PATIENCE_SECONDS = 1.0

NOT_EXECUTABLE, NOT_FOUND = 126, 127
_SIGNALLED = 128


class Interrupted(SystemExit):
    """A signal came before there was a command to pass it to; nobody needs to catch this."""

    def __init__(self, number: int) -> None:
        self.status = _SIGNALLED + number
        super().__init__(self.status)


class Signals:
    """The signals of a process that runs a command: a context manager.

    Inside it, the first signal raises Interrupted. From `hold` on, signals are kept for `attend`.
    """

    def __init__(self) -> None:
        # A signal that nohup or a shell's `&` has set to ignored stays ignored.
        self._handled = [one for one in _PASSED if signal.getsignal(one) is not signal.SIG_IGN]
        self._raises = True
        self._held: set[signal.Signals] = set()

    def __enter__(self) -> Signals:
        # If a parent ignores SIGCHLD, its descendants inherit that and lose their children's
        # statuses.
        self._child = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.mask: set[int] = set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        self._before = [(one, signal.signal(one, self._interrupt)) for one in self._handled]
        return self

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        # Only once: no second signal interrupts the cleanup after the first.
        if self._raises:
            self._raises = False
            raise Interrupted(number)

    def hold(self) -> None:
        """Keep signals from now on, and allow stopping only while the command runs."""
        self._held = {*self._handled, signal.SIGCHLD}
        signal.pthread_sigmask(signal.SIG_BLOCK, {*self._held, *_STOPPING})

    def attend(self, pid: int) -> int:
        """Pass signals to the command until it ends, and return its status as a shell does."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask | self._held)
        try:
            return self._attend(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)

    def _attend(self, pid: int) -> int:
        while True:
            number, by_terminal = _next_signal(self._held)
            if number == signal.SIGCHLD:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    code = os.waitstatus_to_exitcode(status)
                    return code if code >= 0 else _SIGNALLED - code
            elif not (by_terminal and number in _KEYS and os.getpgid(pid) == os.getpgrp()):
                # The command runs as another user by now, as sudo does. Its caller could not signal
                # it either.
                with contextlib.suppress(PermissionError):
                    os.kill(pid, number)  # the pid is valid until waitpid has reported its end

    def __exit__(self, *_: object) -> None:
        self._raises = False
        signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
        for number, handler in (*self._before, (signal.SIGCHLD, self._child)):
            signal.signal(number, handler)


if sys.platform == "linux":
    _SENT_BY_KERNEL = 0x80  # SI_KERNEL of sigaction(2)

    def _next_signal(numbers: Collection[int]) -> tuple[int, bool]:
        """Wait for one of these signals, and return it and whether a terminal has sent it."""
        info = signal.sigwaitinfo(numbers)
        return info.si_signo, info.si_code == _SENT_BY_KERNEL

else:  # pragma: no cover - macOS, not tested there

    def _next_signal(numbers: Collection[int]) -> tuple[int, bool]:
        """Wait for one of these signals, and return it and whether a terminal may have sent it."""
        number = signal.sigwait(numbers)
        try:
            terminal = os.open("/dev/tty", os.O_RDONLY)
        except OSError:
            return number, False
        try:
            return number, os.tcgetpgrp(terminal) == os.getpgrp()
        finally:
            os.close(terminal)


def say(line: str, patience_seconds: float = 0.0) -> None:
    """Write a line to standard error, if there is one, as far as it accepts it in time.

    The line is for people. No command may fail, or wait for long, because it cannot be written.
    """
    stream = sys.stderr
    if stream is None:
        return
    try:
        descriptor = stream.fileno()
    except OSError:  # the stream is in memory
        print(line, file=stream, flush=True)
        return
    content = f"{line}\n".encode(stream.encoding, "backslashreplace")
    write_in_time(descriptor, content, patience_seconds)


def write_in_time(descriptor: int, content: bytes, patience_seconds: float) -> None:
    """Write what is accepted within some seconds; the rest is dropped."""
    import select

    ours = _never_waiting(descriptor)
    target = descriptor if ours is None else ours
    poll = select.poll()
    poll.register(target, select.POLLOUT)
    try:
        # One part at a time, each no larger than the free space of a pipe that is ready.
        while content and poll.poll(patience_seconds * 1000):
            content = content[os.write(target, content[: select.PIPE_BUF]) :]
    except OSError:
        pass  # it is full, or nobody reads it
    finally:
        if ours is not None:
            os.close(ours)


def _never_waiting(descriptor: int) -> int | None:
    """Return a non-blocking descriptor on the same pipe or terminal, if there can be one.

    Another writer may use up the room between the poll and the write. The given descriptor must not
    change, since others share it, the command above all.
    """
    import stat

    try:
        if not (stat.S_ISFIFO(os.fstat(descriptor).st_mode) or os.isatty(descriptor)):
            return None
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None


def start(
    command: Sequence[str],
    mask: Collection[int],
    keep_open: int | None,
    changes: Mapping[str, str | None],
) -> int:
    """Start a command with its signals as in `mask`, and return its pid.

    It inherits the descriptor `keep_open`, and this environment with `changes`, in which None
    removes a variable. OSError if it cannot be started.
    """
    environment = _environment()
    for name, value in changes.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value
    passed = None if keep_open is None else _inheritable(keep_open)
    try:
        permission_error: OSError | None = None
        for path in _candidates(command[0]):
            try:
                return _spawn(path, command, mask, environment)
            except PermissionError as error:
                permission_error = (
                    permission_error or error
                )  # a later folder of PATH may have one that can be run
        raise permission_error or FileNotFoundError(
            errno.ENOENT, os.strerror(errno.ENOENT), command[0]
        )
    finally:
        if passed is not None:
            os.close(passed)


def status_of(error: OSError) -> int:
    """Return the status of a shell that could not start a command because of `error`."""
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return 1  # it is not the command's fault
    return NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE


def _inheritable(descriptor: int) -> int:
    """Return a duplicate that programs inherit, above the numbers that scripts use."""
    import fcntl

    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100)
    except OSError:  # above the number that this process may open
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD, 3)


def _candidates(program: str) -> Iterator[str]:
    """Yield the paths at which a program may be, as execvp(3) looks for it."""
    if "/" in program:
        yield program
    elif program:
        for folder in os.environ.get("PATH", os.defpath).split(":"):
            path = f"{folder or '.'}/{program}"
            if os.path.exists(path):
                yield path


def _spawn(
    path: str, command: Sequence[str], mask: Collection[int], environment: Mapping[str, str]
) -> int:
    def spawn(path: str, *arguments: str) -> int:
        return os.posix_spawn(
            path,
            [command[0], *arguments],
            environment,
            setsigmask=mask,
            setsigdef=_IGNORED_BY_PYTHON,
        )

    try:
        return spawn(path, *command[1:])
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without an interpreter in its first line is run by the shell, as in execvp(3).
    return spawn("/bin/sh", path, *command[1:])


def _environment() -> dict[str, str]:
    """Return the environment that this process was given."""
    environment = dict(os.environ)
    # In the C locale, as under cron, Python sets a variable in its own environment, and so for
    # everything that it starts: https://peps.python.org/pep-0538
    if environment.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8"):
        try:
            with open("/proc/self/environ", "rb") as file:
                given = [one for one in file.read().split(b"\0") if one.startswith(b"LC_CTYPE=")]
        except OSError:
            return environment  # nothing tells who has set it
        del environment["LC_CTYPE"]
        for one in given:
            environment["LC_CTYPE"] = os.fsdecode(one.partition(b"=")[2])
    return environment
