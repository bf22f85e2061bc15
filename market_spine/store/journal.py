"""The journal: one file per control transaction, holding exactly the rows that it inserted and the flags it moved.

It lies in landing beside the bytes, so that landing alone can rebuild every capture and every control row. An entry is
written while the write lock is held, after the rows were accepted and right before the commit; a crash between the two
leaves one entry whose number the next transaction takes again, and which is set aside then. So the journal equals the
committed history.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import zstandard
from sqlalchemy import Table

from market_spine.domain.errors import StoreError, unwritable
from market_spine.store.columns import Moment, moment_of, moment_text
from market_spine.store.files import fsync_folder, make_folder, whole

PER_FOLDER = 1000


FLAGS = ("superseded", "overwritten", "revived")


@dataclass(frozen=True, slots=True)
class Entry:
    """One transaction: inserted rows per table, and the captures that went, were overwritten or came back."""

    seq: int
    batch_id: str
    rows: dict[str, list[dict[str, Any]]]
    superseded: list[str] = field(default_factory=list)
    overwritten: list[str] = field(default_factory=list)
    revived: list[str] = field(default_factory=list)


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value)} has no journal form")


def write(folder: Path, entry: Entry) -> Path:
    """Write ``entry`` durably; an entry of the same number is the left-over of a transaction that never committed.

    StoreError where the journal goes on after that number: then it is the history of another (lost) control database.
    """
    _refuse_longer_history(folder, entry.seq)
    payload = {
        "seq": entry.seq,
        "batch_id": entry.batch_id,
        "rows": {name: rows for name, rows in entry.rows.items() if rows},
        "superseded": entry.superseded,
        "overwritten": entry.overwritten,
        "revived": entry.revived,
    }
    text = json.dumps(payload, default=_text, sort_keys=True)
    data = zstandard.ZstdCompressor(write_checksum=True).compress(text.encode())
    path = path_of(folder, entry.seq, entry.batch_id)
    try:
        _write_aside(path, data, entry.seq)
    except OSError as error:
        raise unwritable(path, folder, error) from error
    return path


def path_of(folder: Path, seq: int, batch_id: str) -> Path:
    """The file of an entry."""
    return _place(folder, seq) / f"{seq:010d}-{batch_id}.json.zst"


def _place(folder: Path, seq: int) -> Path:
    return folder / f"{seq // PER_FOLDER:06d}"


def _refuse_longer_history(folder: Path, seq: int) -> None:
    for later in _place(folder, seq + 1).glob(f"{seq + 1:010d}-*.json.zst"):
        raise StoreError(
            f"the control database is at transaction {seq}, the journal already has {later.name}",
            "point MARKET_SPINE_CONTROL_URL at the database that this home belongs to, or restore it: spine rebuild",
        )


def _write_aside(path: Path, data: bytes, seq: int) -> None:
    make_folder(path.parent)
    for half in path.parent.glob(f"{seq:010d}-*.tmp"):
        half.unlink()
    for left_over in path.parent.glob(f"{seq:010d}-*.zst"):
        # Never committed here; kept under a name that nobody reads, should the database be an older one put back.
        left_over.rename(left_over.with_suffix(".orphan"))
    with whole(path, aside=path.with_suffix(".tmp")) as stream:
        stream.write(data)
    fsync_folder(path.parent)


def written(folder: Path) -> dict[int, str]:
    """Number -> batch id of every entry, as their names say; none is opened."""
    names = (path.name.partition(".")[0].partition("-") for path in folder.glob("*/*.json.zst"))
    return {int(seq): batch_id for seq, _, batch_id in names}


def read(folder: Path, tables: tuple[Table, ...], after: int = 0) -> Iterator[Entry]:
    """All entries in order, or those behind number ``after``; a gap or a damaged entry is an error that names it."""
    expected = after + 1
    for path in sorted(one for one in folder.glob("*/*.json.zst") if int(one.name.partition("-")[0]) > after):
        try:
            payload = json.loads(zstandard.decompress(path.read_bytes()))
        # MemoryError: a flipped bit in the frame's header can announce any size.
        except (ValueError, MemoryError, zstandard.ZstdError) as error:
            raise StoreError(f"journal entry {path} is damaged: {error}", "restore the file from a backup") from error
        if payload["seq"] != expected:
            raise StoreError(
                f"journal entry {expected} is missing; the next one is {path.name}", "restore the file from a backup"
            )
        expected += 1
        rows = {table.name: [_typed(table, row) for row in payload["rows"].get(table.name, [])] for table in tables}
        yield Entry(payload["seq"], payload["batch_id"], rows, *(payload[flag] for flag in FLAGS))


def _typed(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    typed = dict(row)
    for column in table.c:
        value = typed.get(column.name)
        if value is None:
            continue
        if isinstance(column.type, Moment):
            typed[column.name] = moment_of(value)
        elif column.type.__visit_name__ == "date":
            typed[column.name] = date.fromisoformat(value)
    return typed
