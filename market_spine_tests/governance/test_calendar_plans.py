"""What follows from a correction of the calendar, and the anomalies while it has not followed yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.assets.calendar import observe_calendar
from market_spine.assets.tables import CALENDAR
from market_spine.domain.captures import VERBS
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.corrections import Correction
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.vintages import DayChange, MonthChange
from market_spine.domain.weeks import weeks_between
from market_spine.feeds.otc import FEED
from market_spine.governance.anomalies import Changes, Observation
from market_spine.governance.calendar import (
    calendar_observations,
    record_correction,
)
from market_spine.governance.staleness import Place
from market_spine.store import vintages
from market_spine.store.manifest import Question
from market_spine.store.store import Store
from market_spine.store.trust_tables import CALENDAR_VINTAGES, CERTIFICATES, READINESS
from market_spine.store.vintages import Recorded
from market_spine_tests.domain.vintage_lab import CARTER, EARLY, MLK, closed, correction, opened
from market_spine_tests.governance.calendar_desk import (
    BASELINE,
    DERIVED,
    OTC,
    PER_DAY,
    REAL,
    SIX_WEEKS,
    T1,
    Desk,
    desk_at,
    places,
    without,
)
from market_spine_tests.governance.ledger import CALENDAR as CALENDAR_INPUT
from market_spine_tests.governance.ledger import table
from market_spine_tests.store.good_rows import GOOD

MLK_WEEK, CARTER_WEEK = date(2025, 1, 24), date(2025, 1, 10)


@pytest.fixture
def desk(sqlite_store: Store) -> Iterator[Desk]:
    with desk_at(sqlite_store) as made:
        yield made


def every(store: Store) -> list[Recorded]:
    with store.control.read() as connection:
        return vintages.every(connection)


# Plans

LATE = [  # days closed late, their week, its sessions without and with them, its month; the last weeks of both windows
    (
        [date(2012, 10, 29), date(2012, 10, 30)],
        "2012-11-02",
        (5.0, 3.0),
        (2012, 10, 23, 21),
        "2012-12-07",
        "2013-01-25",
    ),
    ([date(2018, 12, 5)], "2018-12-07", (5.0, 4.0), (2018, 12, 20, 19), "2019-01-11", "2019-03-01"),
    ([date(2022, 6, 20)], "2022-06-24", (5.0, 4.0), (2022, 6, 22, 21), "2022-07-29", "2022-09-16"),
    ([CARTER], "2025-01-10", (5.0, 4.0), (2025, 1, 21, 20), "2025-02-14", "2025-04-04"),
]


@pytest.mark.parametrize(("days", "friday", "counts", "month", "six", "thirteen"), LATE, ids=[one[1] for one in LATE])
def test_the_plan_of_a_late_closure_is_exact(
    desk: Desk,
    days: list[date],
    friday: str,
    counts: tuple[float, float],
    month: tuple[int, int, int, int],
    six: str,
    thirteen: str,
) -> None:
    """Prevents a plan that forgets a window, or that makes what the correction does not reach."""
    build, week = without(*days), date.fromisoformat(friday)
    desk.load(weeks_between(week - timedelta(weeks=2), week + timedelta(weeks=14)), build=build)
    plan = desk.plan(closed(*days), build)
    assert plan.days == tuple(DayChange(day, "09:30-16:00", "closed") for day in days)
    assert plan.months == (MonthChange(*month),)
    assert [(one.week, one.before, one.after) for one in plan.weeks] == [(week, *counts)]
    windows = {PER_DAY: friday, SIX_WEEKS: six, BASELINE: thirteen}
    assert places(plan) == {
        Place(name, WeekKey(one, tier))
        for name, last in windows.items()
        for one in weeks_between(week, date.fromisoformat(last))
        for tier in (T1, OTC)
    }
    assert {name: plan.weeks_back[name] for name in windows} == {PER_DAY: 0, SIX_WEEKS: 5, BASELINE: 12}
    assert (plan.is_done, plan.is_recorded, plan.build, len(every(desk.store))) == (False, False, "", 1)


def test_what_was_never_captured_is_not_planned(desk: Desk) -> None:
    """Prevents a correction of 2012 from capturing weeks that nobody loaded; it is recorded all the same."""
    desk.load([MLK_WEEK])
    plan = desk.plan(opened(date(2012, 10, 29)))
    assert (plan.weeks, places(plan), plan.certificates, plan.is_done) == ((), set(), (), False)
    assert [one.day for one in plan.days] == [date(2012, 10, 29)]


def test_a_plan_before_anything_was_captured(desk: Desk) -> None:
    """Prevents a plan that needs, or makes, a vintage."""
    plan = desk.plan(opened(MLK))
    assert (plan.held, plan.build, plan.weeks) == (None, "exchange_calendars 4.13.2", ())
    assert plan.months == (MonthChange(2025, 1, 20, 21),)
    assert every(desk.store) == []


def test_a_newer_library_is_part_of_the_plan(desk: Desk) -> None:
    """Prevents days that the library changed from being told as the correction's."""
    desk.load([CARTER_WEEK, MLK_WEEK], build=without(CARTER))
    plan = desk.plan(opened(MLK), REAL)
    assert plan.build == "exchange_calendars 4.0 -> 4.13.2"
    assert [one.day for one in plan.days] == [MLK]
    assert [one.week for one in plan.weeks] == [MLK_WEEK]
    desk.correct(opened(MLK), REAL)
    assert [one.reason for one in every(desk.store)][1:] == [plan.build, "a reason"]
    assert desk.calendar()[CARTER_WEEK].row_count == 5  # until its week is captured again


def test_nothing_is_left_to_do_after_it(desk: Desk) -> None:
    """Prevents a second application that captures or records again."""
    desk.load([MLK_WEEK])
    desk.correct(opened(MLK))
    plan = desk.plan(opened(MLK))
    assert (plan.is_done, plan.is_recorded, plan.days, plan.weeks, places(plan)) == (True, True, (), (), set())


def test_an_interrupted_application_is_planned_to_its_end(desk: Desk) -> None:
    """Prevents a kill after the vintage from leaving weeks that no later application captures."""
    desk.load([CARTER_WEEK, MLK_WEEK])
    both = opened(CARTER, MLK)
    record_correction(desk.store, desk.run(), both, REAL)
    assert [one.week for one in desk.plan(both).weeks] == [CARTER_WEEK, MLK_WEEK]
    desk.capture([CARTER_WEEK])
    plan = desk.plan(both)
    assert (plan.is_recorded, plan.is_done, plan.days) == (True, False, ())
    assert [(one.week, one.before, one.after) for one in plan.weeks] == [(MLK_WEEK, 4.0, 5.0)]


def test_other_hours_are_another_capture(desk: Desk) -> None:
    """Prevents a change that leaves the count as it is from being overlooked: 13:00 instead of 14:00 counts a half."""
    july = date(2025, 7, 3)
    desk.load([date(2025, 7, 4)])
    plan = desk.plan(correction({july: EARLY.replace(hour=14)}))
    assert [(one.before, one.after) for one in plan.weeks] == [(3.5, 3.5)]
    assert plan.months == ()


def certify(store: Store, week: date, ready_for: str, number: int, is_ready: int = 1) -> None:
    """A verdict by hand, with a certificate where it is ready."""
    certificate = f"{number:064}"
    named = {"week_ending": week, "ready_for": ready_for}
    place = {"id": number, "certificate_id": certificate, "partition_key": WeekKey(week, None).partition_key}
    row = GOOD["core_data_readiness"] | named | place
    with store.control.write() as connection:
        connection.execute(sa.insert(CERTIFICATES), GOOD["core_certificates"] | named | {"certificate_id": certificate})
        if not is_ready:
            row |= {"is_ready": 0, "state": "BLOCKED", "certificate_id": None}
        connection.execute(sa.insert(READINESS), row)


def test_certificates_that_rest_on_it_are_named(desk: Desk) -> None:
    """Prevents a certificate from being told as superseded that the correction does not touch, or the reverse."""
    weeks = weeks_between(MLK_WEEK - timedelta(weeks=1), MLK_WEEK + timedelta(weeks=14))
    desk.load(weeks, tiers=(OTC,))
    last = MLK_WEEK + timedelta(weeks=12)  # of the baseline's window
    held = [
        (weeks[0], "trading", 1),
        (MLK_WEEK, "trading", 1),
        (MLK_WEEK, "compliance", 0),
        (MLK_WEEK, "research", 1),  # of Tier 1 alone, which is not there
        (last, "trading", 1),
        (last + timedelta(weeks=1), "trading", 1),
    ]
    for number, (week, ready_for, is_ready) in enumerate(held):
        certify(desk.store, week, ready_for, number, is_ready)
    plan = desk.plan(opened(MLK))
    named = [(row["week_ending"], row["ready_for"], int(row["certificate_id"])) for row in plan.certificates]
    assert named == [(MLK_WEEK, "trading", 1), (last, "trading", 4)]


# Anomalies


def observed(desk: Desk, *derived: Any) -> list[Observation]:
    return calendar_observations(desk.store, CALENDAR, derived or list(DERIVED.values()), VERBS)


def messages(desk: Desk) -> dict[str, str]:
    """What is open: partition -> message."""
    return {str(one.key): one.message for one in observed(desk) if one.is_open}


def test_exactly_what_reads_a_corrected_week_is_open_until_it_is_made_again(desk: Desk) -> None:
    """Prevents windows and other weeks from being blamed, and a finding that outlives what it found (F183)."""
    desk.load([CARTER_WEEK, MLK_WEEK])
    assert {one.is_open for one in observed(desk)} == {False}
    desk.correct(replace(opened(MLK), reason="MLK Day 2025 was an OTC trading day"))
    told = "the trading calendar of 2025-01-24 changed from 4 to 5 sessions: MLK Day 2025 was an OTC trading day"
    assert messages(desk) == {"NMS_TIER_1:2025-01-24": told, "OTC:2025-01-24": told}
    one = next(one for one in observed(desk) if one.is_open and one.key.tier is OTC)
    assert (one.table_name, one.code, one.severity, one.category) == (
        PER_DAY,
        "CALENDAR_CORRECTED",
        Severity.WARN,
        Category.DEPENDENCY,
    )
    assert one.details == {
        "vintage": 2,
        "reason": "MLK Day 2025 was an OTC trading day",
        "actor": "operations",
        "days": [{"day": "2025-01-20", "before": "closed", "after": "09:30-16:00"}],
    }
    (held,) = [
        each for each in desk.store.select(Question((PER_DAY,), weeks=[MLK_WEEK])) if each.key == WeekKey(MLK_WEEK, OTC)
    ]
    assert (one.capture_id, one.affected) == (held.capture_id, held.row_count)
    desk.make((PER_DAY,), [WeekKey(MLK_WEEK, OTC)])
    assert messages(desk) == {"NMS_TIER_1:2025-01-24": told}
    desk.make((PER_DAY,), [WeekKey(MLK_WEEK, T1)])
    assert messages(desk) == {}


@pytest.mark.parametrize(
    ("corrections", "message"),
    [
        ([opened(MLK), correction({MLK: EARLY})], "changed from 4 to 4.5 sessions: a reason"),
        ([opened(MLK), closed(MLK)], "changed: a reason"),
        ([correction({MLK: EARLY, date(2025, 1, 21): EARLY})], "changed: a reason"),
    ],
    ids=["twice", "and back", "one for another"],
)
def test_a_week_that_was_corrected_in_another_way(desk: Desk, corrections: list[Correction], message: str) -> None:
    """Prevents a message that tells the last step only, or '4 to 4 sessions'; what was made from it is old anyway."""
    desk.load([MLK_WEEK], tiers=(OTC,))
    for one in corrections:
        desk.correct(one)
    assert messages(desk) == {"OTC:2025-01-24": f"the trading calendar of 2025-01-24 {message}"}


def test_a_newer_library_is_the_reason_where_it_is(desk: Desk) -> None:
    """Prevents a reason taken from a correction of another week."""
    desk.load([CARTER_WEEK, MLK_WEEK], tiers=(OTC,), build=without(CARTER))
    desk.capture([CARTER_WEEK])
    desk.correct(opened(date(2025, 2, 17)))
    why = "changed from 5 to 4 sessions: exchange_calendars 4.0 -> 4.13.2"
    assert messages(desk) == {"OTC:2025-01-10": f"the trading calendar of 2025-01-10 {why}"}


def test_a_capture_from_before_vintages_were_kept(desk: Desk) -> None:
    """Prevents a store of an earlier version from failing at its first correction."""
    desk.load([MLK_WEEK], tiers=(OTC,), build=without(MLK))
    with desk.store.control.write() as connection:
        connection.execute(sa.delete(CALENDAR_VINTAGES))
    desk.capture([MLK_WEEK])
    with desk.store.control.write() as connection:
        connection.execute(sa.delete(CALENDAR_VINTAGES))
    told = "the trading calendar of 2025-01-24 changed from 5 to 4 sessions"
    assert messages(desk) == {"OTC:2025-01-24": told}
    desk.capture([MLK_WEEK])
    assert messages(desk) == {"OTC:2025-01-24": f"{told}: exchange_calendars 4.13.2"}


def test_a_window_over_the_calendar_names_each_of_its_weeks(desk: Desk) -> None:
    """Prevents a reader of several weeks of the calendar from being told of one."""
    weeks = weeks_between(CARTER_WEEK, MLK_WEEK)
    desk.capture(weeks, without(CARTER))
    window = table("sessions", CALENDAR_INPUT, weeks_back=2)
    desk.ledger.make(window, [WeekKey(MLK_WEEK, OTC)])
    desk.correct(replace(opened(MLK), reason="one"), without(CARTER))
    desk.correct(replace(closed(CARTER), reason="two"), without(CARTER))
    (found,) = observed(desk, window)
    assert found.message == (
        "the trading calendar of 2025-01-10 changed from 5 to 4 sessions: two; "
        "the trading calendar of 2025-01-24 changed from 4 to 5 sessions: one"
    )
    assert [one["day"] for one in found.details["days"]] == ["2025-01-09", "2025-01-20"]


def test_findings_are_recorded_once_and_resolved(desk: Desk) -> None:
    """Prevents a sensor that writes a line a minute, and one that closes what others found."""
    desk.load([MLK_WEEK])
    assert observe_calendar(desk.store, desk.run(), [FEED]) == Changes()
    desk.correct(opened(MLK))
    opened_rows = observe_calendar(desk.store, desk.run(), [FEED]).opened
    assert [(row["tier"], row["code"]) for row in opened_rows] == [
        (tier.value, "CALENDAR_CORRECTED") for tier in (T1, OTC)
    ]
    assert json.loads(opened_rows[0]["details_json"])["vintage"] == 2
    assert observe_calendar(desk.store, desk.run(), [FEED]) == Changes()
    desk.make((PER_DAY,), [WeekKey(MLK_WEEK, tier) for tier in Tier])
    resolved = observe_calendar(desk.store, desk.run(), [FEED]).resolved
    assert {row["resolution_note"] for row in resolved} == {
        "holds again: made from the trading calendar that holds now"
    }
    assert [row["id"] for row in resolved] == [row["id"] for row in opened_rows]
