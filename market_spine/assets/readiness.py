"""Readiness of a week as an asset: judged after every table of the week, and again by the sensor as time passes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from market_spine.assets.calculations import OWNERS
from market_spine.assets.partition_checks import log_per_partition
from market_spine.assets.partitions import WEEKS, week_keys
from market_spine.assets.scope import judge, scope_of
from market_spine.assets.spine import Spine
from market_spine.assets.tables import steps_of
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey
from market_spine.domain.trust import Readiness
from market_spine.governance.policy import UseCase
from market_spine.governance.readiness import weeks_known
from market_spine.store import readiness

NAME = "readiness"
SHOWN = 30


def key_of(feed: Feed) -> dg.AssetKey:
    """The asset ``[feed, readiness]``."""
    return dg.AssetKey([feed.name, NAME])


def check_name(use_case: str) -> str:
    """The check that says whether a week is ready for ``use_case``."""
    return f"ready_for_{use_case}"


def readiness_asset(feed: Feed) -> dg.AssetsDefinition:
    """The verdicts on a week: a check per use case, five criteria each; certificates where all hold."""
    scope = scope_of(feed)
    key = key_of(feed)

    @dg.asset(
        key=key,
        deps=[dg.AssetKey([feed.name, name]) for name in ("raw", *steps_of(feed))],
        partitions_def=WEEKS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="readiness",
        kinds={"certificate"},
        owners=OWNERS,
        tags={"domain": feed.domain},
        description="May a week be used? Five criteria per use case, with a signed certificate where all of them hold."
        " Judged again by a sensor after every new capture, and as time passes.",
        check_specs=[
            dg.AssetCheckSpec(check_name(name), asset=key, description=one.description)
            for name, one in scope.use_cases.items()
        ],
    )
    def body(context: dg.AssetExecutionContext, spine: dg.ResourceParam[Spine]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes the bare class only
        keys = week_keys(context)
        run = spine.run_of(context)
        spine.store.ensure()
        weeks = [one.week_ending for one in keys]
        # Every week, not only these: what this load replaced is in the windows of weeks that it did not make again.
        for transition in judge(spine.store, run, feed, {*weeks, *weeks_known(spine.store, scope)}):
            context.log.info(transition.message)
        with spine.store.control.read() as connection:
            held = readiness.held(connection, feed.domain, weeks)
        for name in scope.use_cases:
            failed = {one: why for one in keys if (why := against(held[one.week_ending, name]))}
            log_per_partition(context, key, check_name(name), keys, failed, run.now, is_blocking=False)
        return _result(key, keys, scope.use_cases, held)

    return body


def against(row: Mapping[str, Any]) -> str:
    """What stands against the verdict ``row``; '' where it is certified."""
    issues = [issue["message"] for issue in json.loads(row["blocking_issues"])]
    return "" if row["state"] == Readiness.CERTIFIED else f"{row['state']}: {'; '.join(issues)}"


def told(row: Mapping[str, Any]) -> str:
    """The verdict ``row`` in words: its certificate, or what stands against use."""
    return against(row) or f"{row['state']}: certificate {row['certificate_id'][:12]}"


def _result(
    key: dg.AssetKey, keys: Sequence[WeekKey], use_cases: Mapping[str, UseCase], held: Mapping[Any, Mapping[str, Any]]
) -> dg.MaterializeResult[Any]:
    rows = [held[one.week_ending, name] for one in keys for name in use_cases]
    head = "| week | ready for | state | certificate |\n| --- | --- | --- | --- |\n"
    lines = [
        f"| {row['week_ending']} | {row['ready_for']} | {row['state']} | {(row['certificate_id'] or '-')[:12]} |\n"
        for row in rows[-SHOWN:]
    ]
    checks = []
    for name in use_cases:
        failed = {one: why for one in keys if (why := against(held[one.week_ending, name]))}
        checks.append(check_result(name, {str(one.week_ending): why for one, why in failed.items()}))
    return dg.MaterializeResult(
        asset_key=key,
        metadata={
            "weeks_certified": sum(1 for row in rows if row["is_ready"] and row["ready_for"] == "trading"),
            "verdicts": dg.MetadataValue.md(head + "".join(lines)),
        },
        check_results=checks,
    )


def check_result(use_case: str, failed: Mapping[str, str]) -> dg.AssetCheckResult:
    """The check of one use case; a week that is not ready is nothing to fail for: it may be too young."""
    return dg.AssetCheckResult(
        check_name=check_name(use_case),
        passed=not failed,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{week}: {why}" for week, why in list(failed.items())[:SHOWN]) or "ready",
        metadata={"weeks_not_ready": len(failed)},
    )
