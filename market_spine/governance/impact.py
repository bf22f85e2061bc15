"""What depends on a table or a column: if it changes, what else does?

What belongs here: following tables and columns through the calculations. What does not: reading lineage off the SQL
(`domain.lineage`), and which partitions are out of date (`staleness`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from market_spine.governance.staleness import Derived

Field = tuple[str, str]  # SQL table name, column
Lineage = Mapping[str, Mapping[str, tuple[Field, ...]]]  # table -> column -> the columns that it is computed from


@dataclass(frozen=True, slots=True)
class Dependent:
    """A table that depends on what was asked about.

    ``through`` names those of its inputs that are it, or depend on it; ``columns`` those of its columns whose values
    come from it, each with the columns that bring them. A table without such columns is there because of its rows:
    column lineage covers the values of a column, and not which rows are joined, kept or grouped by it.
    """

    table_name: str
    through: tuple[str, ...]
    weeks_back: int
    columns: Mapping[str, tuple[Field, ...]]


def dependents(
    derived: Sequence[Derived], lineage: Lineage, table_name: str, columns: Collection[str]
) -> list[Dependent]:
    """Every table that depends on ``columns`` of ``table_name``, directly or through others, in the order of making."""
    tables = {table_name}
    fields = {(table_name, column) for column in columns}
    found = []
    for one in derived:
        through = tuple(entry.sql_name for entry in one.inputs if entry.sql_name in tables)
        if not through:
            continue
        tables.add(one.table_name)
        brought = {
            column: tuple(source for source in sources if source in fields)
            for column, sources in lineage[one.table_name].items()
        }
        reached = {column: sources for column, sources in brought.items() if sources}
        fields.update((one.table_name, column) for column in reached)
        found.append(Dependent(one.table_name, through, one.calculation.weeks_back, reached))
    return found
