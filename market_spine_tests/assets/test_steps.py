"""What keeps a step from storing something wrong: its columns, its laws, its determinism, its connections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from market_spine.assets.compute import Step, compute
from market_spine.assets.spine import Engine
from market_spine.assets.tables import steps_of
from market_spine.domain.errors import CalculationError, StoreError
from market_spine.feeds.otc import FEED
from market_spine.store.ledger import Run
from market_spine_tests.journeys.stage import NOW, Scene, key, lines, put, staged, text

WEEK, NEXT = key("2025-11-14"), key("2025-11-21")
RUN = Run("a-run", "a-process", NOW)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Scene]:
    for week in (WEEK, NEXT):
        put(tmp_path / "files", week, text(lines(week, 20)))
    with staged(tmp_path / "home", f"file:{tmp_path / 'files'}") as scene:
        scene.run("otc.ingest_week", WEEK, NEXT)
        scene.run("otc.normalize_week", WEEK, NEXT)
        yield scene


def with_sql(name: str, sql: str) -> Step:
    """A step as it would be with another SELECT."""
    step = steps_of(FEED)[name]
    return replace(step, calculation=replace(step.calculation, sql=sql))


def summary() -> str:
    return steps_of(FEED)["symbol_summary"].calculation.sql


def test_other_columns_than_declared_are_refused(stage: Scene) -> None:
    """A table whose file has other columns or types than its contract, schema and documentation say."""
    step = with_sql(
        "symbol_summary", f"SELECT * REPLACE (CAST(total_volume AS DOUBLE) AS total_volume) FROM ({summary()})"
    )
    with pytest.raises(CalculationError, match="its contract says"):
        compute(stage.spine, step, [WEEK], RUN)
    assert stage.captures("symbol_summary") == []


def test_a_broken_law_keeps_its_partition_out(stage: Scene) -> None:
    """A calculation that loses a row in one week and is stored for it, or that takes the other week down with it."""
    step = with_sql(
        "symbol_summary",
        f"SELECT * FROM ({summary()}) WHERE symbol <> 'S000' OR week_ending <> DATE '{WEEK.week_ending}'",
    )
    report = compute(stage.spine, step, [WEEK, NEXT], RUN)
    assert set(report.blocked) == {WEEK}
    assert [one.key for one in stage.captures("symbol_summary")] == [NEXT]
    severities = {
        row[0] for row in stage.sql("SELECT severity FROM core_quality WHERE status = 'failed' AND is_blocking = 1")
    }
    assert severities == {"CRITICAL"}


def test_bounds_are_kept(stage: Scene) -> None:
    """A negative volume that passes because every law about sums still holds."""
    loose = with_sql("symbol_summary", f"SELECT * REPLACE (CAST(-1 AS INTEGER) AS venue_count) FROM ({summary()})")
    report = compute(stage.spine, loose, [WEEK], RUN)
    assert "schema" in report.blocked[WEEK]


def test_a_calculation_that_is_not_deterministic_is_found(stage: Scene) -> None:
    """Other content under the same inputs and version: nobody could reproduce what was published."""
    compute(stage.spine, steps_of(FEED)["symbol_summary"], [WEEK], RUN)
    changed = with_sql("symbol_summary", f"SELECT * REPLACE (avg_trade_size + 1 AS avg_trade_size) FROM ({summary()})")
    changed = replace(changed, calculation=replace(changed.calculation, invariants=()))
    with pytest.raises(StoreError, match="not deterministic"):
        compute(stage.spine, changed, [WEEK], RUN, force=True)
    (only,) = stage.captures("symbol_summary")
    assert only.revision == 1


def test_a_new_version_is_a_new_capture(stage: Scene) -> None:
    """A corrected calculation that finds everything up to date."""
    step = steps_of(FEED)["symbol_summary"]
    compute(stage.spine, step, [WEEK], RUN)
    newer = replace(step, calculation=replace(step.calculation, version="1.1"))
    report = compute(stage.spine, newer, [WEEK], RUN)
    assert [(one.revision, one.calc_version, one.is_current) for one in report.written] == [(2, "1.1", True)]
    assert compute(stage.spine, newer, [WEEK], RUN).written == []


def test_the_engine_is_closed_after_an_error(stage: Scene) -> None:
    """dagster-duckdb leaves its connection open after a failure: memory that is never given back."""
    kept: list[duckdb.DuckDBPyConnection] = []

    def fail() -> None:
        with Engine.of(stage.spine.store).get_connection() as connection:
            kept.append(connection)
            connection.execute("SELECT * FROM nothing")

    with pytest.raises(duckdb.CatalogException):
        fail()
    with pytest.raises(duckdb.ConnectionException):
        kept[0].execute("SELECT 1")


def test_each_partition_of_a_range_has_its_own_verdict(stage: Scene, tmp_path: Path) -> None:
    """A range in which one week failed and Dagster shows all weeks alike."""
    put(tmp_path / "files", NEXT, b"<html></html>")
    stage.run("otc.ingest_week", WEEK, NEXT)
    check = dg.AssetCheckKey(dg.AssetKey(["otc", "raw"]), "captured")
    records = stage.instance.event_log_storage.get_asset_check_execution_history(check, limit=20)
    verdicts = {}
    for record in records:
        evaluation = record.event.asset_check_evaluation if record.event else None
        if evaluation is not None and evaluation.partition is not None and record.run_id == stage.runs[-1]:
            verdicts[evaluation.partition] = evaluation.passed
    assert verdicts == {"OTC|2025-11-14": True, "OTC|2025-11-21": False}
