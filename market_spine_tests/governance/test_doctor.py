"""What a look finds in a store, at moments around due dates and deadlines; dates by hand.

Mondays of publication: 2025-12-08 (Tier 1 of 11-21, the others of 11-07), 12-15 (11-28, 11-14), 12-22 (12-05, 11-21),
12-29 (12-12, 11-28); always at 15:00 UTC, with the deadline a day later.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from market_spine.domain.contracts import Severity
from market_spine.governance.diagnosis import Diagnosis, Status, document, schedule_document
from market_spine.governance.remedies import WATCH, Kind
from market_spine.store.store import Store
from market_spine_tests.governance.clinic import SHARE, SPLIT, VOLUME, WEEKLY, Clinic
from market_spine_tests.governance.doctor_json import DIAGNOSIS, WEEK, Shape, mismatches

LOADS = {
    "2025-12-08 16:00": ["NMS_TIER_1:2025-11-21"],
    "2025-12-15 16:00": ["NMS_TIER_1:2025-11-28"],
    "2025-12-22 16:00": ["NMS_TIER_1:2025-12-05", "NMS_TIER_2:2025-11-21", "OTC:2025-11-21"],
    "2025-12-29 16:00": ["NMS_TIER_1:2025-12-12", "NMS_TIER_2:2025-11-28", "OTC:2025-11-28"],
}
SETTLED = "2026-01-02 16:00"  # 48 hours after the last deadline, and nothing more is due until Monday
DOMAIN = "finra.otc_transparency"


@pytest.fixture
def clinic(sqlite_store: Store) -> Clinic:
    return Clinic(sqlite_store)


def loaded(clinic: Clinic, *without: str, is_certified: bool = True) -> Clinic:
    """Four Mondays, each loaded within the hour; the weeks certified, and the sensor alive at SETTLED."""
    for when, keys in LOADS.items():
        if wanted := [key for key in keys if key not in without]:
            clinic.load(when, *wanted)
    if is_certified:
        clinic.certify("2026-01-01 16:00", "2025-11-21", "2025-11-28", ready_for=["trading", "compliance"])
        clinic.certify("2026-01-01 16:00", "2025-12-05", "2025-12-12", ready_for=["research"])
    clinic.beat("2026-01-02 15:55")
    return clinic


def told(found: Diagnosis) -> list[tuple[str, str | None]]:
    return [(one.kind.value, str(one.key) if one.key else None) for one in found.problems]


def test_a_store_in_order(store: Store) -> None:
    """Prevents a doctor who always finds something, and one who has not looked: the numbers say that he has."""
    found = loaded(Clinic(store)).examine(SETTLED)
    assert (found.status, found.problems, dict(found.remedies)) == (Status.HEALTHY, [], {})
    assert [str(one.key) for one in found.expected] == [
        "NMS_TIER_2:2025-11-21",
        "OTC:2025-11-21",
        "NMS_TIER_2:2025-11-28",
        "OTC:2025-11-28",
        "NMS_TIER_1:2025-12-05",
        "NMS_TIER_1:2025-12-12",
    ]
    assert found.judged == {"trading": 2, "compliance": 2, "research": 2}
    assert found.holdings.tables["otc_raw"].files == 8
    assert (
        found.holdings.total.bytes == 8 * (1 << 40) + (8 + 8 + 6) * 1_000
    )  # two splits were made again when the other tiers came
    assert found.holdings.batches == len(LOADS) * 4
    assert found.heartbeat.age == timedelta(minutes=5)


def test_a_look_leaves_no_trace(store: Store) -> None:
    """Prevents a look that opens, judges or beats, and so is no look."""
    clinic = loaded(Clinic(store), "OTC:2025-11-28", is_certified=False)
    before, files = clinic.everything(), sorted(clinic.store.home.root.rglob("*"))
    assert clinic.examine(SETTLED).status is Status.UNHEALTHY
    assert clinic.everything() == before
    assert sorted(clinic.store.home.root.rglob("*")) == files


# Now, the newest weeks of each tier that are looked at (one week each), and what is missing of a store that has only
# Tier 1 of 2025-11-21 and, before that, one week of everything.
DUE = [
    ("2025-12-22 14:59", {"NMS_TIER_1:2025-11-28", "NMS_TIER_2:2025-11-14", "OTC:2025-11-14"}, Status.UNHEALTHY),
    ("2025-12-22 15:00", {"NMS_TIER_1:2025-12-05", "NMS_TIER_2:2025-11-21", "OTC:2025-11-21"}, Status.DEGRADED),
    ("2025-12-23 15:00", {"NMS_TIER_1:2025-12-05", "NMS_TIER_2:2025-11-21", "OTC:2025-11-21"}, Status.DEGRADED),
    ("2025-12-23 15:01", {"NMS_TIER_1:2025-12-05", "NMS_TIER_2:2025-11-21", "OTC:2025-11-21"}, Status.UNHEALTHY),
]


@pytest.mark.parametrize(("when", "missing", "status"), DUE)
def test_what_is_due_counts_back_from_each_tiers_newest_week(
    clinic: Clinic, when: str, missing: set[str], status: Status
) -> None:
    """Prevents a gap before the hour of publication, an alarm before the deadline, and one week for all tiers."""
    clinic.load("2025-12-08 16:00", "2025-11-07", "NMS_TIER_1:2025-11-21")
    found = clinic.examine(when, weeks=1)
    assert {str(one.key) for one in found.gaps} == missing
    assert {str(one.key) for one in found.expected} == missing
    assert found.found == 0
    assert found.status is status


def test_what_was_never_begun_is_not_missing(clinic: Clinic) -> None:
    """Prevents gaps in the years before the store."""
    loaded(clinic)
    many = clinic.examine(SETTLED, weeks=12)
    assert {one.key.week_ending.isoformat() for one in many.expected} == {
        "2025-11-21",
        "2025-11-28",
        "2025-12-05",
        "2025-12-12",
    }
    assert (len(many.expected), len(many.gaps)) == (8, 0)


def test_an_empty_store_says_so(clinic: Clinic) -> None:
    """Prevents a new store from being called healthy, and from being said to miss twelve partitions."""
    found = clinic.examine(SETTLED, weeks=4)
    assert (found.is_empty, found.status) == (True, Status.DEGRADED)
    assert list(found.remedies) == ["spine backfill --weeks-back 4"]
    assert (len(found.expected), len(found.gaps), found.judged) == (0, 0, {})
    assert found.heartbeat.beat_at is None


def test_a_gap_is_one_problem_whatever_follows_from_it(clinic: Clinic) -> None:
    """Prevents three alarms for one missing tier: the gap, the anomaly of it, and two use cases that wait for it."""
    loaded(clinic, "OTC:2025-11-28", is_certified=False)
    clinic.certify("2026-01-01 16:00", "2025-11-21", ready_for=["trading", "compliance"])
    clinic.certify("2026-01-01 16:00", "2025-12-05", "2025-12-12", ready_for=["research"])
    gap = clinic.find("2025-12-31 16:00", "NOT_DELIVERED", "OTC:2025-11-28", Severity.ERROR)
    clinic.find("2025-12-31 16:01", "MISSED_RUNS", "ALL:2025-11-28", Severity.ERROR, details={"missing": ["OTC"]})
    found = clinic.examine(SETTLED)
    assert told(found) == [("GAP", "OTC:2025-11-28")]
    assert list(found.remedies) == ["spine backfill --from 2025-11-28 --to 2025-11-28 --tier OTC"]
    assert [one.message for one in found.gaps] == ["not there since 2025-12-30 15:00 UTC: 3 days"]
    assert [(one.verdict.use_case.name, one.verdict.state.value) for one in found.uncertified] == [
        ("trading", "MISSING"),
        ("compliance", "MISSING"),
    ]
    assert [(one.row["id"], one.follows) for one in found.anomalies] == [(gap, 1)]


def test_a_gap_says_what_it_follows_from(clinic: Clinic) -> None:
    """Prevents looking for a file that is there and cannot be read."""
    loaded(clinic, "OTC:2025-11-28")
    cause = clinic.find("2025-12-31 16:00", "UNREADABLE", "OTC:2025-11-28", Severity.ERROR)
    found = clinic.examine(SETTLED)
    assert [one.cause_id for one in found.gaps] == [cause]
    assert ("ANOMALY", "OTC:2025-11-28") in told(found)


def test_what_came_and_cannot_be_used_is_looked_at_before_it_is_loaded_again(clinic: Clinic) -> None:
    """Prevents a backfill as the first advice, which fetches the same bad file again."""
    loaded(clinic, "OTC:2025-11-28")
    cause = clinic.find("2025-12-31 16:00", "UNREADABLE", "OTC:2025-11-28", Severity.CRITICAL)
    found = clinic.examine(SETTLED)
    assert [one.cause_id for one in found.gaps] == [cause]
    assert [kind for kind, place in told(found) if place == "OTC:2025-11-28"] == ["ANOMALY"]
    assert next(iter(found.remedies)) == f"spine anomalies show {cause}"
    assert found.status is Status.UNHEALTHY


def test_a_gap_that_only_a_use_case_shows(clinic: Clinic) -> None:
    """Prevents a week that can never be certified, for a tier whose own newest weeks are all there."""
    loaded(clinic, "NMS_TIER_1:2025-11-21", "NMS_TIER_1:2025-11-28", is_certified=False)
    clinic.certify("2026-01-01 16:00", "2025-12-05", "2025-12-12", ready_for=["research"])
    found = clinic.examine(SETTLED)
    assert (len(found.gaps), found.found, found.status) == (0, 6, Status.UNHEALTHY)
    assert list(found.remedies) == ["spine backfill --from 2025-11-21 --to 2025-11-28 --tier NMS_TIER_1"]


LATE = [
    ("2025-12-30 15:00", []),
    ("2025-12-30 15:05", [(0.0, "WARN")]),
    # The documents' example: expected by Tuesday 10:00 in New York, there on Tuesday 22:00. 36 hours is its age.
    ("2025-12-31 03:00", [(12.0, "WARN")]),
    ("2025-12-31 14:59", [(23.9, "WARN")]),
    ("2025-12-31 15:00", [(24.0, "ERROR")]),
    ("2026-01-01 03:00", [(36.0, "ERROR")]),
]


@pytest.mark.parametrize(("when", "expected"), LATE)
def test_late_is_counted_from_the_deadline_and_mended_by_nothing(
    clinic: Clinic, when: str, expected: list[tuple[float, str]]
) -> None:
    """Prevents hours that are counted from publication, and an alarm for weeks over what has long come."""
    loaded(clinic, "OTC:2025-11-28", is_certified=False)
    clinic.load(when, "OTC:2025-11-28")
    found = clinic.examine("2026-01-02 12:00")
    assert [(one.hours, one.severity.value) for one in found.late] == expected
    assert {str(one.key) for one in found.late} <= {"OTC:2025-11-28"}
    assert Kind.ANOMALY not in {one.kind for one in found.problems}


def test_a_late_arrival_on_record_is_shown_and_asks_for_nothing(clinic: Clinic) -> None:
    """Prevents a store from being ill for twelve weeks of what nobody can change."""
    loaded(clinic, "OTC:2025-11-28")
    clinic.load("2025-12-31 03:00", "OTC:2025-11-28")
    clinic.find("2025-12-31 03:01", "LATE_DATA", "OTC:2025-11-28", Severity.WARN)
    found = clinic.examine("2026-01-02 16:00")
    assert [one.row["code"] for one in found.anomalies] == ["LATE_DATA"]
    assert (found.status, found.problems) == (Status.HEALTHY, [])


def test_a_half_finished_week(clinic: Clinic) -> None:
    """Prevents raw without its measures from passing for a week, and from being told while a load is under way."""
    loaded(clinic, "OTC:2025-11-28", is_certified=False)
    clinic.arrive("2025-12-29 17:00", "OTC:2025-11-28")
    assert clinic.examine("2025-12-29 18:00").chains == []
    found = clinic.examine("2025-12-29 18:01")
    assert [one.missing for one in found.chains] == [
        {"NORMALIZED": ["otc_venue_volume"], "AGGREGATED": ["otc_venue_share"]}
    ]
    assert found.chains[0].message == "NORMALIZED: otc_venue_volume is not there"
    assert ("CHAIN", "OTC:2025-11-28") in told(found)
    assert f"spine run {DOMAIN}.weekly_refresh --week-ending 2025-11-28 --tier OTC" in found.remedies
    clinic.make("2025-12-29 18:02", "OTC:2025-11-28")
    assert clinic.examine("2025-12-29 18:03").chains == []


def test_a_table_of_whole_weeks_that_is_not_there(clinic: Clinic) -> None:
    """Prevents a week that lacks its tier split from being told with no command, or with one of a tier."""
    for when, keys in LOADS.items():
        clinic.arrive(when, *keys)
        clinic.make(when, *keys, tables=(VOLUME, SHARE))
    clinic.make("2025-12-22 16:00", "OTC:2025-11-21", tables=(SPLIT,))
    found = clinic.examine(SETTLED)
    assert found.chains == []
    assert ("CHAIN", "ALL:2025-11-28") in told(found)
    assert f"spine run {DOMAIN}.weekly_refresh --week-ending 2025-11-28" in found.remedies


def test_what_is_out_of_date(clinic: Clinic) -> None:
    """Prevents a restatement that reached raw and nothing after it. The share of the new volume only follows."""
    loaded(clinic)
    clinic.arrive("2026-01-02 15:00", "OTC:2025-11-28", content="b")
    found = clinic.examine(SETTLED)
    assert found.stale == {"otc_venue_volume": 1}
    assert list(found.remedies) == ["spine recompute --yes"]
    assert [one.message for one in found.problems] == ["captures out of date: 1 (otc_venue_volume 1)"]
    assert {one.verdict.state.value for one in found.uncertified} == {"BLOCKED"}
    clinic.make("2026-01-02 16:05", "OTC:2025-11-28")
    assert clinic.examine("2026-01-02 16:06").stale == {}


def test_verdicts_on_record_that_no_longer_hold(clinic: Clinic) -> None:
    """Prevents a certificate that everybody trusts and that is not of what is there, and one that nobody has issued."""
    loaded(clinic, is_certified=False)
    clinic.certify("2026-01-01 16:00", "2025-11-21", ready_for=["trading", "compliance"])
    clinic.certify("2026-01-01 16:00", "2025-12-05", "2025-12-12", ready_for=["research"])
    found = clinic.examine(SETTLED)
    assert list(found.remedies) == [f"spine readiness {DOMAIN}"]
    assert [(one.recorded, one.is_unjudged) for one in found.uncertified] == [(None, True), (None, True)]
    clinic.load("2026-01-02 16:01", "OTC:2025-11-21", content="b")
    found = clinic.examine("2026-01-02 16:02")
    assert [one.reasons[0] for one in found.uncertified if str(one.verdict.week) == "2025-11-21"] == [
        "certified on record",
        "certified on record",
    ]
    assert list(found.remedies) == [f"spine readiness {DOMAIN}"]


@pytest.mark.parametrize(
    ("when", "research", "trading"),
    [
        ("2025-12-31 15:00", 1, 1),
        ("2025-12-31 15:01", 2, 1),  # 24 hours after the deadline of Tier 1 of 2025-12-12
        ("2026-01-01 15:00", 2, 1),
        ("2026-01-01 15:01", 2, 2),  # 48 hours after that of Tier 2 and OTC of 2025-11-28
    ],
)
def test_a_young_week_need_not_be_certified(clinic: Clinic, when: str, research: int, trading: int) -> None:
    """Prevents an alarm every Monday for weeks that cannot be certified before Thursday."""
    loaded(clinic, "NMS_TIER_1:2025-12-12", "OTC:2025-11-28", is_certified=False)
    clinic.certify("2025-12-30 16:00", "2025-11-21", ready_for=["trading", "compliance"])
    clinic.certify("2025-12-30 16:00", "2025-12-05", ready_for=["research"])
    found = clinic.examine(when)
    assert found.judged == {"trading": trading, "compliance": trading, "research": research}
    assert len(found.uncertified) == 2 * (trading - 1) + (research - 1)


def test_root_causes_the_gravest_first(clinic: Clinic) -> None:
    """Prevents fifteen lines about one cause, and the grave one below the others. INFO asks for nothing."""
    loaded(clinic)
    info = clinic.find("2026-01-02 10:00", "REVISED", "NMS_TIER_1:2025-12-12", Severity.INFO)
    warn = clinic.find("2026-01-02 10:01", "UNUSUAL_VENUE_COUNT", "NMS_TIER_1:2025-12-12")
    clinic.find("2026-01-02 10:02", "UNUSUAL_ROW_COUNT", "NMS_TIER_1:2025-12-12")
    clinic.find("2026-01-02 10:03", "UNUSUAL_MISSING_VENUES", "NMS_TIER_1:2025-12-12")
    error = clinic.find("2026-01-02 10:04", "TOO_MANY_REJECTS", "OTC:2025-11-21", Severity.ERROR)
    clinic.find("2026-01-02 10:05", "TOO_FEW_RECORDS", "OTC:2025-11-21", Severity.ERROR)
    window = clinic.find("2026-01-02 10:06", "INCOMPLETE_WINDOW", "OTC:2025-11-28")
    found = clinic.examine(SETTLED)
    ranked = [(one.row["id"], one.follows) for one in found.anomalies]
    assert ranked == [(error, 1), (warn, 2), (window, 0), (info, 0)]
    assert list(found.remedies) == [f"spine anomalies show {number}" for number in (error, warn, window)]
    assert [found.open_anomalies(one) for one in Severity] == [1, 2, 1, 0]
    assert found.status is Status.DEGRADED


def test_a_cause_in_an_earlier_week(clinic: Clinic) -> None:
    """Prevents a window that is told as incomplete without the week that it lacks, and the command that loads it."""
    loaded(clinic)
    gap = clinic.find("2026-01-02 10:00", "NOT_DELIVERED", "OTC:2025-11-07", Severity.ERROR)
    clinic.find("2026-01-02 10:01", "INCOMPLETE_WINDOW", "OTC:2025-11-28")
    found = clinic.examine(SETTLED)
    assert [(one.row["id"], one.follows) for one in found.anomalies] == [(gap, 1)]
    assert list(found.remedies) == ["spine backfill --from 2025-11-07 --to 2025-11-07 --tier OTC"]
    assert (found.older, found.status) == (0, Status.UNHEALTHY)


def test_a_critical_anomaly_is_the_worst(clinic: Clinic) -> None:
    """Prevents impossible data from being one finding among others, and from being told twice with its verdict."""
    loaded(clinic)
    number = clinic.find("2026-01-02 10:00", "TRADES_WITHOUT_SHARES", "OTC:2025-11-28", Severity.CRITICAL)
    found = clinic.examine(SETTLED)
    assert found.status is Status.UNHEALTHY
    assert list(found.remedies) == [f"spine anomalies show {number}"]
    assert [one.message for one in found.problems] == ["TRADES_WITHOUT_SHARES: a TRADES_WITHOUT_SHARES"]
    assert {one.verdict.state.value for one in found.uncertified} == {"BLOCKED"}


def test_anomalies_of_earlier_weeks_are_counted_only(clinic: Clinic) -> None:
    """Prevents old trouble from hiding the new, and from being forgotten altogether."""
    loaded(clinic)
    for key in ("OTC:2025-11-14", "NMS_TIER_1:2025-11-14", "ALL:2025-11-07"):
        clinic.find("2026-01-02 10:00", "UNUSUAL_VENUE_COUNT", key, Severity.CRITICAL)
    clinic.find("2026-01-02 10:00", "REVISED", "OTC:2025-11-14", Severity.INFO)
    found = clinic.examine(SETTLED)
    assert (found.anomalies, found.older) == ([], 3)
    assert found.status is Status.HEALTHY
    more = clinic.examine(SETTLED, weeks=3)
    assert (len(more.anomalies), more.older, more.status) == (3, 1, Status.UNHEALTHY)


def test_what_the_sensor_has_not_closed_yet(clinic: Clinic) -> None:
    """Prevents a problem that was mended a minute ago from being told on, with a command that does nothing."""
    loaded(clinic)
    for code, key in (
        ("NOT_DELIVERED", "OTC:2025-11-28"),
        ("MISSED_RUNS", "ALL:2025-11-28"),
        ("INCOMPLETE_STAGE_CHAIN", "OTC:2025-11-21"),
        ("LATE_DATA", "OTC:2025-11-21"),
    ):
        clinic.find("2025-12-31 16:00", code, key, Severity.ERROR, details={"missing": ["OTC"]})
    split = clinic.find("2025-12-31 16:00", "INCOMPLETE_TIER_SPLIT", "ALL:2025-11-28")
    found = clinic.examine(SETTLED)
    assert found.settled == 4
    # What followed from one of them stands for itself again.
    assert [one.row["id"] for one in found.anomalies] == [split]
    assert list(found.remedies) == [f"spine anomalies show {split}"]


@pytest.mark.parametrize(("beat", "is_silent"), [("2026-01-02 15:50", False), ("2026-01-02 15:49", True)])
def test_a_sensor_that_does_not_look(clinic: Clinic, beat: str, is_silent: bool) -> None:
    """Prevents a watch that died from looking like a quiet week, and a store without one from being ill of it."""
    clinic = loaded(clinic)
    clinic.beat(beat)
    found = clinic.examine(SETTLED)
    assert found.heartbeat.is_silent is is_silent
    assert list(found.remedies) == ([WATCH] if is_silent else [])
    assert found.status is (Status.DEGRADED if is_silent else Status.HEALTHY)


def test_a_schedule_that_is_switched_off_expects_nothing(sqlite_store: Store) -> None:
    """Prevents alarms of a feed that was switched off on purpose."""
    clinic = Clinic(sqlite_store, replace(WEEKLY, is_active=False))
    clinic.load("2025-12-08 16:00", "NMS_TIER_1:2025-11-21")
    found = clinic.examine("2025-12-31 16:00")
    assert (found.expected, found.gaps, found.late, found.chains) == ([], [], [], [])


def test_the_document_has_one_shape_whatever_was_found(clinic: Clinic) -> None:
    """Prevents a program that reads the JSON from meeting a key that is sometimes there, or a number that is text."""
    assert mismatches(document(clinic.examine(SETTLED)), DIAGNOSIS) == []
    loaded(clinic, "OTC:2025-11-28", "NMS_TIER_2:2025-11-28", is_certified=False)
    clinic.load("2025-12-31 03:00", "NMS_TIER_2:2025-11-28")
    clinic.arrive("2025-12-31 03:00", "NMS_TIER_1:2025-12-12", content="b")
    clinic.find("2025-12-31 16:00", "UNREADABLE", "OTC:2025-11-28", Severity.ERROR)
    clinic.arrive("2026-01-02 14:00", "OTC:2025-11-21", content="b")
    found = clinic.examine(SETTLED, weeks=3)
    value = json.loads(json.dumps(document(found)))
    assert mismatches(value, DIAGNOSIS) == []
    listed = ("gaps", "late", "open_anomalies", "uncertified", "problems", "remediation")
    assert [name for name in listed if not value[name]] == []
    assert (value["expected_partitions"], value["found_partitions"], value["missing_partitions"]) == (7, 6, 1)
    assert value["gaps"] == [
        {
            "week_ending": "2025-11-28",
            "tier": "OTC",
            "due_at": "2025-12-29T15:00:00Z",
            "deadline": "2025-12-30T15:00:00Z",
            "days": 3,
            "cause_id": found.anomalies[0].row["id"],
        }
    ]
    assert value["stale"] == sum(value["stale_tables"].values()) > 0
    assert {one["remedy"] for one in value["problems"]} == set(value["remediation"])


def test_the_schedule_as_a_document(clinic: Clinic) -> None:
    """Prevents another schedule in the report than the one that is declared."""
    assert schedule_document(loaded(clinic, "OTC:2025-11-28").examine(SETTLED)) == {
        "type": "WEEKLY",
        "weeks": 2,
        "tiers": ["NMS_TIER_1", "NMS_TIER_2", "OTC"],
        "expected_delay_hours": 24,
        "expected_day_of_week": 0,
        "expected_time": "10:00",
        "timezone": "America/New_York",
        "publication_lag_days": {"NMS_TIER_1": 17, "NMS_TIER_2": 31, "OTC": 31},
        "is_active": True,
        "expected": 6,
        "present": 5,
    }


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        ({"a": 1}, {"a": int}, []),
        ({"a": "1"}, {"a": int}, ["a: '1'"]),
        ({"a": True}, {"a": int}, ["a: True"]),
        ({"a": 1, "b": 2}, {"a": int}, [": unknown b"]),
        ({}, {"a": int}, [": missing a"]),
        ({"a": None}, {"a": (int, None)}, []),
        ({"a": "x"}, {"a": (int, None)}, ["a: 'x'"]),
        ({"a": [1, "x"]}, {"a": [int]}, ["a.1: 'x'"]),
        ({"a": {"b": 1, "c": "x"}}, {"a": {"*": int}}, ["a.c: 'x'"]),
        ("2025-11-14", WEEK, []),
        ("2025-11-14T", WEEK, [": '2025-11-14T'"]),
    ],
)
def test_the_check_of_shapes_finds_what_differs(value: object, shape: Shape, expected: list[str]) -> None:
    """Prevents a schema that everything fits."""
    assert mismatches(value, shape) == expected
