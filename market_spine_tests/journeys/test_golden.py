"""The published example, run through the real pipeline: rows 1 to 50 of one file under three weeks.

The figures (KA numbers of the golden list) were computed apart from this code.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path

import pytest

from market_spine.assets.capture import Options
from market_spine.assets.tables import tables_of
from market_spine.domain.keys import WeekKey
from market_spine_tests.journeys.stage import T1, Named, Scene, staged

WEEKS = [WeekKey(date.fromisoformat(week), T1) for week in ("2025-12-19", "2025-12-26", "2026-01-02")]
FIFTY = Options(min_records=50)  # the example is half of the gate


pytestmark = pytest.mark.xdist_group("golden")


@pytest.fixture(scope="module")
def fifty(finra_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's file: a header and the first 50 rows."""
    sample = finra_dir / "week_2025-12-13.psv"
    if not sample.is_file():
        pytest.skip(f"{sample.name} is not among FINRA's real files ({finra_dir})")
    path = tmp_path_factory.mktemp("golden") / "example.psv"
    with sample.open() as rows:
        path.write_text("".join(islice(rows, 51)))
    return path


@pytest.fixture(scope="module")
def example(fifty: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Three runs of ingest, normalize and aggregate, then the rolling windows of the latest week only."""
    with staged(tmp_path_factory.mktemp("home")) as stage:
        loaded = stage.file(fifty)
        for week in WEEKS:
            for pipeline in ("ingest_week", "normalize_week", "aggregate_week"):
                assert loaded.run(f"finra.otc_transparency.{pipeline}", week, options=FIFTY).is_complete
        assert loaded.run("finra.otc_transparency.compute_rolling", WEEKS[-1]).is_complete
        yield loaded


def test_the_gate_refuses_fifty_rows(fifty: Path, tmp_path: Path) -> None:
    """KA-64: an override that is always on. Without it 50 rows are too few for a week."""
    with staged(tmp_path / "home") as stage:
        outcome = stage.file(fifty).run("otc.ingest_week", WEEKS[0], options=Options())
        assert "minimum_records: 50 rows" in outcome.without_capture["otc/raw"][str(WEEKS[0])]
        assert stage.counts("otc_raw") == (0,)


LATEST = "week_ending = DATE '2026-01-02'"
FIRST = "week_ending = DATE '2025-12-19'"
SUMMARY = f"SELECT {{}} FROM otc_symbol_summary WHERE {FIRST} AND symbol = '{{}}'"
SCORE = f"SELECT {{}} FROM otc_{{}} WHERE {FIRST} AND symbol = '{{}}'"
STAGE_ROWS = (
    "SELECT row_count FROM core_manifest WHERE is_current = 1 AND week_ending = DATE '2025-12-19' AND table_name = '{}'"
)
ROLLING = (
    f"SELECT mean_volume, weeks_in_window, is_complete FROM otc_symbol_rolling_6w WHERE {LATEST} AND symbol = '{{}}'"
)
KNOWN = {
    "KA-01 shares of A": (SUMMARY.format("total_volume", "A"), [(3_827_870,)]),
    "KA-02 trades of A": (SUMMARY.format("total_trades", "A"), [(64_427,)]),
    "KA-03 venues of A": (SUMMARY.format("venue_count", "A"), [(29,)]),
    "KA-04 trade size of A": (SCORE.format("avg_trade_size", "liquidity_score", "A"), [(59.41,)]),
    "KA-05 score of A": (SCORE.format("liquidity_score", "liquidity_score", "A"), [(1722.89,)]),
    "KA-05 exact score of A": (SCORE.format("round(liquidity_score, 2)", "liquidity_score_v2", "A"), [(1723.01,)]),
    "KA-06 shares of AA": (SUMMARY.format("total_volume", "AA"), [(3_110_306,)]),
    "KA-07 trades of AA": (SUMMARY.format("total_trades", "AA"), [(36_056,)]),
    "KA-08 venues of AA": (SUMMARY.format("venue_count", "AA"), [(21,)]),
    "KA-09 trade size of AA": (SCORE.format("avg_trade_size", "liquidity_score", "AA"), [(86.26,)]),
    "KA-10 score of AA": (SCORE.format("liquidity_score", "liquidity_score", "AA"), [(1811.46,)]),
    "KA-10 exact score of AA": (SCORE.format("round(liquidity_score, 2)", "liquidity_score_v2", "AA"), [(1811.53,)]),
    "KA-11 volume of a week": (f"SELECT sum(total_volume) FROM otc_symbol_summary WHERE {FIRST}", [(6_938_176,)]),
    "KA-12 trades of a week": (f"SELECT sum(total_trades) FROM otc_symbol_summary WHERE {FIRST}", [(100_483,)]),
    "KA-13 symbols": ("SELECT DISTINCT symbol FROM otc_symbol_summary ORDER BY ALL", [("A",), ("AA",)]),
    "KA-14 raw rows": ("SELECT week_ending, count(*) FROM otc_raw GROUP BY ALL ORDER BY ALL", [
        (date(2025, 12, 19), 50), (date(2025, 12, 26), 50), (date(2026, 1, 2), 50)
    ]),
    "KA-15 venue volumes": ("SELECT count(*), max(row_count) FROM otc_venue_volume", [(150, 1)]),
    "KA-16 summaries": ("SELECT count(*) FROM otc_symbol_summary", [(6,)]),
    "KA-17 venue shares": ("SELECT count(*) FROM otc_venue_share", [(90,)]),
    "KA-17 shares of symbols": ("SELECT count(*) FROM otc_symbol_venue_share", [(150,)]),
    "KA-18 rolling rows": ("SELECT count(*), count(DISTINCT week_ending) FROM otc_symbol_rolling_6w", [(2, 1)]),
    "KA-19 scores": ("SELECT count(*) FROM otc_liquidity_score", [(6,)]),
    "KA-20 rolling A": (ROLLING.format("A"), [(3_827_870, 3, False)]),
    "KA-21 rolling AA": (ROLLING.format("AA"), [(3_110_306, 3, False)]),
    "KA-22 AA before A": (
        f"SELECT symbol FROM otc_liquidity_score WHERE {FIRST} ORDER BY liquidity_score DESC", [("AA",), ("A",)]
    ),
    "KA-23 manifest raw": (STAGE_ROWS.format("otc_raw"), [(50,)]),
    "KA-23 manifest normalized": (STAGE_ROWS.format("otc_venue_volume"), [(50,)]),
    "KA-23 manifest aggregated": (STAGE_ROWS.format("otc_symbol_summary"), [(2,)]),
    "KA-24 stage completions, not 11": ("SELECT count(*) FROM core_stage_completions", [(10,)]),
    "KA-24 by stage": ("SELECT stage, count(*) FROM core_stage_completions GROUP BY ALL ORDER BY ALL", [
        ("AGGREGATED", 3), ("INGESTED", 3), ("NORMALIZED", 3), ("ROLLING", 1)
    ]),
    "KA-26 rejects": ("SELECT count(*) FROM core_rejects", [(0,)]),
    "KA-33 concentration": (
        f"SELECT symbol, round(hhi, 6), top_venue_mpid, round(top_venue_share, 6) FROM otc_symbol_hhi WHERE {FIRST}"
        " ORDER BY symbol",
        [("A", 0.082148, "UBSA", 0.144286), ("AA", 0.138893, "INCR", 0.303087)],
    ),
    "KA-34 leading venues": (
        f"SELECT mpid, round(venue_share, 6) FROM otc_venue_share WHERE {FIRST} AND venue_rank <= 5"
        " ORDER BY venue_rank",
        [("INCR", 0.212993), ("MSPL", 0.103471), ("EBXL", 0.082791), ("UBSA", 0.079604), ("MLIX", 0.064629)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("known", KNOWN)
def test_golden(example: Scene, known: str) -> None:
    """A figure that is right in a unit test and wrong after landing, capture, calculation and publication."""
    query, answer = KNOWN[known]
    assert example.sql(query) == answer


def test_golden_weeks_come_from_the_caller(example: Scene) -> None:
    """The file's own label (a Saturday in 2025-12-13's week) winning over the override."""
    found = example.sql("SELECT DISTINCT week_source, action FROM core_deliveries WHERE domain LIKE 'finra%'")
    assert found == [("caller", "inserted")]


def test_golden_batches_trace_the_runs(example: Scene) -> None:
    """KA-25: rows that cannot be traced to the run that wrote them."""
    (written,) = example.sql("SELECT list(DISTINCT execution_id) FROM core_manifest")
    assert set(written[0]) <= set(example.runs)
    assert example.sql("SELECT count(*) FROM otc_raw WHERE execution_id IS NULL OR batch_id IS NULL") == [(0,)]


def test_golden_backfill(fifty: Path, tmp_path: Path, example: Scene) -> None:
    """KA-27: a range run that gives other rows than one run per week, or rolling windows of every week.

    One run refuses the same bytes for two partitions, so each week's copy ends its lines in another way.
    """
    data = fifty.read_bytes()
    forms = (data, data.removesuffix(b"\n"), data.replace(b"\n", b"\r\n"))
    files = {week: tmp_path / f"{week.week_ending}.psv" for week in WEEKS}
    for week, form in zip(WEEKS, forms, strict=True):
        files[week].write_bytes(form)
    with staged(tmp_path / "home", Named(files)) as stage:
        outcome = stage.run("finra.otc_transparency.backfill_range", *WEEKS, options=FIFTY)
        assert (outcome.failures, outcome.without_capture) == ([], {})
        for table in tables_of(stage.feed):
            hashes = "SELECT week_ending, tier, content_hash FROM core_manifest WHERE table_name = ? ORDER BY ALL"
            assert stage.sql(hashes, table) == example.sql(hashes, table), table
