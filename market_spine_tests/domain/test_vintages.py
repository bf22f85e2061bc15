"""Calendar vintages: four closures that were decided late, upgrades of the library, and the stored form."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import Any

import pytest

from market_spine.domain.corrections import session_of
from market_spine.domain.errors import CalendarError, WeekError
from market_spine.domain.publication import NEW_YORK
from market_spine.domain.sessions import Session, sessions_of_week
from market_spine.domain.vintages import (
    DayChange,
    MonthChange,
    Vintage,
    corrected,
    difference,
    months_changed,
    rebased,
    vintage_of,
    weeks_changed,
)
from market_spine.domain.weeks import weeks_between
from market_spine_tests.domain.vintage_lab import (
    CARTER,
    EARLY,
    FIRST_WEEK,
    LAST_WEEK,
    MLK,
    REGULAR,
    closed,
    correction,
    library,
    opened,
)


def test_the_differences_of_2025_by_hand() -> None:
    """Prevents weekends among the closed days, and regular days among the irregular ones."""
    days = ["01-01", "01-09", "01-20", "02-17", "04-18", "05-26", "06-19", "07-04", "09-01", "11-27", "12-25"]
    assert [f"{day:%m-%d}" for day in library().closed if day.year == 2025] == days
    early = [one.session_date for one in library().irregular if one.session_date.year == 2025]
    assert early == [date(2025, 7, 3), date(2025, 11, 28), date(2025, 12, 24)]


LATE = [  # closures decided or made law late: the days, the week, its sessions and those of the month without them
    ([date(2012, 10, 29), date(2012, 10, 30)], date(2012, 11, 2), (3.0, 5.0), (21, 23)),  # Hurricane Sandy
    ([date(2018, 12, 5)], date(2018, 12, 7), (4.0, 5.0), (19, 20)),  # mourning for George H. W. Bush
    ([date(2022, 6, 20)], date(2022, 6, 24), (4.0, 5.0), (21, 22)),  # Juneteenth, observed
    ([CARTER], date(2025, 1, 10), (4.0, 5.0), (20, 21)),  # mourning for Jimmy Carter
]


@pytest.mark.parametrize(("days", "week", "counts", "month_counts"), LATE, ids=str)
def test_a_late_closure_changes_exactly_its_week(
    days: list[date], week: date, counts: tuple[float, float], month_counts: tuple[int, int]
) -> None:
    """Prevents a correction that touches other weeks, misses its own, or cannot be taken back."""
    without = corrected(library(), opened(*days))
    again = corrected(without, closed(*days))
    assert (library().session_count(week), without.session_count(week), again.session_count(week)) == (
        *counts,
        counts[0],
    )
    assert weeks_changed(library(), without) == weeks_changed(without, again) == (week,)
    assert difference(without, again) == tuple(DayChange(day, "09:30-16:00", "closed") for day in days)
    assert months_changed(library(), without) == (MonthChange(days[0].year, days[0].month, *month_counts),)
    assert weeks_changed(library(), again) == ()
    assert again.content_hash == library().content_hash != without.content_hash
    assert [one.name for one in again.corrections] == ["opened.yaml", "closed.yaml"]


def test_all_four_closures_in_one_correction() -> None:
    """Prevents a correction of several weeks of which only the first or the last is seen."""
    without = corrected(library(), opened(*(day for days, *_ in LATE for day in days)))
    assert weeks_changed(library(), without) == tuple(week for _, week, *_ in LATE)


@pytest.mark.parametrize(
    ("day", "closes", "week", "counts", "words"),
    [
        (date(2025, 11, 27), REGULAR, date(2025, 11, 28), (3.5, 4.5), ("closed", "09:30-16:00")),
        (date(2025, 11, 28), None, date(2025, 11, 28), (3.5, 3.0), ("09:30-13:00 (0.5)", "closed")),
        (date(2025, 7, 3), REGULAR, date(2025, 7, 4), (3.5, 4.0), ("09:30-13:00 (0.5)", "09:30-16:00")),
        (date(2025, 7, 4), EARLY, date(2025, 7, 4), (3.5, 4.0), ("closed", "09:30-13:00 (0.5)")),
        (date(2025, 7, 3), time(12, 0), date(2025, 7, 4), (3.5, 3.5), ("09:30-13:00 (0.5)", "09:30-12:00 (0.5)")),
        (date(2025, 11, 10), EARLY, date(2025, 11, 14), (5.0, 4.5), ("09:30-16:00", "09:30-13:00 (0.5)")),
    ],
)
def test_a_change_from_every_kind_of_day_to_another(
    day: date, closes: time | None, week: date, counts: tuple[float, float], words: tuple[str, str]
) -> None:
    """Prevents a half that is added to a whole, or a closed day that keeps its early close."""
    after = corrected(library(), correction({day: closes}))
    assert (library().session_count(week), after.session_count(week)) == counts
    assert difference(library(), after) == (DayChange(day, *words),)
    assert weeks_changed(library(), after) == (week,)


def test_january_2025_with_mlk_day_and_without_the_late_closure() -> None:
    """Prevents a month that misses a change of its sessions: 23 weekdays less 1, 9 and 20 January are 20."""
    mlk = corrected(library(), opened(MLK))
    assert (library().session_count_of_month(2025, 1), mlk.session_count_of_month(2025, 1)) == (20, 21)
    assert months_changed(library(), mlk) == (MonthChange(2025, 1, 20, 21),)
    assert (library().session_count(date(2025, 1, 24)), mlk.session_count(date(2025, 1, 24))) == (4.0, 5.0)
    older = corrected(library(), opened(CARTER))
    assert older.session_count_of_month(2025, 1) == 21
    assert months_changed(older, library()) == (MonthChange(2025, 1, 21, 20),)


def test_an_early_close_is_one_session_of_a_month() -> None:
    """Prevents a month of 19.5 sessions: November 2025 has 20 weekdays, one holiday and one half day."""
    whole = corrected(library(), opened(date(2025, 11, 28)))
    assert library().session_count_of_month(2025, 11) == whole.session_count_of_month(2025, 11) == 19
    assert months_changed(library(), whole) == ()
    assert weeks_changed(library(), whole) == (date(2025, 11, 28),)


def older_library() -> Vintage:
    """A build that does not know of 2025-01-09 yet."""
    held = [one for week in weeks_between(FIRST_WEEK, LAST_WEEK) for one in sessions_of_week(week)]
    return vintage_of([*held, session_of(CARTER)], "4.5.6")


def test_corrections_are_carried_to_a_newer_library() -> None:
    """Prevents an upgrade that forgets corrections, or keeps what the older library did not know."""
    kept = corrected(corrected(older_library(), opened(MLK)), correction({date(2025, 7, 3): EARLY}, "known.yaml"))
    new = rebased(kept, library())
    assert (kept.session_count_of_month(2025, 1), new.session_count_of_month(2025, 1)) == (22, 21)
    assert (new.library_version, new.corrections) == ("4.13.2", kept.corrections)
    assert difference(kept, new) == (DayChange(CARTER, "09:30-16:00", "closed"),)
    assert weeks_changed(kept, new) == (date(2025, 1, 10),)


def test_a_change_that_says_what_holds_stays_on_record() -> None:
    """Prevents a correction that is lost because the library had already come round."""
    same = corrected(
        library(), correction({CARTER: None, MLK: None, date(2025, 7, 3): EARLY, date(2025, 7, 2): REGULAR})
    )
    assert (same.closed, same.irregular) == (library().closed, library().irregular)
    assert same.content_hash == library().content_hash
    assert len(same.corrections) == 1
    assert same.document() != library().document()


def test_the_last_word_on_a_day_holds_also_when_it_was_said_before() -> None:
    """Prevents a repeated correction from being taken for known and ignored after another that undid it."""
    first, second = opened(MLK), closed(MLK)
    both = corrected(corrected(library(), first), second)
    again = corrected(both, first)
    assert (both.session_on(MLK), again.session_on(MLK)) == (None, session_of(MLK))
    assert again.corrections == (second, first)
    assert rebased(again, library()) == again


JULY_4_CONTENT = """{
 "closed": [
  "2025-07-04"
 ],
%s "exchange": "XNYS",
 "first_day": "2025-06-30",
 "irregular": {
  "2025-07-03": {
   "closes_at": "2025-07-03T17:00:00+00:00",
   "opens_at": "2025-07-03T13:30:00+00:00",
   "session_fraction": 0.5
  }
 },
 "last_day": "2025-07-04"%s
}"""
JULY_4_CORRECTIONS = """ "corrections": [
  {
   "actor": "operations",
   "close": [
    "2025-07-04"
   ],
   "dated": "2025-02-03",
   "early_close": {},
   "exchange": "XNYS",
   "name": "closed.yaml",
   "open": [],
   "reason": "a reason"
  }
 ],
"""


def july_4() -> Vintage:
    days = date(2025, 6, 30), date(2025, 7, 4)
    plain = Vintage("XNYS", "4.13.2", *days, (days[1],), (session_of(date(2025, 7, 3), EARLY),))
    return corrected(plain, closed(days[1]))


def test_the_document_in_full() -> None:
    """Prevents a change of the form or the hash of vintages that are already stored (hash by sha256sum)."""
    assert july_4().document() == JULY_4_CONTENT % (JULY_4_CORRECTIONS, ',\n "library_version": "4.13.2"')
    assert july_4().content_hash == "fa755784810b8b7d60a6ca1f91c79a0898f666389adc9baad7b787c2a8328efd"


def test_the_content_hash_is_of_what_the_calendar_says() -> None:
    """Prevents an upgrade of the library, or a reason told better, from looking like other sessions."""
    assert replace(library(), library_version="5.0").content_hash == library().content_hash
    other = replace(opened(MLK), reason="told better", actor="desk", name="other.yaml")
    one, same = corrected(library(), opened(MLK)), corrected(library(), other)
    assert one.content_hash == same.content_hash != library().content_hash
    assert one != same


def test_a_weekend_session_is_kept_but_is_in_no_week() -> None:
    """Prevents a Saturday session that is lost from the calendar, or counted into FINRA's Monday to Friday."""
    saturday = date(2025, 11, 29)
    held = [one for week in weeks_between(FIRST_WEEK, LAST_WEEK) for one in sessions_of_week(week)]
    vintage = vintage_of([*held, session_of(saturday)], "9.9")
    assert vintage.session_on(saturday) == session_of(saturday)
    assert library().session_on(saturday) is None
    assert difference(library(), vintage) == (DayChange(saturday, "closed", "09:30-16:00"),)
    assert weeks_changed(library(), vintage) == ()
    assert months_changed(library(), vintage) == (MonthChange(2025, 11, 19, 20),)
    assert Vintage.from_document(vintage.document()) == vintage


def test_a_late_open_counts_one_session() -> None:
    """Prevents a half for a late open: the library's early closes alone count one half."""
    day = date(2025, 11, 14)
    late = Session(day, datetime(2025, 11, 14, 16, 0, tzinfo=UTC), datetime(2025, 11, 14, 21, 0, tzinfo=UTC), 1.0)
    held = [one for week in weeks_between(FIRST_WEEK, LAST_WEEK) for one in sessions_of_week(week)]
    vintage = vintage_of([late if one.session_date == day else one for one in held], "9.9")
    assert difference(library(), vintage) == (DayChange(day, "09:30-16:00", "11:00-16:00"),)
    assert vintage.session_count(day) == 5.0


def test_calendars_of_other_bounds_are_compared_over_the_days_of_both() -> None:
    """Prevents a calendar that was made longer from changing every holiday of its new years, or half of a month."""
    first, last = date(2024, 12, 30), date(2025, 12, 26)
    shorter = replace(
        library(),
        first_day=first,
        last_day=last,
        closed=tuple(day for day in library().closed if first <= day <= last),
        irregular=tuple(one for one in library().irregular if first <= one.session_date <= last),
    )
    assert difference(shorter, library()) == weeks_changed(library(), shorter) == ()
    christmas = corrected(library(), opened(date(2024, 12, 25), date(2025, 12, 25), date(2026, 12, 25)))
    assert weeks_changed(shorter, christmas) == (date(2025, 12, 26),)
    assert months_changed(shorter, christmas) == (MonthChange(2025, 12, 19, 20),)  # 20 weekdays up to the 26th
    with pytest.raises(WeekError, match=r"2024-12-25 is outside the trading calendar 2024-12-30 \.\. 2025-12-26"):
        rebased(christmas, shorter)


@pytest.mark.parametrize("week", [date(2011, 12, 30), date(2036, 1, 4)])
def test_a_week_outside_is_an_error_not_a_week_without_sessions(week: date) -> None:
    """Prevents volumes divided by 0 sessions."""
    with pytest.raises(WeekError, match=rf"{week} is outside the trading calendar 2012-01-02 \.\. 2035-12-28"):
        library().session_count(week)
    with pytest.raises(WeekError, match="outside the trading calendar"):
        library().session_on(week)


def test_sessions_are_asked_for_by_week() -> None:
    """Prevents the sessions of a week that is named by its Thursday."""
    with pytest.raises(WeekError, match="is a Thursday"):
        library().sessions_of_week(date(2025, 11, 27))


@pytest.mark.parametrize(
    ("year", "month", "cause"),
    [
        (2035, 12, "2035-12 is not wholly inside the trading calendar 2012-01-02 .. 2035-12-28"),
        (2011, 12, "2011-12 is not wholly inside"),
        (2025, 13, "2025-13 is not a month"),
        (0, 1, "0-1 is not a month"),
    ],
)
def test_a_month_that_cannot_be_counted(year: int, month: int, cause: str) -> None:
    """Prevents the sessions of a part of a month: 31 December 2035 is a Monday beyond the calendar."""
    with pytest.raises(CalendarError) as caught:
        library().session_count_of_month(year, month)
    assert cause in caught.value.cause
    assert "month" in caught.value.remedy


def test_the_first_month_is_whole() -> None:
    """Prevents a refusal of January 2012, whose one day before the calendar is a Sunday: 22 weekdays, two holidays."""
    assert library().session_count_of_month(2012, 1) == 20


def test_a_change_of_the_last_days_is_counted_up_to_the_calendars_end() -> None:
    """Prevents a correction of December 2035 that cannot be told: 20 weekdays to the 28th, Christmas is a Tuesday."""
    after = corrected(library(), opened(date(2035, 12, 25)))
    assert months_changed(library(), after) == (MonthChange(2035, 12, 19, 20),)


HALF_DAY = session_of(date(2025, 7, 3), EARLY)
NAIVE = replace(HALF_DAY, opens_at=HALF_DAY.opens_at.replace(tzinfo=None))
IN_NEW_YORK = replace(
    HALF_DAY, **{name: getattr(HALF_DAY, name).astimezone(NEW_YORK) for name in ("opens_at", "closes_at")}
)


@pytest.mark.parametrize(
    ("fields", "duty"),
    [
        ({"exchange": "XLON"}, "be of XNYS"),
        ({"first_day": date(2025, 7, 1)}, "hold whole weeks"),
        ({"last_day": date(2025, 7, 10)}, "hold whole weeks"),
        ({"closed": (date(2025, 7, 7),)}, "keep to its days"),
        ({"irregular": (session_of(date(2025, 6, 27), EARLY),)}, "keep to its days"),
        ({"closed": (date(2025, 7, 5),), "last_day": date(2025, 7, 11)}, "close weekdays only"),
        ({"closed": (date(2025, 7, 4), date(2025, 7, 1))}, "list each day once, in order"),
        ({"closed": (date(2025, 7, 4), date(2025, 7, 4))}, "list each day once, in order"),
        ({"irregular": (HALF_DAY, HALF_DAY)}, "list each day once, in order"),
        ({"closed": (date(2025, 7, 3),)}, "close no day that has a session"),
        ({"irregular": (session_of(date(2025, 7, 3)),)}, "list irregular sessions only"),
        ({"irregular": (replace(HALF_DAY, session_fraction=0.0),)}, "have hours in UTC"),
        ({"irregular": (replace(HALF_DAY, closes_at=HALF_DAY.opens_at),)}, "have hours in UTC"),
        ({"irregular": (NAIVE,)}, "have hours in UTC"),
        ({"irregular": (IN_NEW_YORK,)}, "have hours in UTC"),
    ],
)
def test_what_no_vintage_can_be(fields: dict[str, Any], duty: str) -> None:
    """Prevents two forms of one calendar, of which one hash would differ, and sessions that no day can have."""
    with pytest.raises(CalendarError) as caught:
        replace(july_4(), **fields)
    assert caught.value.cause.startswith("not a calendar vintage: it must ")
    assert duty in caught.value.cause
    assert "library_vintage" in caught.value.remedy


def damaged(**fields: Any) -> str:
    return json.dumps({**json.loads(july_4().document()), **fields}, sort_keys=True, indent=1)


ROW = json.loads(july_4().document())["irregular"]["2025-07-03"]
NOTE = json.loads(july_4().document())["corrections"][0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        json.dumps(json.loads(july_4().document()), sort_keys=True),
        july_4().document() + "\n",
        damaged(note="more"),
        damaged(library_version=4.13),
        damaged(exchange="XLON"),
        damaged(first_day="2025-07-01"),
        damaged(last_day=None),
        damaged(closed=["4 July"]),
        damaged(closed=["2025-07-04", "2025-07-01"]),
        damaged(irregular=[]),
        damaged(irregular={"2025-07-03": {**ROW, "session_fraction": "0.5"}}),
        damaged(irregular={"2025-07-03": {**ROW, "session_fraction": "half"}}),
        damaged(irregular={"2025-07-03": {**ROW, "opens_at": "2025-07-03T13:30:00"}}),
        damaged(irregular={"2025-07-03": {**ROW, "opens_at": "2025-07-03T09:30:00-04:00"}}),
        damaged(irregular={"2025-07-03": {"opens_at": ROW["opens_at"]}}),
        damaged(corrections=[{**NOTE, "actor": ""}]),
        damaged(corrections=[{**NOTE, "name": 5}]),
        damaged(corrections=[{key: value for key, value in NOTE.items() if key != "name"}]),
        damaged(corrections=["closed.yaml"]),
    ],
)
def test_a_damaged_document_is_refused(text: str) -> None:
    """Prevents a vintage that is read as another than was written, or a crash without a remedy."""
    with pytest.raises(CalendarError, match="a stored calendar vintage is damaged: ") as caught:
        Vintage.from_document(text)
    assert caught.value.remedy == "restore it from a backup"


def test_the_text_that_is_damaged_above_is_whole_without_damage() -> None:
    """Prevents refusals for another reason than the damage."""
    assert Vintage.from_document(damaged()) == july_4()
