"""core_work_items and core_work_log: what was asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from market_spine.domain.captures import Action
from market_spine.domain.work import CATCH_UP, WorkState
from market_spine.store.columns import possible
from market_spine.store.listings import EVERYTHING, bounded
from market_spine.store.operations_tables import WORK_ITEMS, WORK_LOG
from market_spine.store.schema import DELIVERIES

W = WORK_ITEMS.c
Row = dict[str, Any]
OPEN = tuple(state.value for state in WorkState if state.is_open)


def items(
    connection: sa.Connection,
    domain: str | None = None,
    states: Collection[str] = (),
    ids: Collection[int] | None = None,
    week_ending: date | None = None,
    tiers: Collection[str] = (),
    limit: int | None = None,
    offset: int = 0,
) -> list[Row]:
    """Items, in the order in which they are done: by priority, then by the moment that they are desired at."""
    select = sa.select(WORK_ITEMS).order_by(W.priority.desc(), W.desired_at, W.id)
    select = bounded(select, {W.domain: domain, W.week_ending: week_ending}, W.tier, tiers)
    select = select.limit(EVERYTHING if limit is None else limit).offset(offset)
    if states:
        select = select.where(W.state.in_(states))
    if ids is not None:
        select = select.where(W.id.in_(possible(ids)))
    return [dict(row) for row in connection.execute(select).mappings()]


def due(connection: sa.Connection, domain: str, now: datetime) -> list[Row]:
    """Items whose moment has come: pending ones, and waiting ones to be tried again."""
    pending = sa.and_(W.state == WorkState.PENDING, W.desired_at <= now)
    again = sa.and_(W.state == WorkState.RETRY_WAIT, W.next_attempt_at <= now)
    select = sa.select(WORK_ITEMS).where(W.domain == domain, pending | again)
    return [dict(row) for row in connection.execute(select.order_by(W.priority.desc(), W.desired_at, W.id)).mappings()]


def newest(connection: sa.Connection, places: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], Row]:
    """(domain, pipeline, partition_key) -> its item of the newest generation, where it has one."""
    wanted = set(places)
    last = sa.select(W.domain, W.pipeline, W.partition_key, sa.func.max(W.generation).label("generation"))
    last_of = last.where(W.domain.in_({one[0] for one in wanted})).group_by(W.domain, W.pipeline, W.partition_key)
    newest_of = last_of.subquery()
    same = [W[name] == newest_of.c[name] for name in ("domain", "pipeline", "partition_key", "generation")]
    rows = connection.execute(sa.select(WORK_ITEMS).join(newest_of, sa.and_(*same))).mappings()
    found = {(row["domain"], row["pipeline"], row["partition_key"]): dict(row) for row in rows}
    return {place: row for place, row in found.items() if place in wanted}


def failed(connection: sa.Connection, domain: str) -> list[Row]:
    """Items that failed, were not asked for again, and whose partition was not delivered otherwise since then."""
    newer, since = WORK_ITEMS.alias(), DELIVERIES.c
    same = [newer.c[name] == W[name] for name in ("domain", "pipeline", "partition_key")]
    is_asked_again = sa.exists().where(*same, newer.c.generation > W.generation)
    place = [since[name] == W[name] for name in ("domain", "week_ending", "tier")]
    has_come = sa.exists().where(*place, since.action != Action.BLOCKED, since.fetched_at > W.updated_at)
    select = sa.select(WORK_ITEMS).where(W.domain == domain, W.state == WorkState.FAILED, ~is_asked_again, ~has_come)
    return [dict(row) for row in connection.execute(select.order_by(W.id)).mappings()]


def first_in_vain(connection: sa.Connection, domain: str) -> date | None:
    """The first week that was asked for in vain, not as history, and not cancelled; None where none was.

    By the log, not by the state: while the load is tried again, it has failed all the same.
    """
    has_failed = sa.exists().where(WORK_LOG.c.work_item_id == W.id, WORK_LOG.c.error_class.is_not(None))
    is_meant = sa.and_(W.domain == domain, W.priority >= CATCH_UP, W.state != WorkState.CANCELLED)
    select = sa.select(sa.func.min(W.week_ending)).where(is_meant, has_failed)
    found: date | None = connection.scalar(select)
    return found


def lost_claims(connection: sa.Connection, item_id: int) -> int:
    """How often a claim of the item never became a run, since it was last asked for."""
    log = WORK_LOG.c
    begun = sa.select(sa.func.max(log.seq)).where(log.work_item_id == item_id, log.message.like("asked for%"))
    lost = (log.from_state == WorkState.RUNNING, log.to_state == WorkState.PENDING)
    select = sa.select(sa.func.count()).where(log.work_item_id == item_id, *lost, log.seq > begun.scalar_subquery())
    return connection.scalar(select) or 0


def counts(connection: sa.Connection, domain: str) -> dict[str, int]:
    """State -> how many items are in it."""
    select = sa.select(W.state, sa.func.count()).where(W.domain == domain).group_by(W.state)
    return {state: int(count) for state, count in connection.execute(select)}


def weeks_done(connection: sa.Connection, domain: str, since: datetime) -> set[date]:
    """Weeks of which an item was completed after ``since``."""
    is_done = sa.and_(W.domain == domain, W.state == WorkState.COMPLETE, W.completed_at > since)
    return set(connection.scalars(sa.select(W.week_ending).where(is_done).distinct()))


def log_of(connection: sa.Connection, item_id: int) -> list[Row]:
    """What happened to an item, oldest first."""
    select = sa.select(WORK_LOG).where(WORK_LOG.c.work_item_id.in_(possible([item_id]))).order_by(WORK_LOG.c.seq)
    return [dict(row) for row in connection.execute(select).mappings()]
