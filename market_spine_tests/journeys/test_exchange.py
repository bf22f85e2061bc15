"""A damaged, lost or old control database is made anew under whoever has it open, with what commits meanwhile."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from market_spine.assets import rebuild as rebuilding
from market_spine.assets.rebuild import rebuild
from market_spine.domain.errors import DamageError, MeanwhileError
from market_spine.feeds.otc import FEED
from market_spine.governance.subscriptions import Wish, subscribe
from market_spine.store import exchange
from market_spine.store.files import fsync_folder
from market_spine.store.ledger import Run, newest_seq
from market_spine.store.notices import subscriptions
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine_tests.extended import extended
from market_spine_tests.journeys.losses import (
    Killed,
    fill_the_control_database_with_garbage,
    rebuilt,
)
from market_spine_tests.journeys.stage import Scene, staged

SHM = Path("/dev/shm")
pytestmark = pytest.mark.xdist_group("rebuild")  # one history for all


def test_a_damaged_control_database_is_kept(history: Scene, closed: Path) -> None:
    """Evidence that a repair throws away; a dry run that repairs."""
    fill_the_control_database_with_garbage(closed)
    garbage = (closed / "control.db").read_bytes()
    with staged(closed, history.spine.source, history.clock) as stage:
        report = rebuild(stage.spine, [FEED], swap=False)
        assert [one.kind for one in report.differences] == ["control"]
        assert "damaged" in report.differences[0].detail
        assert (closed / "control.db").read_bytes() == garbage
        rebuilt(stage)
    (kept,) = closed.glob("control.db.damaged-*")
    assert kept.read_bytes() == garbage


def test_who_has_the_damaged_database_open_goes_on_with_the_new_one(history: Scene, closed: Path) -> None:
    """A platform that runs on beside a repair: its ticks would go to the old file, unseen, and set aside journal
    entries of the new one."""
    platform = Store.at(closed, threads=1)
    with platform.control.read() as connection:  # its pool keeps the connection
        before = newest_seq(connection)
    fill_the_control_database_with_garbage(closed)
    with staged(closed, history.spine.source, history.clock) as stage:
        rebuilt(stage)
        note(stage.spine.store, "another-process")
        note(platform, "the-platform")
        with platform.control.read() as connection:
            assert newest_seq(connection) == before + 2
        assert verify(stage.spine.store) == []
    assert [*platform.home.journal.rglob("*.orphan")] == []
    platform.control.dispose()


def note(store: Store, who: str) -> None:
    """Some transaction."""
    subscribe(store, Run(who, who, datetime(2030, 1, 1, tzinfo=UTC)), Wish(who, "a-channel"), who)


def meanwhile(monkeypatch: pytest.MonkeyPatch, platform: Store, times: int) -> None:
    """Another process commits while the first files are moved, this often."""
    numbers = iter(range(times))

    def commit(folder: Path) -> None:
        if (number := next(numbers, None)) is not None:
            note(platform, f"meanwhile-{number}")
        fsync_folder(folder)

    monkeypatch.setattr(exchange, "fsync_folder", commit)


@pytest.mark.parametrize("is_ailing", [True, False])
def test_what_is_written_meanwhile_is_there_afterwards(
    history: Scene, closed: Path, monkeypatch: pytest.MonkeyPatch, is_ailing: bool
) -> None:
    """A transaction that commits after the journal was read, and a repair that a busy platform never lets through."""
    platform = Store.at(closed, threads=1)
    note(platform, "before")
    if is_ailing:
        spoil_an_index(closed)
    meanwhile(monkeypatch, platform, times=1)
    with staged(closed, history.spine.source, history.clock) as stage:
        rebuilt(stage)
        note(platform, "after")
        with platform.control.read() as connection:
            names = [row["name"] for row in subscriptions(connection)]
        assert {"before", "meanwhile-0", "after"} <= set(names)
        assert verify(stage.spine.store) == []
    assert [*closed.rglob("*.orphan")] == []
    assert not (closed / ".control.db.fresh").exists()
    platform.control.dispose()


def test_a_platform_that_never_rests_is_told(history: Scene, closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repair that goes on for ever, or that leaves something behind when it gives up."""
    platform = Store.at(closed, threads=1)
    monkeypatch.setattr(rebuilding, "ROUNDS", 1)
    meanwhile(monkeypatch, platform, times=1)
    with staged(closed, history.spine.source, history.clock) as stage:
        with pytest.raises(MeanwhileError, match="written to while it was rebuilt"):
            rebuild(stage.spine, [FEED])
        assert verify(stage.spine.store) == []
    platform.control.dispose()


@pytest.mark.parametrize("step", [extended(1), 2, extended(3)])
def test_killed_while_the_database_is_exchanged(
    history: Scene, closed: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A damaged database without its last transactions that somebody writes to; a repair that cannot be repeated."""
    platform = Store.at(closed, threads=1)
    note(platform, "the-platform")  # in the -wal, which stays while the connection is open
    spoil_an_index(closed)
    seen: list[Path] = []
    move, link = Path.rename, Path.hardlink_to

    def count(path: Path) -> None:
        if path in (closed / "control.db-wal", closed / "control.db", closed / ".control.db.fresh"):
            seen.append(path)
            if len(seen) == step:
                raise Killed

    def rename(path: Path, target: str | Path) -> Path:
        count(path)
        return move(path, target)

    def hardlink_to(path: Path, source: Path) -> None:
        count(source)
        link(path, source)

    with staged(closed, history.spine.source, history.clock) as stage:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            patch.setattr(Path, "hardlink_to", hardlink_to)
            with pytest.raises(Killed):
                rebuild(stage.spine, [FEED])
        for store in (platform, Store.at(closed)):
            with pytest.raises(DamageError, match="being exchanged"), store.control.read():
                pass
            with pytest.raises(DamageError, match="being exchanged"):
                note(store, "somebody")
        assert rebuild(stage.spine, [FEED]).swapped
        assert verify(stage.spine.store) == []
        note(platform, "later")
        assert verify(stage.spine.store) == []
        with platform.control.read() as connection:
            assert newest_seq(connection) == len([*stage.spine.store.home.journal.rglob("*.json.zst")])
    assert [*closed.rglob("*.orphan")] == []
    platform.control.dispose()


def spoil_an_index(root: Path) -> None:
    """Nobody who only reads notices; SQLite's own check does."""
    with closing(sqlite3.connect(root / "control.db")) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE type = 'index' AND tbl_name = 'core_manifest' ORDER BY name"
        page = connection.execute(query).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    with (root / "control.db").open("r+b") as stream:
        stream.seek((page - 1) * size + 8)
        stream.write(b"\xff" * 64)


def test_a_servers_database_is_made_anew(
    history: Scene, tmp_path: Path, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair that only works on files; what commits meanwhile is in it, or the repair is not done."""
    home = tmp_path / "home"
    shutil.copytree(history.spine.store.home.root, home)
    store = Store.at(home, postgres_database, 1)
    spine = replace(history.spine, store=store)
    report = rebuild(spine, [FEED])
    assert (report.swapped, report.ailment, report.kept_database) == (True, "the control database is lost", None)
    assert verify(store) == []
    platform = Store.at(home, postgres_database, 1)
    meanwhile(monkeypatch, platform, times=2)
    assert rebuild(spine, [FEED]).swapped
    platform.control.dispose()
    with store.control.read() as connection:
        assert {"meanwhile-0", "meanwhile-1"} <= {row["name"] for row in subscriptions(connection)}
    assert verify(store) == []
    store.control.dispose()


def test_a_database_on_another_disk_is_exchanged_too(history: Scene, tmp_path: Path) -> None:
    """A rename from the home's disk to the database's, which no system does."""
    if not SHM.is_dir() or SHM.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=SHM) as elsewhere:
        home = tmp_path / "home"
        shutil.copytree(history.spine.store.home.root, home)
        (home / "control.db").unlink()
        (Path(elsewhere) / "control.db").write_bytes(b"no database at all " * 1_000)
        store = Store.at(home, f"sqlite:///{elsewhere}/control.db", 1)
        assert rebuild(replace(history.spine, store=store), [FEED]).swapped
        assert verify(store) == []
        store.control.dispose()
