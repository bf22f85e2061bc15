"""Figures of FINRA's real files, computed apart from this code (KA numbers of the golden list).

The published example cuts its files after 50 rows, in the middle of AA: its figures hold for those rows only.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from market_spine_tests.domain import calculation_lab as lab

T1 = "NMS_TIER_1"
WEEKS = (date(2025, 12, 19), date(2025, 12, 26), date(2026, 1, 2))  # the example's labels; content is the same thrice
SAMPLES = ("week_2025-12-13.psv", "week_2025-12-20.psv", "week_2025-12-27.psv")


def need(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        pytest.skip(f"{name} is not among FINRA's real files ({folder})")
    return folder / name


def load(con: duckdb.DuckDBPyConnection, weeks: dict[date, tuple[Path, int]]) -> None:
    """venue_volume from the first rows of sample files, under the given weeks."""
    parts = [
        f"""SELECT DATE '{week}' AS week_ending, '{T1}' AS tier, Symbol AS symbol, MPID AS mpid,
            CAST(TotalShares AS DECIMAL(20,6)) AS total_shares, CAST(TotalTrades AS BIGINT) AS total_trades,
            1 AS row_count
        FROM (FROM read_csv('{path}', all_varchar = true, delim = '|', quote = '') LIMIT {rows})"""
        for week, (path, rows) in weeks.items()
    ]
    lab.put(con, "venue_volume", " UNION ALL ".join(parts))
    lab.put_calendar(con)
    lab.fill(con)


@pytest.fixture(scope="module")
def example(finra_dir: Path) -> duckdb.DuckDBPyConnection:
    """The published example: the first 50 rows of one file, loaded as three weeks."""
    con = lab.connect()
    load(con, dict.fromkeys(WEEKS, (need(finra_dir, SAMPLES[0]), 50)))
    return con


def one(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    (row,) = con.execute(sql).fetchall()
    return tuple(row)


@pytest.mark.parametrize(
    ("symbol", "volume", "trades", "venues", "size", "score"),
    [("A", 3_827_870, 64_427, 29, 59.41, 1722.89), ("AA", 3_110_306, 36_056, 21, 86.26, 1811.46)],
)
def test_example_scores(
    example: duckdb.DuckDBPyConnection, symbol: str, volume: int, trades: int, venues: int, size: float, score: float
) -> None:
    """KA-01 to KA-10: a score without rounding first (1723.01, 1811.53), a volume that counts a venue twice."""
    where = f"symbol = '{symbol}' AND week_ending = DATE '{WEEKS[0]}'"
    found = one(example, f"SELECT total_volume, total_trades, venue_count FROM store.symbol_summary WHERE {where}")
    assert found == (volume, trades, venues)
    found = one(example, f"SELECT avg_trade_size, liquidity_score FROM store.liquidity_score WHERE {where}")
    assert found == (size, score)
    exact = one(example, f"SELECT round(liquidity_score, 2) FROM store.liquidity_score_v2 WHERE {where}")
    assert exact == ({"A": 1723.01, "AA": 1811.53}[symbol],)


def test_example_week(example: duckdb.DuckDBPyConnection) -> None:
    """KA-11, KA-12: totals of a week from the shares of its venues."""
    found = one(example, f"SELECT total_volume, total_trades FROM store.tier_split WHERE week_ending = '{WEEKS[0]}'")
    assert found == (6_938_176, 100_483)


def test_example_row_counts(example: duckdb.DuckDBPyConnection) -> None:
    """KA-13 to KA-19: shares per tier (90) taken for shares per symbol (150), rolling rows of all weeks."""
    counts = {name: one(example, f"SELECT count(*) FROM store.{name}")[0] for name in lab.CALCULATIONS}
    assert counts["symbol_summary"] == counts["liquidity_score"] == 6
    assert (counts["venue_share"], counts["symbol_venue_share"]) == (90, 150)
    lab.ask(example, lab.CALCULATIONS["symbol_rolling_6w"], [(WEEKS[2], T1)])
    assert one(example, "SELECT count(*) FROM symbol_rolling_6w") == (2,)


@pytest.mark.parametrize(("symbol", "mean"), [("A", 3_827_870), ("AA", 3_110_306)])
def test_example_rolling(example: duckdb.DuckDBPyConnection, symbol: str, mean: int) -> None:
    """KA-20, KA-21: three identical weeks; the window is partial and says so, and a level line has no trend."""
    found = one(
        example,
        "SELECT mean_volume, min_volume, max_volume, weeks_in_window, is_complete, trend_direction, trend_pct"
        f" FROM store.symbol_rolling_6w WHERE symbol = '{symbol}' AND week_ending = DATE '{WEEKS[2]}'",
    )
    assert found == (mean, mean, mean, 3, False, "FLAT", 0.0)


def test_example_concentration(example: duckdb.DuckDBPyConnection) -> None:
    """KA-33: an index of all rows instead of a symbol's, shares in percent, another leader."""
    where = f"week_ending = DATE '{WEEKS[0]}' ORDER BY symbol"
    found = example.execute(
        f"SELECT symbol, round(hhi, 6), top_venue_mpid, round(top_venue_share, 6) FROM store.symbol_hhi WHERE {where}"
    ).fetchall()
    assert found == [("A", 0.082148, "UBSA", 0.144286), ("AA", 0.138893, "INCR", 0.303087)]


def test_example_venue_shares(example: duckdb.DuckDBPyConnection) -> None:
    """KA-34: shares of symbols instead of the tier's, ranks upside down."""
    found = example.execute(
        "SELECT mpid, round(venue_share, 6) FROM store.venue_share"
        f" WHERE week_ending = DATE '{WEEKS[0]}' AND venue_rank <= 5 ORDER BY venue_rank"
    ).fetchall()
    shares = [("INCR", 0.212993), ("MSPL", 0.103471), ("EBXL", 0.082791), ("UBSA", 0.079604), ("MLIX", 0.064629)]
    assert found == shares


def test_hundred_rows(finra_dir: Path) -> None:
    """KA-30, KA-33 over 100 rows, where AA and AAAU are whole."""
    con = lab.connect()
    load(con, {WEEKS[0]: (need(finra_dir, SAMPLES[0]), 100)})
    found = con.execute(
        "SELECT symbol, total_volume, total_trades, s.venue_count, round(avg_trade_size, 4), round(hhi, 6)"
        " FROM store.symbol_summary s JOIN store.symbol_hhi USING (symbol)"
        " WHERE symbol IN ('AA', 'AAAU') ORDER BY symbol"
    ).fetchall()
    assert found == [
        ("AA", 4_983_272, 61_579, 28, 80.9249, 0.096807),
        ("AAAU", 379_856, 1_778, 20, 213.6423, 0.141426),
    ]


# KA-30, KA-31, KA-32: weekly volumes of the three samples. KA-35: what follows from them.
VOLUMES = {
    "A": (3_827_870, 3_501_322, 3_009_601),
    "AA": (4_983_272, 7_454_856, 9_500_867),
    "AAAU": (379_856, 412_882, 378_195),
}
ROLLING = {
    "A": (3_446_264.33, 3_009_601, 3_827_870, "DOWN", -21.38),
    "AA": (7_312_998.33, 4_983_272, 9_500_867, "UP", 90.66),
    "AAAU": (390_311.0, 378_195, 412_882, "FLAT", -0.44),
}


def check_rolling(con: duckdb.DuckDBPyConnection) -> None:
    """The rolling rows of the last of three weeks."""
    found = con.execute(
        "SELECT symbol, round(mean_volume, 2), min_volume, max_volume, trend_direction, round(trend_pct, 2)"
        f" FROM store.symbol_rolling_6w WHERE week_ending = DATE '{WEEKS[2]}' AND symbol IN ('A', 'AA', 'AAAU')"
        " ORDER BY symbol"
    ).fetchall()
    assert found == [(symbol, *figures) for symbol, figures in ROLLING.items()]


def test_rolling_of_three_different_weeks() -> None:
    """KA-35 from the weekly volumes alone: a trend against the mean, or between other weeks than first and last."""
    con = lab.connect()
    lab.put_rows(
        con,
        {
            (week, T1, symbol, "VEN1"): (Decimal(volume), 1)
            for symbol, volumes in VOLUMES.items()
            for week, volume in zip(WEEKS, volumes, strict=True)
        },
    )
    lab.fill(con, "symbol_rolling_6w")
    check_rolling(con)


def test_rolling_of_the_real_files(finra_dir: Path) -> None:
    """KA-35 from the files themselves."""
    con = lab.connect()
    load(con, {week: (need(finra_dir, name), 100) for week, name in zip(WEEKS, SAMPLES, strict=True)})
    check_rolling(con)


@pytest.mark.parametrize(
    ("stamp", "rows", "shares", "trades", "symbols", "otcn", "single_venue"),
    [
        ("20251215", 5_328, 1_335_995_901, 472_776, 3_111, 0.821884, 1_625),
        ("20251222", 5_192, 943_802_893, 497_191, 2_985, 0.809065, None),
        ("20251229", 4_655, 997_402_636, 309_889, 2_714, None, None),
    ],
)
def test_otc_files(
    finra_dir: Path,
    stamp: str,
    rows: int,
    shares: int,
    trades: int,
    symbols: int,
    otcn: float | None,
    single_venue: int | None,
) -> None:
    """KA-36 to KA-38: a whole real file, with its rows of one venue and its row without a symbol."""
    path = need(finra_dir, f"finra_otc_weekly_otc_{stamp}.csv")
    con = lab.connect()
    lab.put(
        con,
        "venue_volume",
        f"""SELECT DATE '2025-11-14' AS week_ending, 'OTC' AS tier, coalesce(issueSymbolIdentifier, '') AS symbol,
            MPID AS mpid, CAST(totalWeeklyShareQuantity AS DECIMAL(20,6)) AS total_shares,
            CAST(totalWeeklyTradeCount AS BIGINT) AS total_trades, 1 AS row_count
        FROM read_csv('{path}', all_varchar = true, delim = '|', quote = '')""",
    )
    lab.put_calendar(con)
    lab.fill(con)
    assert one(con, "SELECT count(*) FROM store.venue_volume") == (rows,)
    assert one(con, "SELECT total_volume, total_trades FROM store.tier_split") == (shares, trades)
    assert one(con, "SELECT count(*) FROM store.symbol_summary") == (symbols,)
    if otcn is not None:
        sql = "SELECT round(venue_share, 6) FROM store.venue_share WHERE mpid = 'OTCN' AND venue_rank = 1"
        assert one(con, sql) == (otcn,)
        assert one(con, "SELECT count(*) FROM store.venue_share") == (9,)
    if single_venue is not None:
        assert one(con, "SELECT count(*) FROM store.symbol_hhi WHERE hhi = 1") == (single_venue,)
