"""Standard output and standard error as commands write to them, whatever is at the other end."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from typing import Any

import click

from localgcl._run.child import ERROR_PATIENCE_SECONDS, write_in_time


def prepare() -> None:
    """Have commands write to the standard streams through the classes below."""
    if sys.stdout is not None:
        sys.stdout = _text(_Output(sys.stdout.fileno(), "w", closefd=False), sys.stdout)
    if sys.stderr is None:  # closed: its messages must not come out elsewhere
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the very end
    else:
        sys.stderr = _text(_Errors(sys.stderr.fileno(), "w", closefd=False), sys.stderr)


def _text(raw: io.FileIO, given: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=given.encoding,
        # A name in any alphabet is shown, with escapes if the terminal cannot write it.
        errors="backslashreplace",
        line_buffering=True,
    )


class _Output(io.FileIO):
    """Standard output: a reader may stop early, but no other failure is ignored.

    What could not be written is not tried again, not even when the interpreter ends.
    """

    _works = True

    def write(self, content: Any, /) -> int:
        while self._works:
            try:
                written = super().write(content)
            except OSError as error:
                self._works = False
                if error.errno != errno.EPIPE:
                    raise click.ClickException(f"cannot write: {error.strerror}") from None
            else:
                if written is not None:
                    return written
                # It is non-blocking, and full.
                poll = select.poll()
                poll.register(self.fileno(), select.POLLOUT)
                poll.poll()
        return memoryview(content).nbytes


class _Errors(io.FileIO):
    """Standard error: what cannot be written there in time is dropped, and nothing else changes."""

    def write(self, content: Any, /) -> int:
        write_in_time(self.fileno(), bytes(content), ERROR_PATIENCE_SECONDS)
        return memoryview(content).nbytes
