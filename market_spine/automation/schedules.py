"""Schedules: the week that is due, for each tier its own, on the day on which FINRA publishes it.

Each carries out one row of core_expected_schedules and is named after it; a test holds them to each other. What a tick
finds to be loaded it puts on the work ledger, whose sensor asks for the runs: one way to a run, whoever asked. A tick
says which partitions are published on its day, a Monday or the business day after a holiday, so it looks every weekday.
"""

from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from market_spine.assets.expected import PIPELINE
from market_spine.assets.partitions import partition_key
from market_spine.assets.spine import CORRELATION_TAG, Spine
from market_spine.automation import asks
from market_spine.automation.health import health_job
from market_spine.automation.jobs import calendar_job, jobs_of
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey
from market_spine.domain.trust import ScheduleType
from market_spine.governance.policy import Schedule, load_schedules
from market_spine.governance.work import Enqueued, enqueue
from market_spine.store.ledger import Run

AFTER = timedelta(minutes=30)  # the documents look at 10:30 for what is published by 10:00
RECHECK = "recheck"


def schedules_of(feed: Feed) -> list[dg.ScheduleDefinition]:
    """One schedule for each active row of the feed's schedules.yaml, on by default."""
    return [_schedule(feed, one) for one in load_schedules(feed) if one.is_active]


def name_of(feed: Feed, schedule: Schedule) -> str:
    """The Dagster schedule that carries out a row."""
    return f"{feed.name}_{schedule.pipeline}_schedule"


def _job(feed: Feed, schedule: Schedule) -> Any:
    """The job of the pipeline's name, the feed's own or one that feeds share; a second look is a weekly refresh."""
    jobs = {job.name: job for job in (*jobs_of(feed), calendar_job(), health_job(feed))}
    own = f"{feed.name}_{PIPELINE if schedule.pipeline == RECHECK else schedule.pipeline}"
    return jobs[own if own in jobs else schedule.pipeline]


def cron_of(row: Schedule) -> str:
    """Weeks by tier half an hour after the expected time, so that their calendar is there by then."""
    is_by_tier = bool(row.tiers) and None not in row.tiers
    at = datetime.combine(date.min, row.expected_time) + (AFTER if is_by_tier else timedelta())
    days = "*"
    if row.schedule_type is ScheduleType.WEEKLY:
        # Cron counts from Sunday, the policy from Monday.
        days = "1-5" if row.tiers or row.expected_day_of_week is None else str((row.expected_day_of_week + 1) % 7)
    return f"{at.minute} {at.hour} * * {days}"


def _schedule(feed: Feed, row: Schedule) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name_of(feed, row),
        job=_job(feed, row),
        cron_schedule=cron_of(row),
        execution_timezone=row.timezone.key,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=" ".join(row.description.split()),
    )
    def tick(context: dg.ScheduleEvaluationContext, spine: dg.ResourceParam[Spine]) -> Any:
        day = context.scheduled_execution_time.astimezone(row.timezone).date()
        if row.tiers and None in row.tiers:
            keys = asks.published_on(row, day)
            return [_request(row, key, day) for key in keys] or dg.SkipReason(f"nothing is published on {day}")
        if row.tiers or row.pipeline == RECHECK:
            return _ask(spine, feed, row, day)
        return dg.RunRequest(run_key=f"{row.pipeline}:{day}")

    return tick


def _ask(spine: Spine, feed: Feed, row: Schedule, day: date) -> dg.SkipReason:
    """Put what ``row`` finds on the ledger, as one business process of that day: a second tick adds nothing."""
    now = spine.clock()
    spine.store.ensure()
    wanted = asks.due(spine.store, feed, day, now) if row.tiers else asks.recheck(spine.store, feed, row, now)
    name = name_of(feed, row)
    run = Run(f"schedule:{name}", f"{row.pipeline}:{day}", now)
    return dg.SkipReason(_told(enqueue(spine.store, run, wanted, name), day))


def _told(found: Enqueued, day: date) -> str:
    if not found.added and not found.held:
        return f"nothing is published on {day}, and nothing is missing"
    held = f"; {len(found.held)} were asked for before" if found.held else ""
    keys = ", ".join(f"{row['week_ending']} {row['tier']}" for row in found.added[:6])
    more = f" and {len(found.added) - 6} more" if len(found.added) > 6 else ""
    return f"{len(found.added)} asked for, which the work sensor runs: {keys}{more}{held}"


def _request(row: Schedule, key: WeekKey, day: date) -> dg.RunRequest:
    """One run a partition; what is published on a day is one business process."""
    tags = {CORRELATION_TAG: f"{row.pipeline}:{day}"}
    return dg.RunRequest(run_key=f"{row.pipeline}:{key}", partition_key=partition_key(key), tags=tags)
