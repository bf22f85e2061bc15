"""Anomalies through a real store, on either database: opened, seen again, changed, closed, opened anew, logged."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.domain import reference
from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.errors import QueryError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.governance.anomalies import Changes, Observation, again, record
from market_spine.store import journal
from market_spine.store.control import Control
from market_spine.store.ledger import Run, apply
from market_spine.store.schema import BATCHES, JOURNALLED
from market_spine.store.store import Store
from market_spine.store.trust_tables import ANOMALIES, ANOMALY_LOG
from market_spine_tests.governance.anomaly_desk import T1, WHOLE, Desk, holds, seen, told, weeks_later
from market_spine_tests.store.builders import DOMAIN, OTC, RAW, T0, WEEK

# Part 2 of the documents prints 16 columns and counts 17.
DOCUMENTED = (
    *("id", "domain", "pipeline", "partition_key", "stage", "severity", "category", "message", "details_json"),
    *("affected_records", "sample_records", "execution_id", "capture_id", "detected_at", "resolved_at"),
    "resolution_note",
)
CRITICAL, ERROR, WARN, INFO = Severity.CRITICAL, Severity.ERROR, Severity.WARN, Severity.INFO


@pytest.fixture
def desk(store: Store) -> Desk:
    """On either database."""
    return Desk(store)


@pytest.fixture
def sqlite_desk(sqlite_store: Store) -> Desk:
    """For tables of cases in which the database plays no part."""
    return Desk(sqlite_store)


def test_the_table_has_the_columns_of_the_documents(store: Store) -> None:
    """Prevents a query written from the documents from naming a column that the database does not have."""
    with store.control.read() as connection:
        names = [column["name"] for column in sa.inspect(connection).get_columns("core_anomalies")]
    assert len(DOCUMENTED) == 16
    assert tuple(name for name in names if name in DOCUMENTED) == DOCUMENTED
    assert {"code", "fingerprint", "batch_id"} <= set(names)


def test_a_finding_opens_one_row(desk: Desk) -> None:
    """Prevents a finding from being recorded without its place, its numbers, or who found it."""
    found = seen(
        severity=CRITICAL,
        category=Category.BUSINESS_RULE,
        message="150 rows set aside",
        details={"expected": 0},
        affected=150,
        samples=[{"line_no": 7}],
        capture_id="a capture",
    )
    assert told(desk.look(found)) == {"opened": ["UNKNOWN_COLUMNS"]}
    (row,) = desk.rows()
    (batch,) = desk.rows(BATCHES)
    assert row == {
        "id": 1,
        "domain": DOMAIN,
        "pipeline": f"{DOMAIN}.ingest_week",
        "partition_key": '{"tier": "OTC", "week_ending": "2025-11-14"}',
        "stage": "INGESTED",
        "severity": "CRITICAL",
        "category": "BUSINESS_RULE",
        "code": "UNKNOWN_COLUMNS",
        "message": "150 rows set aside",
        "details_json": '{"expected": 0}',
        "affected_records": 150,
        "sample_records": '[{"line_no": 7}]',
        "execution_id": "run-1",
        "capture_id": "a capture",
        "detected_at": T0 + timedelta(minutes=1),
        "resolved_at": None,
        "resolution_note": None,
        "resolved_by": None,
        "fingerprint": found.fingerprint,
        "cause_id": None,
        "table_name": RAW,
        "week_ending": WEEK,
        "tier": "OTC",
        "last_seen_at": T0 + timedelta(minutes=1),
        "times_seen": 1,
        "batch_id": batch["batch_id"],
    }
    assert (batch["execution_id"], batch["table_name"]) == ("run-1", "core_anomalies")
    assert desk.log("seq", "anomaly_id", "change", "actor", "note") == [(1, 1, "opened", "a check", "")]


def test_the_same_again_is_one_row(desk: Desk) -> None:
    """Prevents one trouble that is found at every run from looking like as many troubles."""
    for _ in range(3):
        desk.look(seen())
    (row,) = desk.rows()
    assert (row["times_seen"], row["detected_at"], row["last_seen_at"]) == (
        3,
        T0 + timedelta(minutes=1),
        T0 + timedelta(minutes=3),
    )
    assert row["execution_id"] == "run-3"
    assert desk.log("change") == [("opened",), ("seen",), ("seen",)]


# What is another the second time, and whether that is more than the same again.
NEWS = [
    ({"severity": ERROR}, "severity", "ERROR", True),
    ({"message": "worse"}, "message", "worse", True),
    ({"capture_id": "another"}, "capture_id", "another", True),
    ({"details": {"days": 3}}, "details_json", '{"days": 3}', False),
    ({"affected": 9}, "affected_records", 9, False),
    ({"samples": ["x"]}, "sample_records", '["x"]', False),
    ({"pipeline": "another"}, "pipeline", "another", False),
    ({"category": Category.FRESHNESS}, "category", "FRESHNESS", False),
]


@pytest.mark.parametrize(("change", "column", "value", "is_news"), NEWS, ids=[row[1] for row in NEWS])
def test_what_is_seen_anew_is_what_stands_there(
    sqlite_desk: Desk, change: dict[str, Any], column: str, value: Any, is_news: bool
) -> None:
    """Prevents an anomaly from telling of its first day for ever, and a repeat from being told as a change."""
    sqlite_desk.look(seen())
    sqlite_desk.look(replace(seen(), **change))
    (row,) = sqlite_desk.rows()
    assert row[column] == value
    assert row["times_seen"] == 2
    assert sqlite_desk.log("change") == [("opened",), ("changed" if is_news else "seen",)]


@pytest.mark.parametrize(("change", "column", "value", "is_news"), NEWS, ids=[row[1] for row in NEWS])
def test_without_counting_repeats_only_news_is_written(
    sqlite_desk: Desk, change: dict[str, Any], column: str, value: Any, is_news: bool
) -> None:
    """Prevents a sensor that looks every minute from writing a transaction every minute, and from missing a change."""
    sqlite_desk.look(seen(), counts_repeats=False)
    assert told(sqlite_desk.look(seen(), counts_repeats=False)) == {}
    batches = sqlite_desk.batches()
    assert told(sqlite_desk.look(replace(seen(), **change), counts_repeats=False)) == (
        {"changed": ["UNKNOWN_COLUMNS"]} if is_news else {}
    )
    assert sqlite_desk.batches() == batches + is_news
    assert sqlite_desk.rows()[0]["times_seen"] == 1 + is_news


def test_it_closes_when_it_no_longer_holds(desk: Desk) -> None:
    """Prevents a trouble that was mended from standing open until somebody tidies up, or closing without a word."""
    desk.look(seen(affected=3))
    assert told(desk.look(holds(message="all known"))) == {"resolved": ["UNKNOWN_COLUMNS"]}
    (row,) = desk.rows()
    assert (row["resolved_at"], row["resolved_by"]) == (T0 + timedelta(minutes=2), "a check")
    assert row["resolution_note"] == "holds again: all known"
    assert (row["message"], row["affected_records"], row["times_seen"]) == ("UNKNOWN_COLUMNS in OTC:2025-11-14", 3, 1)
    assert desk.log("change", "note") == [("opened", ""), ("resolved", "holds again: all known")]
    desk.look(seen("SCHEMA_VIOLATED"))
    desk.look(holds("SCHEMA_VIOLATED", message=""))
    assert desk.rows()[1]["resolution_note"] == "holds again"


def test_it_opens_anew_as_another_row(desk: Desk) -> None:
    """Prevents the history of a resolved trouble from being overwritten by its return."""
    desk.look(seen())
    desk.look(holds())
    closed = desk.rows()[0]
    assert told(desk.look(seen())) == {"opened": ["UNKNOWN_COLUMNS"]}
    first, second = desk.rows()
    assert first == closed
    assert (second["id"], second["fingerprint"], second["times_seen"]) == (2, first["fingerprint"], 1)
    assert second["detected_at"] == T0 + timedelta(minutes=3)


def test_what_never_failed_leaves_no_trace(desk: Desk) -> None:
    """Prevents every check that passed from becoming a transaction: a load has thousands of them."""
    assert desk.look(holds(), holds("SCHEMA_VIOLATED", T1)) == Changes()
    assert desk.look() == Changes()
    assert (desk.rows(), desk.batches()) == ([], 0)


def test_one_look_may_see_and_unsee(sqlite_desk: Desk) -> None:
    """Prevents a look that finds a thing in one place and mended in another from leaving it open."""
    assert told(sqlite_desk.look(seen(), holds())) == {}
    assert told(sqlite_desk.look(holds(), seen())) == {"opened": ["UNKNOWN_COLUMNS"]}
    assert told(sqlite_desk.look(holds(), seen(), counts_repeats=False)) == {}
    assert told(sqlite_desk.look(seen(), holds())) == {"resolved": ["UNKNOWN_COLUMNS"]}
    assert len(sqlite_desk.rows()) == 1


# What differs, and whether it is another thing then.
IDENTITY: list[tuple[dict[str, Any], bool]] = [
    ({"domain": reference.DOMAIN}, True),
    ({"table_name": "otc_venue_volume"}, True),
    ({"key": T1}, True),
    ({"key": weeks_later(1)}, True),
    ({"key": WHOLE}, True),
    ({"code": "SCHEMA_VIOLATED"}, True),
    ({"severity": CRITICAL}, False),
    ({"category": Category.FRESHNESS}, False),
    ({"message": "x"}, False),
    ({"pipeline": "x"}, False),
    ({"stage": Stage.ROLLING}, False),
    ({"capture_id": "x"}, False),
    ({"details": {"x": 1}, "affected": 2, "samples": [1]}, False),
]


@pytest.mark.parametrize(("change", "is_another"), IDENTITY, ids=[", ".join(change) for change, _ in IDENTITY])
def test_what_makes_two_findings_one(sqlite_desk: Desk, change: dict[str, Any], is_another: bool) -> None:
    """Prevents findings of two partitions from sharing a row, and one finding from having two."""
    other = replace(seen(), **change)
    assert (other.fingerprint != seen().fingerprint) is is_another
    sqlite_desk.look(seen(), other)
    assert len(sqlite_desk.rows()) == 1 + is_another


@pytest.mark.parametrize("count", [0, 1, 20, 21, 5_000])
def test_samples_are_few_and_the_count_is_full(sqlite_desk: Desk, count: int) -> None:
    """Prevents a row of megabytes, and a count that stops where the samples do."""
    sqlite_desk.look(seen(affected=count, samples=[{"line_no": number} for number in range(count)]))
    (row,) = sqlite_desk.rows()
    assert row["affected_records"] == count
    assert [one["line_no"] for one in json.loads(row["sample_records"])] == [*range(min(count, 20))]


def test_what_stands_in_a_row_can_be_seen_again(sqlite_desk: Desk) -> None:
    """Prevents what is only graver now from losing its numbers, or from becoming another anomaly."""
    first = seen(details={"missing": ["OTC"]}, affected=2, samples=[{"a": 1}], capture_id="c", key=WHOLE)
    sqlite_desk.look(first)
    assert again(sqlite_desk.rows()[0], ERROR) == replace(first, severity=ERROR)


def test_domains_do_not_mix(desk: Desk) -> None:
    """Prevents a finding of the calendar from closing or explaining one of a feed, in one look at both."""
    of_calendar: dict[str, Any] = {"domain": reference.DOMAIN, "key": WHOLE}
    desk.look(seen("NOT_DELIVERED", **of_calendar), seen("MISSED_RUNS", WHOLE))
    assert desk.open()["MISSED_RUNS"]["cause_id"] is None
    assert told(desk.look(holds("NOT_DELIVERED", **of_calendar), seen("MISSED_RUNS", WHOLE))) == {
        "resolved": ["NOT_DELIVERED"],
        "changed": ["MISSED_RUNS"],
    }


def test_by_hand_it_needs_a_reason(desk: Desk) -> None:
    """Prevents an anomaly from being waved away, or closed without anybody's name."""
    desk.look(seen())
    for note in ("", "  \n"):
        with pytest.raises(QueryError, match="not resolved without a reason"):
            desk.resolve(1, note)
    assert desk.open()
    row = desk.resolve(1, "  FINRA confirmed it \n", "jane")
    (held,) = desk.rows()
    assert row | {"batch_id": held["batch_id"]} == held
    assert (row["resolution_note"], row["resolved_by"]) == ("FINRA confirmed it", "jane")
    assert row["execution_id"] == "run-1"  # who found it, not who closed it
    assert desk.log("execution_id") == [("run-1",), ("run-4",)]
    assert desk.log("change", "actor", "note")[-1] == ("resolved", "jane", "FINRA confirmed it")


def test_by_hand_it_closes_once(desk: Desk) -> None:
    """Prevents a second hand from changing who closed it, and a number that is none from doing nothing silently."""
    desk.look(seen())
    desk.resolve(1, actor="jane")
    before = (desk.rows(), desk.batches())
    with pytest.raises(QueryError, match=r"anomaly 1 was resolved at 2025-12-15 15:02 UTC by jane") as error:
        desk.resolve(1, actor="joe")
    assert error.value.remedy == "see its history with: spine anomalies show 1"
    with pytest.raises(QueryError, match="there is no anomaly 2"):
        desk.resolve(2)
    assert (desk.rows(), desk.batches()) == before


def test_closed_by_hand_and_found_again_it_is_open_again(desk: Desk) -> None:
    """Prevents a note from silencing the same trouble for ever."""
    desk.look(seen())
    desk.resolve(1)
    desk.look(seen())
    assert [row["resolved_by"] for row in desk.rows()] == ["compliance", None]


def test_where_nothing_is_news_nobody_waits_for_the_write_lock(desk: Desk) -> None:
    """Prevents a look from queueing behind a writer for up to a minute only to find that nothing is to be done."""
    desk.look(seen())
    with desk.store.control.write():  # a second taker of the lock would wait for this one, for 60 seconds
        assert desk.look(seen(), holds("SCHEMA_VIOLATED"), counts_repeats=False) == Changes()
        assert desk.look(holds("SCHEMA_VIOLATED")) == Changes()


def at_once(count: int, act: Callable[[int], Any]) -> list[Any]:
    """What ``count`` threads answer that all begin together."""
    gate = threading.Barrier(count)

    def begin(number: int) -> Any:
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(begin, range(count)))


def look_as(store: Store, number: int, *observed: Observation, counts_repeats: bool = True) -> Changes:
    run = Run(f"run-{number}", "business-1", T0 + timedelta(seconds=number))
    return record(store, run, observed, f"check {number}", counts_repeats)


@pytest.mark.parametrize("counts_repeats", [True, False])
def test_eight_who_find_the_same_open_one_row(desk: Desk, counts_repeats: bool) -> None:
    """Prevents the race between looking whether it is open and opening it."""
    answers = at_once(8, lambda number: look_as(desk.store, number, seen(), counts_repeats=counts_repeats))
    (row,) = desk.rows()
    assert sum(len(one.opened) for one in answers) == 1
    assert row["times_seen"] == (8 if counts_repeats else 1)
    assert sorted(desk.log("change")) == [("opened",), *([("seen",)] * 7 if counts_repeats else [])]


def test_eight_who_find_different_things_lose_none(desk: Desk) -> None:
    """Prevents two anomalies from taking one number."""
    at_once(8, lambda number: look_as(desk.store, number, seen(key=weeks_later(number))))
    rows = desk.rows()
    assert [row["id"] for row in rows] == [*range(1, 9)]
    assert {row["week_ending"] for row in rows} == {weeks_later(number).week_ending for number in range(8)}


def test_finding_and_closing_at_once_leaves_at_most_one_open(desk: Desk) -> None:
    """Prevents a row that is both open and closed, and two open ones, where looks overlap."""
    observed = [seen(), holds()] * 4
    at_once(8, lambda number: look_as(desk.store, number, observed[number]))
    rows = desk.rows()
    assert rows
    assert sum(row["resolved_at"] is None for row in rows) <= 1
    changes = desk.log("anomaly_id", "change")
    for row in rows:
        ends = [change for number, change in changes if number == row["id"]].count("resolved")
        assert ends == (row["resolved_at"] is not None)


def contents(control: Control) -> list[list[tuple[Any, ...]]]:
    with control.read() as connection:
        return [
            [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key))]
            for table in (ANOMALIES, ANOMALY_LOG)
        ]


def test_the_journal_restores_both_tables(desk: Desk, tmp_path: Path) -> None:
    """Prevents a lost control database from taking with it what was wrong, who closed it, and why."""
    desk.look(seen("NOT_DELIVERED", severity=ERROR), seen("MISSED_RUNS", WHOLE, ERROR))
    desk.look(seen("NOT_DELIVERED", severity=ERROR, message="1 day"), seen())
    desk.look(holds("NOT_DELIVERED"))
    desk.resolve(2, "the week is not used")
    desk.look(seen("NOT_DELIVERED", severity=ERROR, affected=1 << 40, samples=["Ünïcode's |"]))
    wanted = contents(desk.store.control)
    assert [len(rows) for rows in wanted] == [4, 9]
    replayed = Control(f"sqlite:///{tmp_path / 'replayed.db'}")
    replayed.ensure()
    for entry in journal.read(desk.store.home.journal, JOURNALLED):
        with replayed.write() as connection:
            apply(connection, entry)
    assert contents(replayed) == wanted
    replayed.dispose()


def test_tiers_are_told_apart_in_every_week(sqlite_desk: Desk) -> None:
    """Prevents a partition's key from being ambiguous between tiers and weeks."""
    keys = [WeekKey(key.week_ending, tier) for key in (OTC, weeks_later(1)) for tier in (*Tier, None)]
    sqlite_desk.look(*(seen(key=key) for key in keys))
    assert [WeekKey.from_string(f"{row['tier']}:{row['week_ending']}") for row in sqlite_desk.rows()] == keys
