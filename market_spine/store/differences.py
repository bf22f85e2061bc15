"""What is not as recorded; and the control tables of two stores, or of a store and its journal, compared row by row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from market_spine.domain.errors import DamageError
from market_spine.store.columns import REBUILD
from market_spine.store.schema import JOURNALLED, MANIFEST

# What a rebuild may write anew; everything else of a capture is the same or one of the two is wrong.
FILE_COLUMNS = {"file_path", "file_sha256", "file_bytes"}
MOVE = "move the control database away"
RESTORE = f"{MOVE}, then: spine rebuild  # makes it again from the journal"
Key = tuple[Any, ...]
Rows = dict[str, dict[Key, dict[str, Any]]]  # by table and primary key


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as recorded: its kind, its name, what is wrong, and the next command."""

    kind: str
    name: str
    detail: str
    remedy: str


def rows_of(connection: sa.Connection) -> Rows:
    """Every row of the journalled tables; DamageError for one that is not what a column says."""
    found: Rows = {}
    for table in JOURNALLED:
        kept = [column for column in table.c if table is not MANIFEST or column.name not in FILE_COLUMNS]
        names = [column.name for column in table.primary_key]
        try:
            rows = [dict(row) for row in connection.execute(sa.select(*kept)).mappings()]
        except ValueError as error:  # text where a date stands
            raise DamageError(f"a row of {table.name} cannot be read: {error}", REBUILD) from error
        found[table.name] = {tuple(row[name] for name in names): row for row in rows}
    return found


def compare(live: Rows, other: Rows, where: str, kind: str, remedy: str) -> Iterator[Difference]:
    """Rows that the live store has and the ``other`` one, which is called ``where``, has not, or has otherwise."""
    for table, ours in live.items():
        theirs = other[table]
        for key in sorted(ours.keys() | theirs.keys(), key=str):
            if key not in theirs:
                detail = f"is in the live store, not in the {where}"
            elif key not in ours:
                detail = f"is in the {where}, not in the live store"
            elif ours[key] != theirs[key]:
                changed = [column for column in ours[key] if ours[key][column] != theirs[key][column]]
                detail = f"the {where} has another {', '.join(changed)}"
            else:
                continue
            yield Difference(kind, f"{table} {'/'.join(map(str, key))}", detail, remedy)
