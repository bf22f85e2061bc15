"""SQL that people write: one reading statement, over an engine that is locked before it runs.

What belongs here: telling reading from writing, and taking the engine's ways out away. What does not: which relations
the engine has (`publish`).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import duckdb

from market_spine.domain.errors import QueryError
from market_spine.domain.sqltext import literal
from market_spine.store.engine import damage_remedy, is_damage
from market_spine.store.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

REMEDY = "write one SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE or EXPLAIN statement"
# EXPLAIN ANALYZE carries out what it explains, so that the explained statement is judged in its place. Nothing but
# white space may stand between the words: with comments or options, what is judged could differ from what is run.
_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?:ANALYZE\s+)?", re.IGNORECASE)


def require_reading(connection: DuckDBPyConnection, sql: str) -> str:
    """``sql`` if it is a single statement that reads; QueryError otherwise. DuckDB's own parser decides."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(f"this is not SQL that DuckDB reads: {_first_lines(error)}", REMEDY) from error
    if len(statements) != 1:
        raise QueryError(f"{len(statements)} statements in one query", REMEDY)
    kind = statements[0].type
    if kind == duckdb.StatementType.EXPLAIN:
        if explained(sql) == sql:
            raise QueryError(
                "EXPLAIN with comments or options before the query is not accepted", "write EXPLAIN SELECT ..."
            )
        require_reading(connection, explained(sql))
    elif kind != duckdb.StatementType.SELECT:
        raise QueryError(f"{kind.name} is not a query: captures are never changed by hand", REMEDY)
    return sql


def explained(sql: str) -> str:
    """What an EXPLAIN statement explains; any other one as it is."""
    found = _EXPLAIN.match(sql)
    return sql[found.end() :] if found else sql


def empty() -> DuckDBPyConnection:
    """An engine from which no file can be reached."""
    return duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": "false"})


def scanned(connection: DuckDBPyConnection, sql: str) -> set[str] | None:
    """The names of the tables that the plan of a reading statement has; None where DuckDB makes no plan of it."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA disable_optimizer")  # it would leave out what adds no row, as an empty table does
    try:
        ((_, text),) = cursor.execute(f"EXPLAIN (FORMAT json) {explained(sql)}").fetchall()
    except duckdb.Error:
        return None
    nodes, found = json.loads(text), set[str]()
    while nodes:
        node = nodes.pop()
        nodes += node.get("children", [])
        if table := node.get("extra_info", {}).get("Table"):
            found.add(table.split(".", 2)[-1].strip('"'))
    return found


def lock(connection: DuckDBPyConnection, store: Store) -> None:
    """Only the captures can be read from here on: no other file, no network, no setting."""
    connection.execute(f"SET allowed_directories = [{literal(str(store.home.captures))}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def answer(connection: DuckDBPyConnection, sql: str) -> tuple[list[str], list[tuple[object, ...]]]:
    """Column names and rows of one reading statement; QueryError with DuckDB's own words where it fails."""
    require_reading(connection, sql)
    try:
        cursor = connection.execute(sql)
        return [column[0] for column in cursor.description or ()], cursor.fetchall()
    except duckdb.OutOfMemoryException:  # no mistake of the query's: the engine says what to do
        raise
    except duckdb.Error as error:
        tables = "see the tables with: spine catalog  (columns: spine catalog TABLE)"
        remedy = damage_remedy("the query is wrong") if is_damage(error) else tables
        raise QueryError(_first_lines(error), remedy) from error


def _first_lines(error: Exception) -> str:
    """DuckDB's message without the picture of the statement below it; a macro's own error without its class."""
    lines = [line.strip() for line in str(error).removeprefix("Invalid Input Error: ").strip().splitlines()]
    return " ".join(line for line in lines if line and not line.startswith(("LINE ", "^")))
