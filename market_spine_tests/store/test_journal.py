"""The journal: what is written is read back, whatever is wrong with it is found, and it rebuilds the tables."""

from __future__ import annotations

import dataclasses
import errno
import os
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.captures import RevisionPolicy
from market_spine.domain.errors import StoreError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.store import journal
from market_spine.store.commit import Batch, commit
from market_spine.store.control import Control
from market_spine.store.journal import Entry, read, write
from market_spine.store.ledger import apply, transaction
from market_spine.store.schema import BATCHES, JOURNALLED, MANIFEST, REJECTS
from market_spine.store.store import Store
from market_spine.store.trust_tables import ANOMALIES, ANOMALY_LOG
from market_spine_tests.store.builders import OTC, RUN, T0, WEEK, batch, delivery, derived, quality, raw, reject
from market_spine_tests.store.good_rows import GOOD

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MOMENTS = st.datetimes(datetime(2012, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # bounds
BATCH_ROWS = st.fixed_dictionaries(
    {
        "seq": st.integers(1, 10**6),
        "batch_id": TEXTS,
        "table_name": TEXTS,
        "execution_id": TEXTS,
        "correlation_id": TEXTS,
        "committed_at": MOMENTS,
    }
)
MANIFEST_ROWS = st.fixed_dictionaries(
    {
        "capture_id": TEXTS,
        "week_ending": st.dates(date(2012, 1, 1)),
        "landing_id": st.none() | TEXTS,
        "file_bytes": st.integers(0, 1 << 62),
        "captured_at": MOMENTS,
    }
)


@given(st.lists(BATCH_ROWS, max_size=3), st.lists(MANIFEST_ROWS, max_size=3), st.lists(TEXTS, max_size=3))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, batches: list[Any], manifest: list[Any], ids: list[str]
) -> None:
    """Prevents dates from returning as texts, fractions from being lost, and any text from being altered."""
    folder = tmp_path_factory.mktemp("journal")
    rows = {BATCHES.name: batches, MANIFEST.name: manifest}
    write(folder, Entry(1, "b1", rows, ids, ids[:1]))
    (found,) = read(folder, (BATCHES, MANIFEST, REJECTS))
    assert found == Entry(1, "b1", rows | {REJECTS.name: []}, ids, ids[:1])


def test_moments_of_other_zones_come_back_as_the_same_instant(tmp_path: Path) -> None:
    """Prevents a clock with an offset from being journalled as if its hands showed UTC."""
    moment = datetime(2025, 12, 15, 10, 0, 0, 5, timezone(timedelta(hours=-5)))
    write(tmp_path, Entry(1, "b", {BATCHES.name: [{"committed_at": moment}]}))
    (found,) = read(tmp_path, (BATCHES,))
    assert found.rows[BATCHES.name][0]["committed_at"] == moment


def test_what_has_no_journal_form_is_refused(tmp_path: Path) -> None:
    """Prevents a value of an unknown type, or a moment without a zone, from being journalled as something else."""
    with pytest.raises(TypeError, match="no journal form"):
        write(tmp_path, Entry(1, "b", {BATCHES.name: [{"batch_id": Path("x")}]}))
    with pytest.raises(ValueError, match="no time zone"):
        write(tmp_path, Entry(1, "b", {BATCHES.name: [{"committed_at": datetime(2025, 1, 1)}]}))  # noqa: DTZ001
    assert list(tmp_path.rglob("*.zst")) == []


def _write_many(folder: Path, count: int) -> list[Path]:
    return [write(folder, Entry(seq, f"b{seq}", {})) for seq in range(1, count + 1)]


def test_entries_are_read_in_order_across_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents entry 10 from being read before entry 2, and a folder's end from being taken for the journal's."""
    monkeypatch.setattr(journal, "PER_FOLDER", 4)
    _write_many(tmp_path, 13)
    assert [entry.seq for entry in read(tmp_path, JOURNALLED)] == list(range(1, 14))
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(("gone", "expected"), [(1, 1), (3, 3), (4, 4)])
def test_a_gap_is_named(tmp_path: Path, gone: int, expected: int) -> None:
    """Prevents a rebuild from silently leaving a transaction out."""
    paths = _write_many(tmp_path, 5)
    paths[gone - 1].unlink()
    with pytest.raises(StoreError, match=f"journal entry {expected} is missing"):
        list(read(tmp_path, JOURNALLED))


def test_every_damaged_bit_is_found(tmp_path: Path) -> None:
    """Prevents a flipped bit from being replayed: zstd without its checksum decodes many of them to other values."""
    row = {"seq": 1, "batch_id": "b1", "table_name": "otc_raw", "execution_id": "run", "correlation_id": "c"}
    path = write(tmp_path, Entry(1, "b1", {BATCHES.name: [row | {"committed_at": T0}]}))
    whole, unseen, (wanted,) = path.read_bytes(), [], read(tmp_path, JOURNALLED)
    for position in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            if not _is_refused_or_equal(tmp_path, wanted):
                unseen.append((position, bit))
    path.write_bytes(whole)
    assert len(whole) > 50
    # Reserved bits of the frame header carry nothing: what is read must then be what was written.
    assert unseen == []


def _is_refused_or_equal(folder: Path, wanted: Entry) -> bool:
    """A few bits of zstd's headers mean nothing; then what is read must be what was written."""
    try:
        return list(read(folder, JOURNALLED)) == [wanted]
    except StoreError as error:
        return "damaged" in error.cause


@pytest.mark.parametrize("kept", [0, 1, 10, -1])
def test_a_truncated_entry_is_found(tmp_path: Path, kept: int) -> None:
    """Prevents half an entry from being taken for a whole one."""
    path = _write_many(tmp_path, 1)[0]
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=f"{path.name} is damaged"):
        list(read(tmp_path, JOURNALLED))


def test_entries_without_checksum_are_still_read(tmp_path: Path) -> None:
    """Prevents journals written before checksums from becoming unreadable."""
    path = _write_many(tmp_path, 1)[0]
    path.write_bytes(zstandard.compress(zstandard.decompress(path.read_bytes())))
    assert [entry.seq for entry in read(tmp_path, JOURNALLED)] == [1]


def test_the_left_over_of_an_uncommitted_number_is_replaced(tmp_path: Path) -> None:
    """Prevents a crash between journal and commit from leaving two entries of one number, or a half-written one."""
    _write_many(tmp_path, 2)
    write(tmp_path, Entry(3, "never-committed", {}))
    (tmp_path / "000000" / "0000000003-killed.json.tmp").write_bytes(b"half")
    write(tmp_path, Entry(3, "b3", {}))
    assert [entry.batch_id for entry in read(tmp_path, JOURNALLED)] == ["b1", "b2", "b3"]
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.parametrize("per_folder", [1000, 3])
def test_a_longer_history_is_never_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_folder: int
) -> None:
    """Prevents an emptied or exchanged control database from eating, entry by entry, what could restore it."""
    monkeypatch.setattr(journal, "PER_FOLDER", per_folder)
    _write_many(tmp_path, 4)
    with pytest.raises(StoreError, match="is at transaction 2, the journal already has 0000000003-b3"):
        write(tmp_path, Entry(2, "of another database", {}))
    assert [entry.batch_id for entry in read(tmp_path, JOURNALLED)] == ["b1", "b2", "b3", "b4"]


def test_a_new_database_over_an_old_home_is_refused(sqlite_store: Store) -> None:
    """Prevents pointing the control URL elsewhere from silently starting a second history over the first."""
    for seconds in range(3):
        commit(sqlite_store.control, sqlite_store.home, batch(raw(seconds=seconds)))
    other = Control(f"sqlite:///{sqlite_store.home.root / 'other.db'}")
    other.ensure()
    with pytest.raises(StoreError, match="the journal already has"):
        commit(other, sqlite_store.home, batch(raw()))
    with other.read() as connection:
        assert connection.execute(sa.select(BATCHES)).all() == []
    other.dispose()


def test_a_journal_that_cannot_be_written_is_a_typed_error(sqlite_store: Store) -> None:
    """Prevents a full disk or a file in the way from ending in a traceback, or from being committed all the same."""
    place = sqlite_store.home.journal / "000000"
    place.write_bytes(b"in the way")
    with pytest.raises(StoreError, match=r"cannot write .*0000000001-"):
        commit(sqlite_store.control, sqlite_store.home, batch(raw()))
    place.unlink()
    assert _rows(sqlite_store) == 0


def _rows(store: Store) -> int:
    with store.control.read() as connection:
        return len(connection.execute(sa.select(MANIFEST)).all())


def test_a_full_disk_leaves_no_half_entry(sqlite_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents the bytes that still fitted from staying behind as if they were an entry."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        write(sqlite_store.home.journal, Entry(1, "b1", {}))
    monkeypatch.undo()
    assert [path for path in sqlite_store.home.journal.rglob("*") if path.is_file()] == []
    assert _rows(sqlite_store) == 0


def _history(store: Store) -> None:
    """Every kind of transaction: inserts, restatement, overwrite, merge, derived, twins, blocked, empty."""
    first = raw(seconds=0)
    accounts = delivery(first.capture_id)
    commit(store.control, store.home, batch(first, deliveries=[accounts], rejects=[reject(n) for n in range(1, 4)]))
    made = derived([first])
    commit(store.control, store.home, batch(made, quality=[quality(captured=made.capture_id)]))
    second = raw(seconds=1, content="b")
    commit(store.control, store.home, batch(second, rejects=[reject(1), reject(9, "3" * 64)]))
    third = raw(seconds=2, content="c", policy=RevisionPolicy.OVERWRITE)
    commit(store.control, store.home, batch(third))
    merged = raw(seconds=3, content="e", policy=RevisionPolicy.MERGE, inputs=(third.capture_id,))
    commit(store.control, store.home, batch(merged))
    commit(
        store.control, store.home, batch(derived([merged]), dataclasses.replace(made, content_hash=made.content_hash))
    )
    commit(store.control, store.home, batch(derived([third], content="slow")))
    week = raw(WeekKey(WEEK, None), 4, table_name="reference_trading_calendar")
    commit(store.control, store.home, batch(week, raw(WeekKey(WEEK, Tier.NMS_TIER_1), 5)))
    blocked = delivery(None, "blocked", reason="too few")
    commit(store.control, store.home, Batch("otc_raw", batch().run, deliveries=[blocked], quality=[quality()]))
    commit(store.control, store.home, batch())
    for change in ({}, {"severity": "ERROR", "times_seen": 2}):  # the second takes the first one's place
        with transaction(store.control, store.home, RUN, "core_anomalies") as draft:
            draft.put(ANOMALIES, GOOD["core_anomalies"] | change)
    with transaction(store.control, store.home, RUN, "core_data_readiness") as draft:
        for table in JOURNALLED[JOURNALLED.index(ANOMALY_LOG) :]:
            draft.put(table, GOOD[table.name])


def _contents(control: Control) -> dict[str, list[Any]]:
    with control.read() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in JOURNALLED
        }


def test_replaying_all_entries_reproduces_the_tables(store: Store, tmp_path: Path) -> None:
    """Prevents a row, flag or moment from being in the tables and not in the journal, on either database."""
    _history(store)
    wanted = _contents(store.control)
    replayed = Control(f"sqlite:///{tmp_path / 'replayed.db'}")
    replayed.ensure()
    for entry in read(store.home.journal, JOURNALLED):
        with replayed.write() as connection:
            apply(connection, entry)
    assert all(wanted.values())
    assert _contents(replayed) == wanted
    replayed.dispose()


def test_a_journal_of_sqlite_replays_into_postgresql(sqlite_store: Store, postgres_database: str) -> None:
    """Prevents the move from the embedded database to a server from losing or refusing anything."""
    _history(sqlite_store)
    server = Control(postgres_database)
    server.ensure()
    for entry in read(sqlite_store.home.journal, JOURNALLED):
        with server.write() as connection:
            apply(connection, entry)
    assert _contents(server) == _contents(sqlite_store.control)
    server.dispose()


def test_otc_is_the_partition_of_the_history() -> None:
    """Prevents the history above from being about a partition other than the one its rejects name."""
    assert (OTC.tier_text, OTC.week_ending) == (reject(1)["tier"], reject(1)["week_ending"])
