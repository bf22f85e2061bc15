"""The work ledger, driven by the real schedules, sensors and runs over a loopback FINRA and a clock that is moved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from market_spine.automation import work as automation
from market_spine.cli.app import app
from market_spine.domain.errors import WorkError
from market_spine.domain.keys import WeekKey
from market_spine.governance import work as ledger
from market_spine.store import work
from market_spine_tests.journeys.stage import OTC, T2, key
from market_spine_tests.journeys.work_desk import (
    DOWN,
    FIRST,
    LATER,
    MONDAY,
    NOTHING,
    PIPELINE,
    PUBLISHED,
    Desk,
    a_desk,
    rows,
)
from market_spine_tests.sources.finra_server import WEB_PAGE, FinraServer, Reply

pytestmark = pytest.mark.slow


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    yield from a_desk(tmp_path / "home", {place: rows(120) for place in PUBLISHED})


def test_cron_idempotency_same_capture_id(desk: Desk) -> None:
    """Prevents a schedule that is ticked twice, also a day later or after the work is done, from loading twice."""
    desk.ring()
    desk.ring()
    assert [(one["week_ending"], one["tier"], one["generation"], one["priority"]) for one in desk.items()] == [
        (FIRST, "NMS_TIER_1", 1, 100),
        (LATER, "NMS_TIER_2", 1, 100),
        (LATER, "OTC", 1, 100),
    ]
    assert [one.split(":")[0] for one in desk.daemon.work()] == ["calendar"] * 2 + [PIPELINE] * 2
    assert desk.states() == ["COMPLETE"] * 3
    assert {(one["attempt_count"], one["locked_by"]) for one in desk.items()} == {(1, None)}
    captured = {one.capture_id for one in desk.scene.captures("raw")}
    asked = len(desk.server.data_requests())
    desk.ring()  # asks for the two weeks of Tier 1 that the store begins with and has not, and for nothing else
    assert [(str(one["week_ending"]), one["tier"], one["priority"]) for one in desk.items()[3:]] == [
        ("2025-11-14", "NMS_TIER_1", 75),
        ("2025-11-21", "NMS_TIER_1", 75),
    ]
    desk.daemon.work()
    desk.clock.forward(days=1)
    desk.ring()
    assert [one["generation"] for one in desk.items()] == [1, 1, 1, 1, 1, 2, 2]  # FINRA has not got those two
    assert len(desk.server.data_requests()) == asked + 2
    assert {one.capture_id for one in desk.scene.captures("raw")} == captured


def test_retry_on_failure_then_success(tmp_path: Path) -> None:
    """Prevents an outage of FINRA's at the hour of publication from needing hands: in five minutes all is there."""
    for desk in a_desk(tmp_path / "home", {(LATER, OTC): rows(48_765)}):
        desk.calendar("2025-11-14")
        (number,) = desk.ask(key("2025-11-14"))
        desk.server.always = DOWN
        desk.daemon.work()
        item = desk.item(OTC)
        assert (item["state"], item["attempt_count"], item["error_class"]) == ("RETRY_WAIT", 1, "unavailable")
        assert item["next_attempt_at"] == MONDAY + timedelta(minutes=5)
        assert "HTTP 503" in item["last_error"]
        desk.server.always = Reply()
        desk.clock.forward(seconds=299)
        assert desk.daemon.work() == []
        desk.clock.forward(seconds=1)
        assert len(desk.daemon.work()) == 1
        item = desk.item(OTC)
        assert (item["state"], item["attempt_count"], item["completed_at"]) == ("COMPLETE", 2, desk.clock())
        assert item["latest_execution_id"] == desk.daemon.runs[-1].run_id
        assert desk.scene.counts("otc_raw", "otc_venue_volume") == (48_765, 48_765)
        expected = ["PENDING", "RUNNING", "RETRY_WAIT", "PENDING", "RUNNING", "COMPLETE"]
        assert desk.history(number) == expected


def test_max_attempts_exhausted(desk: Desk) -> None:
    """Prevents a source that never answers from being asked for ever, and its failure from being told by nobody."""
    desk.calendar("2025-11-14")
    (number,) = desk.ask(key("2025-11-14"))
    desk.server.always = DOWN
    waits = []
    for _ in range(3):
        assert len(desk.daemon.work()) == 1
        item = desk.item(OTC)
        if item["next_attempt_at"]:
            waits.append((item["next_attempt_at"] - desk.clock()).total_seconds())
            desk.clock.moment = item["next_attempt_at"]
    assert waits == [300, 300]
    assert (item["state"], item["attempt_count"], item["next_attempt_at"]) == ("FAILED", 3, None)
    desk.clock.forward(days=7)
    assert desk.daemon.work() == []
    with desk.scene.spine.store.control.read() as connection:
        assert [one["id"] for one in work.failed(connection, "finra.otc_transparency")] == [number]


def test_failed_work_retry_command(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents failed work from being repaired by SQL: one command, fresh attempts, and it completes."""
    from typer.testing import CliRunner

    desk.calendar("2025-11-14")
    (number,) = desk.ask(key("2025-11-14"))
    desk.server.always = WEB_PAGE
    for _ in range(3):
        desk.daemon.work()
        desk.clock.forward(minutes=5)
    assert desk.states() == ["FAILED"]
    monkeypatch.setenv("MARKET_SPINE_HOME", str(desk.scene.spine.store.home.root))
    listed = CliRunner().invoke(app, ["work", "list"], env={"COLUMNS": "120"})
    assert "FAILED" in listed.stdout
    found = json.loads(CliRunner().invoke(app, ["doctor", "otc", "--format", "json"]).stdout)
    (problem,) = [one for one in found["problems"] if one["kind"] == "WORK"]
    assert problem["remedy"] == f"spine work retry {number}"
    assert [one["id"] for one in found["failed_work"]] == [number]
    done = CliRunner().invoke(app, ["work", "retry", str(number)])
    assert (done.exit_code, done.stdout) == (0, f"item {number}: 2025-11-14 OTC is PENDING\n")
    item = desk.item(OTC)
    assert (item["state"], item["attempt_count"], item["next_attempt_at"]) == ("PENDING", 0, None)
    assert "wrong_content" in item["last_error"]  # kept until something else is known
    desk.server.always = Reply()
    desk.clock.moment = datetime.now(UTC) + timedelta(seconds=1)  # the command has its own clock
    desk.daemon.work()
    assert desk.item(OTC)["state"] == "COMPLETE"


def test_due_work_that_nobody_claims_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents "healthy: nothing to do" while a load waits for a daemon that does not run, or looks elsewhere."""
    from typer.testing import CliRunner

    desk.calendar("2025-11-14")
    desk.ask(key("2025-11-14"))
    monkeypatch.setenv("MARKET_SPINE_HOME", str(desk.scene.spine.store.home.root))

    def waiting() -> list[tuple[str, str]]:
        found = json.loads(CliRunner().invoke(app, ["doctor", "otc", "--format", "json"]).stdout)
        return [(one["message"], one["remedy"]) for one in found["problems"] if one["kind"] == "WAITING"]

    told = "work that nobody claims: 1, the first due since 2025-12-15 15:30 UTC"
    assert waiting() == [(told, "spine work run")]
    assert "1 due, and nobody claims them" in CliRunner().invoke(app, ["doctor", "otc"]).stdout
    desk.daemon.work()
    assert waiting() == []


def test_what_is_not_published_yet_is_looked_for_until_its_deadline(desk: Desk) -> None:
    """Prevents a late publication from using up attempts, and one that never comes from being waited for in silence."""
    desk.calendar("2025-11-14")
    deadline = MONDAY + timedelta(hours=2)
    desk.ask(key("2025-11-14"), give_up_at=deadline)
    desk.server.always = NOTHING
    looked: list[str] = []
    while not looked or looked[-1] != "FAILED":
        desk.daemon.work()
        item = desk.item(OTC)
        looked.append(item["state"])
        assert item["attempt_count"] == (1 if item["state"] == "FAILED" else 0)
        desk.clock.forward(minutes=30)
    assert looked == ["RETRY_WAIT"] * 4 + ["FAILED"]
    assert (item["error_class"], item["updated_at"]) == ("not_yet", deadline)


def test_what_cannot_be_used_is_never_tried_again(desk: Desk) -> None:
    """Prevents the same unusable bytes from being fetched three times, and a healthy partition from failing too."""
    desk.calendar("2025-11-14")
    bad = [one | {"totalWeeklyShareQuantity": 0} for one in rows(150)]  # trades without shares: CRITICAL
    desk.server.datasets["weeklysummary"] = [
        *FinraServer({(LATER, OTC): bad}).datasets["weeklysummary"],
        *FinraServer({(LATER, T2): rows(120)}).datasets["weeklysummary"],
    ]
    desk.ask(key("2025-11-14", T2), key("2025-11-14", OTC))
    desk.daemon.work()
    assert len(desk.daemon.runs) == 1  # both in one run
    assert (desk.item(T2)["state"], desk.item(OTC)["state"]) == ("COMPLETE", "FAILED")
    assert (desk.item(OTC)["error_class"], desk.item(OTC)["attempt_count"]) == ("schema", 1)
    assert "venue_volume" in desk.item(OTC)["last_error"]


def test_one_partition_that_fails_again_takes_no_other_with_it(desk: Desk) -> None:
    """Prevents one week that FINRA cannot give from failing the eleven others that were asked for with it."""
    desk.calendar("2025-11-14")
    desk.ask(key("2025-11-14", T2), key("2025-11-14", OTC))
    desk.server.answer_next(DOWN)
    desk.daemon.work()
    assert desk.states() == ["RETRY_WAIT", "RETRY_WAIT"]
    desk.clock.forward(minutes=5)
    desk.server.answer_next(DOWN)  # for whichever comes first
    assert len(desk.daemon.work()) == 2
    assert sorted(desk.states()) == ["COMPLETE", "RETRY_WAIT"]


def test_the_current_week_comes_before_a_backfill(desk: Desk) -> None:
    """Prevents three years of history from standing before the week that a desk waits for."""
    weeks = [date(2025, 10, 31) - timedelta(days=7 * back) for back in range(8)]
    for week in (*weeks, LATER):
        desk.calendar(str(week))
    desk.ask(*(WeekKey(week, OTC) for week in weeks[::2]), priority=25)
    desk.ask(key("2025-11-14"))
    asked = desk.daemon.look("otc_work_sensor")
    assert len(asked) == automation.CLAIMS
    assert [one.tags["dagster/priority"] for one in asked] == ["0", "-75", "-75", "-75"]
    assert asked[0].tags["dagster/asset_partition_range_start"] == "OTC|2025-11-14"
    assert desk.daemon.look("otc_work_sensor") == []  # the last week waits until there is room


def test_an_item_is_cancelled_with_its_run(desk: Desk) -> None:
    """Prevents cancelled work from going on, and an item from running on whose run was cancelled in the interface."""
    desk.calendar("2025-11-14")
    (number,) = desk.ask(key("2025-11-14"))
    (asked,) = desk.daemon.look("otc_work_sensor")
    job = desk.daemon.defs.resolve_job_def("otc_weekly_refresh")
    made = desk.scene.instance.create_run_for_job(job, tags=dict(asked.tags), status=dg.DagsterRunStatus.STARTED)
    assert desk.daemon.look("otc_work_sensor") == []
    assert desk.item(OTC)["current_execution_id"] == made.run_id
    desk.scene.instance.report_run_canceled(desk.scene.instance.get_run_by_id(made.run_id))  # type: ignore[arg-type]
    desk.daemon.look("otc_work_sensor")
    assert (desk.item(OTC)["state"], desk.history(number)[-1]) == ("CANCELLED", "CANCELLED")
    desk.clock.forward(minutes=1)
    (again,) = desk.ask(key("2025-11-14"))
    (asked,) = desk.daemon.look("otc_work_sensor")
    automation.cancel(desk.scene.spine, desk.scene.instance, desk.run(), [again], "ops")
    assert desk.daemon.work() == []
    desk.daemon.carry_out("otc_work_sensor", [asked])  # was handed over before it was cancelled
    assert desk.server.data_requests() == []
    with pytest.raises(WorkError, match="is CANCELLED, and cannot become PENDING"):
        ledger.retry(desk.scene.spine.store, desk.run(), [again], "ops")


def test_an_outage_is_caught_up_with_and_no_further_than_is_watched(tmp_path: Path) -> None:
    """Prevents five weeks without a daemon from leaving gaps, and a new store from loading three years by itself."""
    weeks = [date(2025, 10, 3) + timedelta(days=7 * number) for number in range(12)]
    for desk in a_desk(tmp_path / "home", {(week, OTC): rows(100) for week in weeks}):
        desk.scene.clock.moment = datetime(2025, 11, 10, 15, 30, tzinfo=UTC)  # OTC of 10-10 is published
        desk.ring()
        asked = [(one["week_ending"], one["tier"], one["priority"]) for one in desk.items()]
        first, later = date(2025, 10, 24), date(2025, 10, 10)
        assert asked == [(first, "NMS_TIER_1", 100), (later, "NMS_TIER_2", 100), (later, "OTC", 100)]
        desk.daemon.work()
        assert desk.item(OTC)["state"] == "COMPLETE"
        desk.scene.clock.moment = datetime(2025, 12, 15, 15, 30, tzinfo=UTC)  # five weeks later
        desk.ring()
        otc = [(str(one["week_ending"]), one["priority"]) for one in desk.items() if one["tier"] == "OTC"]
        late = [(f"2025-{day}", 75) for day in ("10-17", "10-24", "10-31", "11-07")]
        assert otc == [("2025-10-10", 100), ("2025-11-14", 100), *late]
        desk.daemon.work()
        done = {one["week_ending"] for one in desk.items() if one["tier"] == "OTC" and one["state"] == "COMPLETE"}
        assert done == {
            date.fromisoformat(f"2025-{day}") for day in ("10-10", "10-17", "10-24", "10-31", "11-07", "11-14")
        }


def test_a_restatement_that_nobody_announced_is_found_by_its_content(desk: Desk) -> None:
    """Prevents the old numbers from standing for ever: FINRA says nothing when it changes a published week."""
    desk.ring()
    desk.daemon.work()
    before = desk.scene.captures("raw")
    changed = [*rows(119), rows(120)[-1] | {"totalWeeklyShareQuantity": 7, "lastUpdateDate": "2025-12-16"}]
    others = {place: rows(120) for place in PUBLISHED - {(LATER, OTC)}}
    desk.server.datasets["weeklysummary"] = FinraServer({(LATER, OTC): changed} | others).datasets["weeklysummary"]
    wednesday = desk.clock.forward(days=2, hours=1, minutes=30)
    desk.daemon.ring("otc_recheck_schedule", wednesday)
    desk.daemon.ring("otc_recheck_schedule", wednesday)
    assert [(one["generation"], one["priority"]) for one in desk.items()[3:]] == [(2, 10)] * 3
    desk.daemon.work()
    assert desk.states() == ["COMPLETE"] * 6
    after = desk.scene.captures("raw")
    assert [(str(one.key), one.revision) for one in after if one not in before] == [
        ("OTC:2025-11-14", 1),  # no longer the current one
        ("OTC:2025-11-14", 2),
    ]
    assert desk.scene.counts("otc_raw", where="total_shares = 7") == (1,)
