"""Is everything that the manifest promises there, whole and unaltered? Names each thing that is not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from market_spine.domain.captures import View
from market_spine.domain.errors import StoreError
from market_spine.store import journal, manifest
from market_spine.store.columns import METADATA, REBUILD
from market_spine.store.differences import RESTORE, Difference, Rows, compare, rows_of
from market_spine.store.exchange import last_batch
from market_spine.store.files import sha256_of
from market_spine.store.ledger import apply
from market_spine.store.manifest import Capture, Question, captures
from market_spine.store.schema import BATCHES, JOURNALLED
from market_spine.store.store import Store

READERS = 2
CAPTURE = "capture"  # the kind of a difference that is named by a capture's id
SHOWN = 5  # of the lines in which SQLite tells what is wrong
BACKUP = "restore the landing folder from a backup; until then a rebuild would lose this batch"


def verify(store: Store) -> list[Difference]:
    """Every capture file's bytes and rows against the manifest, and every control row against the journal."""
    with store.control.read() as connection:
        live = rows_of(connection)  # first: it says which row cannot be read
        held = captures(connection, Question(tuple(manifest.tables(connection)), View.ALL_REVISIONS))
    with ThreadPoolExecutor(READERS) as pool:
        found = [one for one in pool.map(lambda one: check_file(one, store.home.captures), held) if one]
    return [*_check_database(store), *found, *_check_journal(store, live)]


def _check_database(store: Store) -> list[Difference]:
    """What SQLite finds in its own pages: damage of an index shows nowhere else, until something is written."""
    if store.control.is_postgres:
        return []
    with store.control.read() as connection:
        said = connection.exec_driver_sql(f"PRAGMA integrity_check({SHOWN})").scalars().all()
    return [Difference("control", str(store.control.files[0]), one, REBUILD) for one in said if one != "ok"]


def check_file(capture: Capture, root: Path) -> Difference | None:
    """What is wrong with one capture's file, if anything."""
    path = root / capture.file_path
    try:
        return _differs(capture, path)
    except OSError as error:
        return Difference(CAPTURE, capture.capture_id, f"{path}: cannot be read: {error.strerror}", REBUILD)


def _differs(capture: Capture, path: Path) -> Difference | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def differs(detail: str) -> Difference:
        return Difference(CAPTURE, capture.capture_id, f"{path}: {detail}", REBUILD)

    if not path.is_file():
        return differs("the file is missing")
    if path.stat().st_size != capture.file_bytes:
        return differs(f"{path.stat().st_size} bytes, the manifest says {capture.file_bytes}")
    if (found := sha256_of(path)) != capture.file_sha256:
        return differs(f"sha256 {found[:12]}..., the manifest says {capture.file_sha256[:12]}...")
    try:
        rows = pq.read_metadata(path).num_rows
    except pa.ArrowInvalid as error:
        return differs(f"not a Parquet file: {error}")
    if rows != capture.row_count:
        return differs(f"{rows} rows, the manifest says {capture.row_count}")
    return None


def _check_journal(store: Store, live: Rows) -> list[Difference]:
    """Batches that the journal has not, or that only it has; or, where it has all, control rows that are not what its
    entries come to."""
    batches = {row["seq"]: row["batch_id"] for row in live[BATCHES.name].values()}
    recorded = {}
    engine = sa.create_engine("sqlite://")
    try:
        with engine.begin() as replayed:
            METADATA.create_all(replayed)
            for entry in journal.read(store.home.journal, JOURNALLED):
                recorded[entry.seq] = entry.batch_id
                if batches.get(entry.seq) == entry.batch_id:  # not what was committed meanwhile
                    apply(replayed, entry)
            lost = [
                Difference("journal", f"batch {seq}", f"committed as {one}, the journal has {has}", BACKUP)
                for seq, one in batches.items()
                if (has := recorded.get(seq, "nothing")) != one
            ]
            lost += beyond(store, max(recorded, default=0))
            return lost or list(compare(live, rows_of(replayed), "journal", "control", RESTORE))
    except StoreError as error:  # a damaged entry must not hide what else was found
        return [Difference("journal", store.home.journal.name, error.cause, error.remedy)]
    finally:
        engine.dispose()


def beyond(store: Store, ending: int) -> list[Difference]:
    """Whether the journal, which was read to the number ``ending``, goes on where the control database ends.

    Then an older database was put back. One entry more is what a kill between journal and commit leaves.
    """
    newest = last_batch(store)  # after the journal: what is committed meanwhile is in both
    if ending <= newest + 1:
        return []
    detail = f"it goes on to transaction {ending}, the control database ends at {newest}"
    return [Difference("journal", store.home.journal.name, detail, RESTORE)]
