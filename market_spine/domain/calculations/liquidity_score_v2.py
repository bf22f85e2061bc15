"""liquidity_score_v2: average trade size times number of venues, exact (version 2).

Grain: (week_ending, tier, symbol). ``total_volume x venue_count / total_trades``, one quotient of exact numbers,
without the rounding of version 1. It supersedes `liquidity_score` and runs beside it, so that users can compare.

Caveats
* Scores differ from version 1 by at most 0.005 x venue_count (0.15 with 30 venues): 1723.01 against 1722.89 and
  1811.53 against 1811.46 in the published example. Symbols may change places in a ranking.
* Otherwise as version 1: a ranking aid without a unit, NULL where nothing traded.
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import SYMBOL, TIER, WEEK_ENDING, Calculation, Column, Table
from market_spine.domain.invariants import equal_per_partition, one_row_per, rows_of, total_of

CALCULATION = Calculation(
    table=Table(
        name="liquidity_score_v2",
        stage=Stage.AGGREGATED,
        grain=("week_ending", "tier", "symbol"),
        description="Liquidity score of each symbol: exact average trade size times venues.",
        columns=(
            WEEK_ENDING,
            TIER,
            SYMBOL,
            Column("total_volume", "DECIMAL(24,6)", "Shares traded in the symbol on all venues", ge=0),
            Column("venue_count", "INTEGER", "Venues that reported the symbol", ge=1),
            Column("avg_trade_size", "DOUBLE", "Shares per trade; NULL without trades", nullable=True, ge=0),
            Column(
                "liquidity_score", "DOUBLE", "avg_trade_size x venue_count; NULL without trades", nullable=True, ge=0
            ),
        ),
    ),
    version="2.0",
    inputs=("symbol_summary",),
    sql="""
        SELECT
            week_ending,
            tier,
            symbol,
            total_volume,
            venue_count,
            avg_trade_size,
            CAST(total_volume * venue_count AS DOUBLE) / CAST(nullif(total_trades, 0) AS DOUBLE) AS liquidity_score
        FROM symbol_summary""",
    invariants=(
        one_row_per("liquidity_score_v2", "row of symbol_summary", expected=rows_of("symbol_summary")),
        equal_per_partition(
            "volume_reconciles",
            "All shares of symbol_summary are in it, exactly.",
            observed=total_of("liquidity_score_v2", "total_volume"),
            expected=total_of("symbol_summary", "total_volume"),
        ),
        equal_per_partition(
            "scores_reconcile",
            "A symbol has a score exactly if it has trades.",
            observed=rows_of("liquidity_score_v2", where="liquidity_score IS NOT NULL"),
            expected=rows_of("symbol_summary", where="total_trades > 0"),
        ),
    ),
    assumptions=("symbol_summary has one row per (week_ending, tier, symbol).",),
    expected_rows="one per row of symbol_summary",
    replaces="liquidity_score",
    is_breaking=True,
)
