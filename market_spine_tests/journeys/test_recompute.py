"""Making exactly what depended again: the runs that it takes, and real ones over a restated week in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_spine.assets.partitions import WEEK_TIERS, WEEKS, week_key
from market_spine.assets.tables import derived_of, steps_of
from market_spine.automation.launch import Outcome
from market_spine.automation.recompute import launches_of, recompute
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import weeks_between
from market_spine.feeds.otc import FEED
from market_spine.governance.staleness import Recompute, to_recompute
from market_spine_tests.journeys.stage import OTC, T1, Clock, Scene, copied, line, put, staged, text

pytestmark = pytest.mark.xdist_group("recompute")
FIRST, SECOND = datetime(2026, 1, 20, 12, tzinfo=UTC), datetime(2026, 1, 21, 12, tzinfo=UTC)
FRIDAYS = weeks_between(date(2025, 9, 5), date(2025, 11, 28))  # thirteen
RESTATED = WeekKey(FRIDAYS[4], OTC)  # 2025-10-03: eight weeks after it, so that six-week windows end before the last
LATE = WeekKey(FRIDAYS[8], T1)
STEPS = steps_of(FEED)


def delivery(week: WeekKey, more_shares: int = 0, trades: int = 2) -> bytes:
    rows = [line(week, f"S{n:02}", mpid, 100 + n, 2) for n in range(4) for mpid in ("UBSA", "ALPX")]
    return text([*rows, line(week, "MOVED", "UBSA", 500 + more_shares, trades)])


def outstanding(scene: Scene) -> Recompute:
    with scene.spine.store.control.read() as connection:
        return to_recompute(connection, derived_of(FEED))


def carry_out(scene: Scene, todo: Recompute) -> Outcome:
    outcome = recompute(scene.spine, [FEED], todo.partitions, scene.instance, log_level="CRITICAL")
    scene.runs += outcome.run_ids
    return outcome


def every_capture(scene: Scene) -> dict[str, tuple[str, WeekKey]]:
    names = {name: scene.captures(name) for name in ("raw", *STEPS)}
    return {one.capture_id: (name, one.key) for name, found in names.items() for one in found}


@pytest.fixture(scope="module")
def thirteen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Thirteen weeks of OTC and two of Tier 1, all up to date."""
    folder = tmp_path_factory.mktemp("thirteen")
    files = folder / "files"
    keys = [*(WeekKey(friday, OTC) for friday in FRIDAYS), WeekKey(RESTATED.week_ending, T1), WeekKey(FRIDAYS[5], T1)]
    for week in (*keys, LATE):
        put(files, week, delivery(week))
    with staged(folder / "home", f"file:{files}", Clock(FIRST)) as scene:
        scene.refresh(*keys)
        scene.clock.moment = SECOND
        assert scene.stale() == []
        yield scene


@pytest.fixture
def loaded(thirteen: Scene, tmp_path: Path) -> Iterator[Scene]:
    """To be changed. The files are in tmp_path / "files"."""
    with copied(thirteen, tmp_path) as scene:
        yield scene


def windows_of(week: WeekKey) -> set[tuple[str, WeekKey]]:
    """Every partition that depends on ``week`` of raw, from what the tables declare; all weeks of OTC are there."""
    found = set()
    for name, step in STEPS.items():
        start = FRIDAYS.index(week.week_ending)
        fridays = FRIDAYS[start : start + step.calculation.weeks_back + 1]
        found |= {(name, WeekKey(friday, week.tier if step.table.by_tier else None)) for friday in fridays}
    return found


@pytest.mark.slow
def test_a_restated_week_in_the_middle(loaded: Scene, tmp_path: Path) -> None:
    """F184, F188: windows that still show the old week, weeks made for nothing, or a second run that does it again."""
    put(tmp_path / "files", RESTATED, delivery(RESTATED, more_shares=1_000))
    assert loaded.run("otc.ingest_week", RESTATED).is_complete
    before = every_capture(loaded)
    todo = outstanding(loaded)
    expected = windows_of(RESTATED)
    assert {(part.capture.table_name, part.capture.key) for part in todo.parts} == {
        (FEED.sql_name(name), key) for name, key in expected
    }
    assert [str(part.place) for part in todo.parts if part.is_stale] == ["otc_venue_volume OTC 2025-10-03"]

    outcome = carry_out(loaded, todo)
    assert outcome.is_complete, outcome
    new = {place for capture_id, place in every_capture(loaded).items() if capture_id not in before}
    assert new == expected
    query = "SELECT mean_volume * weeks_in_window FROM otc_symbol_rolling_6w WHERE symbol = 'MOVED' AND week_ending = ?"
    assert loaded.one(query, FRIDAYS[9])[0] == pytest.approx(6 * 500 + 1_000)
    assert loaded.one(query, FRIDAYS[10])[0] == pytest.approx(6 * 500)
    with duckdb.connect(str(loaded.spine.store.home.published), read_only=True) as published:
        moved = (
            "SELECT total_volume FROM otc_symbol_summary WHERE symbol = 'MOVED' AND tier = 'OTC' AND week_ending = ?"
        )
        assert published.execute(moved, [RESTATED.week_ending]).fetchall() == [(1_500,)]

    again = outstanding(loaded)
    assert (again.parts, loaded.stale()) == ((), [])
    assert carry_out(loaded, again).run_ids == []
    assert carry_out(loaded, todo).is_complete, "what is up to date by then is left alone"
    assert {place for capture_id, place in every_capture(loaded).items() if capture_id not in before} == expected


@pytest.mark.slow
def test_a_tier_that_comes_late(loaded: Scene) -> None:
    """A split of one tier, or windows of five weeks, that stay as they are because nothing of theirs was superseded."""
    measures = [name for name, step in STEPS.items() if step.table.by_tier and not step.calculation.weeks_back]
    for name in ("raw", *measures):
        assert loaded.run(f"otc/{name}", LATE).is_complete
    todo = outstanding(loaded)
    assert todo.partitions == {"otc_tier_split": [WeekKey(LATE.week_ending, None)]}
    (part,) = todo.parts
    assert part.reasons == (f"input otc_venue_share NMS_TIER_1 {LATE.week_ending} has arrived since",)
    assert carry_out(loaded, todo).is_complete
    assert loaded.counts("otc_tier_split", where=f"week_ending = DATE '{LATE.week_ending}'") == (2,)
    assert loaded.stale() == []


@pytest.mark.slow
def test_what_is_blocked_stays_as_it_was(loaded: Scene, tmp_path: Path) -> None:
    """A week that must not be used, and that its windows take in; or a failure that is told as success."""
    put(tmp_path / "files", RESTATED, delivery(RESTATED, more_shares=-500, trades=9))  # trades without shares
    loaded.run("otc.ingest_week", RESTATED)
    before = every_capture(loaded)
    todo = outstanding(loaded)
    outcome = carry_out(loaded, todo)
    assert list(outcome.without_capture) == ["otc/venue_volume"]
    assert list(outcome.without_capture["otc/venue_volume"]) == [str(RESTATED)]
    assert every_capture(loaded) == before
    assert outstanding(loaded) == todo


# How partitions become runs.
def keys(*texts: str) -> list[WeekKey]:
    return [WeekKey.from_string(one) for one in texts]


def told(partitions: dict[str, list[WeekKey]]) -> list[str]:
    """The runs for ``partitions`` by short table name: assets, and from which partition to which."""
    found = launches_of(FEED, {FEED.sql_name(name): chosen for name, chosen in partitions.items()})
    return [
        " ".join(
            [*("/".join(key.path[1:]) for key in one.assets), *([f"{one.first}..{one.last}"] if one.first else [])]
        )
        for one in found
    ]


def test_tables_with_the_same_partitions_share_a_run() -> None:
    """A run per table, a run over weeks that nobody asked for, or a file that is published after each."""
    one, windows = keys("OTC:2025-11-07"), keys("OTC:2025-11-07", "OTC:2025-11-14", "OTC:2025-11-28")
    asked = {"symbol_summary": one, "symbol_venue_share": one, "symbol_hhi": one, "symbol_rolling_6w": windows}
    assert told(asked | {"tier_split": keys("ALL:2025-11-07")}) == [
        "symbol_summary symbol_venue_share symbol_hhi OTC|2025-11-07..OTC|2025-11-07",
        "tier_split 2025-11-07..2025-11-07",
        "symbol_rolling_6w OTC|2025-11-07..OTC|2025-11-14",
        "symbol_rolling_6w OTC|2025-11-28..OTC|2025-11-28",
        "readiness 2025-11-07..2025-11-14",
        "readiness 2025-11-28..2025-11-28",
        "published",
    ]
    assert told({}) == told({"raw": one}) == []


def test_a_table_between_two_others_parts_their_run() -> None:
    """A table that is made in one run with its input's input, and so before its input."""
    one, both = keys("OTC:2025-11-07"), keys("OTC:2025-11-07", "OTC:2025-11-14")
    assert told({"venue_volume": one, "symbol_venue_share": both, "symbol_hhi": one})[:3] == [
        "venue_volume OTC|2025-11-07..OTC|2025-11-07",
        "symbol_venue_share OTC|2025-11-07..OTC|2025-11-14",
        "symbol_hhi OTC|2025-11-07..OTC|2025-11-07",
    ]


@st.composite
def partitions(draw: st.DrawFn) -> dict[str, list[WeekKey]]:
    """Any partitions of any tables; two sets of them, so that tables share them often."""
    week_tiers = st.builds(WeekKey, st.sampled_from(FRIDAYS), st.sampled_from(Tier))
    sets = [draw(st.lists(week_tiers, min_size=1, max_size=4, unique=True)) for _ in range(2)]
    chosen = draw(st.dictionaries(st.sampled_from([*STEPS]), st.sampled_from(sets)))
    return {
        name: found if STEPS[name].table.by_tier else sorted({replace(one, tier=None) for one in found})
        for name, found in chosen.items()
    }


@given(partitions())
@settings(max_examples=60)
def test_runs_are_exact_and_in_order(asked: dict[str, list[WeekKey]]) -> None:
    """A partition that is left out, made twice, made for nothing, or made before its input."""
    runs = launches_of(FEED, {FEED.sql_name(name): found for name, found in asked.items()})
    made: dict[str, list[WeekKey]] = {}
    last: dict[str, int] = {}
    for number, run in enumerate(runs):
        for name in (asset.path[1] for asset in run.assets):
            if name in STEPS:
                definition = WEEK_TIERS if STEPS[name].table.by_tier else WEEKS
                spread = dg.PartitionKeyRange(str(run.first), str(run.last))
                made.setdefault(name, []).extend(map(week_key, definition.get_partition_keys_in_range(spread)))
                last[name] = number
                assert all(last[one] <= number for one in STEPS[name].inputs if one in asked)
    assert {name: sorted(found) for name, found in made.items()} == {
        name: sorted(found) for name, found in asked.items()
    }
    names = [run.assets[0].path[1] for run in runs]
    assert names.count("published") == bool(asked)
    assert not asked or names[-1] == "published"
