"""core_calendar_vintages: what each build of the trading calendar says, as put in and as read.

What belongs here: rows and their parsed form. What does not: when a vintage is made (`governance.calendar`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from market_spine.domain.errors import CalendarError
from market_spine.domain.vintages import Vintage
from market_spine.store.columns import possible
from market_spine.store.differences import RESTORE
from market_spine.store.ledger import Draft
from market_spine.store.trust_tables import CALENDAR_VINTAGES

V = CALENDAR_VINTAGES.c


@dataclass(frozen=True, slots=True)
class Recorded:
    """A vintage on record: its number (1, 2, ...), what it says, why it was made, by whom and when (UTC)."""

    number: int
    vintage: Vintage
    reason: str
    actor: str
    built_at: datetime


def newest(connection: sa.Connection) -> Recorded | None:
    """The vintage that holds now; None where none was ever recorded."""
    found = _read(connection, sa.select(CALENDAR_VINTAGES).order_by(V.vintage.desc()).limit(1))
    return found[0] if found else None


def by_number(connection: sa.Connection, number: int) -> Recorded | None:
    """The vintage of that number, or None."""
    found = _read(connection, sa.select(CALENDAR_VINTAGES).where(V.vintage.in_(possible([number]))))
    return found[0] if found else None


def every(connection: sa.Connection) -> list[Recorded]:
    """All vintages, the first one first."""
    return _read(connection, sa.select(CALENDAR_VINTAGES).order_by(V.vintage))


def put(draft: Draft, vintage: Vintage, reason: str, actor: str) -> Recorded:
    """``vintage`` as the one that holds from now on."""
    one = Recorded(draft.next_number(V.vintage), vintage, reason, actor, draft.run.now)
    row: dict[str, Any] = {
        "vintage": one.number,
        "exchange_code": vintage.exchange,
        "library_version": vintage.library_version,
        "content_hash": vintage.content_hash,
        "document": vintage.document(),
        "reason": reason,
        "actor": actor,
        "built_at": one.built_at,
    }
    draft.put(CALENDAR_VINTAGES, row)
    return one


def _read(connection: sa.Connection, select: sa.Select[Any]) -> list[Recorded]:
    return [_recorded(row) for row in connection.execute(select).mappings().all()]


def _recorded(row: Mapping[Any, Any]) -> Recorded:
    vintage = Vintage.from_document(row["document"])
    if vintage.content_hash != row["content_hash"]:
        raise CalendarError(
            f"calendar vintage {row['vintage']} is damaged: its document is not the one of its hash",
            RESTORE,
        )
    return Recorded(row["vintage"], vintage, row["reason"], row["actor"], row["built_at"])
