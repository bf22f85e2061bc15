"""States, waits and classes of work items, against the documents' numbers."""

from __future__ import annotations

import pytest

from market_spine.domain.work import MAX_ATTEMPTS, TRANSITIONS, ErrorClass, WorkState, error_class_of, wait_after

TRANSIENT, UNAVAILABLE, NOT_YET = ErrorClass.TRANSIENT, ErrorClass.UNAVAILABLE, ErrorClass.NOT_YET


def test_the_documents_back_off() -> None:
    """Prevents Dagster's own series (60, 180, 420), and three attempts from being read as three retries."""
    assert [wait_after(failures, TRANSIENT).total_seconds() for failures in (1, 2, 3)] == [60, 120, 240]
    assert [wait_after(failures, UNAVAILABLE).total_seconds() for failures in (1, 2, 3, 4)] == [300, 300, 300, 480]
    assert {wait_after(failures, NOT_YET).total_seconds() for failures in (1, 9)} == {1800}
    assert MAX_ATTEMPTS == 3


# From state, and every state that may follow: the diagram of the documents (C-22), written out by hand.
FOLLOWS = {
    "PENDING": "RUNNING CANCELLED",
    "RUNNING": "COMPLETE RETRY_WAIT FAILED CANCELLED PENDING",
    "RETRY_WAIT": "PENDING CANCELLED",
    "FAILED": "PENDING CANCELLED",
    "COMPLETE": "",
    "CANCELLED": "",
}


@pytest.mark.parametrize("state", FOLLOWS)
def test_what_may_follow(state: str) -> None:
    """Prevents a finished item from running again under its old number, and a waiting one from skipping its turn."""
    assert {str(one) for one in TRANSITIONS[WorkState(state)]} == set(FOLLOWS[state].split())


def test_open_states_are_those_with_something_to_come() -> None:
    """Prevents a partition from having two items to be done, or a failed one from blocking the next request."""
    assert {str(state) for state in WorkState if state.is_open} == {"PENDING", "RUNNING", "RETRY_WAIT"}


CLASSES = [
    (["SourceError"], "unavailable"),
    (["DagsterExecutionStepExecutionError", "SourceError", "ConnectError"], "unavailable"),
    (["SourceRefused"], "refused"),
    (["ContentError"], "schema"),
    (["MigrationError"], "schema"),
    (["CalculationError"], "schema"),
    (["CaptureConflict"], "transient"),
    (["ClockError"], "transient"),
    (["StoreError"], "transient"),
    (["OSError"], "transient"),
    ([], "transient"),
]


@pytest.mark.parametrize(("names", "expected"), CLASSES)
def test_a_failure_is_classed_by_what_helps(names: list[str], expected: str) -> None:
    """Prevents an outage from failing for good, and unusable bytes from being fetched again and again."""
    found = error_class_of(names)
    assert found == expected
    assert found.is_retried is (expected not in ("schema", "refused"))
