"""Two captures of one table's partition, compared by natural key: what was added, removed, changed, and by how much.

What belongs here: the comparison. What does not: choosing the captures (`manifest`), and showing the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from market_spine.domain.contracts import Table
from market_spine.domain.sqltext import identifier, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

NUMERIC = ("DECIMAL", "DOUBLE", "BIGINT", "INTEGER", "HUGEINT", "FLOAT")
ADDITIVE = "total_"  # how names of shares and trades begin
PARTITION = ("week_ending", "tier")
# Where a line stood is no key: it moves when a line is added before it. Rows of one venue in one symbol are one.
RAW_KEY = ("symbol", "mpid")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Row counts by what happened to them, totals of shares and trades (before, after), the changes in long form."""

    key: tuple[str, ...]
    counts: dict[str, int]
    totals: dict[str, tuple[object, object]]
    columns: tuple[str, ...]
    changes: list[tuple[object, ...]]


def compare(connection: DuckDBPyConnection, table: Table, before: str, after: str) -> Comparison:
    """``before`` and ``after`` name relations of ``connection`` with the columns of ``table``, one partition each.

    Changes are (change, *key, column, before, after, delta), one per changed value; a row that was added or removed
    has one per numeric column.
    """
    is_raw = "line_no" in table.grain
    key = RAW_KEY if is_raw else tuple(name for name in table.grain if name not in PARTITION)
    skipped = {*key, *PARTITION, "part_no", "line_no"}
    values = [column for column in table.columns if column.name not in skipped]
    numeric = [column.name for column in values if column.type.startswith(NUMERIC)]
    others = [] if is_raw else [column.name for column in values if column.name not in numeric]
    for side, relation in (("before", before), ("after", after)):
        _show_side(connection, side, relation, key, numeric, others)
    _join(connection, key, [*numeric, *others])
    counted = dict(connection.execute("SELECT change, count(*) FROM compared GROUP BY ALL").fetchall())
    # Shares and trades add up; ranks, extremes and ratios do not.
    totals = {name: _total(connection, name) for name in numeric if name.startswith(ADDITIVE)}
    return Comparison(
        key=key,
        counts={word: counted.get(word, 0) for word in ("added", "removed", "changed", "unchanged")},
        totals=totals,
        columns=("change", *key, "column", "before", "after", "delta"),
        changes=_changes(connection, key, numeric, others),
    )


def _show_side(
    connection: DuckDBPyConnection,
    side: str,
    relation: str,
    key: tuple[str, ...],
    numeric: list[str],
    others: list[str],
) -> None:
    sums = [f"sum({identifier(name)}) AS {identifier(name)}" for name in numeric]
    kept = [f"any_value({identifier(name)}) AS {identifier(name)}" for name in others]
    listed = ", ".join([*map(identifier, key), *sums, *kept])
    connection.execute(
        f"CREATE OR REPLACE TABLE side_{side} AS SELECT {listed} FROM {identifier(relation)} GROUP BY ALL"
    )


def _join(connection: DuckDBPyConnection, key: tuple[str, ...], values: list[str]) -> None:
    same = " AND ".join(f"b.{identifier(name)} IS NOT DISTINCT FROM a.{identifier(name)}" for name in values) or "true"
    keys = ", ".join(f"coalesce(b.{identifier(name)}, a.{identifier(name)}) AS {identifier(name)}" for name in key)
    sides = [(name, side) for name in values for side in ("before", "after")]
    pairs = "".join(f", {side[0]}.{identifier(name)} AS {identifier(f'{name}__{side}')}" for name, side in sides)
    on = " AND ".join(f"b.{identifier(name)} IS NOT DISTINCT FROM a.{identifier(name)}" for name in key) or "true"
    connection.execute(f"""
        CREATE OR REPLACE TABLE compared AS
        SELECT CASE WHEN b.here IS NULL THEN 'added' WHEN a.here IS NULL THEN 'removed'
                    WHEN {same} THEN 'unchanged' ELSE 'changed' END AS change{", " if keys else ""}{keys}{pairs}
        FROM (SELECT *, true AS here FROM side_before) b FULL JOIN (SELECT *, true AS here FROM side_after) a ON {on}
    """)


def _total(connection: DuckDBPyConnection, name: str) -> tuple[object, object]:
    found = connection.execute(
        f"SELECT (SELECT sum({identifier(name)}) FROM side_before), (SELECT sum({identifier(name)}) FROM side_after)"
    ).fetchone()
    return found or (None, None)


def _changes(
    connection: DuckDBPyConnection, key: tuple[str, ...], numeric: list[str], others: list[str]
) -> list[tuple[object, ...]]:
    keys = "".join(f", {identifier(name)}" for name in key)
    parts = []
    for place, name in enumerate([*numeric, *others]):
        old, new = identifier(f"{name}__before"), identifier(f"{name}__after")
        delta = f"CAST(coalesce({new}, 0) - coalesce({old}, 0) AS VARCHAR)" if name in numeric else "NULL"
        rows = "change = 'changed'" if name in others else "change <> 'unchanged'"
        parts.append(
            f"SELECT change{keys}, {literal(name)} AS column_name, CAST({old} AS VARCHAR) AS before, "
            f"CAST({new} AS VARCHAR) AS after, {delta} AS delta, {place} AS place "
            f"FROM compared WHERE {rows} AND {old} IS DISTINCT FROM {new}"
        )
    if not parts:
        return []
    order = ", ".join(["change = 'changed' DESC", "change", *map(identifier, key), "place"])
    listed = (
        f"SELECT change{keys}, column_name, before, after, delta FROM ({' UNION ALL '.join(parts)}) ORDER BY {order}"
    )
    return connection.execute(listed).fetchall()
