"""Which anomaly must stand on record for each fault of a script, where, how grave, and from when to when.

What belongs here: the documents' words for each fault. What does not: when things come (`year_oracle`), and comparing
with what is there (`year_verdict`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from market_spine_tests.journeys.year_oracle import ALL, SOON, USES, WATCHED, WINDOW, Oracle, Span, deadline, due
from market_spine_tests.journeys.year_script import NEW_YORK, WEEK, Key, What, published_on

INFO, WARN, ERROR, CRITICAL = "INFO", "WARN", "ERROR", "CRITICAL"
ERROR_AFTER = timedelta(hours=24)  # late by less is a WARN
GRACE = timedelta(hours=1)  # from a delivery until its measures must be there
TROUBLES = {
    What.DOWN: ("SOURCE_UNAVAILABLE", ERROR),
    What.CUT: ("SOURCE_UNAVAILABLE", ERROR),
    What.PAGE: ("SOURCE_UNAVAILABLE", ERROR),
    What.COLUMNS: ("UNREADABLE", CRITICAL),
}


@dataclass(frozen=True, slots=True)
class Named:
    """An anomaly that must (``is_required``) or may be on record: from about when to about when, at least."""

    code: str
    week: date
    tier: str
    severity: str
    span: Span
    is_required: bool = True


def names(oracle: Oracle) -> Iterator[Named]:
    """Everything that must or may be named until the script ends."""
    end = oracle.script.end
    for one in _every(oracle):
        if one.span.begin + SOON < end:
            is_over = one.span.end is not None and one.span.end < end
            yield one if is_over else replace(one, span=Span(one.span.begin, None))


def _every(oracle: Oracle) -> Iterator[Named]:
    for key in oracle.script.keys:
        yield from _gaps(oracle, key)
        yield from _answers(oracle, key)
        yield from _contents(oracle, key)
        yield from _followers(oracle, key)
    for week in sorted({key.week for key in oracle.script.keys}):
        yield from _weeks(oracle, week)


def _at(key: Key, code: str, severity: str, begin: datetime, end: datetime | None, is_required: bool = True) -> Named:
    return Named(code, key.week, key.tier.value, severity, Span(begin, end), is_required)


def _arrival(oracle: Oracle, key: Key) -> datetime | None:
    held = oracle.captures[key]
    return held[0].at if held else None


def _since(oracle: Oracle, at: datetime) -> datetime:
    """When a look can first tell what holds since ``at``: not before the platform begins, nor while it is off."""
    script = oracle.script
    first = min(one.at for looks in oracle.looks.values() for one in looks)
    return max(at, first) if script.is_on(max(at, first)) else script.on


def _is_long(begin: datetime, end: datetime | None) -> bool:
    """Whether somebody must see it: what comes and goes within one look may be named in between, or not."""
    return end is None or end - begin > SOON


def _gaps(oracle: Oracle, key: Key) -> Iterator[Named]:
    """What is not there, and what came late."""
    limit, arrival = deadline(key), _arrival(oracle, key)
    if arrival is not None and arrival <= limit:
        return
    since = _since(oracle, limit)
    if arrival is None or since <= arrival:
        yield _at(key, "NOT_DELIVERED", ERROR, since, arrival, _is_long(since, arrival))
    if arrival is None:
        return
    if limit > oracle.script.begin:
        severity = WARN if arrival - limit < ERROR_AFTER else ERROR
        yield _at(key, "LATE_DATA", severity, arrival, _unwatched(oracle, key))
    held = oracle.captures[key][0].version
    if held.at.astimezone(NEW_YORK).date() != published_on(key):
        yield _at(key, "UNEXPECTED_PUBLICATION_DATE", WARN, arrival, None)


def _unwatched(oracle: Oracle, key: Key) -> datetime | None:
    """When a partition is no longer among the watched ones of its tier."""
    at = due(Key(key.week + WATCHED * WEEK, key.tier))
    return _since(oracle, at) if at < oracle.script.end else None


def _answers(oracle: Oracle, key: Key) -> Iterator[Named]:
    """What FINRA answered badly, until it answers well."""
    since: datetime | None = None
    what: What | None = None
    for look in oracle.looks[key]:
        if look.trouble is what:
            continue
        if what and since:
            yield _at(key, *TROUBLES[what], since, look.at)
        what, since = look.trouble, look.at
    if what and since:
        yield _at(key, *TROUBLES[what], since, None)


def _contents(oracle: Oracle, key: Key) -> Iterator[Named]:
    """What is wrong with what came, and that it came anew."""
    held = oracle.captures[key]
    for number, one in enumerate(held):
        after = held[number + 1].at if number + 1 < len(held) else None
        if one.version.flaw is What.IMPOSSIBLE:
            yield _at(key, "TRADES_WITHOUT_SHARES", CRITICAL, one.at, after)
            if after is None or after - one.at > GRACE:
                yield _at(key, "INCOMPLETE_STAGE_CHAIN", ERROR, _since(oracle, one.at + GRACE), after)
        if one.version.flaw is What.DOUBLED:
            yield _at(key, "EXACT_DUPLICATE", WARN, one.at, after)
        if number:
            ends = [at for at in (after, _certified_again(oracle, key, one.at)) if at]
            yield _at(key, "RESTATED", INFO, one.at, min(ends, default=None))


def _certified_again(oracle: Oracle, key: Key, since: datetime) -> datetime | None:
    """When every use that needs the partition has certified its week after ``since``."""
    ends = []
    for use, (tiers, _) in USES.items():
        later = [span.begin for span in oracle.certified(key.week, use) if span.begin > since]
        if key.tier in tiers:
            ends.append(min(later, default=None))
    return None if None in ends else max(one for one in ends if one)


def _usable(oracle: Oracle, key: Key) -> datetime | None:
    """When a partition is there for the measures of others."""
    arrival, blocked = _arrival(oracle, key), oracle.unusable(key)
    return blocked[0].end if blocked and arrival == blocked[0].begin else arrival


def _followers(oracle: Oracle, key: Key) -> Iterator[Named]:
    """Windows of later weeks that lack this one, where the history does not just begin with it."""
    usable = _usable(oracle, key)
    for weeks in range(1, WINDOW + 1):
        follower = Key(key.week + weeks * WEEK, key.tier)
        made = _usable(oracle, follower) if follower in oracle.captures else None
        if made is None or (usable is not None and made > usable):
            continue
        older = [_usable(oracle, one) for one in oracle.script.keys if one.tier is key.tier and one.week < key.week]
        if any(one is not None and one <= made for one in older):
            yield _at(follower, "INCOMPLETE_WINDOW", ERROR, made, usable, _is_long(made, usable))


def _weeks(oracle: Oracle, week: date) -> Iterator[Named]:
    """What is told of a week as a whole: partitions past their deadline, and a split of fewer than three tiers."""
    for key in oracle.script.keys:
        if key.week != week:
            continue
        arrival, usable, limit = _arrival(oracle, key), _usable(oracle, key), deadline(key)
        if arrival is None or arrival > limit:
            since = _since(oracle, limit)
            if arrival is None or since <= arrival:
                yield Named("MISSED_RUNS", week, ALL, ERROR, Span(since, arrival), _is_long(since, arrival))
        if usable is None or usable > limit:
            yield Named("INCOMPLETE_TIER_SPLIT", week, ALL, WARN, Span(limit, usable), is_required=False)
