"""The published DuckDB file: control tables copied, every relation as a view or macro. Never the truth.

It is built aside and swapped in by rename, so whoever has the old one open keeps reading it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from market_spine.domain.captures import View
from market_spine.domain.contracts import Table
from market_spine.domain.errors import unwritable
from market_spine.domain.sqltext import identifier, literal
from market_spine.store import turns
from market_spine.store.columns import shown
from market_spine.store.consumption import SUPERSEDED
from market_spine.store.events import CHAIN
from market_spine.store.files import drop, fsync_folder
from market_spine.store.manifest import Capture, Question, captures
from market_spine.store.relations import scan_with_provenance
from market_spine.store.schema import TABLES
from market_spine.store.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# As on the command line: a day means its end in UTC, not its beginning in the reader's own time zone.
AS_OF = """CAST(CAST(ts AS VARCHAR) || CASE length(CAST(ts AS VARCHAR)) WHEN 10 THEN ' 23:59:59.999999+00' ELSE '' END
    AS TIMESTAMPTZ)"""


@dataclass(frozen=True, slots=True)
class Version:
    """A macro that every captured table has: what it takes, which captures it shows, and that in a sentence."""

    signature: str
    view: View
    description: str


VERSIONS = {  # by the suffix of the macro's name
    "_asof": Version("(ts)", View.AS_OF, "As known at a moment (ts); a day means its end in UTC."),
    "_first_release": Version("()", View.FIRST_RELEASE, "The first capture of each partition."),
    "_revisions": Version("()", View.ALL_REVISIONS, "Every capture ever made."),
}


@dataclass(frozen=True, slots=True)
class Extra:
    """A view or table macro beyond the captured tables: its CREATE statement, and what it holds, in a sentence.

    ``is_alias`` of what is another name of a table and nothing else.
    """

    name: str
    sql: str
    description: str = ""
    is_alias: bool = False

    @property
    def is_macro(self) -> bool:
        """Whether it takes arguments."""
        return " MACRO " in self.sql

    @property
    def parameters(self) -> list[str]:
        """The names of its arguments."""
        signature = self.sql.partition(" AS TABLE")[0].partition("(")[2] if self.is_macro else ""
        return [one.strip(" )") for one in signature.split(",") if one.strip(" )")]

    @property
    def comment(self) -> str:
        """The SQL that tells the description to whoever opens the file."""
        kind = "MACRO TABLE" if self.is_macro else "VIEW"
        return f"COMMENT ON {kind} {identifier(self.name)} IS {literal(self.description)}"


def copy_control_tables(connection: sa.Connection, engine: DuckDBPyConnection) -> None:
    """All ``core_*`` tables into ``engine``."""
    for table in TABLES:
        put_control_table(engine, table, connection.execute(sa.select(*shown(table))).mappings().all())


def put_control_table(engine: DuckDBPyConnection, table: sa.Table, rows: Sequence[Mapping[Any, Any]]) -> None:
    """A control table of ``rows`` into ``engine``, with the types of its columns; without those that are secret."""
    import pyarrow as pa

    columns = shown(table)
    kinds = {"integer": pa.int64(), "big_integer": pa.int64(), "date": pa.date32(), "float": pa.float64()}
    fields = [
        pa.field(column.name, kinds.get(column.type.__visit_name__, pa.string()))
        if column.type.__visit_name__ != "type_decorator"
        else pa.field(column.name, pa.timestamp("us", "UTC"))
        for column in columns
    ]
    arrays = [pa.array([row[field.name] for row in rows], field.type) for field in fields]
    engine.register("control_rows", pa.Table.from_arrays(arrays, schema=pa.schema(fields)))
    engine.execute(f"CREATE OR REPLACE TABLE {identifier(table.name)} AS SELECT * FROM control_rows")
    engine.unregister("control_rows")


STAGE_COMPLETIONS = Extra(
    "core_stage_completions",
    """CREATE OR REPLACE VIEW core_stage_completions AS
    SELECT domain, week_ending, tier, stage, count(*) AS tables_complete, max(computed_at) AS completed_at
    FROM core_manifest WHERE is_current = 1 AND tier <> 'ALL' GROUP BY ALL""",
    "Stages that are complete, per domain, week and tier: how many tables, and since when.",
)

CERTIFIED_CAPTURES = Extra(
    "core_certified_captures",
    """CREATE OR REPLACE VIEW core_certified_captures AS
    SELECT r.domain, r.ready_for, r.week_ending, r.certified_at, r.certificate_id,
           unnest(json_extract_string(c.document, '$.evidence.captures[*].capture_id')) AS capture_id
    FROM core_data_readiness r JOIN core_certificates c USING (certificate_id)
         JOIN (SELECT certificate_id, max_by(event, seq) AS last FROM core_certificate_log GROUP BY ALL) l
              USING (certificate_id)
    WHERE r.is_ready = 1 AND l.last = 'issued'""",
    "The captures that each certificate in force is about: its last link issued it, and its week is ready.",
)

EVENT_CHAIN = Extra(
    "core_event_chain",
    f"CREATE OR REPLACE MACRO core_event_chain(event_id) AS TABLE {CHAIN.format(event_id='event_id')}",
    "Macro (event_id): an event (depth 0), the one that led to it, and so on back to the delivery.",
)
SUPERSEDED_USES = Extra(
    "core_superseded_uses",
    f"CREATE OR REPLACE VIEW core_superseded_uses AS {SUPERSEDED}",
    "Who used a capture that is not the newest any more: one row per use and capture, when it was superseded"
    " (`superseded_at`), and whether it still was the newest when it was used (`was_latest`).",
)
CORE_VIEWS = (STAGE_COMPLETIONS, CERTIFIED_CAPTURES, EVENT_CHAIN, SUPERSEDED_USES)


def create_relations(
    engine: DuckDBPyConnection, tables: Mapping[str, Table], chosen: Sequence[Capture], root: Path
) -> None:
    """Per table: its latest rows under its own name, and macros ``_asof(ts)``, ``_first_release()``, ``_revisions()``.

    Needs the control tables in ``engine``. Versions are chosen per capture by the manifest, as everywhere.
    """
    by_table: dict[str, list[Capture]] = {name: [] for name in tables}
    for capture in chosen:
        by_table.setdefault(capture.table_name, []).append(capture)
    for name, table in tables.items():
        held = by_table[name]
        every = scan_with_provenance(held, table, root, "core_manifest")
        latest = scan_with_provenance([one for one in held if one.is_current], table, root, "core_manifest")
        engine.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS {latest}")
        engine.execute(f"COMMENT ON VIEW {identifier(name)} IS {literal(table.description)}")
        of = f"FROM core_manifest WHERE table_name = {literal(name)} AND status = 'complete'"
        partition = "PARTITION BY week_ending, tier"
        newest = (
            f"QUALIFY row_number() OVER ({partition} ORDER BY captured_at DESC, is_current DESC, revision DESC) = 1"
        )
        first = f"QUALIFY row_number() OVER ({partition} ORDER BY revision) = 1"
        where = {
            View.AS_OF: f"{of} AND captured_at <= {AS_OF} {newest}",
            View.FIRST_RELEASE: f"{of} {first}",
            View.ALL_REVISIONS: of,
        }
        for suffix, version in VERSIONS.items():
            macro = f"{name}{suffix}"
            chosen_rows = f"{every} WHERE m.capture_id IN (SELECT capture_id {where[version.view]})"
            engine.execute(f"CREATE OR REPLACE MACRO {macro}{version.signature} AS TABLE {chosen_rows}")
            engine.execute(f"COMMENT ON MACRO TABLE {macro} IS {literal(version.description)}")


def fill(
    store: Store, engine: DuckDBPyConnection, tables: Mapping[str, Table], extras: Sequence[Extra]
) -> list[Capture]:
    """Control tables, relations, and ``extras`` into ``engine``, from one snapshot of the control database; every
    capture that can be read there."""
    from market_spine.store.engine import in_words

    with store.control.read() as connection:
        copy_control_tables(connection, engine)
        chosen = captures(connection, Question(tuple(tables), View.ALL_REVISIONS))
    with in_words():  # DuckDB looks into the files now
        create_relations(engine, tables, chosen, store.home.captures)
    for extra in (*CORE_VIEWS, *extras):
        engine.execute(extra.sql)
        engine.execute(extra.comment)
    return chosen


def publish(store: Store, tables: Mapping[str, Table], extras: Sequence[Extra]) -> Path:
    """Build the published file aside and swap it in; its path."""
    import duckdb

    target = store.home.published
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    with turns.turn(target.parent, f"publishing {target}") as waited:  # so that the last to swap has seen the most
        turns.tell("publish_lock_waited", waited, file=str(target))
        try:
            _build(store, aside, tables, extras)
            aside.rename(target)
        except (OSError, duckdb.IOException, duckdb.TransactionException) as error:
            raise unwritable(target, target.parent, error) from error
        finally:
            drop(aside)
            drop(aside.with_name(f"{aside.name}.wal"))
        fsync_folder(target.parent)
    return target


def _build(store: Store, aside: Path, tables: Mapping[str, Table], extras: Sequence[Extra]) -> None:
    import duckdb

    from market_spine.store.engine import config

    engine = duckdb.connect(str(aside), config=config(store.threads, store.memory_limit))
    try:
        engine.begin()  # all is written at the end: a full disk is told from a damaged capture
        fill(store, engine, tables, extras)
        engine.commit()
    finally:
        engine.close()
    with aside.open("rb") as stream:
        os.fsync(stream.fileno())
