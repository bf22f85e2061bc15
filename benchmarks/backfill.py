"""Ours, until the command exists."""

from __future__ import annotations
import sys, os, time

t0 = time.perf_counter()
from pathlib import Path
from datetime import datetime, UTC, date
import dagster as dg
from market_spine.definitions import FEEDS, build_spine
from market_spine.settings import Settings
from market_spine.automation import launch, pipelines
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.assets.tables import steps_of


def main():
    folder, home = Path(sys.argv[1]), Path(sys.argv[2])
    spine = build_spine(Settings(home=home, source=f"file:{folder}"))
    (home / "dagster").mkdir(parents=True, exist_ok=True)
    (home / "dagster" / "dagster.yaml").write_text((Path(__file__).parents[1] / "dagster.yaml").read_text())
    feed = FEEDS[0]
    keys = [WeekKey(date.fromisoformat(p.stem[-10:]), Tier(p.stem[:-11])) for p in folder.glob("*.csv")]
    print("import", time.perf_counter() - t0)
    with dg.DagsterInstance.from_config(str(home / "dagster")) as inst:
        o = launch.run(spine, feed, launch.launches(feed, ("raw", *steps_of(feed)), keys), inst)
    print(len(o.run_ids), o.failures, {k: len(v) for k, v in o.without_capture.items()})
    print("total", time.perf_counter() - t0)


main()
