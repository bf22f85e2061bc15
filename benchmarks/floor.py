"""The floor: the same files through the same SQL in one DuckDB process and nothing else.

No orchestration, no checks, no rejects, no content hashes, no captures: read_csv with casts, then every calculation's
statement into native tables of one database file. Whatever the platform takes beyond this is the price of its promises.

    python -m benchmarks.floor FOLDER DATABASE
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

# Week and tier are in the file's name. Numbers and dates are cast as the platform's parser casts them.
RAW_SQL = """
CREATE OR REPLACE TABLE raw AS
SELECT CAST(parse_filename(filename, true)[-10:] AS DATE) AS week_ending,
       CAST(parse_filename(filename, true)[:-12] AS VARCHAR) AS tier,
       CAST(1 AS INTEGER) AS part_no,
       CAST(row_number() OVER () AS INTEGER) AS line_no,
       trim("issueSymbolIdentifier") AS symbol,
       "issueName" AS issue_name,
       "marketParticipantName" AS venue_name,
       trim("MPID") AS mpid,
       CAST("totalWeeklyShareQuantity" AS DECIMAL(20,6)) AS total_shares,
       CAST("totalWeeklyTradeCount" AS BIGINT) AS total_trades,
       CAST("lastUpdateDate" AS DATE) AS source_last_update_date,
       TIMESTAMPTZ '2026-01-01 00:00:00+00' AS captured_at
FROM read_csv({files}, delim = '|', header = true, all_varchar = true, quote = '', escape = '', filename = true,
              strict_mode = false)
"""
RAW_SQL = RAW_SQL.replace("row_number() OVER ()", "1")  # nothing reads line numbers of good rows; a window would cost


def main() -> int:
    """Make every table; prints the seconds of each as JSON lines for the profile."""
    import duckdb

    from market_spine.assets.calendar import landed_form, show_sessions
    from market_spine.assets.tables import steps_of
    from market_spine.domain.keys import WeekKey
    from market_spine.domain.weeks import week_ending
    from market_spine.feeds.otc import OTC

    folder, database = Path(sys.argv[1]), sys.argv[2]
    files = sorted(str(path) for path in folder.glob("*.csv"))
    weeks = sorted({path[-14:-4] for path in files})
    connection = duckdb.connect(database, config={"threads": 2, "preserve_insertion_order": "false"})
    connection.execute("SET TimeZone = 'UTC'")
    started = time.perf_counter()

    def done(name: str) -> None:
        print(f"{name} {time.perf_counter() - started:.3f}")

    connection.execute(RAW_SQL.format(files=files))
    done("raw")
    keys = [WeekKey(week_ending(week), None) for week in weeks]
    show_sessions(connection, {key: landed_form(key) for key in keys})
    connection.execute("CREATE TABLE wanted AS SELECT DISTINCT week_ending, tier FROM raw")
    for name, step in steps_of(OTC).items():
        connection.execute(f"CREATE TABLE {name} AS {step.calculation.sql}")
        done(name)
    connection.close()
    done("closed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
