"""liquidity_score: average trade size times number of venues, by the documents' formula (version 1).

Grain: (week_ending, tier, symbol). ``round(avg_trade_size, 2) x venue_count``: the published example values
(1722.89 and 1811.46) come out only if the average is rounded to two decimals first; exact they are 1723.01 and
1811.53. `liquidity_score_v2` is the exact form and runs beside it.

Caveats
* A ranking aid, not a measure with a unit: it rewards large trades, so one block trade lifts an illiquid symbol.
* The rounding moves a score by up to 0.005 x venue_count: 0.15 with 30 venues.
* NULL where nothing traded.
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import SYMBOL, TIER, WEEK_ENDING, Calculation, Column, Table
from market_spine.domain.invariants import equal_per_partition, one_row_per, rows_of, total_of

CALCULATION = Calculation(
    table=Table(
        name="liquidity_score",
        stage=Stage.AGGREGATED,
        grain=("week_ending", "tier", "symbol"),
        description="Liquidity score of each symbol: rounded average trade size times venues.",
        columns=(
            WEEK_ENDING,
            TIER,
            SYMBOL,
            Column("total_volume", "DECIMAL(24,6)", "Shares traded in the symbol on all venues", ge=0),
            Column("venue_count", "INTEGER", "Venues that reported the symbol", ge=1),
            Column(
                "avg_trade_size", "DOUBLE", "Shares per trade, 2 decimals; NULL without trades", nullable=True, ge=0
            ),
            Column(
                "liquidity_score", "DOUBLE", "avg_trade_size x venue_count; NULL without trades", nullable=True, ge=0
            ),
        ),
    ),
    version="1.0",
    inputs=("symbol_summary",),
    # The outer round changes no value: it removes the binary noise of 59.41 * 29 = 1722.8899999999999.
    sql="""
        SELECT
            week_ending,
            tier,
            symbol,
            total_volume,
            venue_count,
            round(avg_trade_size, 2) AS avg_trade_size,
            round(round(avg_trade_size, 2) * venue_count, 2) AS liquidity_score
        FROM symbol_summary""",
    invariants=(
        one_row_per("liquidity_score", "row of symbol_summary", expected=rows_of("symbol_summary")),
        equal_per_partition(
            "volume_reconciles",
            "All shares of symbol_summary are in it, exactly.",
            observed=total_of("liquidity_score", "total_volume"),
            expected=total_of("symbol_summary", "total_volume"),
        ),
        equal_per_partition(
            "scores_reconcile",
            "A symbol has a score exactly if it has trades.",
            observed=rows_of("liquidity_score", where="liquidity_score IS NOT NULL"),
            expected=rows_of("symbol_summary", where="total_trades > 0"),
        ),
    ),
    assumptions=("symbol_summary has one row per (week_ending, tier, symbol).",),
    expected_rows="one per row of symbol_summary",
)
