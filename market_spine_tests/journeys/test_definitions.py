"""The definitions as Dagster's server loads them, and what they say of themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.assets.dependencies import dependency_rows
from market_spine.assets.graph import assets_of
from market_spine.assets.partitions import WEEK_TIERS, WEEKS, partition_key, ranges, week_key
from market_spine.assets.tables import steps_of, tables_of
from market_spine.domain.errors import PartitionError, SpineError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED
from market_spine_tests.journeys.stage import T1, Scene, key, staged

pytestmark = [
    pytest.mark.xdist_group("definitions"),
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),  # code references are beta in 1.13
]

ASSETS = sorted(
    [
        "reference/trading_calendar",
        "otc/raw",
        "otc/readiness",
        "otc/published",
        *(f"otc/{name}" for name in steps_of(FEED)),
    ]
)
DERIVED = [f"otc/{name}" for name in steps_of(FEED)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A home in which one week has gone all the way."""
    with staged(tmp_path_factory.mktemp("home")) as scene:
        scene.refresh(key("2025-11-14"))
        yield scene


@pytest.fixture(scope="module")
def nodes(stage: Scene) -> dict[str, Any]:
    """Every asset of the definitions by name."""
    from market_spine.definitions import build_defs

    definitions = build_defs(stage.spine)
    dg.Definitions.validate_loadable(definitions)
    return {node.key.to_user_string(): node for node in definitions.resolve_asset_graph().asset_nodes}


def test_every_asset_is_there_once(nodes: dict[str, Any]) -> None:
    """An asset that was lost on the way into the definitions, or that is there without anybody knowing."""
    assert sorted(nodes) == ASSETS


@pytest.mark.parametrize("name", ASSETS)
def test_an_asset_says_what_it_is(nodes: dict[str, Any], name: str) -> None:
    """An asset in the catalogue without group, owner, description, kind or way to its code."""
    node = nodes[name]
    assert node.group_name not in ("", "default")
    assert node.kinds
    assert node.owners == ["team:market-data"]
    assert len(node.description) > 40
    assert node.tags["domain"]
    references = [reference.file_path for reference in node.metadata["dagster/code_references"].code_references]
    assert references
    assert all("/market_spine/" in path and Path(path).is_file() for path in references)


@pytest.mark.parametrize("name", [name for name in DERIVED if name != "otc/venue_volume"])
def test_a_calculation_leads_to_its_own_file(nodes: dict[str, Any], name: str) -> None:
    """A link to the factory only, from which nobody finds the SQL."""
    references = [Path(one.file_path).name for one in nodes[name].metadata["dagster/code_references"].code_references]
    assert f"{name.removeprefix('otc/')}.py" in references


def test_code_links_of_a_known_host(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to a file of one machine where the code's host is known."""
    from market_spine.definitions import build_defs

    monkeypatch.setenv("MARKET_SPINE_GIT_URL", "https://github.com/somebody/market-spine")
    for node in build_defs(stage.spine).resolve_asset_graph().asset_nodes:
        for one in node.metadata["dagster/code_references"].code_references:
            assert isinstance(one, dg.UrlCodeReference)
            assert one.url.startswith("https://github.com/somebody/market-spine/tree/main/market_spine/")


@pytest.mark.parametrize("name", [name for name in ASSETS if name not in ("otc/published", "otc/readiness")])
def test_a_table_says_what_is_in_it(nodes: dict[str, Any], name: str) -> None:
    """A table without columns, with a column that nobody describes, or run partition by partition in a backfill."""
    node = nodes[name]
    table = tables_of(FEED)[name.replace("/", "_")]
    columns = node.metadata["dagster/column_schema"].columns
    assert [(one.name, one.type, one.description) for one in columns] == [
        (one.name, one.type, one.description) for one in table.columns
    ]
    assert node.metadata["dagster/table_name"] == name.replace("/", "_")
    assert node.backfill_policy == dg.BackfillPolicy.single_run()
    assert node.partitions_def == (WEEK_TIERS if table.by_tier else WEEKS)
    assert dg.AssetCheckKey(node.key, "captured") in node.check_keys


@pytest.mark.parametrize("name", DERIVED)
def test_every_column_knows_where_it_comes_from(nodes: dict[str, Any], name: str) -> None:
    """Lineage that names a column which does not exist, or leaves one out."""
    lineage = nodes[name].metadata["dagster/column_lineage"].deps_by_column
    assert list(lineage) == [one.name for one in tables_of(FEED)[name.replace("/", "_")].columns]
    for deps in lineage.values():
        for dep in deps:
            source = tables_of(FEED)["_".join(dep.asset_key.path)]
            assert dep.column_name in {one.name for one in source.columns}
            assert dep.asset_key in nodes[name].parent_keys
    assert any(lineage.values())


def test_jobs_cover_the_graph_and_mix_no_partitions(stage: Scene) -> None:
    """A job that Dagster cannot start because its assets are partitioned in two ways; an asset in no job."""
    from market_spine.definitions import build_defs

    definitions = build_defs(stage.spine)
    covered: set[str] = set()
    for name in ("otc_weekly_refresh", "otc_whole_weeks", "otc_publish"):
        job = definitions.resolve_job_def(name)
        covered |= {one.to_user_string() for one in job.asset_layer.selected_asset_keys}
    assert covered == {*ASSETS} - {"reference/trading_calendar"}


def test_dependencies_are_those_of_the_graph(stage: Scene, nodes: dict[str, Any]) -> None:
    """core_calc_dependencies written by hand: an edge that is not in the graph, or one that is missing."""
    stored = stage.sql("SELECT table_name, depends_on_table, weeks_back, dependency_type FROM core_calc_dependencies")
    edges = {
        ("_".join(node.key.path), "_".join(parent.path))
        for name, node in nodes.items()
        if name in DERIVED
        for parent in node.parent_keys
    }
    assert {(table, parent) for table, parent, *_ in stored} == edges
    assert len(stored) == len(edges) == len(dependency_rows(FEED, assets_of(FEED)))
    windows = {step.table_name: step.calculation.weeks_back for step in steps_of(FEED).values()}
    assert {(row[0], row[2]) for row in stored} == {(table, windows[table]) for table, *_ in stored}
    references = {(row[0], row[1]) for row in stored if row[3] == "reference"}
    assert references == {("otc_volume_per_day", "reference_trading_calendar")}


FORBIDDEN = {
    *("week_end", "report_week", "lastupdatedate", "ticker", "issuesymbolidentifier", "venue_id", "run_id", "job_id"),
    *("import_id", "row_hash", "dedup_key", "totalweeklysharequantity", "share_volume", "venue", "stock", "week"),
}


def test_names_are_the_frozen_ones(stage: Scene) -> None:
    """F008: one thing under two names. Every relation that is published, its macros apart (they show the same)."""
    columns = stage.sql("SELECT DISTINCT table_name, lower(column_name) FROM information_schema.columns")
    assert len({table for table, _ in columns}) > 30
    assert [(table, name) for table, name in columns if name in FORBIDDEN] == []
    assert {"week_ending", "tier", "symbol", "mpid", "record_hash", "execution_id", "batch_id"} <= {
        name for _, name in columns
    }


def test_every_row_can_be_traced(stage: Scene) -> None:
    """F038: a published table whose rows do not say which capture, when and by which run."""
    for table in tables_of(FEED):
        query = "SELECT count(*), count(capture_id), count(captured_at), count(execution_id), count(batch_id) FROM {}"
        total, *traced = stage.one(query.format(table))
        assert total > 0
        assert traced == [total] * 4, table


IMPORT = """
import builtins, os, pathlib, socket, sys, warnings
warnings.simplefilter("ignore")
import dagster, duckdb, pandas, pandera.pandas, sqlalchemy, dagster_duckdb  # what others do at import is not ours

def forbidden(*args, **kwargs):
    raise SystemExit(f"touched the outside: {args}")

def reading_only(event, args):
    if event in ("socket.connect", "socket.bind", "sqlite3.connect", "os.mkdir", "os.remove", "os.rename"):
        forbidden(event, args)
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if writes and "__pycache__" not in str(args[0]):
        forbidden(event, args)

sys.addaudithook(reading_only)
import market_spine.definitions
assert market_spine.definitions.defs
"""


def test_importing_does_nothing(tmp_path: Path) -> None:
    """A definitions module that opens a database, makes a folder or asks the network when it is merely imported."""
    root = Path(__file__).parents[2]
    env = {
        "PYTHONPATH": str(root),
        "MARKET_SPINE_HOME": str(tmp_path / "home"),
        "PATH": "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_partition_is_a_friday() -> None:
    """A Thursday that is rounded, or a key with its dimensions in another order."""
    keys = WEEKS.get_partition_keys()
    assert {date.fromisoformat(each).weekday() for each in keys} == {4}
    assert "2025-11-13" not in keys
    assert keys[0] == "2023-01-06"
    assert str(partition_key(key("2025-11-14", T1))) == "NMS_TIER_1|2025-11-14"
    assert week_key("NMS_TIER_1|2025-11-14") == key("2025-11-14", T1)
    assert week_key("2025-11-14") == WeekKey(date(2025, 11, 14), None)
    with pytest.raises(SpineError, match="Thursday"):
        week_key("OTC|2025-11-13")


def test_a_week_can_be_chosen_on_its_own_friday() -> None:
    """A week that only exists a week later, since Dagster's windows begin on the key's day."""
    with dg.partition_loading_context(effective_dt=datetime(2025, 11, 14, 1, tzinfo=UTC)):
        assert WEEKS.get_last_partition_key() == "2025-11-14"
    with dg.partition_loading_context(effective_dt=datetime(2025, 11, 13, 23, tzinfo=UTC)):
        assert WEEKS.get_last_partition_key() == "2025-11-07"


def test_dagster_refuses_a_thursday(stage: Scene) -> None:
    """A run for a day that is no week_ending."""
    with pytest.raises(dg.DagsterUnknownPartitionError), dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(
            list(assets_of(FEED)),
            selection=[dg.AssetKey(["otc", "raw"])],
            partition_key=dg.MultiPartitionKey({"week_ending": "2025-11-13", "tier": "OTC"}),
            resources={"spine": stage.spine},
            instance=instance,
        )


@pytest.mark.parametrize(
    ("first", "last"),
    [("OTC|2025-11-21", "OTC|2025-11-14"), ("OTC|2025-11-14", "NMS_TIER_1|2025-11-21")],
    ids=["weeks", "tiers"],
)
def test_a_range_that_runs_backwards_fails(stage: Scene, first: str, last: str) -> None:
    """A reversed range that selects nothing and is reported as a success."""
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(PartitionError, match="range is empty"):
        dg.materialize(
            list(assets_of(FEED)),
            selection=[dg.AssetKey(["otc", "raw"])],
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
            resources={"spine": stage.spine},
            instance=instance,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )


WEEK_KEYS = st.builds(
    lambda weeks, tier: WeekKey(date(2025, 1, 3) + timedelta(weeks=weeks), tier),
    st.integers(0, 9),
    st.sampled_from(list(Tier)),
)


def covered(first: str, last: str) -> list[WeekKey]:
    """The keys of a Dagster range of multi-partitions: every tier from one to the other, for every week between."""
    low, high = week_key(first), week_key(last)
    order = list(Tier)
    assert low.tier is not None
    assert high.tier is not None
    tiers = order[order.index(low.tier) : order.index(high.tier) + 1]
    weeks = range((high.week_ending - low.week_ending).days // 7 + 1)
    return [WeekKey(low.week_ending + timedelta(weeks=n), tier) for n in weeks for tier in tiers]


@given(st.sets(WEEK_KEYS, max_size=20))
def test_ranges_cover_exactly_the_keys(keys: set[WeekKey]) -> None:
    """A range that takes in a week nobody asked for, leaves one out, or names one twice."""
    found = [one for first, last in ranges(keys) for one in covered(first, last)]
    assert sorted(found) == sorted(keys)


@given(st.sets(st.integers(0, 30), max_size=20))
def test_ranges_of_weeks_without_tiers(numbers: set[int]) -> None:
    """As above, for tables that have no tiers; consecutive weeks are one range."""
    keys = {WeekKey(date(2025, 1, 3) + timedelta(weeks=number), None) for number in numbers}
    found = ranges(keys)
    weeks = [date.fromisoformat(end) for pair in found for end in pair]
    assert weeks == sorted(weeks)
    assert len(found) == sum(number - 1 not in numbers for number in numbers)
    total = sum((last - first).days // 7 + 1 for first, last in _pairs(weeks))
    assert total == len(keys)


def _pairs(weeks: Sequence[date]) -> list[tuple[date, date]]:
    return list(zip(weeks[::2], weeks[1::2], strict=True))
