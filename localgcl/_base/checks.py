"""What an argument may be, checked before anything else happens; light, for the hot path."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping

from localgcl._base.text import in_ascii

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Model(Protocol):
        """A model of pydantic, such as Prefect's `ConcurrencyLeaseHolder`."""

        def model_dump(self) -> dict[str, Any]:
            """Return its fields."""

    Names = str | Mapping[str, int] | Iterable[str] | None
    NamesOfCall = Names | Callable[..., Names]
    HeldBy = str | Mapping[str, Any] | Model | None

MAX_NAME_LENGTH = 255
MAX_SLOTS = 2**53 - 1  # the largest whole number that every JSON parser keeps
FORBIDDEN_IN_NAMES = "/%&><"


@functools.lru_cache(maxsize=1024)
def name_fault(name: str) -> str | None:
    """Return what is wrong with a name that is requested, if anything is."""
    if not name or name.isspace():
        return "is blank"
    if len(name) > MAX_NAME_LENGTH:
        return f"is longer than {MAX_NAME_LENGTH} characters"
    if not name.isprintable():
        import unicodedata

        # Cc are the control characters. Cs are surrogates, halves of characters that no file can
        # hold.
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
            return "contains a control character"
    return None


def _forbidden_in(name: str) -> str | None:
    forbidden = [character for character in FORBIDDEN_IN_NAMES if character in name]
    return f"contains {' '.join(forbidden)}" if forbidden else None


def check_name(name: str) -> str:
    """Return `name` if it is a valid name of a limit, else raise ValueError with the reason."""
    check_requested_name(name)
    fault = _forbidden_in(name)
    if fault is not None:
        raise _bad_name(name, fault, f" none of {' '.join(FORBIDDEN_IN_NAMES)},")
    return name


def check_requested_name(name: str) -> str:
    """Return `name` if it can be requested, else raise ValueError with the reason.

    It may be a key of a template, which may contain what the name of a limit cannot.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a limit is a str, not {type(name).__name__}")
    fault = name_fault(name)
    if fault is not None:
        raise _bad_name(name, fault)
    return name


def _bad_name(name: str, fault: str, rule: str = "") -> ValueError:
    return ValueError(
        f"the limit name {in_ascii(name)} {fault}; a name has 1 to {MAX_NAME_LENGTH} characters,"
        f"{rule} no control characters, and is not blank"
    )


def check_names(names: Iterable[str] | None) -> tuple[str, ...]:
    """Return the requested names as a tuple without repeats; "", [] and None are no names."""
    if isinstance(names, str):
        return (check_requested_name(names),) if names else ()
    if names is None:
        return ()
    if isinstance(names, bytes) or not isinstance(names, Iterable):
        raise TypeError(
            "names is a str, a list of str, or a mapping of str to slots, not"
            f" {type(names).__name__}"
        )
    return tuple(dict.fromkeys([check_requested_name(name) for name in names]))


def check_weights(weights: Mapping[str, int], occupy: int) -> dict[str, int]:
    """Return the slots of each requested name; ValueError with an `occupy` other than 1."""
    if occupy != 1:
        raise ValueError(f"the mapping says how many slots to take: omit occupy, which is {occupy}")
    return {
        check_requested_name(name): check_whole(f"the number of slots of {name!a}", slots, 1)
        for name, slots in weights.items()
    }


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


def check_holder(holder: HeldBy) -> str | None:
    """Return the text that `ps` shows for a holder; a mapping or a model becomes compact JSON."""
    if holder is None:
        return None
    if not isinstance(holder, str):
        holder = _json_of(holder)
    try:
        holder.encode()
    except UnicodeEncodeError:
        raise ValueError("holder contains half a character, which no file can hold") from None
    return holder


def _json_of(holder: Mapping[str, Any] | Model) -> str:
    import json

    dump = getattr(holder, "model_dump", None)
    try:
        if isinstance(holder, Mapping):
            return json.dumps(dict(holder), separators=(",", ":"), allow_nan=False)
        if dump is None or isinstance(holder, type):
            raise TypeError(
                f"holder is a str, a mapping or a model with model_dump(), not"
                f" {type(holder).__name__}"
            )
        try:
            fields = dump(mode="json")
        except TypeError:
            fields = dump()  # it is no model of pydantic
        return json.dumps(fields, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise ValueError("holder is nested too deeply to be written as JSON") from None


def check_lease_id(lease_id: str) -> str:
    """Return a lease's id as the database can hold it; callers may ask for any text."""
    if not isinstance(lease_id, str):
        raise TypeError(f"lease_id is a str, not {type(lease_id).__name__}")
    return lease_id.encode(errors="replace").decode()
