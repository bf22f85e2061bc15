"""pandera schemas made from a table's column list, run on Arrow-backed pandas frames (no copy, no Decimal objects)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from functools import cache
from typing import TYPE_CHECKING, Any

from market_spine.checks.findings import SAMPLES, Finding
from market_spine.domain.contracts import Category, Column, Severity, Table
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa
    import pyarrow

CHECK = "schema"


def _checks(column: Column) -> list[pa.Check]:
    import pandera.pandas as pa

    bounds = {"ge": pa.Check.ge, "gt": pa.Check.gt, "le": pa.Check.le}
    checks = [make(value) for name, make in bounds.items() if (value := getattr(column, name)) is not None]
    return [*checks, pa.Check.isin(list(column.isin))] if column.isin else checks


@cache
def schema_of(table: Table) -> pa.DataFrameSchema:
    """The pandera schema of ``table``: its columns in order, no others, nulls and bounds as declared."""
    import pandera.pandas as pa

    columns = {
        column.name: pa.Column(checks=_checks(column), nullable=column.nullable, description=column.description)
        for column in table.columns
    }
    return pa.DataFrameSchema(columns, strict=True, ordered=True, name=table.name)


def check_schema(table: Table, rows: pyarrow.Table, keys: Collection[WeekKey]) -> list[Finding]:
    """One finding per partition in ``keys``: do its rows keep the declared columns, nulls and bounds?"""
    import pandas as pd
    import pandera.errors

    frame = rows.to_pandas(types_mapper=pd.ArrowDtype)
    failures: dict[WeekKey, list[dict[str, Any]]] = {}
    try:
        schema_of(table).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        failures = _by_partition(table, frame, error.failure_cases, keys)
    return [
        Finding(
            check=CHECK,
            key=key,
            passed=key not in failures,
            severity=Severity.CRITICAL,
            category=Category.BUSINESS_RULE,
            actual=f"{len(failures.get(key, []))} violations",
            expected="0 violations",
            details={"samples": failures[key][:SAMPLES]} if key in failures else {},
        )
        for key in keys
    ]


def _by_partition(
    table: Table, frame: pd.DataFrame, cases: pd.DataFrame, keys: Collection[WeekKey]
) -> dict[WeekKey, list[dict[str, Any]]]:
    found: dict[WeekKey, list[dict[str, Any]]] = {}
    for case in cases.to_dict("records"):
        what = {"column": case["column"], "check": str(case["check"]), "value": str(case["failure_case"])}
        index = case["index"]
        # A wrong column is nobody's row: it concerns every partition.
        concerned = keys if index is None or index != index else [_key_of(table, frame.iloc[int(index)])]
        for key in concerned:
            found.setdefault(key, []).append(what)
    return found


def _key_of(table: Table, row: pd.Series[Any]) -> WeekKey:
    week = row["week_ending"]
    return WeekKey(date.fromisoformat(str(week)[:10]), Tier(row["tier"]) if table.by_tier else None)
