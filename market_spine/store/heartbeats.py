"""core_heartbeats: when something that repeats was last through, and what it said. No history, and not journalled."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from market_spine.store.control import Control
from market_spine.store.trust_tables import HEARTBEATS

H = HEARTBEATS.c


def beat(control: Control, name: str, now: datetime, detail: str) -> None:
    """``name`` was through at ``now``; ``detail`` says with what."""
    row = {"name": name, "beat_at": now, "detail": detail}
    with control.write() as connection:
        if connection.execute(sa.update(HEARTBEATS).where(H.name == name).values(row)).rowcount == 0:
            connection.execute(sa.insert(HEARTBEATS), row)


def last(connection: sa.Connection, name: str) -> dict[str, Any] | None:
    """The last beat of ``name`` (name, beat_at, detail); None where there was none."""
    found = connection.execute(sa.select(HEARTBEATS).where(H.name == name)).mappings().first()
    return dict(found) if found else None
