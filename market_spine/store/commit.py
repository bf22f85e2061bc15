"""The one way into the control tables: a batch of new rows, decided, journalled and committed under one write lock.

What belongs here: which capture becomes current, its revision number, and what a repeated write means. What does not:
writing Parquet files (`files`), deciding what to compute (`plan`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
import structlog

from market_spine.domain.captures import RevisionPolicy, Stage
from market_spine.domain.errors import CaptureConflict, StoreError
from market_spine.domain.keys import WeekKey
from market_spine.store import journal
from market_spine.store.control import Control
from market_spine.store.events import of_batch
from market_spine.store.home import Home
from market_spine.store.ledger import Run, seal
from market_spine.store.manifest import Capture, by_ids, inputs_of
from market_spine.store.records import refuse_mixture, series_of
from market_spine.store.schema import CAPTURE_INPUTS, DELIVERIES, MANIFEST, QUALITY, REJECTS
from market_spine.store.trust_tables import EVENTS

M = MANIFEST.c


@dataclass(frozen=True, slots=True)
class NewCapture:
    """A capture whose file is written and which waits for its manifest row."""

    capture_id: str
    domain: str
    table_name: str
    stage: Stage
    key: WeekKey
    row_count: int
    content_hash: str
    file_path: str
    file_sha256: str
    file_bytes: int
    captured_at: datetime
    calc_version: str
    inputs: tuple[str, ...]
    inputs_hash: str
    landing_id: str | None = None
    # The capture id that was current when this one was decided on ('' for none); None leaves it unchecked.
    follows: str | None = None
    policy: RevisionPolicy = RevisionPolicy.VERSIONED
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, date, str]:
        return (self.table_name, self.key.week_ending, self.key.tier_text)


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything one step wants to have recorded at once. Rows lack the columns that committing adds."""

    table_name: str
    run: Run
    captures: Sequence[NewCapture] = ()
    deliveries: Sequence[dict[str, Any]] = ()
    rejects: Sequence[dict[str, Any]] = ()
    quality: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """What became of a batch: rows as stored, and captures that the store has no use for, being there already."""

    batch_id: str
    captures: tuple[Capture, ...]
    already_there: tuple[NewCapture, ...]


@dataclass
class _Decision:
    rows: list[dict[str, Any]] = field(default_factory=list)
    already_there: list[NewCapture] = field(default_factory=list)
    unrecorded: set[str] = field(default_factory=set)  # of those, the ones that have no row of the manifest
    superseded: list[str] = field(default_factory=list)
    overwritten: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)
    inputs: dict[str, Capture] = field(default_factory=dict)  # what the batch's captures were made from


def commit(control: Control, home: Home, batch: Batch) -> Committed:
    """Record ``batch`` in one transaction, or raise CaptureConflict and record nothing."""
    batch_id = uuid.uuid4().hex
    with control.write() as connection:
        names = ("domain", "source_kind", "source_name")
        for domain, kind, name in {tuple(row[one] for one in names) for row in batch.deliveries if row["capture_id"]}:
            refuse_mixture(connection, domain, kind, series_of(kind, name), home.root)
        decision = _decide(connection, batch)
        rows = _rows(batch, decision, _new_rejects(connection, batch))
        flags = (decision.superseded, decision.overwritten, decision.revived)
        seal(connection, home, batch.run, batch.table_name, journal.Entry(0, batch_id, rows, *flags))
        stored = by_ids(connection, [row["capture_id"] for row in decision.rows])
    done = Committed(batch_id, tuple(stored.values()), tuple(decision.already_there))
    _log(batch, done)
    return done


def _log(batch: Batch, done: Committed) -> None:
    """One line for the whole commit: a backfill's has hundreds of captures."""
    counts = {"captures": len(done.captures), "already_there": len(done.already_there)}
    counts |= {"rows": sum(one.row_count for one in done.captures), "deliveries": len(batch.deliveries)}
    one = {"capture_id": done.captures[0].capture_id} if len(done.captures) == 1 else {}
    structlog.get_logger().info(
        "committed", table_name=batch.table_name, batch_id=done.batch_id, **counts, **one, **batch.run.names
    )


def _decide(connection: sa.Connection, batch: Batch) -> _Decision:
    decision = _Decision()
    existing = by_ids(connection, [new.capture_id for new in batch.captures])
    places = _places(connection, batch)
    inputs = decision.inputs = by_ids(connection, {one for new in batch.captures for one in new.inputs})
    made_from = inputs_of(connection, [current.capture_id for current, _ in places.values() if current])
    for new in batch.captures:
        current, last_revision = places.get(new.place, (None, 0))
        current_inputs = made_from[current.capture_id] if current else ()
        _check_predecessor(new, current)
        if (same := existing.get(new.capture_id)) is not None:
            _check_same(new, same)
            decision.already_there.append(new)
            if current is not None and not same.is_current and _becomes_current(new, current, inputs, current_inputs):
                # An earlier version of a calculation is in use again: its capture takes its place back.
                decision.superseded.append(current.capture_id)
                decision.revived.append(same.capture_id)
            continue
        if new.stage is Stage.INGESTED and current is not None and new.captured_at <= current.captured_at:
            raise CaptureConflict(
                f"{new.table_name} {new.key} was captured at {current.captured_at} by another process",
                "repeat the command; it takes a newer clock reading",
            )
        becomes_current = _becomes_current(new, current, inputs, current_inputs)
        if not becomes_current and current is not None and new.captured_at == current.captured_at:
            # Made from inputs that were superseded within the same second: it never was the answer at any moment.
            decision.already_there.append(new)
            decision.unrecorded.add(new.capture_id)
            continue
        overwrites = new.policy is RevisionPolicy.OVERWRITE and current is not None and becomes_current
        if becomes_current and current is not None:
            decision.superseded.append(current.capture_id)
            if overwrites:
                decision.overwritten.append(current.capture_id)
        revision = current.revision if overwrites and current else last_revision + 1
        decision.rows.append(_manifest_row(new, batch, revision, becomes_current))
    return decision


def _check_predecessor(new: NewCapture, current: Capture | None) -> None:
    """What was decided against a capture that is no longer current (same content, merge, skip) is decided again."""
    held = current.capture_id if current else ""
    if new.follows is not None and new.follows != held:
        raise CaptureConflict(
            f"{new.table_name} {new.key}: {held} became current meanwhile, by another process",
            "repeat the command; it compares with the new state",
        )


def _check_same(new: NewCapture, same: Capture) -> None:
    if new.content_hash == same.content_hash:
        return
    if new.stage is Stage.INGESTED:
        raise CaptureConflict(
            f"{new.capture_id} exists with other content", "repeat the command; it takes a newer clock reading"
        )
    raise StoreError(
        f"{new.capture_id}: the same inputs and version {new.calc_version} gave other content "
        f"({new.content_hash} instead of {same.content_hash})",
        "the calculation is not deterministic: mend it and raise its version",
    )


def _becomes_current(
    new: NewCapture, current: Capture | None, inputs: dict[str, Capture], current_inputs: tuple[str, ...]
) -> bool:
    """A slow writer that worked on superseded inputs must not replace what newer inputs gave."""
    if current is None:
        return True
    if new.captured_at != current.captured_at:
        return new.captured_at > current.captured_at
    if new.calc_version == current.calc_version and set(new.inputs) < set(current_inputs):
        return False  # a week of the window arrived meanwhile
    return all(inputs[capture_id].is_current for capture_id in new.inputs if capture_id in inputs)


def _places(connection: sa.Connection, batch: Batch) -> dict[tuple[str, date, str], tuple[Capture | None, int]]:
    """Per partition of the batch: the current capture and the highest revision."""
    if not batch.captures:
        return {}
    weeks = [new.key.week_ending for new in batch.captures]
    names = {new.table_name for new in batch.captures}
    bounds = (M.table_name.in_(names), M.week_ending.between(min(weeks), max(weeks)))
    top = sa.select(M.table_name, M.week_ending, M.tier, sa.func.max(M.revision)).where(*bounds)
    top = top.group_by(M.table_name, M.week_ending, M.tier)
    revisions = {(row[0], row[1], row[2]): row[3] for row in connection.execute(top)}
    ids = list(connection.scalars(sa.select(M.capture_id).where(*bounds, M.is_current == 1)))
    current = {(c.table_name, c.week_ending, c.tier): c for c in by_ids(connection, ids).values()}
    return {place: (current.get(place), revision) for place, revision in revisions.items()}


def _manifest_row(new: NewCapture, batch: Batch, revision: int, is_current: bool) -> dict[str, Any]:
    return {
        "capture_id": new.capture_id,
        "domain": new.domain,
        "table_name": new.table_name,
        "stage": new.stage.value,
        "week_ending": new.key.week_ending,
        "tier": new.key.tier_text,
        "partition_key": new.key.partition_key,
        "status": "complete",
        "revision": revision,
        "is_current": int(is_current),
        "row_count": new.row_count,
        "content_hash": new.content_hash,
        "file_path": new.file_path,
        "file_sha256": new.file_sha256,
        "file_bytes": new.file_bytes,
        "captured_at": new.captured_at,
        "computed_at": batch.run.now,
        "calc_version": new.calc_version,
        "inputs_hash": new.inputs_hash,
        "landing_id": new.landing_id,
        "policy": new.policy.value,
        "correlation_id": batch.run.correlation_id,
        "metrics_json": json.dumps(new.metrics, sort_keys=True),
    }


def _new_rejects(connection: sa.Connection, batch: Batch) -> list[dict[str, Any]]:
    """Rejects that are not on record yet: fetching a bad file again adds nothing."""
    sources = {row["source_id"] for row in batch.rejects}
    if not sources:
        return []
    of = ("source_id", "table_name", "week_ending", "tier")
    columns = [REJECTS.c[name] for name in of]
    select = sa.select(*columns).where(REJECTS.c.source_id.in_(sources)).distinct()
    known = {tuple(row) for row in connection.execute(select)}
    return [row for row in batch.rejects if tuple(row[name] for name in of) not in known]


def _rows(batch: Batch, decision: _Decision, rejects: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    new_ids = {row["capture_id"] for row in decision.rows}
    made_from = [
        {"capture_id": new.capture_id, "input_capture_id": capture_id}
        for new in batch.captures
        if new.capture_id in new_ids
        for capture_id in new.inputs
    ]
    return {
        MANIFEST.name: decision.rows,
        CAPTURE_INPUTS.name: made_from,
        DELIVERIES.name: list(batch.deliveries),
        REJECTS.name: [row | {"rejected_at": batch.run.now} for row in rejects],
        QUALITY.name: [
            row | {"checked_at": batch.run.now}
            for row in batch.quality
            if row["capture_id"] not in decision.unrecorded  # findings about what never was an answer
        ],
        EVENTS.name: of_batch(batch.run, batch.deliveries, decision.rows, made_from, decision.inputs),
    }
