"""core_quality_scores, and what the record says of each capture that is scored: a statement for all partitions of each.

What belongs here: reading, counting and putting in. What does not: what a score is made of (`governance.quality`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from market_spine.domain.operations import EssentialEvent
from market_spine.domain.tiers import ALL_TIERS
from market_spine.store.events import event_id_of
from market_spine.store.ledger import Draft
from market_spine.store.operations_tables import QUALITY_SCORES
from market_spine.store.schema import DELIVERIES, MANIFEST, QUALITY, REJECTS
from market_spine.store.trust_tables import ANOMALIES, EVENTS

Place = tuple[date, str]  # week, tier
Row = dict[str, Any]
M, Q, S, E = MANIFEST.c, QUALITY.c, QUALITY_SCORES.c, EVENTS.c


class Raw(NamedTuple):
    """A current raw capture: what is scored."""

    capture_id: str
    landing_id: str | None
    captured_at: datetime


class Source(NamedTuple):
    """The capture that was made last of a partition, and the business process that made it."""

    stage: str
    capture_id: str
    correlation_id: str


class Checks(NamedTuple):
    """The checks of one category about the current captures of a partition: how many there were, and failed."""

    made: int
    failed: int


def held(connection: sa.Connection, domain: str, weeks: Collection[date] | None = None) -> dict[Place, Row]:
    """(week, tier) -> its score on record."""
    select = _within(sa.select(QUALITY_SCORES).where(S.domain == domain), weeks, S.week_ending)
    return {(row["week_ending"], row["tier"]): dict(row) for row in connection.execute(select).mappings()}


def put(draft: Draft, row: Mapping[str, Any]) -> None:
    """The score as it stands from now on."""
    draft.put(QUALITY_SCORES, row)


def raw(connection: sa.Connection, table_name: str, weeks: Collection[date] | None = None) -> dict[Place, Raw]:
    """(week, tier) -> its current capture of the raw table."""
    select = sa.select(M.week_ending, M.tier, M.capture_id, M.landing_id, M.captured_at)
    rows = connection.execute(_within(select.where(M.is_current == 1, M.table_name == table_name), weeks))
    return {(week, tier): Raw(*known) for week, tier, *known in rows}


def made(
    connection: sa.Connection, tables: Sequence[str], raw_table: str, weeks: Collection[date] | None = None
) -> dict[Place, set[str]]:
    """(week, tier) -> those of ``tables`` whose current capture knows the current one of ``raw_table``.

    A derived capture is as old as its newest input (decision 0001), so one that is older was made from another.
    """
    source = MANIFEST.alias("source")
    same = (source.c.week_ending == M.week_ending) & (source.c.tier == M.tier)
    select = (
        sa.select(M.week_ending, M.tier, M.table_name)
        .join(source, same & (source.c.table_name == raw_table) & (source.c.is_current == 1))
        .where(M.is_current == 1, M.table_name.in_(tables), M.captured_at >= source.c.captured_at)
    )
    found: dict[Place, set[str]] = {}
    for week, tier, name in connection.execute(_within(select, weeks)):
        found.setdefault((week, tier), set()).add(name)
    return found


def newest(connection: sa.Connection, tables: Sequence[str], weeks: Collection[date]) -> dict[Place, Source]:
    """(week, tier) -> the current capture of ``tables`` that was made last; of one moment that of the last table."""
    columns = (M.computed_at, M.table_name, M.week_ending, M.tier, M.stage, M.capture_id, M.correlation_id)
    rows = connection.execute(_within(sa.select(*columns).where(M.is_current == 1, M.table_name.in_(tables)), weeks))
    ordered = sorted(rows, key=lambda row: (row.computed_at, tables.index(row.table_name)))
    return {(week, tier): Source(*known) for _, _, week, tier, *known in ordered}


def checks(
    connection: sa.Connection, domain: str, weeks: Collection[date] | None = None
) -> dict[Place, dict[str, Checks]]:
    """(week, tier) -> category -> its checks. One that ever failed about a current capture counts as failed, unless it
    had to be expected; one that was repeated counts once."""
    is_failed = sa.case(((Q.status == "failed") & (Q.is_expected == 0), 1), else_=0)
    one = _within(
        sa.select(Q.week_ending, Q.tier, Q.category, sa.func.max(is_failed).label("failed"))
        .join(MANIFEST, M.capture_id == Q.capture_id)
        .where(Q.domain == domain, Q.tier != ALL_TIERS, M.is_current == 1)
        .group_by(Q.table_name, Q.week_ending, Q.tier, Q.check_name, Q.category),
        weeks,
    ).subquery()
    place = (one.c.week_ending, one.c.tier, one.c.category)
    counts = sa.select(*place, sa.func.count(), sa.func.sum(one.c.failed)).group_by(*place)
    found: dict[Place, dict[str, Checks]] = {}
    for week, tier, category, *numbers in connection.execute(counts):
        found.setdefault((week, tier), {})[category] = Checks(*map(int, numbers))
    return found


def lines(connection: sa.Connection, domain: str, weeks: Collection[date] | None = None) -> dict[tuple[str, str], int]:
    """(capture, landing id) -> lines of the delivery, for every delivery that became or repeated a capture."""
    d = DELIVERIES.c
    select = sa.select(d.capture_id, d.landing_id, d.line_count).where(d.domain == domain, d.capture_id.is_not(None))
    rows = connection.execute(_within(select, weeks, d.week_ending))
    return {(capture_id, landing_id): count for capture_id, landing_id, count in rows}


def set_aside(connection: sa.Connection, domain: str, weeks: Collection[date] | None = None) -> dict[Place, int]:
    """(week, tier) -> lines that became no row of the current captures; partitions without any are not named."""
    r = REJECTS.c
    is_current = (M.table_name == r.table_name) & (M.week_ending == r.week_ending) & (M.tier == r.tier)
    source = (M.landing_id == r.source_id) | (M.capture_id == r.source_id)
    select = (
        sa.select(r.week_ending, r.tier, sa.func.count())
        .join(MANIFEST, is_current & (M.is_current == 1) & source)
        .where(r.domain == domain, r.scope == "ROW")
        .group_by(r.week_ending, r.tier)
    )
    rows = connection.execute(_within(select, weeks, r.week_ending))
    return {(week, tier): int(count) for week, tier, count in rows}


def open_findings(
    connection: sa.Connection, domain: str, weeks: Collection[date] | None = None
) -> list[tuple[Place, str, str, str]]:
    """(week, tier), category, severity and code of every open anomaly of a tier."""
    a = ANOMALIES.c
    select = sa.select(a.week_ending, a.tier, a.category, a.severity, a.code).where(
        a.domain == domain, a.resolved_at.is_(None), a.tier != ALL_TIERS
    )
    rows = connection.execute(_within(select, weeks, a.week_ending))
    return [((week, tier), category, severity, code) for week, tier, category, severity, code in rows]


def completed(connection: sa.Connection, domain: str) -> set[str]:
    """The ids of the events that told of a week processed to its end."""
    told = EssentialEvent.WEEK_PROCESSING_COMPLETED
    return set(connection.scalars(sa.select(E.event_id).where(E.event_type == told, E.domain == domain)))


def graded(connection: sa.Connection, domain: str, place: Place, capture_id: str) -> str | None:
    """The newest event that told of a grade of a capture."""
    week, tier = place
    of = (E.event_type == EssentialEvent.QUALITY_GRADE_ASSIGNED, E.domain == domain, E.week_ending == week)
    select = sa.select(E.event_id, E.payload_json).where(*of, E.tier == tier).order_by(E.occurred_at.desc())
    rows = connection.execute(select)
    return next((event_id for event_id, payload in rows if f'"{capture_id}"' in payload), None)


def completion_id(capture_id: str) -> str:
    """The id of the event that a capture was processed to its end: there is one at most."""
    return event_id_of(EssentialEvent.WEEK_PROCESSING_COMPLETED, capture_id)


def _within(
    select: sa.Select[Any], weeks: Collection[date] | None, column: sa.ColumnElement[date] = M.week_ending
) -> sa.Select[Any]:
    """``select`` from the first to the last of ``weeks``; others in between are the caller's to leave out."""
    return select.where(column.between(min(weeks), max(weeks))) if weeks else select
