"""Findings that had to be expected: a tier whose deadline has not passed, a window that begins before the history.

They are told as INFO and ask for nothing; where nothing excuses the same finding, it stays what it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from functools import cache

from market_spine.checks.findings import CODES, Finding
from market_spine.domain.contracts import Feed, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import WEEK
from market_spine.governance.anomalies import Observation, again
from market_spine.governance.expectations import deadline
from market_spine.governance.policy import Schedule, load_schedules
from market_spine.store import anomalies, presence
from market_spine.store.plan import Target
from market_spine.store.store import Store

INCOMPLETE_TIER_SPLIT = CODES["all_tiers_present"]
PIPELINE = "weekly_refresh"  # whose schedule says when a week of a tier must be there


@cache
def schedule_of(feed: Feed) -> Schedule:
    """What is expected of the weeks of ``feed``."""
    return {one.pipeline: one for one in load_schedules(feed)}[PIPELINE]


def settled(
    store: Store, feed: Feed, found: Sequence[Finding], targets: Sequence[Target], now: datetime
) -> list[Finding]:
    """``found``, with what had to be expected at ``now`` marked so."""
    failed = {one.check for one in found if not one.passed}
    excuses: dict[str, Callable[[WeekKey], bool]] = {}
    by_key = {target.key: target for target in targets}
    if "all_tiers_present" in failed:
        excuses["all_tiers_present"] = lambda key: _are_not_due(feed, by_key[key], now)
    if "full_history_window" in failed:
        begun = _begun(store, feed)
        excuses["full_history_window"] = lambda key: _has_all_there_is(by_key[key], begun)
    return [
        replace(one, severity=Severity.INFO, is_expected=True)
        if not one.passed and one.check in excuses and excuses[one.check](one.key)
        else one
        for one in found
    ]


def _are_not_due(feed: Feed, target: Target, now: datetime) -> bool:
    """Whether every tier that the week lacks may still come in time."""
    there = {one.tier for one in target.inputs}
    return all(tier in there for tier in _late(feed, target.key.week_ending, now))


def _late(feed: Feed, week: date, now: datetime) -> list[Tier]:
    """The tiers whose deadline for ``week`` has passed."""
    return [tier for tier in feed.tiers if now > deadline(schedule_of(feed), week, tier)]


def _begun(store: Store, feed: Feed) -> Mapping[str, date]:
    """Tier -> the first week of it that was ever captured."""
    with store.control.read() as connection:
        first = presence.first(connection, feed.sql_name("raw"))
    found: dict[str, date] = {}
    for key in first:
        found[key.tier_text] = min(key.week_ending, found.get(key.tier_text, key.week_ending))
    return found


def _has_all_there_is(target: Target, begun: Mapping[str, date]) -> bool:
    """Whether only weeks before the first captured one are lacking, and none in between."""
    weeks = {one.week_ending for one in target.inputs}
    first, last = begun[target.key.tier_text], target.key.week_ending
    return first == min(weeks) and len(weeks) == (last - first) // WEEK + 1


def no_longer_expected(store: Store, feed: Feed, now: datetime) -> list[Observation]:
    """Weeks whose split lacked tiers that could still come in time, and now cannot: a WARN from here on."""
    with store.control.read() as connection:
        rows = anomalies.open_rows(connection, feed.domain)
        raw = feed.sql_name("raw")
        there = presence.current(connection, [raw])[raw]
    found = []
    for row in rows:
        week = row["week_ending"]
        if (row["code"], row["severity"]) != (INCOMPLETE_TIER_SPLIT, Severity.INFO):
            continue
        late = _late(feed, week, now)
        # A tier that is there and blocked is not in the split either; after the last deadline nothing excuses it.
        if late == list(feed.tiers) or any(WeekKey(week, tier) not in there for tier in late):
            found.append(again(row, Severity.WARN))
    return found
