"""The tests that the documents name for their five failures and for readiness, each through the real pipeline.

`test_expected_schedule_definition`, `test_missed_run_detection` and those of gaps stand in `test_doctor`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from market_spine.assets.scope import judge, look
from market_spine.automation.calendar import apply_correction, follow_up
from market_spine.domain.captures import View
from market_spine.domain.weeks import last_n_weeks
from market_spine.feeds.otc import FEED
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store.ledger import Run
from market_spine_tests.domain.vintage_lab import MLK, opened
from market_spine_tests.journeys.stage import OTC, T1, T2, Clock, Scene, key, staged

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("hardening")]
WEEK, BEFORE = "2025-11-14", "2025-11-07"
TIERS = (T1, T2, OTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def settle(scene: Scene, moment: str) -> None:
    """What the sensors do at a moment: look, and judge."""
    scene.clock.moment = utc(moment)
    run = Run(f"at {moment}", "sensors", scene.clock())
    look(scene.spine, FEED, run)
    judge(scene.spine.store, run, FEED)


def verdict(scene: Scene, week: str, use_case: str = "trading") -> dict[str, Any]:
    """The verdict on record: state, the five criteria, what stands against it, who certified it when."""
    names = (
        *("state", "is_ready", "all_partitions_present", "all_stages_complete", "no_critical_anomalies"),
        *("dependencies_current", "age_exceeds_preliminary", "blocking_issues", "certified_at", "certified_by"),
    )
    row = scene.one(
        f"SELECT {', '.join(names)} FROM core_data_readiness WHERE week_ending = ? AND ready_for = ?", week, use_case
    )
    found = dict(zip(names, row, strict=True))
    return found | {"blocking_issues": [one["message"] for one in json.loads(found["blocking_issues"])]}


def anomaly(scene: Scene, code: str, week: str = WEEK) -> tuple[Any, ...]:
    """(severity, category, affected records, message, whether it is open) of the one anomaly of that code."""
    columns = "severity, category, affected_records, message, resolved_at IS NULL"
    return scene.one(f"SELECT {columns} FROM core_anomalies WHERE code = ? AND week_ending = ?", code, week)


@dataclass
class Story:
    """Two weeks of three tiers: a good one, and one whose OTC is three days late and whose Tier 2 cannot be true."""

    scene: Scene
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: tuple[Any, ...] = ()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    recipe = f"seed=7,scale=0.02,fault=late-tier:OTC:{WEEK}:76,fault=zero-volume:NMS_TIER_2:{WEEK}:30"
    source = SyntheticSource.from_spec(recipe)
    with staged(tmp_path_factory.mktemp("weeks") / "home", source, Clock(utc("2025-12-15 16:00"))) as scene:
        made = Story(scene)
        scene.run("otc.weekly_refresh", *(key(week, tier) for week in (BEFORE, WEEK) for tier in TIERS))
        settle(scene, "2025-12-16 16:00")  # an hour after the deadline
        made.missing = anomaly(scene, "NOT_DELIVERED")
        made.verdicts["missing"] = verdict(scene, WEEK)
        scene.clock.moment = utc("2025-12-18 19:00")
        scene.run("otc.weekly_refresh", key(WEEK, OTC))
        settle(scene, "2025-12-20 20:00")
        made.verdicts["whole"] = verdict(scene, WEEK)
        made.verdicts["good"] = verdict(scene, BEFORE)
        yield made


def test_missing_tier_detected(story: Story) -> None:
    """Prevents tier shares of two tiers from being used as if they were of three (F288)."""
    assert story.missing == ("ERROR", "INCOMPLETE_INPUT", None, "not there since 2025-12-16 15:00 UTC", True)
    seen = story.verdicts["missing"]
    assert (seen["state"], seen["is_ready"], seen["all_partitions_present"]) == ("MISSING", 0, 0)
    assert seen["blocking_issues"][0] == "Missing expected partitions: OTC tier"
    assert anomaly(story.scene, "NOT_DELIVERED")[4] is False  # it came
    assert story.verdicts["whole"]["all_partitions_present"] == 1


def test_full_readiness_check(story: Story) -> None:
    """Prevents a week from being certified on fewer than five criteria, or without anybody's name (F295, KA-55)."""
    seen = story.verdicts["good"]
    criteria = [seen[name] for name in seen if name.startswith(("all_", "no_", "dependencies", "age_"))]
    assert criteria == [1, 1, 1, 1, 1]
    assert (seen["state"], seen["is_ready"], seen["blocking_issues"]) == ("CERTIFIED", 1, [])
    assert (seen["certified_at"], seen["certified_by"]) == (utc("2025-12-20 20:00"), "automated_check")
    captured = story.scene.sql(
        "SELECT tier, list(DISTINCT stage ORDER BY stage) FROM core_manifest"
        " WHERE week_ending = ? AND tier <> 'ALL' AND is_current = 1 GROUP BY tier ORDER BY tier",
        BEFORE,
    )
    stages = ["AGGREGATED", "INGESTED", "NORMALIZED", "ROLLING"]
    assert captured == [(tier.value, stages) for tier in TIERS]


def test_readiness_blocked_by_multiple_issues(story: Story) -> None:
    """Prevents the first issue from hiding the others: whoever mends it would be told of the next one a day later."""
    issues = story.verdicts["missing"]["blocking_issues"]
    assert [one.partition(":")[0] for one in issues[:3]] == [
        "Missing expected partitions",
        "Stages incomplete",
        "CRITICAL anomalies present",
    ]
    assert issues[1] == "Stages incomplete: NMS_TIER_2 CALC, NMS_TIER_2 NORMALIZED"
    assert issues[2].startswith("CRITICAL anomalies present: 1 unresolved (NMS_TIER_2 30 rows set aside")
    still = story.verdicts["whole"]
    assert (still["state"], still["is_ready"], still["certified_at"]) == ("BLOCKED", 0, None)
    assert len(still["blocking_issues"]) == 2
    assert verdict(story.scene, WEEK, "research")["state"] == "CERTIFIED"  # Tier 1 alone


@pytest.fixture(scope="module")
def venues(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Four weeks of Tier 1 with 165 venues, and a fifth with 45."""
    recipe = f"seed=7,scale=0.02,fault=many-venues:NMS_TIER_1:*:165,fault=partial-venues:NMS_TIER_1:{WEEK}:45"
    source = SyntheticSource.from_spec(recipe)
    with staged(tmp_path_factory.mktemp("venues") / "home", source, Clock(utc("2025-12-01 16:00"))) as scene:
        scene.refresh(*(key(str(week), T1) for week in last_n_weeks(5, date.fromisoformat(WEEK))))
        settle(scene, "2025-12-02 16:01")
        yield scene


def test_venue_count_anomaly_detected(venues: Scene) -> None:
    """Prevents an outage at the source from being read as concentration, and a warning from blocking (F289, C-43)."""
    found = anomaly(venues, "UNUSUAL_VENUE_COUNT")
    expected = "venue count: 45; usual is 124 to 206 (median 165 of 4 weeks)"
    assert found == ("WARN", "COMPLETENESS", None, expected, True)
    unannotated = "SELECT count(*) FROM otc_symbol_hhi_annotated WHERE week_ending = ? AND NOT is_incomplete"
    assert venues.one(unannotated, WEEK) == (0,)
    assert venues.one(unannotated, BEFORE)[0] > 0
    seen = verdict(venues, WEEK, "research")
    assert (seen["is_ready"], seen["state"], seen["no_critical_anomalies"]) == (1, "CERTIFIED", 1)


def test_business_rule_violation_detected(tmp_path: Path) -> None:
    """Prevents impossible rows from reaching any measure: what an earlier delivery gave stays as it was (F290)."""
    good, bad = (
        SyntheticSource.from_spec(f"seed=7,scale=0.2{fault}") for fault in ("", f",fault=zero-volume:OTC:{WEEK}:150")
    )
    with staged(tmp_path / "home", good, Clock(utc("2025-12-15 16:00"))) as scene:
        scene.refresh(key(WEEK, OTC))
        before = {name: one for name, one in scene.current_of(key(WEEK, OTC)).items() if name != "raw"}
        scores = scene.sql("SELECT symbol, liquidity_score FROM otc_liquidity_score ORDER BY symbol")
        scene.clock.forward(hours=1)
        again = scene.source(bad)
        outcome = again.run("otc.weekly_refresh", key(WEEK, OTC))
        assert not outcome.is_complete
        settle(again, "2025-12-20 16:00")
        assert anomaly(again, "TRADES_WITHOUT_SHARES")[:3] == ("CRITICAL", "BUSINESS_RULE", 150)
        assert scene.current("raw", key(WEEK, OTC)).revision == 2
        assert {name: one for name, one in scene.current_of(key(WEEK, OTC)).items() if name != "raw"} == before
        assert scene.sql("SELECT symbol, liquidity_score FROM otc_liquidity_score ORDER BY symbol") == scores
        assert {view: len(scene.captures("venue_volume", view)) for view in (View.LATEST, View.ALL_REVISIONS)} == {
            View.LATEST: 1,
            View.ALL_REVISIONS: 1,
        }
        seen = verdict(again, WEEK)
        assert (seen["is_ready"], seen["no_critical_anomalies"]) == (0, 0)


def test_data_revision_tracked(tmp_path: Path) -> None:
    """Prevents 200 symbols that came two days later from replacing Monday's answer without a word (F291, KA-52)."""
    source = SyntheticSource.from_spec(f"seed=5,scale=0.927,revision_hours=48,fault=added-symbols:OTC:{WEEK}:200")
    with staged(tmp_path / "home", source, Clock(utc("2025-12-15 16:00"))) as scene:
        scene.refresh(key(WEEK, OTC))
        scene.clock.forward(days=2)
        scene.refresh(key(WEEK, OTC))
        settle(scene, "2025-12-17 17:00")
        count = "SELECT count(*) FROM otc_symbol_summary"
        assert scene.one(f"{count}_asof('2025-12-16')") == (2_800,)
        assert scene.one(f"{count}_asof('2025-12-17')") == (3_000,)
        severity, category, affected, message, is_open = anomaly(scene, "RESTATED")
        assert (severity, category, affected, is_open) == ("INFO", "FRESHNESS", 200, True)
        assert message.startswith("FINRA restated the week: 200 symbols added, 0 removed, 0 changed;")
        assert [one.revision for one in scene.captures("raw")] == [1, 2]
        assert scene.one("SELECT is_corrected FROM otc_week_quality") == (True,)


def test_dependency_invalidation(tmp_path: Path) -> None:
    """Prevents volume per day over a divisor that was wrong, once it is known (F292): January 20 -> 21."""
    week = "2025-01-24"  # MLK Day is its Monday
    with staged(tmp_path / "home", "synthetic:seed=7,scale=0.02", Clock(utc("2025-03-03 16:00"))) as scene:
        scene.refresh(key(week, OTC))
        scene.clock.forward(days=3)
        applied = apply_correction(scene.spine, opened(MLK), [FEED], scene.instance, "CRITICAL")
        (month,) = applied.plan.months
        assert (month.before, month.after) == (20, 21)
        judge(scene.spine.store, Run("judge", "judge", scene.clock()), FEED)
        assert anomaly(scene, "CALENDAR_CORRECTED", week)[:2] == ("WARN", "DEPENDENCY")
        assert anomaly(scene, "CALENDAR_CORRECTED", week)[4] is True
        assert [name for name, _ in scene.stale()] == ["otc_volume_per_day"]
        assert verdict(scene, week)["dependencies_current"] == 0
        divided = "SELECT DISTINCT session_count FROM otc_volume_per_day"
        assert scene.one(divided) == (4.0,)
        followed = follow_up(scene.spine, applied, [FEED], scene.instance, "CRITICAL")
        assert followed.outcome.is_complete
        assert scene.stale() == []
        assert scene.one(divided) == (5.0,)
        assert anomaly(scene, "CALENDAR_CORRECTED", week)[4] is False
        assert verdict(scene, week)["dependencies_current"] == 1


# A moment, and what stands open then about OTC of the week: how grave, and in which words.
MOMENTS = [
    ("2025-12-15 14:59:59", None, ""),  # not published yet
    ("2025-12-15 15:00:00", "INFO", "published 2025-12-15 15:00 UTC, expected by 2025-12-16 15:00 UTC: not there yet"),
    ("2025-12-16 15:00:00", "INFO", "published 2025-12-15 15:00 UTC, expected by 2025-12-16 15:00 UTC: not there yet"),
    ("2025-12-16 15:00:01", "ERROR", "not there since 2025-12-16 15:00 UTC"),
    ("2025-12-17 15:00:00", "ERROR", "not there since 2025-12-16 15:00 UTC: 1 day"),
    ("2025-12-19 15:00:00", "ERROR", "not there since 2025-12-16 15:00 UTC: 3 days"),
    ("2025-12-23 15:00:00", "ERROR", "not there since 2025-12-16 15:00 UTC: 7 days"),
]


def test_a_missing_tier_at_each_moment(tmp_path: Path) -> None:
    """Prevents a step of the way from alarm to alarm from being skipped, or told twice."""
    source = SyntheticSource.from_spec(f"seed=7,scale=0.02,fault=late-tier:OTC:{WEEK}:500")
    with staged(tmp_path / "home", source, Clock(utc("2025-12-08 16:00"))) as scene:
        scene.run("otc.ingest_week", key(WEEK, T1))
        of_week = "FROM core_anomalies WHERE week_ending = ? AND code = ? AND resolved_at IS NULL"
        gap, missed = f"SELECT severity, message, cause_id {of_week} AND tier = 'OTC'", f"SELECT severity {of_week}"
        for moment, severity, message in MOMENTS:
            settle(scene, moment)
            assert scene.sql(gap, WEEK, "NOT_DELIVERED") == ([(severity, message, None)] if severity else []), moment
            assert scene.sql(missed, WEEK, "MISSED_RUNS") == ([("ERROR",)] if severity == "ERROR" else []), moment
            assert verdict(scene, WEEK)["blocking_issues"][0] == "Missing expected partitions: NMS_TIER_2, OTC tiers"
        log = """SELECT l.change FROM core_anomaly_log l JOIN core_anomalies a ON a.id = anomaly_id
                 WHERE tier = 'OTC' AND week_ending = ? ORDER BY seq"""
        assert [change for (change,) in scene.sql(log, WEEK)] == ["opened", *["changed"] * 4]
