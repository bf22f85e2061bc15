"""core_expected_schedules: what is expected when, as the feeds' policies say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from market_spine.store.control import Control
from market_spine.store.declared import replace_rows
from market_spine.store.trust_tables import SCHEDULES


def replace_all(control: Control, rows: Sequence[dict[str, Any]]) -> bool:
    """Make the table say ``rows``; whether anything changed."""
    return replace_rows(control, SCHEDULES, rows)


def read(connection: sa.Connection) -> list[dict[str, Any]]:
    """All schedules, by id."""
    return [dict(row) for row in connection.execute(sa.select(SCHEDULES).order_by(SCHEDULES.c.id)).mappings()]
