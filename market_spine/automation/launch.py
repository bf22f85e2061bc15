"""Starting Dagster work: the runs that make the asked tables for the asked partitions, in an order that works.

A Dagster run has one partitioning, so a request becomes up to four kinds of runs: the calendar of the weeks, tables by
week and tier, tables by week, and the published file. They run in this process, recorded in the Dagster instance.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import dagster as dg

from market_spine.assets import readiness
from market_spine.assets.calendar import KEY as CALENDAR_KEY
from market_spine.assets.capture import Options
from market_spine.assets.graph import assets_of
from market_spine.assets.partitions import ranges
from market_spine.assets.spine import CORRELATION_TAG, Spine
from market_spine.assets.tables import steps_of
from market_spine.automation.declare import declare
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey
from market_spine.store.exchange import last_batch

START, END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


@dataclass(frozen=True, slots=True)
class Launch:
    """One Dagster run to be: assets of one partitioning, and a range of keys (None: unpartitioned)."""

    assets: tuple[dg.AssetKey, ...]
    first: str | None = None
    last: str | None = None


@dataclass
class Outcome:
    """What the runs of one request did: run ids; per table and partition, why there is no capture and what helps."""

    correlation_id: str
    run_ids: list[str] = field(default_factory=list)
    without_capture: dict[str, dict[str, str]] = field(default_factory=dict)
    remedies: dict[str, dict[str, str]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        return not self.failures and not self.without_capture


def launches(feed: Feed, tables: Collection[str], keys: Collection[WeekKey], publish: bool = True) -> list[Launch]:
    """The runs that make ``tables`` (short names) for ``keys``, in order."""
    steps = steps_of(feed)
    weeks = [WeekKey(week, None) for week in sorted({key.week_ending for key in keys})]
    chosen = {name: step for name, step in steps.items() if name in tables}
    by_tier = [name for name, step in chosen.items() if step.table.by_tier]
    by_week = [name for name, step in chosen.items() if not step.table.by_tier]
    plan: list[Launch] = []
    if any("trading_calendar" in step.inputs for step in chosen.values()):
        plan += [Launch((CALENDAR_KEY,), first, last) for first, last in ranges(weeks)]
    own = [dg.AssetKey([feed.name, name]) for name in (("raw",) if "raw" in tables else ()) + tuple(by_tier)]
    if own:
        plan += [Launch(tuple(own), first, last) for first, last in ranges(keys)]
    if publish:
        by_week.append(readiness.NAME)  # what was made may have made its week ready, or the reverse
    if by_week:
        assets = tuple(dg.AssetKey([feed.name, name]) for name in by_week)
        plan += [Launch(assets, first, last) for first, last in ranges(weeks)]
    if publish:
        plan.append(Launch((dg.AssetKey([feed.name, "published"]),)))
    return plan


def run(
    spine: Spine,
    feed: Feed,
    plan: Sequence[Launch],
    instance: dg.DagsterInstance,
    options: Options | None = None,
    tags: dict[str, str] | None = None,
    log_level: str = "DEBUG",
    outcome: Outcome | None = None,
) -> Outcome:
    """Carry out ``plan`` one run after the other; later runs go on where an earlier one lacked some partitions.

    The published file is made again only where it would differ: something was recorded, or there is no such file.
    ``log_level`` is what Dagster writes to the terminal from; its event log has everything at any level. ``outcome`` is
    that of earlier runs of the same business process, to be gone on with.
    """
    outcome = outcome or Outcome(uuid.uuid4().hex)
    assets = assets_of(feed, is_described=False)
    spine.store.ensure()
    shown = None if declare(spine.store, feed) else last_batch(spine.store)
    for launch in plan:
        if launch.assets == (dg.AssetKey([feed.name, "published"]),) and _is_published(spine, shown):
            continue
        spread = {START: launch.first, END: launch.last} if launch.first and launch.last else {}
        result = dg.materialize(
            assets,
            selection=list(launch.assets),
            instance=instance,
            resources={"spine": spine},
            run_config=run_config(feed, launch, options or Options())
            | {"loggers": {"console": {"config": {"log_level": log_level}}}},
            tags={CORRELATION_TAG: outcome.correlation_id, **spread, **(tags or {})},
            raise_on_error=False,
        )
        outcome.run_ids.append(result.run_id)
        _note(outcome, result)
    return outcome


def _is_published(spine: Spine, shown: int | None) -> bool:
    """Whether the published file is there, and nothing was recorded since the transaction ``shown``."""
    return spine.store.home.published.exists() and shown == last_batch(spine.store)


def run_config(feed: Feed, launch: Launch, options: Options) -> dict[str, object]:
    """Dagster's configuration of ``launch``: how raw is ingested, and whether what is up to date is made again."""
    raw = {
        "force": options.force,
        "revision_policy": options.policy.value,
        "min_records": -1 if options.min_records is None else options.min_records,
    }
    steps = {dg.AssetKey([feed.name, name]) for name in steps_of(feed)}
    ops: dict[str, object] = {}
    for key in launch.assets:
        name = "__".join(key.path)
        if key == dg.AssetKey([feed.name, "raw"]):
            ops[name] = {"config": raw}
        elif key in steps:
            ops[name] = {"config": {"force": options.force}}
    return {"ops": ops}


def _note(outcome: Outcome, result: dg.ExecuteInProcessResult) -> None:
    for evaluation in result.get_asset_check_evaluations():
        found = evaluation.metadata
        if "without_capture" in found and not evaluation.passed:  # an asset may have several runs, one per range
            asset = evaluation.asset_key.to_user_string()
            outcome.without_capture.setdefault(asset, {}).update(found["without_capture"].value)  # type: ignore[arg-type]
            outcome.remedies.setdefault(asset, {}).update(found["next"].value)  # type: ignore[arg-type]
    if result.success:
        return
    for event in result.filter_events(lambda one: one.is_step_failure):
        error = event.step_failure_data.error
        cause = error.cause if error and error.cause else error
        text = cause.message.strip() if cause else "unknown failure"
        # A blocking check that failed is told by its partitions.
        if "DagsterAssetCheckFailedError" not in text:
            outcome.failures.append(text)
