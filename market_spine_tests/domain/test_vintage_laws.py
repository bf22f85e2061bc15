"""Laws of calendar vintages, over every week of the library's calendar and over corrections drawn at random."""

from __future__ import annotations

from hypothesis import given

from market_spine.domain.corrections import Correction
from market_spine.domain.sessions import FIRST_DAY, LAST_DAY, session_count, sessions_of_week
from market_spine.domain.vintages import (
    DayChange,
    MonthChange,
    Vintage,
    corrected,
    difference,
    months_changed,
    weeks_changed,
)
from market_spine.domain.weeks import weeks_between
from market_spine_tests.domain.vintage_lab import (
    CORRECTIONS,
    EARLY,
    FIRST_WEEK,
    LAST_WEEK,
    REGULAR,
    VINTAGES,
    YEARS,
    correction,
    library,
)


def reverse(vintage: Vintage, one: Correction) -> Correction:
    """The correction that undoes ``one`` on ``vintage``, from the sessions that it has."""
    before = {change.day: vintage.session_on(change.day) for change in one.changes}
    halves = {None: None, 1.0: REGULAR, 0.5: EARLY}
    return correction(
        {day: halves[held.session_fraction if held else None] for day, held in before.items()}, "reverse.yaml"
    )


def test_law_the_librarys_vintage_has_its_sessions_in_every_week() -> None:
    """Prevents a calendar that changes by being kept as differences, in any of 1,252 weeks."""
    weeks = weeks_between(FIRST_WEEK, LAST_WEEK)
    assert len(weeks) == 1252
    assert [library().sessions_of_week(week) for week in weeks] == [sessions_of_week(week) for week in weeks]
    assert [library().session_count(week) for week in weeks] == [session_count(week) for week in weeks]
    assert (library().first_day, library().last_day, library().corrections) == (FIRST_DAY, LAST_DAY, ())


@given(VINTAGES)
def test_law_a_document_reads_back_and_has_one_form(vintage: Vintage) -> None:
    """Prevents a stored vintage that loses a day or a correction, and two texts of one vintage."""
    read = Vintage.from_document(vintage.document())
    assert read == vintage
    assert (read.document(), read.content_hash) == (vintage.document(), vintage.content_hash)


@given(VINTAGES, CORRECTIONS)
def test_law_a_correction_holds_and_a_second_time_changes_nothing(vintage: Vintage, one: Correction) -> None:
    """Prevents a repeated command from writing another vintage, and a day that is not as the correction says."""
    after = corrected(vintage, one)
    assert corrected(after, one) == after
    assert [after.session_on(change.day) for change in one.changes] == [change.session() for change in one.changes]
    assert {row.day for row in difference(vintage, after)} <= {change.day for change in one.changes}


@given(CORRECTIONS)
def test_law_a_correction_and_its_reverse_leave_the_content(one: Correction) -> None:
    """Prevents traces of a correction that was taken back, which would make weeks stale for nothing."""
    after = corrected(corrected(library(), one), reverse(library(), one))
    assert after.content_hash == library().content_hash
    assert difference(library(), after) == weeks_changed(library(), after) == months_changed(library(), after) == ()


@given(VINTAGES, VINTAGES)
def test_law_a_difference_is_the_same_from_both_sides(one: Vintage, other: Vintage) -> None:
    """Prevents a day that is seen in one direction only, and a hash that disagrees with the days."""
    there, back = difference(one, other), difference(other, one)
    assert there == tuple(DayChange(row.day, row.after, row.before) for row in back)
    assert all(row.before != row.after for row in there)
    assert (there == ()) == (one.content_hash == other.content_hash)
    months = months_changed(other, one)
    assert months_changed(one, other) == tuple(
        MonthChange(row.year, row.month, row.after, row.before) for row in months
    )


@given(VINTAGES, VINTAGES)
def test_law_the_changed_weeks_are_those_whose_sessions_differ(one: Vintage, other: Vintage) -> None:
    """Prevents a week that is recomputed for nothing, and one that keeps its old count."""
    assert weeks_changed(one, other) == tuple(
        week for week in YEARS if one.sessions_of_week(week) != other.sessions_of_week(week)
    )


@given(VINTAGES, VINTAGES)
def test_law_the_changed_months_are_those_whose_counts_differ(one: Vintage, other: Vintage) -> None:
    """Prevents a month whose numbers are not its own sessions, counted here day by day."""
    months = [(year, month) for year in (2024, 2025) for month in range(1, 13)]
    counts = [(*month, one.session_count_of_month(*month), other.session_count_of_month(*month)) for month in months]
    assert months_changed(one, other) == tuple(MonthChange(*row) for row in counts if row[2] != row[3])
