"""What must follow from a script: when each partition is looked for and captured, when weeks are certified, what is
named and for how long, and which asks may fail. Worked out from the script and from the documents' promises alone:

* A week is looked for at 10:30 New York on its day. Where FINRA has nothing, every 30 minutes until the deadline (10:00
  a day later). They count from the last answer, so that looks drift, by up to a minute each: no script depends on the
  last of many.
* Where FINRA fails, twice more, 5 minutes apart; what cannot be used is not fetched again.
* What is not there then, or could not be used, is looked for at 10:30 of each weekday, and what is there on Wednesdays
  at 12:00: both while it is among its tier's 12 newest.
* A platform that was off looks as soon as it is on, once for all that it missed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import cached_property
from typing import NamedTuple

from market_spine.domain.tiers import Tier
from market_spine_tests.journeys.year_script import (
    DAY,
    NEW_YORK,
    WEEK,
    Key,
    Script,
    Version,
    What,
    new_york,
    published_on,
)

SOON = timedelta(minutes=10)  # what has to happen has happened by then: a few ticks, each half a minute
POLL, AGAIN, TRIES = timedelta(minutes=30), timedelta(minutes=5), 3
EXPECTED, REFRESH, RECHECK = time(10), time(10, 30), time(12)
WEDNESDAY = 2
WATCHED = 12
USES = {"trading": (tuple(Tier), 48), "compliance": (tuple(Tier), 48), "research": ((Tier.NMS_TIER_1,), 24)}
WINDOW, HISTORY = 5, 12  # weeks back that a measure reads, and that a week is compared with
ALL = "ALL"  # tiers


class Look(NamedTuple):
    """A question to FINRA: when, and what came: a version, a trouble, or neither, which is nothing yet.

    ``is_ask`` marks the first question of an ask, ``is_failure`` one with which the ask has failed.
    """

    at: datetime
    version: Version | None
    trouble: What | None
    is_ask: bool
    is_failure: bool


class Capture(NamedTuple):
    """A version that had to be captured, from ``at`` on."""

    at: datetime
    version: Version


class Span(NamedTuple):
    """From when to when something holds; None: to the end."""

    begin: datetime
    end: datetime | None

    def holds(self, at: datetime) -> bool:
        return self.begin <= at and (self.end is None or at < self.end)


def due(key: Key) -> datetime:
    """When a partition is due."""
    return new_york(published_on(key), EXPECTED)


def deadline(key: Key) -> datetime:
    """By when it must be there."""
    return due(key) + DAY


@dataclass(frozen=True)
class Oracle:
    """The answers for one script."""

    script: Script

    @cached_property
    def looks(self) -> dict[Key, list[Look]]:
        return {key: list(self._looks(key)) for key in self.script.keys}

    @cached_property
    def captures(self) -> dict[Key, list[Capture]]:
        """Every version that is captured: what a look finds, where it is not what the look before found."""
        found: dict[Key, list[Capture]] = {}
        for key, looks in self.looks.items():
            held: list[Capture] = []
            for look in looks:
                if look.version and (not held or held[-1].version.content != look.version.content):
                    held.append(Capture(look.at, look.version))
            found[key] = held
        return found

    def _looks(self, key: Key) -> Iterator[Look]:
        at: datetime | None = self._first(key)
        is_there, is_ask, tries = False, True, 0
        while at is not None and at < self.script.end:
            trouble, version = self._answer(key, at)
            is_retried = trouble in (What.DOWN, What.CUT, What.PAGE)
            tries = tries + 1 if is_retried else 0
            waits = not trouble and not version and at < deadline(key)
            goes_on = waits or (is_retried and tries < TRIES)
            is_bad = version is not None and version.flaw is What.IMPOSSIBLE
            is_failure = not goes_on and (version is None or is_bad)
            yield Look(at, version, trouble, is_ask, is_failure)
            is_there = is_there or version is not None
            is_ask = not goes_on
            if waits:
                at = self._awake(min(at + POLL, deadline(key)))
            elif goes_on:
                at = self._awake(at + AGAIN)
            else:
                at, tries = self._next(key, at, is_there, is_failure), 0

    def _answer(self, key: Key, at: datetime) -> tuple[What | None, Version | None]:
        """What FINRA answers, and goes on to answer for some minutes: a script that changes just then is ambiguous."""
        trouble, version = self.script.trouble(key, at), self.script.shown(key, at)
        later = at + SOON
        if (self.script.trouble(key, later), self.script.shown(key, later)) != (trouble, version):
            raise AssertionError(f"the script changes within minutes of {at}: say another time for {key}")
        if trouble in (What.CUT, What.COLUMNS) and version is None:
            trouble = None
        return trouble, None if trouble else version

    def _first(self, key: Key) -> datetime | None:
        """On its day; what was published before the platform began, on the day after its first load shows the gap."""
        begin, days = self.script.begin, [new_york(published_on(one), REFRESH) for one in self.script.keys]
        at = new_york(published_on(key), REFRESH)
        return self._awake(at if at >= begin else self._tick(min(day for day in days if day >= begin)))

    def _next(self, key: Key, after: datetime, is_there: bool, is_failure: bool) -> datetime | None:
        weekly = [self._wednesday(after)] if is_there else []
        at = self._awake(min([*weekly, self._tick(after)] if is_failure or not is_there else weekly))
        newer = [one for one in self.script.keys if one.tier is key.tier and one.week > key.week and due(one) <= at]
        return at if len(newer) < WATCHED else None

    def _awake(self, at: datetime) -> datetime:
        return at if self.script.is_on(at) else self.script.on

    @staticmethod
    def _tick(after: datetime) -> datetime:
        """The next weekday's look for what is missing or has failed."""
        day = after.astimezone(NEW_YORK).date()
        while new_york(day, REFRESH) <= after or day.weekday() > 4:
            day += DAY
        return new_york(day, REFRESH)

    @staticmethod
    def _wednesday(after: datetime) -> datetime:
        """The next second look at what is there."""
        day = after.astimezone(NEW_YORK).date()
        while new_york(day, RECHECK) <= after or day.weekday() != WEDNESDAY:
            day += DAY
        return new_york(day, RECHECK)

    def unusable(self, key: Key) -> list[Span]:
        """While the newest delivery of a partition cannot be used, which blocks its week."""
        found, since = [], None
        for look in self.looks[key]:
            is_bad = look.trouble is What.COLUMNS or (look.version and look.version.flaw is What.IMPOSSIBLE)
            if is_bad and since is None:
                since = look.at
            elif look.version and not is_bad and since:
                found.append(Span(since, look.at))
                since = None
        return [*found, Span(since, None)] if since else found

    def certified(self, week: date, use: str) -> list[Span]:
        """While a week must be certified for a use: every tier there and usable, and the newest old enough."""
        tiers, hours = USES[use]
        held = [self.captures.get(Key(week, tier), []) for tier in tiers]
        if not all(held):
            return []
        moments = sorted({one.at for of_tier in held for one in of_tier})
        complete = max(of_tier[0].at for of_tier in held)
        moments = [at for at in moments if at >= complete]
        ends: Sequence[datetime | None] = [*moments[1:], None]
        blocked = [span for tier in tiers for span in self.unusable(Key(week, tier))]
        found = []
        for at, end in zip(moments, ends, strict=True):
            begin = self._awake(at + timedelta(hours=hours))
            found += _without([Span(begin, end)] if end is None or begin < end else [], blocked)
        return [span for span in found if span.begin < self.script.end]

    def shaken(self, week: date, use: str) -> list[datetime]:
        """When a week may lose its certificate for some minutes: something that its measures read was captured."""
        tiers, _ = USES[use]
        weeks = [week - back * WEEK for back in range(HISTORY + 1)]
        return [one.at for day in weeks for tier in tiers for one in self.captures.get(Key(day, tier), [])]


def _without(spans: Sequence[Span], holes: Sequence[Span]) -> list[Span]:
    for hole in holes:
        cut = []
        for span in spans:
            if hole.end is not None and hole.end <= span.begin:
                cut.append(span)
                continue
            if span.end is not None and span.end <= hole.begin:
                cut.append(span)
                continue
            if span.begin < hole.begin:
                cut.append(Span(span.begin, hole.begin))
            if hole.end is not None and (span.end is None or hole.end < span.end):
                cut.append(Span(hole.end, span.end))
        spans = cut
    return list(spans)
