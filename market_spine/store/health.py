"""What a store holds, in a few numbers, as the control tables have it: no folder is walked.

What belongs here: counting. What does not: what is too much or too little (`governance.doctor`).
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from market_spine.store.schema import DELIVERIES, MANIFEST

M = MANIFEST.c


class Usage(NamedTuple):
    """Files, and the bytes that they take."""

    files: int
    bytes: int


class Landed(NamedTuple):
    """Deliveries on record, and how many of them were not the same bytes again."""

    deliveries: int
    contents: int


def usage(connection: sa.Connection, domain: str) -> dict[str, Usage]:
    """SQL table name -> the capture files of ``domain``: every revision, but for those that were overwritten."""
    select = sa.select(M.table_name, sa.func.count(), sa.func.sum(M.file_bytes))
    bound = select.where(M.domain == domain, M.status == "complete").group_by(M.table_name).order_by(M.table_name)
    return {name: Usage(files, int(size)) for name, files, size in connection.execute(bound)}


def landed(connection: sa.Connection, domain: str) -> Landed:
    """What arrived of ``domain``. The control tables have no sizes of landed objects: their sidecars do."""
    d = DELIVERIES.c
    counts = sa.select(sa.func.count(), sa.func.count(d.landing_id.distinct())).where(d.domain == domain)
    return Landed(*connection.execute(counts).one())


def schema_version(connection: sa.Connection) -> str:
    """The newest migration that was applied; '' where none ever was."""
    if not sa.inspect(connection).has_table("core_migrations"):
        return ""
    return connection.scalar(sa.text("SELECT max(migration_id) FROM core_migrations")) or ""
