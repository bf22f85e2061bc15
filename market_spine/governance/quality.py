"""Quality of what was captured, per week and tier: four components, a score of 0..1 and a grade (decision 0020).

What belongs here: what each component is made of, and when it is scored. What does not: reading and counting
(`store.scores`), and whether a week may be used: that is readiness, which a good grade does not replace.

Each component is ``measured x held x gravity``:

* measured: completeness and consistency, the share of the tables by tier that are made from the capture, since what is
  not there was not shown to agree; validity, 1 - lines set aside / lines, which is 0 at the rate at which the gate
  refuses a delivery; timeliness, 1 - hours after the deadline / 168. Weeks whose deadline had passed when the store
  began are not late.
* held: the share of the component's checks about the current captures that hold or had to be expected.
* gravity: 1, 0.8, 0.4 or 0 for nothing above INFO, WARN, ERROR or CRITICAL: the gravest open anomaly of the component
  in that week and tier, other than those that tell what is measured.

A capture is scored once all its tables are there, or an hour after it came: before, a load is under way.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Feed, Severity, Table
from market_spine.domain.keys import WeekKey
from market_spine.domain.operations import EssentialEvent, Grade
from market_spine.domain.tiers import Tier
from market_spine.governance.expectations import GRACE, INCOMPLETE_STAGE_CHAIN, LATE_DATA, chain_of, deadline
from market_spine.governance.policy import Schedule
from market_spine.store import presence, scores
from market_spine.store.events import capture_event_id, event_row
from market_spine.store.ledger import Draft, Run, newest_seq, transaction
from market_spine.store.operations_tables import QUALITY_SCORES
from market_spine.store.scores import Place, Row
from market_spine.store.store import Store
from market_spine.store.trust_tables import EVENTS

if TYPE_CHECKING:
    from sqlalchemy import Connection

COMPLETENESS, VALIDITY, CONSISTENCY, TIMELINESS = "completeness", "validity", "consistency", "timeliness"
WEIGHTS = {COMPLETENESS: 0.3, VALIDITY: 0.3, CONSISTENCY: 0.2, TIMELINESS: 0.2}
LEAST = {Grade.A: 0.9, Grade.B: 0.8, Grade.C: 0.7, Grade.D: 0.5, Grade.F: 0.0}  # C and D end where alerts begin
GRAVITY = {Severity.INFO: 1.0, Severity.WARN: 0.8, Severity.ERROR: 0.4, Severity.CRITICAL: 0.0}
COMPONENT_OF = {
    Category.INCOMPLETE_INPUT: COMPLETENESS,
    Category.COMPLETENESS: COMPLETENESS,
    Category.BUSINESS_RULE: VALIDITY,
    Category.CONSISTENCY: CONSISTENCY,
    Category.DEPENDENCY: CONSISTENCY,
    Category.FRESHNESS: TIMELINESS,
}
MEASURED = (INCOMPLETE_STAGE_CHAIN, LATE_DATA)  # what these tell is in the measured part already
WORTHLESS_HOURS = 168.0  # after the deadline: by then the next week is due
DIGITS = 4
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is on record of one capture. ``checks`` and ``worst`` are by component; without any, none is named."""

    tables: int
    lacking: Sequence[str] = ()
    lines: int = 0
    set_aside: int = 0
    hours_late: float = 0.0
    checks: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # made, failed
    worst: Mapping[str, Severity] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether every table by tier is made from the capture."""
        return not self.lacking


@dataclass(frozen=True, slots=True)
class Score:
    """The four components and their weighted mean, each 0..1 and rounded to four digits."""

    components: Mapping[str, float]
    score: float

    @property
    def grade(self) -> Grade:
        return grade_of(self.score)


@dataclass(frozen=True, slots=True)
class Graded:
    """A score that was put on record; ``before`` is the grade of the same capture until now, if it had one."""

    key: WeekKey
    score: Score
    before: Grade | None


def grade_of(score: float) -> Grade:
    """The grade of a score of 0..1."""
    return next(grade for grade, least in LEAST.items() if score >= least)


def score_of(facts: Facts, max_error_rate: float) -> Score:
    """The score of ``facts``; ``max_error_rate`` is the share of lines set aside at which the gate refuses."""
    there = 1 - len(facts.lacking) / facts.tables if facts.tables else 1.0
    share = facts.set_aside / facts.lines if facts.lines else 0.0
    measured = {
        COMPLETENESS: there,
        VALIDITY: 1 - share / max_error_rate,
        CONSISTENCY: there,
        TIMELINESS: 1 - facts.hours_late / WORTHLESS_HOURS,
    }
    components = {}
    for name, value in measured.items():
        made, failed = facts.checks.get(name, (0, 0))
        held = 1 - failed / made if made else 1.0
        components[name] = round(max(value, 0.0) * held * GRAVITY[facts.worst.get(name, Severity.INFO)], DIGITS)
    return Score(components, round(sum(WEIGHTS[name] * value for name, value in components.items()), DIGITS))


def grade_weeks(
    store: Store,
    run: Run,
    feed: Feed,
    schedule: Schedule,
    tables: Mapping[str, Table],
    weeks: Collection[date] | None = None,
) -> list[Graded]:
    """Score ``weeks`` (all) of ``feed`` as things stand at ``run.now``; what was put on record: only what changed.

    ``schedule`` says when a week must be there; ``tables`` are all tables of the feed by SQL name.
    """
    if weeks is not None and not weeks:
        return []
    chain = chain_of(schedule, tables)
    raw, derived = chain[Stage.INGESTED][0], [name for stage in Stage for name in chain.get(stage, ())][1:]
    desk = _Desk(run, feed, schedule, raw, derived, weeks)
    with store.control.read() as connection:
        news = desk.news(connection)
        seq = newest_seq(connection)
    if not news.is_some:
        return []
    with transaction(store.control, store.home, run, QUALITY_SCORES.name) as draft:
        now_seq = newest_seq(draft.connection)
        # Beaten between reading and the lock, it is read again under the lock, where nobody can be faster.
        return desk.put(draft, news if now_seq == seq else desk.news(draft.connection), now_seq + 1)


@dataclass(frozen=True, slots=True)
class _News:
    """Rows of core_quality_scores that differ from those ``held``, and places whose capture is whole and untold."""

    rows: Mapping[Place, Row]
    whole: Sequence[Place]
    held: Mapping[Place, Row]
    captures: Mapping[Place, str]
    sources: Mapping[Place, scores.Source]

    @property
    def is_some(self) -> bool:
        return bool(self.rows or self.whole)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What is scored, and the rules that need more than one capture."""

    run: Run
    feed: Feed
    schedule: Schedule
    raw: str
    derived: Sequence[str]
    weeks: Collection[date] | None

    def news(self, connection: Connection) -> _News:
        captures = {
            place: one
            for place, one in scores.raw(connection, self.raw, self.weeks).items()
            if self.weeks is None or place[0] in self.weeks
        }
        held = scores.held(connection, self.feed.domain, self.weeks)
        facts = self._facts(connection, captures)
        ripe = {
            place: one
            for place, one in facts.items()
            if one.is_whole or self.run.now - captures[place].captured_at > GRACE
        }
        rows = {place: self._row(place, captures[place].capture_id, one) for place, one in ripe.items()}
        told = scores.completed(connection, self.feed.domain)
        changed = {place: row for place, row in rows.items() if _differs(row, held.get(place))}
        whole = [
            place
            for place, one in ripe.items()
            if one.is_whole and scores.completion_id(captures[place].capture_id) not in told
        ]
        touched = {week for week, _ in (*changed, *whole)}
        sources = scores.newest(connection, [self.raw, *self.derived], touched) if touched else {}
        return _News(changed, whole, held, {place: one.capture_id for place, one in captures.items()}, sources)

    def _facts(self, connection: Connection, captures: Mapping[Place, scores.Raw]) -> dict[Place, Facts]:
        domain, weeks = self.feed.domain, self.weeks
        made = scores.made(connection, self.derived, self.raw, weeks)
        lines = scores.lines(connection, domain, weeks)
        aside = scores.set_aside(connection, domain, weeks)
        checks = scores.checks(connection, domain, weeks)
        worst = _worst(scores.open_findings(connection, domain, weeks))
        late = self._hours_late(connection)
        return {
            place: Facts(
                tables=len(self.derived),
                lacking=[name for name in self.derived if name not in made.get(place, ())],
                lines=lines.get((one.capture_id, one.landing_id or ""), 0),
                set_aside=aside.get(place, 0),
                hours_late=late.get(place, 0.0),
                checks=_by_component(checks.get(place, {})),
                worst=worst.get(place, {}),
            )
            for place, one in captures.items()
        }

    def _hours_late(self, connection: Connection) -> dict[Place, float]:
        """(week, tier) -> hours from the deadline to the first capture, for those that came after it."""
        begun_at = presence.begun_at(connection)
        found = {}
        for key, known in presence.first(connection, self.raw).items():
            limit = deadline(self.schedule, key.week_ending, key.tier)
            if begun_at is not None and begun_at < limit < known.captured_at:
                found[key.week_ending, key.tier_text] = (known.captured_at - limit) / HOUR
        return found

    def _row(self, place: Place, capture_id: str, facts: Facts) -> Row:
        found = score_of(facts, self.feed.max_error_rate)
        details = {
            "tables": [facts.tables - len(facts.lacking), facts.tables],
            "lacking": list(facts.lacking),
            "lines": facts.lines,
            "set_aside": facts.set_aside,
            "hours_late": round(facts.hours_late, 1),
            "checks": {name: [made - failed, made] for name, (made, failed) in sorted(facts.checks.items())},
            "worst": {name: severity.value for name, severity in sorted(facts.worst.items())},
        }
        return {
            "domain": self.feed.domain,
            "week_ending": place[0],
            "tier": place[1],
            "capture_id": capture_id,
            "score": found.score,
            **found.components,
            "grade": found.grade.value,
            "details_json": json.dumps(details, sort_keys=True),
            "scored_at": self.run.now,
        }

    def put(self, draft: Draft, news: _News, seq: int) -> list[Graded]:
        """Rows and events into the draft of transaction ``seq``."""
        assigned: dict[Place, str] = {}
        done = []
        for place, row in news.rows.items():
            scores.put(draft, row)
            before = news.held.get(place)
            is_same = before is not None and before["capture_id"] == row["capture_id"]
            was = Grade(before["grade"]) if before and is_same else None
            key = WeekKey(place[0], Tier(place[1]))
            done.append(Graded(key, Score({name: row[name] for name in WEIGHTS}, row["score"]), was))
            if was != row["grade"]:
                assigned[place] = self._tell_grade(draft, key, row, before, news.sources[place], seq)
        for place in news.whole:
            self._tell_completed(draft, place, news, assigned.get(place))
        return done

    def _tell_grade(
        self, draft: Draft, key: WeekKey, row: Row, before: Row | None, source: scores.Source, seq: int
    ) -> str:
        """The event of a grade, told once for each transaction in which it is assigned or changes; its id."""
        subject, cause = f"{row['capture_id']}|{seq}", capture_event_id(source.stage, source.capture_id)
        payload = {name: row[name] for name in ("capture_id", "score", "grade", *WEIGHTS)}
        payload["before"] = before["grade"] if before else None
        about = (EssentialEvent.QUALITY_GRADE_ASSIGNED, row["domain"], key, subject)
        told = f"grade {row['grade']}: score {row['score']:.2f}"
        event = event_row(*about, told, payload, cause, self.run.now, source.correlation_id)
        draft.put(EVENTS, event)
        return str(event["event_id"])

    def _tell_completed(self, draft: Draft, place: Place, news: _News, grade_event: str | None) -> None:
        """The event that all tables of a capture are there, told once for each capture."""
        capture_id = news.captures[place]
        cause = grade_event or scores.graded(draft.connection, self.feed.domain, place, capture_id)
        key = WeekKey(place[0], Tier(place[1]))
        about = (EssentialEvent.WEEK_PROCESSING_COMPLETED, self.feed.domain, key, capture_id)
        tables = [self.raw, *self.derived]
        payload = {"capture_id": capture_id, "tables": tables}
        told = f"{len(tables)} tables are there"
        correlation_id = news.sources[place].correlation_id
        draft.put(EVENTS, event_row(*about, told, payload, cause, self.run.now, correlation_id))


def _differs(row: Row, held: Row | None) -> bool:
    return held is None or any(held[name] != value for name, value in row.items() if name != "scored_at")


def _by_component(checks: Mapping[str, scores.Checks]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for category, one in checks.items():
        made, failed = found.get(name := COMPONENT_OF[Category(category)], (0, 0))
        found[name] = (made + one.made, failed + one.failed)
    return found


def _worst(findings: Collection[tuple[Place, str, str, str]]) -> dict[Place, dict[str, Severity]]:
    """(week, tier) -> component -> its gravest open finding above INFO."""
    order = list(Severity)
    found: dict[Place, dict[str, Severity]] = {}
    for place, category, severity, code in findings:
        if code not in MEASURED and severity != Severity.INFO:
            of_place = found.setdefault(place, {})
            name = COMPONENT_OF[Category(category)]
            of_place[name] = max(of_place.get(name, Severity.INFO), Severity(severity), key=order.index)
    return found
