"""A small store in DuckDB's memory, in which calculations run as they do in the platform.

What belongs here: tables of all partitions (schema store), the pruned views that a calculation sees, its result (schema
result). What does not: answers and laws, which stand in the tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from market_spine.domain.calculations import load_calculations
from market_spine.domain.contracts import Calculation

Key = tuple[date, str]
RowKey = tuple[date, str, str, str]
Row = tuple[Decimal, int]

VENUE_VOLUME = {
    "week_ending": "DATE",
    "tier": "VARCHAR",
    "symbol": "VARCHAR",
    "mpid": "VARCHAR",
    "total_shares": "DECIMAL(20,6)",
    "total_trades": "BIGINT",
    "row_count": "INTEGER",
}
TRADING_CALENDAR = {
    "week_ending": "DATE",
    "exchange_code": "VARCHAR",
    "session_date": "DATE",
    "opens_at": "TIMESTAMPTZ",
    "closes_at": "TIMESTAMPTZ",
    "session_fraction": "DOUBLE",
}
CALCULATIONS = load_calculations()
TABLES: dict[str, tuple[str, ...]] = {
    "venue_volume": tuple(VENUE_VOLUME),
    "trading_calendar": tuple(TRADING_CALENDAR),
    **{name: tuple(column.name for column in found.table.columns) for name, found in CALCULATIONS.items()},
}


def connect(threads: int = 2) -> duckdb.DuckDBPyConnection:
    """An empty lab."""
    con = duckdb.connect(config={"threads": threads})
    con.execute("CREATE SCHEMA store; CREATE SCHEMA result")
    return con


def put(con: duckdb.DuckDBPyConnection, table: str, select: str) -> None:
    """Store all partitions of ``table``."""
    con.execute(f"CREATE OR REPLACE TABLE store.{table} AS {select}")


def put_csv(con: duckdb.DuckDBPyConnection, table: str, path: Path, types: Mapping[str, str], null: str = "-") -> None:
    """Store a CSV file under the given types; fields that read ``null`` are NULL."""
    columns = ", ".join(f"CAST(nullif({name}, '{null}') AS {kind}) AS {name}" for name, kind in types.items())
    put(con, table, f"SELECT {columns} FROM read_csv('{path}', all_varchar = true, header = true, nullstr = 'no such')")


def put_rows(con: duckdb.DuckDBPyConnection, rows: Mapping[RowKey, Row]) -> None:
    """Store venue_volume rows, and a trading calendar of their weeks."""
    values = ", ".join(
        f"(DATE '{week}', '{tier}', '{symbol}', '{mpid}', {shares:f}::DECIMAL(20,6), {trades}::BIGINT, 1)"
        for (week, tier, symbol, mpid), (shares, trades) in rows.items()
    )
    put(con, "venue_volume", f"SELECT * FROM (VALUES {values}) AS v({', '.join(VENUE_VOLUME)})")
    put_calendar(con)


def put_calendar(con: duckdb.DuckDBPyConnection) -> None:
    """Store five sessions for each week of venue_volume, Friday an early close: 4.5 sessions."""
    put(
        con,
        "trading_calendar",
        """
        SELECT
            week_ending,
            'XNYS' AS exchange_code,
            week_ending - CAST(d.i AS INTEGER) AS session_date,
            CAST(session_date || ' 14:30:00+00' AS TIMESTAMPTZ) AS opens_at,
            CAST(session_date || ' 21:00:00+00' AS TIMESTAMPTZ) AS closes_at,
            CASE WHEN d.i = 0 THEN 0.5 ELSE 1.0 END::DOUBLE AS session_fraction
        FROM (SELECT DISTINCT week_ending FROM store.venue_volume) CROSS JOIN range(5) AS d(i)""",
    )


def partitions(con: duckdb.DuckDBPyConnection) -> list[Key]:
    """All (week_ending, tier) of the stored venue_volume."""
    return con.execute("SELECT DISTINCT week_ending, tier FROM store.venue_volume ORDER BY ALL").fetchall()


def ask(con: duckdb.DuckDBPyConnection, calculation: Calculation, keys: Sequence[Key]) -> None:
    """Compute ``keys`` (all tiers of their weeks where the table has no tier partitions) into ``result``.

    The inputs are views pruned to the asked partitions and the preceding weeks that the calculation looks back.
    """
    values = ", ".join(f"(DATE '{week}', '{tier}')" for week, tier in keys)
    con.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT * FROM (VALUES {values}) AS w(week_ending, tier)")
    days = timedelta(weeks=calculation.weeks_back).days
    for name in calculation.inputs:
        same_tier = "AND w.tier = i.tier" if calculation.table.by_tier and "tier" in TABLES[name] else ""
        con.execute(f"""
            CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM store.{name} AS i WHERE EXISTS (
                FROM wanted AS w WHERE i.week_ending BETWEEN w.week_ending - {days} AND w.week_ending {same_tier})""")
    con.execute(f"CREATE OR REPLACE TABLE result.{calculation.name} AS {calculation.sql}")
    con.execute(f"CREATE OR REPLACE TEMP VIEW {calculation.name} AS FROM result.{calculation.name}")


def fill(con: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Compute and store all partitions of the named calculations (all by default) and of what they read."""
    needed = set(names or CALCULATIONS)
    for name in reversed(CALCULATIONS):
        needed |= set(CALCULATIONS[name].inputs) if name in needed else set()
    for name, calculation in CALCULATIONS.items():
        if name in needed:
            ask(con, calculation, partitions(con))
            put(con, name, f"FROM result.{name}")


def rows_of(con: duckdb.DuckDBPyConnection, relation: str, calculation: Calculation, where: str = "true") -> list[Any]:
    """The rows of a relation in the order of the calculation's grain."""
    grain = ", ".join(calculation.table.grain)
    return con.execute(f"FROM {relation} WHERE {where} ORDER BY {grain}").fetchall()
