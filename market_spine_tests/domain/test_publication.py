"""The publication rule against FINRA's own dates, with the three rules that are wrong as counter-examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.errors import WeekError
from market_spine.domain.publication import (
    is_due,
    latest_due_week,
    publication_date,
    publication_instant,
    week_published_on,
)
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import WEEK, weeks_between

T1, T2, OTC = Tier.NMS_TIER_1, Tier.NMS_TIER_2, Tier.OTC


@dataclass(frozen=True)
class Oracle:
    """A first publication that FINRA announced or made: where it is from, tier, the week's Monday, and the day."""

    source: str
    tier: Tier
    monday: str
    published: str

    @property
    def week(self) -> date:
        """The Friday of the week."""
        return date.fromisoformat(self.monday) + timedelta(days=4)

    @property
    def day(self) -> date:
        """The day of first publication."""
        return date.fromisoformat(self.published)


NOTICE, API, SHIFT, FILE = "Regulatory Notice 19-29", "recorded API rows", "holiday on the Monday", "file date"
ORACLES = [
    Oracle(NOTICE, T1, "2019-11-11", "2019-12-02"),
    Oracle(NOTICE, T2, "2019-10-28", "2019-12-02"),
    Oracle(NOTICE, OTC, "2019-10-28", "2019-12-02"),
    Oracle(NOTICE, T2, "2019-11-04", "2019-12-09"),
    Oracle(NOTICE, OTC, "2019-11-04", "2019-12-09"),
    Oracle(NOTICE, T2, "2019-11-11", "2019-12-16"),
    Oracle(NOTICE, OTC, "2019-11-11", "2019-12-16"),
    Oracle(API, T1, "2023-01-16", "2023-02-06"),
    Oracle(API, T1, "2022-12-19", "2023-01-09"),
    Oracle(API, T1, "2022-01-03", "2022-01-24"),
    Oracle(API, T1, "2022-06-27", "2022-07-18"),
    Oracle(API, T1, "2026-07-20", "2026-08-10"),
    Oracle(SHIFT, T1, "2023-05-08", "2023-05-30"),  # Memorial Day
    Oracle(SHIFT, T1, "2023-05-29", "2023-06-20"),  # Juneteenth
    Oracle(SHIFT, T1, "2023-08-14", "2023-09-05"),  # Labor Day
    Oracle(SHIFT, T1, "2023-12-11", "2024-01-02"),  # New Year's Day
    Oracle(SHIFT, T2, "2026-08-03", "2026-09-08"),  # Labor Day
    Oracle(FILE, T1, "2025-11-24", "2025-12-15"),
    Oracle(FILE, OTC, "2025-11-10", "2025-12-15"),
    Oracle(FILE, T1, "2025-12-01", "2025-12-22"),
    Oracle(FILE, OTC, "2025-11-17", "2025-12-22"),
    Oracle(FILE, T1, "2025-12-08", "2025-12-29"),
    Oracle(FILE, OTC, "2025-11-24", "2025-12-29"),
]


def file_date_minus_3_days(day: date, tier: Tier) -> date:
    """WRONG: "the week of a file is its date - 3 days"."""
    return day - timedelta(days=3)


def two_or_four_weeks_then_wednesday(day: date, tier: Tier) -> date:
    """WRONG: "+14 days for Tier 1, +28 for the others, then the next Wednesday", turned round."""
    lag = 19 if tier is T1 else 33  # Friday + 14 or 28 is a Friday; the next Wednesday is 5 days on
    return day - timedelta(days=lag)


def every_monday_for_the_previous_week(day: date, tier: Tier) -> date:
    """WRONG: "published every Monday for the week before"."""
    return day - timedelta(days=day.weekday() + 3)  # the Friday before this week's Monday


WRONG_RULES = [file_date_minus_3_days, two_or_four_weeks_then_wednesday, every_monday_for_the_previous_week]


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: f"{oracle.tier}-{oracle.monday}-{oracle.source}")
def test_the_rule_meets_every_oracle_and_the_wrong_rules_meet_none(oracle: Oracle) -> None:
    """Prevents another lag, a missing holiday shift, and the return of one of the three rules of older documents."""
    assert publication_date(oracle.week, oracle.tier) == oracle.day
    assert week_published_on(oracle.day, oracle.tier) == oracle.week
    assert [rule.__name__ for rule in WRONG_RULES if rule(oracle.day, oracle.tier) == oracle.week] == []


def test_the_lags_are_17_and_31_days_and_the_seed_formula_gave_19_and_33() -> None:
    """Prevents counting from the Monday: the lags run from the Friday, and the older formula was two days late."""
    week = date(2025, 12, 12)
    assert publication_date(week, T1) - week == timedelta(days=17)
    assert publication_date(week, OTC) - week == publication_date(week, T2) - week == timedelta(days=31)
    assert two_or_four_weeks_then_wednesday(date(2025, 12, 31), T1) == week
    assert two_or_four_weeks_then_wednesday(date(2026, 1, 14), OTC) == week


@pytest.mark.parametrize("rule", WRONG_RULES, ids=lambda rule: rule.__name__)
def test_a_wrong_rule_gives_one_file_date_to_weeks_that_finra_publishes_apart(
    rule: Callable[[date, Tier], date],
) -> None:
    """Prevents believing that files of one day hold one week: Tier 1 and OTC are two weeks apart."""
    day = date(2025, 12, 15)
    assert (week_published_on(day, T1), week_published_on(day, OTC)) == (date(2025, 11, 28), date(2025, 11, 14))
    assert (rule(day, T1), rule(day, OTC)) != (date(2025, 11, 28), date(2025, 11, 14))


@pytest.mark.parametrize("tier", Tier)
def test_week_published_on_is_the_inverse_over_twelve_years(tier: Tier) -> None:
    """Prevents two weeks on one day, and a holiday Monday that loses its week."""
    weeks = weeks_between(date(2014, 1, 3), date(2026, 1, 2))
    days = [publication_date(week, tier) for week in weeks]
    assert len(weeks) == 627
    assert days == sorted(set(days))
    assert [week_published_on(day, tier) for day in days] == weeks


@pytest.mark.parametrize("tier", Tier)
def test_a_day_without_a_publication_is_an_error_over_a_whole_year(tier: Tier) -> None:
    """Prevents a guess: of 2025's days only the 52 of first publication have a week."""
    days = [date(2025, 1, 1) + timedelta(days=n) for n in range(365)]
    # From another side: a week of 2024 or 2025 is first published on each of these days.
    published = {publication_date(week, tier): week for week in weeks_between(date(2024, 10, 4), date(2025, 12, 26))}
    for day in days:
        if day in published:
            assert week_published_on(day, tier) == published[day]
        else:
            with pytest.raises(WeekError, match=f"no {tier} week on {day}"):
                week_published_on(day, tier)
    assert len(published.keys() & days) == 52


@pytest.mark.parametrize(
    ("day", "tier", "week", "its_day"),
    [
        (date(2022, 7, 29), T1, "2022-07-08", "2022-07-25"),  # a real restatement (of 2022-07-01), not a publication
        (date(2025, 12, 16), T1, "2025-11-28", "2025-12-15"),
        (date(2023, 5, 29), T1, "2023-05-12", "2023-05-30"),  # Memorial Day itself
    ],
)
def test_the_error_of_another_day_names_the_neighbour(day: date, tier: Tier, week: str, its_day: str) -> None:
    """Prevents a restated file from being taken for the week that its new date would mean."""
    with pytest.raises(WeekError) as caught:
        week_published_on(day, tier)
    assert f"FINRA first publishes no {tier} week on {day}" in caught.value.cause
    assert f"week {week} is published on {its_day}" in caught.value.cause
    assert f"--week-ending {week}" in caught.value.remedy


@pytest.mark.parametrize(
    ("week", "tier", "instant"),
    [
        (date(2025, 12, 12), T1, datetime(2025, 12, 29, 11, tzinfo=UTC)),  # winter: New York is UTC-5
        (date(2026, 7, 24), T1, datetime(2026, 8, 10, 10, tzinfo=UTC)),  # summer: UTC-4
    ],
)
def test_due_from_six_in_new_york_on(week: date, tier: Tier, instant: datetime) -> None:
    """Prevents asking FINRA at midnight UTC, five to six hours before anything can be there."""
    assert publication_instant(week, tier) == instant
    assert is_due(week, tier, instant)
    assert not is_due(week, tier, instant - timedelta(microseconds=1))


MOMENTS = st.datetimes(datetime(2014, 3, 1), datetime(2035, 10, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(st.sampled_from(Tier), MOMENTS)
def test_the_latest_due_week_is_due_and_the_next_is_not(tier: Tier, moment: datetime) -> None:
    """Prevents a schedule that asks a week early or late, at any hour and season."""
    week = latest_due_week(tier, moment)
    assert is_due(week, tier, moment)
    assert not is_due(week + WEEK, tier, moment)


@pytest.mark.parametrize(
    ("tier", "moment", "week"),
    [
        (T1, datetime(2025, 12, 29, 10, 59, tzinfo=UTC), date(2025, 12, 5)),
        (T1, datetime(2025, 12, 29, 11, 0, tzinfo=UTC), date(2025, 12, 12)),
        (OTC, datetime(2025, 12, 29, 11, 0, tzinfo=UTC), date(2025, 11, 28)),
        (T1, datetime(2023, 5, 29, 23, 0, tzinfo=UTC), date(2023, 5, 5)),  # Memorial Day: still the week before
        (T1, datetime(2023, 5, 30, 10, 0, tzinfo=UTC), date(2023, 5, 12)),
    ],
)
def test_the_latest_due_week_at_the_turn(tier: Tier, moment: datetime, week: date) -> None:
    """Prevents an off-by-one at the minute of publication and on a holiday."""
    assert latest_due_week(tier, moment) == week


def test_only_weeks_have_a_publication_date() -> None:
    """Prevents a rule that is applied to a Thursday and gives a plausible Sunday."""
    with pytest.raises(WeekError, match="is a Thursday"):
        publication_date(date(2025, 12, 11), T1)


@pytest.mark.parametrize("week", [date(1999, 1, 8), date(2040, 1, 6)])
def test_a_week_beyond_the_calendar_is_an_error(week: date) -> None:
    """Prevents the search for a business day from running to the calendar's first day, or to the year 9999."""
    with pytest.raises(WeekError, match="outside the trading calendar"):
        publication_date(week, T1)
