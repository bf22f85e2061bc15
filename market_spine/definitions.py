"""The one place where everything meets: `build_defs` puts feeds, source, store and clock together.

Importing this defines and does nothing else: no file, connection or network is touched until something runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from market_spine.assets.graph import assets_of
from market_spine.assets.spine import Spine
from market_spine.automation.export import execution_sensor
from market_spine.automation.health import health_job
from market_spine.automation.jobs import calendar_job, jobs_of
from market_spine.automation.notify import notification_sensor
from market_spine.automation.schedules import schedules_of
from market_spine.automation.sensors import sensors_of
from market_spine.automation.work import work_sensor
from market_spine.domain.contracts import Feed
from market_spine.feeds import load_feeds
from market_spine.settings import Settings, build_spine, channels_of

FEEDS: tuple[Feed, ...] = load_feeds()


def build_assets(feeds: tuple[Feed, ...] = FEEDS) -> list[dg.AssetsDefinition]:
    """Every asset of ``feeds``, each once: feeds share the calendar."""
    return list(dict.fromkeys(asset for feed in feeds for asset in assets_of(feed)))


def _with_code_links(assets: Sequence[dg.AssetsDefinition], git_url: str) -> Sequence[Any]:
    """Links from each asset to its source: on the code's host where that is known, else on this machine."""
    linked = dg.with_source_code_references(assets)
    if not git_url:
        return linked
    mapping = dg.AnchorBasedFilePathMapping(Path(__file__).parent, file_anchor_path_in_repository="market_spine/")
    return dg.link_code_references_to_git(linked, git_url, git_branch="main", file_path_mapping=mapping)


def build_defs(spine: Spine | None = None, feeds: tuple[Feed, ...] = FEEDS) -> dg.Definitions:
    """All definitions. ``spine`` replaces store, source and clock, e.g. in tests."""
    settings, chosen = Settings(), spine or build_spine()
    return dg.Definitions(
        assets=_with_code_links(build_assets(feeds), settings.git_url),
        jobs=[calendar_job(), *(job for feed in feeds for job in (*jobs_of(feed), health_job(feed)))],
        schedules=[schedule for feed in feeds for schedule in schedules_of(feed)],
        sensors=[
            execution_sensor(feeds),
            *(sensor for feed in feeds for sensor in (*sensors_of(feed), work_sensor(feed), notification_sensor(feed))),
        ],
        resources={"spine": chosen, "channels": channels_of(settings, chosen.store.home)},
        # An 8-asset run takes 2.9 s in one process and 24.4 s in the default one per step.
        executor=dg.in_process_executor,
    )


defs = build_defs()
