"""Running one calculation over many partitions: plan, one SQL statement a chunk, judge, write, commit.

What belongs here: the order of those steps. What does not: any of them (`store`, `checks`, `domain`), and Dagster's
events (`calculations`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from market_spine.assets import record
from market_spine.assets.expected import settled
from market_spine.assets.record import Subject
from market_spine.assets.spine import Spine
from market_spine.checks.findings import Finding, blocked_keys, remedy
from market_spine.checks.judge import judge
from market_spine.domain.contracts import Calculation, Feed, Table
from market_spine.domain.errors import CalculationError
from market_spine.domain.keys import WeekKey
from market_spine.domain.work import ErrorClass
from market_spine.store.commit import Batch, NewCapture, commit
from market_spine.store.engine import clear
from market_spine.store.files import EMPTY_CONTENT, Content, canonical_row, contents, relative_path, write_files
from market_spine.store.ledger import Run
from market_spine.store.manifest import Capture
from market_spine.store.plan import Input, Plan, Target, plan
from market_spine.store.rejects import FOUND, reject_rows
from market_spine.store.relations import create_dated_view, create_view

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Input rows per statement. 1.5M rows (8 weeks of all tiers) keep the process below 2 GB; all 26 at once took 2.9 GB.
CHUNK_ROWS = 1_600_000


@dataclass(frozen=True, slots=True)
class Step:
    """One calculation of one feed: names as stored, its inputs, and for normalisation the SQL of its rejects."""

    feed: Feed
    table_name: str
    calculation: Calculation
    inputs: Mapping[str, tuple[Input, Table]]
    rejects_sql: str = ""

    @property
    def table(self) -> Table:
        return self.calculation.table

    @property
    def domain(self) -> str:
        return self.feed.domain

    @property
    def subject(self) -> Subject:
        """What findings of this step are about."""
        return Subject(self.domain, self.table_name, self.table.stage)

    @property
    def known_columns(self) -> dict[str, tuple[str, ...]]:
        """Per input the columns that its view has (`show_inputs`)."""
        dated = ("captured_at",) if self.rejects_sql else ()
        return {name: (*(one.name for one in table.columns), *dated) for name, (_, table) in self.inputs.items()}


@dataclass
class Report:
    """What a step did, per partition.

    ``missing`` and ``blocked`` say why there is no new capture, ``remedies`` what to do about it where that is known,
    ``classes`` what kind of reason it is.
    """

    written: list[Capture] = field(default_factory=list)
    unchanged: list[Capture] = field(default_factory=list)
    missing: dict[WeekKey, str] = field(default_factory=dict)
    blocked: dict[WeekKey, str] = field(default_factory=dict)
    remedies: dict[WeekKey, str] = field(default_factory=dict)
    classes: dict[WeekKey, ErrorClass] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    rejected: int = 0

    @property
    def without_capture(self) -> dict[WeekKey, str]:
        return self.missing | self.blocked

    @property
    def error_classes(self) -> dict[WeekKey, ErrorClass]:
        """Of what is without capture: blocked is what was delivered, and a missing input may still come."""
        told = dict.fromkeys(self.missing, ErrorClass.TRANSIENT) | dict.fromkeys(self.blocked, ErrorClass.SCHEMA)
        return told | self.classes

    def block(self, blocked: Mapping[WeekKey, Sequence[Finding]], domain: str) -> None:
        for key, findings in blocked.items():
            self.blocked[key] = "; ".join(f"{one.check}: {one.actual}, expected {one.expected}" for one in findings)
            self.remedies[key] = remedy(findings, domain)


def compute(spine: Spine, step: Step, keys: Sequence[WeekKey], run: Run, force: bool = False) -> Report:
    """Make the captures of ``keys`` that are not up to date. What is blocked or lacks input is left as it was."""
    spine.store.ensure()
    with record.of_failure(spine, run, step.subject, keys):
        return _compute(spine, step, keys, run, force)


def _compute(spine: Spine, step: Step, keys: Sequence[WeekKey], run: Run, force: bool) -> Report:
    with spine.store.control.read() as connection:
        todo = plan(
            connection, step.calculation, step.table_name, [entry for entry, _ in step.inputs.values()], keys, force
        )
    report = Report(unchanged=list(todo.unchanged), missing=dict(todo.missing))
    report.remedies |= {key: _load_first(key) for key in todo.missing}
    done = len(todo.unchanged) + len(todo.missing)
    spine.progress(step.table_name, done, len(keys))
    if not todo.targets:
        return report
    with spine.engine() as engine:
        for chunk in _chunks(todo):
            clear(engine)
            _compute_chunk(spine, engine, step, chunk, run, report)
            done += len(chunk)
            spine.progress(step.table_name, done, len(keys))
    return report


def _load_first(key: WeekKey) -> str:
    tier = f" --tier {key.tier}" if key.tier else ""
    load = f"spine backfill --from {key.week_ending} --to {key.week_ending}{tier}"
    return f"load the week first, from the --source of the others: {load}"


def _chunks(todo: Plan) -> Iterator[list[Target]]:
    """Targets whose inputs together have at most CHUNK_ROWS rows; what several windows read counts once."""
    chunk: list[Target] = []
    read: set[str] = set()
    rows = 0
    for target in todo.targets:
        size = sum(one.row_count for one in target.inputs if one.capture_id not in read)
        if chunk and rows + size > CHUNK_ROWS:
            yield chunk
            chunk, read, rows = [], set(), 0
            size = sum(one.row_count for one in target.inputs)
        chunk.append(target)
        read.update(target.input_ids)
        rows += size
    if chunk:
        yield chunk


def _compute_chunk(
    spine: Spine, engine: DuckDBPyConnection, step: Step, chunk: list[Target], run: Run, report: Report
) -> None:
    keys = [target.key for target in chunk]
    name = step.calculation.name
    show_inputs(spine, engine, step, chunk)
    engine.execute(f"CREATE TABLE {name} AS {step.calculation.sql}")
    check_columns(engine, step)
    with ThreadPoolExecutor(1) as aside:  # hashing fills the cores that pandera and the files' ends leave idle
        hashing = aside.submit(_contents, engine, step.table)
        rejects = _rejects(engine, step, chunk)
        found = judge(engine, step.table, step.calculation.invariants, keys)
        findings = settled(spine.store, step.feed, found, chunk, run.now)
        blocked = blocked_keys(findings)
        good = [target for target in chunk if target.key not in blocked]
        # Before anything is written, so that what is wrong is on record even where writing fails.
        record.findings(spine, run, step.subject, findings, _captures(step, chunk, blocked), rejects)
        new = _write(spine, engine, step, good, hashing)
    report.block(blocked, step.domain)
    report.findings += findings
    report.rejected += len(rejects)
    ids = {capture.key: capture.capture_id for capture in new}
    quality = [finding.quality_row(step.domain, step.table_name, ids.get(finding.key)) for finding in findings]
    committed = commit(
        spine.store.control, spine.store.home, Batch(step.table_name, run, new, rejects=rejects, quality=quality)
    )
    for twin in committed.already_there:
        (spine.store.home.captures / twin.file_path).unlink()
    report.written += committed.captures


def _captures(step: Step, chunk: list[Target], blocked: Mapping[WeekKey, Any]) -> dict[WeekKey, str]:
    """What the findings of each partition are about: its capture to be, or what a blocked one was made from."""
    return {
        one.key: one.input_ids[0] if one.key in blocked else one.capture_id(step.domain, step.calculation)
        for one in chunk
    }


def show_inputs(spine: Spine, engine: DuckDBPyConnection, step: Step, chunk: list[Target]) -> None:
    """The inputs of a chunk under their short names, and the table ``wanted`` of its partitions."""
    chosen: dict[str, dict[str, Capture]] = {entry.sql_name: {} for entry, _ in step.inputs.values()}
    for target in chunk:
        for capture in target.inputs:
            chosen[capture.table_name][capture.capture_id] = capture
    show = create_dated_view if step.rejects_sql else create_view
    for name, (entry, table) in step.inputs.items():
        show(engine, name, table, list(chosen[entry.sql_name].values()), spine.store.home.captures)
    engine.execute("CREATE TABLE wanted (week_ending DATE, tier VARCHAR)")
    rows = ", ".join(f"(DATE '{target.key.week_ending}', '{target.key.tier_text}')" for target in chunk)
    engine.execute(f"INSERT INTO wanted VALUES {rows}")


def check_columns(engine: DuckDBPyConnection, step: Step) -> None:
    """The SQL gives exactly the declared columns and types: what is stored is what is documented."""
    found = [(row[0], row[1]) for row in engine.execute(f"DESCRIBE {step.table.name}").fetchall()]
    alias = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
    declared = [(column.name, alias.get(column.type, column.type)) for column in step.table.columns]
    if found != declared:
        raise CalculationError(
            f"{step.table_name} gives columns {found}, its contract says {declared}",
            f"make the SQL and the columns of {step.table.name} agree",
        )


def _rejects(engine: DuckDBPyConnection, step: Step, chunk: list[Target]) -> list[dict[str, Any]]:
    if not step.rejects_sql:
        return []
    engine.execute(f"CREATE TABLE rejects AS {step.rejects_sql}")
    # A blocked partition gets no capture; its rejects still name the one that it would have been.
    ids = {target.key: target.capture_id(step.domain, step.calculation) for target in chunk}
    found = engine.execute(f"SELECT {', '.join(FOUND)} FROM rejects ORDER BY ALL").fetchall()
    return reject_rows(found, ids, step.domain, step.table_name, step.table.stage)


def _contents(engine: DuckDBPyConnection, table: Table) -> dict[WeekKey, Content]:
    with engine.cursor() as cursor:
        return contents(cursor, table.name, canonical_row(table), table.by_tier)


def _write(
    spine: Spine,
    engine: DuckDBPyConnection,
    step: Step,
    targets: list[Target],
    hashing: Future[dict[WeekKey, Content]],
) -> list[NewCapture]:
    calculation, table = step.calculation, step.table
    places = {
        target.key: (
            relative_path(step.table_name, target.key, target.captured_at),
            target.capture_id(step.domain, calculation),
        )
        for target in targets
    }
    written = write_files(engine, table.name, table, spine.store.home.captures, places)
    found = hashing.result()
    return [
        NewCapture(
            capture_id=places[target.key][1],
            domain=step.domain,
            table_name=step.table_name,
            stage=table.stage,
            key=target.key,
            row_count=found.get(target.key, EMPTY_CONTENT).row_count,
            content_hash=found.get(target.key, EMPTY_CONTENT).content_hash,
            file_path=places[target.key][0],
            file_sha256=written[target.key].sha256,
            file_bytes=written[target.key].size,
            captured_at=target.captured_at,
            calc_version=calculation.version,
            inputs=target.input_ids,
            inputs_hash=target.inputs_hash(calculation.version),
        )
        for target in targets
    ]
