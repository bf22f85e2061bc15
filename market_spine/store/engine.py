"""DuckDB, embedded: an in-memory engine per use, always closed. No file of DuckDB's is ever the truth."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from market_spine.domain.errors import StoreError
from market_spine.domain.sqltext import identifier

MEMORY_LIMIT = "2GB"  # a chunk of 2M rows needs about 1 GB; the rest of the process stays below 4 GiB in all


def config(threads: int | None = None, memory_limit: str = MEMORY_LIMIT) -> dict[str, Any]:
    """Connection settings, also given to dagster-duckdb's resource."""
    return {
        "threads": threads or os.cpu_count() or 1,
        "memory_limit": memory_limit,
        # The default is a folder .tmp wherever the process happens to stand.
        "temp_directory": str(Path(tempfile.gettempdir()) / "market_spine_spill"),
        # Results are sorted where order matters; keeping insertion order elsewhere costs memory.
        "preserve_insertion_order": "false",
        # Nothing is ever fetched from the network.
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }


def prepare(connection: duckdb.DuckDBPyConnection) -> None:
    """What can only be set on an open connection: moments are shown and cast in UTC, whatever the machine's zone."""
    connection.execute("SET TimeZone = 'UTC'")


# What DuckDB raises over spoilt bytes, found by spoiling them; and duckdb.Error itself, which has no class of its own.
# Two of them it raises over faults of its own as well, so that what is told of them leads on from files that are whole.
SPOILT = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException)


# What our own macros refuse is an invalid input as well, so that of these the words count.
WORDS = re.compile(r"\bfile\b|corrupt|bitpacked|byte sequence mismatch", re.IGNORECASE)


def damage_remedy(otherwise: str) -> str:
    """What to do about what `is_damage`, with what it came of where no file is damaged."""
    return f"spine verify  # names a damaged file; where all are whole, {otherwise}"


def is_damage(error: duckdb.Error) -> bool:
    """Whether ``error`` may come of a damaged file."""
    if isinstance(error, duckdb.InvalidInputException):
        return bool(WORDS.search(str(error)))
    return type(error) is duckdb.Error or isinstance(error, SPOILT)


@contextmanager
def in_words() -> Iterator[None]:
    """DuckDB's lack of memory and of room for its temporary files, and what it cannot read, as a StoreError."""
    spill = config()["temp_directory"]
    try:
        yield
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException) or spill in str(error):
            raise StoreError(
                f"DuckDB has no room left in memory, nor for its temporary files in {spill}:"
                f" {str(error).splitlines()[0]}",
                f"free space there (df -h {Path(spill).parent}), or set TMPDIR to a folder that has some; then repeat",
            ) from error
        if is_damage(error):
            raise StoreError(
                f"DuckDB failed as it does over a damaged capture file: {str(error).splitlines()[0]}",
                damage_remedy("it is a fault of the program's"),
            ) from error
        raise


@contextmanager
def connect(threads: int | None = None, memory_limit: str = MEMORY_LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory engine that is closed on every way out."""
    connection = duckdb.connect(":memory:", config=config(threads, memory_limit))
    try:
        prepare(connection)
        with in_words():
            yield connection
    finally:
        connection.close()


def clear(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop all tables and views: a new engine costs 20 ms and gives its memory back to the system only to ask again."""
    for kind, name in connection.execute("SELECT table_type, table_name FROM information_schema.tables").fetchall():
        connection.execute(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} IF EXISTS {identifier(name)}")
