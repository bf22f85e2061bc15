"""What the code declares, as rows that people can ask for: the edges of the asset graph, and the expected schedules.

Written by the first run or look after a code load, never by hand, so that they cannot say what the code does not.
"""

from __future__ import annotations

from market_spine.assets.dependencies import dependency_rows
from market_spine.assets.graph import assets_of
from market_spine.domain.contracts import Feed
from market_spine.feeds import load_feeds
from market_spine.governance.policy import load_schedules, rows_of
from market_spine.store import dependencies, schedules
from market_spine.store.store import Store


def declare(store: Store, feed: Feed) -> bool:
    """Make both tables say what ``feed`` and every feed of the platform declare; whether anything changed."""
    feeds = dict.fromkeys((*load_feeds(), feed))
    edges = [row for one in feeds for row in dependency_rows(one, assets_of(one, is_described=False))]
    expected = rows_of(schedule for one in feeds for schedule in load_schedules(one))
    changed = [dependencies.replace_all(store.control, edges), schedules.replace_all(store.control, expected)]
    return any(changed)
