"""Lists of what is on record, as people and programs page through them: one order and one set of columns for both.

What belongs here: queries that only show. What does not: queries that decide anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import date
from typing import Any

import sqlalchemy as sa

from market_spine.domain.contracts import Severity
from market_spine.store.manifest import COLUMNS, Capture, capture_of
from market_spine.store.schema import MANIFEST
from market_spine.store.trust_tables import ANOMALIES

A, M = ANOMALIES.c, MANIFEST.c
Row = dict[str, Any]
EVERYTHING = 1 << 31
CAPTURE_COLUMNS = (
    *("id", "table", "week_ending", "tier", "revision", "state", "rows", "captured_at", "version", "capture_id"),
)
ANOMALY_COLUMNS = (
    *("id", "severity", "week_ending", "tier", "code", "message", "follows", "state", "resolved_at"),
    *("category", "table_name", "affected_records", "times_seen", "detected_at", "last_seen_at"),
)


SHORT_ID = "left(sha256({}), 8)"  # as `short_id`, in DuckDB


def short_id(capture_id: str) -> str:
    """Eight digits that stand for a capture id on the screen and on the command line."""
    return hashlib.sha256(capture_id.encode()).hexdigest()[:8]


def captures(
    connection: sa.Connection,
    table_name: str | None = None,
    week_ending: date | None = None,
    tiers: Collection[str] = (),
    every: bool = False,
    limit: int = EVERYTHING,
    offset: int = 0,
) -> list[Row]:
    """Captures, the newest week first: the current ones, or every revision; each with `CAPTURE_COLUMNS`."""
    select = sa.select(*COLUMNS).order_by(M.week_ending.desc(), M.tier, M.table_name, M.revision, M.capture_id)
    select = select.where(*([] if every else [M.is_current == 1]))
    select = bounded(select, {M.table_name: table_name, M.week_ending: week_ending}, M.tier, tiers)
    return [capture_row(capture_of(row)) for row in connection.execute(select.limit(limit).offset(offset))]


def capture_row(one: Capture) -> Row:
    """A capture with `CAPTURE_COLUMNS`."""
    shown = (one.table_name, one.week_ending, one.tier, one.revision, one.state, one.row_count, one.captured_at)
    values = (short_id(one.capture_id), *shown, one.calc_version, one.capture_id)
    return dict(zip(CAPTURE_COLUMNS, values, strict=True))


def anomalies(
    connection: sa.Connection,
    week_ending: date | None = None,
    tiers: Collection[str] = (),
    severity: Severity = Severity.INFO,
    with_resolved: bool = False,
    with_linked: bool = True,
    limit: int = EVERYTHING,
    offset: int = 0,
) -> list[Row]:
    """Anomalies of ``severity`` and graver ones: the open ones first, of these the gravest, the newest week first.

    Each with `ANOMALY_COLUMNS`; ``follows`` counts the open ones that only follow from it, which are linked to it.
    """
    effect = ANOMALIES.alias("effect")
    of_it = sa.select(sa.func.count()).where(effect.c.cause_id == A.id, effect.c.resolved_at.is_(None))
    state = sa.case((A.resolved_at.is_(None), "open"), else_="resolved")
    named = (A.id, A.severity, A.week_ending, A.tier, A.code, A.message)
    more = (A.category, A.table_name, A.affected_records, A.times_seen, A.detected_at, A.last_seen_at)
    columns = (*named, of_it.scalar_subquery().label("follows"), state.label("state"), A.resolved_at, *more)
    ranks = {one.value: rank for rank, one in enumerate(reversed(Severity))}
    order = (A.resolved_at.is_not(None), sa.case(ranks, value=A.severity), A.week_ending.desc(), A.tier, A.id)
    grave = list(Severity)[list(Severity).index(severity) :]
    select = sa.select(*columns).where(A.severity.in_([one.value for one in grave])).order_by(*order)
    select = select.where(*([] if with_resolved else [A.resolved_at.is_(None)]))
    select = select.where(*([] if with_linked or with_resolved else [A.cause_id.is_(None)]))
    select = bounded(select, {A.week_ending: week_ending}, A.tier, tiers)
    return [dict(row) for row in connection.execute(select.limit(limit).offset(offset)).mappings()]


def bounded(
    select: sa.Select[Any], values: dict[sa.Column[Any], Any], tier: sa.Column[Any], tiers: Collection[str]
) -> sa.Select[Any]:
    """``select`` where columns have their values, as far as there are any, and ``tier`` is one of ``tiers``."""
    select = select.where(*(column == value for column, value in values.items() if value is not None))
    return select.where(tier.in_(tiers)) if tiers else select
