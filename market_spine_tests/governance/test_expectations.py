"""Expectations against what is there: due, missing, late, half-finished; dates worked out by hand from calendars."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import weeks_between
from market_spine.feeds.otc import OTC as FEED
from market_spine.governance.anomalies import Observation
from market_spine.governance.expectations import (
    Expected,
    Facts,
    absence,
    deadline,
    due_at,
    expected,
    gaps,
    lateness,
    observe,
)
from market_spine.governance.policy import load_schedules
from market_spine.store.presence import Known
from market_spine_tests.store.builders import T0

T1, T2, OTC = Tier.NMS_TIER_1, Tier.NMS_TIER_2, Tier.OTC
WEEKLY, RECHECK, CALENDAR, HEALTH = load_schedules(FEED)
RAW_CHAIN = {Stage.INGESTED: ("otc_raw",)}
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def key(text: str) -> WeekKey:
    return WeekKey.from_string(text)


def facts(arrived: Mapping[str, str], **more: Any) -> Facts:
    """Facts of a store in which each partition arrived once; nothing else is there."""
    known = {key(text): Known(f"capture of {text}", utc(moment)) for text, moment in arrived.items()}
    given: dict[str, Any] = {"chain": RAW_CHAIN, "current": {"otc_raw": known}, "first": known}
    return Facts(**(given | {"begun_at": LONG_AGO, "first_week": FEED.first_week} | more))


def found(code: str, observed: Collection[Observation], is_open: bool = True) -> dict[str, Observation]:
    return {str(one.key): one for one in observed if one.code == code and one.is_open is is_open}


# Week, tier, due (UTC), deadline (UTC). New York is UTC-5 in winter and UTC-4 from the second Sunday of March to the
# first one of November.
DUE = [
    ("2025-12-12", T1, "2025-12-29 15:00", "2025-12-30 15:00"),
    ("2025-12-12", OTC, "2026-01-12 15:00", "2026-01-13 15:00"),
    ("2025-12-12", None, "2025-12-29 15:00", "2025-12-30 15:00"),  # with the first tier
    ("2023-12-29", T1, "2024-01-16 15:00", "2024-01-17 15:00"),  # 2024-01-15 is Martin Luther King Day
    ("2025-12-19", T2, "2026-01-20 15:00", "2026-01-21 15:00"),  # 2026-01-19 too
    ("2023-12-15", T1, "2024-01-02 15:00", "2024-01-03 15:00"),  # New Year's Day
    ("2025-07-18", OTC, "2025-08-18 14:00", "2025-08-19 14:00"),  # summer
    ("2025-10-10", T1, "2025-10-27 14:00", "2025-10-28 14:00"),  # the last Monday of summer time ...
    ("2025-10-17", T1, "2025-11-03 15:00", "2025-11-04 15:00"),  # ... and the first one of winter time
    ("2026-02-13", T1, "2026-03-02 15:00", "2026-03-03 15:00"),  # the last Monday of winter time ...
    ("2026-02-20", T1, "2026-03-09 14:00", "2026-03-10 14:00"),  # ... and the first one of summer time
]


@pytest.mark.parametrize(("week", "tier", "due", "limit"), DUE)
def test_due_and_deadline(week: str, tier: Tier | None, due: str, limit: str) -> None:
    """Prevents a deadline from Monday midnight, from a holiday, or an hour off for half of the year."""
    schedule = CALENDAR if tier is None else WEEKLY
    assert due_at(schedule, date.fromisoformat(week), tier) == utc(due)
    assert deadline(schedule, date.fromisoformat(week), tier) == utc(limit)


@pytest.mark.parametrize(
    ("week", "hours", "limit"),
    [
        ("2026-02-13", 168, "2026-03-09 15:00"),  # 11:00 in New York: an hour of the week was left out
        ("2025-10-10", 168, "2025-11-03 14:00"),  # 09:00: an hour was there twice
        ("2025-12-12", 0, "2025-12-29 15:00"),
    ],
)
def test_the_delay_is_in_elapsed_hours(week: str, hours: int, limit: str) -> None:
    """Prevents an hour more or less to deliver where the clocks change in between."""
    assert deadline(replace(WEEKLY, expected_delay_hours=hours), date.fromisoformat(week), T1) == utc(limit)


def test_time_and_zone_are_the_schedules() -> None:
    """Prevents New York's clock from being taken for a schedule that names another one."""
    london = replace(WEEKLY, timezone=type(WEEKLY.timezone)("Europe/London"), expected_time=time(16, 30))
    assert due_at(london, date(2025, 12, 12), T1) == utc("2025-12-29 16:30")


@pytest.mark.parametrize(
    ("now", "is_due", "is_late"),
    [
        ("2025-12-29 14:59:59", False, False),
        ("2025-12-29 15:00:00", True, False),
        ("2025-12-30 15:00:00", True, False),
        ("2025-12-30 15:00:01", True, True),
    ],
)
def test_expected_tells_what_is_due_and_what_should_be_there(now: str, is_due: bool, is_late: bool) -> None:
    """Prevents a gap before FINRA publishes, and an error at the minute of the deadline itself."""
    week = date(2025, 12, 12)
    tier_1, tier_2, otc = expected(WEEKLY, [week], utc(now))
    due, limit = utc("2025-12-29 15:00"), utc("2025-12-30 15:00")
    assert tier_1 == Expected(WeekKey(week, T1), due, limit, is_due, is_late)
    assert [(one.key.tier, one.is_due) for one in (tier_2, otc)] == [(T2, False), (OTC, False)]


def test_nothing_is_expected_of_weeks_by_a_schedule_without_partitions() -> None:
    """Prevents a daily check from being taken for a partition that is missing."""
    for schedule in (RECHECK, HEALTH):
        assert expected(schedule, [date(2025, 12, 12)], T0) == []
        assert observe(facts({"OTC:2025-11-14": "2025-12-15 16:00"}), schedule, T0) == []


@pytest.mark.parametrize(
    ("hours", "severity"),
    [(0.1, "WARN"), (12.0, "WARN"), (23.9, "WARN"), (24.0, "ERROR"), (36, "ERROR")],  # 36: the documents' example
)
def test_a_day_late_is_an_error(hours: float, severity: str) -> None:
    """Prevents a boundary that drifts, and the documents' 36 hours from being a warning."""
    assert lateness(hours) == severity


# Hours that the data came after the deadline, and what is said; the deadline is Tuesday 2025-12-16 10:00 in New York.
LATE = [
    ("2025-12-16 15:00:01", "0.0", "WARN"),
    ("2025-12-17 03:00", "12.0", "WARN"),  # Tuesday 22:00 in New York: 36 hours after Monday 10:00, 12 too late
    ("2025-12-17 14:54", "23.9", "WARN"),
    ("2025-12-17 14:59:59", "23.9", "WARN"),
    ("2025-12-17 15:00", "24.0", "ERROR"),
    ("2025-12-18 03:00", "36.0", "ERROR"),
]


@pytest.mark.parametrize(("arrived", "hours", "severity"), LATE)
def test_late_data_tells_the_hours_after_the_deadline(arrived: str, hours: str, severity: str) -> None:
    """Prevents counting from publication, and a warning that reads 24.0."""
    text = "NMS_TIER_1:2025-11-28"
    observed = observe(facts({text: arrived}), WEEKLY, utc("2025-12-20 12:00"))
    assert found("LATE_DATA", observed).keys() == {text}
    (late,) = found("LATE_DATA", observed).values()
    assert late.message == f"Late data: arrived {hours} hours after the deadline"
    assert (late.severity, late.category, late.table_name) == (severity, Category.FRESHNESS, "otc_raw")
    assert late.details["expected"] == "2025-12-16T15:00:00+00:00"
    assert datetime.fromisoformat(late.details["actual"]) == utc(arrived)
    assert late.capture_id == f"capture of {text}"


@pytest.mark.parametrize(
    ("arrived", "first", "begun", "is_late"),
    [
        ("2025-12-17 03:00", None, "2025-12-16 14:59", True),
        ("2025-12-16 15:00", None, "2025-12-16 14:59", False),  # at the deadline
        ("2025-12-17 03:00", None, "2025-12-16 15:00", False),  # the store began at the deadline: loaded from history
        ("2025-12-17 03:00", "2025-12-15 16:00", "2025-12-01 00:00", False),  # restated; the first capture was in time
        ("2025-12-20 03:00", "2025-12-17 03:00", "2025-12-01 00:00", True),
    ],
)
def test_what_counts_as_late(arrived: str, first: str | None, begun: str, is_late: bool) -> None:
    """Prevents a late finding for every week of a history, and for every restatement."""
    text = "NMS_TIER_1:2025-11-28"
    came_first = {key(text): Known("first", utc(first or arrived))}
    given = facts({text: arrived}, first=came_first, begun_at=utc(begun))
    observed = observe(given, WEEKLY, utc("2025-12-20 12:00"))
    assert found("LATE_DATA", observed).keys() == ({text} if is_late else set())
    assert found("LATE_DATA", observed, is_open=False).keys() == (set() if is_late else {text})


def test_late_data_closes_when_its_week_is_no_longer_watched() -> None:
    """Prevents late weeks from staying open for ever. Week 13 after 2025-11-28 is 2026-02-20, due 2026-03-09 14:00."""
    text, given = "NMS_TIER_1:2025-11-28", facts({"NMS_TIER_1:2025-11-28": "2025-12-17 03:00"})
    before, after = (observe(given, WEEKLY, utc(f"2026-03-09 {when}")) for when in ("13:59", "14:00"))
    assert found("LATE_DATA", before).keys() == {text}
    assert found("LATE_DATA", after).keys() == set()
    assert found("LATE_DATA", after, is_open=False)[text].message == "its week is not among the 12 watched"


# Nothing of OTC 2025-11-28 came; it is due 2025-12-29 15:00 UTC. What is said when, and how grave it is.
MISSING = [
    ("2025-12-29 14:59", None, None, 0),
    ("2025-12-29 15:00", "INFO", "published 2025-12-29 15:00 UTC, expected by 2025-12-30 15:00 UTC: not there yet", 0),
    ("2025-12-30 15:00", "INFO", "published 2025-12-29 15:00 UTC, expected by 2025-12-30 15:00 UTC: not there yet", 0),
    ("2025-12-30 15:00:01", "ERROR", "not there since 2025-12-30 15:00 UTC", 0),
    ("2025-12-31 14:59", "ERROR", "not there since 2025-12-30 15:00 UTC", 0),
    ("2025-12-31 15:00", "ERROR", "not there since 2025-12-30 15:00 UTC: 1 day", 1),
    ("2026-01-02 15:00", "ERROR", "not there since 2025-12-30 15:00 UTC: 3 days", 3),
    ("2026-01-06 20:00", "ERROR", "not there since 2025-12-30 15:00 UTC: 7 days", 7),
]


@pytest.mark.parametrize(("now", "severity", "message", "days"), MISSING)
def test_a_missing_tier_is_info_before_its_deadline_and_an_error_after_it(
    now: str, severity: str | None, message: str | None, days: int
) -> None:
    """Prevents an error before FINRA can have published, silence after it, and a message that changes every minute."""
    given = facts({"NMS_TIER_1:2025-11-28": "2025-12-15 16:00", "NMS_TIER_2:2025-11-28": "2025-12-29 16:00"})
    observed = observe(given, WEEKLY, utc(now))
    one = found("NOT_DELIVERED", observed).get("OTC:2025-11-28")
    assert (one and one.severity, one and one.message) == (severity, message)
    if one:
        assert (one.stage, one.category, one.table_name) == (Stage.INGESTED, Category.INCOMPLETE_INPUT, "otc_raw")
        assert (one.domain, one.pipeline) == (FEED.domain, f"{FEED.domain}.weekly_refresh")
        assert one.details == {
            "due_at": "2025-12-29T15:00:00+00:00",
            "deadline": "2025-12-30T15:00:00+00:00",
            "days": days,
        }
    missed = found("MISSED_RUNS", observed).get("ALL:2025-11-28")
    if severity == "ERROR":
        assert missed is not None
        assert missed.message == "1 of 3 expected partitions absent: OTC"
        assert missed.details == {"expected": 3, "actual": 2, "missing": ["OTC"]}
        assert (missed.severity, missed.category, missed.key.tier) == (Severity.ERROR, Category.COMPLETENESS, None)
    else:
        assert missed is None


# A look that is not kept counts the hours of the first day.
LIVE = [
    ("2025-12-30 15:59", ""),
    ("2025-12-30 16:00", ": 1 hour"),
    ("2025-12-31 14:59", ": 23 hours"),
    ("2025-12-31 15:00", ": 1 day"),
    ("2026-01-02 14:59", ": 2 days"),
]


@pytest.mark.parametrize(("now", "lasting"), LIVE)
def test_a_look_tells_the_hours_of_the_first_day(now: str, lasting: str) -> None:
    """Prevents "0 days" from reading as if it were there, and another age than the one on record from the second on."""
    severity, message, details = absence(WEEKLY, WeekKey.from_string("OTC:2025-11-28"), utc(now))
    assert (severity, message) == (Severity.ERROR, f"not there since 2025-12-30 15:00 UTC{lasting}")
    assert details["days"] == (int(lasting[2]) if "day" in lasting else 0)


def test_missed_runs_count_what_must_be_there_by_now() -> None:
    """Prevents "2 of 3 absent" for tiers that FINRA publishes two weeks later."""
    given = facts({"NMS_TIER_1:2025-11-28": "2025-12-15 16:00"})
    observed = observe(given, WEEKLY, utc("2025-12-24 12:00"))
    assert {text: one.message for text, one in found("MISSED_RUNS", observed).items()} == {
        "ALL:2025-12-05": "1 of 1 expected partitions absent: NMS_TIER_1"
    }
    assert found("MISSED_RUNS", observed, is_open=False).keys() == {"ALL:2025-11-28"}


@pytest.mark.parametrize(
    ("arrived", "more", "missing"),
    [
        # Of Tier 1, 2025-12-05 was published on 2025-12-22, 2025-12-12 on the 29th; of OTC, 2025-11-28 on the 29th.
        ({}, {}, set()),  # nothing was ever captured: nothing to compare with
        (
            {"NMS_TIER_1:2025-11-28": "2025-12-15 16:00"},
            {},
            {"NMS_TIER_1:2025-12-05", "NMS_TIER_1:2025-12-12", "NMS_TIER_2:2025-11-28", "OTC:2025-11-28"},
        ),
        ({"OTC:2025-12-12": "2025-12-29 16:00"}, {}, {"NMS_TIER_1:2025-12-12"}),  # begins with that week, of any tier
        (
            {"NMS_TIER_1:2025-11-28": "2025-12-15 16:00"},
            {"first_week": date(2025, 12, 12)},
            {"NMS_TIER_1:2025-12-12"},
        ),
        # The first day failed, altogether or for one tier: that is not a store without a beginning.
        (
            {},
            {"in_vain": date(2025, 11, 28)},
            {f"NMS_TIER_1:2025-{day}" for day in ("11-28", "12-05", "12-12")}
            | {"NMS_TIER_2:2025-11-28", "OTC:2025-11-28"},
        ),
        (
            {"NMS_TIER_1:2025-12-12": "2025-12-29 16:00"},
            {"in_vain": date(2025, 11, 28)},
            {"NMS_TIER_1:2025-11-28", "NMS_TIER_1:2025-12-05", "NMS_TIER_2:2025-11-28", "OTC:2025-11-28"},
        ),
    ],
)
def test_only_watched_weeks_are_missing(arrived: dict[str, str], more: dict[str, Any], missing: set[str]) -> None:
    """Prevents the weeks before a feed, or before its first load, from being gaps."""
    observed = observe(facts(arrived, **more), WEEKLY, utc("2025-12-30 12:00"))
    assert found("NOT_DELIVERED", observed).keys() == missing


def test_as_many_weeks_are_watched_as_the_schedule_says() -> None:
    """Prevents a store of years from reporting every old gap, and the newest from being left out."""
    given = facts({"NMS_TIER_1:2023-01-06": "2023-01-23 16:00"})
    observed = observe(given, WEEKLY, utc("2025-12-30 12:00"))
    missing = found("NOT_DELIVERED", observed)
    weeks = {tier: [text.split(":")[1] for text in missing if text.startswith(tier)] for tier in Tier}
    assert {tier: (len(of), min(of), max(of)) for tier, of in weeks.items()} == {
        "NMS_TIER_1": (12, "2025-09-26", "2025-12-12"),
        "NMS_TIER_2": (12, "2025-09-12", "2025-11-28"),
        "OTC": (12, "2025-09-12", "2025-11-28"),
    }
    # Of the week that came, two tiers are missing for years: it is not watched.
    assert min(found("MISSED_RUNS", observed)) == "ALL:2025-09-12"


def test_a_schedule_may_expect_earlier_than_finra_publishes() -> None:
    """Prevents a week that the schedule has as due from being missing only once FINRA's earliest hour has come."""
    early = replace(WEEKLY, expected_time=time(5))
    given = facts({"NMS_TIER_1:2025-12-05": "2025-12-22 16:00"})
    assert found("NOT_DELIVERED", observe(given, early, utc("2025-12-29 09:59"))).keys() == set()
    assert found("NOT_DELIVERED", observe(given, early, utc("2025-12-29 10:00"))).keys() == {"NMS_TIER_1:2025-12-12"}


def test_a_schedule_that_is_not_active_expects_nothing() -> None:
    """Prevents findings of a schedule that was switched off."""
    given = facts({"NMS_TIER_1:2025-11-28": "2025-12-15 16:00"})
    assert observe(given, replace(WEEKLY, is_active=False), utc("2025-12-30 12:00")) == []


CHAIN = RAW_CHAIN | {
    Stage.NORMALIZED: ("otc_venue_volume",),
    Stage.AGGREGATED: ("otc_a", "otc_b"),
    Stage.ROLLING: ("otc_r",),
}
EVERY = ["otc_venue_volume", "otc_a", "otc_b", "otc_r"]


@pytest.mark.parametrize(
    ("there", "hours", "stage", "message"),
    [
        (EVERY, 0.5, None, None),
        (EVERY, 48, None, None),
        ([], 1.0, None, None),  # within the hour
        ([], 1.001, "NORMALIZED", "NORMALIZED: otc_venue_volume is not there"),
        (["otc_venue_volume", "otc_a"], 2, "AGGREGATED", "AGGREGATED: otc_b is not there"),
        (["otc_venue_volume", "otc_r"], 2, "AGGREGATED", "AGGREGATED: otc_a, otc_b are not there"),
        (["otc_venue_volume", "otc_a", "otc_b"], 2, "ROLLING", "ROLLING: otc_r is not there"),
    ],
)
def test_an_incomplete_chain_is_told_by_its_first_missing_stage(
    there: list[str], hours: float, stage: str | None, message: str | None
) -> None:
    """Prevents a partition that was captured and never normalised from passing for one that is ready."""
    text = "OTC:2025-11-14"
    arrived = {key(text): Known("c", T0)}
    current = {"otc_raw": arrived} | {name: arrived if name in there else {} for name in EVERY}
    observed = observe(facts({text: "2025-12-15"}, chain=CHAIN, current=current), WEEKLY, T0 + timedelta(hours=hours))
    one = found("INCOMPLETE_STAGE_CHAIN", observed).get(text)
    assert (one and one.stage, one and one.message) == (stage, message)
    closes = found("INCOMPLETE_STAGE_CHAIN", observed, is_open=False).keys()
    assert closes == ({text} if there == EVERY else set())  # within the hour nothing is said, so nothing flaps
    if one:
        assert (one.severity, one.category) == (Severity.ERROR, Category.COMPLETENESS)
        named = [name for names in one.details["missing"].values() for name in names]
        assert named == [name for name in EVERY if name not in there]


def partitions(first: str, last: str, without: Collection[str] = ()) -> dict[str, str]:
    """All tiers of the weeks, but for some; all of them arrived together."""
    every = [f"{tier}:{week}" for week in weeks_between(*map(date.fromisoformat, (first, last))) for tier in Tier]
    return {text: "2026-01-20 16:00" for text in every if text not in without}


GONE = {"NMS_TIER_1:2025-12-05", "NMS_TIER_2:2025-12-05", "OTC:2025-12-05"}
COUNTS = [
    # The documents' weeks by their Fridays: 3 weeks x 3 tiers, all of 2025-12-05 missing; 4 weeks, OTC missing once.
    ("2025-12-05", "2025-12-19", GONE, "2026-01-21 00:00", 9, 6, GONE),
    ("2025-11-28", "2025-12-19", {"OTC:2025-12-19"}, "2026-01-21 00:00", 12, 11, {"OTC:2025-12-19"}),
    # Tier 2 and OTC of 2025-12-19 are due on Tuesday 2026-01-20 15:00 UTC, after a holiday: before that no gap.
    ("2025-11-28", "2025-12-19", {"OTC:2025-12-19"}, "2026-01-20 14:59", 10, 10, set()),
    ("2025-11-28", "2025-12-19", set(), "2026-01-21 00:00", 12, 12, set()),
]


@pytest.mark.parametrize(("first", "last", "without", "now", "all_of_them", "actual", "missing"), COUNTS)
def test_gaps_are_counted(
    first: str, last: str, without: set[str], now: str, all_of_them: int, actual: int, missing: set[str]
) -> None:
    """Prevents comparing keys of two kinds, of which none is equal and everything is missing."""
    weeks = weeks_between(date.fromisoformat(first), date.fromisoformat(last))
    counted = gaps(facts(partitions(first, last, without)), WEEKLY, weeks, utc(now))
    assert (len(counted.expected), counted.actual) == (all_of_them, actual)
    assert {str(one.key) for one in counted.missing} == missing


YEAR = weeks_between(date(2025, 1, 3), date(2026, 1, 30))
SOME = st.sets(st.tuples(st.sampled_from(YEAR), st.sampled_from(Tier)), min_size=1, max_size=60)


@given(SOME, st.datetimes(datetime(2025, 3, 1), datetime(2026, 2, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_every_gap_of_the_watched_weeks_is_observed_once_and_nothing_that_is_there(
    there: set[tuple[date, Tier]], now: datetime
) -> None:
    """Prevents a partition that is neither there nor missing, or both, at any hour and for any holes."""
    given = facts({str(WeekKey(week, tier)): "2025-02-01" for week, tier in there})
    observed = [one for one in observe(given, WEEKLY, now) if one.code == "NOT_DELIVERED"]
    assert len({one.key for one in observed}) == len(observed)
    assert {one.key for one in observed if not one.is_open} == {WeekKey(week, tier) for week, tier in there}
    for tier in Tier:
        due = [week for week in YEAR if due_at(WEEKLY, week, tier) <= now]
        watched = [week for week in due[-12:] if week >= min(week for week, _ in there)]
        wanted = {one.key for one in gaps(given, WEEKLY, watched, now).missing if one.key.tier is tier}
        mine = [one for one in observed if one.is_open and one.key.tier is tier]
        assert {one.key for one in mine} == wanted
        for one in mine:
            is_late = now > deadline(WEEKLY, one.key.week_ending, tier)
            assert one.severity is (Severity.ERROR if is_late else Severity.INFO)
