"""Work items: the states of one asked-for load of one partition, what may follow what, and when it is tried again.

What belongs here: these words and rules, over plain values. What does not: the rows (`store.work`), and what decides on
them (`governance.work`). Dagster is the engine: an item says what was asked for and what became of it, a run does it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum

from market_spine.domain import errors

MAX_ATTEMPTS = 3  # all of them together, the first included: Dagster would say max_retries=2
FIRST_WAIT = timedelta(seconds=60)  # doubled with each failure: 60, 120, 240 s
LOST_CLAIMS = 10  # in a row, each of 5 minutes: whatever keeps them from becoming runs needs a person
SOURCE_FLOOR = timedelta(seconds=300)  # a source that is down is not asked again sooner
POLL = timedelta(minutes=30)  # between two looks for what the source has not published yet

# Priorities, higher first. The documents' are 100 for the current week and 25 for a backfill.
CURRENT, CATCH_UP, BACKFILL, RECHECK = 100, 75, 25, 10


class WorkState(StrEnum):
    """Where an item is; the first three are open, and a partition has at most one open item of a pipeline."""

    PENDING = "PENDING"  # to be claimed, from desired_at on
    RUNNING = "RUNNING"  # claimed; a Dagster run does it, or is about to
    RETRY_WAIT = "RETRY_WAIT"  # failed, or not published yet: tried again from next_attempt_at on
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"  # a person, or the next schedule, has to look
    CANCELLED = "CANCELLED"

    @property
    def is_open(self) -> bool:
        return self in (WorkState.PENDING, WorkState.RUNNING, WorkState.RETRY_WAIT)


class ErrorClass(StrEnum):
    """Why an attempt did not complete its item, by what helps."""

    TRANSIENT = "transient"  # a killed worker, a busy database: try again soon
    UNAVAILABLE = "unavailable"  # the source is down, or answers half: try again, not at once
    NOT_YET = "not_yet"  # the source has not published it: look again until the deadline; costs no attempt
    SCHEMA = "schema"  # what was delivered cannot be used: the same bytes would fail again
    REFUSED = "refused"  # the source refuses the question, e.g. for its credentials: asking again will not help

    @property
    def is_retried(self) -> bool:
        return self not in (ErrorClass.SCHEMA, ErrorClass.REFUSED)


# What may follow each state. A claim that never became a run goes back to PENDING and costs no attempt.
TRANSITIONS: Mapping[WorkState, frozenset[WorkState]] = {
    WorkState.PENDING: frozenset({WorkState.RUNNING, WorkState.CANCELLED}),
    WorkState.RUNNING: frozenset(WorkState) - {WorkState.RUNNING},
    WorkState.RETRY_WAIT: frozenset({WorkState.PENDING, WorkState.CANCELLED}),
    WorkState.FAILED: frozenset({WorkState.PENDING, WorkState.CANCELLED}),
    WorkState.COMPLETE: frozenset(),
    WorkState.CANCELLED: frozenset(),
}


def wait_after(failures: int, error_class: ErrorClass) -> timedelta:
    """How long to wait after so many failures (from 1) before the next attempt."""
    if error_class is ErrorClass.NOT_YET:
        return POLL
    wait = FIRST_WAIT * (1 << (failures - 1))
    return max(wait, SOURCE_FLOOR) if error_class is ErrorClass.UNAVAILABLE else wait


# What a step died of -> what helps. The nearest base class counts; what is no SpineError at all is transient.
CLASSES: Mapping[type[Exception], ErrorClass] = {
    errors.SourceRefused: ErrorClass.REFUSED,
    errors.SourceError: ErrorClass.UNAVAILABLE,
    errors.StoreError: ErrorClass.TRANSIENT,
    errors.MigrationError: ErrorClass.SCHEMA,
    errors.SpineError: ErrorClass.SCHEMA,
}


def error_class_of(names: Iterable[str]) -> ErrorClass:
    """The class of a failure by the names of its exception and of what caused it, as a run's record has them."""
    for name in names:
        kind = getattr(errors, name, None)
        if kind is not None:
            return next(CLASSES[base] for base in kind.__mro__ if base in CLASSES)
    return ErrorClass.TRANSIENT
