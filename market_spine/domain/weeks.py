"""Weeks. A week is named by ``week_ending``: the Friday that ends it, even when that Friday is a holiday.

What belongs here: validating and walking Fridays. What does not: when FINRA publishes a week
(`publication`), and how many sessions it has (`sessions`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta

from market_spine.domain.errors import WeekError

WEEK = timedelta(days=7)
FRIDAY = 4  # date.weekday()


def nearest_friday(day: date) -> date:
    """The Friday closest to ``day`` (at most three days away, never a tie)."""
    ahead = (FRIDAY - day.weekday()) % 7
    return day + timedelta(days=ahead if ahead <= 3 else ahead - 7)


def week_ending(value: date | str) -> date:
    """``value`` as a week_ending. Anything but a Friday is an error that names the nearest one; never shifted."""
    try:
        day = date.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        raise WeekError(f"{value!r} is not a date", "write the week as YYYY-MM-DD, e.g. 2025-11-14") from error
    if isinstance(day, datetime):  # also a pandas Timestamp: its text would end up in keys and paths
        raise WeekError(f"{day} is a moment, not a date", f"use its date: {day.date()}")
    if day.weekday() != FRIDAY:
        if not date.min + WEEK <= day <= date.max - WEEK:
            raise WeekError(f"{day} is no Friday", "write the week as YYYY-MM-DD, e.g. 2025-11-14")
        raise WeekError(
            f"{day} is a {day:%A}; a week is named by the Friday that ends it",
            f"the nearest Friday is {nearest_friday(day)}",
        )
    return day


def week_of(day: date) -> date:
    """The Friday that ends the week that ``day`` is in; of a Saturday and a Sunday the one that comes."""
    return day + timedelta(days=(FRIDAY - day.weekday()) % 7)


def monday_of(friday: date) -> date:
    """The Monday that begins the week (the API's ``weekStartDate``)."""
    return friday - timedelta(days=4)


def weeks_between(first: date, last: date) -> list[date]:
    """All week_endings from ``first`` to ``last``, both included, oldest first; reversed ends are an error."""
    first, last = week_ending(first), week_ending(last)
    if last < first:
        raise WeekError(f"the range {first} .. {last} runs backwards", f"begin with {last} and end with {first}")
    return [first + n * WEEK for n in range((last - first).days // 7 + 1)]


def last_n_weeks(n: int, latest: date) -> list[date]:
    """The ``n`` week_endings up to and including ``latest``, oldest first."""
    if n < 1:
        raise WeekError(f"{n} weeks is not a range", "ask for at least one week")
    latest = week_ending(latest)
    return weeks_between(latest - (n - 1) * WEEK, latest)


def window(latest: date, weeks_back: int) -> Iterator[date]:
    """The consecutive Fridays ``latest - weeks_back`` .. ``latest``, oldest first."""
    return (latest - n * WEEK for n in range(weeks_back, -1, -1))
