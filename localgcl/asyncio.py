"""The awaitable flavour: `AsyncLimiter`, `AsyncLease`, `concurrency` and `rate_limit`."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from localgcl import _clock, _limits, _slots
from localgcl._database import NoDatabaseError, Transaction
from localgcl._gate import GateTimeoutError
from localgcl._limits import Action
from localgcl._location import choose
from localgcl._loop import Session, session_of
from localgcl._request import Flow, Terms, Transact, flow
from localgcl._slots import Granted, Request
from localgcl.errors import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    DatabaseError,
)
from localgcl.models import Holder, Limit, Waiter

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

__all__ = [
    "AcquireConcurrencySlotTimeoutError",
    "AsyncLease",
    "AsyncLimiter",
    "ConcurrencySlotAcquisitionError",
    "concurrency",
    "rate_limit",
]
