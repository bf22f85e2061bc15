"""Counting rows that were set aside. What does not belong here: deciding which ones (`checks`, calculations)."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from market_spine.store.schema import REJECTS


def count_by_table(connection: sa.Connection, execution_ids: Collection[str]) -> dict[str, int]:
    """SQL table name -> rows set aside by the runs ``execution_ids``; tables without any are not named."""
    column = REJECTS.c.table_name
    select = sa.select(column, sa.func.count().label("row_count")).group_by(column)
    select = select.where(REJECTS.c.execution_id.in_(execution_ids))
    return {row.table_name: row.row_count for row in connection.execute(select)}
