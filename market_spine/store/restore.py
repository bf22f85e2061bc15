"""Putting a backup back into an empty home: every hash first, then the files, then the journal into the control tables.

What belongs here: refusing what is not whole or would be overwritten, and comparing the outcome with the record. What
does not: making backups, and what they say of themselves (`backup`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from market_spine.domain.errors import StoreError
from market_spine.store import journal
from market_spine.store.backup import COPIERS, OTHER, Item, Record, attempt, read_list, read_record
from market_spine.store.differences import Difference
from market_spine.store.files import copy, fsync_folder, make_folder, sha256_of, write_whole
from market_spine.store.ledger import apply
from market_spine.store.schema import BATCHES, JOURNALLED, MANIFEST
from market_spine.store.store import Store

NOT_OF_THE_HOME = "policies/"
TOP = "home/"  # in the backup; in the home such files lie at the top


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back; ``differences`` are things that are not as the backup's record has them."""

    record: Record
    captures: int
    current: int
    differences: list[Difference]


def restore(store: Store, folder: Path) -> Restored:
    """Put the backup in ``folder`` into the home of ``store``, which must be empty, as its control database must.

    The home is marked as unfinished before the first file and until `finish`; a restore that was cut short is repeated
    into the same home. StoreError, and nothing touched, where a file of the backup is missing or altered.
    """
    record = read_record(folder)
    items = read_list(folder, record)
    _refuse_used(store, record)
    _refuse_damage(folder, items)
    _mark(store, record)
    _bring_all(store, folder, items)
    with store.control.read() as connection:
        is_replayed = _newest(connection) == (record.seq, record.batch_id)
    if not is_replayed:
        _replay(store, items)
    captures = [one for one in items if one.capture_id]
    current = sum(1 for one in captures if one.is_current)
    return Restored(record, len(captures), current, list(_differences(store, record, captures)))


def finish(store: Store) -> None:
    """The home is whole: take its mark away."""
    store.home.unfinished.unlink()
    fsync_folder(store.home.root)


def _refuse_used(store: Store, record: Record) -> None:
    """A home or a control database that holds anything, but for what a restore of this very backup left there."""
    home = store.home
    is_begun = home.unfinished.exists()
    if is_begun and json.loads(home.unfinished.read_bytes()) != _named(record):
        raise StoreError(
            f"{home.unfinished} is of another backup, whose restore was cut short",
            "repeat that one, or name an empty folder: spine --home FOLDER restore BACKUP",
        )
    if home.root.is_dir() and not is_begun and (held := sorted(one.name for one in home.root.iterdir())):
        raise StoreError(
            f"the home {home.root} is not empty: {', '.join(held)}",
            "name an empty folder, or a new one: spine --home FOLDER restore BACKUP",
        )
    if is_begun or not store.control.files:  # asking a database that is a file would make it
        with store.control.read() as connection:
            held_batch = _newest(connection)
        if held_batch and not (is_begun and held_batch == (record.seq, record.batch_id)):
            raise StoreError(
                f"the control database {store.control} is not empty: it is at transaction {held_batch[0]}",
                "name an empty one in MARKET_SPINE_CONTROL_URL",
            )


def _newest(connection: sa.Connection) -> tuple[int, str] | None:
    """Number and id of the newest batch; None where there is none."""
    if not sa.inspect(connection).has_table(BATCHES.name):
        return None
    row = connection.execute(sa.select(BATCHES.c.seq, BATCHES.c.batch_id).order_by(BATCHES.c.seq.desc())).first()
    return (row.seq, row.batch_id) if row else None


def _refuse_damage(folder: Path, items: Sequence[Item]) -> None:
    with ThreadPoolExecutor(COPIERS) as pool:
        found = [one for one in pool.map(lambda item: _damage(folder, item), items) if one]
    if found:
        more = f"; {len(found) - 1} more files are missing or altered" if len(found) > 1 else ""
        raise StoreError(f"{found[0]}{more}", OTHER)


def _damage(folder: Path, item: Item) -> str:
    """What is wrong with a file of the backup; '' for nothing."""
    path = folder / item.path
    if not path.is_file():
        return f"{path} is missing"
    if (size := path.stat().st_size) != item.bytes:
        return f"{path} has {size:,} bytes, the backup's list says {item.bytes:,}"
    if (found := attempt(path, sha256_of, path)) != item.sha256:
        return f"{path} was altered: sha256 {found[:12]}..., the backup's list says {item.sha256[:12]}..."
    return ""


def _mark(store: Store, record: Record) -> None:
    mark = store.home.unfinished
    attempt(mark, make_folder, mark.parent)
    attempt(mark, lambda: write_whole(mark, json.dumps(_named(record)).encode()))


def _named(record: Record) -> dict[str, Any]:
    """What an unfinished home says of itself."""
    return {"seq": record.seq, "batch_id": record.batch_id, "backup_made_at": record.made_at}


def _bring_all(store: Store, folder: Path, items: Sequence[Item]) -> None:
    """Every file into the home. What an earlier try brought, whole, stays."""
    root = store.home.root

    def bring(item: Item) -> Path:
        target = root / item.path.removeprefix(TOP)
        if not (target.is_file() and sha256_of(target) == item.sha256):
            attempt(target, make_folder, target.parent)
            if target.parent == store.home.keys:
                target.parent.chmod(0o700)
            attempt(target, copy, folder / item.path, target)
        return target.parent

    with ThreadPoolExecutor(COPIERS) as pool:
        try:
            parents = {*pool.map(bring, [one for one in items if not one.path.startswith(NOT_OF_THE_HOME)])}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for parent in sorted(parents):
        fsync_folder(parent)


def _replay(store: Store, items: Sequence[Item]) -> None:
    """The journal into the control tables, in one transaction: all of it or nothing."""
    for path in (store.home.captures, store.home.journal):
        path.mkdir(parents=True, exist_ok=True)
    store.control.ensure()
    with store.control.write() as connection:
        for entry in journal.read(store.home.journal, JOURNALLED):
            apply(connection, entry)
        _name_files(connection, items)


def _name_files(connection: sa.Connection, items: Sequence[Item]) -> None:
    """A rebuild may have given files other names than those in the journal."""
    m = MANIFEST.c
    recorded = {row.capture_id: row for row in connection.execute(sa.select(m.capture_id, m.file_path, m.file_sha256))}
    moved: list[dict[str, Any]] = []
    for one in items:
        row, place = recorded.get(one.capture_id), one.path.removeprefix("captures/")
        if row is not None and (row.file_path, row.file_sha256) != (place, one.sha256):
            moved.append({"id": one.capture_id, "path": place, "sha256": one.sha256, "bytes": one.bytes})
    if moved:
        of_row = m.capture_id == sa.bindparam("id", type_=sa.String)
        named = (
            sa.update(MANIFEST)
            .where(of_row)
            .values(
                file_path=sa.bindparam("path", type_=sa.String),
                file_sha256=sa.bindparam("sha256", type_=sa.String),
                file_bytes=sa.bindparam("bytes", type_=sa.BigInteger),
            )
        )
        connection.execute(named, moved)


def _differences(store: Store, record: Record, captures: Sequence[Item]) -> Iterator[Difference]:
    """What the control tables come to, against the backup's record: captures, content hashes, rows per table."""
    m = MANIFEST.c
    with store.control.read() as connection:
        rows = connection.execute(sa.select(m.capture_id, m.content_hash, m.is_current))
        held = {row.capture_id: (row.content_hash, bool(row.is_current)) for row in rows}
        counts = {one.name: connection.scalar(sa.select(sa.func.count()).select_from(one)) or 0 for one in JOURNALLED}
    wanted = {one.capture_id: (one.content_hash, one.is_current) for one in captures}
    for name in sorted(held.keys() | wanted.keys()):
        if held.get(name) != wanted.get(name):
            detail = f"(content hash, current) is {held.get(name)}, the backup's record says {wanted.get(name)}"
            yield Difference("restore", name, detail, OTHER)
    for name, number in record.rows.items():
        if counts.get(name) != number:
            detail = f"{counts.get(name)} rows, the backup's record says {number}"
            yield Difference("restore", name, detail, OTHER)
