"""From parsed rows to raw captures: compare with what is current, write what is new, commit, and try again if beaten.

What belongs here: revision policies and the clock of captures. What does not: fetching and parsing (`ingest`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_spine.assets import record
from market_spine.assets.compute import Report
from market_spine.assets.record import Subject
from market_spine.assets.spine import Spine
from market_spine.checks.findings import Finding
from market_spine.domain.captures import Action, IngestionResult, RevisionPolicy, capture_id, whole_second
from market_spine.domain.contracts import Table
from market_spine.domain.errors import CaptureConflict, ClockError
from market_spine.domain.keys import WeekKey
from market_spine.sources.landing import Landed
from market_spine.store.commit import Batch, NewCapture, commit
from market_spine.store.files import EMPTY_CONTENT, Content, canonical_row, contents, relative_path, write_files
from market_spine.store.ledger import Run
from market_spine.store.manifest import Capture, Question, captures, newest
from market_spine.store.relations import create_view

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

ATTEMPTS = 50  # each is beaten only by a commit of the same partition; eight writers of one partition need about 8
MAX_AHEAD = timedelta(seconds=5)  # how far a capture may be dated after the clock, to follow one of the same second
POSITION = frozenset({"part_no", "line_no"})  # where a line stood is not what it says


@dataclass(frozen=True, slots=True)
class Options:
    """How to ingest. ``min_records`` None means the feed's own gate."""

    policy: RevisionPolicy = RevisionPolicy.VERSIONED
    force: bool = False
    min_records: int | None = None


@dataclass(frozen=True, slots=True)
class Arrival:
    """A landed delivery whose rows are in the engine, with how many lines it had."""

    landed: Landed
    line_count: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen in the deliveries: findings of the checks, and rows of core_rejects."""

    findings: Sequence[Finding]
    rejects: Sequence[dict[str, Any]] = ()


@dataclass
class RawReport(Report):
    """A report that also says what became of each delivery."""

    results: list[IngestionResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RawTable:
    """A raw table as stored: the domain of its captures, its SQL name, its contract, and its rows in the engine."""

    domain: str
    table_name: str
    table: Table
    relation: str
    version: str = "1.0"

    @property
    def subject(self) -> Subject:
        """What findings of this table are about."""
        return Subject(self.domain, self.table_name, self.table.stage)


def capture(
    spine: Spine,
    engine: DuckDBPyConnection,
    raw: RawTable,
    arrivals: Mapping[WeekKey, Arrival],
    run: Run,
    options: Options,
    evidence: Evidence,
    report: RawReport,
) -> None:
    """Capture the unblocked ``arrivals`` whose content is new; record all of them, with the evidence."""
    for _ in range(ATTEMPTS):
        current, last = _current(spine, raw, arrivals)
        attempt = _Attempt(spine, engine, raw, arrivals, run, options, current, last, report.blocked)
        new, results = attempt.write()
        deliveries = [_delivery_row(raw, arrivals[result.week_key], result, current, new) for result in results]
        ids = {one.key: one.capture_id for one in new} | {
            result.week_key: current[result.week_key].capture_id
            for result in results
            if result.action is Action.SKIPPED
        }
        quality = [one.quality_row(raw.domain, raw.table_name, ids.get(one.key)) for one in evidence.findings]
        record.findings(spine, run, raw.subject, evidence.findings, ids, evidence.rejects)
        batch = Batch(raw.table_name, run, new, deliveries, evidence.rejects, quality)
        try:
            committed = commit(spine.store.control, spine.store.home, batch)
        except CaptureConflict:
            _discard(spine, new)
            continue
        report.written += committed.captures
        report.unchanged += [current[one.week_key] for one in results if one.action is Action.SKIPPED]
        report.results += results
        report.findings += evidence.findings
        report.rejected += len(evidence.rejects)
        return
    raise CaptureConflict(
        f"{raw.table_name}: beaten {ATTEMPTS} times by other writers of the same partitions",
        "repeat the command when the others are done",
    )


def _current(
    spine: Spine, raw: RawTable, keys: Mapping[WeekKey, Arrival]
) -> tuple[dict[WeekKey, Capture], datetime | None]:
    """The current captures of ``keys``, and when anything last became known."""
    question = Question((raw.table_name,), weeks=[key.week_ending for key in keys])
    with spine.store.control.read() as connection:
        return {held.key: held for held in captures(connection, question)}, newest(connection)


def _discard(spine: Spine, new: Sequence[NewCapture]) -> None:
    for one in new:
        (spine.store.home.captures / one.file_path).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Attempt:
    spine: Spine
    engine: DuckDBPyConnection
    raw: RawTable
    arrivals: Mapping[WeekKey, Arrival]
    run: Run
    options: Options
    current: Mapping[WeekKey, Capture]
    newest: datetime | None
    blocked: Mapping[WeekKey, str]

    def write(self) -> tuple[list[NewCapture], list[IngestionResult]]:
        relation = self.raw.relation
        if self.options.policy is RevisionPolicy.MERGE:
            kept = [held for key, held in self.current.items() if key in self.arrivals]
            root = self.spine.store.home.captures
            relation = merge_into_existing(self.engine, self.raw.table, relation, kept, root)
        row = canonical_row(self.raw.table, leave_out=POSITION)
        found = contents(self.engine, relation, row, self.raw.table.by_tier)
        results = [self._decide(key, found.get(key, EMPTY_CONTENT)) for key in self.arrivals]
        wanted = [one.week_key for one in results if one.action in (Action.INSERTED, Action.UPDATED)]
        # One moment for all: were some dated a second later, an answer in between would lack the others' measures.
        captured_at = max((self._captured_at(key) for key in wanted), default=self.run.now)
        new = [self._new(key, found.get(key, EMPTY_CONTENT), captured_at) for key in wanted]
        places = {one.key: (one.file_path, one.capture_id) for one in new}
        written = write_files(self.engine, relation, self.raw.table, self.spine.store.home.captures, places)
        sealed = [replace(one, file_sha256=written[one.key].sha256, file_bytes=written[one.key].size) for one in new]
        return sealed, results

    def _decide(self, key: WeekKey, content: Content) -> IngestionResult:
        held = self.current.get(key)
        revision = held.revision if held else 0
        previous = held.revision if held else None

        def result(action: Action, number: int, reason: str = "") -> IngestionResult:
            return IngestionResult(key, content.row_count, number, action, previous, reason)

        if key in self.blocked:
            return result(Action.BLOCKED, revision, self.blocked[key])
        if held is None:
            return result(Action.INSERTED, 1)
        if self.options.policy is RevisionPolicy.SKIP:
            return result(Action.SKIPPED, revision, "the week is there, and the policy is to keep it")
        if held.content_hash == content.content_hash and not self.options.force:
            return result(Action.SKIPPED, revision, f"same content as revision {revision}")
        overwrites = self.options.policy is RevisionPolicy.OVERWRITE
        return result(Action.UPDATED, revision if overwrites else revision + 1)

    def _captured_at(self, key: WeekKey) -> datetime:
        """The second of the batch's last fetch, or the one after the current capture's, so that captures have an order.

        Not before what became known of other partitions since the run read its clock (minutes ago, if it fetched much):
        measures made of both would answer for a later moment than their inputs.
        """
        moment = whole_second(max(one.landed.fetched_at for one in self.arrivals.values()))
        held = self.current.get(key)
        limit = max(self.run.now, self.spine.clock()) + MAX_AHEAD
        if self.newest is not None and moment < self.newest <= limit:
            moment = self.newest
        if held is None or held.captured_at < moment:
            return moment
        if held.captured_at + timedelta(seconds=1) > limit:
            raise ClockError(
                f"the clock reads {limit - MAX_AHEAD}, but {self.raw.table_name} {key} was captured at "
                f"{held.captured_at}",
                "set this machine's clock right (timedatectl), then repeat the command",
            )
        return held.captured_at + timedelta(seconds=1)

    def _new(self, key: WeekKey, content: Content, captured_at: datetime) -> NewCapture:
        held = self.current.get(key)
        merges = self.options.policy is RevisionPolicy.MERGE and held is not None
        landing_id = self.arrivals[key].landed.landing_id
        return NewCapture(
            capture_id=capture_id(self.raw.domain, key, captured_at),
            domain=self.raw.domain,
            table_name=self.raw.table_name,
            stage=self.raw.table.stage,
            key=key,
            row_count=content.row_count,
            content_hash=content.content_hash,
            file_path=relative_path(self.raw.table_name, key, captured_at),
            file_sha256="",
            file_bytes=0,
            captured_at=captured_at,
            calc_version=self.raw.version,
            inputs=(held.capture_id,) if merges and held else (),
            inputs_hash=landing_id[:32],
            landing_id=landing_id,
            follows=held.capture_id if held else "",
            policy=self.options.policy,
        )


def merge_into_existing(
    engine: DuckDBPyConnection, table: Table, relation: str, kept: Sequence[Capture], root: Path
) -> str:
    """The table ``merged``: existing rows as they are, then rows of ``relation`` whose (symbol, mpid) is new."""
    create_view(engine, "existing", table, kept, root)
    columns = ", ".join(column.name for column in table.columns)
    engine.execute(f"""
        CREATE OR REPLACE TABLE merged AS
        SELECT {columns} FROM existing
        UNION ALL
        SELECT {columns} FROM (
            SELECT n.* REPLACE (CAST(n.part_no + coalesce(e.parts, 0) AS INTEGER) AS part_no)
            FROM {relation} n
            ANTI JOIN existing USING (week_ending, tier, symbol, mpid)
            LEFT JOIN (SELECT week_ending, tier, max(part_no) AS parts FROM existing GROUP BY ALL) e
                USING (week_ending, tier)
        )
    """)
    return "merged"


def _delivery_row(
    raw: RawTable,
    arrival: Arrival,
    result: IngestionResult,
    current: Mapping[WeekKey, Capture],
    new: Sequence[NewCapture],
) -> dict[str, Any]:
    landed = arrival.landed
    captured = {one.key: one.capture_id for one in new}
    held = current.get(result.week_key)
    skipped = held.capture_id if held and result.action is Action.SKIPPED else None
    return {
        "delivery_id": uuid.uuid4().hex,
        "landing_id": landed.landing_id,
        "domain": raw.domain,
        "week_ending": result.week_key.week_ending,
        "tier": result.week_key.tier_text,
        "source_kind": landed.source_kind,
        "source_name": landed.source_name,
        "week_source": str(landed.week_source),
        "headers_json": json.dumps(dict(landed.headers), sort_keys=True),
        "fetched_at": landed.fetched_at,
        "line_count": arrival.line_count,
        "action": result.action.value,
        "reason": result.reason,
        "capture_id": captured.get(result.week_key, skipped),
    }
