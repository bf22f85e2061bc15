"""Damage tells nobody by itself: the daily look finds it, its week is blocked, and a rebuild ends both."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from market_spine.assets import scope
from market_spine.assets.rebuild import rebuild
from market_spine.assets.wholeness import look_through
from market_spine.automation.health import health_job
from market_spine.feeds.otc import FEED
from market_spine.store import anomalies
from market_spine.store.ledger import Run
from market_spine.store.manifest import Question
from market_spine_tests.journeys.stage import Clock, Scene, copied, key, line, lines, put, staged, text

WEEK, FRIDAY = key("2025-11-14"), date(2025, 11, 14)
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wholeness")]
BEGIN = datetime(2026, 1, 14, 15, tzinfo=UTC)  # a Wednesday


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A week of one tier, restated once."""
    folder, clock = tmp_path_factory.mktemp("sound"), Clock(BEGIN)
    with staged(folder / "home", f"file:{folder / 'files'}", clock) as stage:
        put(folder / "files", WEEK, text(lines(WEEK, 30)))
        stage.refresh(WEEK)
        clock.forward(hours=1)
        put(folder / "files", WEEK, text([*lines(WEEK, 30), line(WEEK, "LATER", "UBSA", 5, 1)]))
        stage.refresh(WEEK)
        yield stage


@pytest.fixture
def scene(sound: Scene, tmp_path: Path) -> Iterator[Scene]:
    with copied(sound, tmp_path) as stage:
        yield stage


def found(scene: Scene) -> list[tuple[str, str, str, date, str]]:
    """Code, severity, table, week and tier of all open damage."""
    with scene.spine.store.control.read() as connection:
        rows = [row for row in anomalies.open_rows(connection) if row["code"] == "DAMAGED"]
    return sorted((row["code"], row["severity"], row["table_name"], row["week_ending"], row["tier"]) for row in rows)


def look(scene: Scene) -> int:
    """How many anomalies the daily look opened, changed and closed."""
    changes = look_through(scene.spine.store, FEED, Run("look", "look", scene.clock.forward(hours=1)))
    return len([*changes.opened, *changes.changed, *changes.resolved])


def alter(path: Path) -> None:
    """One byte, as a disk does: of the same length."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(data)


def file_of(scene: Scene, table: str, is_current: bool) -> Path:
    every = scene.captures(table)
    (capture,) = [one for one in every if bool(one.is_current) == is_current]
    return scene.spine.store.home.captures / capture.file_path


def against(scene: Scene) -> set[str]:
    """What stands against the use of the week for trading."""
    scope.judge(scene.spine.store, Run("judge", "judge", scene.clock.forward(minutes=1)), FEED)
    query = sa.text(
        "SELECT blocking_issues FROM core_data_readiness WHERE ready_for = 'trading' AND week_ending = :week"
    )
    with scene.spine.store.control.read() as connection:
        issues = connection.scalars(query, {"week": str(FRIDAY)}).one()
    return {word for word in ("CRITICAL_ANOMALIES", "INCOMPLETE_STAGES") if word in issues}


def test_a_sound_store_leaves_no_trace(scene: Scene) -> None:
    """Prevents a transaction a day about nothing."""
    assert look(scene) == 0


def test_a_damaged_capture_blocks_its_week_until_it_is_rebuilt(scene: Scene) -> None:
    """Prevents a certificate for a week whose rows cannot be read, and a block that outlives the repair."""
    before = against(scene)
    alter(file_of(scene, "venue_share", is_current=True))
    assert (look(scene), look(scene)) == (1, 0)  # and says it once
    assert found(scene) == [("DAMAGED", "CRITICAL", "otc_venue_share", FRIDAY, "OTC")]
    assert against(scene) == before | {"CRITICAL_ANOMALIES"}
    assert rebuild(scene.spine, [FEED]).swapped
    assert (look(scene), found(scene)) == (1, [])
    assert against(scene) == before


def test_what_was_superseded_blocks_nothing(scene: Scene) -> None:
    """Prevents a week from being withheld for rows that only answers about the past would read."""
    alter(file_of(scene, "venue_share", is_current=False))
    assert look(scene) == 1
    assert found(scene) == [("DAMAGED", "ERROR", "otc_venue_share", FRIDAY, "OTC")]
    assert "CRITICAL_ANOMALIES" not in against(scene)


def test_what_belongs_to_no_week_is_told_in_the_week_of_the_day(scene: Scene) -> None:
    """Prevents landing and journal from being left out; a second day finds the same, in whatever week it is."""
    for path in scene.spine.store.home.landing.rglob("objects/*/*.zst"):
        alter(path)
    assert look(scene) == 1
    scene.clock.forward(days=9)
    assert look(scene) == 0
    assert found(scene) == [("DAMAGED", "ERROR", "store:landing", date(2026, 1, 16), "ALL")]


def test_the_daily_health_run_looks(scene: Scene) -> None:
    """Prevents the check from being there and run by nobody; the run's log names what it found."""
    alter(file_of(scene, "raw", is_current=True))
    scene.clock.forward(hours=1)
    result = health_job(FEED).execute_in_process(instance=scene.instance, resources={"spine": scene.spine})
    assert result.success
    assert [row[2] for row in found(scene)] == ["otc_raw"]


def test_a_restated_week_is_blocked_no_longer(scene: Scene, tmp_path: Path) -> None:
    """Prevents a week from being withheld until tomorrow's look, though what is in force is whole."""
    alter(file_of(scene, "raw", is_current=True))
    look(scene)
    assert "CRITICAL_ANOMALIES" in against(scene)
    put(tmp_path / "files", WEEK, text(lines(WEEK, 28)))
    scene.clock.forward(hours=1)
    scene.refresh(WEEK)
    scope.look(scene.spine, FEED, Run("minute", "minute", scene.clock.forward(minutes=1)))
    assert found(scene) == [("DAMAGED", "ERROR", "otc_raw", FRIDAY, "OTC")]
    assert "CRITICAL_ANOMALIES" not in against(scene)


def test_a_damaged_calendar_blocks_its_week(scene: Scene) -> None:
    """Prevents damage of what every feed shares from being told to nobody."""
    (capture,) = scene.spine.store.select(Question(("reference_trading_calendar",)))
    alter(scene.spine.store.home.captures / capture.file_path)
    look(scene)
    assert found(scene) == [("DAMAGED", "CRITICAL", "reference_trading_calendar", FRIDAY, "ALL")]
    assert "CRITICAL_ANOMALIES" in against(scene)


def test_more_of_the_same_is_news(scene: Scene) -> None:
    """Prevents a disk that goes on failing from looking like one bad sector."""
    first, second = sorted(scene.spine.store.home.landing.rglob("objects/*/*.zst"))[:2]
    alter(first)
    assert look(scene) == 1
    alter(second)
    assert look(scene) == 1
    with scene.spine.store.control.read() as connection:
        (row,) = [row for row in anomalies.open_rows(connection) if row["code"] == "DAMAGED"]
    assert (row["affected_records"], row["message"][-12:]) == (2, "; and 1 more")


def test_what_cannot_be_read_hides_nothing_else(scene: Scene) -> None:
    """Prevents one unreadable row from ending the look before anything is on record."""
    store = scene.spine.store
    with store.control.write() as connection:
        connection.execute(sa.text("UPDATE core_quality SET checked_at = 'yesterday'"))
    for path in store.home.landing.rglob("objects/*/*.zst"):
        alter(path)
    look(scene)
    assert [row[2] for row in found(scene)] == ["store:control", "store:landing"]
