"""Readiness on record: weeks are judged, verdicts that changed are recorded, certificates issued and superseded.

What belongs here: gathering facts for many weeks at once, and what a changed verdict entails. What does not: the
criteria (`criteria`), the form of certificates (`certificates`), who judges when (`assets`, `automation`, `cli`).

One transaction holds the verdict, its line of the log, its certificate and its event, so that a transition is told once
or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import structlog

from market_spine.domain.contracts import Table
from market_spine.domain.errors import QueryError, StoreError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import ALL_TIERS
from market_spine.domain.trust import Readiness
from market_spine.governance import certificates
from market_spine.governance.criteria import CRITERIA, Facts, Issue, Tables, Verdict, judge
from market_spine.governance.evidence import content
from market_spine.governance.keys import Keys
from market_spine.governance.policy import UseCase
from market_spine.governance.staleness import Derived, to_recompute
from market_spine.store import certificates as certificate_rows
from market_spine.store import readiness as rows_of
from market_spine.store.columns import moment_text
from market_spine.store.events import event_row
from market_spine.store.ledger import Draft, Run, newest_seq, transaction
from market_spine.store.manifest import Capture, Question, captures
from market_spine.store.store import Store
from market_spine.store.trust_tables import EVENTS, READINESS

if TYPE_CHECKING:
    from sqlalchemy import Connection

AUTOMATED = "automated_check"
ATTEMPTS = 5  # each is beaten only by a commit between reading and the lock, a few hundredths of a second


@dataclass(frozen=True)
class Scope:
    """What is judged, and by which policy: a feed's tables and calculations, and its use cases.

    ``totals`` is the table (SQL name, contract) whose sums go into certificates.
    """

    tables: Tables
    derived: Sequence[Derived]
    use_cases: Mapping[str, UseCase]
    totals: tuple[str, Table]

    @property
    def version(self) -> str:
        """The hash of the code and policy that verdicts follow from: with another one all is to be judged again."""
        made = [f"{one.table_name} {one.calculation.version}" for one in self.derived]
        asked = [one.policy_hash for one in self.use_cases.values()]
        return hashlib.sha256("\n".join([*made, *asked]).encode()).hexdigest()[:16]

    def use_case(self, name: str) -> UseCase:
        """The use case called ``name``."""
        if name not in self.use_cases:
            known = ", ".join(self.use_cases)
            raise QueryError(f"there is no use case {name!r}", f"use one of: {known}")
        return self.use_cases[name]


@dataclass(frozen=True, slots=True)
class Transition:
    """A verdict that became another one, or that is the same for other reasons or from other captures."""

    verdict: Verdict
    before: Readiness | None
    certificate_id: str | None

    @property
    def message(self) -> str:
        """What happened, in a sentence."""
        one = self.verdict
        why = "; ".join(issue.message for issue in one.issues) or "all five criteria hold"
        step = f"still {one.state}" if self.before is one.state else f"{self.before or 'new'} -> {one.state}"
        return f"{one.week} for {one.use_case.name}: {step}: {why}"


def judge_weeks(
    store: Store, run: Run, scope: Scope, weeks: Collection[date] | None = None, actor: str = AUTOMATED
) -> list[Transition]:
    """Judge ``weeks`` (all that were ever captured or judged) at ``run.now`` and record what changed.

    StoreError where the key cannot sign: what is no longer ready is on record then all the same.
    """
    desk: _Desk | None = None
    for _ in range(ATTEMPTS):
        news = _News.of(store, scope, run.now, weeks)
        if news.is_none:
            return []
        with transaction(store.control, store.home, run, READINESS.name) as draft:
            if newest_seq(draft.connection) == news.seq:
                desk = news.record(draft, store, scope, actor)
        if desk:
            break
    else:  # beaten each time between reading and the lock; with the lock first nobody can be faster
        with transaction(store.control, store.home, run, READINESS.name) as draft:
            desk = _News.of(store, scope, run.now, weeks).record(draft, store, scope, actor)
    log = structlog.get_logger()
    for one in desk.told:
        week, use_case, state = one.verdict.week, one.verdict.use_case.name, one.verdict.state
        log.info("readiness_judged", week_ending=week, ready_for=use_case, before=one.before, state=state, **run.names)
    if desk.failed:
        raise desk.failed[0]
    return desk.told


@dataclass(frozen=True)
class _News:
    """After transaction ``seq``: verdicts that differ from those on record, with their certificates' contents, and
    certificates in force that no verdict on record names."""

    seq: int
    verdicts: list[Verdict]
    held: dict[tuple[date, str], dict[str, Any]]
    contents: dict[tuple[date, str], dict[str, Any]]
    loose: list[str]

    @classmethod
    def of(cls, store: Store, scope: Scope, now: datetime, weeks: Collection[date] | None) -> _News:
        verdicts, seq = assess(store, scope, now, weeks)
        with store.control.read() as connection:
            held = rows_of.held(connection, scope.tables.domain)
            issued = certificate_rows.in_force(connection, scope.tables.domain)
        loose = sorted(issued - {row["certificate_id"] for row in held.values()})
        news = [one for one in verdicts if _differs(one, held.get((one.week, one.use_case.name)))]
        news += [_retired(row) for (_, name), row in held.items() if row["is_ready"] and name not in scope.use_cases]
        ready = content(store, scope.totals, [one for one in news if one.is_ready])
        return cls(seq, news, held, ready, loose)

    @property
    def is_none(self) -> bool:
        return not self.verdicts and not self.loose

    def record(self, draft: Draft, store: Store, scope: Scope, actor: str) -> _Desk:
        desk = _Desk(draft, scope.tables.domain, Keys.of(store.home), actor, self.held)
        for certificate in self.loose:
            desk.drop(certificate, "no verdict on record names it")
        for one in self.verdicts:
            desk.take(one, self.contents.get((one.week, one.use_case.name)))
        return desk


def _retired(row: Mapping[str, Any]) -> Verdict:
    """The verdict on a week that is certified for a use that the policy does not have any more."""
    name, numbers = row["ready_for"], json.loads(row["facts_json"])
    told = f"the policy has no use case {name} any more"
    return Verdict(
        row["week_ending"],
        UseCase(name=name, tiers=(), stages=(), preliminary_hours=numbers["preliminary_hours"], description=told),
        {criterion: bool(row[criterion]) for criterion in CRITERIA} | {"dependencies_current": False},
        (Issue("NO_USE_CASE", told, {}, "spine certificates list --all"),),
        {key: value for key, value in numbers.items() if key != "captures_hash"},
        (),
        None,
    )


def weeks_known(store: Store, scope: Scope) -> set[date]:
    """Every week of which anything was ever captured or judged."""
    with store.control.read() as connection:
        judged = rows_of.held(connection, scope.tables.domain)
        return rows_of.weeks_captured(connection, scope.tables.raw) | {week for week, _ in judged}


def assess(
    store: Store, scope: Scope, now: datetime, weeks: Collection[date] | None = None
) -> tuple[list[Verdict], int]:
    """The verdict on every week and use case as things stand, oldest week first, and after which transaction."""
    chosen = weeks_known(store, scope) if weeks is None else set(weeks)
    with store.control.read() as connection:
        seq = newest_seq(connection)
        every = _facts(connection, scope, chosen)
    use_cases = scope.use_cases.values()
    return [judge(use_case, scope.tables, facts, now) for facts in every for use_case in use_cases], seq


def _facts(connection: Connection, scope: Scope, weeks: Collection[date]) -> list[Facts]:
    """What is known of ``weeks``, in order."""
    tables = scope.tables
    names = tuple(name for held in tables.by_stage.values() for name in held)
    found: dict[date, dict[tuple[str, str], Capture]] = {week: {} for week in sorted(weeks)}
    for one in captures(connection, Question(names, weeks=weeks)):
        found[one.week_ending][one.table_name, one.tier] = one
    critical = rows_of.critical(connection, tables.domain)
    # What follows from a stale capture too: a window is out of date before the week that it reads is made again.
    old = {part.capture.capture_id: part.reasons for part in to_recompute(connection, scope.derived, weeks).parts}
    return [
        Facts(week, held, [row for row in critical if row["week_ending"] == week], old) for week, held in found.items()
    ]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is on record of one week: its facts, and by use case the verdict; it holds until the next transaction."""

    facts: Facts
    rows: Mapping[str, Mapping[str, Any]]


def standing(connection: Connection, scope: Scope, week: date) -> Standing | None:
    """Where ``week`` stands; None for a week of which nothing was ever captured or judged."""
    held = rows_of.held(connection, scope.tables.domain, [week])
    if not held and week not in rows_of.weeks_captured(connection, scope.tables.raw):
        return None
    (facts,) = _facts(connection, scope, [week])
    return Standing(facts, {use_case: row for (_, use_case), row in held.items()})


def as_it_stands(known: Standing, scope: Scope, now: datetime, use_case: UseCase) -> Mapping[str, Any]:
    """The verdict on record as it would be at ``now``.

    Nothing is written, so that nothing becomes certified. Where nobody has judged for long, what is on record may be
    neither what holds nor what is to be waited for.
    """
    row, week = known.rows.get(use_case.name), known.facts.week
    verdict = judge(use_case, scope.tables, known.facts, now)
    if row and not _differs(verdict, row):
        return row
    about = {"domain": scope.tables.domain, "week_ending": week, "ready_for": use_case.name, "judged_at": now}
    uncertified = {"certificate_id": None, "certified_at": None, "certified_by": None, "is_ready": 0}
    return _recorded(verdict) | about | uncertified | (_unjudged(about, row) if verdict.is_ready else {})


def _unjudged(about: Mapping[str, Any], row: Mapping[str, Any] | None) -> dict[str, Any]:
    """What stands against a week of which all criteria hold, and that nobody has judged since ``row``."""
    last = moment_text(row["judged_at"]) if row else None
    told = f"All five criteria hold, but it was {f'judged last at {last}' if last else 'never judged'}: not certified"
    remedy = f"spine readiness {about['domain']} --week {about['week_ending']} --ready-for {about['ready_for']}"
    issue = Issue("NOT_JUDGED", told, {"judged_at": last}, f"{remedy}  # or start the daemon")
    state = Readiness(row["state"]) if row and not row["is_ready"] else Readiness.PRELIMINARY
    return {"blocking_issues": json.dumps([issue.row()]), "state": state.value}


def _recorded(verdict: Verdict) -> dict[str, Any]:
    """The columns of core_data_readiness that a verdict decides."""
    return {
        "is_ready": int(verdict.is_ready),
        **{name: int(holds) for name, holds in verdict.criteria.items()},
        "blocking_issues": json.dumps([issue.row() for issue in verdict.issues], sort_keys=True),
        "state": verdict.state.value,
        "tiers": json.dumps([*map(str, verdict.use_case.tiers), *([ALL_TIERS] if _is_whole(verdict) else [])]),
        "facts_json": json.dumps(dict(verdict.numbers) | {"captures_hash": _captures_hash(verdict)}, sort_keys=True),
    }


def _is_whole(verdict: Verdict) -> bool:
    """Whether tables over all tiers of the week are part of what was judged."""
    return any(one.tier == ALL_TIERS for one in verdict.used)


def _captures_hash(verdict: Verdict) -> str:
    """What a verdict is about: other captures are another verdict, though the state be the same."""
    text = "\n".join(sorted(f"{one.capture_id} {one.content_hash}" for one in verdict.used))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _differs(verdict: Verdict, row: Mapping[str, Any] | None) -> bool:
    return row is None or any(row[name] != value for name, value in _recorded(verdict).items())


@dataclass
class _Desk:
    """The verdicts on record while new ones come in."""

    draft: Draft
    domain: str
    keys: Keys
    actor: str
    held: dict[tuple[date, str], dict[str, Any]]
    told: list[Transition] = field(default_factory=list)
    failed: list[StoreError] = field(default_factory=list)

    def drop(self, certificate: str, reason: str) -> None:
        """Take a certificate out of force. Without a key to sign with its week is no longer ready all the same: the
        chain gets its link once there is one."""
        try:
            certificates.supersede(self.draft, self.keys, certificate, actor=self.actor, reason=reason)
        except StoreError as error:
            self.failed.append(error)

    def take(self, verdict: Verdict, document: Mapping[str, Any] | None) -> None:
        """Put ``verdict`` on record, with all that follows from it."""
        place = (verdict.week, verdict.use_case.name)
        row = self.held.get(place)
        before = Readiness(row["state"]) if row else None
        try:
            certificate = self._certify(verdict, document, row)
        except StoreError as error:  # not signed, so not certified
            self.failed.append(error)
            return
        now = self.draft.run.now
        is_same = row is not None and row["certificate_id"] == certificate
        recorded = _recorded(verdict) | {
            "id": row["id"] if row else rows_of.next_id(self.draft),
            "domain": self.domain,
            "partition_key": WeekKey(verdict.week, None).partition_key,
            "ready_for": verdict.use_case.name,
            "week_ending": verdict.week,
            "certificate_id": certificate,
            "certified_at": (row["certified_at"] if row and is_same else now) if certificate else None,
            "certified_by": (row["certified_by"] if row and is_same else self.actor) if certificate else None,
            "judged_at": now,
        }
        rows_of.put(self.draft, recorded)
        self.held[place] = recorded
        seq = rows_of.log(self.draft, self._line(recorded, before))
        transition = Transition(verdict, before, certificate)
        if before is not verdict.state or not is_same:
            self._tell(transition, seq)
        self.told.append(transition)

    def _certify(
        self, verdict: Verdict, document: Mapping[str, Any] | None, row: Mapping[str, Any] | None
    ) -> str | None:
        """The certificate in force from now on, if ``verdict`` is ready; an earlier one of the week is superseded."""
        before = row["certificate_id"] if row else None
        what: Any = {"domain": self.domain, "week_ending": verdict.week, "ready_for": verdict.use_case.name}
        after = certificates.certificate_id(content=document, **what) if document is not None else None
        if before and before != after:
            reason = "; ".join(issue.message for issue in verdict.issues) or "certified again, from other captures"
            self.drop(before, reason)
        if document is not None and before != after:
            reason = "all five criteria hold"
            certificates.issue(self.draft, self.keys, content=document, actor=self.actor, reason=reason, **what)
        return after

    def _line(self, recorded: Mapping[str, Any], before: Readiness | None) -> dict[str, Any]:
        names = ("domain", "week_ending", "ready_for", "blocking_issues", "facts_json", "certificate_id", "judged_at")
        states = {"from_state": before.value if before else None, "to_state": recorded["state"]}
        return {name: recorded[name] for name in names} | states | {"actor": self.actor}

    def _tell(self, transition: Transition, seq: int) -> None:
        """An event for whoever is to be alerted; its id says what happened, so that it is told once."""
        one, run = transition.verdict, self.draft.run
        payload = {
            "ready_for": one.use_case.name,
            "from": transition.before,
            "to": one.state,
            "certificate_id": transition.certificate_id,
        }
        subject = f"{self.domain}|{one.week}|{one.use_case.name}|{seq}"
        about = ("READINESS_CHANGED", self.domain, WeekKey(one.week, None), subject, transition.message)
        self.draft.put(EVENTS, event_row(*about, payload, None, run.now, run.correlation_id))
