"""Control tables that follow the code (dependencies, schedules): replaced whole, never edited, without history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from market_spine.store.control import Control


def replace_rows(control: Control, table: sa.Table, rows: Sequence[dict[str, Any]]) -> bool:
    """Make ``table`` say ``rows``; whether anything changed."""
    wanted = Counter(tuple(row[column.name] for column in table.c) for row in rows)
    with control.read() as connection:
        if Counter(tuple(row) for row in connection.execute(sa.select(table))) == wanted:
            return False
    with control.write() as connection:
        connection.execute(sa.delete(table))
        if rows:
            connection.execute(sa.insert(table), list(rows))
    return True
