"""The errors: one tree, with data and messages that survive a trip to another process."""

from __future__ import annotations

import copy
import pickle

import pytest

import localgcl
from localgcl import (
    AcquireConcurrencySlotTimeoutError,
    ConcurrencySlotAcquisitionError,
    DatabaseError,
    LimitAlreadyExistsError,
    LimitNotFoundError,
    LocalGCLError,
)

ERRORS: list[LocalGCLError] = [
    ConcurrencySlotAcquisitionError(("a", "b"), 1, 0.0, "missing"),
    ConcurrencySlotAcquisitionError(("a",), 9, 0.0, "over_limit"),
    ConcurrencySlotAcquisitionError(("a",), 2, 0.0, "no_decay"),
    ConcurrencySlotAcquisitionError(("a", "b"), 3, 6.5, "retries"),
    ConcurrencySlotAcquisitionError(("a",), 1, 0.0, "template"),
    ConcurrencySlotAcquisitionError(("a",), None, 0.0, "own_block", "/srv/report.py:12"),
    ConcurrencySlotAcquisitionError(("a",), 1, 0.0, "missing", "/srv/limits.db"),
    AcquireConcurrencySlotTimeoutError(("a", "b"), 2, 0.51, 0.5),
    AcquireConcurrencySlotTimeoutError(("a", "b"), None, 0.51, 0.5, 2.25),
    LimitNotFoundError("a"),
    LimitAlreadyExistsError("a"),
    DatabaseError("/var/lib/limits.db", "it is corrupt; restore a backup"),
]
error_of_each_kind = pytest.mark.parametrize("error", ERRORS, ids=lambda one: type(one).__name__)


@error_of_each_kind
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_pickle(error: LocalGCLError, protocol: int) -> None:
    """What a worker process raises arrives in its parent with data and message."""
    assert_same(pickle.loads(pickle.dumps(error, protocol)), error)  # noqa: S301


@error_of_each_kind
def test_errors_can_be_copied(error: LocalGCLError) -> None:
    """A copy has the data and the message, as tools that collect errors make one."""
    assert_same(copy.copy(error), error)
    assert_same(copy.deepcopy(error), error)


def assert_same(one: object, other: LocalGCLError) -> None:
    """Check that two errors tell the same."""
    assert type(one) is type(other)
    assert vars(one) == vars(other)
    assert vars(other)
    assert str(one) == str(other)


@error_of_each_kind
def test_errors_are_public(error: LocalGCLError) -> None:
    """Users import each error from `localgcl` itself, and catch all of them by their root."""
    assert isinstance(error, LocalGCLError)
    assert getattr(localgcl, type(error).__name__) is type(error)


def test_tree() -> None:
    """Users catch by what they know: TimeoutError and LookupError."""
    assert issubclass(LocalGCLError, Exception)
    assert issubclass(AcquireConcurrencySlotTimeoutError, TimeoutError)
    assert issubclass(LimitNotFoundError, LookupError)
    assert not issubclass(ConcurrencySlotAcquisitionError, TimeoutError)
    assert not issubclass(AcquireConcurrencySlotTimeoutError, ConcurrencySlotAcquisitionError)
    assert not issubclass(DatabaseError, OSError)


def test_acquisition_errors_carry_their_data() -> None:
    """The two errors of acquisition say what was asked for and how long it was waited."""
    refused = ConcurrencySlotAcquisitionError(("a", "b"), 3, 6.5, "retries")
    late = AcquireConcurrencySlotTimeoutError(("a", "b"), 2, 0.51, 0.5)
    assert (refused.names, refused.occupy, refused.waited_seconds) == (("a", "b"), 3, 6.5)
    assert (late.names, late.occupy, late.waited_seconds) == (("a", "b"), 2, 0.51)


def test_errors_about_a_limit_and_about_the_file_carry_their_data() -> None:
    """The errors about a limit have its name, the one about the file its path."""
    assert LimitNotFoundError("a").name == "a"
    assert LimitAlreadyExistsError("a").name == "a"
    assert DatabaseError("/x.db", "it is corrupt").path == "/x.db"


def test_message_of_a_timeout() -> None:
    """The message of a timeout says how long was asked for, as Prefect's does."""
    assert "timed out after 0.5 second(s)" in str(
        AcquireConcurrencySlotTimeoutError(("a",), 1, 0.52, 0.5)
    )


def test_a_timeout_says_when_a_slot_is_expected() -> None:
    """Where time alone decides, the message says when, and otherwise who can tell more."""
    by_time = AcquireConcurrencySlotTimeoutError(("a",), 1, 0.5, 0.5, 2.25)
    assert by_time.retry_after_seconds == 2.25
    assert "2.25 second(s)" in str(by_time)
    assert "localgcl ps" not in str(by_time)
    by_release = AcquireConcurrencySlotTimeoutError(("a",), 1, 0.5, 0.5)
    assert by_release.retry_after_seconds is None
    assert "localgcl ps" in str(by_release)


def test_message_of_waiting_for_oneself() -> None:
    """It names the limit and the place of the outer block, or `localgcl run`."""
    own = ConcurrencySlotAcquisitionError(("a",), 1, 0.0, "own_block", "/srv/report.py:12")
    assert own.where == "/srv/report.py:12"
    assert "/srv/report.py:12" in str(own)
    under_run = ConcurrencySlotAcquisitionError(("a",), 1, 0.0, "own_block", "localgcl run")
    assert "`localgcl run`" in str(under_run)


@error_of_each_kind
def test_messages_are_one_line_that_says_what_to_do_next(error: LocalGCLError) -> None:
    """A message names what it is about and a next step."""
    message = str(error)
    assert "\n" not in message
    data = vars(error)
    subjects = data["names"] if "names" in data else [data.get("name") or data["path"]]
    assert all(subject in message for subject in subjects)
    assert ";" in message  # what is wrong; what to do


def test_messages_of_missing_limits_name_them_all() -> None:
    """Whoever misspelt two names reads of both."""
    message = str(ConcurrencySlotAcquisitionError(("databse", "apo"), 1, 0.0, "missing"))
    assert "'databse'" in message
    assert "'apo'" in message
