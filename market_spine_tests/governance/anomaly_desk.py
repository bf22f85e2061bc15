"""Anomalies for tests: a desk at which findings come in, each look a minute after the last one.

What belongs here: making observations, recording them, and reading the tables back. What does not: claims.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.governance.anomalies import Changes, Observation, record, resolve
from market_spine.store.ledger import Run
from market_spine.store.schema import BATCHES
from market_spine.store.store import Store
from market_spine.store.trust_tables import ANOMALIES, ANOMALY_LOG
from market_spine_tests.store.builders import DOMAIN, OTC, RAW, T0, WEEK

T1 = WeekKey(WEEK, Tier.NMS_TIER_1)
WHOLE = WeekKey(WEEK, None)


def weeks_later(number: int, tier: Tier | None = Tier.OTC) -> WeekKey:
    """The partition so many weeks after 2025-11-14."""
    return WeekKey(WEEK + timedelta(weeks=number), tier)


def seen(
    code: str = "UNKNOWN_COLUMNS", key: WeekKey = OTC, severity: Severity = Severity.WARN, **more: Any
) -> Observation:
    """What is wrong with ``key``; everything else can be named."""
    fields: dict[str, Any] = {
        "domain": DOMAIN,
        "pipeline": f"{DOMAIN}.ingest_week",
        "table_name": RAW,
        "stage": Stage.INGESTED,
        "key": key,
        "code": code,
        "severity": severity,
        "category": Category.CONSISTENCY,
        "message": f"{code} in {key}",
    }
    return Observation(**(fields | more))


def holds(code: str = "UNKNOWN_COLUMNS", key: WeekKey = OTC, **more: Any) -> Observation:
    """What is not wrong (any more)."""
    return seen(code, key, is_open=False, **more)


class Desk:
    """A store in which anomalies are recorded; the clock goes a minute on before each look."""

    def __init__(self, store: Store, actor: str = "a check") -> None:
        self.store, self.actor, self.minutes = store, actor, 0

    @property
    def now(self) -> datetime:
        return T0 + timedelta(minutes=self.minutes)

    def _run(self) -> Run:
        self.minutes += 1
        return Run(f"run-{self.minutes}", "business-1", self.now)

    def look(self, *observed: Observation, counts_repeats: bool = True) -> Changes:
        return record(self.store, self._run(), observed, self.actor, counts_repeats)

    def resolve(self, number: int, note: str = "settled", actor: str = "compliance") -> dict[str, Any]:
        return resolve(self.store, self._run(), number, note, actor)

    def rows(self, table: sa.Table = ANOMALIES) -> list[dict[str, Any]]:
        with self.store.control.read() as connection:
            select = sa.select(table).order_by(*table.primary_key)
            return [dict(row) for row in connection.execute(select).mappings()]

    def open(self) -> dict[str, dict[str, Any]]:
        """The open rows by code."""
        return {row["code"]: row for row in self.rows() if row["resolved_at"] is None}

    def log(self, *names: str) -> list[tuple[Any, ...]]:
        """The log in order, as the columns ``names``."""
        return [tuple(row[name] for name in names) for row in self.rows(ANOMALY_LOG)]

    def batches(self) -> int:
        return len(self.rows(BATCHES))


def told(changes: Changes) -> dict[str, list[str]]:
    """The codes of what was opened, changed and resolved."""
    kinds: dict[str, Sequence[dict[str, Any]]] = {
        "opened": changes.opened,
        "changed": changes.changed,
        "resolved": changes.resolved,
    }
    return {word: [row["code"] for row in rows] for word, rows in kinds.items() if rows}
