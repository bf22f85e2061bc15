"""Calendar vintages to test with: the library's own, corrections of days, and vintages drawn at random.

What belongs here: builders and strategies. What does not: tests.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time, timedelta
from functools import cache

from hypothesis import strategies as st

from market_spine.domain.corrections import Change, Correction
from market_spine.domain.vintages import Vintage, library_vintage, rebased
from market_spine.domain.weeks import weeks_between

FIRST_WEEK, LAST_WEEK = date(2012, 1, 6), date(2035, 12, 28)
REGULAR, EARLY = time(16, 0), time(13, 0)
MLK, CARTER = date(2025, 1, 20), date(2025, 1, 9)


@cache
def library() -> Vintage:
    return library_vintage("4.13.2")


def correction(changes: dict[date, time | None], name: str = "a.yaml") -> Correction:
    rows = tuple(Change(day, changes[day]) for day in sorted(changes))
    return Correction("a reason", "operations", date(2025, 2, 3), rows, name)


def opened(*days: date) -> Correction:
    return correction(dict.fromkeys(days, REGULAR), "opened.yaml")


def closed(*days: date) -> Correction:
    return correction(dict.fromkeys(days), "closed.yaml")


YEARS = weeks_between(date(2024, 1, 5), date(2025, 12, 26))  # 104 weeks; 21 of their days are closed, 6 half
DAYS = st.one_of(
    st.tuples(st.sampled_from(YEARS), st.integers(0, 4)).map(lambda pair: pair[0] - timedelta(days=pair[1])),
    st.sampled_from([MLK, CARTER, date(2025, 7, 3), date(2025, 7, 4), date(2024, 11, 28), date(2024, 11, 29)]),
)
CORRECTIONS = st.builds(
    correction,
    st.dictionaries(DAYS, st.sampled_from([None, REGULAR, EARLY, time(9, 31), time(15, 59)]), min_size=1, max_size=5),
    st.sampled_from(["a.yaml", "b.yaml", "c.yaml"]),
)
VINTAGES = st.lists(CORRECTIONS, max_size=3).map(
    lambda some: rebased(replace(library(), corrections=tuple(some)), library())
)
