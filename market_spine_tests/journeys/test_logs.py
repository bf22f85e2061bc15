"""What the log tells of real runs: which run and process each line is of, one line a commit, on stderr alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from market_spine.assets.scope import judge
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import SourceError
from market_spine.domain.keys import WeekKey
from market_spine.feeds.otc import FEED
from market_spine.logs import Form, Level, configure
from market_spine.sources.delivery import Delivery, Empty
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store.ledger import Run
from market_spine_tests.journeys.stage import NOW, Clock, Scene, key, staged

WEEK = "2025-12-19"
SOURCE = SyntheticSource.from_spec("seed=7,scale=0.02")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with staged(tmp_path / "home", SOURCE, Clock(NOW)) as made:
        structlog.contextvars.clear_contextvars()
        yield made
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]


def test_every_line_of_a_load_names_its_run(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a line that belongs to nobody, captures that no line tells, and a line for each of hundreds."""
    configure(Level.DEBUG, Form.JSON)
    outcome = scene.run("otc.ingest_week", key(WEEK))
    lines = told(capsys)
    assert {one["correlation_id"] for one in lines} == {outcome.correlation_id}
    assert {one["execution_id"] for one in lines} == set(scene.runs)
    committed = [one for one in lines if one["event"] == "committed"]
    rows = scene.sql("SELECT batch_id, count(*), sum(row_count), min(capture_id) FROM core_manifest GROUP BY ALL")
    assert sorted((one["batch_id"], one["captures"], one["rows"], one["capture_id"]) for one in committed) == sorted(
        rows
    )
    (landed,) = [one for one in lines if one["event"] == "landed"]
    assert (landed["partition"], landed["table_name"]) == (f"OTC:{WEEK}", "otc_raw")
    judged = judge(scene.spine.store, Run("r", "c", NOW), FEED)
    said = [(one["week_ending"], one["ready_for"], one["execution_id"]) for one in told(capsys)]
    assert said == [(str(one.verdict.week), one.verdict.use_case.name, "r") for one in judged]
    assert len(said) == 3


def test_nothing_is_told_by_default(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents the terminal from filling with what the command tells itself."""
    scene.run("otc.ingest_week", key(WEEK))
    told_all = capsys.readouterr()
    assert (told_all.out, "committed" in told_all.err) == ("", False)


class Down:
    """A source that is not there, and says more than it should."""

    kind = "synthetic"
    series = SOURCE.series

    def inventory(self, feed: Feed, now: datetime) -> Any:
        return SOURCE.inventory(feed, now)

    def fetch(self, feed: Feed, week: WeekKey, now: datetime) -> Delivery | Empty:
        raise SourceError("no answer from https://user:hunter2-Zx@host/", "ask again later")


def test_a_failure_is_told_with_its_run_and_without_secrets(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents the log of programs from lacking what failed; at the level of people Dagster and the command tell it."""
    configure(Level.INFO, Form.JSON)
    failing = replace(scene, spine=replace(scene.spine, source=Down()))
    outcome = failing.run("otc.ingest_week", key(WEEK))
    (line,) = [one for one in told(capsys) if one["event"] == "step_failed"]
    assert (line["correlation_id"], line["execution_id"]) == (outcome.correlation_id, outcome.run_ids[0])
    assert (line["level"], line["table_name"], line["first"], line["partitions"]) == (
        "info",
        "otc_raw",
        f"OTC:{WEEK}",
        1,
    )
    assert line["error"] == "SourceError: no answer from https://user:[secret]@host/\n  next: ask again later"


@pytest.mark.slow
def test_a_runs_compute_log_has_its_lines(tmp_path: Path) -> None:
    """Prevents the log from being lost to whoever opens a run in Dagster, and from standing among results."""
    env = os.environ | {"MARKET_SPINE_LOG_LEVEL": "info", "MARKET_SPINE_LOG_FORMAT": "json"}
    words = ["run", "otc.ingest_week", "-p", "tier=OTC", "-p", f"week_ending={WEEK}", "--format", "json"]
    command = [str(Path(sys.executable).with_name("spine")), "--home", str(tmp_path), *words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout)
    logs = [path.read_text() for path in tmp_path.glob("dagster/storage/*/compute_logs/*.err")]
    lines = [json.loads(line) for text in logs for line in text.splitlines() if line.startswith("{")]
    captured = [one for one in lines if one.get("table_name") == "otc_raw"]
    assert [one["event"] for one in captured] == ["committed"]
    assert captured[0]["capture_id"].startswith(f"finra.otc_transparency:OTC:{WEEK}:")
    assert datetime.fromisoformat(captured[0]["timestamp"]).tzinfo == UTC
    assert [text for text in logs if "STEP_START" in text] == []  # Dagster's events are in its own log
