"""symbol_hhi: how concentrated a symbol's volume is over venues (Herfindahl-Hirschman index), and its leading venue.

Grain: (week_ending, tier, symbol). ``hhi = sum(share^2)`` in 0..1 (times 10,000 for people; the US merger guidelines
call 1,000-1,800 moderate and more than 1,800 high: https://www.justice.gov/atr/herfindahl-hirschman-index).
``effective_venues = 1 / hhi`` is the number of equal venues with the same index.

Both are one quotient of exact sums: ``sum(shares^2) / sum(shares)^2`` over DECIMALs, so an index of one venue is
exactly 1.0 and none exceeds it. DECIMAL(38,12) holds a square below 1e26, so a symbol may trade up to 1e13 shares a
week (largest measured: OTC, whole tier, 1.3e9); above, the statement fails with an overflow, it never wraps.

Caveats
* Over ATSs only. Tier 1 stocks have 0.08-0.10, a small ETF 0.14; in OTC 1,625 of 3,111 symbols have 1 (one venue).
* It describes routing on ATSs, not competition in the stock: most of the off-exchange volume is not on ATSs.
* A symbol whose whole volume is 0 keeps its row: hhi, effective_venues and top_venue_share are NULL, and
  top_venue_mpid is the first mpid, as ties go to the first.
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import SYMBOL, TIER, WEEK_ENDING, Calculation, Column, Invariant, Table
from market_spine.domain.invariants import TOLERANCE, equal_per_partition, one_row_per, rows_of, total_of

CALCULATION = Calculation(
    table=Table(
        name="symbol_hhi",
        stage=Stage.AGGREGATED,
        grain=("week_ending", "tier", "symbol"),
        description="Concentration of each symbol's volume over venues, and its leading venue.",
        columns=(
            WEEK_ENDING,
            TIER,
            SYMBOL,
            Column(
                "hhi", "DOUBLE", "Sum of squared venue shares, 0..1; NULL without volume", nullable=True, gt=0, le=1
            ),
            Column("effective_venues", "DOUBLE", "1 / hhi: equal venues with the same index", nullable=True, ge=1),
            Column("top_venue_mpid", "VARCHAR", "Venue with most shares; ties by mpid"),
            Column("top_venue_share", "DOUBLE", "Its share of the symbol's volume, 0..1", nullable=True, gt=0, le=1),
            Column("venue_count", "INTEGER", "Venues that reported the symbol", ge=1),
        ),
    ),
    version="1.0",
    inputs=("symbol_venue_share",),
    sql="""
        WITH sums AS (
            SELECT
                week_ending,
                tier,
                symbol,
                CAST(sum(total_shares * total_shares) AS DOUBLE) AS sum_of_squares,
                CAST(CAST(sum(total_shares) AS DECIMAL(20,6)) * CAST(sum(total_shares) AS DECIMAL(20,6)) AS DOUBLE)
                    AS square_of_sum,
                max(mpid) FILTER (WHERE venue_rank = 1) AS top_venue_mpid,
                max(venue_share) FILTER (WHERE venue_rank = 1) AS top_venue_share,
                CAST(count(mpid) AS INTEGER) AS venue_count
            FROM symbol_venue_share
            GROUP BY week_ending, tier, symbol
        )
        SELECT
            week_ending,
            tier,
            symbol,
            sum_of_squares / nullif(square_of_sum, 0) AS hhi,
            square_of_sum / nullif(sum_of_squares, 0) AS effective_venues,
            top_venue_mpid,
            top_venue_share,
            venue_count
        FROM sums""",
    invariants=(
        one_row_per(
            "symbol_hhi",
            "symbol of symbol_venue_share",
            expected=rows_of("symbol_venue_share", distinct="symbol"),
        ),
        equal_per_partition(
            "venues_reconcile",
            "Every row of symbol_venue_share is one venue of one symbol.",
            observed=total_of("symbol_hhi", "venue_count"),
            expected=rows_of("symbol_venue_share"),
        ),
        Invariant(
            "hhi_within_bounds",
            "1 / venue_count <= hhi <= top_venue_share, true of any shares; reports offending symbols.",
            f"""
            SELECT week_ending, tier, CAST(count(*) AS DOUBLE) AS observed, CAST(0 AS DOUBLE) AS expected
            FROM symbol_hhi
            WHERE hhi < 1.0 / venue_count - {TOLERANCE} OR hhi > top_venue_share + {TOLERANCE}
                OR (hhi IS NULL) <> (top_venue_share IS NULL) OR (hhi IS NULL) <> (effective_venues IS NULL)
            GROUP BY week_ending, tier""",
        ),
    ),
    assumptions=(
        "symbol_venue_share has exactly one venue of rank 1 per symbol (its own invariant).",
        "A symbol trades fewer than 1e13 shares a week.",
    ),
    expected_rows="one per non-empty symbol of the partition, as symbol_summary",
)
