"""What an argument may be, checked before anything else happens; light, for the hot path."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_NAME_LENGTH = 255
MAX_SLOTS = 2**53 - 1  # the largest whole number that every JSON parser keeps
FORBIDDEN_IN_NAMES = "/%&><"


@functools.lru_cache(maxsize=1024)
def _name_fault(name: str, forbidden_in_it: str = FORBIDDEN_IN_NAMES) -> str | None:
    if not name or name.isspace():
        return "is blank"
    if len(name) > MAX_NAME_LENGTH:
        return f"is longer than {MAX_NAME_LENGTH} characters"
    forbidden = [character for character in forbidden_in_it if character in name]
    if forbidden:
        return f"contains {' '.join(forbidden)}"
    if not name.isprintable():
        import unicodedata

        # Cc are the control characters. Cs are surrogates, halves of characters that no file can
        # hold.
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            return "contains a control character"
    return None


def check_name(name: str) -> str:
    """Return `name` if it is a valid name of a limit, else raise ValueError with the reason."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a limit is a str, not {type(name).__name__}")
    fault = _name_fault(name)
    if fault is not None:
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        raise ValueError(
            f"the limit name {shown!a} {fault}; a name has 1 to {MAX_NAME_LENGTH} characters,"
            f" none of {' '.join(FORBIDDEN_IN_NAMES)}, no control characters, and is not blank"
        )
    return name


def check_asked_name(name: str) -> str:
    """Return `name` if it may be asked for: a key of a template may have any printable character.

    TypeError or ValueError with the reason otherwise.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a limit is a str, not {type(name).__name__}")
    fault = _name_fault(name, "")
    if fault is not None:
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        raise ValueError(
            f"the limit name {shown!a} {fault}; a name has 1 to {MAX_NAME_LENGTH} characters, no"
            " control characters, and is not blank"
        )
    return name


def check_names(
    names: str | Iterable[str] | Mapping[str, int] | None,
) -> tuple[tuple[str, ...], dict[str, int] | None]:
    """Return the names without repeats, and the slots of each if a mapping gives them.

    "", [], {} and None are no names.
    """
    if isinstance(names, str):
        return (check_asked_name(names),) if names else (), None
    if names is None:
        return (), None
    if isinstance(names, Mapping):
        weights = {
            check_asked_name(name): check_whole(f"the weight of {name!r}", slots, 1)
            for name, slots in names.items()
        }
        return tuple(weights), weights or None
    if isinstance(names, bytes) or not isinstance(names, Iterable):
        raise TypeError(
            f"names is a str, a list of str or a mapping of str to int, not {type(names).__name__}"
        )
    return tuple(dict.fromkeys([check_asked_name(name) for name in names])), None


def check_whole(what: str, value: int, lowest: int) -> int:
    """Return `value` if it is a whole number from `lowest` to 2^53 - 1; a bool is not a number."""
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, int)):
        raise TypeError(f"{what} is an int, not {type(value).__name__}")
    if not lowest <= value <= MAX_SLOTS:
        shown = value if abs(value) < 10**30 else "a number of more than 30 digits"
        raise ValueError(f"{what} is a whole number from {lowest} to 2^53 - 1, not {shown}")
    return value


def check_timeout(value: float | None) -> float | None:
    """Return the longest wait in seconds; None and infinity, both for ever, become None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"timeout_seconds is a float or None, not {type(value).__name__}")
    if not value >= 0:
        raise ValueError(f"timeout_seconds is 0 or more, or None for ever, not {value}")
    return None if value >= MAX_SLOTS or math.isinf(value) else value


def check_max_retries(value: int | None) -> int | None:
    """Return the number of further tries; None does not count them."""
    return None if value is None else check_whole("max_retries", value, 0)


def check_holder(holder: Any) -> str | None:
    """Return the text that `ps` shows for a holder: a str, a mapping, or a model.

    A mapping becomes compact JSON, and so does what has `model_dump()`, as pydantic's models do.
    """
    if holder is None:
        return None
    if not isinstance(holder, str) and hasattr(holder, "model_dump"):
        holder = holder.model_dump(mode="json")
    if isinstance(holder, Mapping):
        import json

        try:
            holder = json.dumps(dict(holder), separators=(",", ":"), allow_nan=False)
        except RecursionError:
            raise ValueError("holder is nested too deeply to be written as JSON") from None
    if not isinstance(holder, str):
        raise TypeError(f"holder is a str, a mapping or a model, not {type(holder).__name__}")
    try:
        holder.encode()
    except UnicodeEncodeError:
        raise ValueError("holder contains half a character, which no file can hold") from None
    return holder


def check_lease_id(lease_id: str) -> str:
    """Return a lease's id as the database can hold it; callers may ask for any text."""
    if not isinstance(lease_id, str):
        raise TypeError(f"lease_id is a str, not {type(lease_id).__name__}")
    return lease_id.encode(errors="replace").decode()
