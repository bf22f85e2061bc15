"""core_executions: Dagster's runs that are over, as read and as put in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from market_spine.store.ledger import Draft
from market_spine.store.operations_tables import EXECUTIONS

E = EXECUTIONS.c
Row = dict[str, Any]


def statuses(connection: sa.Connection) -> dict[str, str]:
    """Execution id -> status of every run on record."""
    return {row.execution_id: row.status for row in connection.execute(sa.select(E.execution_id, E.status))}


def put(draft: Draft, row: Mapping[str, Any]) -> None:
    """A run as it ended; one that is on record otherwise (forced to an end, and then ended by itself) is replaced."""
    draft.put(EXECUTIONS, row)


def listed(connection: sa.Connection, **wanted: str | None) -> list[Row]:
    """The runs whose columns have the ``wanted`` values (None: any), the newest first."""
    select = sa.select(EXECUTIONS).where(*(E[name] == value for name, value in wanted.items() if value is not None))
    select = select.order_by(E.ended_at.desc(), E.execution_id)
    return [dict(row) for row in connection.execute(select).mappings()]


def begins_with(connection: sa.Connection, begin: str) -> list[Row]:
    """The runs whose id begins with ``begin``."""
    select = sa.select(EXECUTIONS).where(E.execution_id.startswith(begin, autoescape=True)).order_by(E.execution_id)
    return [dict(row) for row in connection.execute(select).mappings()]
