"""core_events as put in: what happened, and which event led to it.

What belongs here: the form of an event, its id, and the events of a commit: a delivery that landed, a capture that was
made. What does not: verdicts and grades (`governance` puts them in with `event_row`), and whatever Dagster's own log
says already: that something was begun, found or parsed is nobody's business afterwards (decision 0022).

An id follows from type and subject, so that a cause is named without looking it up.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from market_spine.domain.captures import Stage
from market_spine.domain.keys import WeekKey
from market_spine.domain.operations import EssentialEvent
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.store.ledger import Run
from market_spine.store.manifest import Capture

Row = dict[str, Any]

# From an event (depth 0) back to the first one that led to it; reads alike on SQLite, PostgreSQL and DuckDB.
CHAIN = """WITH RECURSIVE chain AS (
        SELECT 0 AS depth, e.* FROM core_events e WHERE e.event_id = {event_id}
        UNION ALL
        SELECT chain.depth + 1 AS depth, e.* FROM core_events e JOIN chain ON e.event_id = chain.causation_id)
    SELECT * FROM chain ORDER BY depth"""


def event_id_of(event_type: str, subject: str) -> str:
    """The id of the one event of ``event_type`` about ``subject``: 32 hex digits."""
    return hashlib.sha256(f"{event_type}|{subject}".encode()).hexdigest()[:32]


def event_row(  # noqa: PLR0913, PLR0917 - one argument a column
    event_type: str,
    domain: str,
    key: WeekKey,
    subject: str,
    message: str,
    payload: Mapping[str, Any],
    causation_id: str | None,
    occurred_at: datetime,
    correlation_id: str,
) -> Row:
    """A row of core_events without its execution and batch, which ``ledger.seal`` adds.

    ``subject`` is what makes the event the only one of its type, e.g. a capture id.
    """
    return {
        "event_id": event_id_of(event_type, subject),
        "event_type": str(event_type),
        "domain": domain,
        "week_ending": key.week_ending,
        "tier": key.tier_text,
        "message": message,
        "payload_json": json.dumps(dict(payload), sort_keys=True),
        "correlation_id": correlation_id,
        "causation_id": causation_id,
        "occurred_at": occurred_at,
    }


def capture_event_id(stage: str, capture_id: str) -> str:
    """The id of the event that told of a capture of ``stage``."""
    is_raw = stage == Stage.INGESTED
    told = EssentialEvent.RAW_RECORDS_INGESTED if is_raw else EssentialEvent.CALCULATION_COMPLETED
    return event_id_of(told, capture_id)


def of_batch(
    run: Run,
    deliveries: Sequence[Row],
    manifest: Sequence[Row],
    made_from: Sequence[Row],
    inputs: Mapping[str, Capture],
) -> list[Row]:
    """The events of one commit, causes first: rows of core_deliveries, of core_manifest, and of core_capture_inputs.

    A raw capture is caused by the delivery that became it, a derived one by its newest input.
    """
    arrived = {row["capture_id"]: row["delivery_id"] for row in deliveries}
    sources: dict[str, list[Capture]] = {}
    for row in made_from:
        if row["input_capture_id"] in inputs:
            sources.setdefault(row["capture_id"], []).append(inputs[row["input_capture_id"]])
    told = [_downloaded(run, row) for row in deliveries]
    for row in manifest:
        if row["stage"] == Stage.INGESTED:
            delivery = arrived.get(row["capture_id"])
            cause = event_id_of(EssentialEvent.FILE_DOWNLOADED, delivery) if delivery else None
            told.append(_captured(run, row, EssentialEvent.RAW_RECORDS_INGESTED, cause, landing_id=row["landing_id"]))
        else:
            cause = _newest(row, sources.get(row["capture_id"], ()))
            told.append(_captured(run, row, EssentialEvent.CALCULATION_COMPLETED, cause))
    return told


def _newest(row: Row, sources: Sequence[Capture]) -> str | None:
    """The event of the newest of ``sources``; of those of one moment the feed's own, of the capture's own week."""

    def rank(one: Capture) -> tuple[datetime, bool, bool, str]:
        is_own_week = one.week_ending == row["week_ending"]
        return (one.captured_at, one.domain == row["domain"], is_own_week, one.capture_id)

    newest = max(sources, key=rank, default=None)
    return capture_event_id(newest.stage, newest.capture_id) if newest else None


def _downloaded(run: Run, row: Row) -> Row:
    message = f"{row['line_count']} lines from {row['source_name']}: {row['action']}"
    names = ("delivery_id", "landing_id", "source_kind", "line_count", "action", "capture_id")
    payload = {name: row[name] for name in names} | {"fetched_at": row["fetched_at"].isoformat()}
    about = (EssentialEvent.FILE_DOWNLOADED, row["domain"], _key(row), row["delivery_id"], message)
    return event_row(*about, payload, None, run.now, run.correlation_id)


def _captured(run: Run, row: Row, event_type: str, cause: str | None, **more: Any) -> Row:
    message = f"{row['table_name']} revision {row['revision']}: {row['row_count']} rows"
    names = ("capture_id", "table_name", "revision", "row_count", "content_hash", "calc_version")
    about = (event_type, row["domain"], _key(row), row["capture_id"], message)
    return event_row(*about, {name: row[name] for name in names} | more, cause, run.now, run.correlation_id)


def _key(row: Row) -> WeekKey:
    return WeekKey(row["week_ending"], None if row["tier"] == ALL_TIERS else Tier(row["tier"]))
