"""Comparing a shadow store with the live one, and exchanging them: files first, then all control rows at once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path

import sqlalchemy as sa

from market_spine.domain.errors import DamageError, MeanwhileError, StoreError
from market_spine.store import differences, journal
from market_spine.store.columns import METADATA
from market_spine.store.control import exchanging, migrations, upgrade
from market_spine.store.differences import Difference, rows_of
from market_spine.store.files import fsync_folder, link_or_copy, make_folder, write_whole
from market_spine.store.ledger import newest_seq
from market_spine.store.schema import BATCHES, JOURNALLED, MANIFEST
from market_spine.store.store import Store

MEANWHILE = ("the store was written to while it was rebuilt", "run spine rebuild again")
KEEP = "keep the live store; see which of the two is right with: spine captures show CAPTURE_ID"


def compare(live: Store, shadow: Store) -> list[Difference]:
    """Rows of the control tables that one store has and the other has not, or has otherwise."""
    with live.control.read() as ours, shadow.control.read() as theirs:
        return list(differences.compare(rows_of(ours), rows_of(theirs), "rebuilt store", "rebuild", KEEP))


def last_batch(live: Store) -> int:
    """The number of the newest committed batch; 0 for none."""
    with live.control.read() as connection:
        return newest_seq(connection)


def ailment(live: Store) -> str:
    """Why the live control rows are nothing to compare with: lost, empty, damaged or an older state; '' if sound.

    Landing and its journal hold all that such a database held, so that it can be made anew.
    """
    if live.control.files and not live.control.files[0].exists():  # before a look makes an empty one
        return "the control database is lost"
    try:
        with live.control.read() as connection:
            if not live.control.is_postgres:
                verdict = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
                if verdict != "ok":
                    return f"the control database is damaged: {verdict}"
            if not sa.inspect(connection).has_table(BATCHES.name):
                return "the control database is lost"
            batches = rows_of(connection)[BATCHES.name].values()  # of every table: each row must be readable
            held = {row["seq"]: row["batch_id"] for row in batches}
            return _shortened(held, journal.written(live.home.journal))
    except DamageError as error:
        return error.cause


def _shortened(held: Mapping[int, str], written: Mapping[int, str]) -> str:
    """Whether a database only lacks the journal's end, in words. One entry is what a kill before a commit leaves."""
    if not held:
        return "the control database is empty"
    last = max(held)
    if max(written, default=0) > last + 1 and held.items() <= written.items():
        return f"the control database ends at transaction {last}, the journal goes on to {max(written)}"
    return ""


def swap(live: Store, shadow: Store, is_ailing: bool) -> Path | None:
    """Put the shadow's files beside the live ones and put its rows in the place of the live rows, in one transaction.

    The old files stay until `gc`: whoever reads them now finishes. A kill before the transaction leaves loose files.
    MeanwhileError, and no row changed, where the live store has a batch that the shadow has not; to be called again.
    Of a database that ``is_ailing`` no row is taken over; a file is kept as a whole, under the name that is given back.
    """
    with shadow.control.read() as connection:
        rows = {table: [dict(row) for row in connection.execute(sa.select(table)).mappings()] for table in JOURNALLED}
    for row in rows[MANIFEST]:
        source, target = shadow.home.captures / row["file_path"], live.home.captures / row["file_path"]
        if not source.is_file():
            raise StoreError(f"the rebuilt file {source} is gone", "run spine rebuild again")
        if target.is_file():  # by an earlier call
            continue
        make_folder(target.parent)
        link_or_copy(source, target)  # the shadow keeps it too: a replay that goes on reads it there
        fsync_folder(target.parent)
    last = max((row["seq"] for row in rows[BATCHES]), default=0)
    if is_ailing and not live.control.is_postgres:
        return _put_in_place(live, shadow, last)
    with live.control.write() as connection:
        if is_ailing:
            _refuse_longer(live, last)
            _make_anew(connection)
        elif set(connection.scalars(sa.select(BATCHES.c.batch_id))) - {row["batch_id"] for row in rows[BATCHES]}:
            raise MeanwhileError(*MEANWHILE)
        for table in reversed(JOURNALLED):
            connection.execute(sa.delete(table))
        for table in JOURNALLED:
            if rows[table]:
                connection.execute(sa.insert(table), rows[table])
    return None


def _refuse_longer(live: Store, last: int) -> None:
    """Under the writers' lock: whatever is committed has its entry by then."""
    if max(journal.written(live.home.journal), default=0) != last:
        raise MeanwhileError(*MEANWHILE)


def _put_in_place(live: Store, shadow: Store, last: int) -> Path | None:
    """The shadow's database, whole, as the live one, while nobody writes; who has the old one open connects anew.

    The name under which the old one is kept, if there was any. While its files have other names than they should,
    nobody can open it: a mark is there, and after a kill it says that the rebuild is to be repeated.
    """
    shadow.control.dispose()  # folds its -wal into it
    live.control.dispose()
    database, wal, index = live.control.files
    fresh, mark = database.with_name(f".{database.name}.fresh"), exchanging(database)
    kept = database.with_name(f"{database.name}.damaged-{uuid.uuid4().hex[:8]}")
    try:
        write_whole(fresh, shadow.control.files[0].read_bytes())  # beside it: it may be on another disk than the home
        with live.control.turn():
            _refuse_longer(live, last)
            write_whole(mark, b"")
            if is_there := database.exists():
                if wal.exists():
                    wal.rename(f"{kept}-wal")  # together they are what was committed
                # Its name is never free: who looked for the mark before it was there would make an empty one just now,
                # and its -wal would become the fresh one's.
                link_or_copy(database, kept)
            index.unlink(missing_ok=True)
            fresh.rename(database)
            fsync_folder(database.parent)
            mark.unlink()
            fsync_folder(database.parent)
    except OSError as error:
        raise StoreError(
            f"cannot put {database} in its place: {error.strerror} ({error.filename})",
            "free space, or make its folder writable, then run spine rebuild again",
        ) from error
    finally:
        fresh.unlink(missing_ok=True)
    return kept if is_there else None


def _make_anew(connection: sa.Connection) -> None:
    """Every table of a server's database, without rows."""
    connection.execute(sa.text("DROP VIEW IF EXISTS core_stage_completions"))
    METADATA.drop_all(connection)
    for name in ("core_migrations", "alembic_version"):
        connection.execute(sa.text(f"DROP TABLE IF EXISTS {name}"))
    upgrade(connection, migrations())
