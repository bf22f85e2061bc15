"""What is judged of a feed, and what is expected of it: its tables, its calculations, and its policies."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from functools import cache

from market_spine.assets.calendar import observe_calendar
from market_spine.assets.expected import no_longer_expected, schedule_of
from market_spine.assets.spine import Spine
from market_spine.assets.tables import derived_of, steps_of, tables_of
from market_spine.assets.wholeness import superseded
from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Feed
from market_spine.governance.anomalies import Changes, record
from market_spine.governance.criteria import Tables
from market_spine.governance.expectations import HEART, reconcile
from market_spine.governance.policy import load_schedules, load_use_cases
from market_spine.governance.quality import grade_weeks
from market_spine.governance.readiness import AUTOMATED, Scope, Transition, judge_weeks
from market_spine.governance.restatement import tell_restatements
from market_spine.store.ledger import Run
from market_spine.store.store import Store

TOTALS = "venue_share"  # the smallest table with every share and trade of a tier


def tables_by_stage(feed: Feed) -> Tables:
    """The captured tables of ``feed`` by stage, its raw table among them."""
    by_stage: dict[Stage, dict[str, bool]] = {stage: {} for stage in Stage}
    by_stage[feed.raw.stage][feed.sql_name("raw")] = feed.raw.by_tier
    for step in steps_of(feed).values():
        by_stage[step.table.stage][step.table_name] = step.table.by_tier
    return Tables(feed.domain, feed.tiers, feed.sql_name("raw"), by_stage)


@cache
def scope_of(feed: Feed) -> Scope:
    """What readiness of ``feed`` is about."""
    totals = steps_of(feed)[TOTALS]
    return Scope(tables_by_stage(feed), derived_of(feed), load_use_cases(feed), (totals.table_name, totals.table))


def look(spine: Spine, feed: Feed, run: Run) -> Changes:
    """Compare what is expected of ``feed`` at ``run.now`` with what is there, and keep what is found."""
    changes = reconcile(spine.store, run, feed, load_schedules(feed), tables_of(feed))
    gone = [*no_longer_expected(spine.store, feed, run.now), *superseded(spine.store)]
    changes.add(record(spine.store, run, gone, HEART))
    return changes


def judge(
    store: Store, run: Run, feed: Feed, weeks: Collection[date] | None = None, actor: str = AUTOMATED
) -> list[Transition]:
    """Judge ``weeks`` of ``feed``, tell what a verdict rests on (corrections not yet followed, restatements), and score
    the captures."""
    observe_calendar(store, run, [feed])
    found = judge_weeks(store, run, scope_of(feed), weeks, actor)
    tell_restatements(store, run, feed, scope_of(feed), weeks)
    grade_weeks(store, run, feed, schedule_of(feed), tables_of(feed), weeks)
    return found
