"""Bad deliveries through the whole graph: one range run over a week per case, so that no case may hold up another."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from market_spine.assets.capture import Options
from market_spine.assets.tables import steps_of
from market_spine.domain.keys import WeekKey
from market_spine.domain.weeks import last_n_weeks
from market_spine.feeds.otc import FEED
from market_spine.sources.files import FileSource
from market_spine_tests.journeys.bad_files import CASES, GOOD, Case, row, with_rows
from market_spine_tests.journeys.stage import OTC, Clock, Scene, key, line, lines, put, staged, text

# Each case has a week of its own, all of them due; the last weeks of 2025 are for the tests of single partitions.
WEEKS = dict(zip(CASES, (WeekKey(week, OTC) for week in last_n_weeks(len(CASES), date(2025, 10, 31))), strict=True))
GATED = Options()
NOVEMBER = key("2025-11-14")
ZERO_VOLUME = with_rows(*[row(f"Z{number}", shares=0, trades=3) for number in range(150)])


pytestmark = pytest.mark.xdist_group("bad-input")  # one load for all


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("deliveries")
    for name, case in CASES.items():
        put(made, WEEKS[name], case.make(WEEKS[name]))
    return made


@pytest.fixture(scope="module")
def stage(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Every case, loaded by one range run over all weeks."""
    with staged(tmp_path_factory.mktemp("home"), f"file:{folder}") as scene:
        outcome = scene.run("otc.weekly_refresh", *WEEKS.values(), options=GATED)
        assert outcome.failures == []
        assert all(scene.success(run_id) for run_id in outcome.run_ids), "one bad week failed the range"
        yield scene


EACH = pytest.mark.parametrize(("name", "case"), CASES.items(), ids=list(CASES))


@EACH
def test_rows(stage: Scene, name: str, case: Case) -> None:
    """A bad row that gets in, a good one that is lost, or a bad week that is captured all the same."""
    held = {table: one.row_count for table, one in stage.current_of(WEEKS[name]).items()}
    assert (held.get("raw"), held.get("venue_volume")) == (case.raw, case.clean)
    later = len(steps_of(FEED)) if case.clean else 0
    assert len(held) == later + (case.raw is not None), "what is blocked has nothing later"
    actions = stage.sql(
        "SELECT action FROM core_deliveries WHERE week_ending = ? AND tier = 'OTC'", WEEKS[name].week_ending
    )
    assert actions == ([(case.action,)] if case.action else [])


@EACH
def test_what_is_set_aside(stage: Scene, name: str, case: Case) -> None:
    """A reject without its line, under another reason, or counted where it is still used."""
    for table, expected in (("otc_raw", case.rejects), ("otc_venue_volume", case.aside)):
        found = stage.sql(
            "SELECT line_no, reason_code, scope FROM core_rejects WHERE table_name = ? AND week_ending = ? ORDER BY 1",
            table,
            WEEKS[name].week_ending,
        )
        assert found == list(expected)


@EACH
def test_findings(stage: Scene, name: str, case: Case) -> None:
    """A finding that is not recorded, of another severity, or one about a week that is fine."""
    found = stage.sql(
        "SELECT check_name, severity FROM core_quality WHERE week_ending = ? AND status = 'failed'"
        " AND table_name IN ('otc_raw', 'otc_venue_volume') AND check_name <> 'publication_date'",
        WEEKS[name].week_ending,
    )
    assert sorted(found) == sorted(case.failed)


@EACH
def test_bytes_are_landed(stage: Scene, name: str, case: Case) -> None:
    """A delivery whose bytes are not kept because they are bad: they are the evidence."""
    assert stage.landed(WEEKS[name]) == ([case.make(WEEKS[name])] if case.action else [])


def test_every_line_is_accounted_for(stage: Scene) -> None:
    """A line that is neither a row nor a reject, a row that is neither summed nor set aside."""
    raw = """
        SELECT week_ending, line_count, (SELECT count(*) FROM otc_raw r WHERE r.week_ending = d.week_ending)
             + (SELECT count(*) FROM core_rejects j WHERE j.week_ending = d.week_ending AND table_name = 'otc_raw')
        FROM core_deliveries d WHERE action = 'inserted' AND domain = 'finra.otc_transparency' ORDER BY 1"""
    found = stage.sql(raw)
    assert len(found) == sum(case.action == "inserted" for case in CASES.values())
    assert all(read == kept for _, read, kept in found), found
    normal = """
        SELECT week_ending, count(*),
               (SELECT sum(row_count) FROM otc_venue_volume v WHERE v.week_ending = r.week_ending)
             + (SELECT count(*) FROM core_rejects j WHERE j.week_ending = r.week_ending
                AND table_name = 'otc_venue_volume' AND scope = 'ROW')
        FROM otc_raw r SEMI JOIN otc_venue_volume USING (week_ending) GROUP BY ALL ORDER BY 1"""
    assert all(rows == kept for _, rows, kept in stage.sql(normal))


def test_a_reject_shows_its_line(stage: Scene) -> None:
    """A reject that cannot be found again in the file."""
    week = WEEKS["words for shares"]
    query = "SELECT raw_text, detail, source_id FROM core_rejects WHERE week_ending = ?"
    (landed,) = [one for one in stage.spine.landing.deliveries(FEED.domain) if one.key == week]
    assert stage.one(query, week.week_ending) == (
        line(week, "ZZ", "UBSA", "many", 2),
        "shares many, trades 2",
        landed.landing_id,
    )


def test_a_row_without_a_symbol_counts_for_its_venue(stage: Scene) -> None:
    """The private placement's row in symbol metrics, or lost to its venue (a real one ends the file of 2025-12-29)."""
    week = WEEKS["blank symbol at the end"].week_ending
    by_venue = "SELECT total_volume, symbol_count FROM otc_venue_share WHERE mpid = 'PPEX' AND week_ending = ?"
    assert stage.one(by_venue, week) == (1, 0)
    assert stage.one("SELECT count(*) FROM otc_symbol_summary WHERE week_ending = ?", week) == (GOOD // 2,)
    assert stage.sql("SELECT 1 FROM otc_symbol_summary WHERE symbol = ''") == []


def test_a_tape_move_is_summed(stage: Scene) -> None:
    """Two reports of one venue counted as two venues, or one of them lost."""
    where = f"week_ending = DATE '{WEEKS['tape move'].week_ending}' AND symbol = 'ZZ'"
    assert stage.one(f"SELECT total_shares, total_trades, row_count FROM otc_venue_volume WHERE {where}") == (40, 5, 2)
    assert stage.one(f"SELECT venue_count FROM otc_symbol_summary WHERE {where}") == (1,)


def test_no_volume_is_no_nonsense(stage: Scene) -> None:
    """A stock without volume that gets a share of 0, of NaN, or none of its row."""
    where = f"week_ending = DATE '{WEEKS['no volume at all'].week_ending}' AND symbol = 'ZZ'"
    assert stage.one(f"SELECT total_volume, venue_count FROM otc_symbol_summary WHERE {where}") == (0, 1)
    assert stage.one(f"SELECT hhi FROM otc_symbol_hhi WHERE {where}") == (None,)


def test_symbols_stay_text(stage: Scene) -> None:
    """NA read as missing, TRUE as a truth value, 1E5 as a number."""
    where = f"week_ending = DATE '{WEEKS['symbols like words'].week_ending}' AND symbol NOT LIKE 'S0%'"
    found = stage.sql(f"SELECT symbol FROM otc_symbol_summary WHERE {where} ORDER BY 1")
    assert found == [("1E5",), ("NA",), ("NAN",), ("NULL",), ("TRUE",)]


def test_the_same_bad_files_again(stage: Scene) -> None:
    """Rejects that pile up with every attempt, a new capture of the same content."""
    before = stage.counts("core_rejects", "core_manifest")
    outcome = stage.run("otc.weekly_refresh", *WEEKS.values(), options=GATED)
    assert outcome.failures == []
    assert stage.counts("core_rejects", "core_manifest") == before
    assert stage.sql("SELECT DISTINCT action FROM core_deliveries ORDER BY 1") == [
        ("blocked",),
        ("inserted",),
        ("skipped",),
    ]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Scene]:
    """A home of its own, fed from the folder ``files``."""
    (tmp_path / "files").mkdir()
    with staged(tmp_path / "home", f"file:{tmp_path / 'files'}", Clock()) as scene:
        yield scene


def test_zero_volume_blocks_its_week_only(alone: Scene, tmp_path: Path) -> None:
    """150 rows of trades without shares that reach a measure, or that hold up the other week."""
    good = key("2025-11-07")
    put(tmp_path / "files", good, text(lines(good, GOOD)))
    put(tmp_path / "files", NOVEMBER, ZERO_VOLUME(NOVEMBER))
    outcome = alone.run("otc.weekly_refresh", good, NOVEMBER, options=GATED)
    assert all(alone.success(run_id) for run_id in outcome.run_ids)
    assert set(alone.current_of(NOVEMBER)) == {"raw"}
    assert set(alone.current_of(good)) == {"raw", *steps_of(FEED)}
    why = outcome.without_capture["otc/venue_volume"][str(NOVEMBER)]
    assert "150" in why
    assert len(alone.rejects("otc_venue_volume")) == 150
    found = alone.sql(
        "SELECT DISTINCT severity, is_blocking FROM core_quality WHERE status = 'failed' AND is_blocking = 1"
    )
    assert found == [("CRITICAL", 1)]


def test_a_blocked_partition_fails_its_run(alone: Scene, tmp_path: Path) -> None:
    """A single week that is blocked, in a run that Dagster shows green; at ingest, and at normalisation."""
    put(tmp_path / "files", NOVEMBER, ZERO_VOLUME(NOVEMBER))
    outcome = alone.run("otc.ingest_week", NOVEMBER, options=GATED)
    assert alone.success(outcome.run_ids[0])
    outcome = alone.run("otc.normalize_week", NOVEMBER)
    assert not alone.success(outcome.run_ids[0])
    assert not outcome.is_complete
    put(tmp_path / "files", NOVEMBER, b"<html></html>")
    outcome = alone.run("otc.weekly_refresh", NOVEMBER, options=GATED)
    assert "HTML" in outcome.without_capture["otc/raw"][str(NOVEMBER)]
    by_assets = alone.instance.get_run_by_id(outcome.run_ids[1])
    assert by_assets is not None
    assert not by_assets.is_success
    later = alone.instance.fetch_materializations(dg.AssetKey(["otc", "symbol_summary"]), limit=1).records
    assert not later, "what comes after a blocked step did not run"


def test_a_bad_restatement_leaves_what_was_there(alone: Scene, tmp_path: Path) -> None:
    """A truncated second release that takes the place of a whole first one."""
    put(tmp_path / "files", NOVEMBER, text(lines(NOVEMBER, GOOD)))
    alone.refresh(NOVEMBER, options=GATED)
    before = alone.current_of(NOVEMBER)
    alone.clock.forward(days=1)
    put(tmp_path / "files", NOVEMBER, text(lines(NOVEMBER, 50))[:-20])
    outcome = alone.run("otc.weekly_refresh", NOVEMBER, options=GATED)
    assert str(NOVEMBER) in outcome.without_capture["otc/raw"]
    assert alone.current_of(NOVEMBER) == before
    assert alone.actions() == ["inserted", "blocked"]
    assert len(alone.landed(NOVEMBER)) == 2


def test_nothing_delivered(alone: Scene, tmp_path: Path) -> None:
    """A tier that is not due yet raising an alarm, one that is late raising none."""
    week = key("2025-12-12")  # OTC is due on 2026-01-12, and must be there on the 13th at 10:00 New York, 15:00 UTC
    moments = ((11, "not_due", ("INFO", 1)), (13, "no_rows", ("INFO", 1)), (14, "no_rows", ("ERROR", 0)))
    for day, kind, expected in moments:
        alone.clock.moment = alone.clock.moment.replace(day=day)
        outcome = alone.run("otc.ingest_week", week)
        assert outcome.without_capture["otc/raw"][str(week)].startswith(f"{kind}: ")
        assert alone.findings("delivered")[-1] == (expected[0], "INCOMPLETE_INPUT", expected[1], 0)
    put(tmp_path / "files", week, text(lines(week, GOOD)))
    alone.refresh(week)


def test_one_file_is_one_partition(alone: Scene, tmp_path: Path) -> None:
    """A range over a single file, which would store the same rows under every week."""
    path = tmp_path / "some.csv"
    path.write_bytes(text(lines(NOVEMBER, GOOD)))
    later = key("2025-11-21")
    outcome = alone.file(path).run("otc.ingest_week", NOVEMBER, later)
    assert "the same bytes" in outcome.without_capture["otc/raw"][str(later)]
    assert [one.key for one in alone.captures("raw")] == [NOVEMBER]


def test_a_folder_that_is_not_there(alone: Scene, tmp_path: Path) -> None:
    """A mistyped path taken for a week without rows."""
    outcome = alone.source(FileSource(tmp_path / "nowhere")).run("otc.ingest_week", NOVEMBER)
    assert len(outcome.failures) == 1
    assert "nowhere" in outcome.failures[0]
    assert "next: check the path" in outcome.failures[0]
