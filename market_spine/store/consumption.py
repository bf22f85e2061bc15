"""core_consumption and core_data_versions: who used which version of the data, as read and as put in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from market_spine.domain.captures import View
from market_spine.store.listings import EVERYTHING
from market_spine.store.manifest import IN_LIMIT
from market_spine.store.schema import BATCHES, MANIFEST
from market_spine.store.serving_tables import CONSUMPTION, DATA_VERSIONS

C, V, M = CONSUMPTION.c, DATA_VERSIONS.c, MANIFEST.c
Row = dict[str, Any]

# What a line of which no row can be made fails with; anything else, such as a full disk, is no fault of the line's.
SPOILT = (KeyError, TypeError, ValueError, sa.exc.IntegrityError, sa.exc.DataError)

# Uses of captures that are not the newest of their partition any more; reads alike on SQLite, PostgreSQL and DuckDB.
# Whoever asked for every revision, or compared two, had the newest one before him as well: nobody to be told of it.
# ``superseded_at`` is NULL where an earlier capture came back in its place: no transaction made that one anew.
SUPERSEDED = """
    SELECT c.used_at, c.actor, c.via, c.request, c.table_name AS asked_for, c.version, c.form, c.use_id,
           m.capture_id, m.table_name, m.week_ending, m.tier, m.revision, later.superseded_at,
           CASE WHEN c.used_at < later.superseded_at THEN 1 WHEN later.superseded_at IS NOT NULL THEN 0 END
               AS was_latest
    FROM core_consumption c
    JOIN core_data_versions v ON v.data_version = c.data_version
    JOIN core_manifest m ON m.capture_id = v.capture_id AND m.is_current = 0
    LEFT JOIN (
        SELECT old.capture_id, min(after.committed_at) AS superseded_at
        FROM core_manifest old
        JOIN core_batches before ON before.batch_id = old.batch_id
        JOIN core_manifest new ON new.table_name = old.table_name AND new.week_ending = old.week_ending
             AND new.tier = old.tier
        JOIN core_batches after ON after.batch_id = new.batch_id AND after.seq > before.seq
        WHERE old.is_current = 0 GROUP BY old.capture_id
    ) later ON later.capture_id = m.capture_id
    WHERE c.version <> 'all-revisions'
"""


def present(connection: sa.Connection, column: sa.Column[Any], values: Collection[str]) -> set[str]:
    """Those of ``values`` that ``column`` has."""
    listed, found = sorted(values), set[str]()
    for start in range(0, len(listed), IN_LIMIT):
        found |= set(connection.scalars(sa.select(column).where(column.in_(listed[start : start + IN_LIMIT]))))
    return found


def captures_of(connection: sa.Connection, version: str) -> list[str]:
    """The ids of the captures that a data version names, sorted; none where it is not on record."""
    return sorted(connection.scalars(sa.select(V.capture_id).where(V.data_version == version)))


def uses(
    connection: sa.Connection,
    actor: str | None = None,
    version: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int = EVERYTHING,
    offset: int = 0,
) -> list[Row]:
    """Uses, the newest first."""
    select = sa.select(CONSUMPTION).order_by(C.used_at.desc(), C.use_id).limit(limit).offset(offset)
    bounds = {C.actor: actor, C.data_version: version}
    select = select.where(*(column == value for column, value in bounds.items() if value is not None))
    if since is not None:
        select = select.where(C.used_at >= since)
    if until is not None:
        select = select.where(C.used_at < until)
    return [dict(row) for row in connection.execute(select).mappings()]


def consumers(connection: sa.Connection, capture_ids: Sequence[str], before: datetime) -> list[Row]:
    """Who used any of the captures ``before`` something, most often first: actor, via, uses, first_used_at,
    last_used_at. Without those who asked for every revision, or compared two."""
    versions: set[str] = set()
    for start in range(0, len(capture_ids), IN_LIMIT):
        chunk = capture_ids[start : start + IN_LIMIT]
        versions |= set(connection.scalars(sa.select(V.data_version).where(V.capture_id.in_(chunk)).distinct()))
    found: dict[tuple[str, str], Row] = {}
    listed = sorted(versions)
    counted = (sa.func.count().label("uses"), sa.func.min(C.used_at).label("first_used_at"))
    for start in range(0, len(listed), IN_LIMIT):
        named = C.data_version.in_(listed[start : start + IN_LIMIT])
        select = sa.select(C.actor, C.via, *counted, sa.func.max(C.used_at).label("last_used_at"))
        select = select.where(named, C.version != View.ALL_REVISIONS, C.used_at < before)
        for row in connection.execute(select.group_by(C.actor, C.via)).mappings():
            place = (row["actor"], row["via"])
            found[place] = _joined(found[place], dict(row)) if place in found else dict(row)
    return sorted(found.values(), key=lambda row: (-row["uses"], row["actor"], row["via"]))


def _joined(one: Row, other: Row) -> Row:
    return one | {
        "uses": one["uses"] + other["uses"],
        "first_used_at": min(one["first_used_at"], other["first_used_at"]),
        "last_used_at": max(one["last_used_at"], other["last_used_at"]),
    }


def superseded(connection: sa.Connection, limit: int = EVERYTHING, offset: int = 0) -> list[Row]:
    """Uses of captures that are superseded now, the newest first; the columns of `SUPERSEDED`."""
    text = sa.text(f"SELECT * FROM ({SUPERSEDED}) s ORDER BY used_at DESC, use_id, capture_id LIMIT :most OFFSET :less")
    kinds = {"used_at": C.used_at.type, "superseded_at": BATCHES.c.committed_at.type, "week_ending": M.week_ending.type}
    rows = connection.execute(text.columns(**kinds), {"most": limit, "less": offset}).mappings()
    return [dict(row) for row in rows]
