"""core_calc_dependencies: which table is made from which, as the asset graph says; replaced whole, never edited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from market_spine.store.control import Control
from market_spine.store.schema import CALC_DEPENDENCIES


def replace_all(control: Control, rows: Sequence[dict[str, Any]]) -> bool:
    """Make the table say ``rows``; whether anything changed."""
    order = [column.name for column in CALC_DEPENDENCIES.c]
    wanted = sorted(tuple(row[name] for name in order) for row in rows)
    with control.read() as connection:
        if sorted(tuple(row) for row in connection.execute(sa.select(CALC_DEPENDENCIES))) == wanted:
            return False
    with control.write() as connection:
        connection.execute(sa.delete(CALC_DEPENDENCIES))
        if rows:
            connection.execute(sa.insert(CALC_DEPENDENCIES), list(rows))
    return True
