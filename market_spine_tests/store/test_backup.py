"""Backups that are taken while others write, and what they come to in another home; killed, altered and full ones."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa

from market_spine.domain.errors import CaptureConflict, MigrationError, StoreError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.sources.delivery import Delivery, Part, WeekSource
from market_spine.sources.landing import Landing
from market_spine.store import backup as making
from market_spine.store.backup import Made, read_list, read_record
from market_spine.store.commit import commit
from market_spine.store.differences import Difference
from market_spine.store.files import relative_path, sha256_of, write_files
from market_spine.store.home import Home
from market_spine.store.manifest import Question
from market_spine.store.restore import finish, restore
from market_spine.store.schema import JOURNALLED, MANIFEST
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine_tests.store.builders import DOMAIN, RAW, SALES, WEEK, at, batch, delivery, raw
from market_spine_tests.store.processes import started

NOW = datetime(2026, 1, 20, 12, tzinfo=UTC)
KEYS = [WeekKey(WEEK, tier) for tier in Tier]
WRITERS = 4
POLICIES = {"otc/readiness.yaml": b"use_cases: []"}


def check(folder: Path) -> list[Difference]:
    found = Landing(str(folder)).verify()
    return [Difference("landing", str(folder / one.name), one.reason, one.override) for one in found]


def back_up(store: Store, folder: Path, has_secrets: bool = False) -> Made:
    secrets = (store.home.keys / "signing.pem", store.home.channels)
    return making.backup(store, folder, NOW, "0.1.0", secrets, POLICIES, has_secrets, check)


def capture(store: Store, key: WeekKey, seconds: float, content: str) -> None:
    """Land ``content``, write a real file with it as its one row, and commit both."""
    arrived = Delivery(key, (Part("a.csv", content.encode()),), "file", "a.csv", WeekSource.PATH, at(seconds))
    landed = Landing(str(store.home.landing)).store(arrived, DOMAIN)
    place = relative_path(RAW, key, at(seconds))
    with duckdb.connect(":memory:") as engine:
        sql = f"SELECT DATE '{WEEK}' AS week_ending, ? AS tier, ? AS symbol, 1.0 AS shares, 1 AS trades"
        engine.execute(f"CREATE TABLE made AS {sql}", [key.tier_text, content])
        written = write_files(engine, "made", SALES, store.home.captures, {key: (place, content)})[key]
    named = {"file_path": place, "file_sha256": written.sha256, "file_bytes": written.size, "row_count": 1}
    digest = hashlib.sha256(content.encode()).hexdigest()[:32]
    new = raw(key, seconds, digest, landing_id=landed.landing_id, **named)
    row = delivery(new.capture_id, delivery_id=content, landing_id=landed.landing_id, fetched_at=at(seconds))
    commit(store.control, store.home, batch(new, deliveries=[row]))


def write_on(root: str, url: str, worker: int, stop: str) -> int:
    """Restate all partitions until the file ``stop`` is there; how often that was committed."""
    store, done, second = Store.at(Path(root), url), 0, worker
    while not Path(stop).exists():
        try:
            capture(store, KEYS[second % 3], second, f"{worker}-{second}")
            done += 1
        except CaptureConflict:  # another one was faster, and has a later second
            second += WRITERS
        second += WRITERS
    store.control.dispose()
    return done


def recorded(folder: Path) -> dict[str, str]:
    """Capture -> content hash, of the current ones that the backup names."""
    items = read_list(folder, read_record(folder))
    return {one.capture_id: one.content_hash for one in items if one.is_current}


def current(store: Store) -> dict[str, str]:
    return {one.capture_id: one.content_hash for one in store.select(Question((RAW,)))}


def put_back(folder: Path, root: Path, url: str = "") -> Store:
    """The store that ``folder`` is the backup of, restored into ``root`` and found to be whole."""
    store = Store.at(root, url, 1)
    assert restore(store, folder).differences == []
    assert verify(store) == []
    assert Landing(str(store.home.landing)).verify() == []
    finish(store)
    store.ensure()
    return store


def test_a_backup_beside_four_writers(store: Store, control_url: str, tmp_path: Path) -> None:
    """Prevents a backup of half a transaction: captures without their journal, or the reverse; and a lost one."""
    stop, folder = tmp_path / "stop", tmp_path / "backup"
    seen: list[int] = []
    capture(store, KEYS[0], 0, "first")
    places = (str(store.home.root), control_url)
    pool = [started(write_on, *places, n, str(stop)) for n in range(WRITERS)]
    try:
        deadline = time.monotonic() + 60
        while len(seen) < 2 and time.monotonic() < deadline:
            made = back_up(store, folder)
            if made.record.seq > (seen[-1] if seen else 1):
                seen.append(made.record.seq)
                again = put_back(folder, tmp_path / f"home{len(seen)}")
                assert current(again) == recorded(folder)
                with again.control.read() as connection:
                    assert connection.scalar(sa.select(sa.func.max(JOURNALLED[0].c.seq))) == made.record.seq
                again.control.dispose()
    finally:
        stop.touch()
        for one in pool:
            one.join(60)
    assert [one.exitcode for one in pool] == [0] * WRITERS
    assert len(seen) == 2
    made = back_up(store, folder)
    assert recorded(folder) == current(store)
    assert verify(store) == []
    assert made.record.rows["core_manifest"] == made.captures > 4


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three weeks, one of them restated, keys and channels; and the backup of it."""
    root = tmp_path_factory.mktemp("template")
    store = Store.at(root / "home", threads=2)
    store.ensure()
    for second, key in enumerate((*KEYS, KEYS[0])):
        capture(store, key, second, f"content {second}")
    store.home.keys.mkdir(mode=0o700)
    (store.home.keys / "signing.pem").write_text("private")
    (store.home.keys / "signing.pem").chmod(0o600)
    (store.home.keys / f"{'a' * 64}.pub.pem").write_text("public")
    store.home.channels.write_text("channels")
    back_up(store, root / "backup")
    store.control.dispose()
    return root


@pytest.fixture
def kept(template: Path, tmp_path: Path) -> Iterator[tuple[Store, Path]]:
    """The store, and the folder of its backup, to be changed."""
    shutil.copytree(template, tmp_path / "kept")
    store = Store.at(tmp_path / "kept" / "home", threads=2)
    yield store, tmp_path / "kept" / "backup"
    store.control.dispose()


def files(folder: Path) -> dict[str, int]:
    """Every file below ``folder``, and when it was written."""
    return {str(one.relative_to(folder)): one.stat().st_mtime_ns for one in folder.rglob("*") if one.is_file()}


def test_a_second_backup_copies_only_what_is_new(kept: tuple[Store, Path]) -> None:
    """Prevents a nightly copy of everything, and a record that goes on naming what it named yesterday."""
    store, folder = kept
    before = files(folder)
    assert back_up(store, folder).copied == 0
    assert {name for name, at in files(folder).items() if before.get(name) != at} == {"backup.json", listed(folder)}
    capture(store, KEYS[1], 10, "restated")
    made = back_up(store, folder)
    # its capture, its journal entry, its bytes and their sidecar
    assert (made.copied, made.captures, made.current) == (4, 5, 3)
    assert read_record(folder).seq == 5
    assert len(list(folder.glob("files-*"))) == 1


def listed(folder: Path) -> str:
    return read_record(folder).list


def test_a_damaged_copy_is_replaced(kept: tuple[Store, Path]) -> None:
    """Prevents a backup that rots from being called whole by the next one."""
    store, folder = kept
    for path in (next(folder.rglob("*.parquet")), next(folder.rglob("*.zst"))):
        whole = path.read_bytes()
        path.write_bytes(b"x" * len(whole))
        assert back_up(store, folder).copied == 1
        assert path.read_bytes() == whole


def test_secrets_come_on_demand_with_their_rights(kept: tuple[Store, Path], tmp_path: Path) -> None:
    """Prevents a private key in a folder that others read, and one that nobody knows to be there."""
    store, folder = kept
    names = {one for one in files(folder) if one.startswith(("keys", "home"))}
    assert names == {f"keys/{'a' * 64}.pub.pem"}
    assert back_up(store, folder, has_secrets=True).record.has_secrets
    assert (folder / "keys" / "signing.pem").stat().st_mode & 0o777 == 0o600
    again = put_back(folder, tmp_path / "again")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert again.home.channels.read_text() == "channels"
    assert (again.home.keys / "signing.pem").stat().st_mode & 0o777 == 0o600
    assert again.home.keys.stat().st_mode & 0o777 == 0o700
    with pytest.raises(StoreError, match=r"signing.pem is a secret of an earlier backup"):
        back_up(store, folder)


def test_a_folder_that_is_something_else_is_refused(kept: tuple[Store, Path], tmp_path: Path) -> None:
    """Prevents two stores in one folder, a backup that its own home swallows, and a folder of other things."""
    store, folder = kept
    other = Store.at(tmp_path / "other")
    other.ensure()
    capture(other, KEYS[0], 1, "other")
    with pytest.raises(StoreError, match="backup of another store"):
        back_up(other, folder)
    with pytest.raises(StoreError, match="lie within each other"):
        back_up(store, store.home.root / "backup")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    with pytest.raises(StoreError, match=r"no backup, and is not empty: a.png"):
        back_up(store, tmp_path / "photos")
    other.control.dispose()


@pytest.mark.parametrize("pattern", ["captures/**/*.parquet", "landing/journal/**/*.zst", "landing/objects/**/*.zst"])
@pytest.mark.parametrize("how", ["altered", "lost"])
def test_what_the_store_has_lost_is_not_backed_up(sqlite_store: Store, tmp_path: Path, pattern: str, how: str) -> None:
    """Prevents a backup that is made of damage: the error names the file, and there is no record."""
    capture(sqlite_store, KEYS[0], 0, "a")
    (path,) = sqlite_store.home.root.glob(pattern)
    path.unlink() if how == "lost" else path.write_bytes(path.read_bytes()[:-3] + b"...")
    with pytest.raises(StoreError, match=path.stem.partition(".")[0]):
        back_up(sqlite_store, tmp_path / "backup")
    assert not (tmp_path / "backup" / "backup.json").exists()


def test_a_full_disk_is_told_and_what_is_there_stays(
    kept: tuple[Store, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a traceback at night, half a file, and a second try that begins from nothing."""
    store, _ = kept
    real, written = os.fsync, []

    def fail(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="No space left on device") as told:
            back_up(store, tmp_path / "small")
    assert "free space" in told.value.remedy
    assert not list((tmp_path / "small").rglob("*.tmp"))
    assert not (tmp_path / "small" / "backup.json").exists()
    there = len([one for one in files(tmp_path / "small") if not one.startswith("policies")])
    made = back_up(store, tmp_path / "small")
    assert made.copied == made.record.files - there
    put_back(tmp_path / "small", tmp_path / "again")


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


DAMAGED = [
    "captures/**/*.parquet",
    "landing/journal/**/*.zst",
    "landing/objects/**/*.zst",
    "landing/deliveries/**/*.json",
]
DAMAGED += ["keys/*.pub.pem", "policies/otc/*.yaml", "files-*.jsonl", "backup.json"]


@pytest.mark.parametrize("damage", [remove, cut, flip], ids=lambda one: one.__name__)
@pytest.mark.parametrize("pattern", DAMAGED)
def test_a_damaged_backup_is_refused_before_anything_is_touched(
    kept: tuple[Store, Path], tmp_path: Path, pattern: str, damage: Callable[[Path], None]
) -> None:
    """Prevents a store that is made of a damaged backup, and an error that does not say which file it was."""
    _, folder = kept
    path = sorted(folder.glob(pattern))[0]
    damage(path)
    again = Store.at(tmp_path / "again")
    with pytest.raises(StoreError) as told:
        restore(again, folder)
    assert path.name in told.value.cause
    assert any(word in told.value.cause for word in ("missing", "altered", "bytes", "damaged", "cut short"))
    assert not again.home.root.exists()


def rewritten(folder: Path, **changes: Any) -> None:
    """backup.json as another version of the code would have written it."""
    body = json.loads((folder / "backup.json").read_text())["backup"] | changes
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (folder / "backup.json").write_text(json.dumps({"backup": body, "sha256": digest}))


def test_a_backup_of_newer_code_is_refused(kept: tuple[Store, Path], tmp_path: Path) -> None:
    """Prevents old code from making a store of what it understands of a newer one."""
    _, folder = kept
    migrations = read_record(folder).migrations
    rewritten(folder, migrations=[*migrations, "0999"], version="9.0")
    with pytest.raises(MigrationError, match=r"migration 0999 \(market-spine 9.0\)"):
        restore(Store.at(tmp_path / "again"), folder)
    rewritten(folder, format=2, version="9.0", unheard_of=True)
    with pytest.raises(StoreError, match=r"market-spine 9.0, in format 2; this code knows 1"):
        restore(Store.at(tmp_path / "again"), folder)


def test_a_list_that_leads_out_of_the_folder_is_refused(kept: tuple[Store, Path], tmp_path: Path) -> None:
    """Prevents a backup from somebody else that writes where it likes."""
    _, folder = kept
    path = folder / listed(folder)
    for place in ("captures/../../out", "/out", "dagster/dagster.yaml"):
        path.write_text(json.dumps({"path": place, "bytes": 1, "sha256": "0" * 64}) + "\n")
        rewritten(folder, list_sha256=sha256_of(path))
        with pytest.raises(StoreError, match="no place of a store"):
            restore(Store.at(tmp_path / "again"), folder)


def test_a_home_or_database_in_use_is_refused(kept: tuple[Store, Path], tmp_path: Path) -> None:
    """Prevents a restore over what somebody else has there."""
    store, folder = kept
    with pytest.raises(StoreError, match=r"is not empty: .*captures"):
        restore(store, folder)
    elsewhere = Store.at(tmp_path / "new", store.control.url)
    elsewhere.home.unfinished.parent.mkdir()
    elsewhere.home.unfinished.write_text(json.dumps({"seq": 1}))
    with pytest.raises(StoreError, match="of another backup"):
        restore(elsewhere, folder)


@pytest.mark.postgres
@pytest.mark.xdist_group("postgres")
def test_a_database_that_is_in_use_is_refused(kept: tuple[Store, Path], postgres_database: str, tmp_path: Path) -> None:
    """Prevents two stores in one PostgreSQL database; a backup of SQLite may become a store on PostgreSQL."""
    _, folder = kept
    again = put_back(folder, tmp_path / "again", postgres_database)
    assert current(again) == recorded(folder)
    with pytest.raises(StoreError, match=r"control database .* is not empty: it is at transaction 4"):
        restore(replace(again, home=Home(tmp_path / "third")), folder)
    again.control.dispose()


def killed_at(number: int, body: Callable[[], object]) -> bool:
    """Run ``body`` in a process that dies at its ``number``th sync or rename; whether it did."""
    child = os.fork()
    if child == 0:
        passed = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **more: Any) -> Any:
                nonlocal passed
                passed += 1
                if passed == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)

            return call

        os.fsync, os.rename = counted(os.fsync), counted(os.rename)
        try:
            body()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_killed_backup_has_no_record(kept: tuple[Store, Path], tmp_path: Path) -> None:
    """Prevents half a backup that looks like one; what was copied is not copied again."""
    store, folder = kept
    store.control.dispose()
    target, number = tmp_path / "killed", 1
    while killed_at(number, lambda: back_up(Store.at(store.home.root), target)):
        # after the rename of backup.json only its folder is synced, and older lists are removed
        if (target / "backup.json").exists():
            assert recorded(target) == recorded(folder)
        number += 3
    assert number > 10
    assert recorded(target) == recorded(folder)
    put_back(target, tmp_path / "again")


def test_a_killed_restore_says_so_until_it_is_repeated(kept: tuple[Store, Path], tmp_path: Path) -> None:
    """Prevents half a store that answers questions."""
    _, folder = kept
    home, number, died = tmp_path / "again", 1, 0
    while killed_at(number, lambda: restore(Store.at(home), folder)):
        died += 1
        number += 5
        if home.exists() and any(home.iterdir()):
            with pytest.raises(StoreError, match="its restore was cut short"):
                Store.at(home).ensure()
    assert died > 2
    again = put_back(folder, home)
    assert current(again) == recorded(folder)
    again.control.dispose()


def test_captures_that_were_rebuilt_keep_their_new_names(kept: tuple[Store, Path], tmp_path: Path) -> None:
    """Prevents a restore that looks for files under the names that the journal has: a rebuild gives others."""
    store, _ = kept
    with store.control.write() as connection:
        row = connection.execute(sa.select(MANIFEST.c.capture_id, MANIFEST.c.file_path).limit(1)).one()
        moved = row.file_path.replace(".parquet", "-again.parquet")
        named = sa.update(MANIFEST).where(MANIFEST.c.capture_id == row.capture_id)
        connection.execute(named.values(file_path=moved))
    (store.home.captures / row.file_path).rename(store.home.captures / moved)
    back_up(store, tmp_path / "second")
    again = put_back(tmp_path / "second", tmp_path / "again")
    assert (again.home.captures / moved).is_file()
    assert current(again) == current(store)


def test_a_record_that_the_journal_does_not_come_to_is_told(kept: tuple[Store, Path], tmp_path: Path) -> None:
    """Prevents a restore that ends well although a control row had been altered when the backup was made."""
    store, _ = kept
    with store.control.write() as connection:
        row = connection.execute(sa.select(MANIFEST.c.capture_id).where(MANIFEST.c.is_current == 1)).first()
        assert row is not None
        changed = sa.update(MANIFEST).where(MANIFEST.c.capture_id == row.capture_id)
        connection.execute(changed.values(content_hash="f" * 32))
    back_up(store, tmp_path / "second")
    found = restore(Store.at(tmp_path / "again"), tmp_path / "second").differences
    assert [one.name for one in found] == [row.capture_id]
    assert "the backup's record says ('ffff" in found[0].detail
