"""What the processes of the journeys do: backfill until they are done or killed, restate, read, open a new home.

What belongs here: functions that run in a process of their own, forked from one that has imported everything and has no
threads (imports cost 3 s, a fork 30 ms), and the points at which such a process kills itself. What does not: claims.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import alembic.command  # noqa: F401  # these four are imported inside functions; here once, before any fork
import dagster as dg
import pandera.pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401

from market_spine.assets.calendar import capture_weeks
from market_spine.assets.capture import Options
from market_spine.assets.compute import compute
from market_spine.assets.ingest import ingest
from market_spine.assets.spine import Spine
from market_spine.assets.tables import steps_of, tables_of
from market_spine.assets.views import views_of
from market_spine.automation import launch, pipelines
from market_spine.automation.instance import write_config
from market_spine.domain.keys import WeekKey
from market_spine.domain.sessions import calendar
from market_spine.feeds.otc import OTC
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store.ledger import Run
from market_spine.store.manifest import Question
from market_spine.store.publish import publish
from market_spine.store.store import Store

# Points that a process passes: before and after a sync, a rename, a commit of the control database.
BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Point:
    """The ``number``-th time that ``call`` is reached, before or after it."""

    call: str
    when: str
    number: int


class Tracer:
    """Counts the calls of a process, and ends it at one of them as the kernel would: without a last word."""

    def __init__(self, point: Point | None) -> None:
        self.point = point
        self.counts: dict[str, int] = {}

    def install(self, spine: Spine) -> None:
        self._wrap(os, "fsync", "fsync")
        self._wrap(os, "rename", "rename")
        self._wrap(spine.store.control.engine.dialect, "do_commit", "commit")  # not Dagster's own databases

    def _wrap(self, owner: Any, name: str, call: str) -> None:
        real = getattr(owner, name)

        def traced(*args: Any, **kwargs: Any) -> Any:
            self.counts[call] = number = self.counts.get(call, 0) + 1
            self._die_at(Point(call, BEFORE, number))
            result = real(*args, **kwargs)
            self._die_at(Point(call, AFTER, number))
            return result

        setattr(owner, name, traced)

    def _die_at(self, here: Point) -> None:
        if here == self.point:
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def instance_of(home: Path) -> Iterator[dg.DagsterInstance]:
    """The persistent Dagster instance of a home, as commands open it."""
    write_config(home / "dagster")
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        yield instance


def quietly(report: str, body: Callable[[], Any]) -> None:
    """Run ``body``; its result or its traceback goes to the file ``report``, whole or not at all."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")  # pytest's filters are its own process's
    try:
        told = {"result": body()}
    except Exception:  # noqa: BLE001  # told to the test, which fails by it
        told = {"error": traceback.format_exc()}
    aside = Path(report).with_suffix(".part")
    aside.write_text(json.dumps(told))
    aside.replace(report)


@dataclass(frozen=True)
class Task:
    """What a process is to make, of which source, at which moment, and where it is to die."""

    home: str
    recipe: str
    keys: tuple[str, ...]
    now: str
    report: str
    point: Point | None = None
    url: str = ""

    @property
    def week_keys(self) -> list[WeekKey]:
        return [WeekKey.from_string(key) for key in self.keys]

    def spine(self) -> Spine:
        now = datetime.fromisoformat(self.now)
        return Spine(Store.at(Path(self.home), self.url, 1), SyntheticSource.from_spec(self.recipe), lambda: now)


def backfill(task: Task) -> None:
    """Everything of the task through real Dagster runs on a persistent instance."""
    quietly(task.report, lambda: _backfill(task))


def _backfill(task: Task) -> dict[str, Any]:
    started, spine = time.monotonic(), task.spine()
    feed, pipeline = pipelines.find([OTC], "otc.weekly_refresh")
    plan = launch.launches(feed, pipeline.tables, task.week_keys)
    with instance_of(Path(task.home)) as instance:
        outcome = launch.run(spine, feed, plan, instance, log_level="CRITICAL")
    told = {"failures": outcome.failures, "without_capture": outcome.without_capture}
    return told | {"seconds": time.monotonic() - started}


def refresh(task: Task) -> None:
    """Everything of the task by the functions that Dagster's assets call, which takes a third of the time."""
    quietly(task.report, lambda: _refresh(task))


def _refresh(task: Task) -> dict[str, Any]:
    spine, keys = task.spine(), task.week_keys
    tracer = Tracer(task.point)
    tracer.install(spine)
    weeks = [WeekKey(week, None) for week in sorted({key.week_ending for key in keys})]
    run = Run("an-execution", "a-correlation", spine.clock())
    capture_weeks(spine, weeks, run)
    ingest(spine, OTC, keys, run, Options(min_records=1))
    for step in steps_of(OTC).values():
        compute(spine, step, keys if step.table.by_tier else weeks, run)
    publish(spine.store, tables_of(OTC), views_of(OTC))
    return {"calls": tracer.counts}


def read_on(home: str, url: str, stop: str, report: str) -> None:
    """Ask for the latest rows of every table until the file ``stop`` is there; how often that went well."""
    quietly(report, lambda: _read_on(Store.at(Path(home), url, 1), Path(stop)))


def _read_on(store: Store, stop: Path) -> dict[str, Any]:
    rounds = 0
    while not stop.exists():
        if wrong := miscounted(store):
            raise AssertionError(f"rows of captures that are not as recorded: {wrong}")
        rounds += 1
        time.sleep(0.05)
    return {"rounds": rounds}


def miscounted(store: Store) -> list[str]:
    """Current captures whose readable rows are not as many as recorded, in one snapshot."""
    wrong = []
    with store.engine() as engine:
        for name, chosen in store.show_all(engine, tables_of(OTC), Question(tuple(tables_of(OTC)))).items():
            counted = dict(engine.execute(f"SELECT capture_id, count(*) FROM {name} GROUP BY 1").fetchall())
            wrong += [one.capture_id for one in chosen if counted.get(one.capture_id, 0) != one.row_count]
    return wrong


def open_home(home: str, url: str, at: float, report: str) -> None:
    """Open a home at the moment ``at`` (seconds since the epoch); the migrations that this process applied."""
    time.sleep(max(0.0, at - time.time()))
    quietly(report, lambda: Store.at(Path(home), url).ensure())


calendar()  # 1 s, and every process needs it
