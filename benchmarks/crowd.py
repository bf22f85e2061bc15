"""What one process of `contention` does over and over: eight kinds of writers, three of readers.

A writer's operation answers what must be found in the store afterwards, as (table, column, value); a reader's asserts
that what it read is whole, and that the past is as it was. What belongs here: operations. What does not: starting
processes and counting (`contention`).
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import count, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import ROOT, SPINE, environment

if TYPE_CHECKING:
    from market_spine.assets.spine import Spine
    from market_spine.store.ledger import Run
    from market_spine.store.store import Store

SOURCE = "synthetic:seed=7,scale=0.02"
WEEKS = ("2025-11-07", "2025-11-14")
TIERS = ("NMS_TIER_1", "NMS_TIER_2", "OTC")
Claims = list[tuple[str, str, str | int]]
Operation = Callable[[], Claims]


@dataclass(frozen=True)
class Place:
    """A store, the number of the process, and the moment before everything that the crowd does."""

    home: str
    url: str
    number: int
    past: str

    def store(self) -> Store:
        from market_spine.store.store import Store

        return Store.at(Path(self.home), self.url, 1)

    def spine(self) -> Spine:
        from market_spine.assets.spine import Spine
        from market_spine.sources.synthetic import SyntheticSource

        return Spine(self.store(), SyntheticSource.from_spec(SOURCE.partition(":")[2]), now)

    def run(self, kind: str) -> Run:
        from market_spine.store.ledger import Run

        return Run(f"{kind}-{self.number}", f"{kind}-{self.number}-{uuid.uuid4().hex}", now())


def now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


def load(place: Place) -> Operation:
    """Dagster runs that restate a partition and everything made from it, and publish."""
    from market_spine.assets.capture import Options
    from market_spine.automation import launch, pipelines
    from market_spine.automation.instance import open_instance
    from market_spine.domain.keys import WeekKey
    from market_spine.feeds.otc import OTC

    spine = place.spine()
    feed, pipeline = pipelines.find([OTC], "otc.weekly_refresh")
    instance = open_instance(Path(place.home) / "dagster")
    keys = cycle(WeekKey.from_string(f"{tier}:{week}") for week in WEEKS for tier in TIERS[1:])
    options = Options(force=True, min_records=1)

    def operation() -> Claims:
        plan = launch.launches(feed, pipeline.tables, [next(keys)])
        outcome = launch.run(spine, feed, plan, instance, options, log_level="CRITICAL")
        if not outcome.is_complete:
            raise RuntimeError(f"{outcome.failures} {outcome.without_capture}")
        return [("core_batches", "correlation_id", outcome.correlation_id)]

    return operation


def sensors(place: Place) -> Operation:
    """Ticks of every sensor that looks, judges and records."""
    import dagster as dg

    from market_spine.automation.sensors import sensors_of
    from market_spine.feeds.otc import FEED

    spine = place.spine()
    instance = dg.DagsterInstance.ephemeral()
    chosen = cycle(
        one for one in sensors_of(FEED) if any(word in one.name for word in ("readiness", "expect", "stale"))
    )

    def operation() -> Claims:
        sensor = next(chosen)
        context = dg.build_sensor_context(instance, "{}", sensor_name=sensor.name, resources={"spine": spine})
        sensor(context)
        return [("core_heartbeats", "name", "expectations")] if "expect" in sensor.name else []

    return operation


def commands(place: Place) -> Operation:
    """`spine run`, `spine work enqueue` and `spine publish`, each a process of its own."""
    week = count()

    def spine(*words: str) -> str:
        settings = {"MARKET_SPINE_CONTROL_URL": place.url} if place.url else {}
        command = [*SPINE, "--home", place.home, *words]
        done = subprocess.run(command, env=environment(settings), cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"spine {words[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def enqueue() -> Claims:
        friday = date(2023, 1, 6) + timedelta(weeks=next(week))
        asked = spine("work", "enqueue", "otc.ingest_week", "-w", str(friday), "--tier", "OTC", "--format", "json")
        return [("core_work_items", "id", row["id"]) for row in json.loads(asked)]

    def ingest() -> Claims:
        spine("run", "otc.ingest_week", "-w", WEEKS[0], "--tier", "T1", "--source", SOURCE, "-p", "force=true")
        return []

    def publish() -> Claims:
        spine("publish")
        return []

    turns = cycle((enqueue, ingest, publish))

    def operation() -> Claims:
        return next(turns)()

    return operation


def commits(place: Place) -> Operation:
    """The smallest commit there is: one outcome of a check."""
    from market_spine.checks import gates
    from market_spine.domain.keys import WeekKey
    from market_spine.feeds.otc import OTC
    from market_spine.store.commit import Batch, commit

    store = place.store()
    finding = gates.unreadable(WeekKey.from_string(f"OTC:{WEEKS[0]}"), "made up")

    def operation() -> Claims:
        quality = [finding.quality_row(OTC.domain, "otc_raw", None)]
        done = commit(store.control, store.home, Batch("otc_raw", place.run("commit"), quality=quality))
        return [("core_batches", "batch_id", done.batch_id), ("core_quality", "batch_id", done.batch_id)]

    return operation


def anomalies(place: Place) -> Operation:
    """An anomaly opened, and the one before it closed."""
    from market_spine.domain.captures import Stage
    from market_spine.domain.contracts import Category, Severity
    from market_spine.domain.keys import WeekKey
    from market_spine.governance.anomalies import Observation, record

    store, numbers = place.store(), count(1)
    key = WeekKey.from_string(f"OTC:{WEEKS[0]}")

    def observation(number: int, is_open: bool) -> Observation:
        subject = ("finra.contention", "contention", "contention", Stage.INGESTED, key)
        code = f"CONTENTION_{place.number}_{number}"
        return Observation(*subject, code, Severity.INFO, Category.CONSISTENCY, "made up", is_open=is_open)

    def operation() -> Claims:
        number = next(numbers)
        new = observation(number, is_open=True)
        record(store, place.run("anomaly"), [new, observation(number - 1, is_open=False)], "contention")
        return [("core_anomalies", "fingerprint", new.fingerprint)]

    return operation


def work(place: Place) -> Operation:
    """A work item asked for, claimed and completed, a transaction each."""
    from market_spine.domain.keys import WeekKey
    from market_spine.domain.tiers import Tier
    from market_spine.domain.work import WorkState
    from market_spine.governance import work as ledger

    store, numbers, domain = place.store(), count(), "finra.contention"

    def operation() -> Claims:
        run = place.run("work")
        key = WeekKey(date(2000, 1, 7) + timedelta(weeks=next(numbers)), Tier.OTC)

        def choose(rows: list[dict[str, Any]], _running: int, _draw: str) -> dict[str, list[dict[str, Any]]]:
            return {run.correlation_id: rows}

        (row,) = ledger.enqueue(store, run, [ledger.Ask(domain, "contention", key, run.now)], "contention").added
        claims = ledger.claim(store, run, domain, choose, "contention")
        results = {
            (one["id"], run.correlation_id): ledger.Result(None, "done", WorkState.COMPLETE)
            for one in claims[run.correlation_id]
        }
        settled = ledger.settle(store, run, results, "contention")
        if [(one["id"], one["state"]) for one in settled] != [(row["id"], WorkState.COMPLETE)]:
            raise RuntimeError(f"item {row['id']} was not completed: {settled}")
        return [("core_work_items", "id", row["id"])]

    return operation


def latest(place: Place) -> Operation:
    """What `spine sql` does: every relation into an engine, and rows counted against the manifest."""
    from market_spine.assets.reading import fill
    from market_spine.store.query import answer, lock

    store = place.store()
    sql = """SELECT count(*) FROM (SELECT capture_id, count(*) AS n FROM otc_venue_volume GROUP BY 1) r
             FULL JOIN (FROM core_manifest WHERE table_name = 'otc_venue_volume' AND is_current = 1) m
             USING (capture_id)
             WHERE n IS DISTINCT FROM row_count"""

    def operation() -> Claims:
        with store.engine() as engine:
            fill(store, engine)
            lock(engine, store)
            if (wrong := answer(engine, sql)[1]) != [(0,)]:
                raise AssertionError(f"{wrong} captures whose rows are not as recorded")
        return []

    return operation


def as_of(place: Place) -> Operation:
    """A question about the past: the same captures, the same rows, whatever is written meanwhile."""
    from market_spine.assets.tables import tables_of
    from market_spine.domain.captures import View
    from market_spine.feeds.otc import OTC
    from market_spine.store.manifest import Question

    store, tables = place.store(), tables_of(OTC)
    question = Question(("otc_symbol_hhi", "otc_venue_share"), View.AS_OF, datetime.fromisoformat(place.past))

    def answer() -> list[Any]:
        with store.engine() as engine:
            store.show_all(engine, tables, question)
            rows = engine.execute("SELECT capture_id, count(*), sum(hhi) FROM otc_symbol_hhi GROUP BY 1 ORDER BY 1")
            return rows.fetchall()

    first = answer()

    def operation() -> Claims:
        if not first or answer() != first:
            raise AssertionError("the past has changed")
        return []

    return operation


def published(place: Place) -> Operation:
    """The published file, as a BI tool opens it: tables and control rows of one moment."""
    import duckdb

    path = str(place.store().home.published)
    sql = """SELECT (SELECT count(*) FROM otc_raw),
                    (SELECT sum(row_count) FROM core_manifest WHERE table_name = 'otc_raw' AND is_current = 1)"""

    def operation() -> Claims:
        with duckdb.connect(path, read_only=True) as engine:
            row = engine.execute(sql).fetchone()
        if row is None or row[0] != row[1]:
            raise AssertionError(f"(rows, rows on record) are {row}")
        return []

    return operation


@dataclass(frozen=True)
class Kind:
    """How many processes of a kind there are, what they do, and how long they rest between two operations (s)."""

    processes: int
    prepare: Callable[[Place], Operation]
    rest: float


WRITERS: Mapping[str, Kind] = {
    "Dagster runs (loads)": Kind(2, load, 0.0),
    "sensor ticks": Kind(1, sensors, 0.1),
    "commands": Kind(1, commands, 0.0),
    "commits": Kind(2, commits, 0.02),
    "anomalies": Kind(1, anomalies, 0.02),
    "work items": Kind(1, work, 0.02),
}
READERS: Mapping[str, Kind] = {
    "spine sql": Kind(4, latest, 0.2),
    "as-of queries": Kind(6, as_of, 0.2),
    "published file": Kind(6, published, 0.2),
}
