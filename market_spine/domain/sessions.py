"""Trading sessions of a week, from exchange-calendars (XNYS). Weeks have 5, 4 or 3.5 sessions; 18 % are short.

What belongs here: the calendar as published by the library, as plain values. What does not: its captures and later
corrections (`vintages`), and anything that depends on today.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from market_spine.domain.errors import WeekError
from market_spine.domain.weeks import monday_of, week_ending

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

EXCHANGE = "XNYS"
# The library's own default bounds move with today; these do not. FINRA's weekly data begins in 2014.
FIRST_DAY, LAST_DAY = date(2012, 1, 2), date(2035, 12, 28)


@dataclass(frozen=True, slots=True)
class Session:
    """One trading day. Times are UTC; ``session_fraction`` is 1.0, or 0.5 for an early close."""

    session_date: date
    opens_at: datetime
    closes_at: datetime
    session_fraction: float


@cache
def calendar(exchange: str = EXCHANGE) -> ExchangeCalendar:
    """The exchange-calendars calendar over fixed bounds."""
    from exchange_calendars import get_calendar

    return get_calendar(exchange, start=str(FIRST_DAY), end=str(LAST_DAY))


@cache
def sessions_by_day(exchange: str = EXCHANGE) -> dict[date, Session]:
    """Every session from FIRST_DAY to LAST_DAY, in order of days. For reading only: all callers share it."""
    schedule: Any = calendar(exchange).schedule
    early = {stamp.date() for stamp in calendar(exchange).early_closes}
    return {
        stamp.date(): Session(
            stamp.date(), row.open.to_pydatetime(), row.close.to_pydatetime(), 0.5 if stamp.date() in early else 1.0
        )
        for stamp, row in zip(schedule.index, schedule.itertuples(), strict=True)
    }


def _inside(day: date) -> date:
    if not FIRST_DAY <= day <= LAST_DAY:
        raise WeekError(f"{day} is outside the trading calendar {FIRST_DAY} .. {LAST_DAY}", "ask for a week inside it")
    return day


def is_session(day: date, exchange: str = EXCHANGE) -> bool:
    """Whether ``exchange`` trades on ``day``; a day outside the calendar is an error, not a holiday."""
    return _inside(day) in sessions_by_day(exchange)


def sessions_of_week(week: date, exchange: str = EXCHANGE) -> tuple[Session, ...]:
    """The sessions from Monday to Friday of ``week``, in order."""
    days, monday = sessions_by_day(exchange), _inside(monday_of(week_ending(_inside(week))))
    return tuple(days[day] for n in range(5) if (day := monday + timedelta(days=n)) in days)


def session_count(week: date, exchange: str = EXCHANGE) -> float:
    """Sessions of ``week``, an early close counting one half (Thanksgiving week: 3.5)."""
    return sum(session.session_fraction for session in sessions_of_week(week, exchange))
