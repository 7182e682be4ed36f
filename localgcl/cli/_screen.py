"""The terminal while a live view uses it, and how it is restored afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
from collections.abc import Sequence
from types import FrameType, TracebackType

from localgcl.cli._layout import cut, width_of

# https://invisible-island.net/xterm/ctlseqs/ctlseqs.html: another screen, no cursor, no wrapping.
_TAKE = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_GIVE_BACK = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_OTHERS = (signal.SIGWINCH, signal.SIGTSTP, signal.SIGCONT)


def is_possible() -> bool:
    """Whether there is a terminal to read keys from and to draw on."""
    return (
        sys.stdin is not None
        and sys.stdout is not None
        and sys.stdin.isatty()
        and sys.stdout.isatty()
        and os.environ.get("TERM", "dumb") != "dumb"
    )


class Screen:
    """The whole terminal, for as long as the `with` block runs.

    Signals are not handled where they strike. Each becomes a byte in a pipe, which `wait` reads, so
    nothing is ever left half done. However the block ends, the terminal is restored.
    """

    def __init__(self) -> None:
        self._keys, self._canvas = sys.stdin.fileno(), sys.stdout.fileno()
        self._encoding = sys.stdout.encoding
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Screen:
        with contextlib.ExitStack() as stack:
            self._signals, writer = os.pipe()
            stack.callback(os.close, writer)
            stack.callback(os.close, self._signals)
            os.set_blocking(writer, False)
            os.set_blocking(self._signals, False)
            before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            stack.callback(signal.set_wakeup_fd, before)
            for number in (*_ENDING, *_OTHERS):
                stack.callback(signal.signal, number, signal.signal(number, _ignore))
            self._take()
            stack.callback(self._give_back)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _take(self) -> None:
        self._before = termios.tcgetattr(self._keys)
        ours = termios.tcgetattr(self._keys)
        ours[3] &= ~(termios.ICANON | termios.ECHO)  # keys immediately and unseen; Ctrl-C stays
        termios.tcsetattr(self._keys, termios.TCSADRAIN, ours)
        self._write(_TAKE)

    def _give_back(self) -> None:
        # If the terminal is gone, which SIGHUP reports, there is nothing to restore.
        with contextlib.suppress(OSError, termios.error):
            self._write(_GIVE_BACK)
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def size(self) -> tuple[int, int]:
        """Return the current number of columns and rows."""
        columns, rows = os.get_terminal_size(self._canvas)
        return max(1, columns), max(1, rows)

    def show(self, lines: Sequence[str]) -> None:
        """Draw lines in place of the old ones; what does not fit is cut off."""
        columns, rows = self.size()
        drawn = []
        for line in lines[:rows]:
            # Characters that the terminal cannot write are escaped before the line is measured.
            known = line.encode(self._encoding, "backslashreplace").decode(self._encoding)
            text = cut(known, columns)
            # In the last column the cursor stays on the last character.
            drawn.append(text if width_of(text) == columns else text + _CLEAR_LINE)
        below = _CLEAR_BELOW if len(drawn) < rows else ""
        self._write(_HOME + "\r\n".join(drawn) + ("\r\n" if below and drawn else "") + below)

    def _write(self, text: str) -> None:
        content = text.encode(self._encoding)
        while content:
            content = content[os.write(self._canvas, content) :]

    def wait(self, until: float) -> int | None:
        """Wait until a time of `time.monotonic`, or until the screen has to be redrawn.

        Return the exit status if a key or a signal asks for the end, else None.
        """
        while True:
            left = max(0.0, until - time.monotonic())
            ready, _, _ = select.select([self._keys, self._signals], [], [], left)
            if self._signals in ready:
                for number in os.read(self._signals, 1024):
                    if number in _ENDING:
                        return 0 if number == signal.SIGINT else 128 + number
                    self._obey(number)
                return None
            if not ready:
                return None
            # One key at a time: what was typed after the last key is for the shell.
            if os.read(self._keys, 1) in (b"q", b"Q", b""):
                return 0

    def _obey(self, number: int) -> None:
        if number == signal.SIGTSTP:
            self._give_back()
            ours = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            # The process is stopped here, until it is continued.
            signal.signal(signal.SIGTSTP, ours)
            self._take()
        elif number == signal.SIGCONT:
            # After SIGSTOP the terminal was not restored, and a shell may have used it.
            self._give_back()
            self._take()


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing: the wake-up pipe gets the number."""
