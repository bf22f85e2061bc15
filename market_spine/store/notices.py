"""core_subscriptions, core_notices and core_notice_receipts, as read and as put in; who is told what is `governance`'s.

Beside them what a notice is drafted from: since when an anomaly is as grave as it is, and which weeks lost or gained
their certificates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from market_spine.domain.operations import NoticeState, ReceiptState
from market_spine.domain.trust import Readiness
from market_spine.store.columns import possible
from market_spine.store.ledger import Draft
from market_spine.store.operations_tables import NOTICE_RECEIPTS, NOTICES, SUBSCRIPTIONS
from market_spine.store.trust_tables import ANOMALIES, ANOMALY_LOG, READINESS, READINESS_LOG

S, N, R = SUBSCRIPTIONS.c, NOTICES.c, NOTICE_RECEIPTS.c
Row = dict[str, Any]


def _rows(connection: sa.Connection, select: sa.Select[Any]) -> list[Row]:
    return [dict(row) for row in connection.execute(select).mappings()]


def subscriptions(connection: sa.Connection, active_only: bool = True) -> list[Row]:
    """Subscriptions, by id."""
    select = sa.select(SUBSCRIPTIONS).order_by(S.id)
    return _rows(connection, select.where(S.is_active == 1) if active_only else select)


def subscription(connection: sa.Connection, name: str) -> Row | None:
    """One subscription, active or not."""
    return next(iter(_rows(connection, sa.select(SUBSCRIPTIONS).where(S.name == name))), None)


def notices(connection: sa.Connection, domain: str | None = None, open_only: bool = True) -> list[Row]:
    """Notices, by id: of one domain, and those that somebody has to look at."""
    select = sa.select(NOTICES).order_by(N.id)
    if domain is not None:
        select = select.where(N.domain == domain)
    if open_only:
        select = select.where(N.state != NoticeState.CLOSED)
    return _rows(connection, select)


def notice(connection: sa.Connection, number: int) -> Row | None:
    """One notice."""
    return next(iter(_rows(connection, sa.select(NOTICES).where(N.id.in_(possible([number]))))), None)


def known(connection: sa.Connection, keys: Collection[str]) -> set[str]:
    """Those of the dedupe ``keys`` under which there is a notice, whatever became of it."""
    return set(connection.scalars(sa.select(N.dedupe_key).where(N.dedupe_key.in_(keys))))


def receipts(connection: sa.Connection, ids: Collection[int] | None = None) -> list[Row]:
    """Receipts with the kind, state and key of their notice and the name of their subscription, by id."""
    about = [N.kind, N.dedupe_key, N.domain, N.severity, N.times_told, N.state.label("notice_state")]
    joined = NOTICE_RECEIPTS.join(NOTICES, N.id == R.notice_id).join(SUBSCRIPTIONS, S.id == R.subscription_id)
    select = sa.select(NOTICE_RECEIPTS, *about, S.name.label("subscription")).select_from(joined).order_by(R.id)
    return _rows(connection, select if ids is None else select.where(R.id.in_(ids)))


def of_open_notices(connection: sa.Connection, domain: str) -> list[Row]:
    """The receipts of the notices of ``domain`` that somebody has to look at, by id."""
    there = sa.select(N.id).where(N.domain == domain, N.state != NoticeState.CLOSED)
    return _rows(connection, sa.select(NOTICE_RECEIPTS).where(R.notice_id.in_(there)).order_by(R.id))


def waiting_for(connection: sa.Connection, subscription_id: int) -> list[Row]:
    """What is on its way to one subscriber, by id."""
    is_waiting = (R.subscription_id == subscription_id, R.state == ReceiptState.PENDING)
    return _rows(connection, sa.select(NOTICE_RECEIPTS).where(*is_waiting).order_by(R.id))


def due(connection: sa.Connection, domain: str, now: datetime) -> list[Row]:
    """What is to be sent of ``domain`` by ``now``, in order, with the kind and severity of its notice."""
    joined = NOTICE_RECEIPTS.join(NOTICES, N.id == R.notice_id)
    select = sa.select(NOTICE_RECEIPTS, N.kind, N.severity, N.dedupe_key).select_from(joined).order_by(R.id)
    is_due = (N.domain == domain, R.state == ReceiptState.PENDING, R.next_attempt_at <= now)
    return _rows(connection, select.where(*is_due))


def snoozed(connection: sa.Connection, domain: str) -> list[Row]:
    """Suppressed receipts that still are the last word on their notice, with its kind and state."""
    joined = NOTICE_RECEIPTS.join(NOTICES, N.id == R.notice_id)
    select = sa.select(NOTICE_RECEIPTS, N.kind, N.state.label("notice_state")).select_from(joined).order_by(R.id)
    last = (N.domain == domain, R.state == ReceiptState.SUPPRESSED, R.telling == N.times_told)
    return _rows(connection, select.where(*last))


def grave_since(connection: sa.Connection, domain: str) -> dict[tuple[int, str], datetime]:
    """(open anomaly, severity) -> when it first had it."""
    log, held = ANOMALY_LOG.c, ANOMALIES.c
    there = sa.select(held.id).where(held.domain == domain, held.resolved_at.is_(None))
    select = sa.select(log.anomaly_id, log.severity, sa.func.min(log.changed_at)).group_by(log.anomaly_id, log.severity)
    found = connection.execute(select.where(log.anomaly_id.in_(there)))
    return {(number, severity): moment for number, severity, moment in found}


def lost(connection: sa.Connection, domain: str) -> list[Row]:
    """Weeks and uses that were certified and are not: with what stands against them, and since when (``lost_at``)."""
    line, verdict = READINESS_LOG.c, READINESS.c
    certified = Readiness.CERTIFIED.value
    fell = (line.domain == domain, line.from_state == certified, line.to_state != certified)
    last = sa.select(line.week_ending, line.ready_for, sa.func.max(line.judged_at).label("lost_at")).where(*fell)
    at = last.group_by(line.week_ending, line.ready_for).subquery()
    same = sa.and_(verdict.week_ending == at.c.week_ending, verdict.ready_for == at.c.ready_for)
    select = sa.select(READINESS, at.c.lost_at).join(at, same).where(verdict.domain == domain, verdict.is_ready == 0)
    return _rows(connection, select.order_by(verdict.week_ending, verdict.ready_for))


def gained(connection: sa.Connection, domain: str, since: datetime) -> list[Row]:
    """The verdicts that certified a week at ``since`` or later."""
    verdict = READINESS.c
    select = sa.select(READINESS).where(verdict.domain == domain, verdict.is_ready == 1, verdict.certified_at >= since)
    return _rows(connection, select.order_by(verdict.week_ending, verdict.ready_for))


def put_subscription(draft: Draft, row: Mapping[str, Any]) -> Row:
    """A subscription as it stands from now on; without an id, a new one."""
    return _put(draft, SUBSCRIPTIONS, row)


def put_notice(draft: Draft, row: Mapping[str, Any]) -> Row:
    """A notice as it stands from now on; without an id, a new one."""
    return _put(draft, NOTICES, row)


def put_receipt(draft: Draft, row: Mapping[str, Any]) -> Row:
    """A receipt as it stands from now on; without an id, a new one. What was joined to it is left out."""
    return _put(draft, NOTICE_RECEIPTS, row)


def _put(draft: Draft, table: sa.Table, row: Mapping[str, Any]) -> Row:
    number = row.get("id") or draft.next_number(table.c.id)
    whole = {column.name: row.get(column.name) for column in table.c if column.name != "batch_id"} | {"id": number}
    draft.put(table, whole)
    return whole
