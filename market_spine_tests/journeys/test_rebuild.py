"""Rebuilding from landing: whatever happens to captures and control rows, the bytes and the journal bring them back."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.assets import rebuild as rebuilding
from market_spine.assets.rebuild import RebuildReport, rebuild
from market_spine.assets.tables import steps_of
from market_spine.domain.errors import DamageError, MeanwhileError, StoreError
from market_spine.feeds.otc import FEED
from market_spine.governance.subscriptions import Wish, subscribe
from market_spine.store import exchange
from market_spine.store.files import fsync_folder
from market_spine.store.gc import collect
from market_spine.store.ledger import Run, newest_seq
from market_spine.store.notices import subscriptions
from market_spine.store.schema import JOURNALLED, MANIFEST
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine_tests.journeys.bad_files import row, with_rows
from market_spine_tests.journeys.stage import OTC, POLICIES, T1, Scene, key, line, lines, put, staged, text

pytestmark = pytest.mark.xdist_group("rebuild")  # one history for all

SHM = Path("/dev/shm")
WEEK, NEXT, BLOCKED = key("2025-11-14"), key("2025-11-21"), key("2025-11-28")
VERSIONED, OVERWRITE, SKIP, MERGE = POLICIES.values()
Content = dict[str, list[tuple[Any, ...]]]
FILES = {"file_path", "file_sha256", "file_bytes"}


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Inserts of two tiers, a restatement, a merge, an overwrite, two kinds of blocked weeks, and the calendar."""
    files = tmp_path_factory.mktemp("files")
    with staged(tmp_path_factory.mktemp("history") / "home", f"file:{files}") as stage:
        tier1 = replace(WEEK, tier=T1)
        put(files, WEEK, text([*lines(WEEK, 30), line(WEEK, "", "PPEX", 1, 1), "half a line"]))
        put(files, NEXT, text(lines(NEXT, 30)))
        put(files, tier1, text(lines(tier1, 30)))
        put(files, BLOCKED, with_rows(row(shares=0))(BLOCKED))
        stage.run("otc.weekly_refresh", WEEK, NEXT, tier1, BLOCKED)
        for options, data in (
            (VERSIONED, text(lines(WEEK, 24))),
            (MERGE, text([line(WEEK, "MERGED", "UBSA", 5, 1), *lines(WEEK, 3)])),
            (OVERWRITE, text(lines(WEEK, 26))),
            (MERGE, text([line(WEEK, "AGAIN", "UBSA", 5, 1)])),
            (VERSIONED, b"<html></html>"),
        ):
            stage.clock.forward(days=1)
            put(files, WEEK, data)
            stage.run("otc.ingest_week", WEEK, options=options)
            stage.run("otc.normalize_week", WEEK)
        stage.run("otc.weekly_refresh", WEEK, options=SKIP)
        yield stage


@contextmanager
def copied(history: Scene, tmp_path: Path) -> Iterator[Scene]:
    """The history in a home of its own, to be damaged."""
    root = tmp_path / "home"
    shutil.copytree(history.spine.store.home.root, root)
    with staged(root, history.spine.source, history.clock) as stage:
        yield stage


@pytest.fixture
def stage(history: Scene, tmp_path: Path) -> Iterator[Scene]:
    with copied(history, tmp_path) as scene:
        yield scene


def contents(stage: Scene) -> Content:
    """All rows of the control tables but where the files are and how they are encoded."""
    with stage.spine.store.control.read() as connection:
        return {
            table.name: sorted((tuple(each) for each in connection.execute(sa.select(*_but_files(table)))), key=str)
            for table in JOURNALLED
        }


def _but_files(table: sa.Table) -> list[sa.Column[Any]]:
    return [column for column in table.c if table is not MANIFEST or column.name not in FILES]


def rebuilt(stage: Scene) -> RebuildReport:
    report = rebuild(stage.spine, [FEED])
    assert report.differences == []
    assert report.swapped
    return report


def test_the_history_has_everything(history: Scene) -> None:
    """A rebuild that is tried on a history in which the hard cases do not occur."""
    assert set(history.actions()) == {"inserted", "updated", "blocked"}
    policies = {policy for (policy,) in history.sql("SELECT DISTINCT policy FROM core_manifest")}
    assert policies == {"versioned", "merge", "overwrite"}
    statuses = history.sql("SELECT DISTINCT status FROM core_manifest ORDER BY 1")
    assert statuses == [("complete",), ("overwritten",)]
    assert min(history.counts("core_rejects", "core_deliveries", "core_quality")) > 0
    assert history.counts("core_manifest", where="domain = 'reference.trading_calendar'") == (3,)
    assert verify(history.spine.store) == []


def test_a_rebuild_gives_the_same_store(stage: Scene, history: Scene) -> None:
    """A rebuild that gives new ids, other content, or loses what was overwritten, rejected or found."""
    report = rebuilt(stage)
    assert contents(stage) == contents(history)
    assert (report.rebuilt, report.kept) == (len(contents(history)["core_manifest"]), 0)
    assert verify(stage.spine.store) == []
    for query in ("FROM otc_raw ORDER BY ALL", "FROM otc_symbol_summary_revisions() ORDER BY ALL"):
        assert stage.sql(query) == history.sql(query)


def test_a_rebuild_of_a_rebuild(stage: Scene, history: Scene) -> None:
    """A rebuild that leaves a store from which nothing can be rebuilt, or on which nothing runs."""
    rebuilt(stage)
    rebuilt(stage)
    assert contents(stage) == contents(history)
    stage.clock.forward(days=1)
    late = key("2025-12-05")
    path = stage.spine.store.home.root / "late.csv"
    path.write_bytes(text(lines(late, 10)))
    stage.file(path).refresh(late)
    assert verify(stage.spine.store) == []


def test_a_dry_run_changes_nothing(stage: Scene) -> None:
    """A comparison that exchanges what it compares."""
    root = stage.spine.store.home.root
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    report = rebuild(stage.spine, [FEED], swap=False)
    assert (report.differences, report.swapped) == ([], False)
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before
    assert not list(root.glob(".rebuild-*"))


def lose_all_captures(root: Path) -> None:
    shutil.rmtree(root / "captures")


def lose_one_capture(root: Path) -> None:
    sorted(root.rglob("*.parquet"))[3].unlink()


def lose_one_and_alter_another(root: Path) -> None:
    lose_one_capture(root)
    flip_a_byte(root)


def flip_a_byte(root: Path) -> None:
    path = sorted(root.rglob("*.parquet"))[5]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def lose_the_control_database(root: Path) -> None:
    for path in root.glob("control.db*"):
        path.unlink()


def fill_the_control_database_with_garbage(root: Path) -> None:
    lose_the_control_database(root)
    (root / "control.db").write_bytes(b"no database at all " * 1_000)


def tear_the_control_database(root: Path) -> None:
    data = (root / "control.db").read_bytes()
    lose_the_control_database(root)
    (root / "control.db").write_bytes(data[: len(data) // 3] + b"\xff" * 4096 + data[len(data) // 3 + 4096 :])


def empty_the_control_database(root: Path) -> None:
    lose_the_control_database(root)
    (root / "control.db").touch()


def lose_all_but_landing(root: Path) -> None:
    for path in root.iterdir():
        if path.name != "landing":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


LOSSES = (
    lose_all_captures,
    lose_one_and_alter_another,
    lose_the_control_database,
    fill_the_control_database_with_garbage,
    tear_the_control_database,
    empty_the_control_database,
    lose_all_but_landing,
)


@pytest.fixture
def closed(history: Scene, tmp_path: Path) -> Path:
    """A copy of the history's home that nobody has open."""
    with history.spine.store.control.write() as connection:  # nothing is left in the write-ahead log
        connection.execute(sa.text("SELECT 1"))
    history.spine.store.control.dispose()
    shutil.copytree(history.spine.store.home.root, tmp_path / "home")
    return tmp_path / "home"


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_a_loss_is_made_good(history: Scene, closed: Path, lose: Callable[[Path], None]) -> None:
    """A loss that landing could make good and that ends in an error, or in a store that looks whole."""
    lose(closed)
    with staged(closed, history.spine.source, history.clock) as stage:
        rebuilt(stage)
        assert contents(stage) == contents(history)
        assert verify(stage.spine.store) == []
        assert stage.sql("FROM otc_raw ORDER BY ALL") == history.sql("FROM otc_raw ORDER BY ALL")


@pytest.mark.parametrize("lose", [lose_one_capture, flip_a_byte], ids=lambda lose: lose.__name__)
def test_a_loss_is_seen(history: Scene, closed: Path, lose: Callable[[Path], None]) -> None:
    """A store that says it is whole and is not."""
    lose(closed)
    with staged(closed, history.spine.source, history.clock) as stage:
        (found,) = verify(stage.spine.store)
        assert (found.kind, "spine rebuild" in found.remedy) == ("capture", True)


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


@pytest.mark.parametrize("step", [1, 2, 3])
def test_killed_while_the_database_is_exchanged(
    history: Scene, closed: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A damaged database without its last transactions that somebody writes to; a repair that cannot be repeated."""
    platform = Store.at(closed, threads=1)
    note(platform, "the-platform")  # in the -wal, which stays while the connection is open
    spoil_an_index(closed)
    renamed: list[Path] = []
    move = Path.rename

    def rename(path: Path, target: str | Path) -> Path:
        if path in (closed / "control.db-wal", closed / "control.db", closed / ".control.db.fresh"):
            renamed.append(path)
            if len(renamed) == step:
                raise Killed
        return move(path, target)

    with staged(closed, history.spine.source, history.clock) as stage:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
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


def test_an_altered_landing_object_is_named(stage: Scene) -> None:
    """Altered bytes that become captures, or an error that does not say which."""
    store = stage.spine.store
    landing_id = stage.captures("raw")[0].landing_id
    assert landing_id is not None
    path = store.home.landing / "objects" / landing_id[:2] / f"{landing_id}.zst"
    path.write_bytes(path.read_bytes()[:-9] + b"123456789")
    before = contents(stage)
    with pytest.raises(StoreError, match=landing_id):
        rebuild(stage.spine, [FEED])
    path.unlink()
    with pytest.raises(StoreError, match=landing_id):
        rebuild(stage.spine, [FEED])
    assert contents(stage) == before
    assert verify(store) == []
    assert not list(store.home.root.glob(".rebuild-*"))


def test_a_missing_journal_entry_is_named(stage: Scene) -> None:
    """A gap in the journal that a rebuild steps over."""
    entry = sorted(stage.spine.store.home.journal.rglob("*.json.zst"))[4]
    entry.unlink()
    with pytest.raises(StoreError, match="journal entry 5 is missing"):
        rebuild(stage.spine, [FEED])


def test_an_altered_control_row_is_reported(stage: Scene) -> None:
    """A store that contradicts its own journal and is exchanged all the same, without anybody having looked."""
    with stage.spine.store.control.write() as connection:
        connection.execute(sa.text("UPDATE core_rejects SET detail = 'nothing to see'"))
    before = contents(stage)
    report = rebuild(stage.spine, [FEED])
    assert not report.swapped
    assert {one.detail for one in report.differences} == {"the rebuilt store has another detail"}
    assert contents(stage) == before


class Killed(Exception):
    """As if the power failed."""


def test_killed_while_the_files_move(stage: Scene, history: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live store that points at files half of which are not there yet."""
    moved: list[Path] = []

    def fail_in_the_middle(folder: Path) -> None:
        moved.append(folder)
        if len(moved) == 7:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(exchange, "fsync_folder", fail_in_the_middle)
        with pytest.raises(Killed):
            rebuild(stage.spine, [FEED])
    assert contents(stage) == contents(history)
    assert verify(stage.spine.store) == []
    swept = collect(stage.spine.store, stage.clock() + timedelta(days=3_650))
    assert len(swept.files) >= len(moved)
    assert verify(stage.spine.store) == []
    rebuilt(stage)


def test_killed_in_the_control_transaction(stage: Scene, history: Scene) -> None:
    """Control rows deleted and not put back."""

    def fail(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO core_deliveries"):
            raise Killed

    engine = stage.spine.store.control.engine
    sa.event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(Killed):
        rebuild(stage.spine, [FEED])
    sa.event.remove(engine, "before_cursor_execute", fail)
    assert contents(stage) == contents(history)
    assert verify(stage.spine.store) == []


def test_a_write_during_a_rebuild_is_not_lost(stage: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A week that is captured between comparing and exchanging, and that the exchange wipes out."""
    late, compare = key("2025-12-05"), exchange.compare
    (tmp_path / "late.csv").write_bytes(text(lines(late, 10)))

    def compare_then_write(*stores: Any) -> Any:
        found = compare(*stores)
        stage.file(tmp_path / "late.csv").run("otc.ingest_week", late)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(exchange, "compare", compare_then_write)
        assert rebuild(stage.spine, [FEED]).swapped
    assert stage.current("raw", late).row_count == 10
    assert verify(stage.spine.store) == []
    rebuilt(stage)
    assert stage.current("raw", late).row_count == 10


def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code has moved on to version 2.0 of the symbol summary."""
    steps = dict(steps_of(FEED))
    step = steps["symbol_summary"]
    steps["symbol_summary"] = replace(step, calculation=replace(step.calculation, version="2.0"))
    monkeypatch.setattr(rebuilding, "steps_of", lambda feed: steps)


def test_what_older_code_made_is_kept(stage: Scene, history: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture of an older version calculated again by newer code, under the old one's name."""
    newer(monkeypatch)
    report = rebuilt(stage)
    assert report.kept == len(stage.captures("symbol_summary")) > 0
    assert contents(stage) == contents(history)
    assert verify(stage.spine.store) == []


def test_what_older_code_made_and_is_lost_is_reported(stage: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture that cannot be made again, and that is left out without a word."""
    lost = stage.current("symbol_summary", replace(NEXT, tier=OTC))
    (stage.spine.store.home.captures / lost.file_path).unlink()
    newer(monkeypatch)
    report = rebuild(stage.spine, [FEED])
    assert not report.swapped
    why = {one.name: one.detail for one in report.differences}
    assert "version 1.0" in why.pop(lost.capture_id)
    assert why
    assert all("cannot be made again" in detail for detail in why.values()), "what depends on it is named as well"
