"""The sensors, evaluated as the daemon does, over a real store whose clock the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from market_spine.assets import readiness, scope
from market_spine.assets.reading import publish_all
from market_spine.assets.scope import judge, scope_of
from market_spine.automation import sensors
from market_spine.automation.launch import END, START, Launch, run
from market_spine.automation.sensors import sensors_of
from market_spine.domain.captures import RevisionPolicy
from market_spine.feeds.otc import FEED
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store import heartbeats
from market_spine.store.ledger import Run
from market_spine_tests.journeys.stage import (
    FEW,
    OTC,
    T1,
    T2,
    Clock,
    Scene,
    copied,
    key,
    line,
    lines,
    put,
    staged,
    text,
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sensors")]
WEEK, BEFORE = "2025-11-14", "2025-11-07"
PUBLISHED = datetime(2025, 12, 15, 16, tzinfo=UTC)  # an hour after Tier 2 and OTC of the week are due
KEYS = tuple(key(week, tier) for week in (BEFORE, WEEK) for tier in (T1, T2, OTC))
SENSORS = {sensor.name: sensor for sensor in sensors_of(FEED)}


class Daemon:
    """Evaluates one sensor after the other, each with the cursor that it left."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.cursors: dict[str, str | None] = {}

    def tick(self, name: str) -> Any:
        context = dg.build_sensor_context(
            instance=self.scene.instance,
            cursor=self.cursors.get(name),
            sensor_name=f"otc_{name}_sensor",
            resources={"spine": self.scene.spine},
        )
        answer = SENSORS[f"otc_{name}_sensor"](context)
        self.cursors[name] = answer.cursor if isinstance(answer, dg.SensorResult) else context.cursor
        return answer


@contextmanager
def two_weeks(home: Path) -> Iterator[Scene]:
    source = SyntheticSource.from_spec("seed=7,scale=0.02,revision_hours=72,fault=restatement:OTC:2025-11-14:3")
    with staged(home, source, Clock(PUBLISHED)) as scene:
        yield scene


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Of an empty store."""
    with two_weeks(tmp_path / "home") as scene:
        yield Daemon(scene)


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with two_weeks(tmp_path_factory.mktemp("captured") / "home") as scene:
        scene.refresh(*KEYS)
        yield scene


@pytest.fixture
def loaded(captured: Scene, tmp_path: Path) -> Iterator[Daemon]:
    """Of a store with both weeks, that nobody has judged yet."""
    with copied(captured, tmp_path) as scene:
        yield Daemon(scene)


def skipped(answer: Any) -> bool:
    return isinstance(answer, dg.SkipReason) or bool(isinstance(answer, dg.SensorResult) and answer.skip_reason)


def shown(scene: Scene) -> dict[tuple[str, str], bool]:
    """(week, use case) -> what Dagster shows of its check: the newest evaluation of the week."""
    found: dict[tuple[str, str], bool] = {}
    for use_case in scope_of(FEED).use_cases:
        check = dg.AssetCheckKey(readiness.key_of(FEED), readiness.check_name(use_case))
        for record in scene.instance.event_log_storage.get_asset_check_execution_history(check, limit=100):
            said = record.event.asset_check_evaluation if record.event else None
            if said is not None and said.partition is not None:
                found.setdefault((said.partition, use_case), said.passed)
    return found


def ready(*use_cases: str) -> dict[tuple[str, str], bool]:
    return {(week, one): one in use_cases for week in (BEFORE, WEEK) for one in scope_of(FEED).use_cases}


def test_a_week_becomes_ready_without_any_new_event(loaded: Daemon) -> None:
    """Prevents a week from staying preliminary until something else happens, an alert from being told twice, and
    Dagster from showing a verdict of before."""
    scene = loaded.scene
    first = loaded.tick("readiness").run_requests
    assert carry_out(scene, first) == [("readiness", f"{BEFORE} .. {WEEK}")]
    assert shown(scene) == ready()
    assert skipped(loaded.tick("readiness"))
    scene.clock.forward(hours=24, minutes=1)
    carry_out(scene, loaded.tick("readiness").run_requests)
    assert scene.sql("SELECT DISTINCT ready_for FROM core_data_readiness WHERE is_ready = 1") == [("research",)]
    assert shown(scene) == ready("research")
    scene.clock.forward(hours=24)
    carry_out(scene, loaded.tick("readiness").run_requests)
    assert shown(scene) == ready("trading", "compliance", "research")
    assert scene.one("SELECT count(*) FROM core_events WHERE event_type = 'READINESS_CHANGED'") == (12,)
    assert skipped(loaded.tick("readiness"))
    assert scene.spine.store.home.published.exists()


def test_what_others_judged_is_shown_too(daemon: Daemon) -> None:
    """Prevents a verdict that a command, or a tick that was cut off, put on record from never reaching Dagster; and a
    run for what a run has shown."""
    scene = daemon.scene
    scene.refresh(*KEYS[:3])
    assert scene.run("otc.weekly_refresh", *KEYS[3:], publish=True).is_complete  # as commands do, which judge too
    judge(scene.spine.store, Run("command", "command", scene.clock()), FEED)
    asked = daemon.tick("readiness").run_requests
    assert carry_out(scene, asked) == [("readiness", f"{BEFORE} .. {BEFORE}")]
    assert shown(scene) == ready()


def test_what_is_committed_while_it_judges_is_news(loaded: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a restatement that comes between judging and the cursor from never being judged."""
    scene = loaded.scene
    scene.clock.forward(hours=80)  # old enough, and restated at the source

    def publish(*arguments: Any) -> None:
        monkeypatch.setattr(sensors, "publish_all", publish_all)
        publish_all(*arguments)
        assert scene.run("otc.ingest_week", key(WEEK)).is_complete

    monkeypatch.setattr(sensors, "publish_all", publish)
    loaded.tick("readiness")
    blocked = "SELECT count(*) FROM core_data_readiness WHERE state = 'BLOCKED'"
    assert scene.one(blocked) == (0,)
    loaded.tick("readiness")
    assert scene.one(blocked) == (2,)  # trading and compliance, which use that tier


def test_other_code_or_another_policy_is_news(loaded: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents verdicts and measures of the code of before from standing until something is delivered."""
    scene = loaded.scene
    scene.clock.forward(hours=60)
    for _ in range(3):
        carry_out(scene, getattr(loaded.tick("readiness"), "run_requests", None) or [])
        loaded.tick("stale")
        scene.clock.forward(minutes=1)
    assert skipped(loaded.tick("readiness"))
    assert skipped(loaded.tick("stale"))

    held = scope_of(FEED)
    derived = [
        replace(one, calculation=replace(one.calculation, version="999")) if "hhi" in one.table_name else one
        for one in held.derived
    ]
    other = replace(held, derived=derived)
    monkeypatch.setattr(scope, "scope_of", lambda _feed: other)
    monkeypatch.setattr(sensors, "derived_of", lambda _feed: derived)
    loaded.tick("readiness")
    assert scene.sql("SELECT DISTINCT state FROM core_data_readiness") == [("BLOCKED",)]
    scene.clock.forward(minutes=1)
    assert {tuple(one.asset_selection[0].path) for one in loaded.tick("stale")} == {("otc", "symbol_hhi")}

    stricter = {name: replace(one, preliminary_hours=2000) for name, one in held.use_cases.items()}
    monkeypatch.setattr(scope, "scope_of", lambda _feed: replace(held, use_cases=stricter))
    loaded.tick("readiness")
    assert scene.sql("SELECT DISTINCT state FROM core_data_readiness") == [("PRELIMINARY",)]


def test_an_empty_store_says_nothing(daemon: Daemon) -> None:
    """Prevents a first start from failing every tick, or from crying for weeks that were never begun."""
    for name in ("readiness", "expectations", "stale"):
        answer = daemon.tick(name)
        assert skipped(answer)
    assert daemon.scene.one("SELECT count(*) FROM core_anomalies") == (0,)


def test_a_tier_that_nobody_fetched_is_missed(daemon: Daemon) -> None:
    """Prevents a schedule that never started from going unnoticed: no run, no error, no data."""
    scene = daemon.scene
    scene.refresh(*KEYS[:-1], key("2025-11-21", T1), key("2025-11-28", T1))
    daemon.tick("expectations")
    open_now = (
        "SELECT code, tier, severity FROM core_anomalies"
        " WHERE resolved_at IS NULL AND severity <> 'INFO' AND code NOT LIKE 'UNUSUAL%' ORDER BY id"
    )
    assert scene.sql(open_now) == []
    scene.clock.forward(hours=24)
    daemon.tick("expectations")
    assert set(scene.sql(open_now)) == {
        ("NOT_DELIVERED", "OTC", "ERROR"),
        ("MISSED_RUNS", "ALL", "ERROR"),
        ("INCOMPLETE_TIER_SPLIT", "ALL", "WARN"),
    }
    roots = "SELECT code FROM core_anomalies WHERE cause_id IS NULL AND severity <> 'INFO' AND code NOT LIKE 'UNUSUAL%'"
    assert scene.sql(roots) == [("NOT_DELIVERED",)]  # one cause, one alert
    count = scene.one("SELECT count(*) FROM core_anomaly_log")
    daemon.tick("expectations")
    assert scene.one("SELECT count(*) FROM core_anomaly_log") == count  # the same again is no news
    with scene.spine.store.control.read() as connection:
        beat = heartbeats.last(connection, "expectations")
    assert beat is not None
    assert beat["beat_at"] == scene.clock()


def carry_out(scene: Scene, requests: list[Any]) -> list[tuple[str, str]]:
    """What the daemon's run queue does with the requests of one tick; (asset, first .. last) of each."""
    told = []
    for request in requests:
        launch = Launch(tuple(request.asset_selection), request.tags[START], request.tags[END])
        run(scene.spine, scene.feed, [launch], scene.instance, log_level="CRITICAL")
        told += [(one.path[-1], f"{launch.first} .. {launch.last}") for one in launch.assets]
    return told


def test_what_a_restatement_left_behind_is_made_again_stage_by_stage(loaded: Daemon) -> None:
    """Prevents stale measures from waiting for hands, and anything else from being made again."""
    scene = loaded.scene
    before = {one.capture_id for table in ("raw", "venue_volume") for one in scene.captures(table)}
    scene.clock.forward(hours=80)
    assert scene.run("otc.ingest_week", key(WEEK)).is_complete
    assert skipped(loaded.tick("stale"))  # a load that is under way goes on by itself
    scene.clock.forward(seconds=11)
    made: list[list[str]] = []
    for _ in range(8):
        requests = loaded.tick("stale")
        if skipped(requests):
            break
        assert len({one.run_key for one in requests}) == len(requests)
        made.append(sorted({name for name, _ in carry_out(scene, requests)}))
        scene.clock.forward(seconds=11)
    assert made[0] == ["venue_volume"]
    assert scene.stale() == []
    after = {one.capture_id for table in ("raw", "venue_volume") for one in scene.captures(table)}
    assert len(after - before) == 2  # the raw and the venue volume of one partition
    assert skipped(loaded.tick("stale"))


def overwritten(scene: Scene, folder: Path, rows: int) -> Scene:
    """The week once more in the place of what was there, with another number of rows."""
    scene.clock.forward(hours=1)
    filed = scene.file(put(folder, key(WEEK), text(lines(key(WEEK), rows))))
    assert filed.run("otc.ingest_week", key(WEEK), options=replace(FEW, policy=RevisionPolicy.OVERWRITE)).is_complete
    scene.clock.forward(seconds=11)
    return filed


@pytest.mark.extended
def test_the_same_trouble_twice_is_asked_for_twice(daemon: Daemon, tmp_path: Path) -> None:
    """Prevents a second overwriting from being taken for the first one, which was dealt with."""
    scene = overwritten(daemon.scene, tmp_path, 200)
    scene.refresh(key(WEEK), options=replace(FEW, policy=RevisionPolicy.SKIP))
    for rows in (210, 220):
        overwritten(scene, tmp_path, rows)
        for _ in range(8):
            requests = daemon.tick("stale")
            if skipped(requests):
                break
            carry_out(scene, requests)
            scene.clock.forward(seconds=11)
        assert scene.stale() == []
        assert scene.one("SELECT count(*) FROM otc_venue_volume") == (rows,)


def test_what_cannot_be_made_is_asked_for_once(daemon: Daemon, tmp_path: Path) -> None:
    """Prevents runs every half minute, for ever, of a partition that its own checks refuse."""
    scene = overwritten(daemon.scene, tmp_path, 200)
    scene.refresh(key(WEEK), options=replace(FEW, policy=RevisionPolicy.SKIP))
    scene.clock.forward(hours=1)
    impossible = [*lines(key(WEEK), 199), line(key(WEEK), "ZZZZ", "UBSA", 0, 7)]  # trades without shares
    spoilt = scene.file(put(tmp_path, key(WEEK), text(impossible)))
    spoilt.run("otc.ingest_week", key(WEEK))
    asked = 0
    for _ in range(6):
        scene.clock.forward(seconds=11)
        requests = daemon.tick("stale")
        if not skipped(requests):
            asked += 1
            carry_out(scene, requests)
    assert asked == 1
    assert scene.stale() != []
