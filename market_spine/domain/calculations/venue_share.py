"""venue_share: each venue's share of the volume of a tier in a week, and its rank.

Grain: (week_ending, tier, mpid). Rows with an empty symbol (private placements; one of 4,655 rows in the OTC week
2025-11-28) count in the volume of their venue and of the tier, and not in ``symbol_count``.

Caveats
* A share of what ATSs report, not of the market: exchanges and non-ATS dealers are not in the denominator.
* The OTC tier is nearly one venue: OTCN has 82.2 % of the shares of 9 venues (week 2025-11-14).
* Identifiers get renamed (SGMA became SGMT): a venue that leaves and one that comes may be the same.
* Ranks are 1..n without gaps; equal volumes are ordered by mpid, so that a rank never depends on chance.
* A tier whose whole volume is 0 has NULL shares.
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import MPID, TIER, WEEK_ENDING, Calculation, Column, Table
from market_spine.domain.invariants import equal_per_partition, one_row_per, rows_of, shares_sum_to_one, total_of

CALCULATION = Calculation(
    table=Table(
        name="venue_share",
        stage=Stage.AGGREGATED,
        grain=("week_ending", "tier", "mpid"),
        description="Volume, trades, symbols, share and rank of each venue in a tier and week.",
        columns=(
            WEEK_ENDING,
            TIER,
            MPID,
            Column("total_volume", "DECIMAL(24,6)", "Shares traded on the venue, rows without a symbol included", ge=0),
            Column("total_trades", "BIGINT", "Trades on the venue, rows without a symbol included", ge=0),
            Column("symbol_count", "INTEGER", "Non-empty symbols that the venue reported", ge=0),
            Column(
                "venue_share",
                "DOUBLE",
                "Share of the tier's volume, 0..1; NULL where the tier traded nothing",
                nullable=True,
                ge=0,
                le=1,
            ),
            Column("venue_rank", "INTEGER", "Place by volume, 1 is the largest; ties by mpid", ge=1),
        ),
    ),
    version="1.0",
    inputs=("venue_volume",),
    sql="""
        WITH venues AS (
            SELECT
                week_ending,
                tier,
                mpid,
                CAST(sum(total_shares) AS DECIMAL(24,6)) AS total_volume,
                CAST(sum(total_trades) AS BIGINT) AS total_trades,
                CAST(count(symbol) FILTER (WHERE symbol <> '') AS INTEGER) AS symbol_count
            FROM venue_volume
            GROUP BY week_ending, tier, mpid
        )
        SELECT
            week_ending,
            tier,
            mpid,
            total_volume,
            total_trades,
            symbol_count,
            CAST(total_volume AS DOUBLE)
                / CAST(nullif(sum(total_volume) OVER (PARTITION BY week_ending, tier), 0) AS DOUBLE) AS venue_share,
            CAST(row_number() OVER (PARTITION BY week_ending, tier ORDER BY total_volume DESC, mpid) AS INTEGER)
                AS venue_rank
        FROM venues""",
    invariants=(
        one_row_per("venue_share", "venue of venue_volume", expected=rows_of("venue_volume", distinct="mpid")),
        shares_sum_to_one("venue_share", "venue_share", per=("week_ending", "tier")),
        equal_per_partition(
            "volume_reconciles",
            "All shares of venue_volume are in it, exactly, rows without a symbol included.",
            observed=total_of("venue_share", "total_volume"),
            expected=total_of("venue_volume", "total_shares"),
        ),
        equal_per_partition(
            "trades_reconcile",
            "All trades of venue_volume are in it, rows without a symbol included.",
            observed=total_of("venue_share", "total_trades"),
            expected=total_of("venue_volume", "total_trades"),
        ),
        equal_per_partition(
            "symbols_reconcile",
            "Every row of venue_volume with a symbol is one symbol of one venue.",
            observed=total_of("venue_share", "symbol_count"),
            expected=rows_of("venue_volume", where="symbol <> ''"),
        ),
    ),
    assumptions=(
        "venue_volume has one row per (week_ending, tier, symbol, mpid).",
        "A tier trades fewer than 1e18 shares a week (about 1e9 measured in OTC).",
    ),
    expected_rows="one per venue of the partition (9 in OTC, about 33 in Tier 1 and Tier 2)",
)
