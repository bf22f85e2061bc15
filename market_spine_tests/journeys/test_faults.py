"""Full and read-only disks, lost and damaged databases, wrong clocks: an error that names the thing, the cause and the
next command; nothing lost; and a store that is what it would have been once that command was carried out.

`benchmarks/faults.py` plays all of these with processes of their own. Here are those that no other test has: captures,
landing and the journal are damaged in `test_rebuild`, writers that wait in `store.test_turns`.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from benchmarks import faults, havoc
from benchmarks.havoc import Hurt, Place
from market_spine.assets.calendar import capture_weeks
from market_spine.assets.capture import Options
from market_spine.assets.compute import compute
from market_spine.assets.ingest import ingest
from market_spine.assets.rebuild import rebuild
from market_spine.assets.spine import Spine
from market_spine.assets.tables import steps_of, tables_of
from market_spine.assets.views import views_of
from market_spine.automation.instance import open_instance
from market_spine.automation.outages import in_words
from market_spine.domain.errors import DamageError, SpineError, StoreError
from market_spine.domain.keys import WeekKey
from market_spine.feeds.otc import OTC
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store import engine
from market_spine.store.ledger import Run
from market_spine.store.publish import publish
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine_tests.cli.calls import call
from market_spine_tests.journeys.yard import FIRST, MINUTE, RECIPE, REVISED, Hashes, hashes

pytestmark = pytest.mark.slow

KEY = WeekKey.from_string("OTC:2025-11-14")
MADE = ("venue_volume", "symbol_summary", "symbol_hhi")


def load(home: Path, now: datetime, url: str = "") -> None:
    """A week from the source through some tables, by what the assets call."""
    spine = Spine(Store.at(home, url, 1), SyntheticSource.from_spec(RECIPE), lambda: now)
    run = Run("an-execution", "a-correlation", now)
    try:
        capture_weeks(spine, [WeekKey(KEY.week_ending, None)], run)
        ingest(spine, OTC, [KEY], run, Options(min_records=1))
        for name in MADE:
            compute(spine, steps_of(OTC)[name], [KEY], run)
    finally:
        spine.store.control.dispose()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the first release. For copying only."""
    home = tmp_path_factory.mktemp("faults") / "base"
    load(home, FIRST)
    return home


@pytest.fixture(scope="module")
def revised(base: Path) -> Hashes:
    """What every partition is after the revision, where nothing happened."""
    home = Path(shutil.copytree(base, base.with_name("revised")))
    load(home, REVISED)
    assert hashes(home) != hashes(base)
    return hashes(home)


@pytest.fixture
def place(base: Path, tmp_path: Path) -> Iterator[Place]:
    """A copy to be hurt; what was mounted below it goes with the test."""
    with ExitStack() as stack:
        yield Place(Path(shutil.copytree(base, tmp_path / "home")), base, stack)


def whole(home: Path, url: str = "") -> bool:
    """Whether `spine verify` has nothing to say."""
    store = Store.at(home, url)
    found = verify(store)
    store.control.dispose()
    assert found == []
    return True


# What is done to the disk, what is told of it, and the folder that the remedy names.
DISKS = [
    ("landing full", havoc.full("landing", 0), "cannot write .*/landing/.*No space left", "landing"),
    ("captures full", havoc.full("captures", 0), "cannot write .*/captures/.*No space left", "captures"),
    ("journal full", havoc.full("landing/journal", 0), "cannot write .*/journal/.*No space left", "landing/journal"),
    ("control full", havoc.full_control(0), "control database .*disk", "control"),
    ("control nearly full", havoc.full_control(40), "control database .*(disk|full)", "control"),
    ("captures read-only", havoc.read_only("captures"), "cannot write .*/captures/.*Read-only", "captures"),
    ("home read-only", havoc.read_only(""), "control database .*unable to open", ""),
]


@pytest.mark.parametrize(("strike", "cause", "folder"), [one[1:] for one in DISKS], ids=[one[0] for one in DISKS])
def test_a_disk_that_takes_no_more(
    place: Place, revised: Hashes, strike: Callable[[Place], Hurt], cause: str, folder: str
) -> None:
    """A traceback, half a write that is seen, or a lost row, where a disk is full or mounted read-only."""
    if not havoc.can_mount(place.home.parent):
        pytest.skip("mounting a small disk is not allowed here")
    hurt = strike(place)
    url = place.settings.get("MARKET_SPINE_CONTROL_URL", "")
    with pytest.raises(StoreError, match=cause) as caught:
        load(place.home, REVISED, url)
    assert str(place.home / folder) in caught.value.remedy
    assert hurt.remove is not None
    hurt.remove()
    assert whole(place.home, url)
    load(place.home, REVISED + MINUTE, url)
    assert havoc.contents(place.home, place.settings) == revised
    assert havoc.unaccounted(place.home, place.settings) == []
    assert whole(place.home, url)


def test_a_published_file_without_room(place: Place, base: Path) -> None:
    """An old file lost for a new one that could not be written, or a half one left beside it."""
    if not havoc.can_mount(place.home.parent):
        pytest.skip("mounting a small disk is not allowed here")
    store = Store.at(place.home)
    publish(store, tables_of(OTC), views_of(OTC))
    store.control.dispose()
    hurt = havoc.full("", 200)(place)
    before = store.home.published.read_bytes()
    with pytest.raises(StoreError, match=r"cannot write .*market_spine\.duckdb: No space left"):
        publish(store, tables_of(OTC), views_of(OTC))
    assert store.home.published.read_bytes() == before
    assert list(place.home.glob(".market_spine*")) == []
    assert hurt.remove is not None
    hurt.remove()
    publish(store, tables_of(OTC), views_of(OTC))
    store.control.dispose()


def older(path: Path) -> None:
    """The state before the newest transactions: as it is where a -wal is deleted, or an old copy put back."""
    home = path.parent
    kept = path.read_bytes()
    load(home, REVISED)
    path.write_bytes(kept)


LOSSES = {
    "pages overwritten": havoc.tear,
    "truncated": havoc.cut,
    "no byte left": havoc.empty,
    "not SQLite": havoc.garbage,
    "gone": Path.unlink,
    "older than the journal": older,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_a_control_database_that_is_lost(place: Place, revised: Hashes, lose: Callable[[Path], object]) -> None:
    """A store that looks empty, or that goes on from the middle of its history; a remedy that does not help."""
    lose(place.home / "control.db")
    with pytest.raises(StoreError) as caught:
        load(place.home, REVISED + MINUTE)
    assert "spine rebuild" in caught.value.remedy
    spine = Spine(Store.at(place.home, threads=1), SyntheticSource.from_spec(RECIPE), lambda: REVISED)
    report = rebuild(spine, [OTC])
    assert (report.differences, report.swapped) == ([], True)
    spine.store.control.dispose()
    load(place.home, REVISED + 2 * MINUTE)
    assert hashes(place.home) == revised
    assert whole(place.home)


def test_a_lost_control_database_is_no_new_store(place: Place) -> None:
    """A command that begins an empty store where one was lost, or says that there never was one."""
    (place.home / "control.db").unlink()
    for command in (("query", "otc_raw"), ("verify",), ("init",)):
        answer = call("--home", str(place.home), *command, width=200)
        assert answer.code == 2
        assert "is missing or empty, its journal has" in answer.err
        assert "rebuild" in answer.err


def test_damage_that_only_an_index_has(place: Place) -> None:
    """A store that is called whole until the next write finds out."""
    path = place.home / "control.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_core_batches_1'")
        (number,) = page.fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    start = (number - 1) * size
    data[start + 100 : start + size] = bytes(size - 100)
    path.write_bytes(data)
    store = Store.at(place.home)
    try:
        found = [(one.kind, one.remedy) for one in verify(store)]
    except DamageError as error:
        found = [("control", error.remedy)]
    store.control.dispose()
    assert found
    assert all(kind == "control" and "spine rebuild" in remedy for kind, remedy in found)


UNREADABLE = {
    "no moment": ("UPDATE core_batches SET committed_at = '2025-13-01'", "'2025-13-01' where a moment stands"),
    "no date": ("UPDATE core_manifest SET week_ending = '2025-99-14'", "core_manifest cannot be read"),
    "no text": ("UPDATE core_manifest SET inputs_hash = CAST(x'ff31' AS TEXT)", "Could not decode"),
}


@pytest.mark.parametrize(("sql", "cause"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_row_that_cannot_be_read(place: Place, base: Path, sql: str, cause: str) -> None:
    """A driver's ValueError where a flipped bit made a date into none, and a rebuild that stumbles over it too."""
    with closing(sqlite3.connect(place.home / "control.db")) as connection, connection:
        connection.execute(sql)
    store = Store.at(place.home)
    with pytest.raises(DamageError, match=cause) as caught:
        verify(store)
    assert "spine rebuild" in caught.value.remedy
    report = rebuild(Spine(store, SyntheticSource.from_spec(RECIPE), lambda: REVISED), [OTC])
    assert (report.differences, report.swapped) == ([], True)
    store.control.dispose()
    assert hashes(place.home) == hashes(base)
    assert whole(place.home)


def test_the_database_file_alone_has_everything_between_commands(base: Path, tmp_path: Path) -> None:
    """A copy of control.db that lacks what lies in the -wal: a process that ends folds it in."""
    home = tmp_path / "home"
    shutil.copytree(base, home)
    command = ["spine", "--home", str(home), "readiness", "otc"]
    code = f"import sys; sys.argv = {command!r}; from market_spine.cli import main; main()"
    subprocess.run(["python", "-c", code], capture_output=True, check=False)
    assert list(home.glob("control.db-*")) == []


def test_duckdb_without_room_for_its_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB's own advice (settings that a user cannot reach), and a remedy for another trouble."""
    heavy = "CREATE TABLE t AS SELECT hash(i) AS h, i FROM range(3000000) r(i)"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StoreError, match="no room left") as caught, engine.connect(1, "20MB") as connection:
        connection.execute(f"SET max_temp_directory_size = '1MB'; {heavy}")
    assert f"df -h {tmp_path}" in caught.value.remedy
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="market_spine_spill"), engine.connect(1, "20MB") as connection:
        connection.execute(heavy)


def test_a_clock_that_reads_earlier_than_the_store_is_told(base: Path) -> None:
    """A week that "is not due yet" by a clock that went back a year, without a word of why."""
    home = base.with_name("tomorrow")
    shutil.copytree(base, home)
    store = Store.at(home)
    with store.control.write() as connection:
        connection.exec_driver_sql("UPDATE core_batches SET committed_at = '2999-01-01T00:00:00.000000Z'")
    store.control.dispose()
    source = ("--source", f"synthetic:{RECIPE}")
    command = ("run", "otc.ingest_week", "-w", str(KEY.week_ending), "--tier", "OTC", "--dry-run", *source)
    answer = call("--home", str(home), *command, width=200)
    assert "but the newest transaction is of 2999-01-01 00:00" in answer.err
    assert "timedatectl" in answer.err
    assert "newest transaction" not in call("--home", str(base), *command, width=200).err


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Dagster record of one run. For copying only, its configuration apart."""
    folder = tmp_path_factory.mktemp("dagster") / "dagster"
    folder.mkdir()
    with open_instance(folder) as instance:
        one_run(instance)
    return folder


def one_run(instance: dg.DagsterInstance) -> None:
    """The smallest run that there is."""

    @dg.asset
    def nothing() -> None:
        """Nothing."""

    assert dg.materialize([nothing], instance=instance).success


def copied(record: Path, target: Path) -> Path:
    shutil.copytree(record, target)
    (target / "dagster.yaml").unlink()  # it names the folder; opening writes it anew
    return target


DATABASES = [
    ("history/runs.db", havoc.tear),
    ("history/runs/index.db", havoc.cut),
    ("schedules/schedules.db", havoc.garbage),
]


@pytest.mark.parametrize(("name", "how"), DATABASES, ids=[f"{name} {how.__name__}" for name, how in DATABASES])
def test_a_damaged_record_of_runs(record: Path, tmp_path: Path, name: str, how: Callable[[Path], object]) -> None:
    """SQLAlchemy's traceback for a file of Dagster's; a remedy that leaves it unusable, or loses what can be kept."""
    folder = copied(record, tmp_path / "dagster")
    how(folder / name)
    with pytest.raises(DamageError, match=f"record of runs in .* is damaged: {name}: ") as caught, in_words(folder):
        use(folder)
    command = caught.value.remedy.partition("then: ")[2].partition("  #")[0]
    subprocess.run(command, shell=True, check=True)
    kept = {path.name for path in (folder / "damaged").iterdir()}
    assert {Path(name).name} <= kept <= {f"{Path(name).name}{end}" for end in ("", "-wal", "-shm")}
    use(folder)


def use(folder: Path) -> None:
    """Open the record, run something, and ask what a daemon asks."""
    with open_instance(folder) as instance:
        one_run(instance)
        assert instance.get_runs_count() > 0
        assert list(instance.all_instigator_state()) == []


def test_a_record_of_runs_without_room(record: Path, tmp_path: Path) -> None:
    """A run that fails by a driver's words, or goes on without being recorded, where Dagster's disk is full."""
    if not havoc.can_mount(tmp_path):
        pytest.skip("mounting a small disk is not allowed here")
    folder = copied(record, tmp_path / "dagster")
    with ExitStack() as stack:
        hurt = havoc.full("dagster", 0)(Place(tmp_path, tmp_path, stack))
        with pytest.raises(StoreError, match=f"({folder}|cannot write)") as caught, in_words(folder):
            use(folder)
        assert f"df -h {folder}" in caught.value.remedy
        assert hurt.remove is not None
        hurt.remove()
        use(folder)
        assert "KeptConnectionsEventLog" in (folder / "dagster.yaml").read_text()  # whole: half a file is another one


def test_what_is_not_of_the_record_passes(tmp_path: Path) -> None:
    """A failure of something else that is blamed on Dagster's disk."""
    with pytest.raises(SpineError, match="mine"), in_words(tmp_path):
        raise SpineError("mine", "nothing")
    with pytest.raises(FileNotFoundError), in_words(tmp_path):
        Path("/nowhere/at/all").read_bytes()


def test_the_bound_of_clocks_is_small() -> None:
    """A skew that hides an hour."""
    from market_spine.store.ledger import CLOCK_SKEW

    assert timedelta(seconds=10) <= CLOCK_SKEW <= timedelta(minutes=5)


def test_the_program_restates_weeks_that_its_store_takes() -> None:
    """A program of faults that is refused before the fault, since a store takes one series of generated weeks."""
    first, restated = (SyntheticSource.from_spec(one.partition(":")[2]) for one in (faults.SOURCE, faults.RESTATED))
    assert first.series == restated.series
    assert first.recipe != restated.recipe
