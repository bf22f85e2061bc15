"""Weeks: a Friday names them, anything else is an error, and nothing is ever shifted silently."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.errors import WeekError
from market_spine.domain.weeks import (
    last_n_weeks,
    monday_of,
    nearest_friday,
    week_ending,
    weeks_between,
    window,
)

DAYS = st.dates(date(2014, 1, 1), date(2035, 12, 1))
FRIDAYS = DAYS.map(lambda day: day + timedelta(days=(4 - day.weekday()) % 7))

# One calendar page, written by hand: November 2025, whose Fridays are 7, 14, 21 and 28.
NEAREST = [
    (date(2025, 11, 10), date(2025, 11, 7)),  # Monday: three days back, four ahead
    (date(2025, 11, 11), date(2025, 11, 14)),  # Tuesday: four back, three ahead
    (date(2025, 11, 12), date(2025, 11, 14)),
    (date(2025, 11, 13), date(2025, 11, 14)),
    (date(2025, 11, 14), date(2025, 11, 14)),
    (date(2025, 11, 15), date(2025, 11, 14)),
    (date(2025, 11, 16), date(2025, 11, 14)),
]


@pytest.mark.parametrize(("day", "friday"), NEAREST, ids=lambda day: f"{day:%a-%d}")
def test_nearest_friday_of_every_weekday(day: date, friday: date) -> None:
    """Prevents always looking ahead, which would name the wrong week for a file dated on a weekend."""
    assert nearest_friday(day) == friday


@given(DAYS)
def test_nearest_friday_is_at_most_three_days_away(day: date) -> None:
    """Prevents a wrap-around error at any weekday of any year."""
    friday = nearest_friday(day)
    assert friday.strftime("%A") == "Friday"
    assert abs((friday - day).days) <= 3


@pytest.mark.parametrize("friday", ["2025-11-14", "2025-11-28", "2024-03-29", "2026-12-25"])
def test_a_friday_names_its_week_even_when_it_is_a_holiday(friday: str) -> None:
    """Prevents moving the name of Good Friday's and Christmas' weeks to their last session."""
    assert week_ending(friday) == date.fromisoformat(friday)
    assert week_ending(date.fromisoformat(friday)) == date.fromisoformat(friday)


@pytest.mark.parametrize(("day", "friday"), [case for case in NEAREST if case[0] != case[1]])
def test_any_other_day_is_an_error_that_names_the_nearest_friday(day: date, friday: date) -> None:
    """Prevents a silent shift: the caller chooses, and is told the day, its weekday and what to type."""
    with pytest.raises(WeekError) as caught:
        week_ending(day)
    assert caught.value.cause == f"{day} is a {day:%A}; a week is named by the Friday that ends it"
    assert caught.value.remedy == f"the nearest Friday is {friday}"


@pytest.mark.parametrize(
    "text", ["", "friday", "2025-13-01", "2025-02-30", "14.11.2025", "2025-11-14T00:00:00", "None"]
)
def test_text_that_is_no_date_is_an_error(text: str) -> None:
    """Prevents a crash without a remedy, and the reading of a moment as a week."""
    with pytest.raises(WeekError, match="is not a date") as caught:
        week_ending(text)
    assert "YYYY-MM-DD" in caught.value.remedy


def test_a_moment_is_not_a_week() -> None:
    """Prevents keys and paths with a time of day in them: datetime and pandas Timestamp are dates to Python."""
    with pytest.raises(WeekError, match="is a moment") as caught:
        week_ending(datetime(2025, 11, 14))  # noqa: DTZ001 - what DuckDB and pandas hand over
    assert "2025-11-14" in caught.value.remedy


def test_monday_of_a_week_across_the_year() -> None:
    """Prevents an off-by-one in the API's weekStartDate: the week of Friday 2023-01-06 starts on 2023-01-02."""
    assert monday_of(date(2023, 1, 6)) == date(2023, 1, 2)
    assert monday_of(date(2021, 1, 1)) == date(2020, 12, 28)


@given(FRIDAYS, st.integers(0, 200))
def test_weeks_between_holds_every_friday_once(first: date, count: int) -> None:
    """Prevents ends that are left out, doubled or unordered."""
    weeks = weeks_between(first, first + timedelta(weeks=count))
    assert len(weeks) == count + 1
    assert weeks[0] == first
    assert all(later - earlier == timedelta(days=7) for earlier, later in pairwise(weeks))


def test_a_reversed_range_is_an_error_that_turns_it_round() -> None:
    """Prevents an empty range that succeeds."""
    with pytest.raises(WeekError, match="runs backwards") as caught:
        weeks_between(date(2025, 11, 28), date(2025, 11, 14))
    assert caught.value.remedy == "begin with 2025-11-14 and end with 2025-11-28"


@pytest.mark.parametrize(
    ("first", "last"), [(date(2025, 11, 13), date(2025, 11, 28)), (date(2025, 11, 14), date(2025, 11, 29))]
)
def test_both_ends_of_a_range_are_weeks(first: date, last: date) -> None:
    """Prevents a range that starts between two weeks."""
    with pytest.raises(WeekError, match="Friday that ends it"):
        weeks_between(first, last)


def test_last_three_weeks() -> None:
    """Prevents counting from the wrong side: the latest week is one of the three."""
    assert last_n_weeks(3, date(2025, 11, 28)) == [date(2025, 11, 14), date(2025, 11, 21), date(2025, 11, 28)]
    assert last_n_weeks(1, date(2025, 11, 28)) == [date(2025, 11, 28)]


@pytest.mark.parametrize("n", [0, -1])
def test_no_weeks_is_not_a_range(n: int) -> None:
    """Prevents an empty backfill that succeeds."""
    with pytest.raises(WeekError, match=f"{n} weeks is not a range"):
        last_n_weeks(n, date(2025, 11, 28))


def test_last_n_weeks_needs_a_friday() -> None:
    """Prevents windows that end on the day on which somebody asked."""
    with pytest.raises(WeekError, match="is a Saturday"):
        last_n_weeks(3, date(2025, 11, 29))


def test_window_of_six_weeks_crosses_the_year() -> None:
    """Prevents a rolling mean over five weeks or seven: weeks_back=5 is six consecutive Fridays."""
    expected = ["2025-12-05", "2025-12-12", "2025-12-19", "2025-12-26", "2026-01-02", "2026-01-09"]
    assert [str(week) for week in window(date(2026, 1, 9), 5)] == expected
    assert list(window(date(2026, 1, 9), 0)) == [date(2026, 1, 9)]
