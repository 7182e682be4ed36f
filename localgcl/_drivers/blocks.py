"""The blocks that threads and tasks are inside of, so that none waits for itself.

A block is a `with`, an `async with` or a decorated call. Each is kept from its beginning to its end
with the thread and the task that have entered it. Threads and tasks that are started inside of a
block are not inside of it.
"""

from __future__ import annotations

import os
import sys

# By the time of this import, gevent has replaced it if threads are its greenlets.
from _thread import get_ident

from localgcl._base.forks import at_fork
from localgcl._base.threads import members
from localgcl.errors import RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

# The lease of `localgcl run`, in the environment of its command, and those of the runs around it.
VARIABLE = "LOCALGCL_LEASE"
OUTER_VARIABLE = "LOCALGCL_OUTER_LEASES"

# By lease: its thread and task, and the code and the instruction that have entered its block. This
# is no context variable: setting one takes longer. The leases themselves are not here, since one
# that is forgotten has to end by itself.
entered: dict[str, tuple[int, Any, CodeType, int]] = {}

at_fork(after_in_child=entered.clear)  # what a child inherits is its parent's

# Frames of these modules enter blocks on behalf of others; the flavours add their own.
helpers = {"contextlib"}


def entered_by(frame: FrameType) -> FrameType:
    """Return the frame that a helper's frame has entered a block for."""
    while frame.f_globals.get("__name__") in helpers and frame.f_back is not None:
        frame = frame.f_back
    return frame


def enter(lease: str) -> None:
    """Remember that the caller's caller has entered a block, which ends when it is popped."""
    frame = entered_by(sys._getframe(2))
    entered[lease] = get_ident(), current_task(), frame.f_code, frame.f_lasti


def leases_around() -> dict[str, str]:
    """Return the leases of the blocks that this thread or task is inside of, and where they began.

    A block that was entered outside of all tasks is also around the tasks of its thread: their loop
    runs inside of it.
    """
    found: dict[str, str] = {}
    here = get_ident(), current_task()
    for lease, (thread, task, code, instruction) in members(entered.items()):
        if thread == here[0] and task in (None, here[1]):
            found[lease] = f"{code.co_filename}:{_line(code, instruction)}"
    for variable in (VARIABLE, OUTER_VARIABLE):
        for lease in os.environ.get(variable, "").split():
            found.setdefault(lease, RUN)
    return found


def calling_line() -> tuple[str, int]:
    """Return file and line of the first frame outside of this package and its helpers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        if module not in helpers and module.partition(".")[0] != "localgcl":
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    return "?", 0


def running_loop() -> Any:
    """Return the event loop that runs in this thread, None if none does."""
    asyncio = sys.modules.get("_asyncio")  # which is whole, unlike `asyncio` while it is imported
    return None if asyncio is None else asyncio._get_running_loop()


def current_task() -> Any:
    """Return what stands for the task that runs in this thread, None outside of tasks."""
    loop = running_loop()
    if loop is None:
        return None
    import weakref

    task = sys.modules["asyncio"].current_task(loop)
    return None if task is None else weakref.ref(task)


def _line(code: CodeType, instruction: int) -> int | None:
    for start, end, line in code.co_lines():
        if start <= instruction < end:
            return line
    return code.co_firstlineno
