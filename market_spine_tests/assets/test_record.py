"""From what a step found, or died of, to anomalies on record: real steps, real failures, and a record that survives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from market_spine.assets import record
from market_spine.assets.compute import compute
from market_spine.assets.ingest import ingest
from market_spine.assets.record import Subject
from market_spine.assets.tables import steps_of
from market_spine.checks.findings import Finding
from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Feed, Severity
from market_spine.domain.errors import CalculationError, SourceError, StoreError
from market_spine.domain.keys import WeekKey
from market_spine.feeds.otc import FEED
from market_spine.sources.delivery import Delivery, Empty, Inventory, Source
from market_spine.store.ledger import Run
from market_spine_tests.journeys.stage import FEW, NOW, T2, Scene, key, line, lines, put, staged, text

BAD, GOOD = key("2025-11-14"), key("2025-11-21")
RUN = Run("a-run", "a-process", NOW)
RAW = Subject(FEED.domain, "otc_raw", Stage.INGESTED)
NORMAL = steps_of(FEED)["venue_volume"]


def impossible(week: WeekKey) -> bytes:
    """Twenty good rows, then 150 with trades and no shares, and one without a symbol."""
    rows = lines(week, 20) + [line(week, f"Z{number:03}", "UBSA", 0, 3) for number in range(150)]
    return text([*rows, line(week, "", "UBSA", 5, 1)])


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Scene]:
    """A week with 150 rows that cannot be true, and a good one, both captured as they came."""
    files = tmp_path / "files"
    put(files, BAD, impossible(BAD))
    put(files, GOOD, text(lines(GOOD, 20)))
    with staged(tmp_path / "home", f"file:{files}") as scene:
        ingest(scene.spine, FEED, [BAD, GOOD], RUN, FEW)
        yield scene


def anomalies(scene: Scene) -> list[tuple[Any, ...]]:
    """(code, week, severity, still open) of each anomaly, as they came."""
    return scene.sql("SELECT code, week_ending::VARCHAR, severity, resolved_at IS NULL FROM core_anomalies ORDER BY id")


def batches(scene: Scene) -> int:
    return int(scene.one("SELECT count(*) FROM core_batches WHERE table_name = 'core_anomalies'")[0])


ZERO = ("TRADES_WITHOUT_SHARES", "2025-11-14", "CRITICAL", True)
BLANK = ("BLANK_SYMBOL", "2025-11-14", "WARN", True)
FAILED = ("STEP_FAILED", "2025-11-14", "ERROR", True)


def test_a_good_load_writes_no_anomaly(tmp_path: Path) -> None:
    """Prevents every check that holds from costing a transaction and a wait for the write lock."""
    put(tmp_path / "files", GOOD, text(lines(GOOD, 20)))
    with staged(tmp_path / "home", f"file:{tmp_path / 'files'}") as scene:
        ingest(scene.spine, FEED, [GOOD], RUN, FEW)
        compute(scene.spine, NORMAL, [GOOD], RUN)
        assert (anomalies(scene), batches(scene)) == ([], 0)


def test_what_a_step_finds_is_on_record_with_its_numbers(stage: Scene) -> None:
    """Prevents an anomaly that does not say how many, which ones, and of what: KA-51 has 150 records."""
    compute(stage.spine, NORMAL, [BAD, GOOD], RUN)
    assert anomalies(stage) == [ZERO, BLANK]
    row = stage.one(
        "SELECT message, affected_records, sample_records, category, pipeline, capture_id FROM core_anomalies"
        " WHERE code = 'TRADES_WITHOUT_SHARES'"
    )
    assert row[:2] == ("150 rows set aside: trades without shares", 150)
    samples = json.loads(row[2])
    assert [one["line_no"] for one in samples] == [*range(22, 42)]  # after a header and 20 good rows
    assert {one["reason_code"] for one in samples} == {"TRADES_WITHOUT_SHARES"}
    assert samples[0]["raw_text"] is not None
    assert row[3:5] == ("BUSINESS_RULE", "finra.otc_transparency.normalize_week")
    assert row[5] == stage.current("raw", BAD).capture_id  # it has no capture: what it would have been made from
    assert [one.key for one in stage.captures("venue_volume")] == [GOOD]


def test_it_survives_the_failure_that_comes_after_it(stage: Scene) -> None:
    """Prevents a finding from being rolled back with the step that it describes (C-46). Nothing can be written here."""
    in_the_way = stage.spine.store.home.captures / "otc_venue_volume"
    in_the_way.write_text("a file where the folder of the captures should be")
    with pytest.raises(StoreError, match=r"cannot write .*otc_venue_volume") as error:
        compute(stage.spine, NORMAL, [BAD, GOOD], RUN)
    assert anomalies(stage) == [ZERO, BLANK, FAILED]
    assert stage.captures("venue_volume") == []
    message, details = stage.one("SELECT message, details_json FROM core_anomalies WHERE code = 'STEP_FAILED'")
    assert message == error.value.cause
    assert json.loads(details)["partitions"] == 2
    in_the_way.unlink()
    compute(stage.spine, NORMAL, [BAD, GOOD], RUN)
    assert anomalies(stage) == [ZERO, BLANK, (*FAILED[:3], False)]


def test_a_dagster_run_that_failed_left_it(stage: Scene) -> None:
    """Prevents a blocked week from being a green run, and a red one from leaving nothing behind."""
    outcome = stage.run("otc.normalize_week", BAD)
    assert not outcome.is_complete
    assert not stage.success(outcome.run_ids[0])
    assert ZERO in anomalies(stage)
    assert stage.captures("venue_volume") == []


def test_it_closes_when_the_file_is_mended(stage: Scene, tmp_path: Path) -> None:
    """Prevents a CRITICAL anomaly from blocking a week for ever after FINRA has corrected it."""
    compute(stage.spine, NORMAL, [BAD], RUN)
    put(tmp_path / "files", BAD, text(lines(BAD, 40)))
    stage.clock.forward(days=1)
    later = Run("later", "a-process", stage.clock())
    ingest(stage.spine, FEED, [BAD], later, FEW)
    compute(stage.spine, NORMAL, [BAD], later)
    assert anomalies(stage) == [(*ZERO[:3], False), (*BLANK[:3], False)]
    assert stage.current("venue_volume", BAD).row_count == 40


@dataclass(frozen=True)
class Outage:
    """A source that works until it comes to one partition."""

    works: Source
    fails_at: WeekKey
    kind = series = "file"

    def inventory(self, feed: Feed, now: datetime) -> Inventory:
        return self.works.inventory(feed, now)

    def fetch(self, feed: Feed, key: WeekKey, now: datetime) -> Delivery | Empty:
        if key == self.fails_at:
            raise SourceError("FINRA answers 503", "try again in five minutes")
        return self.works.fetch(feed, key, now)


def test_an_outage_is_told_apart_from_a_failure(stage: Scene, tmp_path: Path) -> None:
    """Prevents a source that is down from looking like broken code, and what came before it from being lost."""
    third = key("2025-11-28")
    put(tmp_path / "files", third, text(lines(third, 20)))
    down = replace(stage.spine, source=Outage(stage.spine.source, third))
    with pytest.raises(SourceError):
        ingest(down, FEED, [GOOD, third], RUN, FEW)
    assert anomalies(stage) == [("SOURCE_UNAVAILABLE", "2025-11-21", "ERROR", True)]
    category, message, details = stage.one("SELECT category, message, details_json FROM core_anomalies")
    assert (category, message) == ("INCOMPLETE_INPUT", "FINRA answers 503")
    assert json.loads(details) == {"next": "try again in five minutes", "partitions": 2}
    ingest(stage.spine, FEED, [GOOD, third], RUN, FEW)
    assert anomalies(stage) == [("SOURCE_UNAVAILABLE", "2025-11-21", "ERROR", False)]


# What is raised (made anew: a raised one holds on to all frames), and what is recorded: code, category, message, next.
ERRORS: list[tuple[Callable[[], Exception], str, str, str, str]] = [
    (lambda: SourceError("no answer", "wait"), "SOURCE_UNAVAILABLE", "INCOMPLETE_INPUT", "no answer", "wait"),
    (lambda: CalculationError("other columns", "mend it"), "STEP_FAILED", "DEPENDENCY", "other columns", "mend it"),
    (
        lambda: OSError(28, "No space left on device"),
        "STEP_FAILED",
        "DEPENDENCY",
        "OSError: [Errno 28] No space left on device",
        "repeat the command with --traceback for the details",
    ),
    (
        lambda: KeyError("mpid"),
        "STEP_FAILED",
        "DEPENDENCY",
        "KeyError: 'mpid'",
        "repeat the command with --traceback for the details",
    ),
]


@pytest.mark.parametrize(("make", "code", "category", "message", "remedy"), ERRORS, ids=[row[3] for row in ERRORS])
def test_every_failure_leaves_an_anomaly(
    tmp_path: Path, make: Callable[[], Exception], code: str, category: str, message: str, remedy: str
) -> None:
    """Prevents a failure from being recorded without what helps, or from being swallowed by being recorded (F123)."""
    error = make()
    with staged(tmp_path / "home") as scene:
        scene.spine.store.ensure()
        with pytest.raises(type(error)) as raised, record.of_failure(scene.spine, RUN, RAW, [GOOD, BAD]):
            raise error
        assert raised.value is error
        assert anomalies(scene) == [(code, "2025-11-14", "ERROR", True)]  # at the first of its partitions
        row = scene.one("SELECT category, message, details_json, execution_id, tier FROM core_anomalies")
        assert (row[0], row[1], row[3], row[4]) == (category, message, "a-run", "OTC")
        assert json.loads(row[2]) == {"next": remedy, "partitions": 2}


def test_a_step_that_goes_through_closes_its_own_failures_only(tmp_path: Path) -> None:
    """Prevents one week's success from closing another week's failure."""
    with staged(tmp_path / "home") as scene:
        scene.spine.store.ensure()
        for week in (BAD, GOOD):
            for error in (SourceError("down", "wait"), ValueError("x")):
                with pytest.raises(type(error)), record.of_failure(scene.spine, RUN, RAW, [week]):
                    raise error
        with record.of_failure(scene.spine, RUN, RAW, [GOOD, key("2025-11-28")]):
            pass
        assert anomalies(scene) == [
            ("SOURCE_UNAVAILABLE", "2025-11-14", "ERROR", True),
            FAILED,
            ("SOURCE_UNAVAILABLE", "2025-11-21", "ERROR", False),
            ("STEP_FAILED", "2025-11-21", "ERROR", False),
        ]


def test_where_nothing_can_be_recorded_the_failure_is_told_all_the_same(tmp_path: Path) -> None:
    """Prevents the second trouble, a journal that cannot be written, from hiding the first one."""
    with staged(tmp_path / "home") as scene:
        scene.spine.store.ensure()
        (scene.spine.store.home.journal / "000000").write_text("in the way")
        with pytest.raises(ValueError, match="the first") as raised, record.of_failure(scene.spine, RUN, RAW, [BAD]):
            raise ValueError("the first")
        (note,) = raised.value.__notes__
        assert note.startswith("and no anomaly could be recorded: cannot write ")
        (scene.spine.store.home.journal / "000000").unlink()
        assert anomalies(scene) == []


def rejects(count: int, week: WeekKey = BAD, reason: str = "BAD_NUMBER", start: int = 2) -> list[dict[str, Any]]:
    """Rows of core_rejects, as a step has them."""
    place = {"week_ending": week.week_ending, "tier": week.tier_text, "part_no": 1, "scope": "ROW"}
    return [
        place | {"line_no": start + number, "reason_code": reason, "detail": "why", "raw_text": "x|y"}
        for number in range(count)
    ]


def finding(check: str, passed: bool = False, **more: Any) -> Finding:
    return Finding(check, BAD, passed, Severity.ERROR, Category.BUSINESS_RULE, "30", "0", affected=30, **more)


# Check, all rejects, the lines that are shown as samples; a check's own samples have no lines.
SAMPLED: dict[str, tuple[Finding, list[dict[str, Any]], list[int]]] = {
    "of its own reason": (
        finding("bad_number"),
        rejects(5) + rejects(5, reason="FIELD_COUNT", start=90),
        [2, 3, 4, 5, 6],
    ),
    "twenty at most": (finding("bad_number"), rejects(30), [*range(2, 22)]),
    "of its own week": (finding("bad_number"), rejects(3, GOOD) + rejects(2, start=50), [50, 51]),
    "of its own tier": (finding("bad_number"), rejects(3, replace(BAD, tier=T2)), []),
    "too many of any reason": (
        finding("error_rate"),
        rejects(2) + rejects(2, reason="FIELD_COUNT", start=90),
        [2, 3, 90, 91],
    ),
    "none were set aside": (finding("bad_number"), [], []),
    "it holds": (finding("bad_number", passed=True), rejects(5), []),
}


@pytest.mark.parametrize(("one", "all_rejects", "expected"), SAMPLED.values(), ids=SAMPLED)
def test_the_records_that_show_it(
    tmp_path: Path, one: Finding, all_rejects: list[dict[str, Any]], expected: list[int]
) -> None:
    """Prevents an anomaly from showing records of another week, tier or reason, or all of a million."""
    with staged(tmp_path / "home") as scene:
        scene.spine.store.ensure()
        captures: Mapping[WeekKey, str] = {BAD: "a capture"}
        record.findings(scene.spine, RUN, RAW, [replace(one, passed=False)], {})
        record.findings(scene.spine, RUN, RAW, [one], captures, all_rejects)
        samples, affected, capture_id = scene.one(
            "SELECT sample_records, affected_records, capture_id FROM core_anomalies"
        )
        assert [row["line_no"] for row in json.loads(samples)] == expected
        assert affected == 30
        assert capture_id == (None if one.passed else "a capture")


def test_a_check_may_bring_its_own_samples(stage: Scene) -> None:
    """Prevents a violated schema from being told without the values that violate it."""
    sql = "SELECT * REPLACE (CAST(-1 AS INTEGER) AS row_count) FROM ({})"
    loose = replace(NORMAL, calculation=replace(NORMAL.calculation, sql=sql.format(NORMAL.calculation.sql)))
    compute(stage.spine, loose, [GOOD], RUN)
    samples, affected = stage.one(
        "SELECT sample_records, affected_records FROM core_anomalies WHERE code = 'SCHEMA_VIOLATED'"
    )
    assert affected == 20
    assert 0 < len(json.loads(samples)) <= 20
    assert "-1" in samples


def test_every_stage_has_its_pipeline() -> None:
    """Prevents a stage whose findings name no pipeline that a person could run."""
    assert {stage: Subject("d", "t", stage).pipeline for stage in Stage} == {
        Stage.INGESTED: "d.ingest_week",
        Stage.NORMALIZED: "d.normalize_week",
        Stage.AGGREGATED: "d.aggregate_week",
        Stage.ROLLING: "d.compute_rolling",
    }
