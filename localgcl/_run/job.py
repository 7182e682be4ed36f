"""What `localgcl run` and `localgcl rate-limit` do once their command line is read."""

from __future__ import annotations

from localgcl._base.text import quoted
from localgcl._drivers.flow import HoldingTerms, RateTerms
from localgcl._run.child import ERROR_PATIENCE_SECONDS, Signals, say, start, status_of
from localgcl._run.claim import Claim
from localgcl.errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    LocalGCLError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from localgcl._storage.database import Database

NO_SLOT = 75  # EX_TEMPFAIL of sysexits.h: try again later


class MissingLimitError(LocalGCLError):
    """The limits of a command do not exist; a misspelt name must not run unlimited."""

    _fields = ("names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        super().__init__(
            f"There is no concurrency limit named {quoted(names)}; create it with"
            " `localgcl create NAME --limit N`"
        )


def _wanted(names: list[str], occupy: int, take: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the slots that are wanted of each limit."""
    wanted = dict.fromkeys(names, occupy)
    for name, slots in take:
        if wanted.setdefault(name, slots) != slots:
            raise ValueError(
                f"both {wanted[name]} and {slots} slot(s) are to be taken from {name!r}"
            )
    return wanted


class Job:
    """A command line that was read: which slots, on which terms, and for what.

    `command` is what `run` runs, None for `rate-limit`. Its environment has the numbers of its
    slots of `name`. Missing limits are created with `limit` slots; if it is None, they are an
    error. `no_slot` is the status if there is no slot in time.
    """

    def __init__(
        self,
        name: str,
        *,
        also: Iterable[str] = (),
        take: Iterable[tuple[str, int]] = (),
        occupy: int = 1,
        timeout: float | None = None,
        no_wait: bool = False,
        command: Sequence[str] | None = None,
        limit: int | None = None,
        max_waiting: int | None = None,
        conflict_exit_code: int = NO_SLOT,
        rate_limit: bool = False,
        holder: str | None = None,
        verbose: bool = False,
    ) -> None:
        if no_wait and timeout is not None:
            raise ValueError("--timeout and --no-wait cannot be used together")
        if rate_limit and limit is not None:
            raise ValueError("--limit creates limits without a rate: not with --rate-limit")
        terms = HoldingTerms if command is not None and not rate_limit else RateTerms
        wanted = _wanted([name, *also], occupy, take)
        same = len(set(wanted.values())) == 1
        self.name = name
        self.terms = terms(
            list(wanted) if same else wanted,
            wanted[name] if same else 1,
            0.0 if no_wait else timeout,
            strict=True,
            holder=holder,
            max_waiting=max_waiting,
        )
        self.command = command
        self.limit = limit
        self.no_slot = conflict_exit_code
        self.verbose = verbose

    def do(self, database: Database) -> int:
        """Do it, and return the exit status for the process.

        Interrupted if a signal came before there was anything to pass it to; LocalGCLError.
        """
        command = self.command
        claim = Claim(database, self.terms, shown_as=command or (), verbose=self.verbose)
        with Signals() as signals, claim:
            if not self._obtains(claim):
                return self.no_slot
            if command is None:
                claim.used = True
                return 0
            environment = claim.environment(self.name)
            signals.hold()
            try:
                pid = start(command, signals.mask, claim.descriptor, environment)
            except OSError as error:
                claim.leave()  # before any output, which may take its time
                say(f"Error: cannot run {command[0]!r}: {error.strerror}", ERROR_PATIENCE_SECONDS)
                return status_of(error)
            claim.used = True
            if self.terms.holds:
                claim.show_pid(pid)
            else:
                claim.leave()
            return signals.attend(pid)

    def _obtains(self, claim: Claim) -> bool:
        try:
            claim.obtain(self.limit)
        except AcquireConcurrencySlotTimeoutError as error:
            claim.tell(str(error))
        except ConcurrencySlotAcquisitionError as error:
            if error.reason == "missing":
                raise MissingLimitError(error.names) from None
            if error.reason != "crowded":
                raise
            claim.tell(str(error))
        else:
            return True
        return False
