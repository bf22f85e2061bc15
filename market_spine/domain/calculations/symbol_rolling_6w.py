"""symbol_rolling_6w: means, extremes and trend of a symbol over the six consecutive weeks that end with the asked one.

Grain: (week_ending, tier, symbol); one row for every symbol that has a row in the asked week itself. A symbol that
traded earlier in the window and not in the asked week has no row: 777 of 3,111 OTC symbols did not return in the week
after 2025-11-14, and rows for such would describe no current trading.

The window is six Fridays, week_ending - 35 days .. week_ending, never the last six rows: a missing week shortens the
window, it does not pull in an older week. Means are over the weeks in which the symbol has a row (``weeks_in_window``);
a missing week is not a zero. A partial window is computed and flagged ``is_complete = false``, and the gate
full_history_window reports partitions for which whole weeks of input are missing. A window means the same tier: a stock
that changes its tier begins a new one.

Caveats
* ``trend_pct`` compares the asked week with the first week of the window in which the symbol traded: two points, not a
  regression, so one unusual first week decides it. UP or DOWN means beyond 5 % (exactly 5 % is FLAT). NULL with one
  week, or where the first week's volume is 0.
* ``volume_vs_mean_pct`` is against a mean that contains the asked week: it is damped by 1/n.
* Weeks are not adjusted for sessions (18 % are short): a four-session week lies about 20 % low.
* ``mean_hhi`` is over the weeks that have an index (a week of zero volume has none), to 18 decimals.
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import (
    SYMBOL,
    TIER,
    WEEK_ENDING,
    Calculation,
    Category,
    Column,
    Invariant,
    Severity,
    Table,
)
from market_spine.domain.invariants import equal_per_partition, rows_of

WEEKS_BACK = 5
WEEKS = WEEKS_BACK + 1
FLAT_PCT = 5  # a change of up to 5 % is FLAT

# Sums and counts are exact (DECIMAL, integer); quotients are taken once, in the last SELECT, and times 100 after that:
# the DOUBLE of 0.0001 is not 100 times the DOUBLE of 0.000001, and a fall to zero would read -100.00000000000001 %.
SQL = f"""
    WITH frames AS (
        SELECT w.week_ending AS asked_week, w.tier, CAST(w.week_ending - CAST(7 * b.i AS INTEGER) AS DATE) AS frame_week
        FROM wanted AS w CROSS JOIN range({WEEKS}) AS b(i)
    ),
    windows AS (
        SELECT
            f.asked_week,
            s.tier,
            s.symbol,
            sum(s.total_volume) AS sum_volume,
            sum(s.total_trades) AS sum_trades,
            sum(CAST(h.hhi AS DECIMAL(38,18))) AS sum_hhi,
            count(h.hhi) AS hhi_weeks,
            min(s.total_volume) AS min_volume,
            max(s.total_volume) AS max_volume,
            arg_min(s.total_volume, s.week_ending) AS first_volume,
            count(s.week_ending) AS weeks_in_window
        FROM frames AS f
        JOIN symbol_summary AS s ON s.week_ending = f.frame_week AND s.tier = f.tier
        LEFT JOIN symbol_hhi AS h ON h.week_ending = s.week_ending AND h.tier = s.tier AND h.symbol = s.symbol
        GROUP BY f.asked_week, s.tier, s.symbol
    )
    SELECT
        s.week_ending,
        s.tier,
        s.symbol,
        CAST(w.sum_volume AS DOUBLE) / w.weeks_in_window AS mean_volume,
        CAST(w.sum_trades AS DOUBLE) / w.weeks_in_window AS mean_trades,
        CAST(w.sum_hhi AS DOUBLE) / nullif(w.hhi_weeks, 0) AS mean_hhi,
        w.min_volume,
        w.max_volume,
        CAST(w.weeks_in_window AS INTEGER) AS weeks_in_window,
        w.weeks_in_window = {WEEKS} AS is_complete,
        CASE
            WHEN w.weeks_in_window = 1 OR w.first_volume = 0 THEN NULL
            WHEN 100 * (s.total_volume - w.first_volume) > {FLAT_PCT} * w.first_volume THEN 'UP'
            WHEN 100 * (s.total_volume - w.first_volume) < -{FLAT_PCT} * w.first_volume THEN 'DOWN'
            ELSE 'FLAT'
        END AS trend_direction,
        CASE WHEN w.weeks_in_window > 1 THEN
            CAST(s.total_volume - w.first_volume AS DOUBLE) / CAST(nullif(w.first_volume, 0) AS DOUBLE) * 100
        END AS trend_pct,
        CAST(w.weeks_in_window * s.total_volume - w.sum_volume AS DOUBLE)
            / CAST(nullif(w.sum_volume, 0) AS DOUBLE) * 100 AS volume_vs_mean_pct
    FROM windows AS w
    JOIN symbol_summary AS s ON s.week_ending = w.asked_week AND s.tier = w.tier AND s.symbol = w.symbol"""

COLUMNS = (
    WEEK_ENDING,
    TIER,
    SYMBOL,
    Column("mean_volume", "DOUBLE", "Mean weekly shares over the weeks in the window", ge=0),
    Column("mean_trades", "DOUBLE", "Mean weekly trades over the weeks in the window", ge=0),
    Column("mean_hhi", "DOUBLE", "Mean weekly hhi, 0..1; NULL without volume in any week", nullable=True, gt=0, le=1),
    Column("min_volume", "DECIMAL(24,6)", "Smallest weekly shares in the window", ge=0),
    Column("max_volume", "DECIMAL(24,6)", "Largest weekly shares in the window", ge=0),
    Column("weeks_in_window", "INTEGER", "Weeks of the window in which the symbol has a row", ge=1, le=WEEKS),
    Column("is_complete", "BOOLEAN", "Whether the symbol has a row in all 6 weeks"),
    Column(
        "trend_direction",
        "VARCHAR",
        "UP or DOWN beyond 5 %, else FLAT; NULL as trend_pct",
        nullable=True,
        isin=("UP", "DOWN", "FLAT"),
    ),
    Column(
        "trend_pct",
        "DOUBLE",
        "Percent change of the asked week against the first in the window; NULL with one week or from zero",
        nullable=True,
        ge=-100,
    ),
    Column("volume_vs_mean_pct", "DOUBLE", "Percent of the asked week above mean_volume", nullable=True, ge=-100),
)

FULL_HISTORY = Invariant(
    "full_history_window",
    "All 6 weeks of input are there; otherwise every row of the partition has a partial window.",
    f"""
    WITH frames AS (
        SELECT w.week_ending, w.tier, CAST(w.week_ending - CAST(7 * b.i AS INTEGER) AS DATE) AS frame_week
        FROM wanted AS w CROSS JOIN range({WEEKS}) AS b(i)
    ),
    present AS (SELECT DISTINCT week_ending, tier FROM symbol_summary)
    SELECT f.week_ending, f.tier, CAST(count(p.week_ending) AS DOUBLE) AS observed, CAST({WEEKS} AS DOUBLE) AS expected
    FROM frames AS f LEFT JOIN present AS p ON p.week_ending = f.frame_week AND p.tier = f.tier
    GROUP BY f.week_ending, f.tier
    HAVING count(p.week_ending) < {WEEKS}""",
    severity=Severity.ERROR,
    category=Category.COMPLETENESS,
    message="{observed} of {expected} weeks are there: every window of the partition is partial",
)

CALCULATION = Calculation(
    table=Table(
        name="symbol_rolling_6w",
        stage=Stage.ROLLING,
        grain=("week_ending", "tier", "symbol"),
        description="Six-week means, extremes and trend of each symbol that has a row in the week.",
        columns=COLUMNS,
    ),
    version="1.0",
    inputs=("symbol_summary", "symbol_hhi"),
    sql=SQL,
    weeks_back=WEEKS_BACK,
    invariants=(
        equal_per_partition(
            "row_count",
            "One row per row of symbol_summary in the asked week.",
            observed=rows_of("symbol_rolling_6w"),
            expected=rows_of("symbol_summary SEMI JOIN wanted USING (week_ending, tier)"),
            category=Category.COMPLETENESS,
        ),
        Invariant(
            "window_is_consistent",
            "weeks_in_window is 1 to 6, is_complete says whether it is 6, and the mean lies between the extremes;"
            " reports offending symbols.",
            f"""
            SELECT week_ending, tier, CAST(count(*) AS DOUBLE) AS observed, CAST(0 AS DOUBLE) AS expected
            FROM symbol_rolling_6w
            WHERE weeks_in_window NOT BETWEEN 1 AND {WEEKS} OR is_complete <> (weeks_in_window = {WEEKS})
                OR mean_volume < CAST(min_volume AS DOUBLE) * (1 - 1e-9)
                OR mean_volume > CAST(max_volume AS DOUBLE) * (1 + 1e-9)
            GROUP BY week_ending, tier""",
        ),
        FULL_HISTORY,
    ),
    assumptions=(
        "symbol_hhi has a row for every row of symbol_summary (its own invariant).",
        "wanted holds each asked (week_ending, tier) once; the inputs hold its five preceding weeks where they exist.",
    ),
    expected_rows="one per symbol that has a row in the asked week (OTC: 2,714 to 3,111 measured)",
)
