"""From a report to Dagster's events: one materialization, the check results, and what a person wants to see first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from market_spine.assets.compute import Report
from market_spine.checks.findings import Finding
from market_spine.domain.contracts import Severity, Table
from market_spine.domain.keys import WeekKey

CAPTURED = "captured"
SHOWN = 30  # partitions named in a description: what fits a screen
# Captures in metadata, which Dagster copies to every partition's event; `spine captures list` has them all.
CAPTURES = 8


def check_specs(key: dg.AssetKey, table: Table, checks: Sequence[tuple[str, str]]) -> list[dg.AssetCheckSpec]:
    """The checks of an asset: `CAPTURED` first, which blocks; the others are (name, description)."""
    headline = dg.AssetCheckSpec(
        CAPTURED,
        asset=key,
        blocking=True,
        description=f"Every asked partition of {table.name} has a current capture; says which have not, and why.",
    )
    return [headline, *(dg.AssetCheckSpec(name, asset=key, description=text) for name, text in checks)]


def tell(context: dg.AssetExecutionContext, report: Report) -> None:
    """Say in the run's log which partitions have no capture: a failed blocking check gives no reason there."""
    for key, why in list(report.without_capture.items())[:SHOWN]:
        next_step = f"; next: {report.remedies[key]}" if key in report.remedies else ""
        context.log.warning(f"{key} is not captured: {why}{next_step}")


def result(
    key: dg.AssetKey, keys: Sequence[WeekKey], report: Report, checks: Sequence[str]
) -> dg.MaterializeResult[Any]:
    """One materialization with one summary, and one result per check over all partitions of the run."""
    return dg.MaterializeResult(
        asset_key=key,
        metadata=_metadata(keys, report),
        check_results=[_captured(keys, report), *(_check(name, report.findings) for name in checks)],
    )


def _metadata(keys: Sequence[WeekKey], report: Report) -> dict[str, dg.MetadataValue[Any]]:
    rows = sum(capture.row_count for capture in (*report.written, *report.unchanged))
    # Dagster copies the summary of a range to each partition's event: the sum is no partition's count there.
    rows_name = "dagster/partition_row_count" if len(keys) == 1 else "rows_of_this_run"
    metadata: dict[str, dg.MetadataValue[Any]] = {
        rows_name: dg.MetadataValue.int(rows),
        "partitions_captured": dg.MetadataValue.int(len(report.written)),
        "partitions_unchanged": dg.MetadataValue.int(len(report.unchanged)),
        "partitions_without_capture": dg.MetadataValue.int(len(report.without_capture)),
        "rejected_rows": dg.MetadataValue.int(report.rejected),
    }
    if len(keys) == 1 and (held := [*report.written, *report.unchanged]):
        metadata["capture_id"] = dg.MetadataValue.text(held[0].capture_id)
        metadata["content_hash"] = dg.MetadataValue.text(held[0].content_hash)
        metadata["captured_at"] = dg.MetadataValue.timestamp(held[0].captured_at.timestamp())
    if report.written:
        metadata["captures"] = dg.MetadataValue.md(_table(report))
    return metadata


def _table(report: Report) -> str:
    # The id says table, tier and week; columns of their own would push it out of the page.
    head = "| rows | revision | capture |\n| ---: | ---: | --- |\n"
    rows = "".join(
        f"| {one.row_count:,} | {one.revision} | `{one.capture_id}` |\n"
        for one in sorted(report.written, key=lambda one: (one.week_ending, one.tier))[-CAPTURES:]
    )
    more = len(report.written) - CAPTURES
    return head + rows + (f"\n{more} more: `spine captures list`" if more > 0 else "")


def _captured(keys: Sequence[WeekKey], report: Report) -> dg.AssetCheckResult:
    lacking = report.without_capture
    # In a range one bad partition must not keep the others from going on: it has no capture, so nothing later sees it.
    # Where nothing at all was captured, the run fails.
    nothing = len(lacking) == len(keys)
    return dg.AssetCheckResult(
        check_name=CAPTURED,
        passed=not lacking,
        severity=dg.AssetCheckSeverity.ERROR if nothing else dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{key}: {why}" for key, why in list(lacking.items())[:SHOWN]) or None,
        # All of them: whoever asked is told of each (468 partitions are 50 kB).
        metadata={
            "without_capture": {str(key): why for key, why in lacking.items()},
            "error_class": {str(key): one.value for key, one in report.error_classes.items()},
            "next": {str(key): step for key, step in report.remedies.items() if key in lacking},
        },
    )


def _check(name: str, findings: Sequence[Finding]) -> dg.AssetCheckResult:
    concerned = [finding for finding in findings if finding.check == name]
    failed = [finding for finding in concerned if not finding.passed]
    grave = any(finding.severity in (Severity.ERROR, Severity.CRITICAL) for finding in failed)
    shown = {str(one.key): f"{one.severity}: {one.actual}, expected {one.expected}" for one in failed[:SHOWN]}
    metadata: dict[str, Any] = {"partitions_judged": len(concerned), "partitions_failed": len(failed)}
    return dg.AssetCheckResult(
        check_name=name,
        # INFO is an observation: shown, not failed. Dagster knows WARN and ERROR only; core_quality has the true level.
        passed=all(finding.severity is Severity.INFO for finding in failed),
        severity=dg.AssetCheckSeverity.ERROR if grave else dg.AssetCheckSeverity.WARN,
        description="; ".join(f"{key}: {text}" for key, text in shown.items()) or _nothing_failed(concerned),
        metadata=metadata | ({"findings": shown} if shown else {}),
    )


def _nothing_failed(concerned: Sequence[Finding]) -> str | None:
    return None if concerned else "Nothing to judge: no partition of this run has new rows."
