"""Judging a freshly computed table: schema, one row per key, and its declared invariants; one finding per partition."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from market_spine.checks.findings import Finding
from market_spine.checks.schema import check_schema
from market_spine.domain.contracts import Category, Invariant, Severity, Table
from market_spine.domain.keys import WeekKey

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

UNIQUE_GRAIN = "unique_grain"


def judge(
    engine: DuckDBPyConnection, table: Table, invariants: Sequence[Invariant], keys: Collection[WeekKey]
) -> list[Finding]:
    """Every check of ``table`` for every partition in ``keys``; the rows are in the engine under the table's name."""
    findings = check_schema(table, engine, table.name, keys)
    for invariant in (unique_grain(table), *invariants):
        findings += _check(engine, table, invariant, keys)
    return findings


def check_names(invariants: Sequence[Invariant]) -> tuple[str, ...]:
    """The names that `judge` reports under, in its order."""
    return ("schema", UNIQUE_GRAIN, *(invariant.name for invariant in invariants))


def unique_grain(table: Table) -> Invariant:
    """No two rows of a partition share the grain."""
    key = "week_ending, tier" if table.by_tier else "week_ending"
    grain = ", ".join(table.grain)
    return Invariant(
        UNIQUE_GRAIN,
        f"one row per ({grain})",
        f"SELECT {key}, count(*) AS observed, 0 AS expected FROM "
        f"(SELECT {grain} FROM {table.name} GROUP BY {grain} HAVING count(*) > 1) GROUP BY {key}",
        Severity.CRITICAL,
        Category.CONSISTENCY,
    )


def _check(engine: DuckDBPyConnection, table: Table, invariant: Invariant, keys: Collection[WeekKey]) -> list[Finding]:
    relation = engine.execute(invariant.sql)
    names = [column[0] for column in relation.description or ()]
    violated: dict[WeekKey, dict[str, Any]] = {}
    for row in relation.fetchall():
        values = dict(zip(names, row, strict=True))
        tier = values["tier"] if table.by_tier else "ALL"
        violated[WeekKey.from_string(f"{tier}:{values['week_ending']}")] = values
    return [
        Finding(
            check=invariant.name,
            key=key,
            passed=key not in violated,
            severity=invariant.severity,
            category=invariant.category,
            actual=str(violated[key]["observed"]) if key in violated else "holds",
            expected=str(violated[key]["expected"]) if key in violated else invariant.description,
        )
        for key in keys
    ]
