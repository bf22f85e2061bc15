"""Laws that every calculation obeys, whatever its formula; a new calculation is held to them by being found."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_spine.domain.contracts import Calculation, Column, Invariant, Severity
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import last_n_weeks
from market_spine_tests.domain import calculation_lab as lab

CALCULATIONS = lab.CALCULATIONS
WEEKS = last_n_weeks(8, date(2030, 2, 22))
every_calculation = pytest.mark.parametrize("calculation", CALCULATIONS.values(), ids=CALCULATIONS.keys())
every_invariant = pytest.mark.parametrize(
    ("calculation", "invariant"),
    [
        pytest.param(found, invariant, id=f"{name}-{invariant.name}")
        for name, found in CALCULATIONS.items()
        for invariant in found.invariants
    ],
)

# Rows as normalisation lets them through: no shares and no trades, or both; up to 1e10 shares in 6 decimals.
ROW_KEYS = st.tuples(
    st.sampled_from(WEEKS),
    st.sampled_from([str(tier) for tier in Tier]),
    st.sampled_from(["QA", "QB", "NA", ""]),
    st.sampled_from(["VEN1", "VEN2", "VEN3"]),
)
MICROSHARES = st.one_of(st.integers(1, 3), st.integers(1, 10**16))
AMOUNTS = st.one_of(
    st.just((Decimal(0), 0)), st.tuples(MICROSHARES.map(lambda n: Decimal(n).scaleb(-6)), st.integers(1, 10**6))
)
VENUE_VOLUME = st.dictionaries(ROW_KEYS, AMOUNTS, min_size=1, max_size=40)

# The smallest volume, and then none: a percentage that was -100.00000000000001.
FALL_TO_ZERO = {
    (WEEKS[6], "OTC", "QA", "VEN1"): (Decimal("0.000001"), 1),
    (WEEKS[7], "OTC", "QA", "VEN1"): (Decimal(0), 0),
}


def broken_bound(column: Column) -> str:
    """SQL that is true of values outside what the column declares."""
    rules = [f"{column.name} IS NULL"] if not column.nullable else ["false"]
    rules += [f"{column.name} < {column.ge!r}"] if column.ge is not None else []
    rules += [f"{column.name} <= {column.gt!r}"] if column.gt is not None else []
    rules += [f"{column.name} > {column.le!r}"] if column.le is not None else []
    rules += [f"{column.name} NOT IN ({', '.join(map(repr, map(str, column.isin)))})"] if column.isin else []
    rules += [f"NOT isfinite({column.name})"] if column.type == "DOUBLE" else []
    return " OR ".join(rules)


@every_calculation
def test_declared_columns_are_the_columns_of_the_sql(calculation: Calculation) -> None:
    """A column list that says one type or order and SQL that returns another: Parquet, views and API would differ."""
    con = lab.connect()
    lab.put_rows(con, {(WEEKS[7], "OTC", "QA", "VEN1"): (Decimal(1), 1)})
    lab.fill(con, calculation.name)
    described = con.execute(f"DESCRIBE result.{calculation.name}").fetchall()
    assert [row[:2] for row in described] == [(column.name, column.type) for column in calculation.table.columns]


@every_calculation
@settings(max_examples=12)
@given(rows=VENUE_VOLUME)
@example(rows=FALL_TO_ZERO)
def test_laws_of_one_calculation(calculation: Calculation, rows: dict[lab.RowKey, lab.Row]) -> None:
    """Keys that occur twice, values out of bounds, NaN, violated laws, and partitions that see one another's rows."""
    con = lab.connect()
    lab.put_rows(con, rows)
    lab.fill(con, calculation.name)
    name, grain = calculation.name, ", ".join(calculation.table.grain)

    assert con.execute(f"SELECT {grain} FROM {name} GROUP BY ALL HAVING count(*) > 1").fetchall() == []
    for column in calculation.table.columns:
        assert con.execute(f"FROM {name} WHERE {broken_bound(column)}").fetchall() == [], column.name
    for invariant in calculation.invariants:
        if invariant.severity is Severity.CRITICAL:
            assert con.execute(invariant.sql).fetchall() == [], invariant.name

    keys = lab.partitions(con)
    for week, tier in keys:
        lab.ask(con, calculation, [(week, tier)])
        mine = f"week_ending = DATE '{week}'" + (f" AND tier = '{tier}'" if calculation.table.by_tier else "")
        alone = lab.rows_of(con, f"result.{name}", calculation)
        assert alone == lab.rows_of(con, f"store.{name}", calculation, mine), f"{week} {tier}"


def wide(con: duckdb.DuckDBPyConnection, order: str) -> None:
    """290,000 synthetic rows (several row groups, so that two threads really share the work) in a given order."""
    lab.put(
        con,
        "venue_volume",
        f"""
        SELECT
            DATE '2030-01-04' + CAST(7 * w.i AS INTEGER) AS week_ending,
            ['NMS_TIER_1', 'NMS_TIER_2', 'OTC'][1 + s.i % 3] AS tier,
            CASE WHEN s.i = 5 THEN '' ELSE 'Q' || s.i END AS symbol,
            'V' || (100 + m.i) AS mpid,
            CAST(CASE WHEN hash(w.i, s.i, m.i) % 97 = 0 THEN 0
                ELSE 1 + (hash(w.i, s.i, m.i, 1) % 10000000000000) / 1000000.0 END AS DECIMAL(20,6)) AS total_shares,
            CAST(CASE WHEN hash(w.i, s.i, m.i) % 97 = 0 THEN 0 ELSE 1 + hash(s.i, m.i) % 500 END AS BIGINT)
                AS total_trades,
            1 AS row_count
        FROM range(8) AS w(i), range(1210) AS s(i), range(30) AS m(i)
        ORDER BY {order}""",
    )
    lab.put_calendar(con)


ORDERS = {
    "in order, 1 thread": (1, "ALL"),
    "in order, 2 threads": (2, "ALL"),
    "shuffled, 2 threads": (2, "hash(mpid, symbol, 7, week_ending)"),
    "shuffled, 1 thread": (1, "hash(symbol, 11, week_ending, mpid)"),
}


@pytest.fixture(scope="module")
def computed() -> duckdb.DuckDBPyConnection:
    """All calculations under four orders and thread counts, in schemas run_0 ... run_3."""
    con = lab.connect()
    for number, (threads, order) in enumerate(ORDERS.values()):
        con.execute(f"SET threads = {threads}")
        wide(con, order)
        lab.fill(con)
        con.execute(f"CREATE SCHEMA run_{number}")
        for name in ("venue_volume", *CALCULATIONS):
            con.execute(f"CREATE TABLE run_{number}.{name} AS FROM store.{name}")
    return con


def differing_rows(con: duckdb.DuckDBPyConnection, first: str, second: str) -> int:
    """Rows that one relation has and the other has not, to the last bit of every DOUBLE."""
    found: Any = con.execute(f"""
        SELECT (SELECT count(*) FROM (FROM {first} EXCEPT ALL FROM {second}))
            + (SELECT count(*) FROM (FROM {second} EXCEPT ALL FROM {first}))""").fetchone()
    return int(found[0])


@every_calculation
@pytest.mark.parametrize("run", range(1, len(ORDERS)), ids=list(ORDERS)[1:])
def test_threads_and_order_change_no_bit(
    computed: duckdb.DuckDBPyConnection, calculation: Calculation, run: int
) -> None:
    """A sum of DOUBLEs, a tie left to chance: the content hash would change without the content changing."""
    assert differing_rows(computed, f"run_0.{calculation.name}", f"run_{run}.{calculation.name}") == 0


def test_the_comparison_sees_an_order_dependent_sum(computed: duckdb.DuckDBPyConnection) -> None:
    """A determinism law that could not fail: adding the same numbers as DOUBLEs does differ here."""
    sums = "(SELECT mpid, sum(CAST(total_shares AS DOUBLE)) FROM run_{}.venue_volume GROUP BY mpid)"
    assert differing_rows(computed, sums.format(0), sums.format(2)) > 0


def good(calculation: Calculation) -> duckdb.DuckDBPyConnection:
    """A lab in which one week of all tiers is asked for, with eight full weeks before it."""
    con = lab.connect()
    amounts = {
        (week, str(tier), symbol, mpid): (Decimal(7 * n + 10 * s + 100 * m + 1), 3 + n + m)
        for n, week in enumerate(WEEKS)
        for tier in Tier
        for s, symbol in enumerate(["QA", "QB"])
        for m, mpid in enumerate(["VEN1", "VEN2", "VEN3"])
    }
    lab.put_rows(con, amounts)
    lab.fill(con, calculation.name)
    lab.ask(con, calculation, [(WEEKS[7], str(tier)) for tier in Tier])
    return con


def corruptions(calculation: Calculation) -> dict[str, str]:
    """Ways to spoil a result: a lost and a doubled row, and every column changed or lost, in one row or in all."""
    table = f"result.{calculation.name}"
    first = f"WHERE rowid = (SELECT min(rowid) FROM {table})"
    found = {
        "lost row": f"DELETE FROM {table} {first}",
        "doubled row": f"INSERT INTO {table} SELECT * FROM {table} {first}",
        "empty": f"DELETE FROM {table}",
    }
    for column in calculation.table.columns:
        if column.name not in calculation.table.grain:
            changed = {"VARCHAR": "'WRONG'", "BOOLEAN": f"NOT {column.name}"}.get(column.type, f"2 * {column.name} + 1")
            found[f"{column.name} changed in a row"] = f"UPDATE {table} SET {column.name} = {changed} {first}"
            found[f"{column.name} changed"] = f"UPDATE {table} SET {column.name} = {changed}"
            found[f"{column.name} lost"] = f"UPDATE {table} SET {column.name} = NULL {first}"
    return found


@cache
def catches(calculation: Calculation) -> dict[str, set[str]]:
    """Corruption -> the invariants of the calculation that return rows of it."""
    con, found = good(calculation), {}
    con.execute(f"CREATE TABLE good AS FROM result.{calculation.name}")
    for name, statement in corruptions(calculation).items():
        con.execute(f"CREATE OR REPLACE TABLE result.{calculation.name} AS FROM good")
        con.execute(statement)
        found[name] = {law.name for law in calculation.invariants if con.execute(law.sql).fetchall()}
    if calculation.weeks_back:
        con.execute(f"CREATE OR REPLACE TABLE result.{calculation.name} AS FROM good")
        for table in calculation.inputs:
            con.execute(f"DELETE FROM store.{table} WHERE week_ending = DATE '{WEEKS[4]}'")
        found["lost week of input"] = {law.name for law in calculation.invariants if con.execute(law.sql).fetchall()}
    return found


@every_invariant
def test_invariants_hold_on_good_data_in_the_form_that_is_promised(
    calculation: Calculation, invariant: Invariant
) -> None:
    """A law that cries wolf, or whose rows do not name the partition."""
    found = good(calculation).execute(invariant.sql)
    keys = ["week_ending", "tier"] if calculation.table.by_tier else ["week_ending"]
    assert [column[0] for column in found.description or []] == [*keys, "observed", "expected"]
    assert found.fetchall() == []


@every_invariant
def test_every_invariant_can_fail(calculation: Calculation, invariant: Invariant) -> None:
    """A law that is true of anything."""
    assert any(invariant.name in laws for laws in catches(calculation).values())


@every_calculation
def test_lost_and_doubled_rows_are_critical(calculation: Calculation) -> None:
    """A result that loses a row, a partition or counts one twice, and is published."""
    critical = {law.name for law in calculation.invariants if law.severity is Severity.CRITICAL}
    for corruption in ("lost row", "doubled row", "empty"):
        assert catches(calculation)[corruption] & critical, corruption


FIGURES = {
    "symbol_summary": {"total_volume", "total_trades", "venue_count"},
    "venue_share": {"total_volume", "total_trades", "symbol_count", "venue_share"},
    "symbol_venue_share": {"total_shares", "venue_share"},
    "symbol_hhi": {"hhi", "venue_count"},
    "liquidity_score": {"total_volume"},
    "liquidity_score_v2": {"total_volume"},
    "volume_per_day": {"total_volume", "session_count"},
    "tier_split": {"total_volume", "volume_share", "tiers_present", "is_complete"},
    "symbol_rolling_6w": {"weeks_in_window", "is_complete", "mean_volume"},
    "symbol_volume_per_day_6w": {"total_volume_6w", "session_count_6w", "mean_volume_per_day", "weeks_in_window"},
    "weekly_baseline": {"value", "previous", "change_pct", "lower", "upper", "verdict"},
}


@every_calculation
def test_corrupted_figures_are_caught(calculation: Calculation) -> None:
    """A headline figure that is wrong in a single row and breaks no law of its table."""
    for column in FIGURES[calculation.name]:
        assert catches(calculation)[f"{column} changed in a row"], column
