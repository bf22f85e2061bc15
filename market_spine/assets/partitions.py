"""Partitions: weeks by their Friday, and weeks crossed with tiers.

Dagster names a window by its start, so the weekly cron is Friday and ``end_offset=1`` makes a week selectable on its
own Friday. Dagster's window of a key (Friday to Friday) is not the trading week: never use ``partition_time_window``.
Multi-partition keys are written with their dimensions in alphabetical order: ``OTC|2025-11-14``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

import dagster as dg

from market_spine.domain.errors import PartitionError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import week_ending
from market_spine.feeds import load_feeds

# Feeds share one definition of weeks, so that their assets may depend on each other: it begins with the oldest feed.
FIRST_WEEK = min(feed.first_week for feed in load_feeds())

PARTITION_TAG = "dagster/partition"


class WeekTiers(dg.MultiPartitionsDefinition):
    """Weeks crossed with tiers, whose runs are tagged with their partition and never with its two dimensions.

    A backfill of a job tags each range run with the dimensions of the backfill's first partition too, and Dagster
    reads those before the range: 15 partitions succeeded and 1 was made (dagster #28861). Materializations carry
    the dimensions all the same, from their key.
    """

    def get_tags_for_partition_key(self, partition_key: str) -> Mapping[str, str]:
        return {PARTITION_TAG: str(partition_key)}


WEEKS = dg.WeeklyPartitionsDefinition(start_date=FIRST_WEEK.isoformat(), day_offset=5, end_offset=1)
TIERS = dg.StaticPartitionsDefinition([tier.value for tier in Tier])
WEEK_TIERS = WeekTiers({"week_ending": WEEKS, "tier": TIERS})


def partition_key(key: WeekKey) -> str:
    """The Dagster key of ``key``."""
    if key.tier is None:
        return key.week_ending.isoformat()
    return dg.MultiPartitionKey({"week_ending": key.week_ending.isoformat(), "tier": key.tier.value})


def week_key(text: str) -> WeekKey:
    """The partition that a Dagster key names."""
    tier, bar, week = text.rpartition("|")
    return WeekKey(week_ending(week), Tier(tier) if bar else None)


def week_keys(context: dg.AssetExecutionContext) -> list[WeekKey]:
    """The partitions of this run, oldest week first. An empty range is an error: Dagster would report success."""
    keys = [week_key(str(text)) for text in context.partition_keys]
    if not keys:
        raise PartitionError(
            "the partition range is empty: its ends run backwards",
            "name the earlier week first, and tiers in the order NMS_TIER_1, NMS_TIER_2, OTC",
        )
    return sorted(keys, key=lambda key: (key.week_ending, key.tier_text))


def ranges(keys: Iterable[WeekKey]) -> list[tuple[str, str]]:
    """``keys`` as few Dagster ranges, each a full cross product of consecutive weeks and tiers."""
    by_week: dict[date, frozenset[Tier | None]] = {}
    for key in keys:
        by_week[key.week_ending] = by_week.get(key.week_ending, frozenset()) | {key.tier}
    runs: list[tuple[date, date, Tier | None]] = []
    open_runs: dict[Tier | None, tuple[date, date]] = {}
    for week in sorted(by_week):
        for tier in by_week[week]:
            first, last = open_runs.get(tier, (week, week))
            if (week - last).days > 7:
                runs.append((first, last, tier))
                first = week
            open_runs[tier] = (first, week)
    runs += [(first, last, tier) for tier, (first, last) in open_runs.items()]
    return _merged(runs)


def _merged(runs: list[tuple[date, date, Tier | None]]) -> list[tuple[str, str]]:
    order: list[Tier | None] = [None, *Tier]
    spans: dict[tuple[date, date], list[Tier | None]] = {}
    for first, last, tier in sorted(runs, key=lambda run: (run[0], run[1], order.index(run[2]))):
        spans.setdefault((first, last), []).append(tier)
    merged = []
    for (first, last), tiers in spans.items():
        for low, high in _consecutive([order.index(tier) for tier in tiers]):
            merged.append((partition_key(WeekKey(first, order[low])), partition_key(WeekKey(last, order[high]))))
    return merged


def _consecutive(places: list[int]) -> list[tuple[int, int]]:
    groups: list[tuple[int, int]] = []
    for place in places:
        if groups and groups[-1][1] == place - 1:
            groups[-1] = (groups[-1][0], place)
        else:
            groups.append((place, place))
    return groups
