"""Carrying a correction of the trading calendar out: the vintage, new captures of the weeks that it changes, and then
everything that was made from them.

What belongs here: that order, which holds after a kill at any point: what is recorded and not captured is planned
again, and what is captured and not followed up is out of date. What does not: what a correction changes
(`governance.calendar`), and which runs make partitions again (`recompute`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from market_spine.assets.calendar import KEY, observe_calendar
from market_spine.assets.partitions import ranges
from market_spine.assets.scope import scope_of
from market_spine.assets.spine import Spine
from market_spine.assets.tables import CALENDAR, derived_of
from market_spine.automation import launch
from market_spine.automation.launch import Launch, Outcome
from market_spine.automation.recompute import recompute
from market_spine.domain.contracts import Feed
from market_spine.domain.corrections import Correction
from market_spine.domain.keys import WeekKey
from market_spine.governance.calendar import CorrectionPlan, installed, plan_correction, record_correction
from market_spine.governance.staleness import Place, to_recompute
from market_spine.store.ledger import Run
from market_spine.store.store import Store
from market_spine.store.vintages import Recorded

TAGS = {"market_spine/request": "calendar"}


@dataclass(frozen=True, slots=True)
class Applied:
    """What was planned, the vintage that has it (``is_new``: recorded now), and the runs that captured its weeks."""

    plan: CorrectionPlan
    recorded: Recorded
    is_new: bool
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Followed:
    """The partitions that were to be made again, and the runs that did so and judged their weeks."""

    partitions: Mapping[str, list[WeekKey]]
    outcome: Outcome


def plan(store: Store, correction: Correction, feeds: Sequence[Feed]) -> CorrectionPlan:
    """What ``correction`` changes, and what follows from it in ``feeds``."""
    return plan_correction(store, correction, installed(), CALENDAR, [scope_of(feed) for feed in feeds])


def apply_correction(
    spine: Spine,
    correction: Correction,
    feeds: Sequence[Feed],
    instance: dg.DagsterInstance,
    log_level: str = "DEBUG",
) -> Applied:
    """Record ``correction``, capture exactly the weeks that it changes, and say what is out of date because of it."""
    planned = plan(spine.store, correction, feeds)
    outcome = Outcome(uuid.uuid4().hex)
    recorded, is_new = record_correction(spine.store, _run(spine, outcome), correction, installed())
    weeks = [Launch((KEY,), first, last) for first, last in ranges(one.capture.key for one in planned.weeks)]
    if weeks:
        launch.run(spine, feeds[0], weeks, instance, tags=TAGS, log_level=log_level, outcome=outcome)
    observe_calendar(spine.store, _run(spine, outcome), feeds)
    return Applied(planned, recorded, is_new, outcome)


def follow_up(
    spine: Spine,
    applied: Applied,
    feeds: Sequence[Feed],
    instance: dg.DagsterInstance,
    log_level: str = "DEBUG",
) -> Followed:
    """Make again what the correction put out of date; the weeks are judged with it."""
    derived = [one for feed in feeds for one in derived_of(feed)]
    with spine.store.control.read() as connection:
        todo = to_recompute(connection, derived)
    chosen = todo.around(lambda one: Place(one.table_name, one.key) in applied.plan.partitions).partitions
    outcome = recompute(spine, feeds, chosen, instance, TAGS, log_level)
    observe_calendar(spine.store, _run(spine, outcome), feeds)
    return Followed(chosen, outcome)


def _run(spine: Spine, outcome: Outcome) -> Run:
    """Who writes here, outside of Dagster's runs, in the business process of ``outcome``."""
    return Run(outcome.correlation_id, outcome.correlation_id, spine.clock())
