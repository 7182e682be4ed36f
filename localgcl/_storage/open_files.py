"""What this process has open, and how it is dropped if a log or a descriptor is lost."""

from __future__ import annotations

import weakref

from localgcl._base.descriptors import is_ours
from localgcl._base.threads import members
from localgcl._storage.sqlite_descriptors import close_unwritten

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from localgcl._base.descriptors import Descriptor
    from localgcl._storage.gate import Gate

    class OpenFile(Protocol):
        """An open database, as far as other parts of this process need to know it."""

        @property
        def identity(self) -> tuple[int, int]:
            """Which file it is."""

        @property
        def descriptors(self) -> tuple[Descriptor, ...]:
            """The descriptors through which SQLite has it open."""

        @property
        def gate(self) -> Gate:
            """Its gate, which has descriptors as well."""

        def is_opened(self) -> bool:
            """Whether it was opened completely."""

        def is_whole(self) -> bool:
            """Whether its log and its descriptors are what they were."""

        def discard_connection(self) -> None:
            """Close the connection; nothing can be written through its descriptors now."""


open_files: weakref.WeakSet[OpenFile] = weakref.WeakSet()


def files_of(identity: tuple[int, int]) -> list[OpenFile]:
    """Return all that this process has open of one file."""
    return [file for file in members(open_files) if file.identity == identity]


def is_lost(identity: tuple[int, int]) -> bool:
    """Whether something that this process has open of a file has to be dropped."""
    return not all(file.is_whole() for file in files_of(identity))


def tied_to(files: Iterable[OpenFile]) -> set[OpenFile]:
    """Return all that has to be dropped with these: the same file, or one of their numbers.

    When any descriptor of a file is closed, the kernel ends all locks of this process on the file.
    So a database that has opened the number of a lost descriptor does not keep its own locks.
    """
    tied: set[OpenFile] = set()
    more = set(files)
    while not more <= tied:
        tied |= more
        identities = {one.identity for one in tied}
        numbers = {int(number) for one in tied for number in one.descriptors}
        more = {
            one
            for one in members(open_files)
            if one.identity in identities
            or any(
                number in numbers and is_ours(number)
                for number in (*one.descriptors, *one.gate.descriptors())
            )
        }
    return tied


def drop(files: Iterable[OpenFile]) -> None:
    """Close connections without writing to the files that they had open, or to any others.

    This is for connections whose log is another file by now, or whose descriptors were closed by
    the program. A normal close would write a stale log into the database, or into a file of the
    program. Everything that is `tied_to` one of them goes with it, since SQLite keeps the locks of
    a file together.
    """
    files = [file for file in files if file.is_opened()]  # the others are closed normally

    def close() -> None:
        for file in files:
            file.discard_connection()
            open_files.discard(file)

    close_unwritten([one for file in files for one in file.descriptors], close)
