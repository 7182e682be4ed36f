"""The blocks that a thread or a task is inside of, so that it never waits for itself.

A block is a `with`, an `async with` or a decorated call. A context variable has them as a chain,
the innermost first. A task that is started inherits the chain, and so may a thread. So each block
says whose it is.
"""

from __future__ import annotations

import os
import sys

# By the time of this import, gevent has replaced it if threads are its greenlets.
from _thread import get_ident
from contextvars import ContextVar

from localgcl.errors import RUN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FrameType
    from typing import Any

    from localgcl._engine.request import Request

    # The block around it, its request, thread and task, and the code and the instruction that
    # entered it. There is no lease here: one that is forgotten has to end by itself.
    Block = tuple["Block | None", Request, int, Any, CodeType, int]

# The lease of `localgcl run`, in the environment of its command, and those of the runs around it.
VARIABLE = "LOCALGCL_LEASE"
OUTER_VARIABLE = "LOCALGCL_OUTER_LEASES"

# The innermost block, or one that has ended since.
around: ContextVar[Block | None] = ContextVar("localgcl", default=None)

# Frames of these modules enter blocks on behalf of others; the flavours add their own.
helpers = {"contextlib"}


def still_around(block: Block | None) -> Block | None:
    """Return the innermost block that has not ended: some end in a context of another thread."""
    while block is not None and block[1].granted is None:
        block = block[0]
    return block


def entered_by(frame: FrameType) -> FrameType:
    """Return the frame that a helper's frame has entered a block for."""
    while frame.f_globals.get("__name__") in helpers and frame.f_back is not None:
        frame = frame.f_back
    return frame


def enter(request: Request) -> None:
    """Remember that the caller's caller has entered a block."""
    frame = entered_by(sys._getframe(2))
    block = still_around(around.get())
    around.set((block, request, get_ident(), current_task(), frame.f_code, frame.f_lasti))


def leave(request: Request) -> None:
    """Forget a block at its end."""
    block = around.get()
    if block is not None and block[1] is request:
        around.set(block[0])


def leases_around() -> dict[str, str]:
    """Return the leases of the blocks that this thread or task is inside of, and where they began.

    A block that was entered outside of all tasks is also around the tasks of its thread: their loop
    runs inside it.
    """
    found: dict[str, str] = {}
    block, thread, task = around.get(), get_ident(), current_task()
    while block is not None:
        outer, request, of_thread, of_task, code, instruction = block
        is_ours = of_thread == thread and of_task in (None, task) and request.pid == os.getpid()
        if is_ours and request.granted is not None:
            found.setdefault(request.id, f"{code.co_filename}:{_line(code, instruction)}")
        block = outer
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


def current_task() -> Any:
    """Return what stands for the task that runs in this thread, None outside of tasks."""
    asyncio = sys.modules.get("asyncio")
    # Another thread may be importing it just now. Then no task runs in this one.
    running = getattr(asyncio, "_get_running_loop", None)
    loop = None if running is None else running()
    if loop is None:
        return None
    import weakref

    task = asyncio.current_task(loop)  # type: ignore[union-attr]  # it has a loop
    return None if task is None else weakref.ref(task)


def _line(code: CodeType, instruction: int) -> int | None:
    for start, end, line in code.co_lines():
        if start <= instruction < end:
            return line
    return code.co_firstlineno
