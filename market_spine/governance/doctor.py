"""One look at the health of a feed's newest weeks: what is missing, late, half-finished, stale, wrong or uncertified.

What belongs here: putting together what the rules of `expectations`, `staleness`, `readiness` and `causes` say of the
same weeks, and what that makes of the store as a whole. What does not: rules of its own, commands (`remedies`), and any
writing: a look leaves no trace, so that anybody may take one at any time.

A finding that another one explains is told with it and is no problem of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from market_spine.domain.contracts import Feed, Severity, Table
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import latest_due_week
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.domain.trust import Readiness
from market_spine.domain.weeks import WEEK, weeks_between
from market_spine.governance.anomalies import Observation
from market_spine.governance.causes import NOT_DELIVERED, cause_of
from market_spine.governance.criteria import Verdict
from market_spine.governance.expectations import (
    HEART,
    INCOMPLETE_STAGE_CHAIN,
    LATE_DATA,
    MISSED_RUNS,
    Expected,
    Facts,
    absence,
    deadline,
    expected,
    facts_of,
    observe,
)
from market_spine.governance.policy import Schedule, UseCase
from market_spine.governance.readiness import Scope, assess
from market_spine.governance.remedies import Kind, Problem, Remedies, remedies
from market_spine.governance.staleness import stale
from market_spine.store import anomalies, heartbeats
from market_spine.store import health as counts
from market_spine.store import readiness as verdicts
from market_spine.store.ledger import newest
from market_spine.store.store import Store

SILENCE = timedelta(minutes=10)  # the sensor looks every minute
BUDGET = 50 * 10**9  # bytes that a feed may take, landed objects aside
GRAVE = (Severity.WARN, Severity.ERROR, Severity.CRITICAL)
EXAMINED = (NOT_DELIVERED, MISSED_RUNS, LATE_DATA, INCOMPLETE_STAGE_CHAIN)  # what a look finds by itself
Row = Mapping[str, Any]


class Status(StrEnum):
    """How a store is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"  # something has a remedy
    UNHEALTHY = "unhealthy"  # a CRITICAL anomaly is open, or a partition is missing past its deadline


@dataclass(frozen=True, slots=True)
class Gap:
    """A partition that is due and not there. ``cause_id`` is the open anomaly that explains it, if one does."""

    expected: Expected
    message: str
    days: int
    cause_id: int | None


@dataclass(frozen=True, slots=True)
class Late:
    """A partition that came after its deadline: by so many hours, rounded down to tenths."""

    key: WeekKey
    deadline: datetime
    captured_at: datetime
    severity: Severity

    @property
    def hours(self) -> float:
        return (self.captured_at - self.deadline) // timedelta(minutes=6) / 10


@dataclass(frozen=True, slots=True)
class Chain:
    """A partition some of whose tables are not there, by stage."""

    key: WeekKey
    message: str
    missing: Mapping[str, Sequence[str]]
    cause_id: int | None


@dataclass(frozen=True, slots=True)
class Open:
    """An open anomaly that stands for itself, and how many others follow from it."""

    row: Row
    follows: int


@dataclass(frozen=True, slots=True)
class Uncertified:
    """A week that is old enough for a use case and not certified; ``recorded`` is the state on record."""

    verdict: Verdict
    recorded: Readiness | None

    @property
    def reasons(self) -> tuple[str, ...]:
        if self.verdict.is_ready:
            return ("all five criteria hold; nobody has judged it since",)
        return tuple(issue.message for issue in self.verdict.issues)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """When the sensor that compares last looked; ``beat_at`` None: it never did in this store."""

    beat_at: datetime | None
    detail: str
    age: timedelta | None

    @property
    def is_silent(self) -> bool:
        return self.age is not None and self.age > SILENCE


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the store holds: capture files by table, deliveries, transactions, and the version of its schema."""

    tables: Mapping[str, counts.Usage]
    landed: counts.Landed
    batches: int
    committed_at: datetime | None
    schema_version: str

    @property
    def total(self) -> counts.Usage:
        return counts.Usage(sum(one.files for one in self.tables.values()), sum(self.bytes_by_table.values()))

    @property
    def bytes_by_table(self) -> dict[str, int]:
        return {name: one.bytes for name, one in self.tables.items()}


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What one look found. ``expected`` are the partitions that are due by now, ``judged`` the weeks per use case
    that are old enough, ``older`` the grave anomalies of earlier weeks, ``settled`` those that no longer hold."""

    feed: Feed
    schedule: Schedule
    weeks: int
    checked_at: datetime
    is_empty: bool
    expected: Sequence[Expected]
    gaps: Sequence[Gap]
    late: Sequence[Late]
    chains: Sequence[Chain]
    stale: Mapping[str, int]
    anomalies: Sequence[Open]
    is_critical: bool
    older: int
    settled: int
    judged: Mapping[str, int]
    uncertified: Sequence[Uncertified]
    heartbeat: Heartbeat
    holdings: Holdings
    remedies: Remedies = field(default_factory=dict)

    @property
    def found(self) -> int:
        """How many of the expected partitions are there."""
        return len(self.expected) - len(self.gaps)

    @property
    def problems(self) -> list[Problem]:
        return [one for mended in self.remedies.values() for one in mended]

    @property
    def status(self) -> Status:
        if self.is_critical or any(one.expected.is_late for one in self.gaps):
            return Status.UNHEALTHY
        return Status.DEGRADED if self.remedies else Status.HEALTHY

    def open_count(self, severity: Severity) -> int:
        """How many anomalies of ``severity`` stand for themselves."""
        return sum(1 for one in self.anomalies if one.row["severity"] == severity)


def examine(
    store: Store, feed: Feed, schedule: Schedule, scope: Scope, tables: Mapping[str, Table], now: datetime, weeks: int
) -> Diagnosis:
    """Look at the newest ``weeks`` due weeks of each tier of ``feed``, as things stand at ``now``.

    ``schedule`` says what is expected, ``tables`` are all tables of the feed by SQL name. Nothing is recorded.
    """
    look = _Look(feed, replace(schedule, watch_weeks=weeks if schedule.is_watched else 0), now, weeks)
    with store.control.read() as connection:
        facts = facts_of(connection, look.schedule, tables, feed.first_week)
        opened = anomalies.open_rows(connection, feed.domain)
        held = verdicts.held(connection, feed.domain)
        old = Counter(one.capture.table_name for one in stale(connection, scope.derived))
        beat = heartbeats.last(connection, HEART)
        sizes, landed = counts.usage(connection, feed.domain), counts.landed(connection, feed.domain)
        holdings = Holdings(sizes, landed, *newest(connection), counts.schema_version(connection))
    judged = look.judged_weeks(scope.use_cases.values(), facts)
    judgements, _ = assess(store, scope, now, sorted({week for of_case in judged.values() for week in of_case}))
    asked = [one for one in judgements if one.week in judged[one.use_case.name]]
    diagnosis = look.diagnosis(facts, opened, asked, held, old, _heart(beat, now), holdings)
    return replace(diagnosis, remedies=remedies([*_problems(diagnosis)], feed, weeks))


def _heart(beat: Row | None, now: datetime) -> Heartbeat:
    return Heartbeat(beat["beat_at"], beat["detail"], now - beat["beat_at"]) if beat else Heartbeat(None, "", None)


class _Look:
    """The weeks that are looked at, and what is seen in them."""

    def __init__(self, feed: Feed, schedule: Schedule, now: datetime, weeks: int) -> None:
        self.feed, self.schedule, self.now, self.weeks = feed, schedule, now, weeks
        newest_of = [latest_due_week(tier or schedule.first_tier, now) for tier in schedule.tiers]
        # One week more than is asked for: FINRA publishes hours before the schedule's own time.
        first = max(feed.first_week, min(newest_of) - weeks * WEEK)
        every = expected(schedule, weeks_between(first, max(newest_of)), now)
        self.due = {one.key: one for one in every if one.is_due}
        self.newest = {tier: [key for key in self.due if key.tier is tier][-weeks:] for tier in schedule.tiers}
        oldest = {key.tier_text: key.week_ending for of_tier in self.newest.values() for key in reversed(of_tier)}
        self.oldest = oldest | {ALL_TIERS: min(oldest.values())}

    def judged_weeks(self, use_cases: Collection[UseCase], facts: Facts) -> dict[str, set[date]]:
        """Per use case the newest weeks of which all its tiers are due, none before the store began."""
        weeks = {key.week_ending for key in self.due if facts.first and key.week_ending >= facts.since}
        found = {}
        for one in use_cases:
            whole = [week for week in sorted(weeks) if all(WeekKey(week, tier) in self.due for tier in one.tiers)]
            found[one.name] = set(whole[-self.weeks :])
        return found

    def diagnosis(
        self,
        facts: Facts,
        opened: Sequence[Row],
        asked: Sequence[Verdict],
        held: Mapping[tuple[date, str], Row],
        old: Mapping[str, int],
        heartbeat: Heartbeat,
        holdings: Holdings,
    ) -> Diagnosis:
        wanted = [key for of_tier in self.newest.values() for key in of_tier] if self.schedule.is_watched else []
        wanted = [key for key in wanted if facts.first and key.week_ending >= facts.since]
        seen = observe(facts, self.schedule, self.now)
        gaps = [self._gap(key, opened) for key in sorted(wanted) if key not in facts.arrived]
        late = [_late(one) for one in seen if one.code == LATE_DATA and one.is_open]
        chains = [_chain(one, opened) for one in seen if one.code == INCOMPLETE_STAGE_CHAIN and one.is_open]
        near = [row for row in opened if self._is_near(row)]
        roots, settled = self._roots(near, opened, _places(gaps, late, chains))
        return Diagnosis(
            feed=self.feed,
            schedule=self.schedule,
            weeks=self.weeks,
            checked_at=self.now,
            is_empty=not facts.first,
            expected=[self.due[key] for key in sorted(wanted)],
            gaps=gaps,
            late=sorted(late, key=lambda one: one.key),
            chains=sorted(chains, key=lambda one: one.key),
            stale=dict(old),
            anomalies=roots,
            is_critical=any(row["severity"] == Severity.CRITICAL for row in near),
            older=sum(1 for row in opened if row not in near and row["severity"] in GRAVE and row["cause_id"] is None),
            settled=settled,
            judged=Counter(one.use_case.name for one in asked if self._is_old_enough(one)),
            uncertified=[*self._uncertified(asked, held)],
            heartbeat=heartbeat,
            holdings=holdings,
        )

    def _is_near(self, row: Row) -> bool:
        return bool(row["week_ending"] >= self.oldest.get(row["tier"], self.oldest[ALL_TIERS]))

    def _gap(self, key: WeekKey, opened: Sequence[Row]) -> Gap:
        _, message, details = absence(self.schedule, key, self.now)
        return Gap(self.due[key], message, details["days"], _explained(NOT_DELIVERED, key, self.feed.domain, opened))

    def _roots(
        self, near: Sequence[Row], opened: Sequence[Row], holding: Collection[tuple[str, date, str]]
    ) -> tuple[list[Open], int]:
        """What stands for itself, the gravest first, and how many of the look's own findings no longer hold."""
        held = {row["id"]: row for row in opened}
        settled = {row["id"] for row in near if row["code"] in EXAMINED and _place(row) not in holding}
        tops = Counter(_root(row, held)["id"] for row in near)
        gravity = [*reversed(Severity)]
        roots = [held[number] for number in tops if number not in settled]
        roots.sort(key=lambda row: (gravity.index(row["severity"]), -row["week_ending"].toordinal(), row["tier"]))
        follows = Counter(_root(row, held)["id"] for row in opened if row["cause_id"] is not None)
        return [Open(row, follows[row["id"]]) for row in roots], len(settled)

    def _is_old_enough(self, one: Verdict) -> bool:
        """Whether every tier is past its deadline, and what came past its preliminary period, for that use."""
        settling = timedelta(hours=one.use_case.preliminary_hours)
        limit = max(deadline(self.schedule, one.week, tier) for tier in one.use_case.tiers) + settling
        return self.now > max(limit, one.ready_after or limit)

    def _uncertified(
        self, asked: Sequence[Verdict], held: Mapping[tuple[date, str], Row]
    ) -> Iterator[Uncertified]:
        for one in asked:
            row = held.get((one.week, one.use_case.name))
            is_recorded = bool(row and row["is_ready"])
            if is_recorded != one.is_ready or (self._is_old_enough(one) and not one.is_ready):
                yield Uncertified(one, Readiness(row["state"]) if row else None)


def _late(one: Observation) -> Late:
    limit, came = (datetime.fromisoformat(one.details[name]) for name in ("expected", "actual"))
    return Late(one.key, limit, came, one.severity)


def _chain(one: Observation, opened: Sequence[Row]) -> Chain:
    cause = _explained(one.code, one.key, one.domain, opened)
    return Chain(one.key, one.message, one.details["missing"], cause)


def _explained(code: str, key: WeekKey, domain: str, opened: Sequence[Row]) -> int | None:
    """The open anomaly that explains a finding, whether or not the finding is on record itself."""
    row = {"id": 0, "code": code, "domain": domain, "week_ending": key.week_ending, "tier": key.tier_text}
    return cause_of(row, opened)


def _root(row: Row, held: Mapping[int, Row]) -> Row:
    """What ``row`` follows from in the end."""
    passed = set()
    while row["cause_id"] in held and row["id"] not in passed:
        passed.add(row["id"])
        row = held[row["cause_id"]]
    return row


def _place(row: Row) -> tuple[str, date, str]:
    return row["code"], row["week_ending"], row["tier"]


def _places(gaps: Sequence[Gap], late: Sequence[Late], chains: Sequence[Chain]) -> set[tuple[str, date, str]]:
    """Code, week and tier of everything that the look found by itself."""
    keys = [one.expected.key for one in gaps]
    found = {(NOT_DELIVERED, key.week_ending, key.tier_text) for key in keys}
    found |= {(MISSED_RUNS, key.week_ending, ALL_TIERS) for key in keys}
    found |= {(LATE_DATA, one.key.week_ending, one.key.tier_text) for one in late}
    return found | {(INCOMPLETE_STAGE_CHAIN, one.key.week_ending, one.key.tier_text) for one in chains}
