"""Dagster's runs on record: what is kept of each, once, whatever happens meanwhile; a platform that comes to rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
import time_machine

from market_spine.automation import export as module
from market_spine.automation.export import execution_sensor, export
from market_spine.automation.launch import END, START
from market_spine.definitions import build_defs
from market_spine.domain.errors import SourceError
from market_spine.feeds.otc import FEED
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store import executions
from market_spine.store.ledger import Run, newest_seq
from market_spine_tests.journeys.stage import NOW, Clock, Scene, key, staged
from market_spine_tests.journeys.test_sensors import carry_out

WRITER = Run("exporter", "exporter", NOW)
SENSOR = execution_sensor((FEED,))
SECRET = "hunter2-Zx"


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with staged(tmp_path / "home", SyntheticSource.from_spec("seed=7,scale=0.02"), Clock(NOW)) as made:
        made.spine.store.ensure()
        yield made


def finish(
    scene: Scene,
    name: str = "otc_weekly_refresh",
    error: Exception | None = None,
    tags: Mapping[str, str] | None = None,
) -> str:
    """A real run of a job of one op, recorded in the scene's instance; its id."""

    @dg.op(name="look")
    def look() -> None:
        if error:
            raise error

    @dg.job(name=name)
    def job() -> None:
        look()

    done = job.execute_in_process(instance=scene.instance, tags=tags, raise_on_error=False)
    assert done.success is (error is None)
    return done.run_id


def kept(scene: Scene) -> dict[str, dict[str, Any]]:
    with scene.spine.store.control.read() as connection:
        return {row["execution_id"]: row for row in executions.listed(connection)}


def transactions(scene: Scene) -> int:
    with scene.spine.store.control.read() as connection:
        return newest_seq(connection)


def keep(scene: Scene) -> int:
    return export(scene.spine.store, [FEED], scene.instance, WRITER)


class Ticks:
    """The sensor, evaluated as the daemon does: with the cursor that it left."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.cursor: str | None = None

    def __call__(self) -> str:
        context = dg.build_sensor_context(
            instance=self.scene.instance, cursor=self.cursor, resources={"spine": self.scene.spine}
        )
        answer: Any = SENSOR(context)
        self.cursor = context.cursor
        return str(answer.skip_message)


NOTHING = "no run has ended since the last look"
DEFAULTS = {
    "domain": "finra.otc_transparency",
    "status": "SUCCESS",
    "logical_key": "",
    "lane": "NORMAL",
    "trigger_source": "command",
    "parent_execution_id": None,
    "error": None,
}
TAGS: list[tuple[dict[str, str], dict[str, str]]] = [
    ({}, {}),
    (
        {"dagster/schedule_name": "x", "dagster/partition": "OTC|2025-11-14"},
        {"trigger_source": "schedule", "logical_key": "OTC|2025-11-14"},
    ),
    ({"dagster/sensor_name": "x", START: "a", END: "b"}, {"trigger_source": "sensor", "logical_key": "a...b"}),
    (
        {"dagster/backfill": "bf", "dagster/from_ui": "true", "dagster/priority": "-10"},
        {"trigger_source": "backfill", "lane": "BACKFILL", "correlation_id": "bf"},
    ),
    ({"dagster/from_ui": "true", START: "a", END: "a"}, {"trigger_source": "ui", "logical_key": "a"}),
    ({"dagster/priority": "5", "market_spine/request": "backfill"}, {}),
    ({"dagster/priority": "-0"}, {}),
    ({"dagster/priority": "high", "market_spine/correlation_id": "week 46"}, {"correlation_id": "week 46"}),
]


@pytest.mark.parametrize(("tags", "told"), TAGS)
def test_who_started_what(scene: Scene, tags: dict[str, str], told: dict[str, str]) -> None:
    """Prevents a run from being put down to somebody else, or to another lane, partition or process."""
    run_id = finish(scene, tags=tags)
    assert keep(scene) == 1
    row = kept(scene)[run_id]
    expected = DEFAULTS | {"correlation_id": run_id, "pipeline": "otc_weekly_refresh"} | told
    assert {column: row[column] for column in expected} == expected
    record = scene.instance.get_run_records(dg.RunsFilter(run_ids=[run_id]))[0]
    assert row["created_at"] == record.create_timestamp
    times = [row["started_at"].timestamp(), row["ended_at"].timestamp()]
    assert times == pytest.approx([record.start_time, record.end_time], abs=1e-5)


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("otc_daily_health", FEED.domain),
        ("trading_calendar", "reference.trading_calendar"),
        ("somebody_elses", ""),
        ("otcx_refresh", ""),
    ],
)
def test_whose_run_it_was(scene: Scene, name: str, domain: str) -> None:
    """Prevents a run from being counted to a feed whose name only begins like its own."""
    run_id = finish(scene, name)
    keep(scene)
    assert (kept(scene)[run_id]["pipeline"], kept(scene)[run_id]["domain"]) == (name, domain)


def test_what_commands_and_ad_hoc_runs_made(scene: Scene) -> None:
    """Prevents runs of Dagster's own nameless job from being kept without what they made and how."""
    scene.run("otc.ingest_week", key("2025-11-14"))
    keep(scene)
    (row,) = [one for one in kept(scene).values() if one["pipeline"] == "otc/raw"]
    assert (row["domain"], row["logical_key"]) == (FEED.domain, "OTC|2025-11-14")
    params = json.loads(row["params_json"])
    assert params["assets"] == ["otc/raw"]
    assert params["config"] == {"otc/raw": {"force": False, "min_records": 1, "revision_policy": "versioned"}}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SourceError("FINRA is down", "later"), "SourceError: FINRA is down"),
        (ValueError("x" * 5000), "ValueError: " + "x" * (module.SHOWN - len("ValueError: "))),
        (OSError(f"x://u:{SECRET}@h/d password={SECRET}"), "OSError: x://u:[secret]@h/d password=[secret]"),
    ],
)
def test_a_failure_is_kept_with_its_cause(scene: Scene, error: Exception, told: str) -> None:
    """Prevents a failed run from being kept without why, with Dagster's words for it, or with a secret."""
    run_id = finish(scene, error=error)
    keep(scene)
    row = kept(scene)[run_id]
    assert (row["status"], row["error"]) == ("FAILURE", told)
    assert SECRET not in json.dumps(row, default=str)


def test_a_worker_that_died_is_kept(scene: Scene) -> None:
    """Prevents a run that no step of failed from being kept without why; and one cancelled in the queue from stopping
    the export, since it has neither beginning nor end."""
    died, queued = (dg.DagsterRun(job_name="otc_publish", status=dg.DagsterRunStatus.NOT_STARTED) for _ in range(2))
    for run in (died, queued):
        scene.instance.add_run(run)
    assert keep(scene) == 0
    scene.instance.report_run_failed(died, "Detected run worker crash")
    scene.instance.report_run_canceled(queued)
    assert keep(scene) == 2
    rows = kept(scene)
    assert (rows[died.run_id]["error"], rows[died.run_id]["started_at"]) == ("Detected run worker crash", None)
    assert (rows[queued.run_id]["status"], rows[queued.run_id]["error"]) == ("CANCELED", None)
    scene.instance.report_run_failed(queued, "it ran on, and failed")  # forced to an end, and then ended by itself
    assert keep(scene) == 1
    assert kept(scene)[queued.run_id]["status"] == "FAILURE"


def test_the_same_twice_is_nothing_new(scene: Scene) -> None:
    """Prevents copies, and a journal that grows by a transaction with every look."""
    finish(scene)
    ticks = Ticks(scene)
    assert ticks() == "runs put on record: 1"
    before = transactions(scene)
    assert [ticks(), ticks()] == [NOTHING, NOTHING]
    ticks.cursor = None  # a new daemon, or a cursor that somebody reset
    assert [keep(scene), ticks(), ticks()] == [0, "runs put on record: 0", NOTHING]
    assert transactions(scene) == before


def test_a_run_that_ends_meanwhile_is_kept_the_next_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents what ends between reading ids and leaving the cursor from never being looked at."""
    first = finish(scene)
    read = scene.instance.get_run_records
    late: list[str] = []

    def meanwhile(*args: Any, **more: Any) -> Any:
        if not late and not more.get("order_by"):  # after the ids were read
            late.append(finish(scene))
        return read(*args, **more)

    monkeypatch.setattr(scene.instance, "get_run_records", meanwhile)
    ticks = Ticks(scene)
    assert ticks() == "runs put on record: 1"
    assert list(kept(scene)) == [first]
    assert [ticks(), ticks()] == ["runs put on record: 1", NOTHING]
    assert set(kept(scene)) == {first, *late}


def test_what_dagster_forgets_stays(scene: Scene) -> None:
    """Prevents a purge from taking rows away, and from hiding a run that ended since: the counts are the same."""
    ticks, first = Ticks(scene), finish(scene)
    ticks()
    scene.instance.delete_run(first)
    second = finish(scene)
    assert ticks() == "runs put on record: 1"
    scene.instance.delete_run(second)
    third = finish(scene)
    assert [ticks(), ticks()] == ["runs put on record: 1", NOTHING]
    assert set(kept(scene)) == {first, second, third}


def test_a_clock_that_jumps_hides_nothing(scene: Scene) -> None:
    """Prevents runs that ended "before" the last look from being passed over."""
    ticks, found = Ticks(scene), []
    for days in (0, -30, 30, -1):
        with time_machine.travel(datetime.now(UTC) + timedelta(days=days)):
            found.append(finish(scene))
            assert ticks() == "runs put on record: 1"
    assert set(kept(scene)) == set(found)
    assert ticks() == NOTHING


def test_many_are_caught_up_with_over_several_looks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the first look at an older store from taking longer than Dagster lets a sensor take, again and again."""
    monkeypatch.setattr(module, "LIMIT", 2)
    monkeypatch.setattr(module, "CHUNK", 1)
    found = [finish(scene) for _ in range(3)]
    ticks = Ticks(scene)
    assert ticks() == "runs put on record: 2"
    assert set(kept(scene)) == set(found[:2])  # the oldest first
    assert [ticks(), ticks()] == ["runs put on record: 1", NOTHING]


def test_several_at_once_keep_each_run_once(scene: Scene) -> None:
    """Prevents the sensor and a command that export at the same time from refusing or doubling each other's rows."""
    found = {finish(scene) for _ in range(5)}
    with ThreadPoolExecutor(4) as pool:
        counted = [one.result() for one in [pool.submit(keep, scene) for _ in range(4)]]
    assert sum(counted) == 5
    assert set(kept(scene)) == found
    assert transactions(scene) == 1


@pytest.mark.slow
def test_a_quiet_platform_comes_to_rest(scene: Scene) -> None:
    """Prevents sensors from keeping each other busy: an export is a transaction, which is news to those that judge."""
    scene.refresh(key("2025-12-19"))
    defs = build_defs(scene.spine)
    sensors = list(defs.sensors or ())
    assert len(sensors) >= 4
    cursors: dict[str, str | None] = {}
    at_rest = 0
    for _ in range(30):
        scene.clock.forward(seconds=61)
        before, asked = transactions(scene), 0
        for sensor in sensors:
            asked += tick(scene, sensor, cursors, defs.resources or {})
        at_rest = at_rest + 1 if (asked, transactions(scene)) == (0, before) else 0
        if at_rest == 3:
            break
    assert at_rest == 3
    over = scene.instance.get_runs_count()
    assert len(kept(scene)) == over > 0


def tick(scene: Scene, sensor: Any, cursors: dict[str, str | None], resources: Mapping[str, Any]) -> int:
    """One evaluation, as the daemon does it; the runs that it asked for are carried out, and counted."""
    context = dg.build_sensor_context(
        instance=scene.instance,
        cursor=cursors.get(sensor.name),
        sensor_name=sensor.name,
        resources=dict(resources),
    )
    answer = sensor(context)
    cursors[sensor.name] = answer.cursor if isinstance(answer, dg.SensorResult) else context.cursor
    asked = answer.run_requests or [] if isinstance(answer, dg.SensorResult) else answer
    requests = asked if isinstance(asked, list) else [asked] if isinstance(asked, dg.RunRequest) else []
    carry_out(scene, [one for one in requests if one.asset_selection])
    return len(requests)


def test_a_rebuild_restores_them(scene: Scene) -> None:
    """Prevents the record of runs from being lost with the control database."""
    from market_spine.assets.rebuild import rebuild

    found = {finish(scene), finish(scene, error=ValueError("no"))}
    keep(scene)
    before = kept(scene)
    with scene.spine.store.control.write() as connection:
        connection.execute(sa.text("UPDATE core_executions SET status = 'SUCCESS'"))
    assert rebuild(scene.spine, [FEED], swap=False).differences
    with scene.spine.store.control.write() as connection:
        connection.execute(sa.text("UPDATE core_executions SET status = 'FAILURE' WHERE error IS NOT NULL"))
    report = rebuild(scene.spine, [FEED])
    assert (report.differences, report.swapped) == ([], True)
    assert kept(scene) == before
    assert set(before) == found
