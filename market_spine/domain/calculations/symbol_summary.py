"""symbol_summary: what traded in each stock in a week, over all venues.

Grain: (week_ending, tier, symbol). A symbol can be in Tier 1 and in Tier 2 in one week (413 were in the week of
2026-06-29), so the tier is part of the key and the two rows are not added here.

Caveats
* Off-exchange volume on ATSs only: the exchanges and the non-ATS dealers are not in it.
* Rows with an empty symbol (one of 4,655 in the OTC week 2025-11-28) count for venues, not here.
* ``venue_count`` counts the venues that reported a row, a (0, 0) row included; none occurred in 15,175 real OTC rows.
* ``avg_trade_size`` is a ratio of sums, not a mean of the venues' ratios; venues range from 45 (MOON) to 750 (BIDS).
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import SYMBOL, TIER, WEEK_ENDING, Calculation, Column, Table
from market_spine.domain.invariants import equal_per_partition, one_row_per, rows_of, total_of

HAS_SYMBOL = "symbol <> ''"

CALCULATION = Calculation(
    table=Table(
        name="symbol_summary",
        stage=Stage.AGGREGATED,
        grain=("week_ending", "tier", "symbol"),
        description="Volume, trades, venues and average trade size of each symbol in a week.",
        columns=(
            WEEK_ENDING,
            TIER,
            SYMBOL,
            Column("total_volume", "DECIMAL(24,6)", "Shares traded in the symbol on all venues", ge=0),
            Column("total_trades", "BIGINT", "Trades in the symbol on all venues", ge=0),
            Column("venue_count", "INTEGER", "Venues that reported the symbol", ge=1),
            Column("avg_trade_size", "DOUBLE", "Shares per trade; NULL without trades", nullable=True, ge=0),
        ),
    ),
    version="1.0",
    inputs=("venue_volume",),
    sql="""
        SELECT
            week_ending,
            tier,
            symbol,
            CAST(sum(total_shares) AS DECIMAL(24,6)) AS total_volume,
            CAST(sum(total_trades) AS BIGINT) AS total_trades,
            CAST(count(mpid) AS INTEGER) AS venue_count,
            CAST(sum(total_shares) AS DOUBLE) / CAST(nullif(sum(total_trades), 0) AS DOUBLE) AS avg_trade_size
        FROM venue_volume
        WHERE symbol <> ''
        GROUP BY week_ending, tier, symbol""",
    invariants=(
        one_row_per(
            "symbol_summary",
            "non-empty symbol of venue_volume",
            expected=rows_of("venue_volume", distinct="symbol", where=HAS_SYMBOL),
        ),
        equal_per_partition(
            "volume_reconciles",
            "All shares of venue_volume with a symbol are in it, exactly.",
            observed=total_of("symbol_summary", "total_volume"),
            expected=total_of("venue_volume", "total_shares", where=HAS_SYMBOL),
        ),
        equal_per_partition(
            "trades_reconcile",
            "All trades of venue_volume with a symbol are in it.",
            observed=total_of("symbol_summary", "total_trades"),
            expected=total_of("venue_volume", "total_trades", where=HAS_SYMBOL),
        ),
        equal_per_partition(
            "venues_reconcile",
            "Every row of venue_volume with a symbol is one venue of one symbol.",
            observed=total_of("symbol_summary", "venue_count"),
            expected=rows_of("venue_volume", where=HAS_SYMBOL),
        ),
    ),
    assumptions=(
        "venue_volume has one row per (week_ending, tier, symbol, mpid).",
        "A tier trades fewer than 1e18 shares a week (about 1e9 measured in OTC).",
    ),
    expected_rows="one per non-empty symbol of the partition (OTC: 2,714 to 3,111 a week measured)",
)
