"""Sensors: they look, judge and record by themselves, and ask for runs only where something must be computed.

* readiness: judges after every transaction, and when a preliminary period ends; publishes, and asks for a run that
  shows the verdicts in Dagster.
* expectations: compares what is due with what is there, whether or not any run started; beats, so that it is known to
  live.
* stale: asks for runs that make again what is out of date, and make what a load left unmade in the watched weeks and
  in those that the work ledger loaded; one stage at a tick, so that inputs come before what reads them.

A look costs one cheap query where nothing happened. What a tick finds goes through `governance`, as for the commands.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import date, datetime, timedelta
from typing import Any

import dagster as dg

from market_spine.assets import readiness, scope
from market_spine.assets.expected import schedule_of
from market_spine.assets.partitions import PARTITION_TAG, ranges
from market_spine.assets.reading import publish_all
from market_spine.assets.spine import Spine
from market_spine.assets.tables import derived_of
from market_spine.automation.declare import declare
from market_spine.automation.jobs import jobs_of
from market_spine.automation.launch import END, START
from market_spine.automation.recompute import launches_of
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey
from market_spine.governance.staleness import Place, Recompute, to_recompute, unmade
from market_spine.store.ledger import Run, newest, newest_seq
from market_spine.store.plan import Target
from market_spine.store.readiness import held, logged_after, weeks_captured
from market_spine.store.work import weeks_done

SECONDS = 30  # between two looks; a look without news takes about 10 ms
QUIET = timedelta(seconds=10)  # a load goes from run to run within a second; what it leaves after that is ours
BUSY = timedelta(minutes=10)  # a run that is older and still not over was killed, or is a long one that makes its own
DONE = timedelta(days=7)  # for so long a week that the ledger loaded is looked at, however old it is
UNDER_WAY = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
)
STALE_TAG = "market_spine/recompute"


def sensors_of(feed: Feed) -> list[dg.SensorDefinition]:
    """The sensors of one feed, all on by default."""
    return [_readiness_sensor(feed), _expectations_sensor(feed), _stale_sensor(feed)]


def _readiness_sensor(feed: Feed) -> dg.SensorDefinition:
    name = f"{feed.name}_readiness_sensor"

    @dg.sensor(
        name=name,
        jobs=jobs_of(feed),
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Judges every week after new captures and as time passes; certifies, de-certifies, publishes.",
    )
    def judge(context: dg.SensorEvaluationContext, spine: dg.ResourceParam[Spine]) -> Any:
        now = spine.clock()
        spine.store.ensure()
        cursor = _cursor(context)
        seen = _seen(spine, feed)
        if not _has_news(cursor, seen, now):
            return dg.SkipReason("nothing was recorded, and no preliminary period has ended")
        found = scope.judge(spine.store, Run.of_look(f"sensor:{name}", now), feed)
        for one in found:
            context.log.info(one.message)
        told, weeks = _untold(context, spine, feed, cursor.get("told", 0))
        if found or weeks:
            publish_all(spine.store, feed)
        # ``seen`` was read before judging: what others have committed meanwhile is news for the next tick.
        after = json.dumps(seen | {"next_at": _next_at(spine, feed, now), "told": told})
        if not weeks:
            return dg.SensorResult(skip_reason="judged: every verdict stands", cursor=after)
        return dg.SensorResult(run_requests=_shows(feed, weeks, told), cursor=after)

    return judge


def _cursor(context: dg.SensorEvaluationContext) -> dict[str, Any]:
    """What the last tick left; nothing where an older version of this code left it in another form."""
    found = json.loads(context.cursor or "{}")
    return found if isinstance(found, dict) else {}


def _seen(spine: Spine, feed: Feed) -> dict[str, Any]:
    """What a look depends on, apart from time: the newest transaction, and the code and policy."""
    with spine.store.control.read() as connection:
        return {"seq": newest_seq(connection), "version": scope.scope_of(feed).version}


def _has_news(cursor: Mapping[str, Any], seen: Mapping[str, Any], now: datetime) -> bool:
    next_at = cursor.get("next_at")
    is_time = next_at is not None and now > datetime.fromisoformat(next_at)
    return is_time or any(cursor.get(name) != value for name, value in seen.items())


def _next_at(spine: Spine, feed: Feed, now: datetime) -> str | None:
    """When the next preliminary period ends."""
    with spine.store.control.read() as connection:
        rows = held(connection, feed.domain).values()
    ends = [
        datetime.fromisoformat(facts["captured_at"]) + timedelta(hours=facts["preliminary_hours"])
        for facts in (json.loads(row["facts_json"]) for row in rows)
        if facts["captured_at"]
    ]
    return min((moment.isoformat() for moment in ends if moment >= now), default=None)


def _untold(
    context: dg.SensorEvaluationContext, spine: Spine, feed: Feed, told: int
) -> tuple[int, Collection[WeekKey]]:
    """The newest line of the log of verdicts, and the weeks of lines after ``told`` that no Dagster run has shown.

    From the log, not from what this tick judged: a tick that was cut off, or a command, may have judged before.
    """
    with spine.store.control.read() as connection:
        lines = logged_after(connection, feed.domain, told)
    runs = {one: context.instance.get_run_by_id(one) for one in {line["execution_id"] for line in lines}}
    weeks = {
        WeekKey(line["week_ending"], None)
        for line in lines
        if not _has_shown(runs[line["execution_id"]], line["week_ending"])
    }
    return max((line["seq"] for line in lines), default=told), weeks


def _has_shown(run: dg.DagsterRun | None, week: date) -> bool:
    """Whether ``run`` has evaluated the checks of ``week``: a run of readiness judges all weeks, and shows its own."""
    tags = run.tags if run else {}
    first, last = (tags.get(name, tags.get(PARTITION_TAG, "")) for name in (START, END))
    return first <= str(week) <= last


def _shows(feed: Feed, weeks: Collection[WeekKey], told: int) -> list[dg.RunRequest]:
    """Runs of readiness over ``weeks``: they find the verdicts as they are, and record the checks per week.

    Dagster takes a check's evaluation of a partition outside of a run once, and refuses the second (decision 0018).
    """
    return [
        dg.RunRequest(
            run_key=f"{told}:{first}",
            job_name=f"{feed.name}_whole_weeks",
            asset_selection=[readiness.key_of(feed)],
            tags={START: first, END: last},
        )
        for first, last in ranges(weeks)
    ]


def _expectations_sensor(feed: Feed) -> dg.SensorDefinition:
    name = f"{feed.name}_expectations_sensor"

    @dg.sensor(
        name=name,
        minimum_interval_seconds=2 * SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Compares what should be there by now with what is there, whether or not a run started.",
    )
    def reconcile(context: dg.SensorEvaluationContext, spine: dg.ResourceParam[Spine]) -> dg.SkipReason:
        now = spine.clock()
        spine.store.ensure()
        declare(spine.store, feed)
        changes = scope.look(spine, feed, Run.of_look(f"sensor:{name}", now))
        for word in ("opened", "changed", "resolved"):
            for row in getattr(changes, word):
                context.log.info(f"{word}: {row['severity']} {row['code']} {row['week_ending']} {row['tier']}")
        return dg.SkipReason(f"{len(changes.opened)} opened, {len(changes.resolved)} resolved")

    return reconcile


def _stale_sensor(feed: Feed) -> dg.SensorDefinition:
    name = f"{feed.name}_stale_sensor"

    @dg.sensor(
        name=name,
        jobs=jobs_of(feed),
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes what a restatement, a correction, new code or a killed load left out of date or unmade.",
    )
    def recompute(context: dg.SensorEvaluationContext, spine: dg.ResourceParam[Spine]) -> Any:
        spine.store.ensure()
        cursor = _cursor(context)
        with spine.store.control.read() as connection:
            seq, committed_at = newest(connection)
            seen = [seq, scope.scope_of(feed).version]
            if cursor.get("seen") == seen:
                return dg.SkipReason("nothing was recorded since the last look")
            now = spine.clock()
            if (committed_at is not None and now - committed_at < QUIET) or _is_busy(context, now):
                return dg.SkipReason("a load is under way, and may make the rest by itself")
            plan = to_recompute(connection, derived_of(feed))
            raw = feed.sql_name("raw")
            watched = sorted(weeks_captured(connection, raw))[-schedule_of(feed).watch_weeks :]
            done = weeks_done(connection, feed.domain, now - DONE)  # of the ledger, whose runs are by tier only
            never = unmade(connection, derived_of(feed), raw, done.union(watched))
        asked, requests = _requests(feed, plan, never, seq)
        context.update_cursor(json.dumps({"seen": seen, "asked": asked}))
        if requests and asked == cursor.get("asked"):
            return dg.SkipReason("the runs that were asked for left it as it was: spine doctor says why")
        return requests or dg.SkipReason("nothing is out of date")

    return recompute


def _is_busy(context: dg.SensorEvaluationContext, now: datetime) -> bool:
    """Whether runs are under way, of a command, of the interface or of our own."""
    of_now = dg.RunsFilter(statuses=list(UNDER_WAY), created_after=now - BUSY)
    return context.instance.get_runs_count(of_now) > 0


def _requests(feed: Feed, plan: Recompute, never: Mapping[Place, Target], seq: int) -> tuple[str, list[dg.RunRequest]]:
    """Runs for what waits for nothing else, as of transaction ``seq``; and the hash of what they are asked for."""
    reasons = {part.place: list(part.reasons) for part in plan.parts if part.is_stale and not part.sources}
    reasons |= {place: list(target.input_ids) for place, target in never.items()}
    partitions: dict[str, list[WeekKey]] = {}
    for place in reasons:
        partitions.setdefault(place.table_name, []).append(place.key)
    captures = {part.place: part.capture.capture_id for part in plan.parts}
    told = {str(place): [captures.get(place), *why] for place, why in reasons.items()}
    version = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]
    return version, [
        dg.RunRequest(
            run_key=f"{seq}:{version}:{number}",
            # A run has one partitioning: weeks and tiers, or weeks.
            job_name=f"{feed.name}_{'weekly_refresh' if '|' in launch.first else 'whole_weeks'}",
            asset_selection=list(launch.assets),
            tags={START: launch.first, END: launch.last, STALE_TAG: version},
        )
        for number, launch in enumerate(launches_of(feed, partitions))
        if launch.first and launch.last and launch.assets != (readiness.key_of(feed),)  # its own sensor judges
    ]
