"""Judging a table: every declared law is asked about every partition, and answers for its own only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import duckdb
import pytest

from market_spine.assets.tables import tables_of
from market_spine.checks.findings import blocked_keys
from market_spine.checks.judge import UNIQUE_GRAIN, check_names, judge, unique_grain
from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Column, Invariant, Severity, Table
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC as FEED

WEEK = date(2025, 11, 14)
KEYS = [WeekKey(WEEK, Tier.OTC), WeekKey(WEEK, Tier.NMS_TIER_1), WeekKey(WEEK + timedelta(weeks=1), Tier.OTC)]
SALES = Table(
    "sales",
    Stage.AGGREGATED,
    ("week_ending", "tier", "symbol"),
    (
        Column("week_ending", "DATE", "Friday"),
        Column("tier", "VARCHAR", "Tier"),
        Column("symbol", "VARCHAR", "Symbol", nullable=True),
        Column("shares", "BIGINT", "Shares", ge=0),
    ),
    "A table of the tests",
)
BY_WEEK = Table("sales", Stage.ROLLING, ("week_ending", "symbol"), SALES.columns, "The same by week", by_tier=False)
SUM = "SELECT week_ending, tier, sum(shares) AS observed, 3 AS expected FROM sales GROUP BY ALL HAVING sum(shares) <> 3"
SUMS_TO_3 = Invariant("sums_to_3", "shares sum to 3", SUM, Severity.WARN, Category.BUSINESS_RULE)


@pytest.fixture
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """A table of two rows in each of three partitions, whose shares sum to 3."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE sales (week_ending DATE, tier VARCHAR, symbol VARCHAR, shares BIGINT)")
        for key in KEYS:
            put(connection, key, "A", 1)
            put(connection, key, "B", 2)
        yield connection


def put(engine: duckdb.DuckDBPyConnection, key: WeekKey, symbol: str | None, shares: int) -> None:
    engine.execute("INSERT INTO sales VALUES (?, ?, ?, ?)", [key.week_ending, key.tier_text, symbol, shares])


def failures(engine: duckdb.DuckDBPyConnection, table: Table = SALES) -> list[tuple[str, WeekKey, str, str]]:
    keys = KEYS if table.by_tier else sorted({WeekKey(key.week_ending, None) for key in KEYS})
    invariants = (SUMS_TO_3,) if table.by_tier else ()
    found = judge(engine, table, invariants, keys)
    assert [one.check for one in found] == [name for name in check_names(invariants) for _ in keys]
    assert [one.key for one in found] == [*keys] * len(check_names(invariants))
    return [(one.check, one.key, one.actual, one.expected) for one in found if not one.passed]


def test_what_holds_passes_everywhere(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents a check that always fails, or that is not reported where it holds."""
    assert failures(engine) == []


def test_each_check_fails_in_its_own_partition(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents one bad partition from blocking a backfill's hundred good ones."""
    put(engine, KEYS[0], "C", -1)
    put(engine, KEYS[1], "A", 0)
    put(engine, KEYS[2], "C", 4)
    assert failures(engine) == [
        ("schema", KEYS[0], "1 violations", "0 violations"),
        (UNIQUE_GRAIN, KEYS[1], "1", "0"),
        ("sums_to_3", KEYS[0], "2", "3"),
        ("sums_to_3", KEYS[2], "7", "3"),
    ]


def test_severities_come_from_the_declarations(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents a warning from blocking, and a structural error from not doing so."""
    put(engine, KEYS[0], "A", 1)
    found = [one for one in judge(engine, SALES, (SUMS_TO_3,), KEYS) if not one.passed]
    assert {(one.check, one.severity, one.category, one.is_blocking) for one in found} == {
        (UNIQUE_GRAIN, Severity.CRITICAL, Category.CONSISTENCY, True),
        ("sums_to_3", Severity.WARN, Category.BUSINESS_RULE, False),
    }
    assert [one.check for one in blocked_keys(found)[KEYS[0]]] == [UNIQUE_GRAIN]


@pytest.mark.parametrize(("copies", "symbol"), [(2, "A"), (5, "A"), (2, None)])
def test_repeated_keys_are_counted_once_each(
    engine: duckdb.DuckDBPyConnection, copies: int, symbol: str | None
) -> None:
    """Prevents NULL keys from passing for different ones, and a key of five rows from counting as four errors."""
    engine.execute("DELETE FROM sales")
    for _ in range(copies):
        put(engine, KEYS[1], symbol, 3 if copies == 1 else 0)
    found = [one for one in failures(engine) if one[0] == UNIQUE_GRAIN]
    assert found == [(UNIQUE_GRAIN, KEYS[1], "1", "0")]


def test_week_tables_are_judged_by_week(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents a table without tier partitions from needing one; two tiers of one week share its keys."""
    assert failures(engine, BY_WEEK) == [(UNIQUE_GRAIN, WeekKey(WEEK, None), "2", "0")]


def test_no_rows_hold_every_law(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents an empty partition from being reported as a violation of a law that compares rows."""
    engine.execute("DELETE FROM sales")
    assert failures(engine) == []


@pytest.mark.parametrize(("name", "table"), sorted(tables_of(FEED).items()))
def test_the_grain_of_every_table_can_be_asked(name: str, table: Table) -> None:
    """Prevents a table whose grain lacks its partition, which the check could not group by."""
    with duckdb.connect() as connection:
        columns = ", ".join(f'"{column.name}" {column.type}' for column in table.columns)
        connection.execute(f"CREATE TABLE {table.name} ({columns})")
        assert connection.execute(unique_grain(table).sql).fetchall() == [], name
        values = ", ".join("DATE '2025-11-14'" if one.name == "week_ending" else "NULL" for one in table.columns)
        connection.execute(f"INSERT INTO {table.name} VALUES ({values}), ({values})")
        assert len(connection.execute(unique_grain(table).sql).fetchall()) == 1
