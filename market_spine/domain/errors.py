"""Every failure a user can meet, as a type that names the thing, the cause and the next command to run.

What belongs here: exception classes. What does not: handling them; each floor lets them travel to a door.
"""

from __future__ import annotations

import re


class SpineError(Exception):
    """A failure with a remedy: ``str(error)`` is the cause, ``error.remedy`` the next command or step."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}\n  next: {self.remedy}"

    def __reduce__(self) -> tuple[type[SpineError], tuple[str, str]]:
        return type(self), (self.cause, self.remedy)


class WeekError(SpineError):
    """A date that is not the Friday that ends a week."""


class CalendarError(SpineError):
    """A calendar vintage or correction that cannot be read, or that says what no trading calendar can."""


class PolicyError(SpineError):
    """A policy file (schedules.yaml, readiness.yaml) that cannot be read, or that says what cannot be meant."""


class TierError(SpineError):
    """A tier spelling that FINRA does not use."""


class PartitionError(SpineError):
    """A partition key, range or selection that names nothing or runs backwards."""


class SourceError(SpineError):
    """A source that could not be read: bad credentials, an outage, an unreadable folder or answer."""


class SourceRefused(SourceError):
    """A source that understood the question and will not answer it: asking again unchanged will not help."""


class ContentError(SpineError):
    """Bytes that are not the file they should be: encoding, header, columns, size."""


class StoreError(SpineError):
    """The store contradicts itself: missing or altered files, an unknown schema, a broken landing."""


class MeanwhileError(StoreError):
    """Another process committed something that was not yet looked at."""


class DamageError(StoreError):
    """What is read is not what was written: torn pages, lost blocks, flipped bits."""


def unwritable(what: object, folder: object, error: Exception) -> StoreError:
    """A write that the disk or its rights refused: ``what`` is the file, ``error`` the system's or DuckDB's own."""
    text = str(error).strip().splitlines()[0]
    # DuckDB: ... Could not write file "...": No space left on device, at the end of the line or within JSON
    said = re.search(r'": ([^":]+)(?:$|","errno")', text)
    why = getattr(error, "strerror", None) or (said[1] if said else text)
    return StoreError(
        f"cannot write {what}: {why}",
        f"free space there (df -h {folder}) or make it writable, then repeat the command",
    )


class MigrationError(StoreError):
    """The control database's schema history is newer than this code, or was altered."""


class CaptureConflict(StoreError):
    """Another process captured the same partition first; the write is repeated on a newer clock reading."""


class ClockError(StoreError):
    """The clock reads earlier than what the store already knows."""


class QueryError(SpineError):
    """A question the store cannot answer: unknown table, bad SQL, an as-of in the wrong form."""


class NotFoundError(QueryError):
    """A thing that is not there under the name that was asked for: a table, week, capture, anomaly, work item."""


class ConflictError(QueryError):
    """What was asked for was done or decided before."""


class AccessError(SpineError):
    """A token that is missing, malformed, unknown, revoked or expired: it is not told which, nor is the token."""


class ScopeError(SpineError):
    """A token that is in force, and whose scope is not enough for what was asked."""


class LimitError(SpineError):
    """More was asked within a time than one holder of a token may ask; ``seconds`` until it may ask again."""

    seconds: int = 1


class FormError(SpineError):
    """A form of answer that there is not: neither JSON, CSV, Parquet nor Arrow."""


class WorkError(SpineError):
    """A work item that is not there, or that cannot go from its state to the one that was asked for."""


class ChannelError(SpineError):
    """A channel that is not there, or over which nothing arrives; never with its address, which may hold a secret."""


class CalculationError(SpineError):
    """A calculation module that does not define exactly one well-formed calculation."""
