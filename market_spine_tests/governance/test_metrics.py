"""The numbers of a store that was brought into a state by hand, and the laws that all of them keep."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.domain.contracts import Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.work import ErrorClass
from market_spine.feeds.otc import OTC as FEED
from market_spine.governance import work as ledger
from market_spine.governance.metrics import Family, Kind, Snapshot, Watch, snapshot
from market_spine.governance.quality import grade_weeks
from market_spine.governance.work import Ask, Result
from market_spine.store.commit import commit
from market_spine.store.ledger import Run, transaction
from market_spine.store.operations_tables import NOTICE_RECEIPTS, NOTICES, SUBSCRIPTIONS
from market_spine.store.store import Store
from market_spine_tests.governance.clinic import TABLES, WEEKLY, Clinic, utc
from market_spine_tests.store.builders import batch, quality, reject
from market_spine_tests.store.good_rows import GOOD

WATCH = Watch(FEED, WEEKLY, TABLES)
DOMAIN = FEED.domain
# Group O of the features, and what the documents print beside them.
DOCUMENTED = {
    "market_spine_partition_gaps": ("domain",),
    "market_spine_failed_work": ("domain",),
    "otc_weeks_ingested_total": ("tier",),
    "otc_weeks_missing": ("tier",),
    "otc_records_per_week": ("tier",),
    "otc_quality_score": ("tier", "week"),
    "otc_validation_failures": ("check_name",),
    "otc_latest_week_timestamp": ("tier",),
    "otc_ingestion_lag_days": ("tier",),
    "otc_duplicate_records_total": ("tier",),
}


def read(store: Store, when: str) -> dict[str, Family]:
    return {one.name: one for one in snapshot(store, [WATCH], utc(when)).families}


def values(family: Family) -> dict[tuple[str, ...], float]:
    return {one.labels: one.value for one in family.samples}


def by_tier(family: Family) -> list[float]:
    """Tier 1, Tier 2, OTC."""
    found = values(family)
    return [found[tier.value,] for tier in FEED.tiers]


@pytest.fixture
def clinic(sqlite_store: Store) -> Clinic:
    """The store in which three partitions have come."""
    return three_partitions(sqlite_store)


def three_partitions(store: Store) -> Clinic:
    """2025-11-28 has come in Tier 1 and Tier 2, and not in OTC; 2025-12-05 in Tier 1, 2025-12-12 nowhere."""
    made = Clinic(store)
    made.load("2025-12-15 16:00", "NMS_TIER_1:2025-11-28", row_count=50_889)
    made.load("2025-12-22 16:00", "NMS_TIER_1:2025-12-05", row_count=40_000)
    made.load("2025-12-29 16:00", "NMS_TIER_2:2025-11-28", row_count=135_000)
    return made


def test_weeks_that_are_there_and_missing(clinic: Clinic) -> None:
    """Prevents a gap that nobody counts, a lag that starts anew each Monday, and ages from another moment.

    Due 2025-12-29 15:00 UTC: Tier 1 of 12-12, Tier 2 and OTC of 11-28. The deadline is a day later.
    """
    found = read(clinic.store, "2026-01-02 15:00")
    assert by_tier(found["otc_weeks_ingested_total"]) == [2, 1, 0]
    assert by_tier(found["otc_weeks_missing"]) == [1, 0, 1]
    assert values(found["market_spine_partition_gaps"]) == {(DOMAIN,): 2}
    assert by_tier(found["otc_missing_week_overdue_seconds"]) == [3 * 86_400, 0, 3 * 86_400]
    assert by_tier(found["otc_ingestion_lag_days"]) == [4, 0, 4]
    # Two more Mondays without anything: the oldest missing weeks count, and the lag goes on.
    later = read(clinic.store, "2026-01-12 15:00")
    assert by_tier(later["otc_weeks_missing"]) == [3, 2, 3]
    assert by_tier(later["otc_ingestion_lag_days"]) == [14, 7, 14]
    assert by_tier(later["otc_missing_week_overdue_seconds"]) == [13 * 86_400, 6 * 86_400, 13 * 86_400]


def test_the_newest_week_and_what_is_usual(clinic: Clinic) -> None:
    """Prevents a usual that contains the week which it judges, and one of too few weeks."""
    found = read(clinic.store, "2026-01-02 15:00")
    assert values(found["otc_latest_week_timestamp"]) == {
        ("NMS_TIER_1",): datetime(2025, 12, 5, tzinfo=UTC).timestamp(),
        ("NMS_TIER_2",): datetime(2025, 11, 28, tzinfo=UTC).timestamp(),
    }
    assert values(found["otc_latest_week_records"]) == {("NMS_TIER_1",): 40_000, ("NMS_TIER_2",): 135_000}
    assert values(found["otc_latest_capture_timestamp_seconds"])["NMS_TIER_1",] == utc("2025-12-22 16:00").timestamp()
    assert values(found["otc_usual_week_records"]) == {}
    for number, week in enumerate(("2025-10-31", "2025-11-07", "2025-11-14", "2025-11-21")):
        clinic.load("2026-01-02 16:00", f"NMS_TIER_1:{week}", row_count=49_000 + number)
    usual = values(read(clinic.store, "2026-01-02 17:00")["otc_usual_week_records"])
    assert usual == {("NMS_TIER_1",): (49_000 + 49_001 + 49_002 + 49_003 + 50_889) / 5}


def test_rows_of_a_week_as_a_histogram(clinic: Clinic) -> None:
    """Prevents a histogram that falls when a week is restated, and a value on a border in the wrong bucket."""
    clinic.arrive("2026-01-02 16:00", "NMS_TIER_1:2025-12-05", row_count=25_000, content="b")
    histogram = read(clinic.store, "2026-01-02 17:00")["otc_records_per_week"]
    t1, t2, otc = histogram.samples
    # 50,889, 40,000 and, restated, 25,000: at most 10,000: none, 25,000: 1, 50,000: 2, 75,000: 3
    assert t1.below == (0, 0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 3, 3)
    assert (t1.value, t2.below[-4:], otc.below[-1]) == (115_889, (1, 1, 1, 1), 0)
    assert histogram.kind is Kind.HISTOGRAM


def test_scores_and_verdicts_of_watched_weeks_only(clinic: Clinic) -> None:
    """Prevents a series for every week of three years."""
    clinic.load("2026-01-02 16:00", "NMS_TIER_1:2025-06-06", "NMS_TIER_1:2025-09-26")
    run = Run("judging", "sensor", utc("2026-01-02 16:10"))
    graded = grade_weeks(clinic.store, run, FEED, WEEKLY, TABLES)
    assert len(graded) == 5
    clinic.certify("2026-01-02 16:20", "2025-06-06", "2025-12-05", ready_for=["trading"])
    found = read(clinic.store, "2026-01-02 17:00")
    # The newest 12 due weeks of Tier 1 are 2025-09-26 to 12-12.
    scores = found["otc_quality_score"]
    assert values(scores) == dict.fromkeys(
        [("NMS_TIER_1", "2025-09-26"), ("NMS_TIER_1", "2025-11-28"), ("NMS_TIER_1", "2025-12-05"),
         ("NMS_TIER_2", "2025-11-28")], 1.0,
    )  # fmt: skip
    assert {one.rests_on for one in scores.samples} == {run.now}
    assert values(found["market_spine_readiness_weeks"]) == {
        (DOMAIN, "trading", state): number
        for state, number in {"MISSING": 0, "BLOCKED": 0, "PRELIMINARY": 0, "CERTIFIED": 1}.items()
    }


def test_checks_rejects_and_anomalies(clinic: Clinic) -> None:
    """Prevents counting what had to be expected, and rejects for other reasons."""
    checks = [
        quality("sums"), quality("sums", tier="NMS_TIER_1"), quality("holds", status="passed"),
        quality("window", is_expected=1, severity="INFO"),
    ]  # fmt: skip
    rejects = [reject(1, reason_code="EXACT_DUPLICATE"), reject(2, reason_code="EXACT_DUPLICATE"), reject(3)]
    run = Run("run", "business", utc("2025-12-29 17:00"))
    commit(clinic.store.control, clinic.store.home, batch(run=run, quality=checks, rejects=rejects))
    clinic.find("2025-12-29 18:00", "A", "OTC:2025-11-28", Severity.CRITICAL)
    clinic.find("2025-12-29 19:00", "B", "OTC:2025-11-28", Severity.WARN)
    found = read(clinic.store, "2026-01-02 15:00")
    assert values(found["otc_validation_failures"]) == {("sums",): 2, ("holds",): 0, ("window",): 0}
    assert by_tier(found["otc_duplicate_records_total"]) == [0, 0, 2]
    anomalies = found["market_spine_open_anomalies"]
    assert {labels[1]: value for labels, value in values(anomalies).items()} == {
        "INFO": 0, "WARN": 1, "ERROR": 0, "CRITICAL": 1,
    }  # fmt: skip
    assert {one.rests_on for one in anomalies.samples} == {utc("2025-12-29 19:00")}


def test_the_work_ledger(clinic: Clinic) -> None:
    """Prevents a failed item that counts although it was asked for again, and ages of what is not due."""
    store = clinic.store

    def at(when: str) -> Run:
        return Run("run", when, utc(when))

    def ask(when: str, desired: str, *keys: str) -> list[int]:
        asks = [Ask(DOMAIN, f"{DOMAIN}.weekly_refresh", WeekKey.from_string(key), utc(desired)) for key in keys]
        return [row["id"] for row in ledger.enqueue(store, at(when), asks, "test").added]

    def claim(when: str) -> dict[str, Any]:
        def choose(rows: list[Any], _held: int, _token: str) -> dict[str, list[Any]]:
            return {f"{row['id']}": [row] for row in rows}

        return ledger.claim(store, at(when), DOMAIN, choose, "test")

    failing = ask("2026-01-02 10:00", "2026-01-02 10:00", "OTC:2025-11-28", "OTC:2025-12-05")
    claim("2026-01-02 10:01")
    broken = Result("run-1", "two headers", error=ErrorClass.SCHEMA)
    ledger.settle(store, at("2026-01-02 10:02"), {(number, str(number)): broken for number in failing}, "test")
    assert ask("2026-01-02 10:30", "2026-01-02 11:00", "OTC:2025-12-05")
    ask("2026-01-02 10:30", "2026-01-03 10:00", "NMS_TIER_1:2025-12-19")  # not before tomorrow
    found = read(store, "2026-01-02 10:45")
    assert values(found["market_spine_failed_work"]) == {(DOMAIN,): 1}
    assert values(found["market_spine_oldest_due_work_seconds"]) == {(DOMAIN,): 0}
    found = read(store, "2026-01-02 11:20")
    assert values(found["market_spine_oldest_due_work_seconds"]) == {(DOMAIN,): 20 * 60}
    claim("2026-01-02 11:30")
    found = read(store, "2026-01-02 14:00")
    items = found["market_spine_work_items"]
    assert {labels[1]: value for labels, value in values(items).items() if value} == {
        "FAILED": 2, "RUNNING": 1, "PENDING": 1,
    }  # fmt: skip
    assert values(found["market_spine_oldest_running_work_seconds"]) == {(DOMAIN,): 2.5 * 3600}
    assert {one.rests_on for one in items.samples} == {utc("2026-01-02 11:30")}


def test_notices_that_do_not_arrive(store: Store) -> None:
    """Prevents an alert that stays after its notice was closed, and receipts that wait for ever unseen."""
    states = {1: ("OPEN", "FAILED"), 2: ("CLOSED", "FAILED"), 3: ("ACKNOWLEDGED", "PENDING"), 4: ("OPEN", "SENT")}
    moment = utc("2026-01-02 10:00")
    with transaction(store.control, store.home, Run("run", "business", moment), NOTICES.name) as draft:
        draft.put(SUBSCRIPTIONS, _own("core_subscriptions", id=1))
        for number, (state, receipt) in states.items():
            draft.put(NOTICES, _own("core_notices", id=number, state=state, dedupe_key=f"key {number}"))
            waits, came = (moment if receipt == word else None for word in ("PENDING", "SENT"))
            of: dict[str, Any] = {"state": receipt, "next_attempt_at": waits, "sent_at": came, "created_at": moment}
            draft.put(
                NOTICE_RECEIPTS, _own("core_notice_receipts", id=number, notice_id=number, subscription_id=1, **of)
            )
    found = read(store, "2026-01-02 10:20")
    receipts = {labels[0]: value for labels, value in values(found["market_spine_notice_receipts"]).items()}
    assert receipts == {"PENDING": 1, "SENT": 1, "FAILED": 2, "SUPPRESSED": 0}
    assert values(found["market_spine_failed_notices"]) == {(): 1}
    assert values(found["market_spine_oldest_due_notice_seconds"]) == {(): 1200}


def _own(table: str, **more: Any) -> dict[str, Any]:
    """A row that the database accepts, without who wrote it."""
    good = {name: value for name, value in GOOD[table].items() if name not in ("execution_id", "batch_id")}
    return good | more


def test_an_empty_store_has_numbers_too(store: Store) -> None:
    """Prevents an exporter that fails before the first load, and a good value where nothing is known."""
    found = read(store, "2026-01-02 15:00")
    assert set(DOCUMENTED) <= set(found)
    assert by_tier(found["otc_weeks_ingested_total"]) == [0, 0, 0]
    assert values(found["market_spine_partition_gaps"]) == {(DOMAIN,): 0}
    assert values(found["otc_latest_week_timestamp"]) == values(found["otc_quality_score"]) == {}
    assert [one.rests_on for one in found["market_spine_partition_gaps"].samples] == [None]
    assert values(found["market_spine_last_transaction_timestamp_seconds"]) == {}


def test_laws_of_all_families(store: Store) -> None:
    """Prevents a state without the moment it rests on, an unnamed label, a negative or a future one, and names that
    differ from the documents'."""
    clinic = three_partitions(store)
    clinic.beat("2026-01-02 14:59")
    grade_weeks(clinic.store, Run("judging", "sensor", utc("2025-12-30 10:00")), FEED, WEEKLY, TABLES)
    clinic.find("2025-12-29 18:00", "A", "OTC:2025-11-28", Severity.WARN)
    now = utc("2026-01-02 15:00")
    families = snapshot(clinic.store, [WATCH], now).families
    named = {one.name: one.labels for one in families}
    assert named.items() >= DOCUMENTED.items()
    assert len(families) == len(named) > 20
    for family in families:
        is_moment = "timestamp" in family.name or family.name.endswith("_info")
        assert bool(family.stamp) is (family.kind is Kind.GAUGE and not is_moment), family.name
        assert len({one.labels for one in family.samples}) == len(family.samples)
        for one in family.samples:
            assert len(one.labels) == len(family.labels)
            assert one.value >= 0
            assert one.rests_on is None or one.rests_on <= now


def test_a_scrape_asks_as_often_for_many_weeks_as_for_few(clinic: Clinic) -> None:
    """Prevents a scrape that grows with history: over 156 weeks x 3 tiers one takes 50 ms."""
    asked: list[str] = []
    sa.event.listen(clinic.store.control.engine, "before_cursor_execute", lambda *more: asked.append(more[2]))
    read(clinic.store, "2026-01-02 15:00")
    few = len(asked)
    clinic.load("2026-01-02 16:00", *(f"{tier}:2025-{month:02}-07" for tier in FEED.tiers for month in (2, 3)))
    asked.clear()
    read(clinic.store, "2026-01-02 17:00")
    assert len(asked) == few > 0


def test_two_feeds_share_families_by_domain(clinic: Clinic) -> None:
    """Prevents a page in which one name stands twice, which Prometheus refuses as a whole."""
    other = replace(FEED, name="dealers", domain="finra.dealers")
    tables = {f"dealers_{name.removeprefix('otc_')}": table for name, table in TABLES.items()}
    watches = [WATCH, Watch(other, replace(WEEKLY, domain=other.domain), tables)]
    found: Snapshot = snapshot(clinic.store, watches, utc("2026-01-02 15:00"))
    named = [one.name for one in found.families]
    assert len(set(named)) == len(named)
    gaps = next(one for one in found.families if one.name == "market_spine_partition_gaps")
    assert values(gaps) == {(DOMAIN,): 2, ("finra.dealers",): 0}
    assert {"otc_weeks_missing", "dealers_weeks_missing"} <= set(named)
