"""Column lineage of a calculation: which input columns each output column is computed from, read from its SQL.

What belongs here: reading the SQL (sqlglot, dialect duckdb). What does not: asset keys and Dagster's lineage objects
(`assets`), and capture lineage, which the manifest records.

An output depends on the columns whose values it is made of, the divisor, the FILTER, the PARTITION BY and the ORDER BY
of its own expression included. Named WINDOWs are not followed: write OVER (...) out. Columns that only select rows
(JOIN, WHERE, GROUP BY) are not in the lineage, nor is the table ``wanted``, which selects partitions and is no input.
"""

from __future__ import annotations

from collections.abc import Mapping

from market_spine.domain.contracts import Calculation
from market_spine.domain.errors import CalculationError

DIALECT = "duckdb"
# Readable by calculations that look back, and no input of any.
WANTED = {"wanted": ("week_ending", "tier")}


def column_lineage(
    calculation: Calculation, tables: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[tuple[str, str], ...]]:
    """Output column -> sorted ((input table, column), ...), for every column of ``calculation``, in its order.

    ``tables`` names the columns of at least the calculation's inputs. CalculationError where the SQL reads a table or a
    column that is not there, or lacks a declared output column.
    """
    missing = sorted(set(calculation.inputs) - set(tables))
    if missing:
        raise CalculationError(
            f"the columns of {', '.join(missing)}, which {calculation.name} reads, are not known",
            "pass the columns of every input of the calculation",
        )
    known = {name: tables[name] for name in calculation.inputs} | WANTED
    schema: dict[str, object] = {name: dict.fromkeys(columns, "TEXT") for name, columns in known.items()}
    return _sources(calculation, schema, frozenset(calculation.inputs))


def _sources(
    calculation: Calculation, schema: dict[str, object], inputs: frozenset[str]
) -> dict[str, tuple[tuple[str, str], ...]]:
    """The leaves of the lineage tree of every output column; read at once, the SQL is parsed once."""
    from sqlglot import exp  # 0.14 s, for nothing in a run that a command starts
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage

    try:
        roots = lineage(None, calculation.sql, schema=schema, dialect=DIALECT, validate_qualify_columns=True)
    except SqlglotError as error:
        raise _unread(calculation, str(error)) from error
    found = {}
    for name in (column.name for column in calculation.table.columns):
        if (root := roots.get(name)) is None:
            raise _unread(calculation, f"the SQL has no column {name}")
        leaves = {
            (node.source.name, node.name.rpartition(".")[2].strip('"'))
            for node in root.walk()
            if isinstance(node.source, exp.Table)
        }
        found[name] = tuple(sorted(leaf for leaf in leaves if leaf[0] in inputs))
    return found


def _unread(calculation: Calculation, cause: str) -> CalculationError:
    return CalculationError(
        f"the lineage of {calculation.name} cannot be read: {cause}",
        f"compare the SQL and the declared columns in calculations/{calculation.name}.py",
    )
