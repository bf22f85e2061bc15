"""Rows that were set aside, as recorded and counted. Deciding which ones belongs elsewhere (`sources`, `domain`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from market_spine.domain.captures import Stage
from market_spine.domain.keys import WeekKey
from market_spine.store.schema import REJECTS

# What the SQL that finds rejects selects, in this order.
FOUND = ("week_ending", "tier", "part_no", "line_no", "reason_code", "detail", "raw_text", "scope")


def reject_rows(
    found: Iterable[tuple[Any, ...]], sources: Mapping[WeekKey, str], domain: str, table_name: str, stage: Stage
) -> list[dict[str, Any]]:
    """Rows of core_rejects, from rows of `FOUND` and what each partition's rows come from (a landing or capture id)."""
    of_all = {"domain": domain, "table_name": table_name, "stage": stage.value}
    named = (dict(zip(FOUND, row, strict=True)) for row in found)
    return [
        row | of_all | {"source_id": sources[WeekKey.from_string(f"{row['tier']}:{row['week_ending']}")]}
        for row in named
    ]


def count_by_table(connection: sa.Connection, execution_ids: Collection[str]) -> dict[str, int]:
    """SQL table name -> rows set aside by the runs ``execution_ids``; tables without any are not named."""
    column = REJECTS.c.table_name
    select = sa.select(column, sa.func.count().label("row_count")).group_by(column)
    select = select.where(REJECTS.c.execution_id.in_(execution_ids))
    return {row.table_name: row.row_count for row in connection.execute(select)}
