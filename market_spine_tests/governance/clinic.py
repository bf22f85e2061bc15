"""A store that a doctor looks at: partitions arrive, tables are made, weeks are certified, all at moments that a test
names, and no file is written.

What belongs here: bringing a store into a state. What does not: what a look should say of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Calculation, Category, Severity, Table
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC as FEED
from market_spine.governance.anomalies import Observation, record
from market_spine.governance.criteria import Tables
from market_spine.governance.diagnosis import Diagnosis
from market_spine.governance.doctor import examine
from market_spine.governance.policy import Schedule, load_schedules, load_use_cases
from market_spine.governance.readiness import Scope
from market_spine.governance.staleness import Derived
from market_spine.store import heartbeats
from market_spine.store.columns import METADATA
from market_spine.store.commit import commit
from market_spine.store.ledger import Run
from market_spine.store.plan import Input, plan
from market_spine.store.store import Store
from market_spine.store.trust_tables import CERTIFICATES, READINESS
from market_spine_tests.store.builders import SALES, T0, batch, raw

WEEKLY, *_ = load_schedules(FEED)
RAW = Input("raw", "otc_raw", True)
T1, T2, OTC = Tier


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def keys(*texts: str) -> list[WeekKey]:
    """``OTC:2025-11-28``, or a week of all three tiers."""
    found: list[WeekKey] = []
    for text in texts:
        whole = [WeekKey(date.fromisoformat(text), tier) for tier in Tier] if ":" not in text else []
        found += whole or [WeekKey.from_string(text)]
    return found


def _derived(name: str, stage: Stage, inputs: tuple[Input, ...], **more: Any) -> Derived:
    table: Table = replace(SALES, name=name, stage=stage, **more)
    return Derived(f"otc_{name}", Calculation(table, "1.0", tuple(one.name for one in inputs), "SELECT 1"), inputs)


VOLUME = _derived("venue_volume", Stage.NORMALIZED, (RAW,))
SHARE = _derived("venue_share", Stage.AGGREGATED, (Input("venue_volume", "otc_venue_volume", True),))
SPLIT = _derived("tier_split", Stage.AGGREGATED, (Input("venue_volume", "otc_venue_volume", True),), by_tier=False)
DERIVED = (VOLUME, SHARE, SPLIT)
TABLES = {"otc_raw": FEED.raw, **{one.table_name: one.calculation.table for one in DERIVED}}
BY_STAGE = {
    Stage.INGESTED: {"otc_raw": True},
    Stage.NORMALIZED: {"otc_venue_volume": True},
    Stage.AGGREGATED: {"otc_venue_share": True, "otc_tier_split": False},
    Stage.ROLLING: {},
}
SCOPE = Scope(
    Tables(FEED.domain, FEED.tiers, "otc_raw", BY_STAGE), DERIVED, load_use_cases(FEED), ("otc_venue_share", SALES)
)


@dataclass
class Clinic:
    """One store, and what is done to it."""

    store: Store
    schedule: Schedule = WEEKLY

    def examine(self, when: str, weeks: int = 2) -> Diagnosis:
        return examine(self.store, FEED, self.schedule, SCOPE, TABLES, utc(when), weeks)

    def arrive(self, when: str, *texts: str, **more: Any) -> None:
        """Raw captures, and nothing made of them."""
        seconds = (utc(when) - T0).total_seconds()
        captures = [raw(key, seconds, **more) for key in keys(*texts)]
        commit(self.store.control, self.store.home, batch(*captures, run=_run(when)))

    def make(self, when: str, *texts: str, tables: Sequence[Derived] = DERIVED) -> None:
        """Every derived table of those partitions, as far as it has something to do."""
        wanted = keys(*texts)
        for one in tables:
            by_tier = one.calculation.table.by_tier
            asked = wanted if by_tier else sorted({WeekKey(key.week_ending, None) for key in wanted})
            with self.store.control.read() as connection:
                targets = plan(connection, one.calculation, one.table_name, one.inputs, asked).targets
            captures = [
                raw(
                    target.key,
                    capture_id=target.capture_id(FEED.domain, one.calculation),
                    table_name=one.table_name,
                    stage=one.calculation.table.stage,
                    captured_at=target.captured_at,
                    inputs=target.input_ids,
                    inputs_hash=target.inputs_hash(one.calculation.version),
                    landing_id=None,
                    file_path=f"{one.table_name}/{target.key}/{when}.parquet",
                    file_bytes=1_000,
                )
                for target in targets
            ]
            if captures:
                commit(self.store.control, self.store.home, batch(*captures, run=_run(when)))

    def load(self, when: str, *texts: str, **more: Any) -> None:
        """Partitions with all their tables."""
        self.arrive(when, *texts, **more)
        self.make(when, *texts)

    def certify(self, when: str, *weeks: str, ready_for: Sequence[str] = tuple(SCOPE.use_cases)) -> None:
        """Verdicts on record: CERTIFIED, whatever is there."""
        places = [(week, use_case) for week in weeks for use_case in ready_for]
        with self.store.control.write() as connection:
            batch_id = connection.scalar(sa.text("SELECT batch_id FROM core_batches LIMIT 1"))
            for week, use_case in places:
                of = {"domain": FEED.domain, "week_ending": date.fromisoformat(week), "ready_for": use_case}
                identity = f"{week}{use_case}".ljust(64, "0")
                proof = {"document": "{}", "signature": "0" * 128, "key_id": "0" * 64}
                connection.execute(
                    sa.insert(CERTIFICATES), {"certificate_id": identity, "batch_id": batch_id, **proof, **of}
                )
                connection.execute(
                    sa.insert(READINESS), _certified(of, identity, when) | {"batch_id": batch_id, "id": _number(of)}
                )

    def find(self, when: str, code: str, key: str, severity: Severity = Severity.WARN, **more: Any) -> int:
        """An anomaly on record; its number."""
        details = more.pop("details", {})
        place = (FEED.domain, "test", "otc_raw", Stage.INGESTED, WeekKey.from_string(key))
        one = Observation(*place, code, severity, Category.COMPLETENESS, f"a {code}", details=details)
        changes = record(self.store, _run(when), [one], "test")
        (row,) = [*changes.opened, *changes.changed]
        return int(row["id"])

    def beat(self, when: str, detail: str = "0 opened") -> None:
        heartbeats.beat(self.store.control, "expectations", utc(when), detail)

    def everything(self) -> str:
        """All rows of all control tables, as text."""
        with self.store.control.read() as connection:
            held = {
                table.name: [[str(value) for value in row] for row in connection.execute(sa.select(table))]
                for table in METADATA.sorted_tables
            }
        return json.dumps(held)


def _run(when: str) -> Run:
    return Run("run", "business", utc(when))


def _number(of: dict[str, Any]) -> int:
    return int(of["week_ending"].toordinal()) * 10 + len(of["ready_for"])


def _certified(of: dict[str, Any], identity: str, when: str) -> dict[str, Any]:
    flags = ("all_partitions_present", "all_stages_complete", "no_critical_anomalies", "dependencies_current")
    held = dict.fromkeys((*flags, "age_exceeds_preliminary", "is_ready"), 1)
    told = {"blocking_issues": "[]", "tiers": "[]", "facts_json": "{}", "state": "CERTIFIED"}
    who = {"certified_at": utc(when), "certified_by": "test", "judged_at": utc(when), "certificate_id": identity}
    return of | held | told | who | {"partition_key": f"{of['week_ending']}"}
