"""Rebuilding every capture and every control row from landing alone: its bytes, and the journal of what was made.

Each journal entry is replayed into a shadow store: raw captures are parsed again from their landed bytes, derived ones
calculated again from exactly the captures that they were made from, and every content hash is compared with the one on
record. Nothing of the live store is touched until all agree; then the files move over under new names and one
transaction exchanges the control rows.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_spine.assets.calendar import RAW as CALENDAR_RAW
from market_spine.assets.calendar import show_sessions
from market_spine.assets.capture import POSITION, merge_into_existing
from market_spine.assets.compute import Step, show_inputs
from market_spine.assets.ingest import parcel_of, parse_chunk
from market_spine.assets.spine import Spine
from market_spine.assets.tables import CALENDAR, steps_of
from market_spine.domain import reference
from market_spine.domain.captures import RevisionPolicy, View
from market_spine.domain.contracts import Feed, Table
from market_spine.domain.errors import MeanwhileError, StoreError
from market_spine.domain.keys import WeekKey
from market_spine.sources.landing import Landed
from market_spine.sources.lines import open_part
from market_spine.store import exchange, journal
from market_spine.store.differences import Difference
from market_spine.store.files import EMPTY_CONTENT, canonical_row, contents, relative_path, sha256_of, write_files
from market_spine.store.ledger import apply
from market_spine.store.manifest import Capture, Question, by_ids, captures, tables
from market_spine.store.plan import Target
from market_spine.store.schema import CAPTURE_INPUTS, DELIVERIES, JOURNALLED, MANIFEST
from market_spine.store.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


ROUNDS = 10  # of catching up with a platform that goes on


@dataclass
class RebuildReport:
    """How many captures were made again and compared, which were kept as they are, and what differs.

    Where the control database was made anew: what ailed it, and under which name it is kept, if there was one.
    """

    rebuilt: int = 0
    kept: int = 0
    differences: list[Difference] = field(default_factory=list)
    swapped: bool = False
    ailment: str = ""
    kept_database: Path | None = None


def rebuild(spine: Spine, feeds: Sequence[Feed], swap: bool = True) -> RebuildReport:
    """Replay the journal into a shadow store, compare, and (with ``swap``) exchange it for the live one."""
    home = spine.store.home
    shadow = replace(spine, store=Store.at(home.root / f".rebuild-{uuid.uuid4().hex[:8]}", threads=spine.store.threads))
    try:
        shadow.store.ensure()
        ailment = exchange.ailment(spine.store)
        replay = _Replay(spine, shadow, feeds)
        report = replay.run(None if ailment else exchange.last_batch(spine.store))
        if not ailment:
            report.differences += exchange.compare(spine.store, shadow.store)
        elif not swap:
            report.differences.append(Difference("control", spine.store.control.shown, ailment, "spine rebuild"))
        if swap and not report.differences:
            report.ailment = ailment
            _exchange(replay)
        return report
    finally:
        shadow.store.control.dispose()
        shutil.rmtree(shadow.store.home.root, ignore_errors=True)


def _exchange(replay: _Replay) -> None:
    """Put the shadow in the live store's place. What a running platform commits meanwhile is replayed first: each time
    less, since a replay of one transaction takes milliseconds."""
    live, report = replay.live.store, replay.report
    for patience in reversed(range(ROUNDS)):
        try:
            report.kept_database = exchange.swap(live, replay.shadow.store, bool(report.ailment))
        except MeanwhileError:
            if not patience:
                raise
            replay.run(None if report.ailment else exchange.last_batch(live))
            if report.differences:
                return
        else:
            report.swapped = True
            return


class _Replay:
    """One pass over the journal, which may be gone on with."""

    def __init__(self, live: Spine, shadow: Spine, feeds: Sequence[Feed]) -> None:
        self.live, self.shadow = live, shadow
        self.feeds = {feed.sql_name("raw"): feed for feed in feeds}
        self.steps: dict[str, Step] = {step.table_name: step for feed in feeds for step in steps_of(feed).values()}
        self.done = 0  # the last entry
        self.landed: dict[tuple[str, WeekKey, datetime], Landed] = {}
        self.held: dict[str, Capture] = {}
        self.report = RebuildReport()

    def run(self, last: int | None) -> RebuildReport:
        """Replay what is not done yet, up to the live store's transaction ``last``; None: all that is journalled."""
        self.landed = {(one.landing_id, one.key, one.fetched_at): one for one in self.live.landing.deliveries()}
        if last is not None:
            with self.live.store.control.read() as connection:
                question = Question(tuple(tables(connection)), View.ALL_REVISIONS)
                self.held = {one.capture_id: one for one in captures(connection, question)}
        for entry in _committed(journal.read(self.live.store.home.journal, JOURNALLED, self.done), last):
            rows = entry.rows[MANIFEST.name]
            for table_name in dict.fromkeys(row["table_name"] for row in rows):
                self._rebuild(entry, [row for row in rows if row["table_name"] == table_name])
            with self.shadow.store.control.write() as connection:
                apply(connection, entry)
            self.done = entry.seq
        return self.report

    def _rebuild(self, entry: journal.Entry, rows: list[dict[str, Any]]) -> None:
        table_name = rows[0]["table_name"]
        step = self.steps.get(table_name)
        with self.shadow.engine() as engine:
            if table_name == CALENDAR:
                self._calendar(engine, entry, rows)
            elif table_name in self.feeds:
                self._raw(engine, self.feeds[table_name], entry, rows)
            elif step is not None and all(row["calc_version"] == step.calculation.version for row in rows):
                self._derived(engine, step, entry, rows)
            else:
                self._keep(rows)

    def _calendar(self, engine: DuckDBPyConnection, entry: journal.Entry, rows: list[dict[str, Any]]) -> None:
        landed = {}
        for row in rows:
            delivery = self.live.landing.read(self._landed(entry, row))
            with open_part(delivery.parts[0]) as stream:
                landed[_key(row)] = stream.read()
        show_sessions(engine, landed)
        self._write(engine, CALENDAR_RAW.relation, reference.TRADING_CALENDAR, rows, leave_out=POSITION)

    def _raw(self, engine: DuckDBPyConnection, feed: Feed, entry: journal.Entry, rows: list[dict[str, Any]]) -> None:
        parcels = []
        for row in rows:
            landed = self._landed(entry, row)
            parcels.append(parcel_of(feed, self.live.landing.read(landed), landed))
        parse_chunk(engine, feed, parcels)
        relation = "raw"
        if any(row["policy"] == RevisionPolicy.MERGE.value for row in rows):
            held = [capture for captures in self._inputs(entry, rows).values() for capture in captures]
            relation = merge_into_existing(engine, feed.raw, "raw", held, self.shadow.store.home.captures)
        self._write(engine, relation, feed.raw, rows, leave_out=POSITION)

    def _derived(
        self, engine: DuckDBPyConnection, step: Step, entry: journal.Entry, rows: list[dict[str, Any]]
    ) -> None:
        inputs = self._inputs(entry, rows)
        rows = [row for row in rows if self._has_all(row, inputs[row["capture_id"]])]
        if not rows:
            return
        targets = [Target(_key(row), tuple(inputs[row["capture_id"]])) for row in rows]
        show_inputs(self.shadow, engine, step, targets)
        engine.execute(f"CREATE TABLE {step.table.name} AS {step.calculation.sql}")
        self._write(engine, step.table.name, step.table, rows)

    def _keep(self, rows: list[dict[str, Any]]) -> None:
        """Made by another version of the calculation: this code cannot make it again, so the file is what is left."""
        for row in rows:
            # A rebuild before this one may have given the file another name than the journal's.
            held = self.held.get(row["capture_id"])
            path, sha256 = (held.file_path, held.file_sha256) if held else (row["file_path"], row["file_sha256"])
            source = self.live.store.home.captures / path
            if not source.is_file() or sha256_of(source) != sha256:
                why = f"made by version {row['calc_version']}, which this code does not have, and its file is not whole"
                self._differs(row, why)
                continue
            target = self.shadow.store.home.captures / row["file_path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
            row |= {"file_sha256": sha256, "file_bytes": source.stat().st_size}
            self.report.kept += 1

    def _write(
        self,
        engine: DuckDBPyConnection,
        relation: str,
        table: Table,
        rows: list[dict[str, Any]],
        leave_out: frozenset[str] = frozenset(),
    ) -> None:
        """Files of ``rows`` in the shadow store, each compared with its recorded content; the rows name them."""
        found = contents(engine, relation, canonical_row(table, leave_out), table.by_tier)
        places = {
            _key(row): (relative_path(row["table_name"], _key(row), row["captured_at"]), row["capture_id"])
            for row in rows
        }
        written = write_files(engine, relation, table, self.shadow.store.home.captures, places)
        for row in rows:
            key = _key(row)
            content = found.get(key, EMPTY_CONTENT)
            if (content.content_hash, content.row_count) != (row["content_hash"], row["row_count"]):
                self._differs(
                    row,
                    f"content {content.content_hash} ({content.row_count} rows), the journal says "
                    f"{row['content_hash']} ({row['row_count']} rows)",
                )
            row |= {
                "file_path": places[key][0],
                "file_sha256": written[key].sha256,
                "file_bytes": written[key].size,
            }
            self.report.rebuilt += 1

    def _inputs(self, entry: journal.Entry, rows: list[dict[str, Any]]) -> dict[str, list[Capture]]:
        pairs = [(row["capture_id"], row["input_capture_id"]) for row in entry.rows[CAPTURE_INPUTS.name]]
        with self.shadow.store.control.read() as connection:
            captures = by_ids(connection, {source for _, source in pairs})
        ours = {row["capture_id"] for row in rows}
        found: dict[str, list[Capture]] = {capture_id: [] for capture_id in ours}
        for capture_id, source in pairs:
            if capture_id in ours:
                found[capture_id].append(captures[source])
        return found

    def _has_all(self, row: Mapping[str, Any], inputs: Sequence[Capture]) -> bool:
        """Whether every input was made again; what was not, since its version is gone, is on report already."""
        lost = [one for one in inputs if not (self.shadow.store.home.captures / one.file_path).is_file()]
        if lost:
            self._differs(row, f"made from {lost[0].capture_id}, which cannot be made again")
        return not lost

    def _landed(self, entry: journal.Entry, row: Mapping[str, Any]) -> Landed:
        """The very delivery that became this capture: the same bytes may have come again under another name."""
        arrived = next(one for one in entry.rows[DELIVERIES.name] if one["capture_id"] == row["capture_id"])
        landed = self.landed.get((row["landing_id"], _key(row), arrived["fetched_at"]))
        if landed is None:
            raise StoreError(
                f"{row['capture_id']}: its bytes {row['landing_id'][:12]}... are not in landing",
                f"restore {self.live.store.home.landing} from a backup",
            )
        return landed

    def _differs(self, row: Mapping[str, Any], detail: str) -> None:
        self.report.differences.append(
            Difference("rebuild", row["capture_id"], detail, "keep the live store; report the difference")
        )


def _committed(entries: Iterator[journal.Entry], last: int | None) -> Iterator[journal.Entry]:
    """All entries but a single one after ``last``, the live store's newest batch: a kill left it before its commit.

    More than one are the history of another database, which comparing is to show.
    """
    for entry in entries:
        if entry.seq - 1 != last:
            yield entry
        elif (following := next(entries, None)) is not None:
            yield from (entry, following)


def _key(row: Mapping[str, Any]) -> WeekKey:
    return WeekKey.from_string(f"{row['tier']}:{row['week_ending']}")
