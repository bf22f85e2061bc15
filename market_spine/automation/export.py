"""Dagster's runs that are over, kept in core_executions: beyond what Dagster keeps, and beside what they captured.

What belongs here: reading Dagster's record of a run, and what of it is kept. What does not: work items (`work`).

Runs are found by comparing ids and statuses, not by time: a clock that jumps, a run that ends meanwhile and a record
that Dagster has purged need no thought then. A look where nothing has ended is four counts (decision 0022).
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from market_spine.assets.partitions import PARTITION_TAG
from market_spine.assets.spine import CORRELATION_TAG, Spine, correlation_of
from market_spine.automation.launch import END, START
from market_spine.automation.results import failure_of
from market_spine.domain import reference
from market_spine.domain.contracts import Feed
from market_spine.domain.operations import Ended, Lane, Trigger
from market_spine.logs import redacted
from market_spine.store import executions
from market_spine.store.ledger import Run, transaction
from market_spine.store.operations_tables import EXECUTIONS
from market_spine.store.store import Store

NAME = "execution_sensor"
SECONDS = 60
OVER = tuple(dg.DagsterRunStatus(one) for one in Ended)
CHUNK = 200  # runs in one transaction; reading one from Dagster takes 5 ms
LIMIT = 1000  # of one look, which Dagster ends after 60 s: what an older store has is caught up with over several
SHOWN = 2000  # characters of an error
REQUEST_TAG = "market_spine/request"  # what a command was asked for
# Who started a run, by the first of these tags that it has.
TRIGGERS = {
    "dagster/backfill": Trigger.BACKFILL,
    "dagster/schedule_name": Trigger.SCHEDULE,
    "dagster/sensor_name": Trigger.SENSOR,
    REQUEST_TAG: Trigger.COMMAND,
    "dagster/from_ui": Trigger.UI,
}


def execution_sensor(feeds: Sequence[Feed]) -> dg.SensorDefinition:
    """Keeps the runs of all ``feeds``, on by default."""

    @dg.sensor(
        name=NAME,
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Puts runs that are over on record in core_executions, where Dagster's purge does not reach.",
    )
    def keep(context: dg.SensorEvaluationContext, spine: dg.ResourceParam[Spine]) -> dg.SkipReason:
        seen = _seen(context.instance)  # before looking: a run that ends meanwhile is news for the next tick
        if context.cursor == seen:
            return dg.SkipReason("no run has ended since the last look")
        now = spine.clock()
        spine.store.ensure()
        run = Run.of_look(f"sensor:{NAME}", now)
        kept = export(spine.store, feeds, context.instance, run, LIMIT)
        if kept < LIMIT:
            context.update_cursor(seen)
        return dg.SkipReason(f"runs put on record: {kept}")

    return keep


def _seen(instance: dg.DagsterInstance) -> str:
    """What changes whenever a run ends or is forgotten: how many there are by status, and which one changed last."""
    counts = [instance.get_runs_count(dg.RunsFilter(statuses=[status])) for status in OVER]
    last = instance.get_run_records(dg.RunsFilter(statuses=list(OVER)), limit=1, order_by="update_timestamp")
    return json.dumps([*counts, *(one.dagster_run.run_id for one in last)])


def export(
    store: Store, feeds: Sequence[Feed], instance: dg.DagsterInstance, run: Run, limit: int | None = None
) -> int:
    """Put the runs that are over and not on record as they ended there, the oldest first; how many that were.

    The same again puts nothing; two at once put each run once. At most ``limit`` runs are looked at.
    """
    ended = {
        run_id: status.value
        for status in OVER
        for run_id in reversed(instance.get_run_ids(dg.RunsFilter(statuses=[status])))
    }
    with store.control.read() as connection:
        held = executions.statuses(connection)
    fresh = [run_id for run_id, status in ended.items() if held.get(run_id) != status][:limit]
    kept = 0
    for begin in range(0, len(fresh), CHUNK):
        records = instance.get_run_records(dg.RunsFilter(run_ids=fresh[begin : begin + CHUNK]), ascending=True)
        rows = [_row(instance, one, feeds) for one in records if one.dagster_run.status in OVER]
        with transaction(store.control, store.home, run, EXECUTIONS.name) as draft:
            held = executions.statuses(draft.connection)
            new = [row for row in rows if held.get(row["execution_id"]) != row["status"]]
            for row in new:
                executions.put(draft, row)
        kept += len(new)
    return kept


def _row(instance: dg.DagsterInstance, record: dg.RunRecord, feeds: Sequence[Feed]) -> dict[str, Any]:
    run = record.dagster_run
    steps = [one.step_key or "" for one in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)]
    failed = run.status is dg.DagsterRunStatus.FAILURE
    error = redacted(failure_of(instance, run.run_id)[1]) if failed else None
    ended = _moment(record.end_time) or record.update_timestamp  # none where it was cancelled in the queue
    return {
        "execution_id": run.run_id,
        "pipeline": _pipeline(run, steps),
        "domain": _domain([*steps, run.job_name], feeds),
        "status": run.status.value,
        "logical_key": _logical_key(run.tags),
        "lane": _lane(run.tags),
        "trigger_source": next((one for tag, one in TRIGGERS.items() if tag in run.tags), Trigger.COMMAND),
        "parent_execution_id": run.parent_run_id,
        "correlation_id": correlation_of(run),
        "params_json": _params(run, steps),
        "error": error[:SHOWN] if error else None,
        "created_at": record.create_timestamp,
        "started_at": _moment(record.start_time),
        "ended_at": ended,
    }


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _asset(step: str) -> str:
    """The asset that a step makes: otc__raw is otc/raw."""
    return step.replace("__", "/")


def _pipeline(run: dg.DagsterRun, steps: Sequence[str]) -> str:
    """What a command was asked for, the job, or the assets that were chosen by hand (Dagster's own job has them)."""
    if run.job_name.startswith("__"):
        return run.tags.get(REQUEST_TAG) or ", ".join(map(_asset, steps)) or run.job_name
    return run.job_name


def _domain(names: Sequence[str], feeds: Sequence[Feed]) -> str:
    """The domain of the first name that is of a feed or the calendar; '' for none."""
    known = {feed.name: feed.domain for feed in feeds} | {reference.NAME: reference.DOMAIN}
    known[reference.TRADING_CALENDAR.name] = reference.DOMAIN
    return next((domain for name in names for begin, domain in known.items() if re.match(f"{begin}(_|$)", name)), "")


def _logical_key(tags: Mapping[str, str]) -> str:
    """Its partition, or first and last of a range as Dagster's commands take them; '' for none."""
    first, last = (tags.get(name, tags.get(PARTITION_TAG, "")) for name in (START, END))
    return first if first == last else f"{first}...{last}"


def _lane(tags: Mapping[str, str]) -> Lane:
    """Below the current week, or beside it."""
    is_later = re.fullmatch(r"-[1-9]\d*", tags.get("dagster/priority", "").strip())
    return Lane.BACKFILL if is_later else Lane.NORMAL


def _params(run: dg.DagsterRun, steps: Sequence[str]) -> str:
    """The assets that were begun, how they were configured, and those of our own tags that no column has."""
    ops: dict[str, dict[str, Any]] = dict(run.run_config).get("ops", {})  # type: ignore[assignment]
    config = {_asset(name): one["config"] for name, one in ops.items() if "config" in one}
    ours = run.tags.keys() - {CORRELATION_TAG}
    tags = {name: run.tags[name] for name in ours if name.startswith("market_spine/")}
    return json.dumps(redacted({"assets": [*map(_asset, steps)], "config": config, "tags": tags}), sort_keys=True)
