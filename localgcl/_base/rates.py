"""Rates and durations as people write them: "100/min", "1.5h"."""

from __future__ import annotations

import math

from localgcl._base.text import in_ascii

_UNITS = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "m": 60.0,
    "min": 60.0,
    "minute": 60.0,
    "minutes": 60.0,
    "h": 3600.0,
    "hour": 3600.0,
    "hours": 3600.0,
    "d": 86400.0,
    "day": 86400.0,
    "days": 86400.0,
}
_SHOWN = ("s", "min", "h", "day")
_MOST_SHOWN = 9999
_DIGITS = frozenset("0123456789.")
_OF_NUMBERS = _DIGITS | frozenset("e+-")

RATE_FORM = (
    "a rate is a number, a slash, and a unit of time, like 100/min, 5/s or 1/15min (s, min, h, day)"
)
DURATION_FORM = (
    "a time is a number of seconds, or a number with a unit, like 90, 1.5s, 5min, 2h, 1d"
)

GIVEN_TWICE = "rate and slot_decay_per_second say the same: give one of them"
EITHER_OR = "a limit has a rate (slot decay) or a window, not both"


def parse_rate(text: str) -> float:
    """Return the slots per second that a rate such as "100/min" stands for.

    ValueError if it is not a number, a slash and a period, or if it is 0.

    >>> parse_rate("120/min"), parse_rate("1/4s")
    (2.0, 0.25)
    """
    if not isinstance(text, str):
        raise TypeError(f"rate is a str like '100/min', not {type(text).__name__}")
    number, slash, period = text.partition("/")
    slots, seconds = _number(number.strip()), _period(period.strip())
    rate = slots / seconds if slots is not None and seconds else math.nan
    if not slash or not math.isfinite(rate) or rate <= 0:
        raise ValueError(f"{in_ascii(text)} is not a rate; {RATE_FORM}; it is more than 0")
    return rate


def rate_text(per_second: float) -> str | None:
    """Return slots per second as people read them; None without decay.

    >>> rate_text(100 / 60), rate_text(1 / 900), rate_text(0.0)
    ('100/min', '4/h', None)
    """
    if not per_second:
        return None
    for unit in _SHOWN:
        number = _whole(per_second * _UNITS[unit])
        if number is not None:
            return f"{number}/{unit}"
    for unit in _SHOWN:
        number = _whole(1 / (per_second * _UNITS[unit]))
        if number is not None:
            return f"1/{number}{unit}"
    return f"{per_second:.12g}/s"


def parse_duration(text: str) -> float:
    """Return the seconds that a text such as "5min" stands for; a plain number is of seconds.

    ValueError if it is neither.

    >>> parse_duration("90"), parse_duration("1.5h")
    (90.0, 5400.0)
    """
    text = text.strip()
    seconds: float | None
    try:
        seconds = float(text)
    except ValueError:
        seconds = _period(text, needs_number=True)
    if seconds is None or math.isnan(seconds):
        raise ValueError(f"{in_ascii(text)} is not a time; {DURATION_FORM}")
    return seconds


def duration_text(seconds: float) -> str:
    """Return seconds in the largest unit of which they are a whole number.

    >>> duration_text(900.0), duration_text(0.25)
    ('15min', '0.25s')
    """
    for unit in reversed(_SHOWN):
        number = _whole(seconds / _UNITS[unit])
        if number is not None:
            return f"{number}{'d' if unit == 'day' else unit}"
    return f"{seconds:.12g}s"


def _whole(value: float) -> int | None:
    """Return a whole number from 1 to 9999, if it is one but for the last bits."""
    number = round(value) if value <= _MOST_SHOWN + 1 else 0
    near = math.isclose(value, number, rel_tol=1e-12)
    return number if near and 1 <= number <= _MOST_SHOWN else None


def _period(text: str, *, needs_number: bool = False) -> float | None:
    """Return the seconds of an optional number and a unit; None if that is not what it is."""
    digits = len(text) - len(text.lstrip("0123456789."))
    unit = _UNITS.get(text[digits:].strip())
    number = _number(text[:digits]) if digits or needs_number else 1.0
    return None if unit is None or number is None else number * unit


def _number(text: str) -> float | None:
    """Return a number without a sign; it may have an exponent, as Python writes small ones."""
    if not _DIGITS.issuperset(text[:1] or "-") or not _OF_NUMBERS.issuperset(text):
        return None
    try:
        return float(text)
    except ValueError:
        return None
