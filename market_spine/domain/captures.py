"""Captures: one immutable version of one table's one partition, and the words for asking about versions.

``captured_at`` is when the content became *known*: for a raw capture the moment its bytes were fetched, for a derived
one the newest ``captured_at`` of its inputs. It is therefore a function of what was landed, and an as-of answer equals
a recomputation from what had been landed by then. When a row was calculated stands beside it as ``computed_at``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum

from market_spine.domain.errors import QueryError
from market_spine.domain.keys import WeekKey

STAMP = "%Y%m%dT%H%M%SZ"  # capture ids carry whole seconds, UTC


class Stage(StrEnum):
    """How far a partition has come; each stage needs the one before."""

    INGESTED = "INGESTED"
    NORMALIZED = "NORMALIZED"
    AGGREGATED = "AGGREGATED"
    ROLLING = "ROLLING"


# The documents' pipeline that makes the tables of a stage.
VERBS = {
    Stage.INGESTED: "ingest_week",
    Stage.NORMALIZED: "normalize_week",
    Stage.AGGREGATED: "aggregate_week",
    Stage.ROLLING: "compute_rolling",
}


class RevisionPolicy(StrEnum):
    """What ingesting does when the week is already there."""

    VERSIONED = "versioned"  # a new capture if the content differs (default)
    OVERWRITE = "overwrite"  # as VERSIONED, but the capture that it replaces leaves the history
    SKIP = "skip"  # keep what is there, whatever arrives
    MERGE = "merge"  # keep every existing row, add rows with new keys


class Action(StrEnum):
    """What ingesting a delivery did."""

    INSERTED = "inserted"
    UPDATED = "updated"
    SKIPPED = "skipped"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class IngestionResult:
    """What ingesting one partition did. ``revision`` counts from 1; ``previous_revision`` is what it followed."""

    week_key: WeekKey
    record_count: int
    revision: int
    action: Action
    previous_revision: int | None
    reason: str = ""


class View(StrEnum):
    """Which version of each partition a question is about (ALFRED's vocabulary)."""

    LATEST = "latest"
    AS_OF = "as-of"
    FIRST_RELEASE = "first-release"
    ALL_REVISIONS = "all-revisions"


def whole_second(moment: datetime) -> datetime:
    """``moment`` in UTC without its fraction: the resolution of capture ids."""
    if moment.tzinfo is None:
        raise QueryError(f"{moment} has no time zone", "write the moment with an offset, e.g. 2025-12-15T15:00:00Z")
    return moment.astimezone(UTC).replace(microsecond=0)


def capture_id(domain: str, key: WeekKey, captured_at: datetime, table: str = "raw", version: str = "") -> str:
    """``{domain}:{tier}:{week_ending}:{stamp}`` for raw; derived tables add ``.{table}@{version}`` to the domain."""
    name = domain if table == "raw" else f"{domain}.{table}@{version}"
    return f"{name}:{key.tier_text}:{key.week_ending}:{whole_second(captured_at):{STAMP}}"


def as_of_instant(text: str) -> datetime:
    """An as-of argument as a UTC instant: a date means the end of that day in UTC, a naive time is refused."""
    try:
        if len(text) == 10:
            return datetime.combine(date.fromisoformat(text), datetime.max.time(), UTC)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise QueryError(
            f"{text!r} is not a date or time", "write --as-of 2025-12-15 or 2025-12-15T15:00:00Z"
        ) from error
    if moment.tzinfo is None:
        raise QueryError(f"{text!r} has no time zone", f"write --as-of {moment.isoformat()}Z  # or with an offset")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise QueryError(f"{text!r} is before or after all that a calendar has", "write a moment in UTC") from error
