"""Fetching, landing and parsing the deliveries of many partitions, with the gates that a raw capture must pass.

What belongs here: the order of those steps and the checks of a delivery as a whole. What does not: reading bytes
(`sources`), row rules (`feeds`, at normalisation), revision policies (`capture`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import structlog

from market_spine.assets import record
from market_spine.assets.capture import Arrival, Evidence, Options, RawReport, RawTable, capture
from market_spine.assets.expected import schedule_of
from market_spine.assets.spine import Spine
from market_spine.checks import gates
from market_spine.checks.findings import blocked_keys
from market_spine.checks.schema import check_schema
from market_spine.domain.captures import RevisionPolicy
from market_spine.domain.contracts import Feed, Severity, Shape
from market_spine.domain.errors import ContentError, SourceError
from market_spine.domain.keys import WeekKey
from market_spine.domain.work import ErrorClass
from market_spine.governance.expectations import absence
from market_spine.sources import lines, parse
from market_spine.sources.delivery import Delivery, Empty, EmptyKind, WeekSource
from market_spine.sources.landing import Landed
from market_spine.store.commit import Batch, commit
from market_spine.store.engine import clear
from market_spine.store.ledger import Run
from market_spine.store.manifest import Question
from market_spine.store.records import refuse_mixture
from market_spine.store.rejects import reject_rows

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# Bytes parsed per statement: 128 MB of lines (1.5M rows) keep the process below 2 GB.
CHUNK_BYTES = 128 << 20
# A capturable delivery has at most 5 % rejects, 7k of a real week. A blocked one may have millions: beyond this many
# they are counted in the finding and stay in landing, so that a 200 MB file of garbage does not fill the memory.
MAX_REJECTS = 100_000
LANDERS = 2  # deliveries that are landed at once
ABSENT = (EmptyKind.NOT_DUE, EmptyKind.NO_ROWS)  # what a source may answer until the deadline; the others are faults
MAX_TEXT = 1_000  # characters of a reject's line that are recorded; the longest real line has about 200


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery that has landed and whose header is understood."""

    delivery: Delivery
    landed: Landed
    shape: Shape
    header: tuple[str, ...]

    @property
    def form(self) -> tuple[str, tuple[str, ...], str]:
        """Parcels of one form are parsed by one statement."""
        return (self.shape.name, self.header, self.delivery.parts[0].media_type)

    @property
    def size(self) -> int:
        return sum(part.bytes for part in self.landed.parts)


def ingest(spine: Spine, feed: Feed, keys: Sequence[WeekKey], run: Run, options: Options) -> RawReport:
    """Make raw captures of ``keys`` from the source. Whatever arrives is landed, whether or not it is usable."""
    spine.store.ensure()
    with spine.store.control.read() as connection:  # before anything is fetched; each commit looks again
        refuse_mixture(connection, feed.domain, spine.source.kind, spine.source.series, spine.store.home.root)
    raw = RawTable(feed.domain, feed.sql_name("raw"), feed.raw, "raw")
    with record.of_failure(spine, run, raw.subject, keys) as unread:
        report = _ingest(spine, feed, raw, keys, run, options)
        unread |= {key for key, one in report.classes.items() if one is ErrorClass.UNAVAILABLE}
        return report


def _ingest(spine: Spine, feed: Feed, raw: RawTable, keys: Sequence[WeekKey], run: Run, options: Options) -> RawReport:
    report = RawReport()
    wanted = _to_fetch(spine, raw, keys, options, report)
    done = len(keys) - len(wanted)
    spine.progress(raw.table_name, done, len(keys))
    with spine.engine() as engine:
        for chunk in _chunks(_parcels(spine, feed, raw, wanted, run, report)):
            clear(engine)
            _ingest_chunk(spine, engine, feed, raw, chunk, run, options, report)
            done += len(chunk)
            spine.progress(raw.table_name, done, len(keys))
    return report


def _to_fetch(
    spine: Spine, raw: RawTable, keys: Sequence[WeekKey], options: Options, report: RawReport
) -> list[WeekKey]:
    """Under SKIP nothing is fetched for a week that is there."""
    if options.policy is not RevisionPolicy.SKIP:
        return list(keys)
    held = {
        one.key: one for one in spine.store.select(Question((raw.table_name,), weeks=[k.week_ending for k in keys]))
    }
    report.unchanged += [held[key] for key in keys if key in held]
    return [key for key in keys if key not in held]


def _parcels(
    spine: Spine, feed: Feed, raw: RawTable, keys: Sequence[WeekKey], run: Run, report: RawReport
) -> Iterator[Parcel]:
    seen: dict[str, WeekKey] = {}
    for landed in _land(spine, feed, keys):
        if isinstance(landed, Empty):
            _record_nothing(spine, feed, raw, landed, run, report)
            continue
        try:
            _refuse_repetition(seen, landed)
            # From landing, not from the source: a file may change between the two readings.
            parcel = parcel_of(feed, spine.landing.read(landed, is_sound=True), landed)
        except ContentError as error:
            _record_unreadable(spine, raw, Arrival(landed, 0), error, run, report)
            continue
        yield parcel


def _land(spine: Spine, feed: Feed, keys: Sequence[WeekKey]) -> Iterator[Landed | Empty]:
    """Fetched one after the other, in order; landed two at a time: a core each for hashing and compressing.

    Where the source fails, what it gave before is landed and handed on first.
    """
    waiting: deque[Future[Landed | Empty]] = deque()
    landing = spine.landing

    def store(answer: Delivery | Empty) -> Landed | Empty:
        return answer if isinstance(answer, Empty) else landing.store(answer, feed.domain)

    with ThreadPoolExecutor(LANDERS) as pool:
        try:
            for key in keys:
                waiting.append(pool.submit(store, spine.source.fetch(feed, key, spine.clock())))
                if len(waiting) == LANDERS:
                    yield _landed(waiting)
        except SourceError:
            while waiting:
                yield _landed(waiting)
            raise
        while waiting:
            yield _landed(waiting)


def _landed(waiting: deque[Future[Landed | Empty]]) -> Landed | Empty:
    answer = waiting.popleft().result()
    if isinstance(answer, Landed):  # told here: the threads that land do not know the run
        size = sum(part.bytes for part in answer.parts)
        told = {"partition": str(answer.key), "landing_id": answer.landing_id, "source": answer.source_name}
        structlog.get_logger().debug("landed", bytes=size, **told)
    return answer


def _refuse_repetition(seen: dict[str, WeekKey], landed: Landed) -> None:
    """One run must not store the same bytes as several partitions, as a range over a single file would."""
    first = seen.setdefault(landed.landing_id, landed.key)
    if first != landed.key:
        raise ContentError(
            f"{landed.source_name} holds the same bytes as were delivered for {first}",
            "name one week and tier for one file: --week-ending and --tier",
        )


def parcel_of(feed: Feed, delivery: Delivery, landed: Landed) -> Parcel:
    """``delivery`` with its header understood; ContentError where it is not a file of ``feed``."""
    headers = [lines.header(part) for part in delivery.parts]
    if delivery.parts[0].media_type == lines.JSON:
        header = tuple(dict.fromkeys(name for names in headers for name in names))
    elif len(set(headers)) > 1:
        raise ContentError(f"the parts of {delivery.source_name} have different headers", "fetch the week again")
    else:
        header = headers[0]
    return Parcel(delivery, landed, parse.detect_shape(feed, header), header)


def _record_nothing(spine: Spine, feed: Feed, raw: RawTable, answer: Empty, run: Run, report: RawReport) -> None:
    severity, message, details = absence(schedule_of(feed), answer.key, run.now)
    is_expected = answer.kind in ABSENT and severity is Severity.INFO
    finding = gates.nothing_delivered(answer.key, str(answer.kind), answer.reason, is_expected)
    if answer.kind in ABSENT:  # in the words of whoever looks at the clock alone, so that it is one thing
        finding = replace(finding, message=message, details=details)
        record.findings(spine, run, raw.subject, [finding], {})
    else:  # a fault of the source's, whether or not the week is there: an answer, and not the week
        told = f"{answer.kind}: {answer.reason}"
        record.unusable_answer(spine, run, raw.subject, answer.key, told, answer.remedy)
    quality = [finding.quality_row(raw.domain, raw.table_name, None)]
    commit(spine.store.control, spine.store.home, Batch(raw.table_name, run, quality=quality))
    report.findings.append(finding)
    report.missing[answer.key] = f"{answer.kind}: {answer.reason}"
    report.classes[answer.key] = ErrorClass.NOT_YET if answer.kind in ABSENT else ErrorClass.UNAVAILABLE
    report.remedies[answer.key] = answer.remedy


def _record_unreadable(
    spine: Spine, raw: RawTable, arrival: Arrival, error: ContentError, run: Run, report: RawReport
) -> None:
    """The bytes have landed and the delivery is on record as blocked; no row of it could be read."""
    key = arrival.landed.key
    report.blocked[key] = error.cause
    report.remedies[key] = error.remedy
    with spine.engine() as engine:
        columns = ", ".join(f"CAST(NULL AS {column.type}) AS {column.name}" for column in raw.table.columns)
        engine.execute(f"CREATE VIEW {raw.relation} AS SELECT {columns} WHERE false")
        finding = gates.unreadable(key, error.cause)
        capture(spine, engine, raw, {key: arrival}, run, Options(), Evidence([finding]), report)


def _chunks(parcels: Iterator[Parcel]) -> Iterator[list[Parcel]]:
    """Parcels that one statement can parse. Where the source fails, what it gave before is still captured."""
    chunk: list[Parcel] = []
    failure: SourceError | None = None
    for parcel in _until_failure(parcels):
        if isinstance(parcel, SourceError):
            failure = parcel
            break
        full = sum(held.size for held in chunk) + parcel.size > CHUNK_BYTES
        if chunk and (full or parcel.form != chunk[0].form):
            yield chunk
            chunk = []
        chunk.append(parcel)
    if chunk:
        yield chunk
    if failure:
        raise failure


def _until_failure(parcels: Iterator[Parcel]) -> Iterator[Parcel | SourceError]:
    try:
        yield from parcels
    except SourceError as error:
        yield error


def _ingest_chunk(
    spine: Spine,
    engine: DuckDBPyConnection,
    feed: Feed,
    raw: RawTable,
    chunk: list[Parcel],
    run: Run,
    options: Options,
    report: RawReport,
) -> None:
    counted = parse_chunk(engine, feed, chunk)
    keys = [parcel.delivery.key for parcel in chunk]
    tallies = _tallies(engine, chunk, counted)
    minimum = feed.min_records if options.min_records is None else options.min_records
    findings = check_schema(feed.raw, engine, "raw", keys)
    for parcel in chunk:
        unknown = parse.unknown_columns(parcel.shape, parcel.header)
        findings += gates.judge_delivery(tallies[parcel.delivery.key], minimum, feed.max_error_rate, unknown)
    report.block(blocked_keys(findings), raw.domain)
    arrivals = {parcel.delivery.key: Arrival(parcel.landed, tallies[parcel.delivery.key].lines) for parcel in chunk}
    rejects = _rejects(engine, raw, chunk)
    capture(spine, engine, raw, arrivals, run, options, Evidence(findings, rejects), report)


def parse_chunk(engine: DuckDBPyConnection, feed: Feed, chunk: list[Parcel]) -> dict[int, int]:
    """Every line of the chunk into the table ``parsed``, by one statement, its good rows as ``raw``; lines read."""
    parts = [(part_no, parcel) for parcel in chunk for part_no, _ in enumerate(parcel.delivery.parts, start=1)]
    engine.execute(
        "CREATE TABLE parts (nr INTEGER, part_no INTEGER, week_ending DATE, tier VARCHAR, week_is_explicit BOOLEAN)"
    )
    for number, (part_no, parcel) in enumerate(parts):
        key, explicit = parcel.delivery.key, parcel.delivery.week_source is WeekSource.CALLER
        engine.execute(
            "INSERT INTO parts VALUES (?, ?, ?, ?, ?)", [number, part_no, key.week_ending, key.tier_text, explicit]
        )
    counted = _register_lines(engine, chunk)
    engine.execute("""
        CREATE VIEW lines AS
        SELECT p.part_no, l.line_no, l.raw, p.week_ending, p.tier, p.week_is_explicit
        FROM arrow_lines l JOIN parts p ON p.nr = l.part_no
    """)
    first = chunk[0]
    sql = parse.parse_sql(first.shape, first.header, first.delivery.parts[0].media_type, feed)
    engine.execute(f"CREATE TABLE parsed AS {sql}")
    engine.execute("DROP VIEW lines")
    engine.unregister("arrow_lines")
    columns = ", ".join(column.name for column in feed.raw.columns)
    engine.execute(f"CREATE VIEW raw AS SELECT {columns} FROM parsed WHERE reason_code IS NULL")
    return counted


def _register_lines(engine: DuckDBPyConnection, chunk: list[Parcel]) -> dict[int, int]:
    """Every line as ``arrow_lines``; lines per parcel, counted in one thread (several may cut the parts of one)."""
    parts = [(parcel_no, part) for parcel_no, parcel in enumerate(chunk) for part in parcel.delivery.parts]
    counted = dict.fromkeys(range(len(chunk)), 0)

    def counting(batches: Iterable[Iterable[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
        for (parcel_no, _), of_part in zip(parts, batches, strict=True):
            for batch in of_part:
                counted[parcel_no] += batch.num_rows
                yield batch

    cut = [lines.batches(number, part) for number, (_, part) in enumerate(parts)]
    with ThreadPoolExecutor(LANDERS) as pool:
        if sum(parcel.size for parcel in chunk) <= CHUNK_BYTES:
            # A table is parsed by every thread: 26 weeks on 2 cores in 3.9 s, a stream took 6.2 s.
            relation = pa.Table.from_batches(counting(pool.map(list, cut)), lines.SCHEMA)
        else:  # would not fit beside its parsed rows
            relation = pa.RecordBatchReader.from_batches(lines.SCHEMA, counting(cut))
    engine.register("arrow_lines", relation)
    return counted


def _tallies(engine: DuckDBPyConnection, chunk: list[Parcel], counted: dict[int, int]) -> dict[WeekKey, gates.Tally]:
    found = {
        WeekKey.from_string(f"{tier}:{week}"): (rows, rejects, first_update)
        for week, tier, rows, rejects, first_update in engine.execute("""
            SELECT week_ending, tier, count(*) FILTER (WHERE reason_code IS NULL),
                   count(reason_code), min(source_last_update_date)
            FROM parsed GROUP BY ALL
        """).fetchall()
    }
    return {
        parcel.delivery.key: gates.Tally(
            parcel.delivery.key, counted[number], *found.get(parcel.delivery.key, (0, 0, None))
        )
        for number, parcel in enumerate(chunk)
    }


def _rejects(engine: DuckDBPyConnection, raw: RawTable, chunk: list[Parcel]) -> list[dict[str, Any]]:
    landing = {parcel.delivery.key: parcel.landed.landing_id for parcel in chunk}
    found = engine.execute(
        f"""
        SELECT week_ending, tier, part_no, line_no, reason_code, coalesce(detail, '') AS detail,
               left(coalesce(raw, ''), {MAX_TEXT}) AS raw_text, 'ROW' AS scope
        FROM parsed WHERE reason_code IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY week_ending, tier ORDER BY part_no, line_no) <= ?
        ORDER BY week_ending, tier, part_no, line_no
    """,
        [MAX_REJECTS],
    ).fetchall()
    return reject_rows(found, landing, raw.domain, raw.table_name, raw.table.stage)
