"""The work ledger and Dagster: due items become runs, runs that are over settle their items.

What belongs here: from rows of the ledger to runs and back. What does not: the rules of the ledger (`governance.work`),
and running (Dagster: its daemon launches, queues by priority and watches; there is no worker of our own).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg

from market_spine.assets.calendar import KEY as CALENDAR_KEY
from market_spine.assets.capture import Options
from market_spine.assets.partitions import ranges, week_key
from market_spine.assets.spine import CLAIM_TAG, CORRELATION_TAG, Spine
from market_spine.assets.tables import CALENDAR, steps_of
from market_spine.automation.jobs import calendar_job, jobs_of
from market_spine.automation.launch import END, START, Launch, launches, run_config
from market_spine.automation.launch import run as run_launches
from market_spine.automation.pipelines import find
from market_spine.automation.results import results_of
from market_spine.domain.captures import RevisionPolicy
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import SpineError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.work import CURRENT, ErrorClass, WorkState
from market_spine.governance import work as ledger
from market_spine.governance.work import Result
from market_spine.store import alive, presence, work
from market_spine.store.ledger import Run
from market_spine.store.work import Row

SECONDS = 15  # between two looks of the sensor; a look at an idle ledger is one query
CLAIMS = 4  # runs asked for at once: twice what Dagster runs, so that it never idles and priorities still count
PARTITIONS = 39  # of one run: 13 weeks x 3 tiers take half a minute, after which more urgent work has its turn
LOST = timedelta(minutes=5)  # a claim becomes a run within a tick of 60 s; without one after this it never will
DIED = "the process that carried it out died without a word: killed, or out of memory"
STALE = timedelta(hours=2, minutes=10)  # Dagster ends a run after 2 h (dagster.yaml), where its daemon lives
ACTOR, COMMAND = "work_sensor", "work_run"  # who claims
REQUEST = {"market_spine/request": "work"}
TIERS = [None, *Tier]


@dataclass(frozen=True, slots=True)
class Order:
    """A run to be: under which key, of which job, what it makes, how raw is ingested, and its tags."""

    key: str
    job: str
    launch: Launch
    options: Options
    tags: Mapping[str, str]

    def request(self, feed: Feed) -> dg.RunRequest:
        """What the daemon is asked for."""
        return dg.RunRequest(
            run_key=self.key,
            job_name=self.job,
            asset_selection=list(self.launch.assets),
            run_config=run_config(feed, self.launch, self.options),
            tags={START: str(self.launch.first), END: str(self.launch.last), **self.tags},
        )


def work_sensor(feed: Feed) -> dg.SensorDefinition:
    """Settles what is over, takes back what was lost, and asks for runs of what is due."""
    name = f"{feed.name}_work_sensor"

    @dg.sensor(
        name=name,
        jobs=[jobs_of(feed)[0], calendar_job()],
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Claims due work items, asks for their runs, and completes, retries or fails them by those runs.",
    )
    def look(context: dg.SensorEvaluationContext, spine: dg.ResourceParam[Spine]) -> Any:
        spine.store.ensure()
        run = Run.of_look(f"sensor:{name}", spine.clock())
        for row in reconcile(spine, feed, context.instance, run):
            context.log.info(f"item {row['id']} ({row['week_ending']} {row['tier']}): {row['state']}")
        asked = [one.request(feed) for one in orders(spine, feed, run, ACTOR)]
        return asked or dg.SkipReason("nothing is due")

    return look


def carry_out(spine: Spine, feed: Feed, instance: dg.DagsterInstance, log_level: str = "DEBUG") -> list[Row]:
    """Do what is due in this process, where no daemon does; then judge and publish. The items that were settled.

    The same claims and the same Dagster runs, one after the other. What is to be tried again waits for the next call.
    """
    settled: list[Row] = []
    calendars: set[str] = set()  # asked for once: as Dagster's daemon, which runs a run key once
    while True:
        run = Run.of_look(COMMAND, spine.clock())
        settled += reconcile(spine, feed, instance, run, COMMAND)
        # One claim at a time: one that waits for the others would be given back, and done by somebody else as well.
        asked = [one for one in orders(spine, feed, run, COMMAND, limit=1) if one.key not in calendars]
        if not asked:
            break
        calendars |= {one.key for one in asked}
        for one in asked:
            run_launches(spine, feed, [one.launch], instance, one.options, dict(one.tags), log_level)
    # Also of what failed: a delivery that was refused takes its week's certificate.
    done = {_key(row) for row in settled if row["latest_execution_id"]}
    if done:
        by_week = [name for name, step in steps_of(feed).items() if not step.table.by_tier]
        run_launches(spine, feed, launches(feed, by_week, done), instance, log_level=log_level)
    return settled


def reconcile(spine: Spine, feed: Feed, instance: dg.DagsterInstance, run: Run, actor: str = ACTOR) -> list[Row]:
    """Make the ledger say what Dagster's runs say; the items that were settled by it.

    Runs are found by the claim that they carry. Whatever died in between (daemon, code server, this very process), the
    next look finds the same claims and the same runs.
    """
    _bury(spine, instance)
    with spine.store.control.read() as connection:
        running = work.items(connection, feed.domain, [WorkState.RUNNING])
    results: dict[tuple[int, str], Result] = {}
    started: dict[int, str] = {}
    for claim, rows in _by(running, "locked_by").items():
        found = instance.get_runs(dg.RunsFilter(tags={CLAIM_TAG: claim}), limit=1)  # the newest
        if found and run.now - rows[0]["locked_at"] > STALE and _is_forsaken(spine, found[0]):
            found = [_ended(instance, found[0])]
        if not found:
            if run.now - rows[0]["locked_at"] > LOST:
                lost = Result(None, "its claim never became a run", WorkState.PENDING)
                results |= dict.fromkeys(((row["id"], claim) for row in rows), lost)
        elif found[0].is_finished:
            made = results_of(instance, found[0], {_key(row) for row in rows})
            results |= {(row["id"], claim): made[_key(row)] for row in rows}
        else:
            started |= {row["id"]: found[0].run_id for row in rows if row["current_execution_id"] is None}
    if started:
        ledger.execute(spine.store, run, started)
    return ledger.settle(spine.store, run, results, actor) if results else []


def _bury(spine: Spine, instance: dg.DagsterInstance) -> None:
    """Put down as failed what a process was carrying out that has died without a word: of the queue or of a command.

    Dagster by itself takes such a run for going on until its time limit, two hours, and two of them fill its queue.
    """
    for run_id in alive.dead(spine.store.home):
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            instance.report_run_failed(run, DIED)
        alive.forget(spine.store.home, run_id)


def _is_forsaken(spine: Spine, run: dg.DagsterRun) -> bool:
    """Whether a run that began and is not over is carried out by nobody that this home knows of; not one that waits."""
    has_begun = run.status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
    return has_begun and not alive.lives(spine.store.home, run.run_id)


def _ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRun:
    """A run whose worker must be dead, put down as failed."""
    instance.report_run_failed(run, "it was not over after two hours: its worker is taken to be dead")
    return instance.get_run_by_id(run.run_id) or run


def orders(spine: Spine, feed: Feed, run: Run, actor: str, limit: int = CLAIMS) -> list[Order]:
    """Runs for what is due of ``feed``, at most ``limit``, claimed for them; of a week its calendar comes first.

    What cannot be turned into a run (of a pipeline that is gone) fails by itself, and holds up nothing else.
    """
    with spine.store.control.read() as connection:
        due = work.due(connection, feed.domain, run.now)
        if not due:
            return []
        known = presence.current(connection, [CALENDAR])[CALENDAR]
    lacking = {WeekKey(row["week_ending"], None) for row in due} - known.keys()
    asked = [_calendar_order(first, last, run) for first, last in ranges(lacking)]

    def choose(rows: list[Row], held: int, token: str) -> Mapping[str, list[Row]]:
        ready = [row for row in rows if WeekKey(row["week_ending"], None) not in lacking]
        return dict(list(_groups(ready, token).items())[: max(min(limit, CLAIMS - held), 0)])

    refused: dict[tuple[int, str], Result] = {}
    for claim, rows in ledger.claim(spine.store, run, feed.domain, choose, actor).items():
        try:
            asked.append(_order(feed, claim, rows))
        except (SpineError, ValueError) as error:
            result = Result(None, str(error).partition("\n")[0], error=ErrorClass.SCHEMA)
            refused |= dict.fromkeys(((row["id"], claim) for row in rows), result)
    if refused:
        ledger.settle(spine.store, run, refused, actor)
    return asked


def _groups(rows: Sequence[Row], token: str) -> dict[str, list[Row]]:
    """Rows by the claim that one run can do, the most urgent first: first attempts of one request together.

    What failed before runs alone, so that one partition that fails again takes no other with it. Whose worker was
    killed goes together once more: 39 runs instead of one take ten minutes, and the partition is seldom the reason.
    """
    found: dict[str, list[Row]] = {}
    same = ("priority", "pipeline", "params_json", "correlation_id", "attempt_count", "error_class")
    for of_one in _by(rows, *same).values():
        failed, why = of_one[0]["attempt_count"], of_one[0]["error_class"]
        size = PARTITIONS if failed == 0 or (failed == 1 and why == ErrorClass.TRANSIENT) else 1
        ordered = sorted(of_one, key=lambda row: (row["week_ending"], row["tier"]))
        for start in range(0, len(ordered), size):
            chunk = {_key(row): row for row in ordered[start : start + size]}
            for first, last in ranges(chunk):
                held = [row for key, row in chunk.items() if _is_within(key, week_key(first), week_key(last))]
                found[_claim(held, token)] = held
    return found


def _is_within(key: WeekKey, first: WeekKey, last: WeekKey) -> bool:
    low, tier, high = (TIERS.index(one.tier) for one in (first, key, last))
    return first.week_ending <= key.week_ending <= last.week_ending and low <= tier <= high


def _claim(rows: Sequence[Row], token: str) -> str:
    """The run key: which partitions, the version of the request (generation), the attempt, and this very claim.

    Never one of before: its run would settle an item that nobody has done since.
    """
    first, last = _key(rows[0]), _key(rows[-1])
    generation = max(row["generation"] for row in rows)
    span = str(first) if first == last else f"{first}..{last}"
    return f"{rows[0]['pipeline']}:{span}:g{generation}:a{rows[0]['attempt_count'] + 1}:{token}"


def _order(feed: Feed, claim: str, rows: Sequence[Row]) -> Order:
    ((first, last),) = ranges([_key(row) for row in rows])
    _, pipeline = find([feed], rows[0]["pipeline"])
    steps = steps_of(feed)
    by_tier = [name for name in pipeline.tables if name == "raw" or steps[name].table.by_tier]
    launch = Launch(tuple(dg.AssetKey([feed.name, name]) for name in by_tier), first, last)
    tags = {
        CLAIM_TAG: claim,
        CORRELATION_TAG: rows[0]["correlation_id"],
        "dagster/priority": str(rows[0]["priority"] - CURRENT),
        "dagster/max_retries": "0",  # the ledger tries again, and knows when
        **REQUEST,
    }
    return Order(claim, f"{feed.name}_weekly_refresh", launch, options_of(json.loads(rows[0]["params_json"])), tags)


def options_of(params: Mapping[str, Any]) -> Options:
    """How raw is ingested, as the parameters of an item say: revision_policy, force, min_records."""
    policy = RevisionPolicy(params.get("revision_policy", RevisionPolicy.VERSIONED))
    return Options(policy, params.get("force", False), params.get("min_records"))


def _calendar_order(first: str, last: str, run: Run) -> Order:
    """The calendar of weeks that wait for it; asked for again every five minutes that it is still not there."""
    tags = {CORRELATION_TAG: run.correlation_id, **REQUEST}
    key = f"calendar:{first}..{last}:{run.now.timestamp() // LOST.total_seconds():.0f}"
    return Order(key, "trading_calendar", Launch((CALENDAR_KEY,), first, last), Options(), tags)


def cancel(spine: Spine, instance: dg.DagsterInstance, run: Run, ids: Collection[int], actor: str) -> list[Row]:
    """Cancel items, and end the runs that do them alone; what those have captured by then stays."""
    before = ledger.cancel(spine.store, run, ids, actor, "cancelled")
    for claim in {row["locked_by"] for row in before if row["locked_by"]}:
        with spine.store.control.read() as connection:
            others = [row for row in work.items(connection, states=[WorkState.RUNNING]) if row["locked_by"] == claim]
        for one in instance.get_runs(dg.RunsFilter(tags={CLAIM_TAG: claim})):
            if not others and not one.is_finished:
                instance.run_coordinator.cancel_run(one.run_id)
    return before


def is_ending(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run is over, or was told to end; a run of `spine work run` cannot be told."""
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished or run.status is dg.DagsterRunStatus.CANCELING


def _by(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Rows by the values of some columns, in the order in which these first occur."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        found.setdefault(row[names[0]] if len(names) == 1 else tuple(row[name] for name in names), []).append(row)
    return found


def _key(row: Row) -> WeekKey:
    return WeekKey.from_string(f"{row['tier']}:{row['week_ending']}")
