"""Copies of a store, taken while it is written to: what cannot be made again, up to one committed transaction.

    backup.json            what the backup is of; written last, by rename: a killed backup has none, or its older one
    files-SEQ-HASH.jsonl   every file: path, bytes, sha256; of a capture also id, content hash, whether it is current
    landing/ captures/     as in the home
    keys/ policies/        public keys (the signing key on demand); the policies that were in force, to be compared with

What belongs here: writing a backup, and reading what it says of itself. What does not: putting it back (`restore`).

Of the control database nothing is copied: the journal up to that transaction comes to the same rows. Files never change
once they have their name, so that one which is there with its recorded hash is not copied again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import sqlalchemy as sa

from market_spine.domain.errors import MigrationError, StoreError
from market_spine.store import journal
from market_spine.store.control import migrations
from market_spine.store.differences import Difference
from market_spine.store.files import copy, fsync_folder, make_folder, sha256_of, write_whole
from market_spine.store.home import Home
from market_spine.store.schema import BATCHES, JOURNALLED, MANIFEST
from market_spine.store.store import Store
from market_spine.store.turns import turn

FORMAT = 1
RECORD, LISTS = "backup.json", "files-*.jsonl"
PARTS = ("captures", "home", "keys", "landing", "policies")
COPIERS = 2  # one reads while the other waits for the disk
OTHER = "use another copy of the backup; where the store still is, make a new one in an empty folder"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a backup, by its path below the folder. Captures have the last three too."""

    path: str
    bytes: int
    sha256: str
    capture_id: str = ""
    content_hash: str = ""
    is_current: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What backup.json says. ``store`` is the store's first batch: two backups of one store have it in common."""

    format: int = FORMAT
    version: str
    migrations: list[str]
    store: str
    seq: int
    batch_id: str
    committed_at: str | None
    made_at: str
    has_secrets: bool
    files: int
    bytes: int
    list: str
    list_sha256: str
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was committed at one moment: batches by number, the manifest's rows, rows per table."""

    batches: dict[int, str]
    committed_at: datetime | None
    captures: list[dict[str, Any]]
    rows: dict[str, int]

    @property
    def seq(self) -> int:
        return max(self.batches, default=0)


@dataclass(frozen=True, slots=True)
class Source:
    """A file to be in the backup: where it is now, or what it is; its hash where that is on record."""

    item: Item
    path: Path
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A backup as it was written now."""

    record: Record
    captures: int
    current: int
    copied: int
    copied_bytes: int


def backup(
    store: Store,
    folder: Path,
    made_at: datetime,
    version: str,
    secrets: Collection[Path],
    policies: Mapping[str, bytes],
    has_secrets: bool,
    check: Callable[[Path], Sequence[Difference]],
) -> Made:
    """Bring ``folder`` up to what ``store`` has committed, or make it there.

    ``secrets`` are copied with ``has_secrets`` only; ``check`` looks at the landing as it was copied. StoreError, and
    no new backup.json, where anything is missing, altered or cannot be written, or the folder is of another store.
    """
    _refuse_place(store.home, folder)
    attempt(folder, make_folder, folder)
    if has_secrets:
        attempt(folder, lambda: folder.chmod(0o700))
    with turn(folder, f"the backup in {folder}"):
        earlier = read_record(folder) if (folder / RECORD).exists() else None
        known = {one.path: one for one in read_list(folder, earlier)} if earlier else {}
        snapshot = _snapshot(store)
        _refuse_other_store(folder, earlier, snapshot)
        _refuse_forgotten_secrets(folder, store.home, secrets, has_secrets)
        sources = [*_sources(store.home, snapshot, known, secrets if has_secrets else ())]
        sources += [_policy(folder, name, data) for name, data in sorted(policies.items())]
        items, copied = _bring_all(folder, sources)
        for _ in journal.read(Home(folder).journal, ()):
            pass  # a gap, or an entry that cannot be read, is an error of its own
        for wrong in check(Home(folder).landing):
            raise StoreError(f"{wrong.name}: {wrong.detail}", wrong.remedy)
        record = _record(folder, snapshot, items, made_at, version, has_secrets)
        _seal(folder, record)
    of_captures = [one for one in items if one.capture_id]
    current = sum(1 for one in of_captures if one.is_current)
    return Made(record, len(of_captures), current, len(copied), sum(one.bytes for one in copied))


def _refuse_place(home: Home, folder: Path) -> None:
    one, other = folder.resolve(), home.root.resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        text = f"{folder} and the home {home.root} lie within each other"
        raise StoreError(text, "name a folder on another disk: spine backup X")
    if folder.is_dir() and not (folder / RECORD).exists():
        known = (*PARTS, "lost+found", "files-*.jsonl", ".*.tmp")
        if strange := [one for one in folder.iterdir() if not any(map(one.match, known))]:
            text = f"{folder} is no backup, and is not empty: {strange[0].name}"
            raise StoreError(text, "name an empty folder, or a new one")


def _snapshot(store: Store) -> Snapshot:
    m = MANIFEST.c
    wanted = (m.capture_id, m.file_path, m.file_sha256, m.file_bytes, m.content_hash, m.is_current)
    with store.control.read() as connection:
        batches = connection.execute(sa.select(BATCHES.c.seq, BATCHES.c.batch_id)).all()
        captures = [dict(row) for row in connection.execute(sa.select(*wanted).order_by(m.file_path)).mappings()]
        rows = {one.name: connection.scalar(sa.select(sa.func.count()).select_from(one)) or 0 for one in JOURNALLED}
        last = connection.scalar(sa.select(BATCHES.c.committed_at).order_by(BATCHES.c.seq.desc()).limit(1))
    return Snapshot({row.seq: row.batch_id for row in batches}, last, captures, rows)


def _refuse_other_store(folder: Path, earlier: Record | None, snapshot: Snapshot) -> None:
    if earlier and earlier.seq and snapshot.batches.get(earlier.seq) != earlier.batch_id:
        raise StoreError(
            f"{folder} is the backup of another store, or of a later state of this one (transaction {earlier.seq})",
            "name another folder",
        )


def _refuse_forgotten_secrets(folder: Path, home: Home, secrets: Collection[Path], has_secrets: bool) -> None:
    """A secret that an earlier backup took along would lie in the folder, and no record would say so."""
    for path in () if has_secrets else secrets:
        if (left := folder / _place(home, path)).exists():
            raise StoreError(
                f"{left} is a secret of an earlier backup --with-secrets",
                f"repeat with --with-secrets, or remove it: rm {left}",
            )


def _place(home: Home, path: Path) -> str:
    """Where a file of the home goes: what lies beside the folders of the home goes into home/."""
    relative = path.relative_to(home.root)
    return (relative if len(relative.parts) > 1 else Path("home") / relative).as_posix()


def _sources(home: Home, snapshot: Snapshot, known: Mapping[str, Item], secrets: Collection[Path]) -> Iterator[Source]:
    for row in snapshot.captures:
        item = Item(
            f"captures/{row['file_path']}",
            row["file_bytes"],
            row["file_sha256"],
            row["capture_id"],
            row["content_hash"],
            bool(row["is_current"]),
        )
        yield Source(item, home.captures / row["file_path"])
    entries = [journal.path_of(home.journal, seq, batch_id) for seq, batch_id in sorted(snapshot.batches.items())]
    # Sidecars first: what one of them names was there before it was.
    sidecars = sorted((home.landing / "deliveries").rglob("*.json"))
    objects = sorted((home.landing / "objects").rglob("*.zst"))
    for path in (*entries, *sidecars, *objects):
        place = _place(home, path)
        yield Source(known.get(place) or Item(place, 0, ""), path)
    public = [path for path in sorted(home.keys.glob("[!.]*")) if path not in secrets]
    for path in (*public, *(path for path in secrets if path.exists())):
        if path in secrets or path.name.endswith(".pub.pem"):
            yield Source(Item(_place(home, path), 0, ""), path)


def _policy(folder: Path, name: str, data: bytes) -> Source:
    """Policies come with the code, in whatever form it is installed."""
    place = f"policies/{name}"
    return Source(Item(place, len(data), hashlib.sha256(data).hexdigest()), folder / place, data)


def _bring_all(folder: Path, sources: Sequence[Source]) -> tuple[list[Item], list[Item]]:
    """Every source's file as it is in the folder now, and those of them that were copied for it."""
    with ThreadPoolExecutor(COPIERS) as pool:
        try:
            found = [*pool.map(lambda one: _bring(folder, one), sources)]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    copied = [item for item, was_copied in found if was_copied]
    for parent in sorted({(folder / one.path).parent for one in copied}):
        attempt(parent, fsync_folder, parent)
    return [item for item, _ in found], copied


def _bring(folder: Path, source: Source) -> tuple[Item, bool]:
    item, target = source.item, folder / source.item.path
    wanted = item.sha256
    if target.is_file():
        wanted = wanted or attempt(source.path, sha256_of, source.path)
        if attempt(target, sha256_of, target) == wanted:
            return replace(item, sha256=wanted, bytes=target.stat().st_size), False
    attempt(target, make_folder, target.parent)
    if source.data is not None:
        attempt(target, lambda: write_whole(target, source.data or b""))
        return item, True
    found = attempt(target, copy, source.path, target)
    if wanted and found != wanted:
        target.unlink()
        raise StoreError(
            f"{source.path} was altered: sha256 {found[:12]}..., on record is {wanted[:12]}...",
            "spine verify  # says what else is; then mend it as it advises, and repeat",
        )
    if (read := sha256_of(target)) != found:
        raise StoreError(f"{target} reads back as sha256 {read[:12]}..., written was {found[:12]}...", "check the disk")
    return replace(item, sha256=found, bytes=target.stat().st_size), True


def attempt(path: Path, action: Callable[..., T], *args: Path) -> T:
    """What ``action`` gives; what the system refuses, as a StoreError that names the file."""
    try:
        return action(*args)
    except FileNotFoundError as error:
        raise StoreError(f"{error.filename or path} is missing", "spine verify; then repeat") from error
    except OSError as error:
        raise StoreError(
            f"cannot write or read {error.filename or path}: {error.strerror}",
            "free space there, or mend the folder, then repeat: what is there already is not copied again",
        ) from error


def _record(
    folder: Path, snapshot: Snapshot, items: Sequence[Item], made_at: datetime, version: str, has_secrets: bool
) -> Record:
    """Write the list of files, and say what the backup is."""
    text = "".join(f"{json.dumps(asdict(one), sort_keys=True)}\n" for one in items)
    digest = hashlib.sha256(text.encode()).hexdigest()
    name = f"files-{snapshot.seq:010d}-{digest[:12]}.jsonl"
    attempt(folder / name, lambda: write_whole(folder / name, text.encode()))
    return Record(
        version=version,
        migrations=[migration_id for migration_id, _ in migrations()],
        store=snapshot.batches.get(1, ""),
        seq=snapshot.seq,
        batch_id=snapshot.batches.get(snapshot.seq, ""),
        committed_at=snapshot.committed_at.isoformat() if snapshot.committed_at else None,
        made_at=made_at.isoformat(),
        has_secrets=has_secrets,
        files=len(items),
        bytes=sum(one.bytes for one in items),
        list=name,
        list_sha256=digest,
        rows=snapshot.rows,
    )


def _seal(folder: Path, record: Record) -> None:
    body = asdict(record)
    data = json.dumps({"backup": body, "sha256": _digest(body)}, indent=2).encode()
    attempt(folder / RECORD, lambda: write_whole(folder / RECORD, data))
    for path in folder.glob(LISTS):
        if path.name != record.list:
            path.unlink()


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path) -> Record:
    """What ``folder`` is the backup of; StoreError where it is none, not whole, or of a newer version of the code."""
    path = folder / RECORD
    if not path.is_file():
        if not folder.is_dir():
            raise StoreError(f"there is no folder {folder}", "name the folder of a backup")
        raise StoreError(
            f"{folder} is no complete backup: {RECORD} is missing",
            "name another folder; what was cut short is completed by repeating it, with the home that it is of",
        )
    try:
        content = json.loads(path.read_bytes())
        body, digest = content["backup"], content["sha256"]
        if body["format"] > FORMAT:
            raise StoreError(
                f"{path} is of market-spine {body['version']}, in format {body['format']}; this code knows {FORMAT}",
                f"install market-spine {body['version']}, then repeat",
            )
        if _digest(body) != digest:
            raise StoreError(f"{path} was altered: its sha256 is not the one that it names", OTHER)
        record = Record(**body)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is damaged: {error}", OTHER) from error
    known = {migration_id for migration_id, _ in migrations()}
    if strange := [one for one in record.migrations if one not in known]:
        raise MigrationError(
            f"{path} has migration {strange[0]} (market-spine {record.version}), which this code does not know",
            "update the code (git pull, then install again), then repeat",
        )
    return record


def read_list(folder: Path, record: Record) -> list[Item]:
    """Every file of the backup; StoreError where the list is lost, altered, or names a place outside of the folder."""
    path = folder / record.list
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} is missing or cannot be read: {error.strerror}", OTHER) from error
    if hashlib.sha256(data).hexdigest() != record.list_sha256:
        raise StoreError(f"{path} was altered or cut short: its sha256 is not the one in {RECORD}", OTHER)
    items = [Item(**json.loads(line)) for line in data.splitlines()]
    for one in items:
        parts = PurePosixPath(one.path).parts
        if parts[0] not in PARTS or ".." in parts:
            raise StoreError(f"{path} names {one.path}, which is no place of a store", OTHER)
    return items
