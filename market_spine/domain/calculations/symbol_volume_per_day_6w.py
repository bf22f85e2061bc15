"""symbol_volume_per_day_6w: shares per session of a symbol over the six consecutive weeks that end with the asked one.

Grain: (week_ending, tier, symbol); one row for every symbol that has a row in the asked week itself. It is
`symbol_rolling_6w` adjusted for sessions: 18 % of weeks are short, and a plain mean of weeks lies low where the window
holds them. All shares of the window are divided by all its sessions, once: weeks of 5, 4 and 3.5 sessions weigh as long
as they last.

The window is six Fridays, week_ending - 35 days .. week_ending, never the last six rows. Shares and sessions are those
of the weeks in which the symbol has a row (``weeks_in_window``): a missing week is neither a zero nor five sessions. A
partial window is computed and flagged ``is_complete = false``; which partitions lack whole weeks is reported by
`symbol_rolling_6w`, not twice. A window means the same tier.

It reads the sessions from `volume_per_day`: a corrected calendar of one week makes new rows of that week there, and
reaches the windows of the five weeks after it here.

Caveats
* ``volume_per_day_vs_mean_pct`` is against a mean that contains the asked week: it is damped, by its sessions over all.
* A short session is not half a day's volume: the Thanksgiving week (3.5 sessions) has 38 % fewer trades, not 30 %.
* A week that traded nothing counts with its sessions; a window that traded nothing has a mean of 0 and no percentage.
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import SYMBOL, TIER, WEEK_ENDING, Calculation, Category, Column, Invariant, Table
from market_spine.domain.invariants import TOLERANCE, equal_per_partition, rows_of

WEEKS_BACK = 5
WEEKS = WEEKS_BACK + 1

# Shares and sessions are added exactly (DECIMAL) and divided once, at the end. Shares times sessions are exact too: 25
# and 9 digits stay below 38, so a week at its mean reads 0 %, and a fall to nothing -100 %.
SQL = f"""
    WITH frames AS (
        SELECT w.week_ending AS asked_week, w.tier, CAST(w.week_ending - CAST(7 * b.i AS INTEGER) AS DATE) AS frame_week
        FROM wanted AS w CROSS JOIN range({WEEKS}) AS b(i)
    ),
    windows AS (
        SELECT
            f.asked_week,
            v.tier,
            v.symbol,
            CAST(sum(v.total_volume) AS DECIMAL(25,6)) AS total_volume_6w,
            CAST(sum(CAST(v.session_count AS DECIMAL(9,6))) AS DECIMAL(9,6)) AS session_count_6w,
            count(v.week_ending) AS weeks_in_window
        FROM frames AS f
        JOIN volume_per_day AS v ON v.week_ending = f.frame_week AND v.tier = f.tier
        GROUP BY f.asked_week, v.tier, v.symbol
    )
    SELECT
        v.week_ending,
        v.tier,
        v.symbol,
        w.total_volume_6w,
        CAST(w.session_count_6w AS DOUBLE) AS session_count_6w,
        CAST(w.total_volume_6w AS DOUBLE) / CAST(w.session_count_6w AS DOUBLE) AS mean_volume_per_day,
        CAST(
            v.total_volume * w.session_count_6w - w.total_volume_6w * CAST(v.session_count AS DECIMAL(9,6)) AS DOUBLE
        ) / CAST(nullif(w.total_volume_6w * CAST(v.session_count AS DECIMAL(9,6)), 0) AS DOUBLE) * 100
            AS volume_per_day_vs_mean_pct,
        CAST(w.weeks_in_window AS INTEGER) AS weeks_in_window,
        w.weeks_in_window = {WEEKS} AS is_complete
    FROM windows AS w
    JOIN volume_per_day AS v ON v.week_ending = w.asked_week AND v.tier = w.tier AND v.symbol = w.symbol"""

CALCULATION = Calculation(
    table=Table(
        name="symbol_volume_per_day_6w",
        stage=Stage.ROLLING,
        grain=("week_ending", "tier", "symbol"),
        description="Six-week volume per trading session of each symbol that has a row in the week.",
        columns=(
            WEEK_ENDING,
            TIER,
            SYMBOL,
            Column("total_volume_6w", "DECIMAL(25,6)", "Shares of the weeks in the window", ge=0),
            Column("session_count_6w", "DOUBLE", "Sessions of the weeks in the window", gt=0, le=5 * WEEKS),
            Column("mean_volume_per_day", "DOUBLE", "Shares per session over the weeks in the window", ge=0),
            Column(
                "volume_per_day_vs_mean_pct",
                "DOUBLE",
                "Percent of the asked week's volume_per_day above mean_volume_per_day; NULL where that is 0",
                nullable=True,
                ge=-100,
            ),
            Column("weeks_in_window", "INTEGER", "Weeks of the window in which the symbol has a row", ge=1, le=WEEKS),
            Column("is_complete", "BOOLEAN", "Whether the symbol has a row in all 6 weeks"),
        ),
    ),
    version="1.0",
    inputs=("volume_per_day",),
    sql=SQL,
    weeks_back=WEEKS_BACK,
    invariants=(
        equal_per_partition(
            "row_count",
            "One row per row of volume_per_day in the asked week.",
            observed=rows_of("symbol_volume_per_day_6w"),
            expected=rows_of("volume_per_day SEMI JOIN wanted USING (week_ending, tier)"),
            category=Category.COMPLETENESS,
        ),
        Invariant(
            "window_is_consistent",
            "weeks_in_window is 1 to 6, is_complete says whether it is 6, no week has more than 5 sessions, and mean"
            " times sessions are the shares; reports offending symbols.",
            f"""
            SELECT week_ending, tier, CAST(count(*) AS DOUBLE) AS observed, CAST(0 AS DOUBLE) AS expected
            FROM symbol_volume_per_day_6w
            WHERE weeks_in_window NOT BETWEEN 1 AND {WEEKS} OR is_complete <> (weeks_in_window = {WEEKS})
                OR session_count_6w > 5 * weeks_in_window
                OR abs(mean_volume_per_day * session_count_6w - CAST(total_volume_6w AS DOUBLE))
                    > {TOLERANCE} * CAST(total_volume_6w AS DOUBLE)
            GROUP BY week_ending, tier""",
        ),
    ),
    assumptions=(
        "volume_per_day has one row per (week_ending, tier, symbol), all of a week with the same sessions.",
        "wanted holds each asked (week_ending, tier) once; the inputs hold its five preceding weeks where they exist.",
        "A symbol trades fewer than 1e18 shares a week.",
    ),
    expected_rows="one per row of volume_per_day in the asked week",
)
