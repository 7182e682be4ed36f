"""What the leases of both flavours tell, and the transactions that they need."""

from __future__ import annotations

from localgcl._engine import numbers, release
from localgcl._engine.request import Granted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from localgcl._engine.request import Request
    from localgcl._engine.transaction import Transaction


# What a lease has that was granted inside `localgcl.testing.unlimited()`.
UNLIMITED = Granted(0.0, (), None, [])


class Held:
    """The slots of a lease. Its request is granted until they are released."""

    __slots__ = ("_granted", "_of_block", "_request", "id", "waited_seconds")
    _request: Request
    _granted: Granted | None  # None: it never had slots
    id: str
    waited_seconds: float

    def __repr__(self) -> str:
        slots = ", ".join(f"{slots} slot(s) of {name}" for name, slots in self.slots.items())
        return f"<{type(self).__name__} {self.id} of {slots or 'nothing'}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled: its slots belong to this process; pass its"
            " id, or take slots in the other process"
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The limits asked for, without repeats."""
        return self._request.names

    @property
    def occupy(self) -> int | None:
        """The slots asked of each limit; None if they differ."""
        return self._request.occupy

    @property
    def slots(self) -> dict[str, int]:
        """The slots taken of each limit; missing and inactive names are not in it."""
        return {name: self._request.wanted_of(name) for name in self._keys()}

    def _keys(self) -> dict[str, int]:
        """Return the keys of the limits that slots were taken of, by name."""
        granted, names = self._granted, self._request.names
        if granted is UNLIMITED:
            return dict.fromkeys(names, 0)
        if granted is None or not granted.taken:
            return {}
        if len(names) == 1:
            return {names[0]: granted.taken[0]}
        found = {self._request.limits[key]: key for key in granted.taken}
        return {name: found[name] for name in names if name in found}

    def _release(self, tx: Transaction) -> None:
        if self._granted is not None:
            release.release_granted(tx, self.id, self._request.occupy, self._granted)

    def _place_of(self, name: str | None) -> tuple[int, int, str]:
        """Return where the ledger has the slots of a limit; ValueError if there are none."""
        keys = self._keys()
        if name is None and len(keys) != 1:
            has = ", ".join(keys) or "none"
            raise ValueError(f"a name is required: the limits of this lease are {has}")
        chosen = next(iter(keys)) if name is None else name
        if self._granted is UNLIMITED and chosen in keys:
            return 0, 0, chosen
        owner = None if self._granted is None else self._granted.owner
        if chosen not in keys or owner is None or self._request.granted is None:
            raise self._has_none(chosen)
        return keys[chosen], owner, self.id

    def _has_none(self, name: str | None) -> ValueError:
        return ValueError(f"this lease has no slots of {name or ', '.join(self.names)!r}")

    def _numbers(self, tx: Transaction, place: tuple[int, int, str]) -> list[int]:
        return numbers.assign(tx, *place)
