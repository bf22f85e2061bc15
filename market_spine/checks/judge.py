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
    twice = {} if _is_unique(engine, table) else _violated(engine, table, unique_grain(table))
    findings += _findings(unique_grain(table), twice, keys)
    for invariant in invariants:
        findings += _findings(invariant, _violated(engine, table, invariant), keys)
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


def _is_unique(engine: DuckDBPyConnection, table: Table) -> bool:
    """Whether no two rows have one hash of the grain, so that none have one grain.

    To hash and sort takes half of grouping. In 1.5M rows two hashes meet by chance once in 10 million runs; then
    the rows decide.
    """
    numbers: Any = engine.execute(f"SELECT hash({', '.join(table.grain)}) AS n FROM {table.name}").fetchnumpy()["n"]
    numbers.sort()
    return not (numbers[1:] == numbers[:-1]).any()


def _violated(engine: DuckDBPyConnection, table: Table, invariant: Invariant) -> dict[WeekKey, dict[str, Any]]:
    """What the law's SQL reports, by partition."""
    relation = engine.execute(invariant.sql)
    names = [column[0] for column in relation.description or ()]
    violated: dict[WeekKey, dict[str, Any]] = {}
    for row in relation.fetchall():
        values = dict(zip(names, row, strict=True))
        tier = values["tier"] if table.by_tier else "ALL"
        violated[WeekKey.from_string(f"{tier}:{values['week_ending']}")] = values
    return violated


def _findings(
    invariant: Invariant, violated: dict[WeekKey, dict[str, Any]], keys: Collection[WeekKey]
) -> list[Finding]:
    return [_violation(invariant, key, violated[key]) if key in violated else _holds(invariant, key) for key in keys]


def _holds(invariant: Invariant, key: WeekKey) -> Finding:
    expected = invariant.description
    return Finding(invariant.name, key, True, invariant.severity, invariant.category, "holds", expected)


def _violation(invariant: Invariant, key: WeekKey, values: dict[str, Any]) -> Finding:
    observed, expected = _shown(values["observed"]), _shown(values["expected"])
    is_count = isinstance(values["observed"], int) and expected == 0
    return Finding(
        invariant.name,
        key,
        passed=False,
        severity=invariant.severity,
        category=invariant.category,
        actual=str(observed),
        expected=str(expected),
        message=invariant.message.format(observed=observed, expected=expected),
        affected=observed if is_count else None,
    )


def _shown(value: Any) -> Any:
    """Laws report DOUBLEs; a whole one reads better without its point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
