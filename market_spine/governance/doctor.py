"""One look at the newest weeks of a feed: what is missing, late, half-finished, out of date, wrong or uncertified.

What belongs here: putting together what the rules of `expectations`, `staleness`, `readiness` and `causes` say of the
same weeks. What does not: rules of its own, the values (`diagnosis`), the commands that help (`remedies`), and any
writing: a look leaves no trace, so that anybody may take one at any time.

What another finding explains is told with it, and is no problem of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from market_spine.domain.contracts import Feed, Severity, Table
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import latest_due_week
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.domain.trust import Readiness
from market_spine.domain.weeks import WEEK, weeks_between
from market_spine.domain.work import WorkState
from market_spine.governance.anomalies import Observation
from market_spine.governance.causes import NOT_DELIVERED, cause_of
from market_spine.governance.criteria import Verdict
from market_spine.governance.diagnosis import (
    UNCLAIMED,
    Chain,
    Diagnosis,
    Gap,
    Heartbeat,
    Holdings,
    Late,
    Open,
    Row,
    Uncertified,
)
from market_spine.governance.expectations import (
    HEART,
    INCOMPLETE_STAGE_CHAIN,
    LATE_DATA,
    MISSED_RUNS,
    Facts,
    absence,
    deadline,
    expected,
    facts_of,
    observe,
)
from market_spine.governance.policy import Schedule, UseCase
from market_spine.governance.readiness import Scope, assess
from market_spine.governance.remedies import Kind, Problem, remedies
from market_spine.governance.staleness import stale
from market_spine.store import anomalies, health, heartbeats, work
from market_spine.store import readiness as verdicts
from market_spine.store.ledger import newest
from market_spine.store.store import Store

Held = Mapping[tuple[date, str], Row]  # (week, use case) -> the verdict on record


@dataclass(frozen=True)
class Record:
    """What is on record of a feed, read at once."""

    facts: Facts
    opened: Sequence[Row]
    verdicts: Held
    stale: Mapping[str, int]
    failed_work: Sequence[Row]
    open_work: int
    waiting_work: Sequence[Row]
    heartbeat: Heartbeat
    holdings: Holdings


def examine(
    store: Store, feed: Feed, schedule: Schedule, scope: Scope, tables: Mapping[str, Table], now: datetime, weeks: int
) -> Diagnosis:
    """Look at the newest ``weeks`` due weeks of each tier of ``feed``, as things stand at ``now``.

    ``schedule`` says what is expected, ``tables`` are all tables of the feed by SQL name. Nothing is recorded.
    """
    watch = replace(schedule, watch_weeks=weeks if schedule.is_watched else 0)
    record = _read(store, feed, watch, scope, tables, now)
    look = _Look(feed, watch, record, now, weeks)
    wanted = look.weeks_of(scope.use_cases.values())
    judged, _ = assess(store, scope, now, {week for chosen in wanted.values() for week in chosen})
    found = look.diagnosis([one for one in judged if one.week in wanted[one.use_case.name]])
    return replace(found, remedies=remedies(problems(found), feed, weeks))


def _read(
    store: Store, feed: Feed, schedule: Schedule, scope: Scope, tables: Mapping[str, Table], now: datetime
) -> Record:
    with store.control.read() as connection:
        beat = heartbeats.last(connection, HEART)
        states = work.counts(connection, feed.domain)
        return Record(
            facts_of(connection, schedule, tables, feed.first_week),
            anomalies.open_rows(connection, feed.domain),
            verdicts.held(connection, feed.domain),
            Counter(one.capture.table_name for one in stale(connection, scope.derived)),
            work.failed(connection, feed.domain),
            sum(number for state, number in states.items() if WorkState(state).is_open),
            [] if states.get(WorkState.RUNNING) else work.due(connection, feed.domain, now - UNCLAIMED),
            Heartbeat(beat["beat_at"], beat["detail"], now - beat["beat_at"]) if beat else Heartbeat(None, "", None),
            Holdings(
                health.usage(connection, feed.domain),
                health.landed(connection, feed.domain),
                *newest(connection),
                health.schema_version(connection),
            ),
        )


class _Look:
    """The weeks that are looked at, and what is seen in them."""

    def __init__(self, feed: Feed, schedule: Schedule, record: Record, now: datetime, weeks: int) -> None:
        self.feed, self.schedule, self.record, self.now, self.weeks = feed, schedule, record, now, weeks
        latest = [latest_due_week(tier or schedule.first_tier, now) for tier in schedule.tiers]
        # One week more than is asked for: FINRA publishes some hours before the schedule's own time.
        first = max(feed.first_week, min(latest) - weeks * WEEK)
        every = expected(schedule, weeks_between(first, max(latest)), now)
        self.due = {one.key: one for one in every if one.is_due}
        self.newest = {tier: [key for key in self.due if key.tier is tier][-weeks:] for tier in schedule.tiers}
        self.looked_at = {key for of_tier in self.newest.values() for key in of_tier}
        self.oldest = min((key.week_ending for key in self.looked_at), default=feed.first_week)
        self.since = record.facts.since

    def _has_begun(self, key: WeekKey) -> bool:
        return self.since is not None and key.week_ending >= self.since

    def weeks_of(self, use_cases: Collection[UseCase]) -> dict[str, set[date]]:
        """Per use case the newest weeks of which all its tiers are due, none before the store began."""
        weeks = sorted({key.week_ending for key in self.due if self._has_begun(key)})
        found = {}
        for one in use_cases:
            whole = [week for week in weeks if all(WeekKey(week, tier) in self.due for tier in one.tiers)]
            found[one.name] = set(whole[-self.weeks :])
        return found

    def diagnosis(self, judged: Sequence[Verdict]) -> Diagnosis:
        """What is seen, without what helps."""
        facts, opened = self.record.facts, self.record.opened
        keys = sorted(key for key in self.looked_at if self._has_begun(key))
        wanted = keys if self.schedule.is_watched else []
        seen = [one for one in observe(facts, self.schedule, self.now) if one.is_open]
        late = [_late(one) for one in seen if one.code == LATE_DATA]
        chains = [_chain(one, opened) for one in seen if one.code == INCOMPLETE_STAGE_CHAIN]
        near = [row for row in opened if row["week_ending"] >= self.oldest]
        settled = {row["id"] for row in near if self._is_settled(row, late, chains)}
        roots = _roots(near, [row for row in opened if row["id"] not in settled])
        shown = {row["id"] for row in near} | {one.row["id"] for one in roots}
        others = [row for row in opened if row["id"] not in shown and row["cause_id"] is None]
        uncertified = [*self._uncertified(judged)]
        return Diagnosis(
            feed=self.feed,
            schedule=self.schedule,
            weeks=self.weeks,
            checked_at=self.now,
            is_empty=not facts.since,
            expected=[self.due[key] for key in wanted],
            gaps=[self._gap(key) for key in wanted if key not in facts.arrived],
            late=sorted(late, key=lambda one: one.key),
            chains=sorted(chains, key=lambda one: one.key),
            stale=self.record.stale,
            anomalies=roots,
            is_critical=any(row["severity"] == Severity.CRITICAL for row in near),
            older=sum(1 for row in others if row["severity"] != Severity.INFO),
            settled=len(settled),
            judged=self._judged(judged, uncertified),
            uncertified=uncertified,
            failed_work=self.record.failed_work,
            open_work=self.record.open_work,
            waiting_work=self.record.waiting_work,
            heartbeat=self.record.heartbeat,
            holdings=self.record.holdings,
        )

    def _gap(self, key: WeekKey) -> Gap:
        severity, message, details = absence(self.schedule, key, self.now)
        cause = _explained(NOT_DELIVERED, severity, key, self.feed.domain, self.record.opened)
        return Gap(self.due[key], message, details["days"], cause)

    def _is_settled(self, row: Row, late: Sequence[Late], chains: Sequence[Chain]) -> bool:
        """Whether an anomaly is of a kind that the look sees by itself, and it sees that it no longer holds."""
        key = _key(row)
        if row["code"] == NOT_DELIVERED:
            return key in self.record.facts.arrived
        if row["code"] == MISSED_RUNS:
            return all(one in self.record.facts.arrived for one in _missed(row))
        own: Mapping[str, Sequence[Late | Chain]] = {LATE_DATA: late, INCOMPLETE_STAGE_CHAIN: chains}
        is_seen = row["code"] in own and key in self.looked_at
        return is_seen and key not in {one.key for one in own[row["code"]]}

    def _is_old_enough(self, one: Verdict) -> bool:
        """Whether every tier is past its deadline, and what has come past its preliminary period."""
        settling = timedelta(hours=one.use_case.preliminary_hours)
        limit = max(deadline(self.schedule, one.week, tier) for tier in one.use_case.tiers) + settling
        return self.now > max(limit, one.ready_after or limit)

    def _uncertified(self, judged: Sequence[Verdict]) -> Iterator[Uncertified]:
        for one in judged:
            row = self.record.verdicts.get((one.week, one.use_case.name))
            differs = bool(row and row["is_ready"]) != one.is_ready
            if differs or (not one.is_ready and self._is_old_enough(one)):
                yield Uncertified(one, Readiness(row["state"]) if row else None)

    def _judged(self, judged: Sequence[Verdict], uncertified: Sequence[Uncertified]) -> dict[str, int]:
        told = [one.verdict for one in uncertified]
        counted = Counter(one.use_case.name for one in judged if one in told or self._is_old_enough(one))
        return {one.use_case.name: counted[one.use_case.name] for one in judged}


def _late(one: Observation) -> Late:
    limit, came = (datetime.fromisoformat(one.details[name]) for name in ("expected", "actual"))
    return Late(one.key, limit, came, one.severity)


def _chain(one: Observation, opened: Sequence[Row]) -> Chain:
    cause = _explained(one.code, one.severity, one.key, one.domain, opened)
    return Chain(one.key, one.message, one.details["missing"], cause)


def _explained(code: str, severity: Severity, key: WeekKey, domain: str, opened: Sequence[Row]) -> int | None:
    """The open anomaly that explains a finding, whether or not the finding is on record itself."""
    place = {"domain": domain, "week_ending": key.week_ending, "tier": key.tier_text}
    return cause_of({"id": 0, "code": code, "severity": severity, **place}, opened)


def _roots(near: Sequence[Row], opened: Sequence[Row]) -> list[Open]:
    """What stands for itself among ``near``, or explains some of it; the gravest and newest first."""
    held = {row["id"]: row for row in opened}
    root_of = {number: _root(row, held)["id"] for number, row in held.items()}
    follows = Counter(root for number, root in root_of.items() if root != number)
    tops = [held[number] for number in {root_of[row["id"]] for row in near if row["id"] in held}]
    gravity = [*reversed(Severity)]
    tops.sort(key=lambda row: (row["tier"], row["id"]))
    tops.sort(key=lambda row: row["week_ending"], reverse=True)
    tops.sort(key=lambda row: gravity.index(row["severity"]))
    return [Open(row, follows[row["id"]]) for row in tops]


def _root(row: Row, held: Mapping[int, Row]) -> Row:
    """What ``row`` follows from in the end."""
    passed: set[int] = set()
    while row["cause_id"] in held and row["id"] not in passed:
        passed.add(row["id"])
        row = held[row["cause_id"]]
    return row


def _key(row: Row) -> WeekKey:
    return WeekKey(row["week_ending"], None if row["tier"] == ALL_TIERS else Tier(row["tier"]))


def _said(row: Row) -> str:
    return f"{row['code']}: {row['message']}"


def _missed(row: Row) -> list[WeekKey]:
    """The partitions that a MISSED_RUNS anomaly names."""
    return [WeekKey(row["week_ending"], Tier(tier)) for tier in json.loads(row["details_json"])["missing"]]


def problems(found: Diagnosis) -> list[Problem]:
    """Everything that something can be done about, each thing once. What came late has come: it is none.

    Neither is a gap by itself where what came cannot be used: loading it again helps once the source has it right.
    """
    told: dict[tuple[Kind, WeekKey | None, int | None], Problem] = {}
    unusable = {one.row["id"] for one in found.anomalies if one.row["severity"] == Severity.CRITICAL}
    explained = {gap.key for gap in found.gaps if gap.cause_id in unusable}
    for one in _told(found):
        if one.kind is not Kind.GAP or one.key not in explained:
            told.setdefault((one.kind, one.key, one.number), one)
    return list(told.values())


def _told(found: Diagnosis) -> Iterator[Problem]:
    if found.is_empty:
        yield Problem(Kind.EMPTY, Severity.WARN, "nothing was ever loaded")
    for gap in found.gaps:
        yield _missing(found, gap.key)
    for chain in found.chains:
        yield Problem(Kind.CHAIN, Severity.ERROR, chain.message, chain.key)
    for anomaly in found.anomalies:
        yield from _of_anomaly(found, anomaly.row)
    for one in found.uncertified:
        yield from _of_verdict(found, one)
    if number := sum(found.stale.values()):
        tables = ", ".join(f"{name} {count:,}" for name, count in found.stale.items())
        yield Problem(Kind.STALE, Severity.WARN, f"captures out of date: {number:,} ({tables})")
    if number := sum(1 for one in found.uncertified if one.is_unjudged):
        yield Problem(Kind.UNJUDGED, Severity.WARN, f"verdicts on record that are not the ones that hold: {number:,}")
    yield from _of_operations(found)


def _of_operations(found: Diagnosis) -> Iterator[Problem]:
    for row in found.failed_work:
        told = f"work item {row['id']} failed at attempt {row['attempt_count']}: {row['last_error']}"
        yield Problem(Kind.WORK, Severity.ERROR, told, _key(row), row["id"])
    if found.waiting_work:
        due_at = min(row["next_attempt_at"] or row["desired_at"] for row in found.waiting_work)
        told = f"work that nobody claims: {len(found.waiting_work):,}, the first due since {due_at:%Y-%m-%d %H:%M} UTC"
        yield Problem(Kind.WAITING, Severity.WARN, told)
    if found.heartbeat.is_silent:
        beat_at = f"{found.heartbeat.beat_at:%Y-%m-%d %H:%M} UTC"
        yield Problem(Kind.SILENT, Severity.WARN, f"the sensor of {HEART} has not looked since {beat_at}")


def _missing(found: Diagnosis, key: WeekKey) -> Problem:
    severity, message, _ = absence(found.schedule, key, found.checked_at)
    return Problem(Kind.GAP, severity, message, key)


def _of_anomaly(found: Diagnosis, row: Row) -> Iterator[Problem]:
    """What the look sees by itself has its own remedy, in whatever week it is."""
    if row["severity"] == Severity.INFO or row["code"] == LATE_DATA:
        return
    if row["code"] in (NOT_DELIVERED, MISSED_RUNS):
        keys = [_key(row)] if row["code"] == NOT_DELIVERED else _missed(row)
        yield from (_missing(found, key) for key in keys)
    elif row["code"] == INCOMPLETE_STAGE_CHAIN:
        yield Problem(Kind.CHAIN, Severity.ERROR, row["message"], _key(row))
    else:
        yield Problem(Kind.ANOMALY, Severity(row["severity"]), _said(row), _key(row), row["id"])


def _of_verdict(found: Diagnosis, one: Uncertified) -> Iterator[Problem]:
    """What stands against a week and is not seen otherwise: it may be of an earlier week than its tier's newest."""
    week = one.verdict.week
    for issue in one.verdict.issues:
        if issue.code == "MISSING_PARTITION":
            yield from (_missing(found, WeekKey(week, Tier(tier))) for tier in issue.detail["tiers"])
        elif issue.code == "INCOMPLETE_STAGES":
            for place in issue.detail["tables"]:
                tier = place.rpartition(" ")[2]
                key = WeekKey(week, None if tier == ALL_TIERS else Tier(tier))
                yield Problem(Kind.CHAIN, Severity.ERROR, issue.message, key)
        elif issue.code == "CRITICAL_ANOMALIES":
            for row in issue.detail["anomalies"]:
                key = WeekKey(week, None if row["tier"] == ALL_TIERS else Tier(row["tier"]))
                yield Problem(Kind.ANOMALY, Severity.CRITICAL, _said(row), key, row["id"])
