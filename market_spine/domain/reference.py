"""Reference data that feeds share: the exchange's trading calendar, one partition a week.

What belongs here: the contract of the table. What does not: the sessions (`sessions`) and their captures (`assets`).
Source: exchange-calendars (XNYS), whose sessions follow https://www.nyse.com/markets/hours-calendars. FINRA's OTC
reporting facilities keep the same sessions; a known exception is corrected by a new capture, never in place.
"""

from __future__ import annotations

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import WEEK_ENDING, Column, Table

NAME = "reference"
DOMAIN = "reference.trading_calendar"

TRADING_CALENDAR = Table(
    name="trading_calendar",
    stage=Stage.INGESTED,
    grain=("week_ending", "session_date"),
    by_tier=False,
    description="The sessions of a week: one row per trading day. Divides weekly volume into volume per day.",
    columns=(
        WEEK_ENDING,
        Column("exchange_code", "VARCHAR", "Exchange (ISO 10383), XNYS"),
        Column("session_date", "DATE", "Trading day"),
        Column("opens_at", "TIMESTAMPTZ", "Open, UTC"),
        Column("closes_at", "TIMESTAMPTZ", "Close, UTC"),
        Column("session_fraction", "DOUBLE", "1.0, or 0.5 for an early close", gt=0, le=1),
    ),
)
