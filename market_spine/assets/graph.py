"""The assets of a feed, the calendar first: one list for the definitions and for runs that a command starts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import dagster as dg

from market_spine.assets.calculations import calculation_asset
from market_spine.assets.calendar import calendar_asset
from market_spine.assets.published import published_asset
from market_spine.assets.raw import raw_asset
from market_spine.assets.readiness import readiness_asset
from market_spine.assets.tables import steps_of
from market_spine.domain.contracts import Feed

CALENDAR = calendar_asset()


@cache
def assets_of(feed: Feed, is_described: bool = True) -> Sequence[dg.AssetsDefinition]:
    """Calendar, raw, every calculation, readiness and the published file; for a run without what only the UI shows."""
    derived = [calculation_asset(feed, step, is_described) for step in steps_of(feed).values()]
    return (CALENDAR, raw_asset(feed), *derived, readiness_asset(feed), published_asset(feed))
