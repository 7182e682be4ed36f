"""The descriptors that SQLite opens: which they are, and how they are closed once lost.

SQLite does not report them, and the program may close them. Other files then get their numbers.
"""

from __future__ import annotations

import contextlib
import fcntl
import os

from localgcl._base.descriptors import (
    Descriptor,
    close_if_ours,
    has_a_mark,
    is_open,
    is_ours,
    mark,
    opened,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from localgcl._liveness.directory import Identity


def find_descriptors(
    database: Identity,
    beside: Iterable[Identity | None],
    shared: Identity | None,
    before: set[int],
    others: Mapping[int, Descriptor],
) -> tuple[Descriptor, ...]:
    """Mark the descriptors that SQLite has just opened, to notice when the program closes them.

    They are those of the `database`, which come first, and of the files `beside` it. `shared` is
    the file among these that SQLite opens once for all connections. `before` were open already;
    `others` are those among them that belong to other connections to this file.
    """
    found = []
    for descriptor in opened():
        with contextlib.suppress(OSError):  # of another thread, closed by now
            status = os.fstat(descriptor)
            identity = (status.st_dev, status.st_ino)
            if identity != database and identity not in beside:
                continue
            other = others.get(descriptor)
            if other is None and descriptor in before and not has_a_mark(descriptor):
                continue  # the program's own
            if other is None:
                found.append((identity != database, mark(descriptor)))
            elif identity == shared:
                found.append((True, other))
    return tuple(descriptor for _, descriptor in sorted(found))


def close_unwritten(descriptors: Iterable[Descriptor], close: Callable[[], object]) -> None:
    """Call `close`, which closes these descriptors, and keep it from writing to their files.

    Meanwhile each number refers to a file that cannot be written, which keeps SQLite from its
    checkpoint. If a number is another file's by now, that file gets it back.
    """
    numbers = {int(one): one for one in descriptors}
    theirs: dict[int, tuple[int, bool]] = {}
    nothing = mark(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    closed = {int(nothing)}  # it may have got the number of a lost one
    try:
        # A copy must not get the number of a closed descriptor. So those refer to /dev/null first.
        for number in numbers.keys() - closed:
            if not is_open(number):
                os.dup2(nothing, number, inheritable=False)
                closed.add(number)
        for number in numbers.keys() - closed:
            if not is_ours(numbers[number]):
                inheritable = os.get_inheritable(number)
                theirs[number] = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3), inheritable
    except BaseException:  # no descriptor is left, for example: all stays as it was
        for number in (*closed, *(copy for copy, _ in theirs.values())):
            os.close(number)
        raise
    try:
        for number in numbers.keys() - closed:
            os.dup2(nothing, number, inheritable=False)
        close()
    finally:
        for number in {*closed, *numbers} - theirs.keys():
            close_if_ours(nothing.called(number))  # what SQLite has not closed
        for number, (copy, inheritable) in theirs.items():
            os.dup2(copy, number, inheritable)
            os.close(copy)
