"""Sessions against a second library over thirteen years, and against days that are known by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pandas_market_calendars
import pytest

from market_spine.domain.errors import WeekError
from market_spine.domain.sessions import FIRST_DAY, LAST_DAY, is_session, session_count, sessions_of_week
from market_spine.domain.weeks import weeks_between

FIRST_WEEK, LAST_WEEK = date(2014, 1, 10), date(2026, 12, 25)

CLOSED = [
    (date(2012, 10, 29), "Hurricane Sandy"),
    (date(2012, 10, 30), "Hurricane Sandy"),
    (date(2018, 12, 5), "day of mourning for George H. W. Bush"),
    (date(2022, 6, 20), "Juneteenth, observed"),
    (date(2025, 1, 9), "day of mourning for Jimmy Carter"),
    (date(2025, 1, 20), "Martin Luther King Day"),
    (date(2025, 4, 18), "Good Friday"),
    (date(2025, 11, 27), "Thanksgiving"),
    (date(2025, 11, 29), "a Saturday"),
]
OPEN = [date(2012, 10, 31), date(2018, 12, 6), date(2021, 6, 18), date(2025, 10, 13), date(2025, 11, 11)]

COUNTS = [
    (date(2025, 11, 14), 5.0, "Veterans Day is a session"),
    (date(2025, 11, 28), 3.5, "Thanksgiving, and half of the Friday after it"),
    (date(2025, 9, 5), 4.0, "Labor Day"),
    (date(2025, 4, 18), 4.0, "its own Friday is a holiday"),
    (date(2025, 7, 4), 3.5, "Independence Day on the Friday, half a day before it"),
    (date(2012, 11, 2), 3.0, "Hurricane Sandy"),
    (date(2018, 12, 7), 4.0, "day of mourning on the Wednesday"),
    (date(2022, 6, 24), 4.0, "Juneteenth, observed on the Monday"),
    (date(2025, 1, 10), 4.0, "day of mourning on the Thursday"),
]


def test_every_session_agrees_with_a_second_library() -> None:
    """Prevents a wrong day, an early close missed, or hours in local time, in any of 677 weeks."""
    ours = {
        session.session_date: (session.opens_at, session.closes_at, session.session_fraction)
        for week in weeks_between(FIRST_WEEK, LAST_WEEK)
        for session in sessions_of_week(week)
    }
    nyse = pandas_market_calendars.get_calendar("NYSE")
    schedule = nyse.schedule(FIRST_WEEK - timedelta(days=4), LAST_WEEK)
    early = {stamp.date() for stamp in nyse.early_closes(schedule).index}
    theirs = {
        stamp.date(): (
            row.market_open.to_pydatetime(),
            row.market_close.to_pydatetime(),
            0.5 if stamp.date() in early else 1.0,
        )
        for stamp, row in schedule.iterrows()
    }
    assert len(theirs) > 3200
    assert ours == theirs


@pytest.mark.parametrize(("day", "reason"), CLOSED, ids=str)
def test_days_without_trading(day: date, reason: str) -> None:
    """Prevents a calendar of rules alone: some closures were decided days before."""
    assert not is_session(day), reason


@pytest.mark.parametrize("day", OPEN, ids=str)
def test_days_with_trading_that_look_like_holidays(day: date) -> None:
    """Prevents bank holidays, and Juneteenth before 2022, from being taken for exchange holidays."""
    assert is_session(day)


@pytest.mark.parametrize(("week", "count", "reason"), COUNTS, ids=str)
def test_sessions_of_short_weeks(week: date, count: float, reason: str) -> None:
    """Prevents volumes per session that divide a short week by five."""
    assert session_count(week) == count, reason


def test_january_2025_has_twenty_sessions() -> None:
    """Prevents a month that misses one of its three holidays: 23 weekdays less 1, 9 and 20 January."""
    assert sum(is_session(date(2025, 1, day)) for day in range(1, 32)) == 20


def test_thanksgiving_week_in_full() -> None:
    """Prevents unordered sessions, local times and a Friday that closes at four."""
    sessions = sessions_of_week(date(2025, 11, 28))
    assert [session.session_date.day for session in sessions] == [24, 25, 26, 28]
    assert [session.session_fraction for session in sessions] == [1.0, 1.0, 1.0, 0.5]
    assert sessions[-1].opens_at == datetime(2025, 11, 28, 14, 30, tzinfo=UTC)
    assert sessions[-1].closes_at == datetime(2025, 11, 28, 18, 0, tzinfo=UTC)


def test_about_one_week_in_six_is_short() -> None:
    """Prevents a calendar that lost its holidays: 9 or 10 a year make 15 to 20 % of weeks short."""
    counts = [session_count(week) for week in weeks_between(FIRST_WEEK, LAST_WEEK)]
    assert 0.15 <= sum(count < 5 for count in counts) / len(counts) <= 0.20


def test_another_exchange_is_another_calendar() -> None:
    """Prevents an argument that is accepted and ignored: London trades on the Fourth of July."""
    assert is_session(date(2025, 7, 4), "XLON")
    assert not is_session(date(2025, 7, 4))


def test_sessions_are_asked_for_by_week() -> None:
    """Prevents the sessions of a week that is named by its Thursday."""
    with pytest.raises(WeekError, match="is a Thursday"):
        sessions_of_week(date(2025, 11, 27))


@pytest.mark.parametrize("day", [FIRST_DAY - timedelta(days=1), LAST_DAY + timedelta(days=1), date(1999, 1, 4)])
def test_a_day_outside_the_calendar_is_an_error_not_a_holiday(day: date) -> None:
    """Prevents weeks without sessions, and publication dates that run away, before 2012 and after 2035."""
    with pytest.raises(WeekError, match=r"outside the trading calendar 2012-01-02 \.\. 2035-12-28"):
        is_session(day)


@pytest.mark.parametrize("week", [date(2011, 12, 30), date(2036, 1, 4)])
def test_a_week_outside_the_calendar_is_an_error(week: date) -> None:
    """Prevents a count of 0 sessions, by which volumes would be divided."""
    with pytest.raises(WeekError, match="outside the trading calendar"):
        session_count(week)
