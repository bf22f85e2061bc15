"""Rebuilding from landing: whatever happens to captures and control rows, the bytes and the journal bring them back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.assets import rebuild as rebuilding
from market_spine.assets.rebuild import rebuild
from market_spine.assets.tables import steps_of
from market_spine.domain.errors import StoreError
from market_spine.feeds.otc import FEED
from market_spine.store import exchange
from market_spine.store.files import fsync_folder
from market_spine.store.gc import collect
from market_spine.store.verify import verify
from market_spine_tests.extended import extended
from market_spine_tests.journeys.losses import (
    LOSSES,
    MORE_LOSSES,
    NEXT,
    Killed,
    contents,
    flip_a_byte,
    lose_one_capture,
    rebuilt,
)
from market_spine_tests.journeys.stage import OTC, Scene, key, lines, staged, text

pytestmark = pytest.mark.xdist_group("rebuild")  # one history for all


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


@pytest.mark.extended
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


@pytest.mark.parametrize(
    "lose",
    [*LOSSES, *map(extended, MORE_LOSSES)],
    ids=lambda lose: lose.__name__,
)
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


@pytest.mark.extended
def test_a_week_that_is_calculated_while_the_files_come_over_is_there(
    stage: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measures whose inputs are no longer where the replay looks for them, so that the repair gives up."""
    late = key("2025-12-05")
    done: list[Path] = []
    (tmp_path / "late.csv").write_bytes(text(lines(late, 10)))

    def load(folder: Path) -> None:
        if not done:
            done.append(folder)
            stage.file(tmp_path / "late.csv").run("otc.weekly_refresh", late)
        fsync_folder(folder)

    monkeypatch.setattr(exchange, "fsync_folder", load)
    rebuilt(stage)
    assert stage.current("symbol_hhi", late).row_count > 0
    assert verify(stage.spine.store) == []


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
