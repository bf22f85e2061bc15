"""The named queries of the commands, over the control tables (`state.control_tables`).

What belongs here: SQL that only shows what is recorded. What does not: SQL that decides anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from market_spine.store.listings import SHORT_ID

if TYPE_CHECKING:
    from datetime import date

    from duckdb import DuckDBPyConnection

Rows = list[tuple[Any, ...]]

REJECTS = """
    SELECT week_ending, tier, table_name AS "table", part_no, line_no AS line, reason_code AS reason, detail, raw_text,
           scope, rejected_at, source_id
    FROM core_rejects WHERE {filters} ORDER BY week_ending, tier, table_name, part_no, line_no, rejected_at
"""
DELIVERIES = f"""
    SELECT week_ending, tier, action, source_kind AS source,
           CASE WHEN source_kind = 'file' THEN parse_filename(source_name) ELSE left(source_name, 40) END AS name,
           line_count AS lines, week_source AS "week found by", fetched_at,
           {SHORT_ID.format("capture_id")} AS capture, reason, source_name, landing_id
    FROM core_deliveries WHERE {{filters}} ORDER BY fetched_at DESC, week_ending DESC, tier
"""
QUALITY = """
    SELECT check_name AS "check", status, severity, actual, expected
    FROM core_quality WHERE capture_id = ?
    QUALIFY row_number() OVER (PARTITION BY check_name ORDER BY checked_at DESC) = 1  -- the same bytes may come again
    ORDER BY status, check_name
"""
DELIVERY_OF = """
    SELECT source_name, week_source, fetched_at, line_count, headers_json, landing_id
    FROM core_deliveries WHERE capture_id = ? ORDER BY fetched_at LIMIT 1
"""


def filters(**wanted: object) -> tuple[str, list[object]]:
    """``column = ?`` for everything that is not None; a sequence becomes IN. Values are bound, never written."""
    parts, values = ["true"], list[object]()
    for column, value in wanted.items():
        if value is None or value in ((), []):
            continue
        if isinstance(value, list | tuple):
            parts.append(f"{column} IN ({', '.join('?' * len(value))})")
            values += value
        else:
            parts.append(f"{column} = ?")
            values.append(value)
    return " AND ".join(parts), values


def listed(engine: DuckDBPyConnection, sql: str, **wanted: object) -> tuple[list[str], Rows]:
    """Columns and rows of a named query with its filters."""
    where, values = filters(**wanted)
    cursor = engine.execute(sql.format(filters=where), values)
    return [column[0] for column in cursor.description or ()], cursor.fetchall()


def capture_ids(engine: DuckDBPyConnection, text: str) -> list[str]:
    """The capture ids that ``text`` means: itself, or those whose short id begins with it."""
    short = SHORT_ID.format("capture_id")
    sql = f"SELECT capture_id FROM core_manifest WHERE capture_id = ? OR starts_with({short}, ?) ORDER BY 1"
    return [row[0] for row in engine.execute(sql, [text, text.lower()]).fetchall()]


def revisions(engine: DuckDBPyConnection, table: str, week: date, tier: str) -> list[str]:
    """The capture ids of one partition, the current one last; overwritten ones have left the history."""
    sql = """SELECT capture_id FROM core_manifest WHERE table_name = ? AND week_ending = ? AND tier = ?
             AND status = 'complete' ORDER BY is_current, revision"""
    return [row[0] for row in engine.execute(sql, [table, week, tier]).fetchall()]
