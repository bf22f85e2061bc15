"""Schedules: the week that is due, for each tier its own, on the day on which FINRA publishes it.

Each carries out one row of core_expected_schedules and is named after it; a test holds them to each other. A tick says
which partitions are published on its day, a Monday or the business day after a holiday, so it looks every weekday.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from market_spine.assets.partitions import partition_key
from market_spine.assets.spine import CORRELATION_TAG
from market_spine.automation.health import health_job
from market_spine.automation.jobs import calendar_job, jobs_of
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import WeekError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import week_published_on
from market_spine.domain.trust import ScheduleType
from market_spine.governance.policy import Schedule, load_schedules

AFTER = timedelta(minutes=30)  # the documents look at 10:30 for what is published by 10:00


def schedules_of(feed: Feed) -> list[dg.ScheduleDefinition]:
    """One schedule for each active row of the feed's schedules.yaml, on by default."""
    return [_schedule(feed, one) for one in load_schedules(feed) if one.is_active]


def name_of(feed: Feed, schedule: Schedule) -> str:
    """The Dagster schedule that carries out a row."""
    return f"{feed.name}_{schedule.pipeline}_schedule"


def _job(feed: Feed, schedule: Schedule) -> Any:
    """The job of the pipeline's name: the feed's own, or one that feeds share."""
    jobs = {job.name: job for job in (*jobs_of(feed), calendar_job(), health_job(feed))}
    own = f"{feed.name}_{schedule.pipeline}"
    return jobs[own if own in jobs else schedule.pipeline]


def _schedule(feed: Feed, row: Schedule) -> dg.ScheduleDefinition:
    """The calendar at the expected time, so that it is there for the weeks half an hour later."""
    is_by_tier = bool(row.tiers) and None not in row.tiers
    at = (datetime.combine(date.min, row.expected_time) + (AFTER if is_by_tier else timedelta())).time()
    days = "1-5" if row.schedule_type is ScheduleType.WEEKLY else "*"

    @dg.schedule(
        name=name_of(feed, row),
        job=_job(feed, row),
        cron_schedule=f"{at.minute} {at.hour} * * {days}",
        execution_timezone=row.timezone.key,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=" ".join(row.description.split()),
    )
    def tick(context: dg.ScheduleEvaluationContext) -> Any:
        day = context.scheduled_execution_time.astimezone(row.timezone).date()
        if not row.tiers:
            return dg.RunRequest(run_key=f"{row.pipeline}:{day}")
        keys = published_on(row, day)
        return [_request(row, key, day) for key in keys] or dg.SkipReason(f"nothing is published on {day}")

    return tick


def published_on(row: Schedule, day: date) -> Sequence[WeekKey]:
    """The partitions of ``row`` that are first published on ``day``: another week for each tier, or none."""
    found = []
    for tier in row.tiers:
        try:
            found.append(WeekKey(week_published_on(day, tier or row.first_tier), tier))
        except WeekError:  # no week of this tier is published on that day
            continue
    return found


def _request(row: Schedule, key: WeekKey, day: date) -> dg.RunRequest:
    """One run a partition; the tiers of a day are one business process."""
    tags = {CORRELATION_TAG: f"{row.pipeline}:{day}"}
    return dg.RunRequest(run_key=f"{row.pipeline}:{key}", partition_key=partition_key(key), tags=tags)
