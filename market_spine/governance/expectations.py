"""What is expected of a feed by now, compared with what is there: missing, late, and half-finished partitions.

What belongs here: these rules, over plain facts, and the one reader of the facts. What does not: what is expected
(`policy`), when FINRA publishes (`domain.publication`), and how findings are kept (`anomalies`).

A partition is due at its publication date and the schedule's time; from then on it can be missing, which is INFO. After
the deadline (due + expected_delay_hours) it is an ERROR, and when it arrives, late. All ages count from the deadline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Feed, Severity, Table
from market_spine.domain.errors import PolicyError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import latest_due_week
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import WEEK, last_n_weeks
from market_spine.governance.anomalies import Changes, Observation, record
from market_spine.governance.causes import NOT_DELIVERED
from market_spine.governance.policy import Schedule, expand
from market_spine.store import heartbeats, presence, work
from market_spine.store.ledger import Run
from market_spine.store.presence import Known
from market_spine.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEART = "expectations"  # the name under which a pass leaves its heartbeat, and its actor
MISSED_RUNS, LATE_DATA, INCOMPLETE_STAGE_CHAIN = "MISSED_RUNS", "LATE_DATA", "INCOMPLETE_STAGE_CHAIN"
GRACE = timedelta(hours=1)  # from a raw capture until its measures must be there: a backfill of 156 weeks takes minutes
ERROR_HOURS = 24.0  # late by less is a WARN
HOUR = timedelta(hours=1)
TENTH = HOUR / 10
MINUTE = "%Y-%m-%d %H:%M UTC"


@dataclass(frozen=True, slots=True)
class Expected:
    """A partition that is expected: when it is published, and by when it must be there (UTC)."""

    key: WeekKey
    due_at: datetime
    deadline: datetime
    is_due: bool
    is_late: bool  # the deadline has passed; whether it is there is another question


@dataclass(frozen=True, slots=True)
class Facts:
    """What is there of the tables that a schedule fills.

    ``chain`` are their SQL names by stage, the first of INGESTED being the one that deliveries become. ``current`` are
    their current captures, ``first`` the first ones of that table. ``begun_at`` is the store's first transaction,
    ``first_week`` the week with which the feed begins, ``in_vain`` the first one that was asked for in vain, not as
    history.
    """

    chain: Mapping[Stage, tuple[str, ...]]
    current: Mapping[str, Mapping[WeekKey, Known]]
    first: Mapping[WeekKey, Known]
    begun_at: datetime | None
    first_week: date
    in_vain: date | None = None

    @property
    def arrivals_table(self) -> str:
        return self.chain[Stage.INGESTED][0]

    @property
    def arrived(self) -> Mapping[WeekKey, Known]:
        """The partitions that are there."""
        return self.current[self.arrivals_table]

    @property
    def since(self) -> date | None:
        """The first week that is looked at: what was never begun is not missing. None for an empty store.

        A week that was asked for in vain counts: a platform whose first day fails has begun all the same.
        """
        begun = [*(key.week_ending for key in self.first), *([self.in_vain] if self.in_vain else [])]
        return max(self.first_week, min(begun)) if begun else None


@dataclass(frozen=True, slots=True)
class Gaps:
    """The partitions of some weeks that are due, and those of them that are not there."""

    expected: tuple[Expected, ...]
    missing: tuple[Expected, ...]

    @property
    def actual(self) -> int:
        return len(self.expected) - len(self.missing)


def due_at(schedule: Schedule, week: date, tier: Tier | None) -> datetime:
    """When ``week`` of ``tier`` is expected: its publication date at the schedule's time in its zone, as UTC."""
    day = schedule.publication_date(week, tier)
    return datetime.combine(day, schedule.expected_time, schedule.timezone).astimezone(UTC)


def deadline(schedule: Schedule, week: date, tier: Tier | None) -> datetime:
    """When ``week`` of ``tier`` must be there (UTC): so many elapsed hours later, whatever the clocks do meanwhile."""
    return due_at(schedule, week, tier) + timedelta(hours=schedule.expected_delay_hours)


def expected(schedule: Schedule, weeks: Sequence[date], now: datetime) -> list[Expected]:
    """Every partition that ``schedule`` names in ``weeks``, due or not."""
    return [_expectation(schedule, key, now) for week in weeks for key in expand(schedule, week)]


def _expectation(schedule: Schedule, key: WeekKey, now: datetime) -> Expected:
    due, limit = (moment(schedule, key.week_ending, key.tier) for moment in (due_at, deadline))
    return Expected(key, due, limit, is_due=now >= due, is_late=now > limit)


def absence(
    schedule: Schedule, key: WeekKey, now: datetime, by_hour: bool = True
) -> tuple[Severity, str, dict[str, Any]]:
    """How it is told that ``key`` is not there at ``now``: INFO until its deadline, then an ERROR that counts days.

    The first day is told ``by_hour``, but not where the words are kept: they would be written anew every hour.
    """
    one = _expectation(schedule, key, now)
    late = max(now - one.deadline, timedelta(0))
    days, hours = late.days, late // HOUR if by_hour else 0
    details = {"due_at": one.due_at.isoformat(), "deadline": one.deadline.isoformat(), "days": days}
    if one.is_late:
        number, unit = (days, "day") if days else (hours, "hour")
        lasting = f": {number} {unit}{'' if number == 1 else 's'}" if number else ""
        return Severity.ERROR, f"not there since {one.deadline:{MINUTE}}{lasting}", details
    published = "published" if one.is_due else "to be published"
    told = f"{published} {one.due_at:{MINUTE}}, expected by {one.deadline:{MINUTE}}: not there yet"
    return Severity.INFO, told, details


def gaps(facts: Facts, schedule: Schedule, weeks: Sequence[date], now: datetime) -> Gaps:
    """What is due of ``weeks``, and what of it is missing. What is not due yet is neither."""
    due = tuple(one for one in expected(schedule, weeks, now) if one.is_due)
    return Gaps(due, tuple(one for one in due if one.key not in facts.arrived))


def watched(facts: Facts, schedule: Schedule, now: datetime) -> set[WeekKey]:
    """The partitions that are due and looked after, there or not: none before the first week that was ever captured,
    or asked for in vain."""
    return _Look(facts, schedule, now).watched


def lateness(hours: float) -> Severity:
    """How much it matters to arrive ``hours`` after the deadline."""
    return Severity.WARN if hours < ERROR_HOURS else Severity.ERROR


def chain_of(schedule: Schedule, tables: Mapping[str, Table]) -> dict[Stage, tuple[str, ...]]:
    """Of a feed's ``tables`` by SQL name, those that ``schedule`` fills, by stage.

    A schedule by tier leads through all tables by tier; one by week ends with the table that its deliveries become.
    """
    by_tier = None not in schedule.tiers
    found: dict[Stage, tuple[str, ...]] = {}
    for name, table in tables.items():
        if table.by_tier is by_tier and (by_tier or table.stage is Stage.INGESTED):
            found[table.stage] = (*found.get(table.stage, ()), name)
    if Stage.INGESTED not in found:
        raise PolicyError(
            f"schedule {schedule.pipeline}: no table of the feed takes its deliveries",
            "mend its partition_template in schedules.yaml",
        )
    return found


def facts_of(connection: Connection, schedule: Schedule, tables: Mapping[str, Table], first_week: date) -> Facts:
    """The facts about ``schedule``, of every week that the store has: four statements."""
    chain = chain_of(schedule, tables)
    return Facts(
        chain,
        presence.current(connection, [name for names in chain.values() for name in names]),
        presence.first(connection, chain[Stage.INGESTED][0]),
        presence.begun_at(connection),
        first_week,
        work.first_in_vain(connection, schedule.domain),
    )


def observe(facts: Facts, schedule: Schedule, now: datetime) -> list[Observation]:
    """What is missing, late and half-finished, and of everything that is there, what holds.

    Nothing where nothing was ever captured or asked for in vain: then there is nothing to compare with.
    """
    if not (schedule.is_watched and facts.since):
        return []
    look = _Look(facts, schedule, now)
    return [*look.not_delivered(), *look.missed_runs(), *look.late_data(), *look.incomplete_chains()]


def reconcile(
    store: Store, run: Run, feed: Feed, schedules: Sequence[Schedule], tables: Mapping[str, Table]
) -> Changes:
    """Compare what ``schedules`` expect at ``run.now`` with what is there, keep what is found, and beat.

    ``tables`` are all tables of the feed by SQL name. What is found again unchanged leaves no trace.
    """
    watched = [one for one in schedules if one.is_watched]
    with store.control.read() as connection:
        facts = [facts_of(connection, one, tables, feed.first_week) for one in watched]
    observed = [found for one, known in zip(watched, facts, strict=True) for found in observe(known, one, run.now)]
    changes = record(store, run, observed, HEART, counts_repeats=False)
    counts = {"opened": changes.opened, "changed": changes.changed, "resolved": changes.resolved}
    detail = ", ".join(f"{len(rows)} {word}" for word, rows in counts.items())
    heartbeats.beat(store.control, HEART, run.now, detail)
    return changes


class _Look:
    """One look at the facts of one schedule."""

    def __init__(self, facts: Facts, schedule: Schedule, now: datetime) -> None:
        self.facts, self.schedule, self.now = facts, schedule, now
        self.watched = {key for tier in schedule.tiers for key in self._watched(tier)}

    def _watched(self, tier: Tier | None) -> Iterator[WeekKey]:
        """The newest due weeks of ``tier``, as many as are watched, but none before the store began."""
        week = latest_due_week(tier or self.schedule.first_tier, self.now) + WEEK
        while due_at(self.schedule, week, tier) > self.now:
            week -= WEEK
        since = self.facts.since
        for one in last_n_weeks(self.schedule.watch_weeks, week):
            if since and one >= since:
                yield WeekKey(one, tier)

    def _observation(self, key: WeekKey, code: str, severity: Severity, category: Category, **more: Any) -> Observation:
        pipeline = f"{self.schedule.domain}.{self.schedule.pipeline}"
        place = (self.schedule.domain, pipeline, self.facts.arrivals_table, more.pop("stage", Stage.INGESTED), key)
        return Observation(*place, code, severity, category, **more)

    def not_delivered(self) -> Iterator[Observation]:
        """What is there closes, in whatever week; a gap that is no longer watched stays open until it is filled."""
        for key, known in self.facts.arrived.items():
            message = f"arrived {known.captured_at:{MINUTE}}"
            yield self._gap(key, Severity.INFO, message, is_open=False)
        for key in sorted(self.watched - self.facts.arrived.keys()):
            severity, message, details = absence(self.schedule, key, self.now, by_hour=False)
            yield self._gap(key, severity, message, details=details)

    def _gap(self, key: WeekKey, severity: Severity, message: str, **more: Any) -> Observation:
        return self._observation(key, NOT_DELIVERED, severity, Category.INCOMPLETE_INPUT, message=message, **more)

    def missed_runs(self) -> Iterator[Observation]:
        """Per week, what must be there by now and is not; weeks that are no longer watched can only close."""
        watched = {key.week_ending for key in self.watched}
        for week in sorted(watched | {key.week_ending for key in self.facts.arrived}):
            wanted = [one.key for one in expected(self.schedule, [week], self.now) if one.is_late]
            missing = [key.tier_text for key in wanted if key not in self.facts.arrived]
            if missing and week not in watched:
                continue
            there = len(wanted) - len(missing)
            yield self._observation(
                WeekKey(week, None),
                MISSED_RUNS,
                Severity.ERROR,
                Category.COMPLETENESS,
                message=f"{len(missing)} of {len(wanted)} expected partitions absent: {', '.join(missing)}"
                if missing
                else f"all {len(wanted)} expected partitions are there",
                is_open=bool(missing),
                details={"expected": len(wanted), "actual": there, "missing": missing},
            )

    def late_data(self) -> Iterator[Observation]:
        """What came late stays so: it is open while its week is watched, and closes with it.

        Weeks whose deadline had passed when the store began were loaded from history: they are not late.
        """
        for key, known in self.facts.first.items():
            limit = deadline(self.schedule, key.week_ending, key.tier)
            late = known.captured_at - limit
            is_late = late > timedelta(0) and self.facts.begun_at is not None and limit > self.facts.begun_at
            is_open = is_late and key in self.watched
            # Rounded down, so that a WARN never reads 24.0.
            message = f"Late data: arrived {late // TENTH / 10:.1f} hours after the deadline"
            if not is_open:
                message = f"its week is not among the {self.schedule.watch_weeks} watched" if is_late else "not late"
            yield self._observation(
                key,
                LATE_DATA,
                lateness(late / timedelta(hours=1)),
                Category.FRESHNESS,
                message=message,
                is_open=is_open,
                details={"expected": limit.isoformat(), "actual": known.captured_at.isoformat()},
                capture_id=known.capture_id,
            )

    def incomplete_chains(self) -> Iterator[Observation]:
        """Per watched partition, the tables that are not there an hour after it was captured; before, nothing is said.

        A new calculation is missing in every week of history; that is a backfill to be made, not 468 errors.
        """
        for key, known in self.facts.arrived.items():
            absent = {
                stage: lacking
                for stage in Stage
                if (lacking := [one for one in self.facts.chain.get(stage, ()) if key not in self.facts.current[one]])
            }
            if absent and (key not in self.watched or self.now - known.captured_at <= GRACE):
                continue
            stage, names = next(iter(absent.items()), (Stage.INGESTED, []))
            are = "is" if len(names) == 1 else "are"
            yield self._observation(
                key,
                INCOMPLETE_STAGE_CHAIN,
                Severity.ERROR,
                Category.COMPLETENESS,
                stage=stage,
                message=f"{stage}: {', '.join(names)} {are} not there" if absent else "all tables are there",
                is_open=bool(absent),
                details={"missing": {str(one): lacking for one, lacking in absent.items()}},
                capture_id=known.capture_id,
            )
