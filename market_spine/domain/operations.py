"""The words of operations: the essential events, grades of quality, and what becomes of a notice.

What belongs here: closed sets of words that the control tables hold to. What does not: work items (`work`), the words
of trust (`trust`), and whatever decides with these words (`governance`).
"""

from __future__ import annotations

from enum import StrEnum


class EssentialEvent(StrEnum):
    """What core_events tells of the way of the data, each caused by the one before; the rest is in Dagster's log."""

    FILE_DOWNLOADED = "FILE_DOWNLOADED"
    RAW_RECORDS_INGESTED = "RAW_RECORDS_INGESTED"
    CALCULATION_COMPLETED = "CALCULATION_COMPLETED"
    QUALITY_GRADE_ASSIGNED = "QUALITY_GRADE_ASSIGNED"
    WEEK_PROCESSING_COMPLETED = "WEEK_PROCESSING_COMPLETED"


class Ended(StrEnum):
    """How a run of Dagster's can end."""

    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELED = "CANCELED"


class Lane(StrEnum):
    """What a run waits behind."""

    NORMAL = "NORMAL"
    BACKFILL = "BACKFILL"  # until nothing of the other lane waits


class Trigger(StrEnum):
    """What started a run."""

    SCHEDULE = "schedule"
    SENSOR = "sensor"
    BACKFILL = "backfill"  # one of Dagster's own, over many partitions
    COMMAND = "command"
    UI = "ui"


class Grade(StrEnum):
    """The quality of a week and tier; `least` of each is in `governance.quality`."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    F = "F"


class NoticeKind(StrEnum):
    """What a notice is about."""

    ANOMALY = "ANOMALY"
    RESTATEMENT = "RESTATEMENT"
    READINESS = "READINESS"
    WORK = "WORK"
    CHANNEL = "CHANNEL"  # a channel over which notices do not arrive
    DIGEST = "DIGEST"


class NoticeEvent(StrEnum):
    """What one telling of a notice says."""

    OPENED = "opened"
    RAISED = "raised"  # graver than what was told before
    CLOSED = "closed"
    TOLD = "told"  # it asks for nothing: a digest, a week that is ready


class Mode(StrEnum):
    """When a subscriber is told."""

    IMMEDIATE = "immediate"
    DIGEST = "digest"  # once a day, all together


class NoticeState(StrEnum):
    """Whether somebody has to look at a notice."""

    OPEN = "OPEN"
    ACKNOWLEDGED = "ACKNOWLEDGED"  # somebody has, and said so
    CLOSED = "CLOSED"  # what it told no longer holds


class ReceiptState(StrEnum):
    """What became of one notice on its way to one subscriber."""

    PENDING = "PENDING"  # to be sent, or to be sent again from next_attempt_at on
    SENT = "SENT"
    FAILED = "FAILED"  # every attempt failed
    SUPPRESSED = "SUPPRESSED"  # snoozed, or overtaken before it was sent
