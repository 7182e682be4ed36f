"""What a lease of either flavour says of its slots."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from localgcl._engine.request import Granted, Request


def _names_by_key(request: Request, granted: Granted | None) -> dict[int, str]:
    if granted is None:
        return {}
    # What was taken in the common case is of the only name.
    known = request.limits or dict.fromkeys(granted.taken, request.names[0])
    return {key: known[key] for key in granted.taken}


def slots_of(request: Request, granted: Granted | None) -> dict[str, int]:
    """Return the slots that a request was granted, by limit."""
    return {name: request.wanted_of(name) for name in _names_by_key(request, granted).values()}


def key_of(request: Request, granted: Granted | None, name: str | None) -> int:
    """Return the key of the limit that is meant; ValueError if it is not one of the lease's."""
    names = _names_by_key(request, granted)
    keys = [key for key, own in names.items() if name in (None, own)]
    if name is None and len(keys) > 1:
        shown = ", ".join(repr(own) for own in names.values())
        raise ValueError(f"this lease has slots of several limits; name one of {shown}")
    if not keys:
        no_slots(name)
    return keys[0]


def no_slots(name: str | None) -> NoReturn:
    """Raise the ValueError of a lease that has no slots there."""
    raise ValueError(f"this lease has no slots{'' if name is None else f' of {name!r}'}")


def described(request: Request) -> str:
    """Return what was asked for, as it is shown to people."""
    if request.weights is not None:
        return ", ".join(f"{slots} slot(s) of {name}" for name, slots in request.weights.items())
    return f"{request.occupy} slot(s) of {', '.join(request.names) or 'nothing'}"
