"""What a Dagster run that is over made of the work items that were claimed for it, partition by partition.

What belongs here: reading a run's record. What does not: what follows for an item (`governance.work`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from market_spine.assets import events
from market_spine.domain.keys import WeekKey
from market_spine.domain.work import ErrorClass, WorkState, error_class_of
from market_spine.governance.work import Result

SHOWN = 500  # characters of a failure that are kept on the ledger; the run has all of it
Why = tuple[ErrorClass, str]


def results_of(instance: dg.DagsterInstance, run: dg.DagsterRun, keys: Iterable[WeekKey]) -> dict[WeekKey, Result]:
    """Each of ``keys`` by what ``run`` recorded: captured whole, lacking for a reason, or caught in its failure."""
    if run.status is dg.DagsterRunStatus.CANCELED:
        result = Result(run.run_id, "its run was cancelled", WorkState.CANCELLED)
        return dict.fromkeys(keys, result)
    lacking = _lacking(instance, run.run_id)
    failure = None if run.is_success else failure_of(instance, run.run_id)
    return {key: _result(run.run_id, lacking.get(str(key)) or failure) for key in keys}


def _result(run_id: str, why: Why | None) -> Result:
    if why is None:
        return Result(run_id, "every table is there", WorkState.COMPLETE)
    return Result(run_id, why[1][:SHOWN], error=why[0])


def _lacking(instance: dg.DagsterInstance, run_id: str) -> Mapping[str, Why]:
    """Partition -> why it has no capture of the first table that lacks it; what follows only repeats that."""
    found: dict[str, Why] = {}
    for event in _events(instance, run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION):
        one: dg.AssetCheckEvaluation = event.event_specific_data
        metadata = one.metadata
        if one.check_name != events.CAPTURED or "without_capture" not in metadata:
            continue
        reasons: Mapping[str, str] = metadata["without_capture"].value  # type: ignore[assignment]
        classes: Mapping[str, str] = metadata["error_class"].value  # type: ignore[assignment]
        for key, why in reasons.items():
            found.setdefault(key, (ErrorClass(classes[key]), f"{one.asset_key.to_user_string()}: {why}"))
    return found


def failure_of(instance: dg.DagsterInstance, run_id: str) -> Why:
    """What ended a run: the exception of its first failed step, or what Dagster says of a worker that died."""
    for event in _events(instance, run_id, dg.DagsterEventType.STEP_FAILURE):
        chain = list(_causes(event.event_specific_data.error))
        known = [one for one in chain if not hasattr(dg, str(one.cls_name))]  # below Dagster's own wrapping
        told = _words((known or chain)[0].message) if chain else "a step failed"
        return error_class_of(str(one.cls_name) for one in chain), told
    for event in _events(instance, run_id, dg.DagsterEventType.RUN_FAILURE):
        return ErrorClass.TRANSIENT, event.message or "the run failed"
    return ErrorClass.TRANSIENT, "the run failed and left no reason"


def _words(message: str) -> str:
    """The cause alone: not the module of its class, nor what to do next, which the anomaly of the failure has."""
    cause = message.partition("\n  next: ")[0].strip()
    return cause.removeprefix("market_spine.domain.errors.")


def _causes(error: Any) -> Iterator[Any]:
    """An error and what caused it, outermost first."""
    while error is not None:
        yield error
        error = error.cause


def _events(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> Sequence[Any]:
    """The events of one kind of a run, oldest first."""
    found: list[Any] = []
    cursor = None
    while True:
        page = instance.get_records_for_run(run_id, cursor=cursor, of_type=kind, ascending=True)
        found += [one.event_log_entry.dagster_event for one in page.records]
        if not page.has_more:
            return found
        cursor = page.cursor
