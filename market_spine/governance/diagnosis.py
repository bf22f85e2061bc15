"""What one look at a store found, as values: for people, for programs, and for what follows from it.

What belongs here: the findings, what they make of the store as a whole, and their JSON. What does not: finding them
(`doctor`), and the commands that help (`remedies`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from market_spine.domain.contracts import Feed, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.trust import Readiness
from market_spine.governance.criteria import Verdict
from market_spine.governance.expectations import HEART, TENTH, Expected
from market_spine.governance.policy import Schedule
from market_spine.governance.remedies import Kind, Problem, Remedies
from market_spine.store.health import Landed, Usage

SILENCE = timedelta(minutes=10)  # the sensor looks every minute
UNCLAIMED = timedelta(minutes=10)  # the work sensor looks every 15 s, and a lost claim is given back after 5 minutes
BUDGET = 50 * 10**9  # bytes that the captures of a feed may take
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

    @property
    def key(self) -> WeekKey:
        return self.expected.key


@dataclass(frozen=True, slots=True)
class Late:
    """A partition that came after its deadline."""

    key: WeekKey
    deadline: datetime
    captured_at: datetime
    severity: Severity

    @property
    def hours(self) -> float:
        """Hours after the deadline, rounded down to tenths, as anomalies tell them."""
        return (self.captured_at - self.deadline) // TENTH / 10


@dataclass(frozen=True, slots=True)
class Chain:
    """A partition some of whose tables are not there: by stage."""

    key: WeekKey
    message: str
    missing: Mapping[str, Sequence[str]]
    cause_id: int | None


@dataclass(frozen=True, slots=True)
class Open:
    """An open anomaly that stands for itself, and how many follow from it, directly or through others."""

    row: Row
    follows: int


@dataclass(frozen=True, slots=True)
class Uncertified:
    """A week that should be certified for a use case, or should not and is; ``recorded`` is the state on record."""

    verdict: Verdict
    recorded: Readiness | None

    @property
    def is_unjudged(self) -> bool:
        """Whether judging again is all that is needed."""
        return all(issue.code == "PRELIMINARY" for issue in self.verdict.issues)

    @property
    def reasons(self) -> list[str]:
        if self.verdict.is_ready:
            return [f"all five criteria hold, and on record it is {self.recorded or 'not judged'}"]
        certified = ["certified on record"] if self.recorded is Readiness.CERTIFIED else []
        return [*certified, *(issue.message for issue in self.verdict.issues)]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """When the sensor that compares last looked; None: in this store it never did."""

    beat_at: datetime | None
    detail: str
    age: timedelta | None

    @property
    def is_silent(self) -> bool:
        return self.age is not None and self.age > SILENCE


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the store holds: capture files by table, deliveries, transactions, and the version of its schema."""

    tables: Mapping[str, Usage]
    landed: Landed
    batches: int
    committed_at: datetime | None
    schema_version: str

    @property
    def total(self) -> Usage:
        held = self.tables.values()
        return Usage(sum(one.files for one in held), sum(one.bytes for one in held))


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What one look found, at ``checked_at``, in the newest ``weeks`` due weeks of each tier.

    ``failed_work`` are work items that failed, were not asked for again, and whose partition did not come otherwise;
    ``waiting_work`` those that were due `UNCLAIMED` ago while nothing was under way: nobody claims them.
    ``judged`` counts the weeks per use case that are old enough; ``older`` are grave anomalies of earlier weeks, and
    ``settled`` those that no longer hold and that nobody has closed yet.
    """

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
    failed_work: Sequence[Row]
    open_work: int
    waiting_work: Sequence[Row]
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
        missing = [one for one in self.problems if one.kind is Kind.GAP]
        if self.is_critical or any(one.severity is Severity.ERROR for one in missing):
            return Status.UNHEALTHY
        return Status.DEGRADED if self.remedies else Status.HEALTHY

    def open_anomalies(self, severity: Severity) -> int:
        """How many anomalies of ``severity`` stand for themselves."""
        return sum(1 for one in self.anomalies if one.row["severity"] == severity)

    def uncertified_for(self, use_case: str) -> int:
        return sum(1 for one in self.uncertified if one.verdict.use_case.name == use_case)


def document(found: Diagnosis) -> dict[str, Any]:
    """``found`` as plain values of JSON: dates and moments (UTC) as ISO 8601, ages in seconds, sizes in bytes."""
    grave = [one for one in found.anomalies if one.row["severity"] != Severity.INFO]
    return {
        "domain": found.feed.domain,
        "weeks": found.weeks,
        "checked_at": _moment(found.checked_at),
        "status": found.status.value,
        "expected_partitions": len(found.expected),
        "found_partitions": found.found,
        "missing_partitions": len(found.gaps),
        "gaps": [_place(one.key) | _gap(one) for one in found.gaps],
        "late": [_place(one.key) | _late(one) for one in found.late],
        "incomplete_chains": [_place(one.key) | _chain(one) for one in found.chains],
        "stale": sum(found.stale.values()),
        "stale_tables": dict(found.stale),
        "anomalies": {one.value.lower(): found.open_anomalies(one) for one in reversed(Severity)},
        "older_anomalies": found.older,
        "settled_anomalies": found.settled,
        "open_anomalies": [_anomaly(one) for one in grave],
        "certified": {
            name: {"certified": weeks - found.uncertified_for(name), "weeks": weeks}
            for name, weeks in found.judged.items()
        },
        "uncertified": [_uncertified(one) for one in found.uncertified],
        "open_work": found.open_work,
        "waiting_work": len(found.waiting_work),
        "failed_work": [_work(one) for one in found.failed_work],
        "heartbeat": _heartbeat(found.heartbeat),
        **_holdings(found.holdings),
        "problems": [_problem(one, command) for command, mended in found.remedies.items() for one in mended],
        "remediation": list(found.remedies),
    }


def schedule_document(found: Diagnosis) -> dict[str, Any]:
    """What is expected and what ran, as plain values of JSON."""
    one = found.schedule
    return {
        "type": one.schedule_type.value,
        "weeks": found.weeks,
        "tiers": [str(tier) for tier in one.tiers if tier],
        "expected_delay_hours": one.expected_delay_hours,
        "expected_day_of_week": one.expected_day_of_week,
        "expected_time": f"{one.expected_time:%H:%M}",
        "timezone": one.timezone.key,
        "publication_lag_days": {str(tier): days for tier, days in one.publication_lag_days.items()},
        "is_active": one.is_active,
        "expected": len(found.expected),
        "present": found.found,
    }


def _moment(moment: datetime | None) -> str | None:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None  # all of them are UTC


def _place(key: WeekKey) -> dict[str, Any]:
    return {"week_ending": key.week_ending.isoformat(), "tier": key.tier_text}


def _gap(one: Gap) -> dict[str, Any]:
    due, deadline = _moment(one.expected.due_at), _moment(one.expected.deadline)
    return {"due_at": due, "deadline": deadline, "days": one.days, "cause_id": one.cause_id}


def _late(one: Late) -> dict[str, Any]:
    moments = {"deadline": _moment(one.deadline), "captured_at": _moment(one.captured_at)}
    return moments | {"hours": one.hours, "severity": one.severity.value}


def _chain(one: Chain) -> dict[str, Any]:
    return {"missing": {str(stage): list(names) for stage, names in one.missing.items()}, "cause_id": one.cause_id}


def _anomaly(one: Open) -> dict[str, Any]:
    shown = {name: one.row[name] for name in ("id", "severity", "code", "tier", "message")}
    return shown | {"week_ending": one.row["week_ending"].isoformat(), "follows": one.follows}


def _uncertified(one: Uncertified) -> dict[str, Any]:
    named = {"week_ending": one.verdict.week.isoformat(), "ready_for": one.verdict.use_case.name}
    recorded = one.recorded.value if one.recorded else None
    return named | {"state": one.verdict.state.value, "recorded": recorded, "reasons": one.reasons}


def _work(row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("id", "pipeline", "tier", "attempt_count", "error_class", "last_error")}
    return shown | {"week_ending": row["week_ending"].isoformat(), "failed_at": _moment(row["updated_at"])}


def _heartbeat(one: Heartbeat) -> dict[str, Any]:
    age = int(one.age.total_seconds()) if one.age is not None else None
    beat = {"name": HEART, "beat_at": _moment(one.beat_at), "age_seconds": age, "detail": one.detail}
    return beat | {"is_silent": one.is_silent}


def _holdings(one: Holdings) -> dict[str, Any]:
    return {
        "storage": {
            **one.total._asdict(),
            "budget_bytes": BUDGET,
            "tables": {name: held._asdict() for name, held in one.tables.items()},
            "landing": one.landed._asdict(),
        },
        "batches": one.batches,
        "committed_at": _moment(one.committed_at),
        "schema_version": one.schema_version,
    }


def _problem(one: Problem, command: str) -> dict[str, Any]:
    place = _place(one.key) if one.key else {"week_ending": None, "tier": None}
    told = {"kind": one.kind.value, "severity": one.severity.value, "anomaly_id": one.number}
    return told | place | {"message": one.message, "remedy": command}
