"""The numbers by which a running platform is watched: read at once, as plain values, by the names that alerts use.

What belongs here: each family, what it counts, and the moment on which its value rests. What does not: counting
(`store.counts`), the text that Prometheus reads (`cli.metrics`), and what is too much (deploy/prometheus).

Beside every gauge of a state stands the moment of what it rests on: a good value of last week is not a good value.
Labels are bounded: tiers, states, names of tables and checks, and the watched weeks only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from statistics import fmean
from typing import TYPE_CHECKING, Any

from market_spine import __version__
from market_spine.domain.contracts import Feed, Table
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.trust import Readiness
from market_spine.domain.weeks import WEEK
from market_spine.governance.expectations import deadline, due_at, facts_of, watched
from market_spine.governance.policy import Schedule
from market_spine.store import counts, health, readiness, scores, work
from market_spine.store.ledger import newest
from market_spine.store.manifest import Capture, Question, captures
from market_spine.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

BASELINE, MISSING_SYMBOLS, DUPLICATE = "weekly_baseline", "missing_symbols", "EXACT_DUPLICATE"
USUAL_WEEKS, USUAL_NEEDED = 12, 4  # before the newest one; with fewer nothing is usual yet (as weekly_baseline)
# Rows of a week: OTC about 5,000, Tier 1 50,000, Tier 2 135,000. The last bucket, of all others, is implied.
ROW_BUCKETS = (1_000, 2_500, 5_000, 7_500, 10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000)
DAY = timedelta(days=1)
DOMAIN, TIER = ("domain",), ("tier",)


class Kind(StrEnum):
    """What a family's numbers are."""

    GAUGE = "gauge"
    COUNTER = "counter"  # never falls
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number. ``rests_on`` is the newest moment of what it was read from. ``below`` counts a histogram's
    observations of at most each of `ROW_BUCKETS`, and last all of them; their sum is ``value``."""

    labels: tuple[str, ...]
    value: float
    rests_on: datetime | None = None
    below: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """Numbers of one name. A gauge of a state has ``stamp``, the name of the family of the moments it rests on."""

    name: str
    help: str
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    kind: Kind = Kind.GAUGE
    stamp: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """A feed, the schedule that says when its weeks are expected, and its tables by SQL name."""

    feed: Feed
    schedule: Schedule
    tables: Mapping[str, Table]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every family as of one moment, each name once."""

    taken_at: datetime
    families: tuple[Family, ...]


def snapshot(store: Store, watches: Sequence[Watch], now: datetime) -> Snapshot:
    """Every number at ``now``, from one snapshot of the control database. Nothing is written.

    StoreError where the control database cannot be read.
    """
    found: list[Family] = []
    with store.control.read() as connection:
        found += _of_store(connection, now)
        for watch in watches:
            look = _Look.of(connection, watch, now)
            found += [*look.of_domain(connection), *look.of_feed(connection)]
            found += look.missing_symbols(store)
    merged: dict[str, Family] = {}
    for one in found:
        held = merged.get(one.name)
        merged[one.name] = replace(held, samples=(*held.samples, *one.samples)) if held else one
    return Snapshot(now, tuple(merged.values()))


def _state(name: str, told: str, labels: tuple[str, ...], samples: Iterable[Sample]) -> Family:
    return Family(name, told, labels, tuple(samples), stamp=f"{name.removesuffix('_seconds')}_timestamp_seconds")


def _moments(name: str, told: str, labels: tuple[str, ...], moments: Mapping[Any, datetime | None]) -> Family:
    """A gauge of moments by values of ``labels``, in seconds since 1970; what never was has none."""
    known = {label: moment for label, moment in moments.items() if moment is not None}
    return Family(name, told, labels, tuple(Sample(label, moment.timestamp()) for label, moment in known.items()))


def _count(name: str, told: str, labels: tuple[str, ...], counted: Mapping[str, int]) -> Family:
    samples = tuple(Sample((label,), count) for label, count in counted.items())
    return Family(name, told, labels, samples, Kind.COUNTER)


def _age(since: datetime | None, now: datetime) -> float:
    """Seconds since a moment; 0 without one, and for one that has not come."""
    return max((now - since).total_seconds(), 0.0) if since else 0.0


def _of_store(connection: Connection, now: datetime) -> Iterator[Family]:
    """What is of no feed."""
    _, committed_at = newest(connection)
    versions = (__version__, health.schema_version(connection))
    told = "1, with the versions of the code and of the control tables."
    yield Family("market_spine_build_info", told, ("version", "schema"), (Sample(versions, 1),))
    yield _moments("market_spine_snapshot_timestamp_seconds", "When these numbers were read.", (), {(): now})
    told = "When anything was last put on record."
    yield _moments("market_spine_last_transaction_timestamp_seconds", told, (), {(): committed_at})
    beats = {(name,): at for name, at in sorted(counts.beats(connection).items())}
    told = "When what repeats was last through, by its name."
    yield _moments("market_spine_heartbeat_timestamp_seconds", told, ("name",), beats)
    notices = counts.notices(connection, now)
    by_state = [Sample((state,), count, notices.changed_at) for state, count in notices.by_state.items()]
    yield _state("market_spine_notice_receipts", "Notices on their way to subscribers, by state.", ("state",), by_state)
    told = "Notices still open that reached a subscriber by no attempt."
    yield _state("market_spine_failed_notices", told, (), [Sample((), notices.failed, notices.changed_at)])
    due = Sample((), _age(notices.oldest_due, now), notices.changed_at)
    yield _state(
        "market_spine_oldest_due_notice_seconds", "How long the first notice to be sent has waited.", (), [due]
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """One feed at one moment: the partitions that are due and watched, and every raw capture by tier."""

    watch: Watch
    now: datetime
    committed_at: datetime | None
    watched: frozenset[WeekKey]
    weeks: Mapping[str, Sequence[counts.Week]]
    since: date | None  # the first week that is looked at; None for an empty store
    baselines: Sequence[Capture]

    @classmethod
    def of(cls, connection: Connection, watch: Watch, now: datetime) -> _Look:
        raw, baseline = (watch.feed.sql_name(name) for name in (watch.feed.raw.name, BASELINE))
        only = {raw: watch.tables[raw]}
        facts = facts_of(connection, watch.schedule, only, watch.feed.first_week)
        weeks = counts.weeks(connection, raw)
        last = {rows[-1].week_ending for rows in weeks.values()}
        return cls(
            watch,
            now,
            newest(connection)[1],
            frozenset(watched(facts, watch.schedule, now)),
            weeks,
            facts.since,
            captures(connection, Question((baseline,), weeks=last)) if baseline in watch.tables else [],
        )

    @property
    def tiers(self) -> tuple[Tier, ...]:
        return self.watch.feed.tiers

    def current(self, tier: Tier) -> list[counts.Week]:
        """The current captures of a tier, oldest week first."""
        return [one for one in self.weeks.get(tier.value, ()) if one.is_current]

    def captured_at(self, tier: Tier | None = None) -> datetime | None:
        """When the newest capture of a tier came, or of any."""
        tiers = self.weeks if tier is None else [tier.value]
        return max((one.captured_at for name in tiers for one in self.weeks.get(name, ())), default=None)

    def missing(self, tier: Tier) -> list[WeekKey]:
        """The watched weeks of a tier that are due and not there, oldest first."""
        there = {one.week_ending for one in self.current(tier)}
        return sorted(key for key in self.watched if key.tier is tier and key.week_ending not in there)

    def of_domain(self, connection: Connection) -> Iterator[Family]:
        """Families that every feed has under one name, by its domain."""
        domain = self.watch.feed.domain
        gaps = Sample((domain,), sum(len(self.missing(tier)) for tier in self.tiers), self.captured_at())
        yield _state("market_spine_partition_gaps", "Watched partitions that are due and not there.", DOMAIN, [gaps])
        yield from self._work(connection, domain)
        yield from self._verdicts(connection, domain)
        found, changed_at = counts.open_anomalies(connection, domain)
        by_severity = [Sample((domain, severity), count, changed_at) for severity, count in found.items()]
        yield _state("market_spine_open_anomalies", "Open anomalies.", ("domain", "severity"), by_severity)
        used = health.usage(connection, domain).items()
        sizes = [Sample((domain, name), usage.bytes, self.committed_at) for name, usage in used]
        yield _state("market_spine_capture_bytes", "Bytes of all captures of a table.", ("domain", "table"), sizes)

    def _work(self, connection: Connection, domain: str) -> Iterator[Family]:
        found = counts.work(connection, domain, self.now)
        failed = Sample((domain,), len(work.failed(connection, domain)), found.changed_at)
        told = "Work items that failed and were not asked for again."
        yield _state("market_spine_failed_work", told, DOMAIN, [failed])
        by_state = [Sample((domain, state), count, found.changed_at) for state, count in found.by_state.items()]
        yield _state("market_spine_work_items", "Work items ever asked for.", ("domain", "state"), by_state)
        due = Sample((domain,), _age(found.oldest_due, self.now), found.changed_at)
        told = "How long the first due work item has waited to be claimed."
        yield _state("market_spine_oldest_due_work_seconds", told, DOMAIN, [due])
        running = Sample((domain,), _age(found.oldest_claim, self.now), found.changed_at)
        told = "How long the work item that was claimed first has been running."
        yield _state("market_spine_oldest_running_work_seconds", told, DOMAIN, [running])

    def _verdicts(self, connection: Connection, domain: str) -> Iterator[Family]:
        weeks = {key.week_ending for key in self.watched}
        held = readiness.held(connection, domain, weeks) if weeks else {}
        rows = [row for (week, _), row in held.items() if week in weeks]
        samples = []
        for use_case in sorted({row["ready_for"] for row in rows}):
            of_use = [row for row in rows if row["ready_for"] == use_case]
            judged_at = max(row["judged_at"] for row in of_use)
            for state in Readiness:
                number = sum(1 for row in of_use if row["state"] == state)
                samples.append(Sample((domain, use_case, state.value), number, judged_at))
        labels = ("domain", "ready_for", "state")
        yield _state("market_spine_readiness_weeks", "Watched weeks by the verdict on record.", labels, samples)

    def of_feed(self, connection: Connection) -> Iterator[Family]:
        """Families whose names begin with the feed's."""
        feed, name = self.watch.feed, self.watch.feed.sql_name
        ingested = {tier.value: len({one.week_ending for one in self.weeks.get(tier.value, ())}) for tier in self.tiers}
        yield _count(name("weeks_ingested_total"), "Weeks that were ever captured.", TIER, ingested)
        missing = {tier: len(self.missing(tier)) for tier in self.tiers}
        yield self._by_tier("weeks_missing", "Watched weeks that are due and not there.", missing)
        told = "How long the oldest of the watched weeks that are not there has been past its deadline."
        yield self._by_tier("missing_week_overdue_seconds", told, {tier: self._overdue(tier) for tier in self.tiers})
        told = "Days for which the week after the newest captured one has been published; 0 where none is."
        yield self._by_tier("ingestion_lag_days", told, {tier: self._lag_days(tier) for tier in self.tiers})
        yield from self._newest_weeks()
        yield self._records()
        yield from self._scores(connection)
        failed = counts.failed_checks(connection, feed.domain)
        yield _count(
            name("validation_failures"), "Checks that failed without being expected to.", ("check_name",), failed
        )
        doubled = dict.fromkeys(map(str, self.tiers), 0) | counts.rejects(connection, feed.domain, DUPLICATE)
        yield _count(name("duplicate_records_total"), "Exact copies of an earlier row, set aside.", TIER, doubled)

    def _by_tier(self, short: str, told: str, values: Mapping[Tier, float]) -> Family:
        samples = [Sample((tier.value,), value, self.captured_at(tier)) for tier, value in values.items()]
        return _state(self.watch.feed.sql_name(short), told, TIER, samples)

    def _overdue(self, tier: Tier) -> float:
        limits = (deadline(self.watch.schedule, key.week_ending, tier) for key in self.missing(tier)[:1])
        return _age(next(limits, None), self.now)

    def _lag_days(self, tier: Tier) -> float:
        """From what is published and was not taken, not from the age of what is there: that is never below 17 days."""
        there = [one.week_ending for one in self.current(tier)]
        first = there[-1] + WEEK if there else self.since
        return _age(due_at(self.watch.schedule, first, tier), self.now) / DAY.total_seconds() if first else 0.0

    def _newest_weeks(self) -> Iterator[Family]:
        """The newest captured week of each tier: which, since when, with how many rows, and how many are usual."""
        name = self.watch.feed.sql_name
        rows = {tier: weeks for tier in self.tiers if (weeks := self.current(tier))}
        fridays = {(tier.value,): datetime.combine(weeks[-1].week_ending, time(), UTC) for tier, weeks in rows.items()}
        yield _moments(name("latest_week_timestamp"), "The Friday of the newest captured week.", TIER, fridays)
        came = {(tier.value,): self.captured_at(tier) for tier in rows}
        told = "When the newest capture came, of whatever week."
        yield _moments(name("latest_capture_timestamp_seconds"), told, TIER, came)
        latest = {tier: float(weeks[-1].row_count) for tier, weeks in rows.items()}
        yield self._by_tier("latest_week_records", "Rows of the newest captured week.", latest)
        before = {tier: [one.row_count for one in weeks[-1 - USUAL_WEEKS : -1]] for tier, weeks in rows.items()}
        usual = {tier: fmean(found) for tier, found in before.items() if len(found) >= USUAL_NEEDED}
        told = f"Mean rows of the {USUAL_WEEKS} weeks before the newest; none with fewer than {USUAL_NEEDED}."
        yield self._by_tier("usual_week_records", told, usual)

    def _records(self) -> Family:
        samples = []
        for tier in self.tiers:
            sizes = [one.row_count for one in self.weeks.get(tier.value, ())]
            below = (*(sum(1 for size in sizes if size <= limit) for limit in ROW_BUCKETS), len(sizes))
            samples.append(Sample((tier.value,), sum(sizes), below=below))
        told = "Rows of each capture of a week, restatements included."
        return Family(self.watch.feed.sql_name("records_per_week"), told, TIER, tuple(samples), Kind.HISTOGRAM)

    def _scores(self, connection: Connection) -> Iterator[Family]:
        weeks = {key.week_ending for key in self.watched}
        held = scores.held(connection, self.watch.feed.domain, weeks) if weeks else {}
        samples = [
            Sample((tier, week.isoformat()), row["score"], row["scored_at"])
            for (week, tier), row in sorted(held.items())
            if WeekKey(week, Tier(tier)) in self.watched
        ]
        told = "Quality of what was captured, 0 to 1; grades A to F from 0.9, 0.8, 0.7, 0.5 and 0 on."
        yield _state(self.watch.feed.sql_name("quality_score"), told, ("tier", "week"), samples)

    def missing_symbols(self, store: Store) -> Iterator[Family]:
        """Read from the captures themselves: the control tables keep what is unusual, not what is measured."""
        newest_of = {(tier.value, weeks[-1].week_ending) for tier in self.tiers if (weeks := self.current(tier))}
        chosen = {one.tier: one for one in self.baselines if (one.tier, one.week_ending) in newest_of}
        if not chosen:
            return
        name = self.watch.feed.sql_name(BASELINE)
        with store.engine() as engine:
            store.show(engine, name, self.watch.tables[name], list(chosen.values()))
            select = f"SELECT tier, value FROM {name} WHERE measure = ? AND value IS NOT NULL ORDER BY tier"
            rows = engine.execute(select, [MISSING_SYMBOLS]).fetchall()
        samples = [Sample((tier,), value, chosen[tier].captured_at) for tier, value in rows]
        told = "Symbols of the week before that the newest captured week has no row of."
        yield _state(self.watch.feed.sql_name(MISSING_SYMBOLS), told, TIER, samples)
