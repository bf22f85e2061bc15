"""What looking after an old store costs: `spine doctor`, and the ticks of the sensors, on three years of weeks.

The floor is a bare interpreter that reads every row of the two tables that most of the answer comes from. The weeks are
small, since looking after them reads the control database and hardly any capture; there is every table of every week
and tier, and the findings of weeks that small. What belongs here: such a store, and times. What does not: queries over
captures (`queries`).
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import SPINE, Spread, alternate, child, compared

if TYPE_CHECKING:
    from market_spine.store.store import Store

SOURCE = "synthetic:scale=0.05"  # 30 s to load; with less, weeks fall below the gate of 100 rows
TARGET_SECONDS, TARGET_TICK_SECONDS = 2.0, 10.0
# By then every use case may be certified; and the stale sensor waits until nobody has written for a while.
SENSORS = {"readiness": timedelta(hours=49), "expectations": timedelta(hours=50), "stale": timedelta(hours=51)}
FLOOR = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); " + "; ".join(
    f"c.execute('SELECT * FROM {name}').fetchall()" for name in ("core_manifest", "core_capture_inputs")
)


def measure(work: Path, count: int, runs: int) -> dict[str, Any]:
    """The doctor over the newest weeks and over all against the floor, and the ticks of the sensors."""
    from market_spine.store.store import Store

    home = work / f"old_{count}"
    child([*SPINE, "--home", str(home), "backfill", "--source", SOURCE, "--weeks-back", str(count)])
    store = Store.at(home)
    found: dict[str, Any] = {"weeks": count, **_counts(store), "target_seconds": TARGET_SECONDS}
    least = [sys.executable, "-c", FLOOR, str(store.control.engine.url.database)]
    for title, weeks in (("newest", min(4, count)), ("all", count)):
        doctor = [*SPINE, "--home", str(home), "doctor", "otc", "--format", "json", "--weeks", str(weeks)]
        floor, ours = alternate(runs, partial(child, least), partial(child, doctor, accepted=(0, 1)))
        if json.loads(ours[0].output)["found_partitions"] != 3 * weeks:
            raise RuntimeError(f"the store of {count} weeks is not what was meant: {ours[0].output[:500]}")
        found[title] = {"weeks": weeks, **compared(floor, ours)}
    found["target_tick_seconds"] = TARGET_TICK_SECONDS
    found["first_tick"] = {name: _ticks(store, name, 1).max for name in SENSORS}
    found["ticks"] = {name: _ticks(store, name, runs).as_dict() for name in SENSORS}
    found["certificates"] = _counts(store)["certificates"]
    store.control.dispose()
    return found


def _counts(store: Store) -> dict[str, int]:
    import sqlalchemy as sa

    tables = {"captures": "core_manifest", "anomalies": "core_anomalies", "certificates": "core_certificates"}
    with store.control.read() as connection:
        return {
            title: connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name))) or 0
            for title, name in tables.items()
        }


def _ticks(store: Store, name: str, runs: int) -> Spread:
    """Seconds of ticks that look at everything, as after every new capture: their cursor names no transaction."""
    import dagster as dg

    from market_spine.assets.spine import Spine
    from market_spine.automation.sensors import sensors_of
    from market_spine.feeds.otc import FEED
    from market_spine.sources.synthetic import SyntheticSource

    spine = Spine(store, SyntheticSource.from_spec(""), lambda: datetime.now(UTC) + SENSORS[name])
    sensor = next(one for one in sensors_of(FEED) if one.name == f"{FEED.name}_{name}_sensor")
    times, cursor = [], "{}"
    with dg.DagsterInstance.ephemeral() as instance:
        for _ in range(runs):
            context = dg.build_sensor_context(instance, cursor, sensor_name=sensor.name, resources={"spine": spine})
            started = time.perf_counter()
            answer: Any = sensor(context)
            said = getattr(answer, "skip_message", None) or ""
            if "under way" in said:
                raise RuntimeError(f"the {name} sensor did not look: {said}")
            left = json.loads(getattr(answer, "cursor", None) or context.cursor or "{}")
            cursor = json.dumps(left | {"seq": None, "seen": None})
            times.append(time.perf_counter() - started)
    return Spread.of(times)
