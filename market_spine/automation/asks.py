"""What the work ledger is asked for: by the clock (published today, missed, perhaps restated), and by a person.

What belongs here: which partitions, by the clock and by what is there. What does not: when somebody asks (`schedules`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from market_spine.assets.expected import PIPELINE, schedule_of
from market_spine.assets.tables import steps_of, tables_of
from market_spine.automation.pipelines import Pipeline
from market_spine.automation.request import Params, keys_of
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import PartitionError, WeekError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import week_published_on
from market_spine.domain.work import BACKFILL, CATCH_UP, CURRENT, RECHECK
from market_spine.governance.expectations import deadline, due_at, facts_of, watched
from market_spine.governance.policy import Schedule
from market_spine.governance.work import Ask
from market_spine.sources.delivery import Inventory
from market_spine.store import work
from market_spine.store.store import Store
from market_spine.store.work import Row


def published_on(row: Schedule, day: date) -> Sequence[WeekKey]:
    """The partitions of ``row`` that are first published on ``day``: another week for each tier, or none."""
    found = []
    for tier in row.tiers:
        try:
            found.append(WeekKey(week_published_on(day, tier or row.first_tier), tier))
        except WeekError:  # no week of this tier is published on that day
            continue
    return found


def due(store: Store, feed: Feed, day: date, now: datetime) -> list[Ask]:
    """What is published on ``day``; and less urgently the watched weeks that are not there, or whose load failed.

    Bounded by the weeks that are watched, and by the first one that was ever captured or asked for in vain: an empty
    store begins today.
    """
    row = schedule_of(feed)
    today = published_on(row, day)
    there, expected = _watched(store, feed, row, now)
    with store.control.read() as connection:
        failed = {_key(one) for one in work.failed(connection, feed.domain)}
    missed = sorted((expected - there | expected & failed) - {*today})
    return [*_asks(feed, row, today, now, CURRENT), *_asks(feed, row, missed, now, CATCH_UP)]


def recheck(store: Store, feed: Feed, schedule: Schedule, now: datetime) -> list[Ask]:
    """The weeks that ``schedule`` watches and that are there: fetched again, and captured where the content differs."""
    row = replace(schedule_of(feed), watch_weeks=schedule.watch_weeks)
    there, expected = _watched(store, feed, row, now)
    return _asks(feed, row, sorted(expected & there), now, RECHECK)


def _watched(store: Store, feed: Feed, row: Schedule, now: datetime) -> tuple[set[WeekKey], set[WeekKey]]:
    """The partitions that have arrived, and those that are due and watched."""
    with store.control.read() as connection:
        facts = facts_of(connection, row, tables_of(feed), feed.first_week)
    return set(facts.arrived), watched(facts, row, now)


def _key(row: Row) -> WeekKey:
    return WeekKey.from_string(f"{row['tier']}:{row['week_ending']}")


def _asks(feed: Feed, row: Schedule, keys: Iterable[WeekKey], now: datetime, priority: int) -> list[Ask]:
    pipeline = f"{feed.domain}.{PIPELINE}"
    return [Ask(feed.domain, pipeline, key, now, priority, deadline(row, key.week_ending, key.tier)) for key in keys]


def asked_for(
    feed: Feed, pipeline: Pipeline, params: Params, now: datetime, priority: int | None
) -> tuple[list[Ask], str]:
    """What a person asks for, by a pipeline and its parameters; and where a count of weeks was counted from.

    A week that is not due yet is desired when it is. PartitionError for what is not done week by week and tier by tier.
    """
    _check_pipeline(feed, pipeline)
    keys, origin = keys_of(feed, params, now, lambda: Inventory(()), is_file=False)
    said: dict[str, Any] = {"min_records": params.min_records, "force": params.force or None}
    said["revision_policy"] = params.policy.value if params.policy else None
    chosen = {name: value for name, value in said.items() if value is not None}
    urgency = (CURRENT if params.week_ending else BACKFILL) if priority is None else priority
    row, found = schedule_of(feed), []
    for key in keys:
        last = deadline(row, key.week_ending, key.tier)
        desired = max(now, due_at(row, key.week_ending, key.tier))
        found.append(Ask(feed.domain, pipeline.name, key, desired, urgency, last if last > now else None, chosen))
    return found, origin


def _check_pipeline(feed: Feed, pipeline: Pipeline) -> None:
    steps = steps_of(feed)
    by_tier = any(table == "raw" or steps[table].table.by_tier for table in pipeline.tables)
    if pipeline.rolls_latest_only or not by_tier:
        cause = f"{pipeline.name} is not done week by week and tier by tier, as work items are"
        remedy = f"ask for {feed.name}.weekly_refresh, or start it now: spine run {pipeline.name}"
        raise PartitionError(cause, remedy)
