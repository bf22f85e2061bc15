"""The floor: the same files through the same SQL in one DuckDB process, and nothing else.

No orchestration, no checks, no rejects, no content hashes, no captures: read_csv with casts, then the statement of
every calculation into native tables of one database file. What the platform takes beyond it is the price of its
promises.

    python -m benchmarks.floor DATABASE FOLDER [TIER_WEEK.csv]

With a file, that partition of an existing database is replaced and what follows from it is calculated again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from market_spine.domain.contracts import Calculation

# Week and tier are in the file's name. Nothing reads line numbers of good rows, and to count them would cost.
RAW_SQL = """
SELECT CAST(parse_filename(filename, true)[-10:] AS DATE) AS week_ending,
       CAST(parse_filename(filename, true)[:-12] AS VARCHAR) AS tier,
       CAST(1 AS INTEGER) AS part_no,
       CAST(1 AS INTEGER) AS line_no,
       trim("issueSymbolIdentifier") AS symbol,
       "issueName" AS issue_name,
       "marketParticipantName" AS venue_name,
       trim("MPID") AS mpid,
       CAST("totalWeeklyShareQuantity" AS DECIMAL(20,6)) AS total_shares,
       CAST("totalWeeklyTradeCount" AS BIGINT) AS total_trades,
       CAST("lastUpdateDate" AS DATE) AS source_last_update_date,
       TIMESTAMPTZ '2026-01-01 00:00:00+00' AS captured_at
FROM read_csv({files}, delim = '|', header = true, all_varchar = true, quote = '', escape = '', filename = true)
"""


def calculations() -> Sequence[Calculation]:
    """Every calculation of the feed, inputs first."""
    from market_spine.domain.calculations import load_calculations
    from market_spine.domain.normalization import normalization
    from market_spine.feeds.otc import OTC

    return [normalization(OTC).calculation, *load_calculations().values()]


def write_calendar(connection: DuckDBPyConnection, fridays: Sequence[date]) -> None:
    """The sessions of ``fridays`` as the calculations expect them."""
    from market_spine.domain.reference import TRADING_CALENDAR
    from market_spine.domain.sessions import EXCHANGE, sessions_of_week

    values = ", ".join(
        f"('{friday}', '{EXCHANGE}', '{one.session_date}', '{one.opens_at.isoformat()}', "
        f"'{one.closes_at.isoformat()}', {one.session_fraction})"
        for friday in fridays
        for one in sessions_of_week(friday)
    )
    names = "week_ending, exchange_code, session_date, opens_at, closes_at, session_fraction"
    casts = ", ".join(f"CAST({column.name} AS {column.type}) AS {column.name}" for column in TRADING_CALENDAR.columns)
    connection.execute(f"CREATE TABLE trading_calendar AS SELECT {casts} FROM (VALUES {values}) v({names})")


def build(connection: DuckDBPyConnection, folder: Path) -> None:
    """Every table from every file."""
    files = sorted(str(path) for path in folder.glob("*.csv"))
    connection.execute(f"CREATE TABLE raw AS {RAW_SQL.format(files=files)}")
    write_calendar(connection, sorted({date.fromisoformat(name[-14:-4]) for name in files}))
    connection.execute("CREATE TABLE wanted AS SELECT DISTINCT week_ending, tier FROM raw")
    for calculation in calculations():
        connection.execute(f"CREATE TABLE {calculation.name} AS {calculation.sql}")


def replace(connection: DuckDBPyConnection, file: Path) -> None:
    """One partition anew: delete and insert, table by table; later weeks' windows are left, as by `spine run`."""
    tier, friday = file.stem[:-11], date.fromisoformat(file.stem[-10:])
    connection.execute("BEGIN")
    connection.execute("DELETE FROM raw WHERE week_ending = ? AND tier = ?", [friday, tier])
    connection.execute(f"INSERT INTO raw {RAW_SQL.format(files=[str(file)])}")
    for calculation in calculations():
        own = f" AND tier = '{tier}'" if calculation.table.by_tier else ""
        here = f"week_ending = DATE '{friday}'{own}"
        connection.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS SELECT * FROM floor.main.wanted WHERE {here}")
        for name in calculation.inputs:
            bounds = "true" if calculation.weeks_back or name == "trading_calendar" else here
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM floor.main.{name} WHERE {bounds}")
        connection.execute(f"CREATE OR REPLACE TEMP TABLE fresh AS {calculation.sql}")
        connection.execute(f"DELETE FROM floor.main.{calculation.name} WHERE {here}")
        connection.execute(f"INSERT INTO floor.main.{calculation.name} FROM fresh")
        for name in calculation.inputs:
            connection.execute(f"DROP VIEW temp.{name}")
    connection.execute("COMMIT")


def main(arguments: Sequence[str]) -> int:
    """Build, or replace one partition."""
    import duckdb

    database, folder = Path(arguments[0]), Path(arguments[1])
    config: dict[str, Any] = {"preserve_insertion_order": "false", "autoload_known_extensions": "false"}
    with duckdb.connect(str(database), config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        if len(arguments) > 2:
            replace(connection, folder / arguments[2])
        else:
            build(connection, folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
