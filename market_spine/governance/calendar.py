"""The trading calendar on record: its vintages, what a correction changes, and what is out of date because of one.

What belongs here: when a vintage is recorded, what follows from a correction, and the anomalies while it has not
followed yet. What does not: what a vintage says (`domain.vintages`), capturing weeks (`assets.calendar`), and carrying
a correction out (`automation.calendar`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_spine.domain import reference
from market_spine.domain.captures import Stage, View
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.corrections import Correction, correction_from, words
from market_spine.domain.errors import CalendarError
from market_spine.domain.sessions import EXCHANGE, Session
from market_spine.domain.vintages import (
    DayChange,
    MonthChange,
    Vintage,
    corrected,
    difference,
    library_vintage,
    months_changed,
    rebased,
    weeks_changed,
)
from market_spine.domain.weeks import FRIDAY
from market_spine.governance.anomalies import Observation
from market_spine.governance.policy_files import repeated_keys
from market_spine.governance.readiness import Scope
from market_spine.governance.staleness import Derived, Place, affected
from market_spine.store import readiness
from market_spine.store import vintages as rows_of
from market_spine.store.ledger import Run, transaction
from market_spine.store.manifest import Capture, Question, captures, inputs_of
from market_spine.store.store import Store
from market_spine.store.trust_tables import CALENDAR_VINTAGES
from market_spine.store.vintages import Recorded

if TYPE_CHECKING:
    from sqlalchemy import Connection

LIBRARY = "exchange_calendars"  # as it names itself; the actor of its vintages
CORRECTED = "CALENDAR_CORRECTED"
Partitions = Mapping[Place, tuple[Place, ...]]  # each with those of its inputs that it follows from
Sessions = tuple[Session, ...]


@dataclass(frozen=True, slots=True)
class Library:
    """A build of exchange-calendars: its version, and what it says, which takes 0.6 s and is asked for as news only."""

    version: str
    vintage: Callable[[str], Vintage] = library_vintage


def installed() -> Library:
    """The build that is installed."""
    from importlib.metadata import version

    return Library(version(LIBRARY))


def current_vintage(store: Store, run: Run, library: Library) -> Recorded:
    """The vintage that holds; first put on record where there is none, or where it is of another build.

    A new build gets a row even if it says the same: it is what weeks are captured from. Corrections go on holding.
    """
    with store.control.read() as connection:
        held = rows_of.newest(connection)
    if held and held.vintage.library_version == library.version:
        return held
    library.vintage(library.version)  # it is remembered: under the lock it takes no time
    with transaction(store.control, store.home, run, CALENDAR_VINTAGES.name) as draft:
        held = rows_of.newest(draft.connection)
        if held and held.vintage.library_version == library.version:
            return held  # another process was first
        return rows_of.put(draft, _on_build(held, library), _build_reason(held, library), LIBRARY)


def _on_build(held: Recorded | None, library: Library) -> Vintage:
    """What holds on ``library``: the corrections of ``held`` in their order, on what it says."""
    if held and held.vintage.library_version == library.version:
        return held.vintage
    built = library.vintage(library.version)
    return rebased(held.vintage, built) if held else built


def _build_reason(held: Recorded | None, library: Library) -> str:
    before = f"{held.vintage.library_version} -> " if held else ""
    return f"{LIBRARY} {before}{library.version}"


def read_correction(path: Path) -> Correction:
    """The correction in the YAML file ``path``; CalendarError says what is wrong with it."""
    import yaml

    name = path.name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text in UTF-8"
        cause = f"calendar correction {path}: it cannot be read: {why}"
        raise CalendarError(cause, "name a file that is there, or see: spine calendar apply --example") from error
    try:
        content = yaml.safe_load(text)
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:  # a day that no month has is a ValueError
        cause = f"calendar correction {name}: it is not YAML: {' '.join(str(error).split())}"
        raise CalendarError(cause, "mend it; for its form see: spine calendar apply --example") from error
    correction = correction_from(content, name)
    if twice := list(repeated_keys(tree)):
        raise CalendarError(f"calendar correction {name}: {twice[0]} is there twice", "put both into one")
    return correction


def record_correction(store: Store, run: Run, correction: Correction, library: Library) -> tuple[Recorded, bool]:
    """The vintage with ``correction`` in force, and whether it is new; one that is in force already adds nothing."""
    current_vintage(store, run, library)
    with transaction(store.control, store.home, run, CALENDAR_VINTAGES.name) as draft:
        held = rows_of.newest(draft.connection)
        if held and is_in_force(held.vintage, correction):
            return held, False
        vintage = corrected(_on_build(held, library), correction)
        return rows_of.put(draft, vintage, correction.reason, correction.actor), True


def is_in_force(vintage: Vintage, correction: Correction) -> bool:
    """Whether ``vintage`` has ``correction``, whatever its file was called, and every day of it as it says."""
    is_known = any(one.mapping() == correction.mapping() for one in vintage.corrections)
    return is_known and all(vintage.session_on(one.day) == one.session() for one in correction.changes)


@dataclass(frozen=True, slots=True)
class WeekChange:
    """A week that has to be captured again: its current capture, and its sessions in that and by the correction."""

    capture: Capture
    before: float
    after: float

    @property
    def week(self) -> date:
        return self.capture.week_ending


@dataclass(frozen=True, slots=True)
class CorrectionPlan:
    """What a correction changes, and what follows from that.

    ``held`` is the newest vintage on record, ``build`` the reason of the one that a newer library is recorded with
    first ('' for none), ``before`` what then holds and ``after`` what the correction makes of it. ``weeks`` are to be
    captured again, ``partitions`` are then out of date, in an order in which they can be made; ``weeks_back`` has the
    window of their tables, and ``certificates`` are the rows of core_data_readiness that rest on them.
    """

    correction: Correction
    held: Recorded | None
    build: str
    before: Vintage
    after: Vintage
    weeks: tuple[WeekChange, ...]
    partitions: Partitions
    weeks_back: Mapping[str, int]
    certificates: tuple[Mapping[str, Any], ...]

    @property
    def is_recorded(self) -> bool:
        return self.before == self.after

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to do."""
        return self.is_recorded and not self.weeks

    @property
    def days(self) -> tuple[DayChange, ...]:
        return difference(self.before, self.after)

    @property
    def months(self) -> tuple[MonthChange, ...]:
        return months_changed(self.before, self.after)


def plan_correction(
    store: Store, correction: Correction, library: Library, table_name: str, scopes: Sequence[Scope]
) -> CorrectionPlan:
    """What ``correction`` changes in the calendar, captured as ``table_name``, and in what is judged by ``scopes``.

    A week that an interrupted run recorded and did not capture is in the plan again.
    """
    with store.control.read() as connection:
        held = rows_of.newest(connection)
    before = _on_build(held, library)
    after = before if is_in_force(before, correction) else corrected(before, correction)
    named = {one.day + timedelta(days=FRIDAY - one.day.weekday()) for one in correction.changes}
    weeks = _weeks(store, table_name, {*named, *weeks_changed(before, after)}, after)
    derived = [one for scope in scopes for one in scope.derived]
    with store.control.read() as connection:
        there = [Place(one.table_name, one.key) for one in _current(connection, derived)]
        partitions = affected(derived, [Place(table_name, one.capture.key) for one in weeks], there)
        certificates = [row for scope in scopes for row in _certificates(connection, scope, partitions)]
    is_new = held is None or held.vintage.library_version != library.version
    build = _build_reason(held, library) if is_new else ""
    windows = {one.table_name: one.calculation.weeks_back for one in derived}
    return CorrectionPlan(correction, held, build, before, after, weeks, partitions, windows, tuple(certificates))


def _weeks(store: Store, table_name: str, weeks: Collection[date], after: Vintage) -> tuple[WeekChange, ...]:
    """Those of ``weeks`` whose captured sessions are not the ones of ``after``."""
    held = store.select(Question((table_name,), weeks=weeks))
    sessions = _sessions(store, held)
    return tuple(
        WeekChange(one, _count(sessions[one.capture_id]), after.session_count(one.week_ending))
        for one in held
        if sessions[one.capture_id] != after.sessions_of_week(one.week_ending)
    )


def _sessions(store: Store, chosen: Collection[Capture]) -> dict[str, Sessions]:
    """Capture id -> the sessions that it holds, in order; read from the captures themselves."""
    found: dict[str, list[Session]] = {one.capture_id: [] for one in chosen}
    if not chosen:
        return {}
    with store.engine() as engine:
        store.show(engine, "trading_calendar", reference.TRADING_CALENDAR, chosen)
        sql = """
            SELECT capture_id, session_date, opens_at, closes_at, session_fraction
            FROM trading_calendar WHERE exchange_code = ? ORDER BY session_date"""
        for capture_id, *session in engine.execute(sql, [EXCHANGE]).fetchall():
            found[capture_id].append(Session(*session))
    return {capture_id: tuple(held) for capture_id, held in found.items()}


def _count(sessions: Iterable[Session]) -> float:
    return sum(one.session_fraction for one in sessions)


def _current(connection: Connection, derived: Iterable[Derived]) -> list[Capture]:
    return captures(connection, Question(tuple(one.table_name for one in derived)))


def _certificates(connection: Connection, scope: Scope, partitions: Partitions) -> list[Mapping[str, Any]]:
    """The verdicts in force that rest on any of ``partitions``."""
    weeks = {place.key.week_ending for place in partitions}
    if not weeks:
        return []
    rows = readiness.held(connection, scope.tables.domain, weeks)
    used = {
        (place.key.week_ending, name)
        for name, use_case in scope.use_cases.items()
        for place in partitions
        if place.table_name in scope.tables.of(use_case) and place.key.tier in {*use_case.tiers, None}
    }
    return [row for place, row in sorted(rows.items()) if row["is_ready"] and place in used]


def calendar_observations(
    store: Store, table_name: str, derived: Sequence[Derived], pipelines: Mapping[Stage, str]
) -> list[Observation]:
    """Of every capture made directly from the calendar ``table_name``: is it made from the one that holds now?

    A correction (or a newer library that says otherwise) opens an anomaly per partition; making it again closes it.
    ``pipelines`` names, by stage, what makes the tables of ``derived``.
    """
    readers = [one for one in derived if any(entry.sql_name == table_name for entry in one.inputs)]
    with store.control.read() as connection:
        made = _current(connection, readers)
        inputs = inputs_of(connection, [one.capture_id for one in made])
        every = captures(connection, Question((table_name,), View.ALL_REVISIONS))
        now = {one.week_ending: one for one in every if one.is_current}
        used = {each for ids in inputs.values() for each in ids}
        old = [one for one in every if not one.is_current and one.capture_id in used]
        vintages = rows_of.every(connection) if old else []
    sessions = _sessions(store, [*old, *(now[one.week_ending] for one in old)])
    replaced = {
        one.capture_id: _Replaced(
            one.week_ending,
            sessions[one.capture_id],
            sessions[now[one.week_ending].capture_id],
            _origin(one.week_ending, vintages),
        )
        for one in old
    }
    return [
        _observation(one, pipelines, [replaced[each] for each in inputs[one.capture_id] if each in replaced])
        for one in made
    ]


@dataclass(frozen=True, slots=True)
class _Replaced:
    """A calendar capture that was replaced: its week, its sessions, those that hold now, and the vintage that says so.

    Without a vintage it was replaced before they were kept.
    """

    week: date
    before: Sessions
    after: Sessions
    origin: Recorded | None

    @property
    def message(self) -> str:
        before, after = (f"{_count(some):g}" for some in (self.before, self.after))
        change = f" from {before} to {after} sessions" if before != after else ""
        why = f": {self.origin.reason}" if self.origin else ""
        return f"the trading calendar of {self.week} changed{change}{why}"

    @property
    def days(self) -> list[dict[str, str]]:
        before, after = ({one.session_date: one for one in some} for some in (self.before, self.after))
        return [
            {"day": str(day), "before": words(before.get(day)), "after": words(after.get(day))}
            for day in sorted({*before, *after})
            if before.get(day) != after.get(day)
        ]


def _origin(week: date, vintages: Sequence[Recorded]) -> Recorded | None:
    """The newest vintage that says something else of ``week`` than the one before it, else the first one."""
    changed = [two for one, two in pairwise(vintages) if week in weeks_changed(one.vintage, two.vintage)]
    return [*vintages[:1], *changed][-1] if vintages else None


def _observation(made: Capture, pipelines: Mapping[Stage, str], replaced: Sequence[_Replaced]) -> Observation:
    stage = Stage(made.stage)
    place = (made.domain, f"{made.domain}.{pipelines[stage]}", made.table_name, stage, made.key)
    details: dict[str, Any] = {"days": [day for one in replaced for day in one.days]}
    for one in replaced:
        if one.origin:
            details |= {"vintage": one.origin.number, "reason": one.origin.reason, "actor": one.origin.actor}
    return Observation(
        *place,
        CORRECTED,
        Severity.WARN,
        Category.DEPENDENCY,
        message="; ".join(one.message for one in replaced) or "made from the trading calendar that holds now",
        is_open=bool(replaced),
        details=details,
        affected=made.row_count if replaced else None,
        capture_id=made.capture_id,
    )
