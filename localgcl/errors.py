"""What can go wrong, as one tree.

::

    LocalGCLError
    ├── ConcurrencySlotAcquisitionError       waiting cannot help, or max_retries are used up
    ├── AcquireConcurrencySlotTimeoutError    not granted in time; also a TimeoutError
    ├── LimitNotFoundError                    no limit of that name; also a LookupError
    ├── LimitAlreadyExistsError               a limit of that name is there already
    ├── DatabaseError                         the file cannot be used
    └── GreenThreadsError                     the program's green threads cannot be used

Each error carries its data as attributes, builds its own message from them and pickles.
"""

from __future__ import annotations

from localgcl._base.text import quoted

TYPE_CHECKING = False  # instead of importing typing, which takes as long as all the rest
if TYPE_CHECKING:
    from typing import ClassVar, Literal

    Refusal = Literal[
        "missing", "over_limit", "no_decay", "template", "own_block", "retries", "crowded"
    ]


class LocalGCLError(Exception):
    """The root of every error that localgcl raises by itself."""

    _fields: ClassVar[tuple[str, ...]] = ()

    def __reduce__(self) -> tuple[type[LocalGCLError], tuple[object, ...]]:
        # __init__ builds the message. So the data is pickled, and not the message.
        return type(self), tuple(getattr(self, field) for field in self._fields)


class ConcurrencySlotAcquisitionError(LocalGCLError):
    """A slot was refused for a reason that waiting does not change, or max_retries are used up.

    `names` are the limits asked for (for missing ones: those that are missing), `occupy` the slots
    asked of each (None if they differ) and `waited_seconds` the time until the refusal. `reason` is
    one of `missing`, `over_limit`, `no_decay`, `template`, `own_block` (which was entered at
    `where`, file and line), `retries` and (of `localgcl run --max-waiting` alone) `crowded`.
    """

    _fields = ("names", "occupy", "waited_seconds", "reason", "where")

    def __init__(
        self,
        names: tuple[str, ...],
        occupy: int | None,
        waited_seconds: float,
        reason: Refusal,
        where: str | None = None,
    ) -> None:
        self.names = names
        self.occupy = occupy
        self.waited_seconds = waited_seconds
        self.reason = reason
        self.where = where
        which = quoted(names)
        database_error = {
            "missing": f"there is no concurrency limit named {which}; create it with"
            " `localgcl create NAME --limit N`, or pass strict=False to go on without it",
            "over_limit": f"{_slots(occupy)} asked for are more than the limit of {which};"
            " ask for fewer, or raise it with `localgcl update NAME --limit N`",
            "no_decay": "only limits with slot decay (a rate) or a window can be used for rate"
            f" limiting, and {which} has neither; set one with `localgcl update NAME --rate R`",
            "template": f"{which} is a template; ask for one of its keys, a name that begins like"
            " it and goes on with something else than the asterisk",
            "own_block": f"it would wait for itself: the slots of {which} come back only at the"
            f" end of the block that was entered at {where}; take all that you need there, or raise"
            " the limit",
            "retries": f"no slot came free within max_retries after {waited_seconds:.3g} second(s);"
            " `localgcl ps` shows who holds it; raise max_retries or pass None to wait",
            "crowded": "no slot is free, and as many as --max-waiting allows wait already;"
            " `localgcl ps` shows them",
        }
        super().__init__(
            f"Unable to acquire concurrency slots on {which}: {database_error[reason]}"
        )


class AcquireConcurrencySlotTimeoutError(LocalGCLError, TimeoutError):
    """The slots were not granted within `timeout_seconds`.

    `names` are the limits asked for, `occupy` the slots asked of each (None if they differ) and
    `waited_seconds` the time actually waited. `retry_after_seconds` says in how many seconds the
    slots are expected, None if only a release can tell.
    """

    _fields = ("names", "occupy", "waited_seconds", "timeout_seconds", "retry_after_seconds")

    def __init__(
        self,
        names: tuple[str, ...],
        occupy: int | None,
        waited_seconds: float,
        timeout_seconds: float,
        retry_after_seconds: float | None = None,
    ) -> None:
        self.names = names
        self.occupy = occupy
        self.waited_seconds = waited_seconds
        self.timeout_seconds = timeout_seconds
        self.retry_after_seconds = retry_after_seconds
        advice = (
            "`localgcl ps` shows who holds them and who waits"
            if retry_after_seconds is None
            else f"they are expected in {retry_after_seconds:.3g} second(s)"
        )
        super().__init__(
            f"Attempt to acquire {_slots(occupy)} of {quoted(names)} timed out after"
            f" {timeout_seconds} second(s); {advice}"
        )


def _slots(occupy: int | None) -> str:
    return "the slots" if occupy is None else f"{occupy} slot(s)"


class LimitNotFoundError(LocalGCLError, LookupError):
    """There is no limit called `name`; it may be a key of the template called `template`."""

    _fields = ("name", "template")

    def __init__(self, name: str, template: str | None = None) -> None:
        self.name = name
        self.template = template
        super().__init__(
            f"There is no concurrency limit named '{name}'; `localgcl ls` shows all"
            if template is None
            else f"'{name}' is a key of the template '{template}', not a limit of its own; change"
            f" the template, or create a limit named '{name}'"
        )


class LimitAlreadyExistsError(LocalGCLError):
    """A limit called `name` is there already."""

    _fields = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"A concurrency limit named '{name}' already exists; change it with `localgcl update`"
        )


class DatabaseError(LocalGCLError):
    """The file at `path` cannot be used.

    It cannot be created, read or written, is not ours, is corrupt or is from a newer release:
    `problem` says what is wrong and what to do next.
    """

    _fields = ("path", "problem")

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"The database {path} cannot be used: {problem}")


class GreenThreadsError(LocalGCLError):
    """`library`, whose green threads have replaced the threads of this program, cannot be used.

    With gevent everything works if it is patched before localgcl is imported.
    """

    _fields = ("library",)

    def __init__(self, library: str) -> None:
        self.library = library
        helps = {
            "gevent": "call gevent.monkey.patch_all(), threads included, before localgcl is"
            " imported: at the very beginning of the program",
            "eventlet": "run it with threads that eventlet has not patched, with gevent, patched"
            " before localgcl is imported, or with asyncio",
        }
        super().__init__(
            f"localgcl cannot work with threads as {library} has patched them in this program;"
            f" {helps.get(library, 'run it without')}"
        )
