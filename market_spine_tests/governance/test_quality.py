"""Scores and grades: worked out by hand from facts, laws over all facts, and what a real store is given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.contracts import Category, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.operations import Grade
from market_spine.feeds.otc import OTC as FEED
from market_spine.governance import quality
from market_spine.governance.anomalies import Observation, record
from market_spine.governance.quality import (
    COMPLETENESS,
    CONSISTENCY,
    TIMELINESS,
    VALIDITY,
    Facts,
    grade_of,
    grade_weeks,
    score_of,
)
from market_spine.store import scores
from market_spine.store.commit import commit
from market_spine.store.events import CHAIN, event_id_of
from market_spine.store.ledger import Run
from market_spine.store.operations_tables import QUALITY_SCORES
from market_spine.store.schema import BATCHES
from market_spine.store.store import Store
from market_spine.store.trust_tables import EVENTS
from market_spine_tests.governance.clinic import SHARE, TABLES, VOLUME, WEEKLY, Clinic, utc
from market_spine_tests.store.builders import T0, batch, delivery, raw, reject
from market_spine_tests.store.builders import quality as checked

WARN, ERROR, CRITICAL = Severity.WARN, Severity.ERROR, Severity.CRITICAL
LACKING = ["otc_symbol_hhi", "otc_liquidity_score", "otc_venue_share"]


@pytest.mark.parametrize(
    ("facts", "components", "score", "grade"),
    [
        # completeness, validity, consistency, timeliness; .3 + .3 + .2 + .2
        (Facts(11), (1, 1, 1, 1), 1.0, "A"),
        (Facts(0), (1, 1, 1, 1), 1.0, "A"),  # a feed without measures
        # 11 tables, 3 not there: 8/11 = .7273 complete and shown to agree; .3 * .7273 + .3 + .2 * .7273 + .2 = .8637
        (Facts(11, LACKING), (0.7273, 1, 0.7273, 1), 0.8637, "B"),
        (Facts(2, ["a", "b"]), (0, 1, 0, 1), 0.5, "D"),  # nothing but raw: .3 + .2
        # 50 of 5,000 lines are 1 %, a fifth of what the gate refuses: validity .8, so .3 * .8 + .7 = .94
        (Facts(11, lines=5_000, set_aside=50), (1, 0.8, 1, 1), 0.94, "A"),
        (Facts(11, lines=1_000, set_aside=60), (1, 0, 1, 1), 0.7, "C"),  # 6 %: none of it, and never less
        # 36 hours late: 1 - 36/168 = .7857, so .8 + .2 * .7857 = .9571; a week and more is worth nothing
        (Facts(11, hours_late=36), (1, 1, 1, 0.7857), 0.9571, "A"),
        (Facts(11, hours_late=168), (1, 1, 1, 0), 0.8, "B"),
        (Facts(11, hours_late=1_000), (1, 1, 1, 0), 0.8, "B"),
        # 1 of 40 checks failed, and its WARN is open: .975 * .8 = .78, so .8 + .2 * .78 = .956
        (Facts(11, checks={CONSISTENCY: (40, 1)}, worst={CONSISTENCY: WARN}), (1, 1, 0.78, 1), 0.956, "A"),
        (Facts(11, checks={CONSISTENCY: (40, 1)}), (1, 1, 0.975, 1), 0.995, "A"),  # somebody has resolved it
        (Facts(11, worst={VALIDITY: WARN}), (1, 0.8, 1, 1), 0.94, "A"),
        (Facts(11, worst={VALIDITY: WARN, COMPLETENESS: WARN}), (0.8, 0.8, 1, 1), 0.88, "B"),
        (Facts(11, worst={VALIDITY: ERROR}), (1, 0.4, 1, 1), 0.82, "B"),
        (Facts(11, worst={CONSISTENCY: ERROR}), (1, 1, 0.4, 1), 0.88, "B"),  # no ERROR leaves an A
        (Facts(11, worst={VALIDITY: ERROR, COMPLETENESS: ERROR}), (0.4, 0.4, 1, 1), 0.64, "D"),
        # Trades without shares keep venue volume out, and so all 11: .3 * 0 + .3 * 0 + .2 * 0 + .2
        (Facts(2, ["a", "b"], worst={VALIDITY: CRITICAL}), (0, 0, 0, 1), 0.2, "F"),
    ],
)
def test_a_score_worked_out_by_hand(facts: Facts, components: Sequence[float], score: float, grade: str) -> None:
    """Prevents a component that is not what the decision says, a wrong weight, and a wrong border of a grade."""
    found = score_of(facts, max_error_rate=0.05)
    assert tuple(found.components[name] for name in (COMPLETENESS, VALIDITY, CONSISTENCY, TIMELINESS)) == components
    assert (found.score, found.grade) == (score, grade)


@pytest.mark.parametrize(
    ("score", "grade"),
    [(1, "A"), (0.9, "A"), (0.8999, "B"), (0.8, "B"), (0.7999, "C"), (0.7, "C"), (0.6999, "D"), (0.5, "D"),
     (0.4999, "F"), (0, "F")],
)  # fmt: skip
def test_borders_of_grades(score: float, grade: str) -> None:
    """Prevents a border that is on the wrong side: 0.7 and 0.5 are where the alerts begin, below."""
    assert grade_of(score) == grade


SEVERITIES = st.sampled_from(Severity)
FACTS = st.builds(
    lambda tables, absent, lines, aside, late, checks, worst: Facts(
        tables, [f"t{number}" for number in range(min(absent, tables))], lines, min(aside, lines), late, checks, worst
    ),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 200_000),
    st.integers(0, 200_000),
    st.floats(0, 10_000),
    st.dictionaries(
        st.sampled_from(list(quality.WEIGHTS)),
        st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    ),
    st.dictionaries(st.sampled_from(list(quality.WEIGHTS)), SEVERITIES),
)


@given(FACTS)
def test_every_score_is_a_share(facts: Facts) -> None:
    """Prevents a score that the table refuses, whatever is on record."""
    found = score_of(facts, 0.05)
    assert all(0 <= value <= 1 for value in (*found.components.values(), found.score))
    assert found.grade in Grade


@given(FACTS, st.sampled_from(list(quality.WEIGHTS)))
def test_what_gets_worse_never_raises_a_score(facts: Facts, name: str) -> None:
    """Prevents a grade that improves with trouble: each fact by itself can only lower the score and the grade."""
    worse = [
        replace(facts, hours_late=facts.hours_late + 5),
        replace(facts, lines=facts.lines + 1, set_aside=facts.set_aside + 1),
        replace(facts, worst={**facts.worst, name: CRITICAL}),
        replace(facts, checks=_one_more_failed(facts.checks, name)),
    ]
    if facts.is_whole and facts.tables:
        worse.append(replace(facts, lacking=["t0"]))
    before = score_of(facts, 0.05)
    for one in worse:
        after = score_of(one, 0.05)
        assert after.score <= before.score
        assert after.grade >= before.grade  # A < B < ... < F as letters


def _one_more_failed(checks: Mapping[str, tuple[int, int]], name: str) -> dict[str, tuple[int, int]]:
    made, failed = checks.get(name, (1, 0))
    return {**checks, name: (made, min(failed + 1, made))}


@given(st.floats(0, 1), st.floats(0, 1))
def test_grades_are_monotone(one: float, other: float) -> None:
    """Prevents a higher score with a lower grade."""
    low, high = sorted((one, other))
    assert grade_of(low) >= grade_of(high)


T1, OTC = "NMS_TIER_1:2025-11-28", "OTC:2025-11-28"
PLACE = (utc("2025-11-28").date(), "OTC")
GRADE, DONE = "QUALITY_GRADE_ASSIGNED", "WEEK_PROCESSING_COMPLETED"


class School:
    """A store whose captures are graded at moments that a test names."""

    def __init__(self, store: Store) -> None:
        self.store, self.clinic = store, Clinic(store)
        self.clinic.load("2025-12-15 16:00", T1)  # the store begins

    def grade(self, when: str, weeks: Sequence[str] | None = None) -> dict[str, tuple[float, str]]:
        """What was put on record: partition -> score and grade."""
        chosen = None if weeks is None else [utc(week).date() for week in weeks]
        run = Run("judging", "sensor", utc(when))
        found = grade_weeks(self.store, run, FEED, WEEKLY, TABLES, chosen)
        return {str(one.key): (one.score.score, one.score.grade.value) for one in found}

    def row(self, key: str = OTC) -> dict[str, Any]:
        one = WeekKey.from_string(key)
        with self.store.control.read() as connection:
            return scores.held(connection, FEED.domain)[one.week_ending, one.tier_text]

    def events(self, *types: str) -> list[dict[str, Any]]:
        with self.store.control.read() as connection:
            rows = connection.execute(
                sa.select(EVENTS)
                .join(BATCHES, BATCHES.c.batch_id == EVENTS.c.batch_id)
                .where(EVENTS.c.event_type.in_(types))
                .order_by(BATCHES.c.seq)
            ).mappings()
            return [dict(row) for row in rows]

    def transactions(self) -> int:
        with self.store.control.read() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(BATCHES)) or 0)

    def find(self, when: str, severity: Severity, is_open: bool = True, **more: Any) -> None:
        """A finding about completeness of the OTC week, or its end."""
        self_made = {"code": "TOO_FEW", "category": Category.COMPLETENESS} | more
        one = Observation(
            FEED.domain,
            "test",
            "otc_raw",
            FEED.raw.stage,
            WeekKey.from_string(OTC),
            severity=severity,
            message="few",
            is_open=is_open,
            **self_made,
        )
        record(self.store, Run("run", "business", utc(when)), [one], "test")


def test_a_week_is_graded_when_it_is_whole_and_again_when_something_changes(store: Store) -> None:
    """Prevents a grade of a load that is under way, one that is told twice, and one that nobody is told of."""
    school = School(store)
    assert school.grade("2025-12-15 16:00") == {"NMS_TIER_1:2025-11-28": (1.0, "A")}
    assert school.grade("2025-12-15 16:01") == {}
    # OTC comes 24 hours after its deadline (2025-12-30 15:00): timeliness 1 - 24/168 = .8571.
    school.clinic.arrive("2025-12-31 15:00", OTC)
    assert school.grade("2025-12-31 16:00") == {}  # an hour is not yet more than an hour
    assert school.grade("2025-12-31 16:01") == {OTC: (0.4714, "F")}  # .3 + .2 * .8571: nothing but raw
    assert json.loads(school.row()["details_json"])["lacking"] == ["otc_venue_volume", "otc_venue_share"]
    school.clinic.make("2025-12-31 16:30", OTC)
    assert school.grade("2025-12-31 16:31") == {OTC: (0.9714, "A")}  # .3 + .3 + .2 + .1714
    school.find("2025-12-31 17:00", WARN)
    assert school.grade("2025-12-31 17:01") == {OTC: (0.9114, "A")}  # - .06; another score, the same grade
    school.find("2025-12-31 18:00", ERROR)
    assert school.grade("2025-12-31 18:00") == {OTC: (0.7914, "C")}  # .3 * .4 instead of .3
    school.find("2025-12-31 18:00", ERROR, is_open=False)
    assert school.grade("2025-12-31 18:00") == {OTC: (0.9714, "A")}  # the same moment, another event all the same
    grades = [(row["tier"], json.loads(row["payload_json"])) for row in school.events(GRADE)]
    told = [(tier, payload["before"], payload["grade"]) for tier, payload in grades]
    assert told == [
        ("NMS_TIER_1", None, "A"), ("OTC", None, "F"), ("OTC", "F", "A"), ("OTC", "A", "C"), ("OTC", "C", "A"),
    ]  # fmt: skip
    assert [row["tier"] for row in school.events(DONE)] == ["NMS_TIER_1", "OTC"]
    row = school.row()
    assert [row[name] for name in quality.WEIGHTS] == [1, 1, 1, 0.8571]
    assert (row["grade"], row["scored_at"]) == ("A", utc("2025-12-31 18:00"))


def test_a_grade_leads_back_to_the_delivery(sqlite_store: Store) -> None:
    """Prevents a chain of causes that ends in the air, and a business process that changes on the way."""
    school = School(sqlite_store)
    captured = raw(WeekKey.from_string(OTC), (utc("2025-12-29 16:00") - T0).total_seconds())
    raw_row = delivery(captured.capture_id, week_ending=PLACE[0])
    load = Run("run-2", "weekly_refresh:2025-12-29", utc("2025-12-29 16:00"))
    commit(sqlite_store.control, sqlite_store.home, batch(captured, run=load, deliveries=[raw_row]))
    school.clinic.make("2025-12-29 16:05", OTC, tables=(VOLUME, SHARE))
    school.grade("2025-12-29 16:10")
    (done,) = [row for row in school.events(DONE) if row["tier"] == "OTC"]
    assert done["event_id"] == event_id_of(DONE, captured.capture_id)
    with sqlite_store.control.read() as connection:
        select = sa.text(CHAIN.format(event_id=":event_id"))
        chain = [row.event_type for row in connection.execute(select, {"event_id": done["event_id"]})]
    assert chain == [DONE, GRADE, "CALCULATION_COMPLETED", "CALCULATION_COMPLETED", "RAW_RECORDS_INGESTED",
                     "FILE_DOWNLOADED"]  # fmt: skip
    (grade,) = [row for row in school.events(GRADE) if row["tier"] == "OTC"]
    (share,) = [row for row in school.events("CALCULATION_COMPLETED") if row["event_id"] == grade["causation_id"]]
    assert share["correlation_id"] == grade["correlation_id"] == done["correlation_id"]


def test_a_restated_week_keeps_its_grade_until_its_tables_are_made_again(sqlite_store: Store) -> None:
    """Prevents an F in the minutes of every restatement, and measures of the old capture that count for the new one."""
    school = School(sqlite_store)
    school.clinic.load("2025-12-29 16:00", OTC)
    school.grade("2025-12-29 16:01")
    first = school.row()["capture_id"]
    school.clinic.arrive("2026-01-05 16:00", OTC, content="b")
    assert school.grade("2026-01-05 16:30") == {}
    assert school.row()["capture_id"] == first
    assert school.grade("2026-01-05 17:01") == {OTC: (0.5, "D")}  # .3 + .2: it was first there in time
    school.clinic.make("2026-01-05 17:10", OTC)
    assert school.grade("2026-01-05 17:11") == {OTC: (1.0, "A")}
    assert school.row()["capture_id"] != first
    assert len({row["event_id"] for row in school.events(DONE) if row["tier"] == "OTC"}) == 2


def test_a_completion_that_no_grade_changed_with_is_caused_by_the_last_one(sqlite_store: Store) -> None:
    """Prevents a completion without a cause where the last table to come leaves the grade as it was."""
    school = School(sqlite_store)
    school.grade("2025-12-15 16:00")
    school.clinic.arrive("2025-12-29 16:00", OTC)
    school.clinic.make("2025-12-29 16:01", OTC, tables=(VOLUME,))
    school.find("2025-12-29 16:02", CRITICAL)
    school.find("2025-12-29 16:03", CRITICAL, code="BROKEN", category=Category.CONSISTENCY)
    assert school.grade("2025-12-29 17:01") == {OTC: (0.5, "D")}
    school.clinic.make("2025-12-29 17:10", OTC)
    assert school.grade("2025-12-29 17:11") == {OTC: (0.5, "D")}  # both components are 0, whatever is there
    (done,) = [row for row in school.events(DONE) if row["tier"] == "OTC"]
    (grade,) = [row for row in school.events(GRADE) if row["tier"] == "OTC"]
    assert done["causation_id"] == grade["event_id"]


def test_what_is_counted_of_lines_and_checks(store: Store) -> None:
    """Prevents counting the checks of another capture or of all tiers, a repeated one twice, an expected one at all,
    and lines of another delivery."""
    school = School(store)
    school.clinic.load("2025-12-29 16:00", OTC)
    of_week: dict[str, Any] = {"week_ending": PLACE[0]}
    with store.control.read() as connection:
        current = scores.raw(connection, "otc_raw")[PLACE].capture_id
        older = scores.raw(connection, "otc_raw")[PLACE[0], "NMS_TIER_1"].capture_id
    lines = [
        delivery(current, line_count=1_000, **of_week),
        delivery(current, landing_id="3" * 64, action="skipped", line_count=9_999, **of_week),
    ]
    rejects = [
        *(reject(number, **of_week) for number in range(1, 11)),  # 1 % of the lines: validity .8
        reject(11, scope="SYMBOL_METRICS", **of_week),
        reject(12, source_id="4" * 64, **of_week),  # of a delivery that was blocked
    ]
    rows = [
        checked("sums", current, **of_week),
        *(checked(f"holds_{number}", current, status="passed", **of_week) for number in range(3)),
        checked("window", current, is_expected=1, severity="INFO", **of_week),
        checked("other_tier", older, tier="NMS_TIER_1", **of_week),
        checked("blocked", None, **of_week),
        checked("split", current, tier="ALL", **of_week),
        checked("kind", current, status="passed", category="BUSINESS_RULE", **of_week),
    ]
    for number in range(2):  # the second time without the rejects, which are on record
        run = Run(f"run-{number}", "business", utc("2025-12-29 16:00"))
        more: Any = {"deliveries": lines, "rejects": rejects} if number == 0 else {}
        commit(store.control, store.home, batch(run=run, quality=rows, **more))
    school.grade("2025-12-29 16:30")
    details = json.loads(school.row()["details_json"])
    assert (details["lines"], details["set_aside"]) == (1_000, 10)
    assert details["checks"] == {"consistency": [4, 5], "validity": [1, 1]}
    assert school.row()["score"] == 0.9  # .3 + .3 * .8 + .2 * .8 + .2
    assert json.loads(school.row(T1)["details_json"])["checks"] == {"consistency": [0, 1]}


@pytest.mark.parametrize("code", ["LATE_DATA", "INCOMPLETE_STAGE_CHAIN"])
def test_what_is_measured_is_not_counted_again(sqlite_store: Store, code: str) -> None:
    """Prevents a score that rises by itself when a week is no longer watched, and its findings close."""
    school = School(sqlite_store)
    school.clinic.load("2025-12-31 15:00", OTC)
    category = Category.FRESHNESS if code == "LATE_DATA" else Category.COMPLETENESS
    school.find("2025-12-31 15:01", ERROR, code=code, category=category)
    school.find("2025-12-31 15:01", Severity.INFO, code="RESTATED", category=Category.FRESHNESS)
    school.grade("2025-12-31 15:02")
    assert school.row()["score"] == 0.9714


def test_history_that_is_loaded_at_once_is_not_late(sqlite_store: Store) -> None:
    """Prevents a first backfill of three years from getting a D in every week."""
    school = School(sqlite_store)
    school.clinic.load("2025-12-15 17:00", "NMS_TIER_1:2025-06-06", "OTC:2025-06-06")
    assert set(school.grade("2025-12-15 17:01").values()) == {(1.0, "A")}


def test_only_the_weeks_that_are_asked_for_are_graded(sqlite_store: Store) -> None:
    """Prevents judging one week from writing about others, also those in between."""
    school = School(sqlite_store)
    school.clinic.load("2025-12-15 17:00", "OTC:2025-06-06", "OTC:2025-06-13", "OTC:2025-06-20")
    assert school.grade("2025-12-15 17:01", []) == {}
    assert set(school.grade("2025-12-15 17:01", ["2025-06-06", "2025-06-20"])) == {"OTC:2025-06-06", "OTC:2025-06-20"}


def test_grading_asks_as_often_for_many_weeks_as_for_few(sqlite_store: Store) -> None:
    """Prevents a query for each of 468 partitions."""
    school = School(sqlite_store)
    asked: list[str] = []

    def statements(when: str) -> int:
        asked.clear()
        school.grade(when)
        return len(asked)

    sa.event.listen(sqlite_store.control.engine, "before_cursor_execute", lambda *more: asked.append(more[2]))
    school.grade("2025-12-15 17:00")
    few = statements("2025-12-15 17:01")
    school.clinic.load("2025-12-15 18:00", *(f"OTC:2025-{month:02}-07" for month in (2, 3)), "OTC:2025-06-06")
    school.grade("2025-12-15 18:01")
    assert statements("2025-12-15 18:02") == few > 0


def test_graders_at_once_tell_everything_once(store: Store) -> None:
    """Prevents two events of one grade where a sensor, a run and a command judge at the same time."""
    from concurrent.futures import ThreadPoolExecutor

    school = School(store)
    school.clinic.load("2025-12-15 17:00", "OTC:2025-06-06", "OTC:2025-06-13")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: school.grade("2025-12-15 17:01"), range(4)))
    assert sum(len(one) for one in found) == 3
    assert [len(school.events(name)) for name in (GRADE, DONE)] == [3, 3]
    with store.control.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(QUALITY_SCORES)) == 3
