"""A stage on which journeys run: a home, a clock that the test sets, a source, and real Dagster runs in this process.

What belongs here: starting the pipeline and reading the store's relations, and writing deliveries as files. What does
not: claims, and any second way to compute what the pipeline computes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import sqlalchemy as sa
from duckdb import DuckDBPyConnection

from market_spine.assets.capture import Options
from market_spine.assets.spine import Spine
from market_spine.assets.tables import derived_of, steps_of, tables_of
from market_spine.assets.views import views_of
from market_spine.automation import launch, pipelines
from market_spine.automation.launch import Outcome
from market_spine.domain.captures import RevisionPolicy, Stage, View
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import publication_date
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED
from market_spine.governance.staleness import stale
from market_spine.settings import Settings, build_spine
from market_spine.sources.delivery import Delivery, Empty, Inventory, Source
from market_spine.sources.files import FileSource
from market_spine.sources.lines import open_part
from market_spine.store.engine import config, prepare
from market_spine.store.manifest import Capture, Question
from market_spine.store.publish import fill
from market_spine.store.schema import BATCHES

T1, T2, OTC = Tier.NMS_TIER_1, Tier.NMS_TIER_2, Tier.OTC
NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)  # all tiers of 2025-12-19 and before are due
HEADER = (
    "tierDescription|issueSymbolIdentifier|issueName|marketParticipantName|MPID"
    "|totalWeeklyShareQuantity|totalWeeklyTradeCount|lastUpdateDate"
)
FEW = Options(min_records=1)  # the gate of 100 rows is judged where it is the subject


def key(week: str, tier: Tier = OTC) -> WeekKey:
    return WeekKey(date.fromisoformat(week), tier)


@dataclass
class Clock:
    """Time moves only when the test says so."""

    moment: datetime = NOW

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **span: float) -> datetime:
        self.moment += timedelta(**span)
        return self.moment


class Shown:
    """The store's relations in DuckDB, filled again where something was committed since (0.1 s)."""

    def __init__(self) -> None:
        self.batches = -1
        self.engine: DuckDBPyConnection | None = None

    def at(self, scene: Scene) -> DuckDBPyConnection:
        store = scene.spine.store
        with store.control.read() as connection:
            batches = connection.scalar(sa.select(sa.func.count()).select_from(BATCHES)) or 0
        if self.engine is None or batches != self.batches:
            self.close()
            self.batches, self.engine = batches, duckdb.connect(config=config(2))
            prepare(self.engine)
            fill(store, self.engine, tables_of(scene.feed), views_of(scene.feed))
        return self.engine

    def close(self) -> None:
        if self.engine is not None:
            self.engine.close()
            self.engine = None


@dataclass
class Scene:
    """One home with everything that a journey needs. `runs` are the Dagster runs so far."""

    spine: Spine
    clock: Clock
    instance: dg.DagsterInstance
    feed: Feed = FEED
    runs: list[str] = field(default_factory=list)
    shown: Shown = field(default_factory=Shown)

    def source(self, source: Source) -> Scene:
        """The same home, fed from somewhere else."""
        return replace(self, spine=replace(self.spine, source=source))

    def file(self, path: Path) -> Scene:
        """The same home, fed from one file whose week and tier the caller names."""
        return self.source(FileSource(path, explicit=True))

    def run(self, pipeline: str, *keys: WeekKey, options: Options = FEW, publish: bool = False) -> Outcome:
        """Run a pipeline or asset by name for ``keys``, as the command line does."""
        _, named = pipelines.find((self.feed,), pipeline)
        tables, rolled = list(named.tables), []
        if named.rolls_latest_only:
            rolled = [name for name in tables if tables_of(self.feed)[self.feed.sql_name(name)].stage is Stage.ROLLING]
        plan = launch.launches(self.feed, [name for name in tables if name not in rolled], keys, publish)
        if rolled:
            last = max(one.week_ending for one in keys)
            plan += launch.launches(self.feed, rolled, [one for one in keys if one.week_ending == last], publish)
        outcome = launch.run(self.spine, self.feed, plan, self.instance, options, log_level="CRITICAL")
        self.runs += outcome.run_ids
        return outcome

    def refresh(self, *keys: WeekKey, options: Options = FEW) -> Outcome:
        """Raw to rolling, which must leave nothing out."""
        outcome = self.run("otc.weekly_refresh", *keys, options=options)
        assert outcome.is_complete, outcome
        return outcome

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the store's own relations: tables, macros, views and control tables by their SQL names."""
        return self.shown.at(self).execute(query, list(values)).fetchall()

    def one(self, query: str, *values: object) -> tuple[Any, ...]:
        (row,) = self.sql(query, *values)
        return row

    def counts(self, *tables: str, where: str = "true") -> tuple[int, ...]:
        """Rows of each relation."""
        counted = ", ".join(f"(SELECT count(*) FROM {table} WHERE {where})" for table in tables)
        return self.one(f"SELECT {counted}")

    def current_of(self, week: WeekKey) -> dict[str, Capture]:
        """Current captures of a partition by short table name; of the week where a table has no tiers."""
        tables = {self.feed.sql_name(name): name for name in ("raw", *steps_of(self.feed))}
        found = self.spine.store.select(Question(tuple(tables), weeks=[week.week_ending]))
        return {tables[one.table_name]: one for one in found if one.key.tier in (week.tier, None)}

    def landed(self, week: WeekKey) -> list[bytes]:
        """The bytes of every delivery of a partition, in the order in which they came."""
        deliveries = [one for one in self.spine.landing.deliveries(self.feed.domain) if one.key == week]
        found = []
        for one in deliveries:
            for part in self.spine.landing.read(one).parts:
                with open_part(part) as stream:
                    found.append(stream.read())
        return found

    def captures(self, table: str, view: View = View.ALL_REVISIONS) -> list[Capture]:
        """The captures of one table, by short name."""
        return self.spine.store.select(Question((self.feed.sql_name(table),), view))

    def current(self, table: str, week: WeekKey) -> Capture:
        (found,) = [one for one in self.captures(table, View.LATEST) if one.key == week]
        return found

    def stale(self) -> list[tuple[str, str]]:
        """(table, week) of current captures that are out of date."""
        with self.spine.store.control.read() as connection:
            found = stale(connection, derived_of(self.feed))
        return [(one.capture.table_name, str(one.capture.key)) for one in found]

    def actions(self) -> list[str]:
        """What became of each delivery of the feed, in the order of committing."""
        rows = self.sql(
            "SELECT action FROM core_deliveries JOIN core_batches USING (batch_id) WHERE domain = ? ORDER BY seq",
            self.feed.domain,
        )
        return [action for (action,) in rows]

    def findings(self, check: str, table: str = "otc_raw") -> list[tuple[str, str, int, int]]:
        """(severity, category, is_expected, is_blocking) of each failed evaluation of a check."""
        return self.sql(
            "SELECT severity, category, is_expected, is_blocking FROM core_quality JOIN core_batches USING (batch_id)"
            " WHERE check_name = ? AND core_quality.table_name = ? AND status = 'failed' ORDER BY seq",
            check,
            table,
        )

    def rejects(self, table: str = "otc_raw") -> list[tuple[int, str, str]]:
        """(line, reason, scope) of everything set aside, in the order of the lines."""
        query = (
            "SELECT line_no, reason_code, scope FROM core_rejects WHERE table_name = ? ORDER BY week_ending, 1, 2, 3"
        )
        return self.sql(query, table)

    def success(self, run_id: str) -> bool:
        """Whether Dagster has the run down as a success."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.is_success


@dataclass(frozen=True)
class Named:
    """A source of files that the caller names one by one, each as a `FileSource` reads it."""

    files: Mapping[WeekKey, Path]
    kind = series = "file"

    def inventory(self, feed: Feed, now: datetime) -> Inventory:
        return Inventory(tuple(sorted(self.files)))

    def fetch(self, feed: Feed, key: WeekKey, now: datetime) -> Delivery | Empty:
        return FileSource(self.files[key], explicit=True).fetch(feed, key, now)


@contextmanager
def staged(home: Path, source: Source | str = "synthetic:scale=0.02", clock: Clock | None = None) -> Iterator[Scene]:
    """A set with its own home and Dagster instance; everything is closed afterwards."""
    clock = clock or Clock()
    text = source if isinstance(source, str) else "synthetic"
    given = None if isinstance(source, str) else source
    spine = build_spine(Settings(home=home, source=text, threads=2), source=given, clock=clock)
    with dg.DagsterInstance.ephemeral() as instance:
        scene = Scene(spine, clock, instance)
        try:
            yield scene
        finally:
            scene.shown.close()
            spine.store.control.dispose()


@contextmanager
def copied(scene: Scene, folder: Path) -> Iterator[Scene]:
    """The scene as it is, in a home of its own below ``folder``, to be changed; what it read is in its "files"."""
    root, source = scene.spine.store.home.root, scene.spine.source
    shutil.copytree(root, folder / "home")
    if isinstance(source, FileSource):
        shutil.copytree(source.root, folder / "files")
        source = FileSource(folder / "files")
    with staged(folder / "home", source, Clock(scene.clock())) as copy:
        yield copy


def line(week: WeekKey, symbol: str, mpid: str, shares: str | int, trades: str | int, **more: str) -> str:
    """One row as FINRA's file has it."""
    assert week.tier is not None
    values = {
        "tier": week.tier.file_text,
        "symbol": symbol,
        "issue": f"{symbol} Common Stock",
        "venue": f"{mpid} ATS",
        "mpid": mpid,
        "shares": str(shares),
        "trades": str(trades),
        "updated": publication_date(week.week_ending, week.tier).isoformat(),
    }
    return "|".join((values | more).values())


def lines(week: WeekKey, count: int, start: int = 0) -> list[str]:
    """``count`` good rows: symbols S000, S001 ... on two venues by turns."""
    return [
        line(week, f"S{number // 2:03}", "UBSA" if number % 2 else "ALPX", 100 + number, 1 + number % 7)
        for number in range(start, start + count)
    ]


def text(rows: Sequence[str], header: str = HEADER, end: str = "\n") -> bytes:
    return end.join([header, *rows, ""]).encode()


def put(folder: Path, week: WeekKey, data: bytes) -> Path:
    """A delivery as a file under its declared name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{week.tier_text}_{week.week_ending}.csv"
    path.write_bytes(data)
    return path


POLICIES = {policy: Options(policy, min_records=1) for policy in RevisionPolicy}
