"""The five scenarios through three doors: whoever asks, by whatever door, is told the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from market_spine.cli.scenarios import Name
from market_spine_tests.api import doors
from market_spine_tests.api.server import serving
from market_spine_tests.journeys.plays import Plays

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plays")]

# The week that each story is about, what becomes of it for trading and for research, and a table that tells it.
STORIES = {
    Name.MISSING_TIER: ("2025-11-14", "CERTIFIED", "CERTIFIED", "otc_tier_split"),
    Name.PARTIAL_VENUES: ("2025-11-14", "MISSING", "CERTIFIED", "otc_venue_share"),
    Name.ZERO_VOLUME: ("2025-11-14", "BLOCKED", "CERTIFIED", "otc_raw"),
    Name.LATE_REVISION: ("2025-11-14", "CERTIFIED", "CERTIFIED", "otc_symbol_hhi"),
    Name.CALENDAR_CORRECTION: ("2025-01-10", "CERTIFIED", "CERTIFIED", "otc_volume_per_day"),
}


@pytest.mark.parametrize("name", Name)
def test_a_scenario_is_one_story_through_three_doors(plays: Plays, name: Name, tmp_path: Path) -> None:
    """Prevents a program from acting on another ending than the one that people are shown."""
    play, (week, trading, research, table) = plays.of(name), STORIES[name]
    ((ended,),) = play.sql("SELECT max(committed_at) FROM core_batches")
    ((first,),) = play.sql("SELECT min(captured_at) FROM core_manifest WHERE table_name = ?", table)
    home = Path(shutil.copytree(play.home, tmp_path / "home"))
    verdicts = doors.readiness(home, ended, week)
    assert (verdicts["trading"]["state"], verdicts["research"]["state"]) == (trading, research)
    doors.lists(home, ended)
    with serving(home) as api:
        latest, begun, every, then = doors.rows(api, doors.commands(home), table, week, first.isoformat())
    assert 0 < begun <= every
    assert 0 < latest <= every
    assert then <= begun
