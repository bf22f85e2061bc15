"""Carrying out a request: what the source has of it, the plan, the runs, and what became of every partition.

What belongs here: asking, starting and counting. What does not: options (`request`), and how it looks (`report`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from market_spine.automation.request import Request
from market_spine.domain.captures import RevisionPolicy, Stage
from market_spine.domain.keys import WeekKey

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from market_spine.assets.compute import Step
    from market_spine.assets.spine import Progress, Spine
    from market_spine.automation.launch import Launch, Outcome
    from market_spine.domain.contracts import Feed
    from market_spine.governance.staleness import Stale
    from market_spine.sources.delivery import Delivery, Empty, Inventory, Problem, Source
    from market_spine.store.manifest import Capture
    from market_spine.store.records import Failed
    from market_spine.store.store import Store

FETCH = "fetch"  # the name under which deliveries are counted in the progress display


@dataclass(frozen=True)
class Availability:
    """What a source has of what is asked, why it has not the rest, and the files that it does not understand."""

    have: tuple[WeekKey, ...]
    absent: dict[WeekKey, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def availability(inventory: Inventory, keys: Sequence[WeekKey], now: datetime) -> Availability:
    """``keys`` against the ``inventory``. Nothing that was asked for disappears: it is there or has a reason."""
    from market_spine.domain.publication import is_due, publication_date

    known = set(inventory.keys)
    nothing = "no file that is understood" if inventory.problems else "nothing"
    absent = {}
    for key in keys:
        is_unlisted = inventory.since is not None and key.week_ending < inventory.since
        if key in known or key.tier is None:
            continue
        if is_due(key.week_ending, key.tier, now):
            if is_unlisted:  # whether the source has it, only asking tells
                continue
            absent[key] = f"the source has {nothing} for it"
        else:
            absent[key] = f"not due: FINRA publishes it on {publication_date(key.week_ending, key.tier)}"
    return Availability(tuple(key for key in keys if key not in absent), absent, inventory.problems)


def launches_of(request: Request, keys: Sequence[WeekKey]) -> list[Launch]:
    """The runs of ``request`` for ``keys``; windows for the latest week of each tier only, where it says so."""
    from market_spine.assets.tables import steps_of
    from market_spine.automation.launch import launches

    rolling = {name for name, step in steps_of(request.feed).items() if step.table.stage is Stage.ROLLING}
    if not request.rolls_latest_only or not rolling & set(request.tables):
        return launches(request.feed, request.tables, keys)
    others = [name for name in request.tables if name not in rolling]
    newest = {key.tier: key for key in sorted(keys)}
    windows = [name for name in request.tables if name in rolling]
    return [
        *launches(request.feed, others, keys, publish=False),
        *launches(request.feed, windows, list(newest.values())),
    ]


def partitions_of(request: Request, keys: Sequence[WeekKey]) -> dict[str, list[WeekKey]]:
    """SQL table name -> the partitions that ``request`` makes of it."""
    from market_spine.assets.tables import CALENDAR, steps_of

    steps = steps_of(request.feed)
    weeks = [WeekKey(week, None) for week in sorted({key.week_ending for key in keys})]
    newest = sorted({key.tier: key for key in sorted(keys)}.values())
    found: dict[str, list[WeekKey]] = {}
    if any("trading_calendar" in steps[name].inputs for name in request.tables if name != "raw"):
        found[CALENDAR] = weeks
    for name in request.tables:
        by_tier = name == "raw" or steps[name].table.by_tier
        is_latest = name != "raw" and request.rolls_latest_only and steps[name].table.stage is Stage.ROLLING
        found[request.feed.sql_name(name)] = (newest if is_latest else sorted(keys)) if by_tier else weeks
    return found


@dataclass(frozen=True)
class Tally:
    """What became of the partitions of one table.

    ``lacking`` says why there is no new capture, per partition; ``remedies`` what helps, where that is known.
    """

    table: str
    asked: int
    captured: int
    unchanged: int
    lacking: dict[str, str]
    rejects: int
    remedies: dict[str, str] = field(default_factory=dict)


class Watched:
    """A source whose deliveries are counted, since fetching is most of the time of a backfill."""

    def __init__(self, source: Source, total: int, progress: Progress) -> None:
        self.source, self.total, self.progress, self.done = source, total, progress, 0
        self.kind, self.series = source.kind, source.series

    def inventory(self, feed: Feed, now: datetime) -> Inventory:
        return self.source.inventory(feed, now)

    def fetch(self, feed: Feed, key: WeekKey, now: datetime) -> Delivery | Empty:
        self.progress(f"{FETCH} {key}", self.done, self.total)
        answer = self.source.fetch(feed, key, now)
        self.done += 1
        self.progress(FETCH, self.done, self.total)
        return answer


def carry_out(
    spine: Spine, request: Request, keys: Sequence[WeekKey], instance: DagsterInstance, log_level: str
) -> tuple[Outcome, list[Tally]]:
    """Run what ``request`` needs for ``keys``; the outcome, and the count per table."""
    from market_spine.assets.capture import Options
    from market_spine.automation import launch

    params = request.params
    options = Options(params.policy or RevisionPolicy.VERSIONED, params.force, params.min_records)
    watched = replace(spine, source=Watched(spine.source, len(keys), spine.progress))
    tags = {"market_spine/request": request.name}
    plan = launches_of(request, keys)
    outcome = launch.run(watched, request.feed, plan, instance, options, tags, log_level)
    return outcome, tallies(spine.store, partitions_of(request, keys), outcome)


def tallies(store: Store, partitions: Mapping[str, Sequence[WeekKey]], outcome: Outcome) -> list[Tally]:
    """What became of ``partitions``, by SQL table name: counted from the manifest, not from what was intended."""
    from market_spine.store.manifest import Question
    from market_spine.store.rejects import count_by_table

    weeks = {key.week_ending for keys in partitions.values() for key in keys}
    held: dict[str, dict[WeekKey, Capture]] = {name: {} for name in partitions}
    for capture in store.select(Question(tuple(partitions), weeks=weeks)):
        held[capture.table_name][capture.key] = capture
    with store.control.read() as connection:
        rejects = count_by_table(connection, outcome.run_ids)
    why, helps = (
        {name.replace("/", "_"): told for name, told in one.items()}
        for one in (outcome.without_capture, outcome.remedies)
    )
    found = []
    for name, asked in partitions.items():
        lacking = {str(key): "no capture" for key in asked if key not in held[name]}
        lacking |= {key: reason for key, reason in why.get(name, {}).items() if key in set(map(str, asked))}
        mine = [key for key in asked if str(key) not in lacking]
        new = [key for key in mine if held[name][key].correlation_id == outcome.correlation_id]
        counts = (len(asked), len(new), len(mine) - len(new))
        found.append(Tally(name, *counts, lacking, rejects.get(name, 0), helps.get(name, {})))
    return found


def failed_checks(store: Store, outcome: Outcome) -> list[Failed]:
    """What the runs of ``outcome`` found wrong in what they captured."""
    from market_spine.store import records

    with store.control.read() as connection:
        return records.failed_checks(connection, outcome.run_ids)


def out_of_date(store: Store, feed: Feed) -> list[Stale]:
    """Current captures of ``feed`` that are not what they would be if they were made now."""
    from market_spine.assets.tables import derived_of
    from market_spine.governance.staleness import stale

    with store.control.read() as connection:
        return stale(connection, derived_of(feed))


def no_longer_certified(store: Store, feed: Feed, outcome: Outcome) -> list[dict[str, Any]]:
    """The weeks and uses that the runs of ``outcome`` took out of certification."""
    from market_spine.store.readiness import lost_in

    with store.control.read() as connection:
        return lost_in(connection, feed.domain, outcome.run_ids)


@dataclass(frozen=True)
class Forecast:
    """What a run would do with one table: partitions up to date, to be made, and lacking input."""

    table: str
    asked: int
    up_to_date: int
    to_do: int
    lacking: int


def forecast(spine: Spine, request: Request, keys: Sequence[WeekKey], can_fetch: Sequence[WeekKey]) -> list[Forecast]:
    """What ``request`` would do, judged by what is there now. Raw is always fetched: its content decides."""
    from market_spine.assets.tables import CALENDAR, steps_of

    by_table = {step.table_name: step for step in steps_of(request.feed).values()}
    raw = request.feed.sql_name("raw")
    fetched = set(can_fetch) if "raw" in request.tables else set()
    weeks = {key.week_ending for key in fetched}
    found = []
    for name, asked in partitions_of(request, keys).items():
        if name in (raw, CALENDAR):
            possible = [key for key in asked if name == CALENDAR or key in fetched]
            found.append(Forecast(name, len(asked), 0, len(possible), len(asked) - len(possible)))
            continue
        current, missing = _planned(spine.store, by_table[name], asked, request.params.force)
        arriving = {key for key in missing if key in fetched or (key.tier is None and key.week_ending in weeks)}
        lacking = len(missing) - len(arriving)
        found.append(Forecast(name, len(asked), len(current), len(asked) - len(current) - lacking, lacking))
    return found


def _planned(store: Store, step: Step, keys: Sequence[WeekKey], force: bool) -> tuple[set[WeekKey], set[WeekKey]]:
    """Partitions that are up to date, and those without input, in the store as it is."""
    from market_spine.cli.state import is_there
    from market_spine.store.plan import plan

    if not is_there(store):
        return set(), set(keys)
    inputs = [entry for entry, _ in step.inputs.values()]
    with store.control.read() as connection:
        found = plan(connection, step.calculation, step.table_name, inputs, keys, force)
    return {capture.key for capture in found.unchanged}, set(found.missing)
