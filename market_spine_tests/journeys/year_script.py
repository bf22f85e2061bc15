"""What FINRA does in a scripted year: which version of each partition it shows from when on, and when it answers badly.

What belongs here: the table of faults, FINRA's calendar worked out once more, and rows made from a seed. What does not:
anything of the platform, so that what follows from the script (`year_oracle`) is an answer apart from the code.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from market_spine.domain.tiers import Tier

NEW_YORK = ZoneInfo("America/New_York")
DAY, WEEK = timedelta(days=1), timedelta(weeks=1)
# From FINRA's Regulatory Notice 19-29: days from the Friday of a week to its publication, always a Monday.
LAGS = {Tier.NMS_TIER_1: 17, Tier.NMS_TIER_2: 31, Tier.OTC: 31}
TIERS = {"T1": Tier.NMS_TIER_1, "T2": Tier.NMS_TIER_2, "OTC": Tier.OTC}
# The days on which the exchanges were closed, from NYSE's own list; 2025-01-09 was President Carter's funeral.
_CLOSED = """
    2024-12-25 2025-01-01 2025-01-09 2025-01-20 2025-02-17 2025-04-18 2025-05-26 2025-06-19 2025-07-04 2025-09-01
    2025-11-27 2025-12-25 2026-01-01 2026-01-19 2026-02-16
"""
CLOSED = frozenset(map(date.fromisoformat, _CLOSED.split()))
HALF_DAYS = frozenset(map(date.fromisoformat, ("2024-12-24", "2025-07-03", "2025-11-28", "2025-12-24")))
PUBLISHED_AT = time(8, 15)  # when FINRA shows a week on its day, where the script says nothing else
ROWS = {Tier.NMS_TIER_1: 120, Tier.NMS_TIER_2: 126, Tier.OTC: 108}  # a multiple of VENUES; the gate is 100
VENUES = ("ALPX", "EBXL", "INCR", "SGMT", "UBSA", "OTCN")
SEED = 20250103


Row = dict[str, Any]


class What(StrEnum):
    """A line of the script. The first six are what FINRA shows, the others how it answers meanwhile."""

    LATE = "late"  # shown from then on, and not before
    RESTATED = "restated"  # other quantities from then on
    REVERTED = "reverted"  # what was shown first, again
    IMPOSSIBLE = "impossible"  # shown at first with trades without shares, the right rows from then on
    DOUBLED = "doubled"  # shown with three rows twice
    NEVER = "never"  # not shown at all
    DOWN = "down"  # HTTP 503
    CUT = "cut"  # fewer rows than Record-Total says
    PAGE = "page"  # a web page with status 200
    COLUMNS = "columns"  # a column has another name

    @property
    def is_answer(self) -> bool:
        """Whether it is about answers, not about what there is."""
        return self in (What.DOWN, What.CUT, What.PAGE, What.COLUMNS)


class Key(NamedTuple):
    """A partition."""

    week: date
    tier: Tier


class Line(NamedTuple):
    """A line of the script: for one partition, or (None) for every question, between two moments."""

    key: Key | None
    what: What
    at: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Version:
    """One state of a partition at FINRA: its rows, and what is wrong with them (``flaw``), if anything is."""

    number: int
    at: datetime
    rows: Sequence[Row] = field(compare=False, repr=False)
    flaw: What | None = None

    @property
    def content(self) -> int:
        """Equal for equal rows."""
        return hash(tuple(tuple(row.values()) for row in self.rows))


def new_york(day: date, clock: time) -> datetime:
    """A moment in New York, as UTC."""
    return datetime.combine(day, clock, NEW_YORK).astimezone(UTC)


def moment(text: str) -> datetime:
    """``2025-03-17 13:10`` in New York, as UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).astimezone(UTC)


def published_on(key: Key) -> date:
    """FINRA's day: so many days after the Friday, and where that Monday is a holiday the next day that is none."""
    day = key.week + LAGS[key.tier] * DAY
    while day in CLOSED or day.weekday() > 4:
        day += DAY
    return day


def sessions_of(week: date) -> float:
    """Trading days of a week, an early close counting one half."""
    days = [week - number * DAY for number in range(5)]
    return sum((day not in CLOSED) - (day in HALF_DAYS) / 2 for day in days)


@dataclass(frozen=True)
class Script:
    """A span of FINRA's life, and of the platform's: it is off from ``off`` to ``on``, if it is.

    ``first`` is the first week that FINRA has, ``last`` the last one that it publishes in the span.
    """

    begin: datetime
    end: datetime
    first: date
    text: str
    off: datetime
    on: datetime

    @classmethod
    def of(cls, text: str, begin: str, end: str, first: str, outage: tuple[str, str]) -> Script:
        off, on = map(moment, outage)
        return cls(moment(begin), moment(end), date.fromisoformat(first), text, off, on)

    @cached_property
    def lines(self) -> list[Line]:
        """The table, parsed."""
        return [self._line(text) for text in self.text.strip().splitlines() if not text.startswith("#")]

    def _line(self, text: str) -> Line:
        week, tier, what, *rest = text.partition("  # ")[0].split()
        times = [moment(f"{day} {clock}") for day, clock in zip(rest[::2], rest[1::2], strict=True)]
        key = None if week == "all" else Key(date.fromisoformat(week), TIERS[tier])
        shown = [new_york(published_on(key), PUBLISHED_AT)] if key else []
        at = (times or shown)[0]
        return Line(key, What(what), at, times[1] if len(times) > 1 else self.end)

    @cached_property
    def keys(self) -> list[Key]:
        """Every partition that is published in the span, oldest first."""
        weeks = (self.first + number * WEEK for number in range(60))
        keys = [Key(week, tier) for week in weeks for tier in Tier]
        return [key for key in keys if new_york(published_on(key), PUBLISHED_AT) < self.end]

    @cached_property
    def versions(self) -> dict[Key, list[Version]]:
        """What FINRA shows of each partition, by when it begins to."""
        return {key: list(self._versions(key)) for key in self.keys}

    def _versions(self, key: Key) -> Iterator[Version]:
        lines = [line for line in self.lines if line.key == key and not line.what.is_answer]
        by_what = {line.what: line for line in lines}
        if What.NEVER in by_what:
            return
        late = by_what.get(What.LATE)
        at = late.at if late else new_york(published_on(key), PUBLISHED_AT)
        day = at.astimezone(NEW_YORK).date()
        flaw = next((what for what in (What.IMPOSSIBLE, What.DOUBLED) if what in by_what), None)
        first = Version(1, at, rows_of(key, 1, day, day, flaw), flaw)
        yield first
        changes = [line for line in lines if line.what in (What.RESTATED, What.REVERTED, What.IMPOSSIBLE)]
        for number, line in enumerate(sorted(changes, key=lambda one: one.at), 2):
            if line.what is What.REVERTED:
                yield Version(number, line.at, first.rows, first.flaw)
            else:
                yield Version(number, line.at, rows_of(key, number, day, line.at.astimezone(NEW_YORK).date()))

    def shown(self, key: Key, now: datetime) -> Version | None:
        """What FINRA has of ``key`` at ``now``."""
        return next((one for one in reversed(self.versions.get(key, [])) if one.at <= now), None)

    def trouble(self, key: Key, now: datetime) -> What | None:
        """How a question for ``key`` is answered instead of truthfully."""
        return next(
            (
                line.what
                for line in self.lines
                if line.what.is_answer and line.key in (None, key) and line.at <= now < line.until
            ),
            None,
        )

    def is_on(self, now: datetime) -> bool:
        """Whether the platform runs."""
        return not self.off <= now < self.on

    @cached_property
    def changes(self) -> list[datetime]:
        """When anything at FINRA changes."""
        shown = {one.at for of_key in self.versions.values() for one in of_key}
        answers = {at for line in self.lines if line.what.is_answer for at in (line.at, line.until)}
        return sorted(shown | answers)


def rows_of(key: Key, number: int, shown_on: date, changed_on: date, flaw: What | None = None) -> list[Row]:
    """The rows of one version: the same symbols and venues each week, quantities within 10 % of the usual ones.

    A later version has three other quantities, with the day on which they changed.
    """
    draws = random.Random(f"{SEED} {key.week} {key.tier}")
    sessions = sessions_of(key.week)
    letter = "ABC"[list(Tier).index(key.tier)]
    rows = [
        _row(f"{letter}{one:03}", venue, int(1000 * sessions * (1 + one) * draws.uniform(0.9, 1.1)), shown_on)
        for one in range(ROWS[key.tier] // len(VENUES))
        for venue in VENUES
    ]
    if flaw is What.IMPOSSIBLE:
        rows[7] |= {"totalWeeklyShareQuantity": 0}
    if flaw is What.DOUBLED:
        rows += rows[:3]
    if number > 1:
        for row in draws.sample(rows[1:], 3):
            row["totalWeeklyShareQuantity"] *= 1 + number
            row["lastUpdateDate"] = changed_on.isoformat()
    return rows


def _row(symbol: str, venue: str, shares: int, updated: date) -> Row:
    return {
        "issueSymbolIdentifier": symbol,
        "issueName": f"{symbol} Inc. Common Stock",
        "MPID": venue,
        "marketParticipantName": f"{venue} ATS",
        "totalWeeklyShareQuantity": shares,
        "totalWeeklyTradeCount": max(1, shares // 200),
        "productTypeCode": "O",
        "lastUpdateDate": updated.isoformat(),
    }
