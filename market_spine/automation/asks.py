"""What the schedules ask the work ledger for: what is published today, what was missed, what may have been restated.

What belongs here: which partitions, by the clock and by what is there. What does not: when somebody asks (`schedules`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime

from market_spine.assets.expected import PIPELINE, schedule_of
from market_spine.assets.tables import tables_of
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import WeekError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import week_published_on
from market_spine.domain.work import CATCH_UP, CURRENT, RECHECK
from market_spine.governance.expectations import deadline, facts_of, watched
from market_spine.governance.policy import Schedule
from market_spine.governance.work import Ask
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
