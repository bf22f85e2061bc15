"""Partitions and views take their facts from where these are stated: feeds and keys."""

from __future__ import annotations

from datetime import date

import duckdb

from market_spine.assets.partitions import FIRST_WEEK, WEEKS
from market_spine.assets.views import views_of
from market_spine.domain.keys import RecordKey
from market_spine.domain.tiers import Tier
from market_spine.feeds import load_feeds


def test_weeks_begin_with_the_oldest_feed() -> None:
    """Prevents a feed whose first weeks are no partitions, so that they can be neither selected nor loaded."""
    first = min(feed.first_week for feed in load_feeds())
    assert first == FIRST_WEEK
    assert WEEKS.get_first_partition_key() == first.isoformat()


def test_the_record_hash_view_has_the_hash_of_record_key() -> None:
    """Prevents the view from following another text or length than `RecordKey.to_hash`."""
    (feed,) = [feed for feed in load_feeds() if feed.name == "otc"]
    (view,) = [extra.sql for extra in views_of(feed) if extra.name == "otc_record_hash"]
    with duckdb.connect() as engine:
        engine.execute(
            "CREATE TABLE otc_venue_volume AS "
            "SELECT DATE '2025-12-12' AS week_ending, 'NMS_TIER_1' AS tier, 'A' AS symbol, 'ALPX' AS mpid"
        )
        engine.execute(view)
        (found,) = engine.execute("SELECT record_hash FROM otc_record_hash").fetchall()
    assert found == (RecordKey(date(2025, 12, 12), Tier.NMS_TIER_1, "A", "ALPX").to_hash(),)
    assert found == ("e3ba7cda2e0b235561c1fbeb28e3291c",)
