"""volume_per_day: a symbol's volume per trading session of its week.

Grain: (week_ending, tier, symbol). Weeks have 5, 4 or 3.5 sessions and 18 % are short: a weekly volume falls by 20 %
in a four-session week without anybody trading less. An early close counts one half, so Thanksgiving week has 3.5.

Caveats
* The sessions are those of the New York Stock Exchange (XNYS), from the week's capture of the trading calendar; a
  corrected calendar makes new rows. The ATSs of OTC equities keep the same holidays.
* A short session is not half a day's volume: the Thanksgiving week has 38 % fewer trades, not 30 %.
* A week without a calendar has no rows and breaks the invariant row_count: the divisor is never guessed.
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import SYMBOL, TIER, WEEK_ENDING, Calculation, Column, Invariant, Table
from market_spine.domain.invariants import equal_per_partition, one_row_per, rows_of, total_of

CALCULATION = Calculation(
    table=Table(
        name="volume_per_day",
        stage=Stage.AGGREGATED,
        grain=("week_ending", "tier", "symbol"),
        description="Volume of each symbol per trading session of the week.",
        columns=(
            WEEK_ENDING,
            TIER,
            SYMBOL,
            Column("total_volume", "DECIMAL(24,6)", "Shares traded in the symbol on all venues", ge=0),
            Column("session_count", "DOUBLE", "Sessions of the week; an early close counts one half", gt=0, le=5),
            Column("volume_per_day", "DOUBLE", "Shares per session", ge=0),
        ),
    ),
    version="1.0",
    inputs=("symbol_summary", "trading_calendar"),
    sql="""
        WITH sessions AS (
            SELECT week_ending, CAST(sum(CAST(session_fraction AS DECIMAL(9,6))) AS DOUBLE) AS session_count
            FROM trading_calendar
            WHERE exchange_code = 'XNYS'
            GROUP BY week_ending
        )
        SELECT
            s.week_ending,
            s.tier,
            s.symbol,
            s.total_volume,
            c.session_count,
            CAST(s.total_volume AS DOUBLE) / nullif(c.session_count, 0) AS volume_per_day
        FROM symbol_summary AS s
        JOIN sessions AS c ON c.week_ending = s.week_ending""",
    invariants=(
        one_row_per(
            "volume_per_day",
            "row of symbol_summary (its week needs a trading calendar)",
            expected=rows_of("symbol_summary"),
        ),
        equal_per_partition(
            "volume_reconciles",
            "All shares of symbol_summary are in it, exactly.",
            observed=total_of("volume_per_day", "total_volume"),
            expected=total_of("symbol_summary", "total_volume"),
        ),
        Invariant(
            "one_divisor_per_week",
            "All symbols of a week are divided by the same number of sessions.",
            """
            SELECT week_ending, tier, CAST(count(DISTINCT session_count) AS DOUBLE) AS observed,
                CAST(1 AS DOUBLE) AS expected
            FROM volume_per_day
            GROUP BY week_ending, tier
            HAVING count(DISTINCT session_count) <> 1""",
        ),
    ),
    assumptions=(
        "trading_calendar has one row per session of the week, with exchange_code XNYS.",
        "ATSs of all tiers trade on the sessions of XNYS.",
    ),
    expected_rows="one per row of symbol_summary",
)
