"""Making given partitions again, and no others: which Dagster runs that takes, and carrying them out.

What belongs here: from partitions of derived tables to runs. What does not: which partitions (`governance.staleness`).
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping

import dagster as dg

from market_spine.assets import readiness
from market_spine.assets.partitions import ranges
from market_spine.assets.spine import Spine
from market_spine.assets.tables import steps_of
from market_spine.automation.launch import Launch, Outcome, run
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey

Partitions = Mapping[str, Collection[WeekKey]]  # by SQL table name


def launches_of(feed: Feed, partitions: Partitions) -> list[Launch]:
    """The runs that make those of ``partitions`` that are of ``feed``, judge their weeks again, and publish; in order.

    Tables with the same partitions share their runs, unless a table of other partitions has to be made between them.
    """
    groups: list[tuple[frozenset[WeekKey], list[str]]] = []
    group_of: dict[str, int] = {}
    for name, step in steps_of(feed).items():
        keys = frozenset(partitions.get(step.table_name, ()))
        if not keys:
            continue
        first = max((group_of[one] for one in step.inputs if one in group_of), default=0)
        same = [number for number in range(first, len(groups)) if groups[number][0] == keys]
        if not same:
            groups.append((keys, []))
        group_of[name] = same[0] if same else len(groups) - 1
        groups[group_of[name]][1].append(name)
    found = [
        Launch(tuple(dg.AssetKey([feed.name, name]) for name in names), first, last)
        for keys, names in groups
        for first, last in ranges(keys)
    ]
    weeks = {WeekKey(key.week_ending, None) for keys, _ in groups for key in keys}
    judged = [Launch((readiness.key_of(feed),), first, last) for first, last in ranges(weeks)]
    return [*found, *judged, Launch((dg.AssetKey([feed.name, "published"]),))] if found else []


def recompute(
    spine: Spine,
    feeds: Iterable[Feed],
    partitions: Partitions,
    instance: dg.DagsterInstance,
    tags: Mapping[str, str] | None = None,
    log_level: str = "DEBUG",
) -> Outcome:
    """Make ``partitions`` again, as one business process; what is up to date by then is left alone."""
    outcome = Outcome(uuid.uuid4().hex)
    for feed in feeds:
        plan = launches_of(feed, partitions)
        if plan:
            run(spine, feed, plan, instance, tags=dict(tags or {}), log_level=log_level, outcome=outcome)
    return outcome
