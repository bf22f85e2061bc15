"""What is there, partition by partition, in few statements however many weeks: for comparing with what is expected."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import NamedTuple

import sqlalchemy as sa

from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.store.schema import BATCHES, MANIFEST

M = MANIFEST.c


class Known(NamedTuple):
    """A capture, and when its content became known."""

    capture_id: str
    captured_at: datetime


def current(connection: sa.Connection, tables: Collection[str]) -> dict[str, dict[WeekKey, Known]]:
    """The current captures of each of ``tables``, by partition."""
    return _read(connection, tables, M.is_current == 1)


def first(connection: sa.Connection, table_name: str) -> dict[WeekKey, Known]:
    """The first capture of each partition of a table, whatever became of it."""
    return _read(connection, [table_name], M.revision == 1)[table_name]


def begun_at(connection: sa.Connection) -> datetime | None:
    """When the store's first transaction was; None for an empty store."""
    found: datetime | None = connection.scalar(sa.select(BATCHES.c.committed_at).order_by(BATCHES.c.seq).limit(1))
    return found


def _read(
    connection: sa.Connection, tables: Collection[str], bound: sa.ColumnElement[bool]
) -> dict[str, dict[WeekKey, Known]]:
    select = sa.select(M.table_name, M.week_ending, M.tier, M.capture_id, M.captured_at)
    # Overwriting keeps the number, so that a partition can have several first revisions: the earliest is put last.
    select = select.where(bound, M.table_name.in_(tables)).order_by(M.captured_at.desc())
    keys: dict[tuple[date, str], WeekKey] = {}
    found: dict[str, dict[WeekKey, Known]] = {name: {} for name in tables}
    for table_name, week, tier, *known in connection.execute(select):
        if (week, tier) not in keys:
            keys[week, tier] = WeekKey(week, None if tier == ALL_TIERS else Tier(tier))
        found[table_name][keys[week, tier]] = Known(*known)
    return found
