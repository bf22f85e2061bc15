"""Jobs: named selections of the asset graph, one per kind of partition, since a run has one partitioning."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import dagster as dg

from market_spine.assets import readiness
from market_spine.assets.calendar import KEY as CALENDAR_KEY
from market_spine.assets.tables import steps_of
from market_spine.domain.contracts import Feed


@cache
def calendar_job() -> dg.UnresolvedAssetJobDefinition:
    """The trading calendar by week; volume per day needs it, so it comes before a feed's weeks."""
    return dg.define_asset_job(
        "trading_calendar",
        selection=dg.AssetSelection.assets(CALENDAR_KEY),
        description="Capture the sessions of the chosen weeks; before the weekly refresh of new weeks.",
    )


@cache
def jobs_of(feed: Feed) -> Sequence[dg.UnresolvedAssetJobDefinition]:
    """Of one feed: weeks and tiers, whole weeks, and publishing."""
    steps = steps_of(feed)
    by_tier = [feed.name + "/raw", *(f"{feed.name}/{name}" for name, step in steps.items() if step.table.by_tier)]
    by_week = [f"{feed.name}/{name}" for name, step in steps.items() if not step.table.by_tier]
    by_week.append(f"{feed.name}/{readiness.NAME}")
    return [
        dg.define_asset_job(
            f"{feed.name}_weekly_refresh",
            selection=dg.AssetSelection.assets(*by_tier),
            description="Ingest, normalise, aggregate and roll the chosen weeks and tiers.",
        ),
        dg.define_asset_job(
            f"{feed.name}_whole_weeks",
            selection=dg.AssetSelection.assets(*by_week),
            description="What is calculated over all tiers of a week, and whether the week may be used.",
        ),
        dg.define_asset_job(
            f"{feed.name}_publish",
            selection=dg.AssetSelection.assets(f"{feed.name}/published"),
            description="Build the published DuckDB file and swap it in.",
        ),
    ]
