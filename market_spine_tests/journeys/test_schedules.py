"""Schedules, ticked as the daemon ticks them, against the rows that expect them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest

from market_spine.automation.declare import declare
from market_spine.automation.health import health_job
from market_spine.automation.schedules import name_of, schedules_of
from market_spine.feeds import load_feeds
from market_spine.feeds.otc import FEED
from market_spine.governance.policy import load_schedules
from market_spine.store import schedules, work
from market_spine_tests.journeys.stage import Scene, key, staged

NEW_YORK = ZoneInfo("America/New_York")
SCHEDULES = {schedule.name: schedule for schedule in schedules_of(FEED)}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with staged(tmp_path / "home") as made:
        made.spine.store.ensure()
        yield made


def tick(scene: Scene, name: str, moment: str) -> list[dg.RunRequest]:
    """The runs that the schedule asks for at a moment in New York; what it puts on the work ledger is there."""
    at = datetime.fromisoformat(moment).replace(tzinfo=NEW_YORK)
    scene.clock.moment = at.astimezone(UTC)
    context = dg.build_schedule_context(scheduled_execution_time=at, resources={"spine": scene.spine})
    answer: Any = SCHEDULES[f"otc_{name}_schedule"](context)
    found = answer if isinstance(answer, list) else [answer]
    return [one for one in found if isinstance(one, dg.RunRequest)]


def on_the_ledger(scene: Scene) -> list[tuple[str, str]]:
    """(tier, week) of every item, in the order in which they were asked for."""
    with scene.spine.store.control.read() as connection:
        rows = sorted(work.items(connection), key=lambda row: row["id"])
    assert len({row["correlation_id"] for row in rows}) <= 1
    return [(row["tier"], str(row["week_ending"])) for row in rows]


# New York day, what FINRA first publishes on it (worked out with a calendar: Friday + 17 days, Friday + 31 days).
DAYS = [
    ("2025-12-15", ["NMS_TIER_1|2025-11-28", "NMS_TIER_2|2025-11-14", "OTC|2025-11-14"]),
    ("2025-12-16", []),
    ("2025-12-19", []),
    ("2024-01-15", []),  # MLK Day
    ("2024-01-16", ["NMS_TIER_1|2023-12-29", "NMS_TIER_2|2023-12-15", "OTC|2023-12-15"]),
    ("2023-05-30", ["NMS_TIER_1|2023-05-12", "NMS_TIER_2|2023-04-28", "OTC|2023-04-28"]),  # after Memorial Day
    ("2025-11-03", ["NMS_TIER_1|2025-10-17", "NMS_TIER_2|2025-10-03", "OTC|2025-10-03"]),  # the clocks went back
    ("2025-03-10", ["NMS_TIER_1|2025-02-21", "NMS_TIER_2|2025-02-07", "OTC|2025-02-07"]),  # and forward
]


@pytest.mark.parametrize(("day", "expected"), DAYS)
def test_each_tier_gets_the_week_that_is_published_that_day(scene: Scene, day: str, expected: list[str]) -> None:
    """Prevents the newest week from being asked for, which is published weeks later, and a holiday from losing one."""
    for _ in range(2):  # asked twice, done once
        assert tick(scene, "weekly_refresh", f"{day} 10:30") == []
        assert [f"{tier}|{week}" for tier, week in on_the_ledger(scene)] == expected
    calendar = [str(one.partition_key) for one in tick(scene, "trading_calendar", f"{day} 10:00")]
    assert calendar == [one.partition("|")[2] for one in expected[:1]]


def test_every_schedule_is_expected_and_every_expectation_scheduled(scene: Scene) -> None:
    """Prevents a job that nobody would miss, and an expectation that nothing carries out."""
    from market_spine.definitions import build_defs

    declare(scene.spine.store, FEED)
    with scene.spine.store.control.read() as connection:
        rows = [row["pipeline"] for row in schedules.read(connection) if row["is_active"]]
    made = sorted(schedule.name for schedule in build_defs(scene.spine).schedules or ())
    expected = [name_of(feed, one) for feed in load_feeds() for one in load_schedules(feed) if one.is_active]
    assert made == sorted(expected)
    assert sorted(rows) == sorted(one.pipeline for feed in load_feeds() for one in load_schedules(feed))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_looks_when_its_row_says(name: str) -> None:
    """Prevents a cron line that goes another way than the expectation it is named after."""
    row = next(one for one in load_schedules(FEED) if name_of(FEED, one) == name)
    minute, hour, *_, days = str(SCHEDULES[name].cron_schedule).split()
    late = (int(hour) * 60 + int(minute)) - (row.expected_time.hour * 60 + row.expected_time.minute)
    assert 0 <= late <= 30
    assert SCHEDULES[name].execution_timezone == row.timezone.key
    assert days == {"recheck": "3", "daily_health": "*"}.get(row.pipeline, "1-5")  # cron counts from Sunday


def wrong(scene: Scene) -> list[Any]:
    return scene.sql(
        "FROM core_anomalies WHERE resolved_at IS NULL AND cause_id IS NULL AND severity <> 'INFO' AND domain = ?",
        FEED.domain,
    )


def test_the_daily_look_tells_what_is_wrong(scene: Scene) -> None:
    """Prevents a morning on which nothing ran from being a morning on which nothing is told."""
    scene.refresh(key("2025-12-05"))
    result = health_job(FEED).execute_in_process(instance=scene.instance, resources={"spine": scene.spine})
    assert result.success
    told = [one.user_message for one in scene.instance.all_logs(result.run_id) if "NOT_DELIVERED" in one.user_message]
    assert any("NMS_TIER_1 NOT_DELIVERED" in text for text in told)
    metadata = next(one for one in result.all_events if one.event_type_value == "STEP_OUTPUT").step_output_data.metadata
    assert metadata["open"] == dg.MetadataValue.int(len(wrong(scene)))
    assert len(told) <= len(wrong(scene))
