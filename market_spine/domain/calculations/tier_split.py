"""tier_split: how a week's ATS volume divides over the three tiers, and whether all three are there.

Grain: (week_ending, tier); the partition is the week. One row per tier that is present. FINRA publishes Tier 1 after 17
days and the other two after 31, so the newest two weeks always lack tiers: ``tiers_present`` and ``is_complete`` say so
in every row, and a share of an incomplete week is a share of what is there.

Caveats
* Never compare shares of weeks with different ``tiers_present``: a lone Tier 1 has a share of 1.
* A tier is a property of the stock, not of the venue, and stocks move: 413 symbols were in Tier 1 and Tier 2 in the
  week of 2026-06-29. Their volume is split here as published.
* Rows without a symbol are included. A week whose whole volume is 0 has NULL shares.
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import (
    TIER,
    WEEK_ENDING,
    Calculation,
    Category,
    Column,
    Invariant,
    Severity,
    Table,
)
from market_spine.domain.invariants import equal_per_partition, one_row_per, shares_sum_to_one

WEEK_TOTAL = "SELECT week_ending, sum({column}) AS value FROM {table} GROUP BY week_ending"

CALCULATION = Calculation(
    table=Table(
        name="tier_split",
        stage=Stage.AGGREGATED,
        grain=("week_ending", "tier"),
        by_tier=False,
        description="Volume of each tier in a week, its share, and how many tiers are present.",
        columns=(
            WEEK_ENDING,
            TIER,
            Column("total_volume", "DECIMAL(24,6)", "Shares traded in the tier", ge=0),
            Column("total_trades", "BIGINT", "Trades in the tier", ge=0),
            Column(
                "volume_share",
                "DOUBLE",
                "Share of the week's volume over the tiers present, 0..1; NULL where nothing traded",
                nullable=True,
                ge=0,
                le=1,
            ),
            Column("tiers_present", "INTEGER", "Tiers of the week that are there, of 3", ge=1, le=3),
            Column("is_complete", "BOOLEAN", "Whether all 3 tiers are there"),
        ),
    ),
    version="1.0",
    inputs=("venue_share",),
    sql="""
        WITH tiers AS (
            SELECT
                week_ending,
                tier,
                CAST(sum(total_volume) AS DECIMAL(24,6)) AS total_volume,
                CAST(sum(total_trades) AS BIGINT) AS total_trades
            FROM venue_share
            GROUP BY week_ending, tier
        )
        SELECT
            week_ending,
            tier,
            total_volume,
            total_trades,
            CAST(total_volume AS DOUBLE)
                / CAST(nullif(sum(total_volume) OVER (PARTITION BY week_ending), 0) AS DOUBLE) AS volume_share,
            CAST(count(tier) OVER (PARTITION BY week_ending) AS INTEGER) AS tiers_present,
            count(tier) OVER (PARTITION BY week_ending) = 3 AS is_complete
        FROM tiers""",
    invariants=(
        one_row_per(
            "tier_split",
            "tier of the week",
            expected="SELECT week_ending, count(DISTINCT tier) AS value FROM venue_share GROUP BY week_ending",
            by_tier=False,
        ),
        shares_sum_to_one("tier_split", "volume_share", per=("week_ending",), by_tier=False),
        equal_per_partition(
            "volume_reconciles",
            "All shares of the week's venue_share are in it, exactly.",
            observed=WEEK_TOTAL.format(column="total_volume", table="tier_split"),
            expected=WEEK_TOTAL.format(column="total_volume", table="venue_share"),
            by_tier=False,
        ),
        Invariant(
            "completeness_is_true",
            "tiers_present is the number of rows of the week, and is_complete says whether it is 3.",
            """
            SELECT week_ending, CAST(max(tiers_present) AS DOUBLE) AS observed, CAST(count(*) AS DOUBLE) AS expected
            FROM tier_split
            GROUP BY week_ending
            HAVING max(tiers_present) <> count(*) OR min(tiers_present) <> count(*)
                OR bool_or(is_complete <> (tiers_present = 3))""",
        ),
        Invariant(
            "all_tiers_present",
            "All 3 tiers of the week are there; else the shares are shares of what is there.",
            """
            SELECT week_ending, CAST(count(*) AS DOUBLE) AS observed, CAST(3 AS DOUBLE) AS expected
            FROM tier_split
            GROUP BY week_ending
            HAVING count(*) < 3""",
            severity=Severity.WARN,
            category=Category.INCOMPLETE_INPUT,
            message="{observed} of {expected} tiers are there: the shares of the split are shares of those",
        ),
    ),
    assumptions=(
        "The inputs hold every tier of the week that is there, not only the one that has just arrived.",
        "A tier without a single row is absent, whether it is not yet due or missing.",
    ),
    expected_rows="one per tier of the week that is present: 1 to 3",
)
