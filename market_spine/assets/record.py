"""From what a step found, or died of, to anomalies on record.

What belongs here: the words and numbers of an observation, taken from findings, rejects and errors. What does not: what
opens and closes an anomaly (`governance.anomalies`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from market_spine.assets.spine import Spine
from market_spine.checks.findings import SAMPLES, Finding
from market_spine.domain.captures import VERBS, Stage
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.errors import SourceError, SpineError
from market_spine.domain.keys import WeekKey
from market_spine.governance.anomalies import Observation, record
from market_spine.store.ledger import Run

SHOWN = ("part_no", "line_no", "reason_code", "detail", "raw_text")  # of a reject, as a sample record


@dataclass(frozen=True, slots=True)
class Subject:
    """The table that observations are about: its domain, SQL name and stage."""

    domain: str
    table_name: str
    stage: Stage

    @property
    def pipeline(self) -> str:
        return f"{self.domain}.{VERBS[self.stage]}"

    def observation(self, key: WeekKey, code: str, severity: Severity, category: Category, **more: Any) -> Observation:
        """An observation of this table's partition ``key``."""
        place = (self.domain, self.pipeline, self.table_name, self.stage, key)
        return Observation(*place, code, severity, category, **more)


def findings(
    spine: Spine,
    run: Run,
    subject: Subject,
    found: Sequence[Finding],
    captures: Mapping[WeekKey, str],
    rejects: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Put every finding on record: what fails opens an anomaly, what holds closes one.

    ``captures`` names what each partition's findings are about: its capture, or what a blocked one was made from.
    """
    observed = [
        subject.observation(
            one.key,
            one.code,
            one.severity,
            one.category,
            message="" if one.passed else one.said,
            is_open=not one.passed,
            details=one.details | {"check": one.check, "actual": one.actual, "expected": one.expected},
            affected=one.affected,
            samples=() if one.passed else _samples(one, rejects),
            capture_id=captures.get(one.key),
        )
        for one in found
    ]
    record(spine.store, run, observed, subject.pipeline)


def _samples(finding: Finding, rejects: Sequence[Mapping[str, Any]]) -> Sequence[Any]:
    """Records that show what is wrong: those set aside for this reason, or what the check itself kept."""
    of_partition = [
        one for one in rejects if (one["week_ending"], one["tier"]) == (finding.key.week_ending, finding.key.tier_text)
    ]
    named = [one for one in of_partition if one["reason_code"] == finding.code]
    if finding.check == "error_rate":
        named = of_partition
    return [{name: one[name] for name in SHOWN} for one in named[:SAMPLES]] or finding.details.get("samples", ())


@contextmanager
def of_failure(spine: Spine, run: Run, subject: Subject, keys: Collection[WeekKey]) -> Iterator[set[WeekKey]]:
    """A step that fails leaves an anomaly at its first partition; one that goes through closes those of ``keys``.

    It is given a set for the partitions whose source could not be read all the same (`unusable_answer`).
    """
    first, unread = min(keys), set[WeekKey]()
    try:
        with structlog.contextvars.bound_contextvars(**run.names, table_name=subject.table_name):
            yield unread
    except Exception as error:
        # INFO: Dagster's log and the command have it, with its traceback.
        told = {"table_name": subject.table_name, "partitions": len(keys), "first": str(first)}
        structlog.get_logger().info("step_failed", error=error, **told, **run.names)
        try:
            record(spine.store, run, [_failed(subject, first, len(keys), error)], subject.pipeline)
        except SpineError as second:  # e.g. the control database is what failed
            error.add_note(f"and no anomaly could be recorded: {second.cause}")
        raise
    held = [_held(subject, key, code) for key in keys for code in (SOURCE_UNAVAILABLE, STEP_FAILED)]
    held = [one for one in held if one.code == STEP_FAILED or one.key not in unread]
    record(spine.store, run, held, subject.pipeline)


SOURCE_UNAVAILABLE, STEP_FAILED = "SOURCE_UNAVAILABLE", "STEP_FAILED"


def unusable_answer(spine: Spine, run: Run, subject: Subject, key: WeekKey, message: str, remedy: str) -> None:
    """The source answered for one partition, and not with it: less than it announced, or something else."""
    place = (key, SOURCE_UNAVAILABLE, Severity.ERROR, Category.INCOMPLETE_INPUT)
    found = subject.observation(*place, message=message, details={"partitions": 1, "next": remedy})
    record(spine.store, run, [found], subject.pipeline)


def _failed(subject: Subject, key: WeekKey, count: int, error: Exception) -> Observation:
    is_source = isinstance(error, SourceError)
    cause = error.cause if isinstance(error, SpineError) else f"{type(error).__name__}: {error}"
    remedy = error.remedy if isinstance(error, SpineError) else "repeat the command with --traceback for the details"
    return subject.observation(
        key,
        SOURCE_UNAVAILABLE if is_source else STEP_FAILED,
        Severity.ERROR,
        Category.INCOMPLETE_INPUT if is_source else Category.DEPENDENCY,
        message=cause.strip(),
        details={"partitions": count, "next": remedy},
    )


def _held(subject: Subject, key: WeekKey, code: str) -> Observation:
    severity, category = Severity.ERROR, Category.DEPENDENCY
    return subject.observation(key, code, severity, category, message="the step went through", is_open=False)
