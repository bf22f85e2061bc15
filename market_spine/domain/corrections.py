"""Corrections of the trading calendar: dated records of days that OTC trading kept otherwise than the library says.

What belongs here: what a correction file may say, and the session that a day has by it. What does not: reading the
files (the floors above), and what a calendar says once it is corrected (`vintages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any

from market_spine.domain.errors import CalendarError
from market_spine.domain.publication import NEW_YORK
from market_spine.domain.sessions import EXCHANGE, FIRST_DAY, LAST_DAY, Session
from market_spine.domain.weeks import FRIDAY

OPENS, CLOSES = time(9, 30), time(16, 0)  # a regular session, New York
HALF = 0.5  # session_fraction of an early close, as in `sessions`; there a late open counts 1.0
REQUIRED = {  # each with a line to copy
    "reason": "reason: MLK Day 2025 was an OTC trading day",
    "actor": "actor: operations",
    "dated": "dated: 2025-02-03",
    "exchange": f"exchange: {EXCHANGE}",
}
KEYS = (*REQUIRED, "open", "close", "early_close")


def session_of(day: date, closes: time = CLOSES) -> Session:
    """The session of ``day`` from 09:30 to ``closes`` (New York); one that closes before 16:00 counts one half."""
    opens_at, closes_at = (datetime.combine(day, clock, NEW_YORK).astimezone(UTC) for clock in (OPENS, closes))
    return Session(day, opens_at, closes_at, HALF if closes < CLOSES else 1.0)


def words(session: Session | None) -> str:
    """For people: ``closed``, or the hours in New York with what they count if not one: ``09:30-13:00 (0.5)``."""
    if session is None:
        return "closed"
    opens, closes = (moment.astimezone(NEW_YORK) for moment in (session.opens_at, session.closes_at))
    count = "" if session.session_fraction == 1 else f" ({session.session_fraction})"
    return f"{opens:%H:%M}-{closes:%H:%M}{count}"


@dataclass(frozen=True, slots=True)
class Change:
    """What a correction says of one day: its close in New York (16:00 is regular, before it early), None for closed."""

    day: date
    closes: time | None

    def session(self) -> Session | None:
        """The session that the day has by this change."""
        return None if self.closes is None else session_of(self.day, self.closes)


@dataclass(frozen=True, slots=True)
class Correction:
    """Who found which days wrong, when and why. ``changes`` are in order of days; ``name`` is that of its file."""

    reason: str
    actor: str
    dated: date
    changes: tuple[Change, ...]
    name: str

    def mapping(self) -> dict[str, Any]:
        """The form in which corrections are written, in texts: the inverse of ``correction_from``."""
        early = {one.day.isoformat(): f"{one.closes:%H:%M}" for one in self.changes if one.closes not in {None, CLOSES}}
        return {
            "reason": self.reason,
            "actor": self.actor,
            "dated": self.dated.isoformat(),
            "exchange": EXCHANGE,
            "open": [one.day.isoformat() for one in self.changes if one.closes == CLOSES],
            "close": [one.day.isoformat() for one in self.changes if one.closes is None],
            "early_close": early,
        }


def correction_from(mapping: object, name: str) -> Correction:
    """The correction that ``mapping`` says, as read from the YAML file ``name``.

    Keys: ``reason``, ``actor``, ``dated`` and ``exchange``, and at least one day in ``open`` (regular sessions),
    ``close`` (no session) or ``early_close`` (day: New York time). CalendarError names key, value and remedy.
    """
    if not isinstance(mapping, Mapping):
        raise _refused(name, f"{mapping!r} is not a mapping", f"write one key a line: {', '.join(KEYS)}")
    unknown = [str(key) for key in mapping if key not in KEYS]
    if unknown:
        raise _refused(name, f"unknown key {', '.join(unknown)}", f"the keys are {', '.join(KEYS)}")
    for key, example in REQUIRED.items():
        if mapping.get(key) is None or not str(mapping[key]).strip():
            raise _refused(name, f"{key} is missing", f"write it, e.g. {example}")
    if mapping["exchange"] != EXCHANGE:
        raise _refused(name, f"exchange: {mapping['exchange']!r} has no calendar here", f"write exchange: {EXCHANGE}")
    reason, actor = (_text(mapping[key], key, name) for key in ("reason", "actor"))
    dated = _date(mapping["dated"], "dated", name)
    changes: dict[date, Change] = {}
    for one in _changes(mapping, name):
        if (first := changes.setdefault(one.day, one)) != one:
            cause = f"{one.day} is named as {words(first.session())} and as {words(one.session())}"
            raise _refused(name, cause, "name the day once")
    if not changes:
        raise _refused(name, "changes no day", "name a day in open, close or early_close, or remove the correction")
    return Correction(reason, actor, dated, tuple(changes[day] for day in sorted(changes)), name)


def _changes(mapping: Mapping[str, Any], name: str) -> Iterator[Change]:
    for key, closes in {"open": CLOSES, "close": None}.items():
        days = mapping.get(key, [])
        if not isinstance(days, list):
            raise _refused(name, f"{key}: {days!r} is not a list", f"write {key}: [2025-01-20], also for one day")
        yield from (Change(_weekday(day, key, name), closes) for day in days)
    early = mapping.get("early_close", {})
    if not isinstance(early, Mapping):
        remedy = 'write early_close: {2025-07-03: "13:00"}, in New York time'
        raise _refused(name, f"early_close: {early!r} does not give each day its time", remedy)
    yield from (Change(_weekday(day, "early_close", name), _early(day, value, name)) for day, value in early.items())


def _text(value: object, key: str, name: str) -> str:
    if not isinstance(value, str):
        raise _refused(name, f"{key}: {value!r} is not a text", f'write it in words, or in quotes: {key}: "{value}"')
    return value


def _date(value: Any, key: str, name: str) -> date:
    if isinstance(value, datetime):
        raise _refused(name, f"{key}: {value} is a moment, not a date", f"write its date: {value.date()}")
    try:
        return value if isinstance(value, date) else date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise _refused(name, f"{key}: {value!r} is not a date", "write it as YYYY-MM-DD, e.g. 2025-01-20") from error


def _weekday(value: object, key: str, name: str) -> date:
    day = _date(value, key, name)
    if not FIRST_DAY <= day <= LAST_DAY:
        cause = f"{key}: {day} is outside the trading calendar {FIRST_DAY} .. {LAST_DAY}"
        raise _refused(name, cause, "name a day inside it")
    if day.weekday() > FRIDAY:
        raise _refused(name, f"{key}: {day} is a {day:%A}", "name a day from Monday to Friday")
    return day


def _early(day: object, value: object, name: str) -> time:
    """Text only: YAML takes 13:00 without quotes for 780, a number in base 60."""
    cause, example = f"early_close: {day}: {value!r}", f'{day}: "13:00"'
    try:
        closes = datetime.strptime(str(value), "%H:%M").time()  # noqa: DTZ007 - a time of day has no zone yet
    except ValueError as error:
        raise _refused(name, f"{cause} is not a time", f"write New York time in quotes, e.g. {example}") from error
    if not OPENS < closes < CLOSES:
        remedy = f"write a time after 09:30 and before 16:00 in New York, e.g. {example}; regular days stand in open"
        raise _refused(name, f"{cause} is not an early close", remedy)
    return closes


def _refused(name: str, cause: str, remedy: str) -> CalendarError:
    return CalendarError(f"calendar correction {name}: {cause}", remedy)
