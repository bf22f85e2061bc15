"""Anomalies: what is found wrong stays on record until it no longer holds, one open row for each thing.

What belongs here: what opens, changes and closes an anomaly. What does not: finding things (`checks`, `expectations`),
which of them explains which (`causes`), and the rows themselves (`store.anomalies`).

Recording has a transaction of its own, so that it survives the failure that it describes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.errors import ConflictError, NotFoundError, QueryError
from market_spine.domain.keys import WeekKey
from market_spine.domain.trust import AnomalyChange
from market_spine.domain.weeks import WEEK
from market_spine.governance.causes import REACH, cause_of
from market_spine.store import anomalies as rows_of
from market_spine.store.ledger import Draft, Run, transaction
from market_spine.store.store import Store
from market_spine.store.trust_tables import ANOMALIES

SAMPLES = 20  # records shown; affected_records has the full count
HOLDS = "holds again"


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was looked at: ``is_open`` says whether it is wrong, ``message`` in words for people."""

    domain: str
    pipeline: str
    table_name: str
    stage: Stage
    key: WeekKey
    code: str
    severity: Severity
    category: Category
    message: str
    is_open: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)
    affected: int | None = None
    samples: Sequence[Any] = ()
    capture_id: str | None = None

    @property
    def fingerprint(self) -> str:
        """What makes two observations one: domain, table, partition and code."""
        text = "|".join((self.domain, self.table_name, str(self.key), self.code))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def again(row: Mapping[str, Any], severity: Severity) -> Observation:
    """What stands in ``row``, seen again with another severity."""
    return Observation(
        row["domain"],
        row["pipeline"],
        row["table_name"],
        Stage(row["stage"]),
        WeekKey.from_string(f"{row['tier']}:{row['week_ending']}"),
        row["code"],
        severity,
        Category(row["category"]),
        row["message"],
        details=json.loads(row["details_json"]),
        affected=row["affected_records"],
        samples=json.loads(row["sample_records"]),
        capture_id=row["capture_id"],
    )


@dataclass
class Changes:
    """What recording did, as rows of core_anomalies."""

    opened: list[dict[str, Any]] = field(default_factory=list)
    changed: list[dict[str, Any]] = field(default_factory=list)
    resolved: list[dict[str, Any]] = field(default_factory=list)

    def add(self, more: Changes) -> None:
        """What another recording did, to be told together."""
        self.opened += more.opened
        self.changed += more.changed
        self.resolved += more.resolved


def record(store: Store, run: Run, observed: Iterable[Observation], actor: str, counts_repeats: bool = True) -> Changes:
    """Open, update and resolve anomalies as ``observed`` says (of one thing: last), in a transaction of its own.

    Without ``counts_repeats`` (a sensor that looks every minute) an unchanged finding is no news and leaves no trace.
    """
    with store.control.read() as connection:
        held = {row["fingerprint"]: row for row in rows_of.open_rows(connection)}
    last = {one.fingerprint: one for one in observed}
    news = [one for one in last.values() if _is_news(one, held, counts_repeats)]
    if not news:  # and nobody waits for the write lock
        return Changes()
    with transaction(store.control, store.home, run, ANOMALIES.name) as draft:
        return record_in(draft, news, actor, counts_repeats)


def _is_news(one: Observation, held: Mapping[str, Mapping[str, Any]], counts_repeats: bool) -> bool:
    if not one.is_open:
        return one.fingerprint in held
    row = held.get(one.fingerprint)
    return counts_repeats or row is None or _differs(row, _as_seen(one))


def _differs(row: Mapping[str, Any], seen: Mapping[str, Any]) -> bool:
    """Whether what is seen is more than the same again."""
    return any(row[name] != seen[name] for name in ("severity", "message", "capture_id"))


def record_in(draft: Draft, observed: Collection[Observation], actor: str, counts_repeats: bool = True) -> Changes:
    """As `record`, in a transaction that is under way."""
    changes = Changes()
    for domain in dict.fromkeys(one.domain for one in observed):
        mine = [one for one in observed if one.domain == domain]
        weeks = [one.key.week_ending for one in mine]
        _desk(draft, actor, counts_repeats, domain, weeks, changes).take(mine)
    return changes


def resolve(store: Store, run: Run, anomaly_id: int, note: str, actor: str) -> dict[str, Any]:
    """Close an anomaly by hand; NotFoundError, ConflictError where it is not open, QueryError without a note."""
    if not note.strip():
        raise QueryError("an anomaly is not resolved without a reason", "add --note 'what was found and done'")
    with transaction(store.control, store.home, run, ANOMALIES.name) as draft:
        row = rows_of.by_id(draft.connection, anomaly_id)
        if row is None:
            raise NotFoundError(f"there is no anomaly {anomaly_id}", "see them with: spine anomalies list --all")
        if row["resolved_at"] is not None:
            raise ConflictError(
                f"anomaly {anomaly_id} was resolved at {row['resolved_at']:%Y-%m-%d %H:%M} UTC by {row['resolved_by']}",
                f"see its history with: spine anomalies show {anomaly_id}",
            )
        desk = _desk(draft, actor, True, row["domain"], [row["week_ending"]], Changes())
        desk.close(row, note.strip())
        desk.link()
        return desk.changes.resolved[0]


def _desk(
    draft: Draft, actor: str, counts_repeats: bool, domain: str, weeks: Collection[date], changes: Changes
) -> _Desk:
    """A desk for observations of ``weeks``, with all that these may explain or be explained by."""
    first = min(weeks)
    held = rows_of.open_rows(draft.connection, domain, (first - REACH, max(weeks) + REACH))
    return _Desk(draft, actor, counts_repeats, {row["fingerprint"]: row for row in held}, first, changes)


@dataclass
class _Desk:
    """The open anomalies of one domain, by fingerprint, while observations of weeks from ``first`` on come in."""

    draft: Draft
    actor: str
    counts_repeats: bool
    held: dict[str, dict[str, Any]]
    first: date
    changes: Changes

    def take(self, observed: Iterable[Observation]) -> None:
        for one in observed:
            row = self.held.get(one.fingerprint)
            if one.is_open:
                self._find(one, row)
            elif row is not None:
                self.close(row, f"{HOLDS}: {one.message}" if one.message else HOLDS)
        self.link()

    def _find(self, one: Observation, row: dict[str, Any] | None) -> None:
        seen = _as_seen(one) | {"execution_id": self.draft.run.execution_id}
        now = self.draft.run.now
        if row is None:
            row = seen | _as_new(one, rows_of.next_id(self.draft), now)
            self.held[one.fingerprint] = row
            self.changes.opened.append(row)
            self._put(row, AnomalyChange.OPENED)
            return
        is_news = _differs(row, seen)
        if not is_news and not self.counts_repeats:
            return
        row |= seen | {"last_seen_at": now, "times_seen": row["times_seen"] + 1}
        self.changes.changed.append(row)
        self._put(row, AnomalyChange.CHANGED if is_news else AnomalyChange.SEEN)

    def close(self, row: dict[str, Any], note: str) -> None:
        row |= {"resolved_at": self.draft.run.now, "resolution_note": note, "resolved_by": self.actor}
        self.held.pop(row["fingerprint"], None)
        self.changes.resolved.append(row)
        self._put(row, AnomalyChange.RESOLVED, note)

    def link(self) -> None:
        """Every open anomaly points at what explains it now; what lost its cause stands for itself again."""
        weeks: dict[date, list[dict[str, Any]]] = {}
        for row in self.held.values():
            weeks.setdefault(row["week_ending"], []).append(row)
        for row in self.held.values():
            if row["week_ending"] < self.first:
                continue  # what may explain it was not read
            ages = range(REACH // WEEK + 1)
            cause = cause_of(row, [one for age in ages for one in weeks.get(row["week_ending"] - age * WEEK, ())])
            if cause != row["cause_id"]:
                row["cause_id"] = cause
                note = f"caused by anomaly {cause}" if cause else "its cause is resolved"
                self._put(row, AnomalyChange.CHANGED, note)

    def _put(self, row: dict[str, Any], change: AnomalyChange, note: str = "") -> None:
        rows_of.put(self.draft, row, change, self.actor, note)


def _as_seen(one: Observation) -> dict[str, Any]:
    """What every sighting says anew."""
    return {
        "pipeline": one.pipeline,
        "severity": one.severity.value,
        "category": one.category.value,
        "message": one.message,
        "details_json": json.dumps(dict(one.details), sort_keys=True, default=str),
        "affected_records": one.affected,
        "sample_records": json.dumps(list(one.samples[:SAMPLES]), default=str),
        "capture_id": one.capture_id,
    }


def _as_new(one: Observation, number: int, now: Any) -> dict[str, Any]:
    """What is said once."""
    return {
        "id": number,
        "domain": one.domain,
        "partition_key": one.key.partition_key,
        "stage": one.stage.value,
        "code": one.code,
        "detected_at": now,
        "resolved_at": None,
        "resolution_note": None,
        "resolved_by": None,
        "fingerprint": one.fingerprint,
        "cause_id": None,
        "table_name": one.table_name,
        "week_ending": one.key.week_ending,
        "tier": one.key.tier_text,
        "last_seen_at": now,
        "times_seen": 1,
    }
