"""Readiness: each criterion by itself, all 32 combinations of the five, and the words for what stands against use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from market_spine.domain.captures import Stage
from market_spine.domain.tiers import Tier
from market_spine.domain.trust import Readiness
from market_spine.governance.criteria import CRITERIA, Facts, Tables, Verdict, judge
from market_spine.governance.policy import UseCase
from market_spine.store.manifest import Capture

WEEK = date(2025, 12, 19)
CAPTURED = datetime(2025, 12, 22, 10, tzinfo=UTC)
TABLES = Tables(
    "finra.otc_transparency",
    tuple(Tier),
    "otc_raw",
    {
        Stage.INGESTED: {"otc_raw": True},
        Stage.NORMALIZED: {"otc_venue_volume": True},
        Stage.AGGREGATED: {"otc_symbol_hhi": True, "otc_tier_split": False},
        Stage.ROLLING: {"otc_symbol_rolling_6w": True},
    },
)
TRADING = UseCase(
    name="trading",
    tiers=tuple(Tier),
    stages=("RAW", "NORMALIZED", "CALC"),
    preliminary_hours=48,
    description="the week as a whole",
)
RESEARCH = replace(TRADING, name="research", tiers=(Tier.NMS_TIER_1,), preliminary_hours=24)
LATER = CAPTURED + timedelta(hours=50)
ALL = {
    (name, tier)
    for tables in TABLES.by_stage.values()
    for name, by_tier in tables.items()
    for tier in (map(str, Tier) if by_tier else ["ALL"])
}


def capture(table: str, tier: str, captured_at: datetime = CAPTURED) -> Capture:
    stage = next(stage for stage, tables in TABLES.by_stage.items() if table in tables)
    return Capture(
        capture_id=f"{table}:{tier}",
        domain=TABLES.domain,
        table_name=table,
        stage=stage.value,
        week_ending=WEEK,
        tier=tier,
        revision=1,
        is_current=True,
        status="complete",
        row_count=1,
        content_hash="0" * 32,
        file_path=f"{table}/{tier}.parquet",
        file_sha256="0" * 64,
        file_bytes=1,
        captured_at=captured_at,
        computed_at=captured_at,
        calc_version="1.0",
        inputs_hash="0" * 32,
        landing_id=None,
        policy="versioned",
        execution_id="run",
        batch_id="batch",
        correlation_id="process",
    )


def facts(without: set[tuple[str, str]] = frozenset(), **more: Any) -> Facts:  # type: ignore[assignment]
    held = {place: capture(*place) for place in ALL if place not in without}
    return Facts(WEEK, held, **more)


def anomaly(tier: str, number: int = 7) -> dict[str, Any]:
    return {"id": number, "code": "TRADES_WITHOUT_SHARES", "tier": tier, "message": "150 rows", "week_ending": WEEK}


OTC = {place for place in ALL if place[1] == "OTC"}
LACKS_OTC: Callable[[bool], set[tuple[str, str]]] = lambda holds: set() if holds else OTC  # noqa: E731


@pytest.mark.parametrize("holds", list(product((True, False), repeat=5)), ids=lambda row: "".join("01"[x] for x in row))
def test_a_week_is_ready_only_if_all_five_hold(holds: tuple[bool, ...]) -> None:
    """Prevents any single failure from being outvoted, and a failing criterion from pulling another one down."""
    partitions, stages, anomalies, dependencies, age = holds
    without = LACKS_OTC(partitions) | (set() if stages else {("otc_symbol_hhi", "NMS_TIER_1")})
    found = judge(
        TRADING,
        TABLES,
        facts(
            without,
            critical=[] if anomalies else [anomaly("NMS_TIER_2")],
            stale={} if dependencies else {"otc_symbol_rolling_6w:NMS_TIER_1": ["input has arrived since"]},
        ),
        LATER if age else CAPTURED + timedelta(hours=29.5),
    )
    assert tuple(found.criteria[name] for name in CRITERIA) == holds
    assert found.is_ready == all(holds)
    expected = Readiness.CERTIFIED if all(holds) else Readiness.PRELIMINARY if all(holds[:4]) else Readiness.BLOCKED
    assert found.state is (expected if partitions else Readiness.MISSING)
    codes = ["MISSING_PARTITION", "INCOMPLETE_STAGES", "CRITICAL_ANOMALIES", "STALE_DEPENDENCIES", "PRELIMINARY"]
    assert [issue.code for issue in found.issues] == [code for code, held in zip(codes, holds, strict=True) if not held]


@pytest.mark.parametrize(
    ("hours", "expected"), [(29.5, False), (47.9, False), (48.0, False), (48.001, True), (50, True)]
)
def test_48_hours_are_not_more_than_48_hours(hours: float, expected: bool) -> None:
    """Prevents the border of the preliminary period from moving by a comparison."""
    found = judge(TRADING, TABLES, facts(), CAPTURED + timedelta(hours=hours))
    assert found.criteria["age_exceeds_preliminary"] is expected
    assert found.ready_after == datetime(2025, 12, 24, 10, tzinfo=UTC)


def test_age_counts_from_the_newest_delivery_of_the_use_case() -> None:
    """Prevents a tier that came late from being certified with the age of the others, or of tiers not asked for."""
    late = facts()
    held = dict(late.captures) | {("otc_raw", "OTC"): capture("otc_raw", "OTC", CAPTURED + timedelta(hours=40))}
    both = replace(late, captures=held)
    assert judge(TRADING, TABLES, both, LATER).state is Readiness.PRELIMINARY
    assert judge(RESEARCH, TABLES, both, LATER).state is Readiness.CERTIFIED


# Use case, tier of the open CRITICAL anomaly, whether it blocks.
SCOPES = [
    (TRADING, "OTC", True),
    (TRADING, "ALL", True),
    (RESEARCH, "NMS_TIER_1", True),
    (RESEARCH, "ALL", True),
    (RESEARCH, "OTC", False),
]


@pytest.mark.parametrize(("use_case", "tier", "blocks"), SCOPES)
def test_only_anomalies_of_the_tiers_asked_for_block(use_case: UseCase, tier: str, blocks: bool) -> None:
    """Prevents Tier 1 from being held up by OTC, and a finding about the whole week from being overlooked."""
    found = judge(use_case, TABLES, facts(critical=[anomaly(tier)]), LATER)
    assert found.criteria["no_critical_anomalies"] is not blocks


def lacking(*places: tuple[str, str]) -> Verdict:
    return judge(TRADING, TABLES, facts(set(places)), LATER)


def test_one_tier_with_all_stages_does_not_stand_for_the_others() -> None:
    """Prevents stages from being counted over the week, where each tier needs every one."""
    found = lacking(("otc_venue_volume", "OTC"))
    assert found.issues[0].message == "Stages incomplete: OTC NORMALIZED"
    assert found.numbers["captures"] == [12, 13]


def test_a_missing_tier_is_told_once() -> None:
    """Prevents the stages of a tier that was never delivered from being told as a second trouble."""
    found = lacking(*OTC)
    assert [issue.message for issue in found.issues] == ["Missing expected partitions: OTC tier"]
    day = "  # FINRA's day: 2026-01-20"  # 31 days later is Martin Luther King Jr. Day
    assert found.issues[0].remedy == f"spine backfill --from {WEEK} --to {WEEK} --tier OTC{day}"
    assert found.numbers["partitions"] == [2, 3]


def test_two_missing_tiers_are_both_named() -> None:
    """Prevents the remedy from loading one tier only."""
    t2 = {place for place in ALL if place[1] == "NMS_TIER_2"}
    found = lacking(*OTC, *t2)
    assert found.issues[0].message == "Missing expected partitions: NMS_TIER_2, OTC tiers"
    assert "--tier NMS_TIER_2 --tier OTC  #" in found.issues[0].remedy


def test_a_tier_that_is_missing_leaves_the_age_open() -> None:
    """Prevents a moment of first use that cannot be kept: the period begins anew when the missing tier comes."""
    found = judge(TRADING, TABLES, facts(set(OTC)), CAPTURED + timedelta(hours=2))
    assert [issue.message for issue in found.issues] == [
        "Missing expected partitions: OTC tier",
        "Preliminary until 48 hours after the tiers that are missing have come",
    ]


def test_tables_over_all_tiers_count_where_all_tiers_are_asked_for() -> None:
    """Prevents Tier 1 research from waiting for the tier split of the whole week, and trading from not waiting."""
    without = facts({("otc_tier_split", "ALL")})
    assert judge(TRADING, TABLES, without, LATER).state is Readiness.BLOCKED
    assert judge(RESEARCH, TABLES, without, LATER).state is Readiness.CERTIFIED


def test_stale_captures_of_other_tiers_do_not_count() -> None:
    """Prevents a use case from being blocked by what it does not use."""
    stale = {"otc_symbol_hhi:OTC": ["input otc_venue_volume OTC is now revision 2"]}
    found = judge(TRADING, TABLES, facts(stale=stale), LATER)
    assert found.issues[0].message == "Dependencies not current: otc_symbol_hhi OTC"
    assert found.issues[0].detail == {"captures": stale}
    assert judge(RESEARCH, TABLES, facts(stale=stale), LATER).is_ready


def test_a_week_without_anything_is_missing() -> None:
    """Prevents an empty week from passing criteria of which nothing can be said."""
    found = judge(TRADING, TABLES, Facts(WEEK, {}), LATER)
    assert found.state is Readiness.MISSING
    assert found.criteria["all_stages_complete"] is False
    assert found.criteria["age_exceeds_preliminary"] is False
    assert [issue.code for issue in found.issues] == ["MISSING_PARTITION"]


def test_stages_that_are_not_asked_for_do_not_count() -> None:
    """Prevents a use case of raw rows from waiting for measures."""
    rows_only = replace(TRADING, stages=("RAW",))
    bare = facts({place for place in ALL if place[0] != "otc_raw"})
    assert judge(rows_only, TABLES, bare, LATER).is_ready
    assert judge(TRADING, TABLES, bare, LATER).state is Readiness.BLOCKED
