"""Calendar vintages: what one build of the trading calendar says, with its corrections, and how two of them differ.

A vintage is kept as its differences from the regular week (Monday to Friday, 09:30 to 16:00 in New York), so that it is
small and can be compared by eye. Corrections are applied on top of the library in their order, and again on its next
version: a day that a correction names is as it says, whatever the library comes to say.

What belongs here: values and pure functions of them. What does not: keeping vintages (the floors above), and when FINRA
publishes. Publication dates (`publication`) stay on the library's calendar on purpose: FINRA publishes by its own
business days, and a correction of OTC sessions does not move them.
"""

from __future__ import annotations

import hashlib
import json
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import reduce
from typing import Any

from market_spine.domain.corrections import HALF, Correction, correction_from, session_of, words
from market_spine.domain.errors import CalendarError, SpineError, WeekError
from market_spine.domain.sessions import EXCHANGE, FIRST_DAY, LAST_DAY, Session, sessions_by_day
from market_spine.domain.weeks import FRIDAY, monday_of, week_ending

DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class DayChange:
    """A day that two vintages see differently, in words: ``closed``, ``09:30-16:00``, ``09:30-13:00 (0.5)``."""

    day: date
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class MonthChange:
    """A month whose number of sessions differs; an early close is one session."""

    year: int
    month: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Vintage:
    """The trading calendar from ``first_day`` (a Monday) to ``last_day`` (a Friday), as one build of it says.

    ``closed``: weekdays without a session. ``irregular``: sessions that do not keep regular hours, or fall on a
    weekend. Both are in order of days; every other weekday has a regular session. ``corrections`` are already in it,
    in the order in which they were applied. CalendarError where this does not hold.
    """

    exchange: str
    library_version: str
    first_day: date
    last_day: date
    closed: tuple[date, ...]
    irregular: tuple[Session, ...]
    corrections: tuple[Correction, ...] = ()

    def __post_init__(self) -> None:
        held = [one.session_date for one in self.irregular]
        days = [*self.closed, *held]
        duties = {
            f"be of {EXCHANGE}": self.exchange == EXCHANGE,
            "hold whole weeks": (self.first_day.weekday(), self.last_day.weekday()) == (0, FRIDAY),
            "keep to its days": all(self.first_day <= day <= self.last_day for day in days),
            "close weekdays only": all(day.weekday() <= FRIDAY for day in self.closed),
            "list each day once, in order": all(list(some) == sorted(set(some)) for some in (self.closed, held)),
            "close no day that has a session": not {*self.closed} & {*held},
            "list irregular sessions only": all(_is_irregular(one) for one in self.irregular),
            "have hours in UTC that a session can have": all(_is_possible(one) for one in self.irregular),
        }
        failed = [duty for duty, is_met in duties.items() if not is_met]
        if failed:
            raise CalendarError(
                f"not a calendar vintage: it must {', '.join(failed)}", "build it with library_vintage and corrected"
            )

    def document(self) -> str:
        """The vintage as JSON text in its one form: equal vintages have equal texts."""
        corrections = [{"name": one.name, **one.mapping()} for one in self.corrections]
        return _json({**self._content(), "corrections": corrections, "library_version": self.library_version})

    @classmethod
    def from_document(cls, text: str) -> Vintage:
        """The inverse of ``document``; any other text is a CalendarError."""
        try:
            read = json.loads(text)
            vintage = cls(
                exchange=read["exchange"],
                library_version=str(read["library_version"]),
                first_day=date.fromisoformat(read["first_day"]),
                last_day=date.fromisoformat(read["last_day"]),
                closed=tuple(date.fromisoformat(day) for day in read["closed"]),
                irregular=tuple(_session_from(day, row) for day, row in read["irregular"].items()),
                corrections=tuple(_correction_in(row) for row in read["corrections"]),
            )
            if vintage.document() != text:
                raise ValueError("it is not as it was written")
        except (ValueError, KeyError, TypeError, AttributeError, SpineError) as error:
            cause = f"a stored calendar vintage is damaged: {error!r}"
            raise CalendarError(cause, "restore it from a backup") from error
        return vintage

    @property
    def content_hash(self) -> str:
        """sha256 (64 hex digits) of what the calendar says, whichever library and corrections it comes from."""
        return hashlib.sha256(_json(self._content()).encode()).hexdigest()

    def session_on(self, day: date) -> Session | None:
        """The session of ``day``, None where there is none; a day outside the calendar is a WeekError."""
        self._inside(day)
        for one in self.irregular:
            if one.session_date == day:
                return one
        return None if day.weekday() > FRIDAY or day in self.closed else session_of(day)

    def sessions_of_week(self, week: date) -> tuple[Session, ...]:
        """The sessions from Monday to Friday of ``week``, in order."""
        return tuple(self._sessions(monday_of(self._inside(week_ending(week))), week))

    def session_count(self, week: date) -> float:
        """Sessions of ``week``, an early close counting one half (Thanksgiving week: 3.5)."""
        return sum(one.session_fraction for one in self.sessions_of_week(week))

    def session_count_of_month(self, year: int, month: int) -> int:
        """Days of the month that have a session: an early close is one. CalendarError for a month not wholly inside."""
        days = [day for day in _days_between(*_month(year, month)) if day.weekday() <= FRIDAY]
        if days[0] < self.first_day or days[-1] > self.last_day:
            raise CalendarError(
                f"{year}-{month:02} is not wholly inside the trading calendar {self.first_day} .. {self.last_day}",
                "ask for a month inside it",
            )
        return self._count(year, month, self.first_day, self.last_day)

    def _inside(self, day: date) -> date:
        if not self.first_day <= day <= self.last_day:
            raise WeekError(
                f"{day} is outside the trading calendar {self.first_day} .. {self.last_day}", "ask for a week inside it"
            )
        return day

    def _sessions(self, first: date, last: date) -> Iterator[Session]:
        return (one for day in _days_between(first, last) if (one := self.session_on(day)))

    def _count(self, year: int, month: int, first: date, last: date) -> int:
        start, end = _month(year, month)
        return sum(1 for _ in self._sessions(max(start, first), min(end, last)))

    def _content(self) -> dict[str, Any]:
        rows = {
            one.session_date.isoformat(): {
                "opens_at": one.opens_at.isoformat(),
                "closes_at": one.closes_at.isoformat(),
                "session_fraction": one.session_fraction,
            }
            for one in self.irregular
        }
        return {
            "exchange": self.exchange,
            "first_day": self.first_day.isoformat(),
            "last_day": self.last_day.isoformat(),
            "closed": [day.isoformat() for day in self.closed],
            "irregular": rows,
        }


def library_vintage(version: str) -> Vintage:
    """What the installed exchange-calendars, of ``version``, says over its fixed bounds; without corrections."""
    return vintage_of(sessions_by_day().values(), version)


def vintage_of(sessions: Iterable[Session], version: str) -> Vintage:
    """The vintage that has exactly ``sessions`` from FIRST_DAY to LAST_DAY."""
    held = {one.session_date: one for one in sessions}
    weekdays = (day for day in _days_between(FIRST_DAY, LAST_DAY) if day.weekday() <= FRIDAY)
    closed = tuple(day for day in weekdays if day not in held)
    irregular = tuple(held[day] for day in sorted(held) if _is_irregular(held[day]))
    return Vintage(EXCHANGE, version, FIRST_DAY, LAST_DAY, closed, irregular)


def corrected(vintage: Vintage, correction: Correction) -> Vintage:
    """``vintage`` with ``correction`` on top; the last word on a day holds. A day outside it is a WeekError.

    Repeated at once, it gives an equal vintage; repeated after others, it is last in their order from then on. A change
    that says what holds already stays on record and changes nothing.
    """
    days = {vintage._inside(one.day): one.session() for one in correction.changes}
    closed = {*vintage.closed} - {*days} | {day for day, one in days.items() if one is None}
    kept = [one for one in vintage.irregular if one.session_date not in days]
    new = [one for one in days.values() if one and _is_irregular(one)]
    return replace(
        vintage,
        closed=tuple(sorted(closed)),
        irregular=tuple(sorted([*kept, *new], key=lambda one: one.session_date)),
        corrections=(*(one for one in vintage.corrections if one != correction), correction),
    )


def rebased(vintage: Vintage, library: Vintage) -> Vintage:
    """The corrections of ``vintage`` in their order, on the newer build ``library``."""
    return reduce(corrected, vintage.corrections, library)


def difference(before: Vintage, after: Vintage) -> tuple[DayChange, ...]:
    """The days whose sessions differ, in order; of the days that both calendars hold."""
    first, last = _common(before, after)
    days = {*before.closed} ^ {*after.closed} | {one.session_date for one in {*before.irregular} ^ {*after.irregular}}
    return tuple(
        DayChange(day, words(before.session_on(day)), words(after.session_on(day)))
        for day in sorted(days)
        if first <= day <= last
    )


def weeks_changed(before: Vintage, after: Vintage) -> tuple[date, ...]:
    """The week_endings whose sessions differ, in order. A weekend is in no week, as in ``sessions_of_week``."""
    days = (one.day for one in difference(before, after) if one.day.weekday() <= FRIDAY)
    return tuple(sorted({day + (FRIDAY - day.weekday()) * DAY for day in days}))


def months_changed(before: Vintage, after: Vintage) -> tuple[MonthChange, ...]:
    """The months whose numbers of sessions differ, in order; counted over the days that both calendars hold."""
    bounds = _common(before, after)
    months = sorted({(one.day.year, one.day.month) for one in difference(before, after)})
    changes = (MonthChange(*month, before._count(*month, *bounds), after._count(*month, *bounds)) for month in months)
    return tuple(one for one in changes if one.before != one.after)


def _is_irregular(session: Session) -> bool:
    return session.session_date.weekday() > FRIDAY or session != session_of(session.session_date)


def _is_possible(session: Session) -> bool:
    is_utc = session.opens_at.utcoffset() == session.closes_at.utcoffset() == timedelta(0)
    return is_utc and session.opens_at < session.closes_at and session.session_fraction in {HALF, 1.0}


def _session_from(day: str, row: dict[str, Any]) -> Session:
    opens_at, closes_at = (datetime.fromisoformat(row[name]) for name in ("opens_at", "closes_at"))
    return Session(date.fromisoformat(day), opens_at, closes_at, float(row["session_fraction"]))


def _correction_in(row: dict[str, Any]) -> Correction:
    return correction_from({key: value for key, value in row.items() if key != "name"}, str(row["name"]))


def _days_between(first: date, last: date) -> Iterator[date]:
    return (first + n * DAY for n in range((last - first).days + 1))


def _month(year: int, month: int) -> tuple[date, date]:
    try:
        return date(year, month, 1), date(year, month, monthrange(year, month)[1])
    except ValueError as error:
        raise CalendarError(f"{year}-{month} is not a month", "name a year and a month from 1 to 12") from error


def _common(one: Vintage, other: Vintage) -> tuple[date, date]:
    return max(one.first_day, other.first_day), min(one.last_day, other.last_day)


def _json(fields: dict[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True, indent=1)
