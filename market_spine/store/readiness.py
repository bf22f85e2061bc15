"""core_data_readiness and its log, as read and as put in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa

from market_spine.domain.trust import Readiness
from market_spine.store.ledger import Draft
from market_spine.store.schema import MANIFEST
from market_spine.store.trust_tables import ANOMALIES, READINESS, READINESS_LOG

R = READINESS.c
Row = dict[str, Any]


def held(connection: sa.Connection, domain: str, weeks: Collection[date] | None = None) -> dict[tuple[date, str], Row]:
    """(week, use case) -> the verdict on record."""
    select = sa.select(READINESS).where(R.domain == domain)
    if weeks:
        select = select.where(R.week_ending.between(min(weeks), max(weeks)))
    return {(row["week_ending"], row["ready_for"]): dict(row) for row in connection.execute(select).mappings()}


def weeks_captured(connection: sa.Connection, raw: str) -> set[date]:
    """Weeks of which anything was ever delivered."""
    m = MANIFEST.c
    return set(connection.scalars(sa.select(m.week_ending).where(m.table_name == raw, m.is_current == 1).distinct()))


def critical(connection: sa.Connection, domain: str) -> list[Row]:
    """Open CRITICAL anomalies of a domain."""
    a = ANOMALIES.c
    select = sa.select(ANOMALIES).where(a.domain == domain, a.severity == "CRITICAL", a.resolved_at.is_(None))
    return [dict(row) for row in connection.execute(select.order_by(a.id)).mappings()]


def next_id(draft: Draft) -> int:
    """The number of a new verdict."""
    return draft.next_number(R.id)


def put(draft: Draft, row: Mapping[str, Any]) -> None:
    """The verdict as it stands from now on."""
    draft.put(READINESS, row)


def log(draft: Draft, row: Mapping[str, Any]) -> int:
    """A line of the log; its number."""
    seq = draft.next_number(READINESS_LOG.c.seq)
    draft.put(READINESS_LOG, dict(row) | {"seq": seq})
    return seq


def history(connection: sa.Connection, domain: str, week: date, ready_for: str) -> list[Row]:
    """Every verdict on one week and use case, in order."""
    log_of = READINESS_LOG.c
    select = sa.select(READINESS_LOG).where(
        log_of.domain == domain, log_of.week_ending == week, log_of.ready_for == ready_for
    )
    return [dict(row) for row in connection.execute(select.order_by(log_of.seq)).mappings()]


def logged_after(connection: sa.Connection, domain: str, seq: int) -> list[Row]:
    """The lines of the log after number ``seq``: seq, week_ending and execution_id, in order."""
    line = READINESS_LOG.c
    select = sa.select(line.seq, line.week_ending, line.execution_id).where(line.domain == domain, line.seq > seq)
    return [dict(row) for row in connection.execute(select.order_by(line.seq)).mappings()]


def lost_in(connection: sa.Connection, domain: str, execution_ids: Collection[str]) -> list[Row]:
    """The lines of the log by which those runs took a week out of certification: domain, week_ending, ready_for."""
    line = READINESS_LOG.c
    select = sa.select(line.domain, line.week_ending, line.ready_for).where(
        line.domain == domain,
        line.execution_id.in_(list(execution_ids)),
        line.from_state == Readiness.CERTIFIED.value,
        line.to_state != Readiness.CERTIFIED.value,
    )
    return [dict(row) for row in connection.execute(select.order_by(line.seq)).mappings()]
