"""What `apply` does: read the settings in a TOML file, and plan the changes that lead to them.

Pure functions: no database, and of the file only its bytes.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from localgcl._base.rates import (
    EITHER_OR,
    GIVEN_TWICE,
    RATE_FORM,
    duration_text,
    parse_duration,
    parse_rate,
    rate_text,
)
from localgcl.models import Name, Rate, Settings, WholeNumber

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")  # https://toml.io/en/v1.0.0#keys
_MAX_KEY_SHOWN = 60


def _rate(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError(RATE_FORM)  # pydantic explains a ValueError alone
    return parse_rate(value)


def _seconds(value: object) -> object:
    if isinstance(value, str):
        return parse_duration(value)
    return float(value) if type(value) is int else value


class _Table(BaseModel):
    """What a file says of one limit."""

    model_config = ConfigDict(strict=True, extra="forbid")

    limit: WholeNumber | None = None
    slot_decay_per_second: Rate | None = None
    rate: Annotated[float, BeforeValidator(_rate)] | None = None
    window: Annotated[Rate, BeforeValidator(_seconds)] | None = None
    active: bool = True

    @model_validator(mode="after")
    def _agrees(self) -> _Table:
        if self.limit is None and self.rate is None:
            raise ValueError("limit is required, unless there is a rate")
        if self.rate is not None and self.slot_decay_per_second is not None:
            raise ValueError(GIVEN_TWICE)
        if (self.rate or self.slot_decay_per_second) and self.window:
            raise ValueError(EITHER_OR)
        return self

    @property
    def settings(self) -> Settings:
        """The settings that it stands for."""
        return Settings(
            limit=1 if self.limit is None else self.limit,
            slot_decay_per_second=self.rate or self.slot_decay_per_second or 0.0,
            window_seconds=self.window or 0.0,
            active=self.active,
        )


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    limits: dict[Name, _Table] = {}


def settings_of(content: bytes) -> dict[str, Settings]:
    r"""Return what a file asks for, by name; ValueError with the table and the reason.

    >>> settings_of(b"[limits.database]\nlimit = 5")["database"].limit
    5
    """
    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text, as TOML is") from None
    except RecursionError:
        raise ValueError("it is not TOML that can be read: too deeply nested") from None
    except ValueError as error:
        raise ValueError(f"it is not TOML: {error}") from None
    try:
        limits = _File.model_validate(tables).limits
    except ValidationError as error:
        raise ValueError(_explained(error)) from None
    return {name: limits[name].settings for name in sorted(limits)}


def _explained(error: ValidationError) -> str:
    fault = error.errors()[0]
    *tables, key = map(str, fault["loc"])
    if fault["type"] == "value_error":
        reason = str(fault["ctx"]["error"])
        if key != "[key]" and len(tables) < 2:  # of a whole table
            tables = [*tables, key]
    elif fault["type"] == "missing":
        reason = f"{key} is required"
    elif fault["type"] == "extra_forbidden":
        known = ", ".join(_Table.model_fields if tables else _File.model_fields)
        reason = f"the key {_shown(key)} is unknown; known: {known}"
    elif len(tables) < 2:
        tables, reason = [*tables, key], "it has to be a table"
    else:
        reason = f"{key}: {fault['msg'].replace('Input should', 'it should')}"
    table = f"[{'.'.join(map(_shown, tables))}]" if tables else "the top level"
    return f"{table}: {reason}"


def _shown(key: str) -> str:
    key = key_in_toml(key)
    return key if len(key) <= _MAX_KEY_SHOWN else f"{key[:_MAX_KEY_SHOWN]}..."


def key_in_toml(key: str) -> str:
    r"""Return a key as TOML writes it, in quotes if needed.

    >>> print(key_in_toml("database"), key_in_toml('v1.2 "eu"'))
    database "v1.2 \"eu\""
    """
    if _BARE_KEY.fullmatch(key):
        return key
    # JSON escapes quotes, backslashes and control characters as TOML does, except for U+007F.
    return json.dumps(key, ensure_ascii=False).replace("\x7f", "\\u007f")


def in_toml(settings: Mapping[str, Settings]) -> str:
    """Return the file for these settings, in the readable forms where these are exact.

    >>> print(in_toml({"database": Settings(limit=5, slot_decay_per_second=0.5)}))
    [limits.database]
    limit = 5
    rate = "30/min"
    active = true
    <BLANKLINE>
    """
    return "\n".join(
        f"[limits.{key_in_toml(name)}]\n"
        + "".join(f"{key} = {_value(value)}\n" for key, value in _table(one))
        for name, one in sorted(settings.items())
    )


def _table(settings: Settings) -> list[tuple[str, Any]]:
    rule: list[tuple[str, Any]] = []
    decay, window = settings.slot_decay_per_second, settings.window_seconds
    if window:
        text = duration_text(window)
        rule = [("window", text if parse_duration(text) == window else window)]
    elif (rate := rate_text(decay)) is not None and parse_rate(rate) == decay:
        rule = [("rate", rate)]
    else:
        rule = [("slot_decay_per_second", decay)]
    return [("limit", settings.limit), *rule, ("active", settings.active)]


def _value(value: Any) -> str:
    # Numbers, texts and booleans: JSON writes them as TOML does.
    return json.dumps(value)


@dataclass(frozen=True)
class Plan:
    """The changes that lead from the present limits to those of a file, by kind and name.

    `changes` of an updated limit are `(before, after)`. `in_the_way` are limits to be deleted that
    somebody holds or waits for; if there are any, nothing may be done.
    """

    created: dict[str, Settings]
    updated: dict[str, dict[str, tuple[Any, Any]]]
    deleted: tuple[str, ...]
    unchanged: int
    in_the_way: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the plan as people read it, a line for each change."""
        return [
            *(f"+ {name}" for name in self.created),
            *(
                f"~ {name}: "
                + ", ".join(f"{key} {_value(a)} -> {_value(b)}" for key, (a, b) in changes.items())
                for name, changes in self.updated.items()
            ),
            *(f"- {name}" for name in self.deleted),
        ]

    def summary(self, *, dry_run: bool) -> str:
        """Return how many limits each part has."""
        numbers = (len(self.created), len(self.updated), len(self.deleted), self.unchanged)
        words = (
            ("Would create", "update", "delete") if dry_run else ("Created", "updated", "deleted")
        )
        return "{0} {3}, {1} {4}, {2} {5}, unchanged {6}.".format(*words, *numbers)


def plan(
    wanted: Mapping[str, Settings],
    present: Mapping[str, Settings],
    busy: Collection[str],
    *,
    prune: bool,
) -> Plan:
    """Return the changes that lead from the limits that are `present` to those `wanted`.

    With `prune` every other limit is deleted. Those of them that are `busy` prevent the plan.
    """
    updated = {}
    for name in sorted(wanted.keys() & present.keys()):
        before, after = present[name].model_dump(), wanted[name].model_dump()
        changes = {key: (before[key], after[key]) for key in after if before[key] != after[key]}
        if changes:
            updated[name] = changes
    deleted = tuple(sorted(present.keys() - wanted.keys())) if prune else ()
    return Plan(
        created={name: wanted[name] for name in sorted(wanted.keys() - present.keys())},
        updated=updated,
        deleted=deleted,
        unchanged=len(wanted.keys() & present.keys()) - len(updated),
        in_the_way=tuple(name for name in deleted if name in busy),
    )
