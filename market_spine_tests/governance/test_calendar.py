"""Calendar vintages on record, corrections, what follows from them, and the anomalies while it has not followed yet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.assets.calendar import observe_calendar
from market_spine.assets.capture import capture
from market_spine.assets.record import VERBS
from market_spine.assets.tables import CALENDAR
from market_spine.cli.calendar import EXAMPLE
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.corrections import Correction
from market_spine.domain.errors import CalendarError, CaptureConflict
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.vintages import DayChange, MonthChange, corrected
from market_spine.domain.weeks import weeks_between
from market_spine.feeds.otc import FEED
from market_spine.governance.anomalies import Changes, Observation
from market_spine.governance.calendar import (
    Library,
    calendar_observations,
    current_vintage,
    installed,
    is_in_force,
    read_correction,
    record_correction,
)
from market_spine.governance.staleness import Place
from market_spine.store import vintages
from market_spine.store.ledger import transaction
from market_spine.store.manifest import Question
from market_spine.store.schema import DELIVERIES
from market_spine.store.store import Store
from market_spine.store.trust_tables import CALENDAR_VINTAGES, CERTIFICATES, READINESS
from market_spine.store.vintages import Recorded
from market_spine_tests.domain.vintage_lab import CARTER, EARLY, MLK, closed, correction, library, opened
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
    knowing,
    places,
    without,
)
from market_spine_tests.governance.ledger import CALENDAR as CALENDAR_INPUT
from market_spine_tests.governance.ledger import table
from market_spine_tests.store.builders import RUN, T0
from market_spine_tests.store.good_rows import GOOD
from market_spine_tests.store.processes import at_once

MLK_WEEK, CARTER_WEEK = date(2025, 1, 24), date(2025, 1, 10)


@pytest.fixture
def desk(sqlite_store: Store) -> Iterator[Desk]:
    with desk_at(sqlite_store) as made:
        yield made


def every(store: Store) -> list[Recorded]:
    with store.control.read() as connection:
        return vintages.every(connection)


def put(store: Store, *found: Any) -> list[Recorded]:
    with transaction(store.control, store.home, RUN, CALENDAR_VINTAGES.name) as draft:
        return [vintages.put(draft, one, "a reason", "operations") for one in found]


# Vintages on record, on both databases


def test_vintages_come_back_as_they_were_put_in(store: Store) -> None:
    """Prevents a vintage whose text a database changes, and one that cannot be found by its number."""
    with store.control.read() as connection:
        assert vintages.newest(connection) is None
        assert vintages.every(connection) == []
        assert vintages.by_number(connection, 1) is None
    mlk = corrected(library(), opened(MLK))
    first, second = put(store, library(), mlk)
    assert first == Recorded(1, library(), "a reason", "operations", T0)
    assert second == replace(first, number=2, vintage=mlk)
    with store.control.read() as connection:
        assert vintages.newest(connection) == vintages.by_number(connection, 2) == second
        assert vintages.every(connection) == [first, second]
        row = connection.execute(sa.select(CALENDAR_VINTAGES).order_by(CALENDAR_VINTAGES.c.vintage)).mappings().first()
    assert row is not None
    assert (row["exchange_code"], row["library_version"], row["content_hash"], row["execution_id"]) == (
        "XNYS",
        "4.13.2",
        library().content_hash,
        RUN.execution_id,
    )


@pytest.mark.parametrize("change", [{"content_hash": "0" * 64}, {"document": library().document() + " "}], ids=list)
def test_a_damaged_vintage_is_refused(store: Store, change: dict[str, str]) -> None:
    """Prevents weeks from being captured from a calendar that nobody recorded."""
    put(store, library())
    with store.control.write() as connection:
        connection.execute(sa.update(CALENDAR_VINTAGES).values(**change))
    with store.control.read() as connection, pytest.raises(CalendarError, match="damaged") as caught:
        vintages.newest(connection)
    assert caught.value.remedy


def test_a_build_is_recorded_once_with_what_it_replaces(store: Store) -> None:
    """Prevents a row for every run, and a newer library that goes unnoticed because it says the same."""
    first = current_vintage(store, RUN, REAL)
    assert (first.number, first.reason, first.actor) == (1, "exchange_calendars 4.13.2", "exchange_calendars")
    assert current_vintage(store, RUN, REAL) == first
    newer = Library("4.14.0", lambda version: replace(library(), library_version=version))
    second = current_vintage(store, RUN, newer)
    assert (second.number, second.reason) == (2, "exchange_calendars 4.13.2 -> 4.14.0")
    assert second.vintage.content_hash == first.vintage.content_hash
    assert every(store) == [first, second]


def test_corrections_go_on_holding_on_a_newer_build(store: Store) -> None:
    """Prevents an upgrade that undoes corrections, or that lets an earlier one win over a later one."""
    for one in (opened(MLK), closed(CARTER, MLK)):
        record_correction(store, RUN, one, without(CARTER))
    before = every(store)[-1].vintage
    assert before.session_count(CARTER_WEEK) == before.session_count(MLK_WEEK) == 4.0
    after = current_vintage(store, RUN, REAL)
    assert (after.number, after.vintage.corrections) == (4, before.corrections)
    assert after.vintage.content_hash == before.content_hash == library().content_hash


def test_a_correction_is_recorded_once_whatever_its_file_is_called(store: Store) -> None:
    """Prevents a second vintage from the same correction; the build is recorded before it where there is none."""
    mlk = opened(MLK)
    recorded, is_new = record_correction(store, RUN, mlk, REAL)
    assert (recorded.number, recorded.reason, recorded.actor, is_new) == (2, mlk.reason, mlk.actor, True)
    for one in (mlk, replace(mlk, name="renamed.yaml")):
        assert record_correction(store, RUN, one, REAL) == (recorded, False)
    assert len(every(store)) == 2


def test_a_correction_that_was_overruled_can_be_applied_again(store: Store) -> None:
    """Prevents a correction from passing for in force because it is on record somewhere."""
    for number, one in enumerate((opened(MLK), closed(MLK), opened(MLK)), start=2):
        recorded, is_new = record_correction(store, RUN, one, REAL)
        assert (recorded.number, is_new) == (number, True)
    assert [one.vintage.session_count(MLK_WEEK) for one in every(store)] == [4.0, 5.0, 4.0, 5.0]


def test_what_the_library_says_already_is_still_recorded(store: Store) -> None:
    """Prevents a correction that a later library would undo from being dropped because today's agrees with it."""
    assert not is_in_force(library(), closed(CARTER))
    recorded, is_new = record_correction(store, RUN, closed(CARTER), REAL)
    assert (recorded.number, is_new, recorded.vintage.content_hash) == (2, True, library().content_hash)
    assert is_in_force(recorded.vintage, closed(CARTER))
    assert current_vintage(store, RUN, without(CARTER)).vintage.content_hash == library().content_hash


def record_first(root: Path, url: str) -> int:
    store = Store.at(root, url)
    return current_vintage(store, RUN, installed()).number


def record_same(root: Path, url: str) -> tuple[int, bool]:
    recorded, is_new = record_correction(Store.at(root, url), RUN, opened(MLK), installed())
    return recorded.number, is_new


@pytest.mark.slow
def test_several_processes_at_once_record_one_row(store: Store) -> None:
    """Prevents the same build and the same correction from being there once per process."""
    place = (store.home.root, store.control.engine.url.render_as_string(hide_password=False))
    assert at_once(record_first, [place] * 3) == [1, 1, 1]
    told: list[tuple[int, bool]] = at_once(record_same, [place] * 3)
    assert sorted(told) == [(2, False), (2, False), (2, True)]
    assert [one.number for one in every(store)] == [1, 2]


# Captures from the vintage


def test_deliveries_name_the_vintage_and_unchanged_weeks_stay(desk: Desk) -> None:
    """Prevents a capture whose calendar nobody can name, and new captures of weeks that a vintage does not change."""
    weeks = weeks_between(date(2025, 1, 10), date(2025, 1, 31))
    assert len(desk.capture(weeks).written) == 4
    before = desk.calendar()
    record_correction(desk.store, desk.run(), opened(MLK), REAL)
    report = desk.capture(weeks)
    assert [one.week_ending for one in report.written] == [MLK_WEEK]
    after = desk.calendar()
    assert {week for week in weeks if after[week] != before[week]} == {MLK_WEEK}
    assert [one.row_count for one in (before[MLK_WEEK], after[MLK_WEEK])] == [4, 5]
    with desk.store.control.read() as connection:
        select = sa.select(DELIVERIES.c.source_name).distinct().order_by(DELIVERIES.c.source_name)
        named = list(connection.scalars(select))
    assert named == [f"exchange_calendars 4.13.2 XNYS, vintage {number}" for number in (1, 2)]


def test_a_vintage_that_comes_meanwhile_is_captured_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the slower of two processes from putting the old sessions back over the corrected ones."""
    desk.capture([MLK_WEEK])
    calls = []

    def overtaken(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 1:  # another process corrects and captures, while this one has read vintage 1
            desk.correct(opened(MLK))
        capture(*arguments)

    monkeypatch.setattr("market_spine.assets.calendar.capture", overtaken)
    desk.capture([MLK_WEEK])
    assert desk.calendar()[MLK_WEEK].row_count == 5
    assert len(calls) == 3  # overtaken, the other one, and once more


def test_vintages_without_end_are_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents two machines with two libraries from overtaking one another for ever."""
    builds = iter(range(100))

    def overtaken(*arguments: Any) -> None:
        version = f"5.{next(builds)}"
        current_vintage(desk.store, desk.run(), Library(version, lambda name: replace(library(), library_version=name)))
        capture(*arguments)

    monkeypatch.setattr("market_spine.assets.calendar.ATTEMPTS", 3)
    monkeypatch.setattr("market_spine.assets.calendar.capture", overtaken)
    with pytest.raises(CaptureConflict, match="each of 3 attempts") as caught:
        desk.capture([MLK_WEEK])
    assert caught.value.remedy.endswith("spine calendar list")


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


# Files


def test_the_example_is_a_correction(tmp_path: Path) -> None:
    """Prevents a template that is refused."""
    path = tmp_path / "mlk.yaml"
    path.write_text(EXAMPLE)
    found = read_correction(path)
    assert (found.reason, found.name) == ("MLK Day 2025 was an OTC trading day", "mlk.yaml")
    assert corrected(library(), found).session_count(MLK_WEEK) == 5.0


GOOD_FILE = "reason: r\nactor: a\ndated: 2025-02-03\nexchange: XNYS\n"
BAD_FILES = {
    b"open: [": "it is not YAML",
    f"{GOOD_FILE}open: [2025-02-30]".encode(): "it is not YAML",
    b"\xff\xfe\x00": "it cannot be read",
    b"": "None is not a mapping",
    b"- 2025-01-20": "is not a mapping",
    f"{GOOD_FILE}open: [2025-01-20]\nopen: [2025-01-21]".encode(): "line 6: open is there twice",
    f'{GOOD_FILE}early_close: {{2025-01-20: "13:00", 2025-01-20: "14:00"}}'.encode(): "2025-01-20 is there twice",
    f"{GOOD_FILE}open: &a [*a]".encode(): "is not a date",
    f"{GOOD_FILE}".encode(): "changes no day",
}


@pytest.mark.parametrize(("content", "cause"), BAD_FILES.items(), ids=range(len(BAD_FILES)))
def test_a_bad_file_says_what_is_wrong_with_it(tmp_path: Path, content: bytes, cause: str) -> None:
    """Prevents a traceback from YAML, and a second key that silently replaces the first one's days."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(CalendarError) as caught:
        read_correction(path)
    assert cause in caught.value.cause
    assert "bad.yaml" in caught.value.cause
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    """Prevents an OSError from leaving the door."""
    with pytest.raises(CalendarError, match="cannot be read"):
        read_correction(tmp_path / name)


def test_the_installed_build_is_the_real_one() -> None:
    """Prevents the name of the distribution from being mistaken, and a vintage of another version than it says."""
    assert installed().vintage(installed().version).library_version == installed().version
    assert knowing(opened(MLK), "5.0").vintage("5.0").session_count(MLK_WEEK) == 5.0
