"""The two recipes of CONTRIBUTING.md, carried out on a copy: one file is a calculation, one folder is a feed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

CALCULATION = '''"""venue_reach: in how many stocks a venue traded. Grain: (week_ending, tier, mpid)."""

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import MPID, TIER, WEEK_ENDING, Calculation, Column, Table
from market_spine.domain.invariants import one_row_per, rows_of

CALCULATION = Calculation(
    table=Table(
        name="venue_reach",
        stage=Stage.AGGREGATED,
        grain=("week_ending", "tier", "mpid"),
        description="In how many stocks a venue traded in a week.",
        columns=(WEEK_ENDING, TIER, MPID, Column("symbol_count", "INTEGER", "Stocks that the venue traded", ge=0)),
    ),
    version="1.0",
    inputs=("venue_volume",),
    sql="""
        SELECT week_ending, tier, mpid, CAST(count(DISTINCT nullif(symbol, '')) AS INTEGER) AS symbol_count
        FROM venue_volume GROUP BY week_ending, tier, mpid""",
    invariants=(one_row_per("venue_reach", "venue", expected=rows_of("venue_volume", distinct="mpid")),),
    expected_rows="one per venue",
)
'''

FEED = '''"""A second weekly feed of the same shape: what is true of it only."""

from dataclasses import replace

from market_spine.feeds.otc import OTC

FEED = replace(OTC, name="other", domain="finra.other", title="Another feed", long_prefix="finra_other", code="")
'''

LOOK = """
import json, sys, warnings
from datetime import UTC, date, datetime
from pathlib import Path
warnings.simplefilter("ignore")
import dagster as dg, duckdb
import market_spine
from market_spine.assets.capture import Options
from market_spine.automation import launch, pipelines
from market_spine.definitions import FEEDS, build_defs
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.settings import Settings, build_spine

home = Path(sys.argv[1])
spine = build_spine(Settings(home=home, source="synthetic:scale=0.05"), clock=lambda: datetime(2026, 1, 5, tzinfo=UTC))
definitions = build_defs(spine)
dg.Definitions.validate_loadable(definitions)
complete = []
with dg.DagsterInstance.ephemeral() as instance:
    for feed in FEEDS:
        _, pipeline = pipelines.find(FEEDS, f"{feed.domain}.weekly_refresh")
        plan = launch.launches(feed, pipeline.tables, [WeekKey(date(2025, 11, 14), Tier.OTC)])
        outcome = launch.run(spine, feed, plan, instance, Options(min_records=1), log_level="CRITICAL")
        complete.append(outcome.is_complete)
nodes = {node.key.to_user_string(): node for node in definitions.resolve_asset_graph().asset_nodes}
with duckdb.connect(str(home / "market_spine.duckdb"), read_only=True) as published:
    views = [row[0] for row in published.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()]
    rows = {view: published.execute(f"SELECT count(*) FROM {view}").fetchone()[0] for view in views}
    functions = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal"
    macros = [row[0] for row in published.execute(functions).fetchall()]
    edges = published.execute("SELECT table_name, depends_on_table FROM core_calc_dependencies").fetchall()
print(json.dumps({
    "file": market_spine.__file__,
    "complete": complete,
    "assets": {
        name: {
            "checks": sorted(check.name for check in node.check_keys),
            "lineage": {
                column: sorted(f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps)
                for column, deps in node.metadata["dagster/column_lineage"].deps_by_column.items()
            } if "dagster/column_lineage" in node.metadata else {},
        }
        for name, node in nodes.items()
    },
    "jobs": sorted(job.name for job in definitions.resolve_all_job_defs()),
    "rows": rows,
    "macros": macros,
    "edges": edges,
}))
"""


def look(folder: Path) -> dict[str, Any]:
    """What the copy in ``folder`` defines, and what a week of it gives."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MARKET_SPINE_", "DAGSTER_"))}
    env |= {"PYTHONPATH": str(folder), "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(folder / "home")],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["file"]).is_relative_to(folder), "the copy is what was looked at"
    assert all(found["complete"])
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package, to be extended."""
    shutil.copytree(ROOT / "market_spine", tmp_path / "market_spine", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.extended
def test_a_calculation_is_one_file(copy: Path) -> None:
    """A second place that must be touched: a list, a migration, a view, a check."""
    (copy / "market_spine/domain/calculations/venue_reach.py").write_text(CALCULATION)
    found = look(copy)
    asset = found["assets"]["otc/venue_reach"]
    assert asset["checks"] == ["captured", "row_count", "schema", "unique_grain"]
    assert asset["lineage"]["symbol_count"] == ["otc/venue_volume.symbol"]
    assert found["rows"]["otc_venue_reach"] == found["rows"]["otc_venue_share"] > 0
    assert {"otc_venue_reach_asof", "otc_venue_reach_first_release", "otc_venue_reach_revisions"} <= {*found["macros"]}
    assert ["otc_venue_reach", "otc_venue_volume"] in found["edges"]


@pytest.mark.slow
def test_a_feed_is_one_folder(copy: Path) -> None:
    """A second feed that shares a table, a capture, a job or the published file with the first."""
    (copy / "market_spine/feeds/other").mkdir()
    (copy / "market_spine/feeds/other/__init__.py").write_text(FEED)
    for name in ("schedules.yaml", "readiness.yaml"):
        policy = (copy / "market_spine/feeds/otc" / name).read_text()
        (copy / "market_spine/feeds/other" / name).write_text(policy.replace("finra.otc_transparency", "finra.other"))
    found = look(copy)
    first = {name for name in found["assets"] if name.startswith("otc/")}
    second = {name for name in found["assets"] if name.startswith("other/")}
    assert {name.replace("otc/", "other/") for name in first} == second
    assert len(first | second) + 1 == len(found["assets"]), "they share the calendar only"
    assert {"otc_weekly_refresh", "other_weekly_refresh"} <= {*found["jobs"]}
    for short in ("raw", "symbol_summary", "symbol_rolling_6w"):
        assert found["rows"][f"otc_{short}"] == found["rows"][f"other_{short}"] > 0
    assert found["rows"]["finra_other_venue_volume"] > 0
    tables = {table for table, _ in found["edges"]}
    assert {"otc_venue_share", "other_venue_share"} <= tables
