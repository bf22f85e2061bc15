"""Named relations over manifest-pruned file lists: one implementation for assets, commands and the published file.

What belongs here: making captures readable in DuckDB. What does not: choosing them (`manifest`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from market_spine.domain.contracts import Table
from market_spine.domain.errors import StoreError
from market_spine.store.engine import identifier, literal
from market_spine.store.manifest import Capture

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# What every row carries besides its table's own columns; the first is stored in the file, the rest are the manifest's.
PROVENANCE = ("capture_id", "captured_at", "computed_at", "calc_version", "revision", "execution_id", "batch_id")


def scan(chosen: Sequence[Capture], table: Table, root: Path) -> str:
    """SQL that reads capture files as they are; typed and empty where there are none."""
    if not chosen:
        columns = ", ".join(f"CAST(NULL AS {column.type}) AS {identifier(column.name)}" for column in table.columns)
        return f"SELECT {columns}, CAST(NULL AS VARCHAR) AS capture_id WHERE false"
    listed = ", ".join(literal(str(root / capture.file_path)) for capture in chosen)
    # Columns may differ between versions of a calculation; reading every footer for that is done only then.
    mixed = str(len({capture.calc_version for capture in chosen}) > 1).lower()
    return f"SELECT * FROM read_parquet([{listed}], hive_partitioning = false, union_by_name = {mixed})"


def create_view(connection: DuckDBPyConnection, name: str, table: Table, chosen: Sequence[Capture], root: Path) -> None:
    """A view ``name`` over the files of ``chosen``: the table's columns and capture_id, nothing joined."""
    create_relation(connection, f"VIEW {identifier(name)} AS {scan(chosen, table, root)}")


def create_view_with_provenance(
    connection: DuckDBPyConnection, name: str, table: Table, chosen: Sequence[Capture], root: Path
) -> None:
    """As `create_view`, each row with the manifest's `PROVENANCE`."""
    register_captures(connection, f"{name}__captures", chosen)
    joined = ", ".join(f"m.{column}" for column in PROVENANCE[1:])
    create_relation(
        connection,
        f"VIEW {identifier(name)} AS SELECT t.*, {joined} "
        f"FROM ({scan(chosen, table, root)}) t JOIN {identifier(f'{name}__captures')} m USING (capture_id)",
    )


def create_relation(connection: DuckDBPyConnection, what: str) -> None:
    """CREATE OR REPLACE ``what``; DuckDB looks into the files now, so a lost one is found and named here."""
    try:
        connection.execute(f"CREATE OR REPLACE {what}")
    except duckdb.IOException as error:
        raise StoreError(f"a capture file cannot be read: {str(error).splitlines()[0]}", "spine verify") from error


def register_captures(connection: DuckDBPyConnection, name: str, chosen: Sequence[Capture]) -> None:
    """A small table with the manifest's side of `PROVENANCE`."""
    import pyarrow as pa

    columns: Mapping[str, list[object]] = {
        column: [getattr(capture, column) for capture in chosen] for column in PROVENANCE
    }
    types = {"captured_at": pa.timestamp("us", "UTC"), "computed_at": pa.timestamp("us", "UTC"), "revision": pa.int32()}
    arrays = {column: pa.array(values, types.get(column, pa.string())) for column, values in columns.items()}
    connection.register("_captures", pa.table(arrays))
    connection.execute(f"CREATE OR REPLACE TABLE {identifier(name)} AS SELECT * FROM _captures")
    connection.unregister("_captures")
