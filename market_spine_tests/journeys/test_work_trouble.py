"""What befalls work between asking and its end: killed daemons, lost claims, items that cannot be done, late cures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from market_spine.automation import work as automation
from market_spine.domain.keys import WeekKey
from market_spine.governance import work as ledger
from market_spine.governance.work import Ask
from market_spine.sources.finra_api import FinraApiSource
from market_spine.store import alive, work
from market_spine_tests.journeys.clockwork import Clockwork
from market_spine_tests.journeys.stage import OTC, T2, key
from market_spine_tests.journeys.work_desk import DOWN, LATER, MONDAY, NOTHING, PIPELINE, PUBLISHED, Desk, a_desk, rows
from market_spine_tests.sources.finra_server import WEB_PAGE, FinraServer, Reply
from market_spine_tests.store.test_alive import a_process

pytestmark = pytest.mark.slow


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield from a_desk(tmp_path / "home", {place: rows(120) for place in PUBLISHED})


def test_a_claim_that_never_became_a_run_is_given_back(desk: Desk) -> None:
    """Prevents an item from being stuck for ever where the daemon was killed between claiming and launching."""
    desk.calendar("2025-11-14")
    desk.ask(key("2025-11-14"))
    (lost,) = desk.daemon.look("otc_work_sensor")  # the daemon dies here
    assert (desk.item(OTC)["state"], desk.item(OTC)["locked_by"]) == ("RUNNING", lost.run_key)
    desk.clock.forward(minutes=5)
    assert desk.daemon.work() == []
    desk.clock.forward(seconds=1)
    (again,) = desk.daemon.work()
    assert again != lost.run_key
    assert (desk.item(OTC)["state"], desk.item(OTC)["attempt_count"]) == ("COMPLETE", 1)
    assert desk.daemon.carry_out("late", [lost]) == [lost.run_key]  # had it become a run after all
    assert not desk.daemon.runs[-1].success  # it fetches nothing, and says why
    assert len(desk.server.data_requests()) == 1


def test_a_claim_that_is_lost_after_a_look_is_not_settled_by_that_look(desk: Desk) -> None:
    """Prevents a week that was published meanwhile from failing on the answer of before, without being asked for."""
    desk.calendar("2025-11-14")
    desk.ask(key("2025-11-14"), give_up_at=MONDAY + timedelta(hours=24))
    desk.server.always = NOTHING
    (first,) = desk.daemon.work()
    desk.server.always = Reply()
    desk.clock.forward(minutes=30)
    (lost,) = desk.daemon.look("otc_work_sensor")  # the daemon dies here
    desk.clock.forward(minutes=6)
    (last,) = desk.daemon.work()
    assert len({first, lost.run_key, last}) == 3
    assert (desk.item(OTC)["state"], len(desk.server.data_requests())) == ("COMPLETE", 2)


@pytest.mark.extended
def test_a_claim_that_can_never_become_a_run_fails_in_the_end(desk: Desk) -> None:
    """Prevents an item from going round between claims for ever, in silence."""
    desk.calendar("2025-11-14")
    (number,) = desk.ask(key("2025-11-14"))
    for _ in range(10):
        assert len(desk.daemon.look("otc_work_sensor")) == 1
        desk.clock.forward(minutes=6)
    desk.daemon.look("otc_work_sensor")
    item = desk.item(OTC)
    assert (item["state"], item["last_error"]) == ("FAILED", "its claim never became a run")
    ledger.retry(desk.scene.spine.store, desk.run(), [number], "ops")
    desk.daemon.work()
    assert desk.item(OTC)["state"] == "COMPLETE"


def test_an_item_that_cannot_be_done_holds_up_no_other(desk: Desk) -> None:
    """Prevents one item of a pipeline that is gone from stopping all loads at every look."""
    desk.calendar("2025-11-14")
    gone = Ask("finra.otc_transparency", "otc/symbol_summary_v0", key("2025-11-14"), desk.clock(), 100)
    odd = Ask("finra.otc_transparency", PIPELINE, key("2025-11-14", T2), desk.clock(), params={"revision_policy": "x"})
    ledger.enqueue(desk.scene.spine.store, desk.run("bad"), [gone, odd], "ops")
    desk.ask(key("2025-11-14"), priority=25)
    desk.daemon.work()
    assert [(one["state"], one["error_class"]) for one in desk.items()] == [
        ("FAILED", "schema"),
        ("FAILED", "schema"),
        ("COMPLETE", None),
    ]
    assert "symbol_summary_v0" in desk.items()[0]["last_error"]


def test_what_was_asked_for_as_history_becomes_urgent(desk: Desk) -> None:
    """Prevents the week of the day from waiting behind the backfill that had asked for it before."""
    desk.calendar("2025-11-14")
    desk.ask(key("2025-11-14"), priority=25)
    desk.ring()
    assert (desk.item(OTC)["priority"], desk.item(OTC)["generation"]) == (100, 1)
    assert desk.item(OTC)["give_up_at"] == datetime(2025, 12, 16, 15, tzinfo=UTC)


def failed(desk: Desk) -> int:
    with desk.scene.spine.store.control.read() as connection:
        return len(work.failed(connection, "finra.otc_transparency"))


def test_what_failed_is_cured_by_whoever_loads_it(desk: Desk) -> None:
    """Prevents an alert from standing for ever after the week was loaded by hand, or was taken off the ledger."""
    desk.calendar("2025-11-14")
    numbers = desk.ask(key("2025-11-14"), key("2025-11-14", T2))
    desk.server.always = WEB_PAGE
    for _ in range(3):
        desk.daemon.work()
        desk.clock.forward(minutes=6)
    assert failed(desk) == 2
    desk.server.always = Reply()
    desk.scene.run("otc.weekly_refresh", key("2025-11-14"))
    assert failed(desk) == 1
    ledger.cancel(desk.scene.spine.store, desk.run(), [numbers[1]], "ops", "not needed")
    assert failed(desk) == 0


@pytest.mark.extended
def test_a_second_look_that_failed_is_taken_again(desk: Desk) -> None:
    """Prevents an outage on a Wednesday from leaving a week unlooked at, and its failure standing, for a week."""
    desk.ring()
    desk.daemon.work()
    wednesday = desk.clock.forward(days=2, hours=1, minutes=30)
    desk.daemon.ring("otc_recheck_schedule", wednesday)
    desk.server.always = DOWN
    for _ in range(3):
        desk.daemon.work()
        desk.clock.forward(minutes=6)
    assert failed(desk) == 3
    desk.server.always = Reply()
    desk.clock.moment = datetime(2025, 12, 18, 15, 30, tzinfo=UTC)
    desk.ring()
    desk.daemon.work()
    assert failed(desk) == 2  # two weeks of Tier 1, before the first that FINRA has
    assert {one["generation"] for one in desk.items() if one["state"] == "COMPLETE"} >= {1, 3}


@pytest.mark.extended
def test_without_a_daemon_a_spoilt_week_is_judged_too(desk: Desk) -> None:
    """Prevents a week from staying certified on a machine where nobody judges it but the command that spoilt it."""
    scene = desk.scene
    desk.calendar("2025-11-14")
    desk.ask(key("2025-11-14"))
    automation.carry_out(scene.spine, scene.feed, scene.instance, "CRITICAL")
    bad = [one | {"totalWeeklyShareQuantity": 0} for one in rows(150)]
    desk.server.datasets["weeklysummary"] = FinraServer({(LATER, OTC): bad}).datasets["weeklysummary"]
    before = scene.one("SELECT max(judged_at) FROM core_data_readiness")
    published = scene.spine.store.home.published.stat().st_mtime_ns
    desk.clock.forward(minutes=1)
    desk.ask(key("2025-11-14"))
    (row,) = automation.carry_out(scene.spine, scene.feed, scene.instance, "CRITICAL")
    assert row["state"] == "FAILED"
    assert scene.one("SELECT max(judged_at) FROM core_data_readiness") > before
    assert scene.spine.store.home.published.stat().st_mtime_ns > published


def test_a_worker_that_died_is_tried_again_after_one_and_two_minutes(desk: Desk) -> None:
    """Prevents a killed worker from being a failure for good, and Dagster and the ledger from both trying again."""

    class Dying(FinraApiSource):
        def fetch(self, *_: Any) -> Any:
            raise MemoryError("killed")

    desk.calendar("2025-11-14")
    desk.ask(key("2025-11-14"))
    daemon = Clockwork(replace(desk.scene, spine=replace(desk.scene.spine, source=Dying(desk.server.url))))
    waits = []
    for _ in range(3):
        daemon.work()
        item = desk.item(OTC)
        if item["next_attempt_at"]:
            waits.append((item["next_attempt_at"] - desk.clock()).total_seconds())
            desk.clock.moment = item["next_attempt_at"]
    assert (waits, item["state"], item["error_class"]) == ([60, 120], "FAILED", "transient")
    assert item["last_error"] == "MemoryError: killed"
    assert {one.dagster_run.tags["dagster/max_retries"] for one in daemon.runs} == {"0"}


def test_what_nobody_carries_out_any_more_is_put_down_and_tried_again(desk: Desk) -> None:
    """Prevents a run that died with its code server from going on for two hours, and two of them filling the queue."""
    desk.calendar("2025-11-14")
    (number,) = desk.ask(key("2025-11-14"))
    (asked,) = desk.daemon.look("otc_work_sensor")
    job = desk.daemon.defs.resolve_job_def("otc_weekly_refresh")
    made = desk.scene.instance.create_run_for_job(job, tags=dict(asked.tags), status=dg.DagsterRunStatus.STARTED)
    with a_process(desk.scene.spine.store.home, made.run_id) as process:
        desk.daemon.look("otc_work_sensor")
        assert desk.states() == ["RUNNING"]
        process.kill()
        process.wait()
        desk.daemon.look("otc_work_sensor")
    assert desk.scene.instance.get_run_by_id(made.run_id).status is dg.DagsterRunStatus.FAILURE  # type: ignore[union-attr]
    assert (desk.item(OTC)["error_class"], desk.item(OTC)["last_error"]) == ("transient", automation.DIED)
    assert desk.history(number) == ["PENDING", "RUNNING", "RETRY_WAIT"]
    assert alive.dead(desk.scene.spine.store.home) == []


def test_an_old_week_gets_its_tables_of_all_tiers_too(tmp_path: Path) -> None:
    """Prevents an item from being COMPLETE whose tables by week nobody ever makes: its week is watched no longer."""
    weeks = [date(2025, 8, 22) + timedelta(weeks=number) for number in range(13)]
    for desk in a_desk(tmp_path / "home", {(week, OTC): rows(100) for week in weeks}):
        desk.scene.run("otc.ingest_week", *(WeekKey(week, OTC) for week in weeks[1:]))
        desk.calendar(str(weeks[0]))
        desk.ask(WeekKey(weeks[0], OTC), priority=25)
        desk.daemon.work()
        desk.clock.forward(minutes=1)
        (asked,) = [one for one in desk.daemon.look("otc_stale_sensor") if one.job_name == "otc_whole_weeks"]
        assert asked.tags["dagster/asset_partition_range_start"] == "2025-08-22"
        assert "otc/tier_split" in {one.to_user_string() for one in asked.asset_selection or ()}
