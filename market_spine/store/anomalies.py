"""core_anomalies and its log, as read and as put in. Deciding what opens and closes is `governance`'s."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from market_spine.domain.trust import AnomalyChange
from market_spine.store.columns import possible
from market_spine.store.ledger import Draft
from market_spine.store.trust_tables import ANOMALIES, ANOMALY_LOG

A = ANOMALIES.c
Row = dict[str, Any]


def open_rows(
    connection: sa.Connection, domain: str | None = None, weeks: tuple[date, date] | None = None
) -> list[Row]:
    """Open anomalies, by id: of one domain, and of weeks from .. to, both included."""
    select = sa.select(ANOMALIES).where(A.resolved_at.is_(None)).order_by(A.id)
    if domain is not None:
        select = select.where(A.domain == domain)
    if weeks is not None:
        select = select.where(A.week_ending.between(*weeks))
    return [dict(row) for row in connection.execute(select).mappings()]


def since(connection: sa.Connection, domain: str, moment: datetime) -> list[Row]:
    """Anomalies of ``domain`` that opened or closed after ``moment``, by id."""
    recent = sa.or_(A.detected_at > moment, A.resolved_at > moment)
    select = sa.select(ANOMALIES).where(A.domain == domain, recent).order_by(A.id)
    return [dict(row) for row in connection.execute(select).mappings()]


def by_id(connection: sa.Connection, anomaly_id: int) -> Row | None:
    """One anomaly, open or not."""
    found = connection.execute(sa.select(ANOMALIES).where(A.id.in_(possible([anomaly_id])))).mappings().first()
    return dict(found) if found else None


def history(connection: sa.Connection, anomaly_id: int) -> list[Row]:
    """Everything that happened to one anomaly, in order."""
    log = ANOMALY_LOG.c
    select = sa.select(ANOMALY_LOG).where(log.anomaly_id.in_(possible([anomaly_id]))).order_by(log.seq)
    return [dict(row) for row in connection.execute(select).mappings()]


def put(draft: Draft, row: Mapping[str, Any], change: AnomalyChange, actor: str, note: str = "") -> None:
    """The anomaly as it stands from now on, and a line of the log."""
    draft.put(ANOMALIES, row)
    entry = {name: row[name] for name in ("severity", "message", "cause_id", "capture_id")}
    number = draft.next_number(ANOMALY_LOG.c.seq)
    who = {"seq": number, "anomaly_id": row["id"], "actor": actor, "changed_at": draft.run.now}
    draft.put(ANOMALY_LOG, entry | who | {"change": change.value, "note": note})


def next_id(draft: Draft) -> int:
    """The number of a new anomaly."""
    return draft.next_number(A.id)
