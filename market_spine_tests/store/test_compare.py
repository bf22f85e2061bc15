"""Two captures compared by natural key, on rows small enough to compare by eye."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import MPID, SYMBOL, TIER, WEEK_ENDING, Column, Table
from market_spine.store.compare import Comparison, compare
from market_spine.store.store import Store

SHARES = Column("total_shares", "DECIMAL(20,6)", "Shares", nullable=True)
NAME = Column("venue_name", "VARCHAR", "Name", nullable=True)
POSITION = (Column("part_no", "INTEGER", "Part"), Column("line_no", "INTEGER", "Line"))
RAW = Table(
    "raw",
    Stage.INGESTED,
    ("week_ending", "tier", "part_no", "line_no"),
    (WEEK_ENDING, TIER, *POSITION, SYMBOL, MPID, NAME, SHARES),
    "Raw",
)
DERIVED = Table(
    "venues", Stage.AGGREGATED, ("week_ending", "tier", "mpid"), (WEEK_ENDING, TIER, MPID, NAME, SHARES), "Derived"
)
BY_WEEK = Table("split", Stage.AGGREGATED, ("week_ending",), (WEEK_ENDING, SHARES), "One row a week", by_tier=False)


def compared(tmp_path: Path, table: Table, before: str, after: str) -> Comparison:
    with Store.at(tmp_path).engine() as engine:
        columns = ", ".join(f"{one.name} {one.type}" for one in table.columns)
        for name, rows in (("a", before), ("b", after)):
            engine.execute(f"CREATE TABLE {name} ({columns})")
            if rows:
                engine.execute(f"INSERT INTO {name} VALUES {rows}")
        return compare(engine, table, "a", "b")


def row(mpid: str, name: str, shares: str) -> str:
    return f"('2025-11-14', 'OTC', '{mpid}', {name}, {shares})"


def test_every_kind_of_change(tmp_path: Path) -> None:
    """Prevents a row that came, went, changed or stayed from being counted as another."""
    before = ", ".join(
        [row("KEEP", "'k'", "1.5"), row("GONE", "'g'", "10"), row("MORE", "'m'", "100"), row("NAME", "'x'", "7")]
    )
    after = ", ".join(
        [row("KEEP", "'k'", "1.5"), row("MORE", "'m'", "175.25"), row("NAME", "'y'", "7"), row("COME", "'c'", "3")]
    )
    found = compared(tmp_path, DERIVED, before, after)
    assert found.counts == {"added": 1, "removed": 1, "changed": 2, "unchanged": 1}
    assert found.totals == {"total_shares": (Decimal("118.5"), Decimal("186.75"))}
    assert found.columns == ("change", "mpid", "column", "before", "after", "delta")
    expected: list[tuple[Any, ...]] = [
        ("changed", "MORE", "total_shares", "100.000000", "175.250000", "75.250000"),
        ("changed", "NAME", "venue_name", "x", "y", None),
        ("added", "COME", "total_shares", None, "3.000000", "3.000000"),
        ("removed", "GONE", "total_shares", "10.000000", None, "-10.000000"),
    ]
    assert found.changes == expected


def test_null_is_a_value(tmp_path: Path) -> None:
    """Prevents NULL against NULL from being a change, and NULL against a number from being none."""
    found = compared(tmp_path, DERIVED, row("A", "NULL", "NULL"), row("A", "NULL", "NULL"))
    assert found.counts["unchanged"] == 1
    assert found.changes == []
    found = compared(tmp_path, DERIVED, row("A", "NULL", "NULL"), row("A", "'n'", "2"))
    assert found.changes == [
        ("changed", "A", "total_shares", None, "2.000000", "2.000000"),
        ("changed", "A", "venue_name", None, "n", None),
    ]


def test_raw_rows_are_compared_by_what_they_say_not_where_they_stand(tmp_path: Path) -> None:
    """Prevents one added line from changing every line below it; two rows of a venue in a symbol are one."""

    def line(number: int, symbol: str, shares: int) -> str:
        return f"('2025-11-14', 'OTC', 1, {number}, '{symbol}', 'OTCN', 'name {number}', {shares})"

    found = compared(
        tmp_path, RAW, ", ".join([line(2, "B", 5), line(3, "B", 6)]), ", ".join([line(2, "A", 1), line(3, "B", 11)])
    )
    assert found.counts == {"added": 1, "removed": 0, "changed": 0, "unchanged": 1}
    assert found.changes == [("added", "A", "OTCN", "total_shares", None, "1.000000", "1.000000")]


def test_a_table_without_a_key_inside_its_partition(tmp_path: Path) -> None:
    """Prevents a week's single row from having no partner."""
    found = compared(tmp_path, BY_WEEK, "('2025-11-14', 1)", "('2025-11-14', 3)")
    assert found.key == ()
    assert found.changes == [("changed", "total_shares", "1.000000", "3.000000", "2.000000")]


def test_nothing_before(tmp_path: Path) -> None:
    """Prevents an empty capture from failing the comparison."""
    found = compared(tmp_path, DERIVED, "", row("A", "'n'", "2"))
    assert (found.counts["added"], found.totals) == (1, {"total_shares": (None, Decimal(2))})
