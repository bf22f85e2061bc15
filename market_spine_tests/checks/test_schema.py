"""Schema checks made from column lists: good rows pass, and each corruption is found in exactly its partition."""

from __future__ import annotations

import time
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest

from market_spine.assets.tables import tables_of
from market_spine.checks.findings import SAMPLES, Finding
from market_spine.checks.schema import check_schema, schema_of
from market_spine.domain.contracts import Category, Column, Severity, Table
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC as FEED

WEEKS = [date(2025, 11, 14) + timedelta(weeks=n) for n in range(2)]
TABLES = sorted(tables_of(FEED).items())
IDS = [name for name, _ in TABLES]
PARTITION = {"week_ending", "tier"}  # a row without its partition has tests of its own
CASES = [(name, table, column) for name, table in TABLES for column in table.columns if column.name not in PARTITION]


def keys_of(table: Table) -> list[WeekKey]:
    return [WeekKey(week, tier) for week in WEEKS for tier in (tuple(Tier) if table.by_tier else (None,))]


def good_value(column: Column) -> str:
    """A value that keeps the bounds of ``column``, as SQL."""
    if column.isin:
        return f"'{column.isin[0]}'"
    number = 1 if column.gt is not None or column.ge is not None else 0
    if column.type == "DATE":
        return "DATE '2025-11-12'"
    if column.type == "TIMESTAMPTZ":
        return "TIMESTAMPTZ '2025-11-12 14:30:00+00'"
    return {"VARCHAR": "'text'", "BOOLEAN": "true"}.get(column.type, str(number))


def good(connection: duckdb.DuckDBPyConnection, table: Table) -> None:
    """Two good rows in every partition, as the table ``good``."""
    columns = ", ".join(f'"{column.name}" {column.type}' for column in table.columns)
    connection.execute(f"CREATE TABLE good ({columns})")
    for key in keys_of(table):
        special = {"week_ending": f"DATE '{key.week_ending}'"} | ({"tier": f"'{key.tier}'"} if key.tier else {})
        values = ", ".join(special.get(column.name, good_value(column)) for column in table.columns)
        connection.execute(f"INSERT INTO good VALUES ({values}), ({values})")


def failed(found: list[Finding]) -> dict[WeekKey, int]:
    return {one.key: int(one.actual.split()[0]) for one in found if not one.passed}


def check(table: Table, changes: str = "", select: str = "SELECT * FROM good") -> list[Finding]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        good(connection, table)
        for change in filter(None, changes.split(";")):
            connection.execute(change)
        connection.execute(f"CREATE TABLE shown AS {select}")
        return check_schema(table, connection, "shown", keys_of(table))


@pytest.mark.parametrize(("_name", "table"), TABLES, ids=IDS)
def test_good_rows_pass_and_every_partition_is_answered_for(_name: str, table: Table) -> None:
    """Prevents a bound that no real row can keep, and a partition without a finding."""
    found = check(table)
    assert [one.key for one in found] == keys_of(table)
    assert failed(found) == {}
    assert {(one.severity, one.category, one.actual) for one in found} == {
        (Severity.CRITICAL, Category.BUSINESS_RULE, "0 violations")
    }


@pytest.mark.parametrize(("_name", "table"), TABLES, ids=IDS)
def test_no_rows_pass(_name: str, table: Table) -> None:
    """Prevents an empty chunk from failing on its types."""
    assert failed(check(table, select="SELECT * FROM good WHERE false")) == {}


def spoiled(table: Table, column: Column, value: str) -> set[WeekKey]:
    """Where the check fails after one row of the last partition got ``value``."""
    place = f"week_ending = DATE '{keys_of(table)[-1].week_ending}'"
    place += f" AND tier = '{keys_of(table)[-1].tier}'" if table.by_tier else ""
    update = f'UPDATE good SET "{column.name}" = {value} WHERE rowid = (SELECT max(rowid) FROM good WHERE {place})'
    return set(failed(check(table, update)))


@pytest.mark.parametrize(("_name", "table", "column"), CASES, ids=[f"{name}.{one.name}" for name, _, one in CASES])
def test_null_and_values_beyond_the_bounds_are_found_in_their_partition(
    _name: str, table: Table, column: Column
) -> None:
    """Prevents a declared bound from not being checked, and a bad row from blocking partitions that are whole."""
    there = {keys_of(table)[-1]}
    assert spoiled(table, column, "NULL") == (set() if column.nullable else there)
    step = 1 if column.type in ("BIGINT", "INTEGER") else 0.001
    for value, bound in [(column.ge, -step), (column.le, step), (column.gt, 0)]:
        if value is not None:
            assert spoiled(table, column, str(value + bound)) == there
    if column.isin:
        assert spoiled(table, column, "'none of these'") == there
    if column.type == "DOUBLE" and (column.ge, column.gt, column.le) != (None, None, None):
        assert spoiled(table, column, "'NaN'::DOUBLE") == there


VENUE_VOLUME = tables_of(FEED)["otc_venue_volume"]
CALENDAR = tables_of(FEED)["reference_trading_calendar"]
LAST = "rowid = (SELECT max(rowid) FROM good)"
ALL = keys_of(VENUE_VOLUME)


@pytest.mark.parametrize("value", ["'NMS_TIER_9'", "NULL", "'otc'", "''"])
def test_a_row_of_an_unknown_tier_concerns_its_week(value: str) -> None:
    """Prevents a tier that is none from being a traceback, or from being nobody's and therefore passed."""
    found = failed(check(VENUE_VOLUME, f"UPDATE good SET tier = {value} WHERE {LAST}"))
    assert found == {key: 1 for key in ALL if key.week_ending == WEEKS[1]}


def test_a_row_without_a_week_concerns_everything() -> None:
    """Prevents the same for a week."""
    found = failed(check(VENUE_VOLUME, f"UPDATE good SET week_ending = NULL WHERE {LAST}"))
    assert found == dict.fromkeys(ALL, 1)


@pytest.mark.parametrize(
    "select",
    [
        "SELECT *, 1 AS extra FROM good",
        "SELECT * EXCLUDE (total_trades) FROM good",
        "SELECT * EXCLUDE (tier) FROM good",
        "SELECT * EXCLUDE (week_ending) FROM good",
        "SELECT tier, * EXCLUDE (tier) FROM good",
        "SELECT * RENAME (mpid AS MPID) FROM good",
    ],
)
def test_other_columns_concern_every_partition(select: str) -> None:
    """Prevents a table of another shape from being stored because each of its rows looks right."""
    found = check(VENUE_VOLUME, select=select)
    assert set(failed(found)) == set(ALL)
    assert all(one.is_blocking and one.details["samples"] for one in found)


def test_other_columns_and_bad_rows_together() -> None:
    """Prevents a missing key column from hiding, or breaking on, what is wrong with the rows."""
    found = failed(check(VENUE_VOLUME, "UPDATE good SET total_shares = -1", "SELECT * EXCLUDE (tier) FROM good"))
    assert set(found) == set(ALL)
    assert min(found.values()) > 1


def test_week_tables_have_one_partition_a_week() -> None:
    """Prevents a table without tiers from looking for one."""
    found = check(CALENDAR, f"UPDATE good SET session_fraction = 1.5 WHERE {LAST}")
    assert failed(found) == {WeekKey(WEEKS[1], None): 1}


def test_many_bad_rows_are_counted_in_full_sampled_and_fast() -> None:
    """Prevents one wrong column of a big chunk from being walked row by row for minutes, or kept whole."""
    big = f"INSERT INTO good SELECT DATE '{WEEKS[0]}', 'OTC', 'S' || i, 'V', -1, 1, 1 FROM range(100000) r(i)"
    started = time.monotonic()
    found = check(VENUE_VOLUME, big)
    assert time.monotonic() - started < 20
    assert failed(found) == {WeekKey(WEEKS[0], Tier.OTC): 100_000}
    samples = next(one for one in found if not one.passed).details["samples"]
    assert len(samples) == SAMPLES
    assert {(one["column"], one["check"]) for one in samples} == {("total_shares", "greater_than_or_equal_to(0)")}
    assert {one["value"] for one in samples} == {"-1.000000"}


def test_schemas_say_what_the_columns_say() -> None:
    """Prevents a column from being left out of the schema: as many, in order, described, none coerced."""
    for _, table in TABLES:
        schema: Any = schema_of(table)
        assert list(schema.columns) == [column.name for column in table.columns]
        assert (schema.strict, schema.ordered, schema.coerce) == (True, True, False)
        assert [one.description for one in schema.columns.values()] == [one.description for one in table.columns]
    assert schema_of(VENUE_VOLUME) is schema_of(VENUE_VOLUME)
