"""A Ctrl-C at any point of the code."""

from __future__ import annotations

import _thread
import os
import signal
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

import localgcl

PACKAGE = os.path.dirname(localgcl.__file__)


def inside_localgcl(frame: FrameType | None) -> bool:
    """Whether a frame is localgcl's, or one that it has called."""
    while frame is not None and frame.f_code.co_filename != __file__:
        if frame.f_code.co_filename.startswith(PACKAGE):
            return True
        frame = frame.f_back
    return False


class Interrupts:
    """A Ctrl-C at a time, each where none was before, for as long as there are such points.

    Python looks for signals when a function is entered, and when one written in C has returned.
    A profiler is called at the very same points, and what it raises is raised there. But it is not
    told that a class has made an object. So at the end of `__init__` a signal is noted, which is
    handled behind the call of the class: the object was made and has no name.
    """

    def __init__(
        self,
        error: type[BaseException] = KeyboardInterrupt,
        strikes: Callable[[FrameType | None], bool] = inside_localgcl,
    ) -> None:
        self.error = error
        self.strikes = strikes
        self._tried: set[tuple[CodeType, int, str]] = set()
        self.came = False
        # Python 3.11 may call a profiler once more after it has raised and been let go of.
        self._profiler = self._look

    def __enter__(self) -> Interrupts:
        self.came = False
        self._before = signal.signal(signal.SIGINT, self._strike)
        sys.setprofile(self._profiler)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        signal.signal(signal.SIGINT, self._before)

    def _strike(self, *_: object) -> None:
        raise self.error

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        made = event == "return" and frame.f_code.co_name == "__init__"
        if not (made or event in ("call", "c_return")) or not self.strikes(frame):
            return
        point = (frame.f_code, frame.f_lasti, event)
        if point not in self._tried:
            self._tried.add(point)
            self.came = True
            if not made:
                raise self.error
            sys.setprofile(None)
            # A plain call would be followed by the check that is to come later.
            (_,) = map(_thread.interrupt_main, (signal.SIGINT,))
