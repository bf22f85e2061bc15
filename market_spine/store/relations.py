"""Named relations over manifest-pruned file lists: one implementation for assets, commands and the published file.

What belongs here: making captures readable in DuckDB. What does not: choosing them (`manifest`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from market_spine.domain.contracts import Table
from market_spine.domain.sqltext import identifier, literal
from market_spine.store.files import path_columns
from market_spine.store.manifest import Capture

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# What every row carries besides its table's own columns, all from the manifest's row of its file.
PROVENANCE = ("capture_id", "captured_at", "computed_at", "calc_version", "revision", "execution_id", "batch_id")


def scan(chosen: Sequence[Capture], table: Table, root: Path, more: str = "") -> str:
    """SQL that reads capture files: the table's columns, and ``more``; typed and empty where there are no files."""
    if not chosen:
        columns = ", ".join(f"CAST(NULL AS {column.type}) AS {identifier(column.name)}" for column in table.columns)
        return f"SELECT {columns}{more and f', CAST(NULL AS VARCHAR) AS {more}'} WHERE false"
    listed = ", ".join(literal(str(root / capture.file_path)) for capture in chosen)
    given = path_columns(table)
    columns = f"{', '.join(given)}, * EXCLUDE ({', '.join(given)})" if given else "*"
    types = "{week_ending: DATE, tier: VARCHAR}"
    hive = f"hive_partitioning = true, hive_types = {types}" if given else "hive_partitioning = false"
    # Columns may differ between versions of a calculation; reading every footer for that is done only then.
    mixed = str(len({capture.calc_version for capture in chosen}) > 1).lower()
    return f"SELECT {columns}{more and f', {more}'} FROM read_parquet([{listed}], {hive}, union_by_name = {mixed})"


def scan_with_provenance(chosen: Sequence[Capture], table: Table, root: Path, manifest: str) -> str:
    """As `scan`, each row with the `PROVENANCE` that ``manifest`` (with a column ``file_path``) has for its file."""
    joined = ", ".join(f"m.{column}" for column in PROVENANCE)
    place = f"{literal(f'{root}/')} || m.file_path"
    return (
        f"SELECT t.* EXCLUDE (filename), {joined} "
        f"FROM ({scan(chosen, table, root, more='filename')}) t JOIN {manifest} m ON t.filename = {place}"
    )


def create_view(connection: DuckDBPyConnection, name: str, table: Table, chosen: Sequence[Capture], root: Path) -> None:
    """A view ``name`` over the files of ``chosen``: the table's columns, nothing joined."""
    connection.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS {scan(chosen, table, root)}")


def create_dated_view(
    connection: DuckDBPyConnection, name: str, table: Table, chosen: Sequence[Capture], root: Path
) -> None:
    """As `create_view`, each row with its capture's ``captured_at``, which DuckDB looks up once per file.

    Joining what all rows of a file share took half as long again as reading and summing them.
    """
    moments = ", ".join(f"{literal(str(root / one.file_path))}: '{one.captured_at}'" for one in chosen)
    moment = f"CAST(MAP {{{moments}}}[filename] AS TIMESTAMPTZ) AS captured_at"
    rows = f"SELECT * EXCLUDE (filename), {moment} FROM ({scan(chosen, table, root, more='filename')})"
    connection.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS {rows}")


def create_view_with_provenance(
    connection: DuckDBPyConnection, name: str, table: Table, chosen: Sequence[Capture], root: Path
) -> None:
    """As `create_view`, each row with the manifest's `PROVENANCE`."""
    captures = f"{name}__captures"
    register_captures(connection, captures, chosen)
    rows = scan_with_provenance(chosen, table, root, identifier(captures))
    connection.execute(f"CREATE OR REPLACE VIEW {identifier(name)} AS {rows}")


def register_captures(connection: DuckDBPyConnection, name: str, chosen: Sequence[Capture]) -> None:
    """A small table: `PROVENANCE` and file_path of ``chosen``."""
    import pyarrow as pa

    columns: Mapping[str, list[object]] = {
        column: [getattr(capture, column) for capture in chosen] for column in (*PROVENANCE, "file_path")
    }
    types = {"captured_at": pa.timestamp("us", "UTC"), "computed_at": pa.timestamp("us", "UTC"), "revision": pa.int32()}
    arrays = {column: pa.array(values, types.get(column, pa.string())) for column, values in columns.items()}
    connection.register("_captures", pa.table(arrays))
    connection.execute(f"CREATE OR REPLACE TABLE {identifier(name)} AS SELECT * FROM _captures")
    connection.unregister("_captures")
