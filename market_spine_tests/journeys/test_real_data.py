"""FINRA's real files through the whole pipeline; figures computed apart from this code (KA numbers)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from market_spine.assets.capture import Options
from market_spine.assets.tables import tables_of
from market_spine.domain.captures import View
from market_spine.feeds.otc import FEED
from market_spine.sources.files import FileSource
from market_spine_tests.domain import calculation_lab as lab
from market_spine_tests.journeys.stage import OTC, T1, Clock, Named, Scene, key, put, staged

pytestmark = pytest.mark.xdist_group("real")  # one store for all

WEEKS = {key("2025-11-14"): "finra_otc_weekly_otc_20251215.csv", key("2025-11-21"): "finra_otc_weekly_otc_20251222.csv"}
SAMPLES = {key("2025-11-28", T1): "week_2025-12-13.psv", key("2025-12-05", T1): "week_2025-12-20.psv"}
BOTH_TIERS = key("2025-11-21", T1)
HUNDRED = Options(min_records=100)


@pytest.fixture(scope="module")
def files(finra_dir: Path) -> Path:
    missing = [name for name in (*WEEKS.values(), *SAMPLES.values()) if not (finra_dir / name).is_file()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not among FINRA's real files ({finra_dir})")
    return finra_dir


@pytest.fixture(scope="module")
def real(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two weeks of OTC under their own names, two Tier 1 samples under the weeks that the caller names."""
    with staged(tmp_path_factory.mktemp("home"), f"file:{files}") as stage:
        stage.refresh(*WEEKS, options=HUNDRED)
        again = stage.file(files / SAMPLES[key("2025-12-05", T1)])
        again.refresh(BOTH_TIERS, options=HUNDRED)
        named = stage.source(Named({week: files / name for week, name in SAMPLES.items()}))
        named.refresh(*SAMPLES, options=HUNDRED)
        yield stage


def test_real_data_files_exist(files: Path) -> None:
    """F276: tests that pass because a file is empty or cut."""
    for name in WEEKS.values():
        assert (files / name).stat().st_size > 500_000
    for name in SAMPLES.values():
        assert len((files / name).read_text().splitlines()) == 101


END_TO_END = {
    "KA-36 rows": (
        "SELECT count(*), sum(total_shares), sum(total_trades), count(DISTINCT symbol), count(DISTINCT mpid)"
        " FROM otc_raw WHERE week_ending = DATE '2025-11-14'",
        [(5_328, 1_335_995_901, 472_776, 3_111, 9)],
    ),
    "KA-36 leader": (
        "SELECT mpid, round(venue_share, 6) FROM otc_venue_share WHERE week_ending = DATE '2025-11-14'"
        " AND venue_rank = 1",
        [("OTCN", 0.821884)],
    ),
    "KA-36 stocks on one venue": (
        "SELECT count(*) FROM otc_symbol_hhi WHERE week_ending = DATE '2025-11-14' AND hhi = 1",
        [(1_625,)],
    ),
    "KA-37 rows": (
        "SELECT count(*), sum(total_shares), sum(total_trades), count(DISTINCT symbol), count(DISTINCT mpid)"
        " FROM otc_raw WHERE week_ending = DATE '2025-11-21' AND tier = 'OTC'",
        [(5_192, 943_802_893, 497_191, 2_985, 9)],
    ),
    "KA-37 leader": (
        "SELECT mpid, round(venue_share, 6) FROM otc_venue_share WHERE week_ending = DATE '2025-11-21'"
        " AND tier = 'OTC' AND venue_rank = 1",
        [("OTCN", 0.809065)],
    ),
    "KA-30": (
        "SELECT symbol, total_volume, total_trades, venue_count FROM otc_symbol_summary"
        " WHERE week_ending = DATE '2025-11-28' ORDER BY symbol",
        [
            ("A", 3_827_870, 64_427, 29),
            ("AA", 4_983_272, 61_579, 28),
            ("AAAU", 379_856, 1_778, 20),
            ("AAL", 12_862_667, 58_816, 23),
        ],
    ),
    "KA-30 total": (
        "SELECT total_volume, total_trades FROM otc_tier_split WHERE week_ending = DATE '2025-11-28'",
        [(22_053_665, 186_600)],
    ),
    "KA-31": (
        "SELECT symbol, total_volume, total_trades, venue_count FROM otc_symbol_summary"
        " WHERE week_ending = DATE '2025-12-05' ORDER BY symbol",
        [
            ("A", 3_501_322, 60_622, 27),
            ("AA", 7_454_856, 97_371, 30),
            ("AAAU", 412_882, 1_672, 21),
            ("AAL", 18_276_322, 81_425, 22),
        ],
    ),
    "KA-31 total": (
        "SELECT total_volume, total_trades FROM otc_tier_split WHERE week_ending = DATE '2025-12-05'",
        [(29_645_382, 241_090)],
    ),
    "KA-33": (
        "SELECT symbol, round(hhi, 6) FROM otc_symbol_hhi WHERE week_ending = DATE '2025-11-28'"
        " AND symbol IN ('A', 'AA', 'AAAU') ORDER BY symbol",
        [("A", 0.082148), ("AA", 0.096807), ("AAAU", 0.141426)],
    ),
    "KA-36 and KA-37 nothing set aside": ("SELECT count(*) FROM core_rejects", [(0,)]),
    "weeks of the files": (
        "SELECT week_ending, tier, week_source FROM core_deliveries WHERE domain LIKE 'finra%' ORDER BY ALL",
        [
            (key("2025-11-14").week_ending, "OTC", "publication_date"),
            (key("2025-11-21").week_ending, "NMS_TIER_1", "caller"),
            (key("2025-11-21").week_ending, "OTC", "publication_date"),
            (key("2025-11-28").week_ending, "NMS_TIER_1", "caller"),
            (key("2025-12-05").week_ending, "NMS_TIER_1", "caller"),
        ],
    ),
    "tiers that are there": (
        "SELECT week_ending, tiers_present, is_complete, round(sum(volume_share), 9) FROM otc_tier_split"
        " GROUP BY ALL ORDER BY ALL",
        [
            (key("2025-11-14").week_ending, 1, False, 1.0),
            (key("2025-11-21").week_ending, 2, False, 1.0),
            (key("2025-11-28").week_ending, 1, False, 1.0),
            (key("2025-12-05").week_ending, 1, False, 1.0),
        ],
    ),
    "tier split of two tiers": (
        "SELECT tier, total_volume, total_trades FROM otc_tier_split WHERE week_ending = DATE '2025-11-21' ORDER BY 1",
        [("NMS_TIER_1", 29_645_382, 241_090), ("OTC", 943_802_893, 497_191)],
    ),
}


@pytest.mark.parametrize("known", END_TO_END)
def test_end_to_end_real_analytics(real: Scene, known: str) -> None:
    """F277: a figure that is lost or doubled between the file and the published relation."""
    query, answer = END_TO_END[known]
    assert real.sql(query) == answer


def test_samples_need_their_week_named(files: Path, tmp_path: Path) -> None:
    """A file whose name and label (a Saturday) say nothing usable, loaded under a guessed week."""
    week = next(iter(SAMPLES))
    with staged(tmp_path / "home", f"file:{files}") as stage:
        outcome = stage.run("otc.ingest_week", week)
        assert outcome.without_capture["otc/raw"][str(week)].startswith("no_rows: no file below")
        problems = FileSource(files).inventory(FEED, stage.clock()).problems
        assert {Path(problem.name).name for problem in problems} >= set(SAMPLES.values())
        assert all("--week-ending" in problem.override for problem in problems)
        put(tmp_path / "declared", week, (files / SAMPLES[week]).read_bytes())
        declared = stage.source(FileSource(tmp_path / "declared"))
        assert not declared.run("otc.ingest_week", week).is_complete
        assert {reason for _, reason, _ in declared.rejects()} == {"WRONG_WEEK"}
        assert stage.counts("otc_raw", "core_rejects") == (0, 100)


def test_venue_share_invariants(real: Scene) -> None:
    """F279: shares that do not add up to 1, of a symbol or of a tier."""
    for query in (
        "SELECT max(abs(total - 1)), count(*) FROM (SELECT sum(venue_share) AS total FROM otc_symbol_venue_share"
        " GROUP BY week_ending, tier, symbol)",
        "SELECT max(abs(total - 1)), count(*) FROM (SELECT sum(venue_share) AS total FROM otc_venue_share"
        " GROUP BY week_ending, tier)",
    ):
        worst, groups = real.one(query)
        assert worst < 1e-9
        assert groups >= 5
    assert real.counts("otc_symbol_venue_share", where="venue_share <= 0 OR venue_share > 1") == (0,)


def test_hhi_bounds(real: Scene) -> None:
    """F280: an index outside 1/n .. 1, or one that disagrees with the shares it is made from."""
    query = """
        SELECT count(*), count(*) FILTER (hhi > 1 + 1e-12 OR hhi < 1.0 / venue_count - 1e-12),
               max(abs(hhi - again)), max(abs(effective_venues - 1 / hhi))
        FROM otc_symbol_hhi JOIN (SELECT week_ending, tier, symbol, sum(venue_share ** 2) AS again
            FROM otc_symbol_venue_share GROUP BY ALL) USING (week_ending, tier, symbol)"""
    rows, outside, off, effective = real.one(query)
    assert rows == 3_111 + 2_985 + 3 * 4
    assert (outside, off < 1e-12, effective < 1e-9) == (0, True, True)


def test_idempotency_and_asof(files: Path, tmp_path: Path) -> None:
    """F278: rows that double when a week is loaded again, an as-of that mixes two captures."""
    week, name = next(iter(WEEKS.items()))
    with staged(tmp_path / "home", clock=Clock(datetime(2025, 12, 16, 12, tzinfo=UTC))) as home:
        stage = home.file(files / name)
        stage.refresh(week)
        stage.clock.forward(days=1)
        stage.refresh(week)
        assert len(stage.captures("raw")) == 1
        assert stage.counts("otc_raw", "otc_raw_revisions()") == (5_328, 5_328)
        stage.clock.forward(days=1)
        other = stage.file(files / list(WEEKS.values())[1])  # another real file in the place of a restatement
        other.refresh(week)
        old, new = stage.captures("raw")
        both = stage.counts("otc_raw", "otc_raw_revisions()", "otc_raw_first_release()")
        assert both == (5_192, 5_328 + 5_192, 5_328)
        for table in ("raw", "venue_volume", "symbol_summary", "symbol_hhi", "symbol_rolling_6w"):
            first, second = stage.captures(table)
            for moment, wanted in (
                ("2025-12-15", None),
                ("2025-12-16", first),
                ("2025-12-17", first),
                ("2025-12-18", second),
            ):
                counted = stage.counts(f"otc_{table}_asof('{moment}T23:59:59Z')")
                assert counted == (wanted.row_count if wanted else 0,), (table, moment)
        for one in (old, new):
            query = f"SELECT count(*) FROM otc_raw_revisions() WHERE capture_id = '{one.capture_id}'"
            assert stage.one(query) == (one.row_count,)


@pytest.mark.extended
def test_determinism(real: Scene, files: Path, tmp_path: Path) -> None:
    """F297: content that depends on the run, the order of weeks, the threads or the machine's clock."""
    with staged(tmp_path / "home", f"file:{files}", Clock(datetime(2026, 3, 2, 7, 30, 5, 123, tzinfo=UTC))) as stage:
        other = stage.source(Named({week: files / name for week, name in reversed([*WEEKS.items(), *SAMPLES.items()])}))
        other.refresh(*SAMPLES, options=HUNDRED)
        for week in reversed(WEEKS):
            other.refresh(week, options=HUNDRED)
        stage.file(files / SAMPLES[key("2025-12-05", T1)]).refresh(BOTH_TIERS, options=HUNDRED)
        stage.run("otc.compute_rolling", *WEEKS, *SAMPLES, BOTH_TIERS)
        hashes = (
            "SELECT table_name, week_ending, tier, content_hash, row_count FROM core_manifest"
            " WHERE is_current = 1 ORDER BY ALL"
        )
        one, two = real.sql(hashes), stage.sql(hashes)
        assert one == two
        assert len({table for table, *_ in one}) == len(tables_of(FEED))
        audit = "SELECT DISTINCT captured_at, execution_id FROM core_manifest"
        assert not set(real.sql(audit)) & set(stage.sql(audit))


def test_purity(real: Scene, tmp_path: Path) -> None:
    """F298: a calculation that needs the platform: each gives the same rows on a bare DuckDB.

    The import contracts hold the other half (`test_house.py` runs them): the domain imports no engine.
    """
    con = lab.connect()
    for table, name in (("venue_volume", "otc_venue_volume"), ("trading_calendar", "reference_trading_calendar")):
        columns = ", ".join(lab.TABLES[table])
        path = tmp_path / f"{table}.parquet"
        real.shown.at(real).execute(f"COPY (SELECT {columns} FROM {name}) TO '{path}'")
        lab.put(con, table, f"SELECT * FROM '{path}'")
    lab.fill(con)
    for name, calculation in lab.CALCULATIONS.items():
        assert rows(con, f"store.{name}", calculation) == rows(real.shown.at(real), f"otc_{name}", calculation), name
    con.close()


def rows(con: duckdb.DuckDBPyConnection, relation: str, calculation: Any) -> list[Any]:
    columns = ", ".join(column.name for column in calculation.table.columns)
    found = con.execute(f"SELECT {columns} FROM {relation} ORDER BY ALL").fetchall()
    assert found
    return found


def test_a_run_in_ascending_order_leaves_nothing_stale(real: Scene) -> None:
    """Two tiers of one week loaded in two runs: the tier split of the first is out of date."""
    assert real.stale() == []
    assert {one.tier for one in real.captures("raw", View.LATEST)} == {OTC, T1}
