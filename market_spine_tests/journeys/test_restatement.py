"""Restatements: two truths of one week side by side, and everything that follows from the newer one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest

from market_spine.assets.capture import Options
from market_spine.assets.tables import steps_of
from market_spine.domain.keys import WeekKey
from market_spine.domain.weeks import weeks_between
from market_spine.feeds.otc import FEED
from market_spine.store.manifest import Capture
from market_spine_tests.journeys.stage import HEADER, OTC, T1, Clock, Scene, key, line, put, staged, text

NOVEMBER = key("2025-11-14")
FIRST, SECOND = datetime(2026, 1, 20, 12, tzinfo=UTC), datetime(2026, 1, 21, 12, tzinfo=UTC)
OLD_ROWS, NEW_ROWS = 48_765, 49_012


pytestmark = pytest.mark.xdist_group("restatement")  # one history for all


def write_rows(path: Path, week: WeekKey, count: int, more_shares: int = 0) -> None:
    """A week of ``count`` rows, made by one statement: 1,000 rows a venue."""
    assert week.tier is not None
    with duckdb.connect(config={"threads": 2}) as engine:
        engine.execute(
            f"""COPY (
                SELECT '{week.tier.file_text}' AS c0, printf('S%04d', n % 1000) AS c1, 'Issue ' || n % 1000 AS c2,
                       'ATS ' || n // 1000 AS c3, printf('V%03d', n // 1000) AS c4, 100 + n % 77 + {more_shares} AS c5,
                       1 + n % 9 AS c6, DATE '{week.week_ending}' + 31 AS c7
                FROM range({count}) AS r(n)
            ) TO '{path}' (DELIMITER '|', QUOTE '', ESCAPE '', HEADER false)"""
        )
    path.write_text(f"{HEADER}\n{path.read_text()}")


def test_restatement_multiple_captures_coexist(tmp_path: Path) -> None:
    """KA-53: a restatement that replaces the week it restates, or that adds to it."""
    path = tmp_path / "week.csv"
    with staged(tmp_path / "home") as home:
        stage = home.file(path)
        write_rows(path, NOVEMBER, OLD_ROWS)
        stage.run("otc.ingest_week", NOVEMBER)
        stage.clock.moment = SECOND
        write_rows(path, NOVEMBER, NEW_ROWS)
        assert stage.run("otc.ingest_week", NOVEMBER).is_complete
        old, new = stage.captures("raw")
        assert (old.row_count, new.row_count, new.revision, new.is_current) == (OLD_ROWS, NEW_ROWS, 2, True)
        as_of = "SELECT count(*) FROM otc_raw_asof('{}')"
        for query, count in {
            "SELECT count(*) FROM otc_raw": NEW_ROWS,
            "SELECT count(*) FROM otc_raw_revisions()": OLD_ROWS + NEW_ROWS,
            "SELECT count(*) FROM otc_raw_first_release()": OLD_ROWS,
            as_of.format("2026-01-20T11:59:59Z"): 0,
            as_of.format("2026-01-20T12:00:00Z"): OLD_ROWS,
            as_of.format("2026-01-21T11:59:59Z"): OLD_ROWS,
            as_of.format("2026-01-21T12:00:00Z"): NEW_ROWS,
            f"SELECT count(*) FROM otc_raw_revisions() WHERE capture_id = '{old.capture_id}'": OLD_ROWS,
            f"SELECT count(*) FROM otc_raw_revisions() WHERE capture_id = '{new.capture_id}'": NEW_ROWS,
        }.items():
            assert stage.one(query) == (count,), query


def release(week: WeekKey, number: int) -> bytes:
    """A small week; the second release has three rows restated, GONE removed and NEW added."""
    restated = number == 2
    rows = [line(week, f"S{n:02}", mpid, 100 + n, 2) for n in range(3, 10) for mpid in ("UBSA", "ALPX")]
    rows += [line(week, f"S{n:02}", "UBSA", 100 + n + 1_000 * restated, 2 + restated) for n in range(3)]
    rows.append(line(week, "NEW" if restated else "GONE", "UBSA", 50, 5))
    return text(rows)


WEEKS = [WeekKey(week, OTC) for week in weeks_between(date(2025, 10, 3), date(2025, 11, 28))]  # nine
RESTATED = WEEKS[1]  # 2025-10-10: in the windows of itself and of the five weeks after it
OTHER_TIER = WeekKey(RESTATED.week_ending, T1)


@dataclass
class Restated(Scene):
    """A scene that remembers the derived captures from before the restatement, by table."""

    before: dict[str, list[Capture]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def restated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restated]:
    """Nine weeks and another tier of one of them; a day later one week comes again, restated."""
    files = tmp_path_factory.mktemp("files")
    for week in (*WEEKS, OTHER_TIER):
        put(files, week, release(week, 1))
    with staged(tmp_path_factory.mktemp("home"), f"file:{files}", Clock(FIRST)) as home:
        stage = Restated(home.spine, home.clock, home.instance, shown=home.shown)
        stage.refresh(*WEEKS, OTHER_TIER)
        stage.before = {name: stage.captures(name) for name in steps_of(FEED)}
        stage.clock.moment = SECOND
        put(files, RESTATED, release(RESTATED, 2))
        stage.refresh(*WEEKS, OTHER_TIER)
        yield stage


BY_SYMBOL = [name for name, step in steps_of(FEED).items() if any(one.name == "symbol" for one in step.table.columns)]


@pytest.mark.parametrize("table", ["raw", *BY_SYMBOL])
def test_a_removed_symbol_is_gone(restated: Restated, table: str) -> None:
    """A symbol that the restatement took back and that lives on, because versions were chosen row by row."""
    where = f"week_ending = DATE '{RESTATED.week_ending}' AND tier = 'OTC' AND symbol = '{{}}'"
    for relation, gone, new in (
        (f"otc_{table}", False, True),
        (f"otc_{table}_asof('2026-01-20')", True, False),
        (f"otc_{table}_first_release()", True, False),
        (f"otc_{table}_revisions()", True, True),
    ):
        counted = [restated.counts(relation, where=where.format(symbol)) > (0,) for symbol in ("GONE", "NEW")]
        assert counted == [gone, new], relation


def test_restated_rows(restated: Restated) -> None:
    """The old value in the latest view, or the new one as of the day before."""
    query = "SELECT total_volume, total_trades FROM {} WHERE symbol = 'S01' AND tier = 'OTC' AND week_ending = ?"
    week = RESTATED.week_ending
    assert restated.one(query.format("otc_symbol_summary"), week) == (1101, 3)
    assert restated.one(query.format("otc_symbol_summary_asof('2026-01-20')"), week) == (101, 2)
    assert restated.one(query.format("otc_symbol_summary_first_release()"), week) == (101, 2)


@pytest.mark.parametrize("table", list(steps_of(FEED)))
def test_only_what_depends_on_it_is_made_again(restated: Restated, table: str) -> None:
    """Weeks computed again though nothing changed, or a window that still shows the old week."""
    known = {one.capture_id for one in restated.before[table]}
    new = {one.key for one in restated.captures(table) if one.capture_id not in known}
    expected = set(WEEKS[1 : 2 + steps_of(FEED)[table].calculation.weeks_back])
    if not steps_of(FEED)[table].table.by_tier:
        expected = {WeekKey(RESTATED.week_ending, None)}
    assert new == expected
    assert all(one.captured_at == SECOND for one in restated.captures(table) if one.key in new and one.is_current)


def test_nothing_is_stale_afterwards(restated: Restated) -> None:
    """A derived table that nobody noticed to be out of date."""
    assert restated.stale() == []
    assert restated.counts("core_manifest", where="table_name = 'reference_trading_calendar'") == (len(WEEKS),)


def test_windows_follow_the_restated_week(restated: Restated) -> None:
    """A mean of six weeks over the old value. S01: 101 shares a week, 1,101 in the restated one."""
    found = restated.sql(
        "SELECT week_ending, sum_volume FROM (SELECT week_ending, mean_volume * weeks_in_window AS sum_volume"
        " FROM otc_symbol_rolling_6w WHERE symbol = 'S01' AND tier = 'OTC') ORDER BY 1"
    )
    in_window = [min(n + 1, 6) * 101 + (1000 if 1 <= n <= 6 else 0) for n in range(len(WEEKS))]
    assert [round(float(total)) for _, total in found] == in_window


def test_a_late_week_completes_windows(tmp_path: Path) -> None:
    """A week that arrives after the weeks that need it: their windows stay short."""
    weeks = WEEKS[:7]
    files = tmp_path / "files"
    for week in weeks:
        put(files, week, release(week, 1))
    late = weeks[2]
    with staged(tmp_path / "home", f"file:{files}", Clock(FIRST)) as stage:
        stage.refresh(*(week for week in weeks if week != late))
        query = (
            "SELECT is_complete, weeks_in_window FROM otc_symbol_rolling_6w WHERE symbol = 'S05' AND week_ending = ?"
        )
        assert stage.one(query, weeks[5].week_ending) == (False, 5)
        stage.clock.moment = SECOND
        stage.run("otc.weekly_refresh", late)
        stage.run("otc.compute_rolling", *weeks)
        assert stage.one(query, weeks[5].week_ending) == (True, 6)
        assert stage.one(query, weeks[6].week_ending) == (True, 6)


def test_a_correction_back_is_a_third_revision(tmp_path: Path) -> None:
    """FINRA taking a restatement back: content seen before that is taken for nothing new."""
    files = tmp_path / "files"
    with staged(tmp_path / "home", f"file:{files}", Clock(FIRST)) as stage:
        for number in (1, 2, 1, 1):
            put(files, NOVEMBER, release(NOVEMBER, number))
            stage.refresh(NOVEMBER, options=Options(min_records=1))
            stage.clock.forward(days=1)
        first, second, third = stage.captures("raw")
        assert first.content_hash == third.content_hash != second.content_hash
        assert [one.is_current for one in (first, second, third)] == [False, False, True]
        one, _, three = stage.captures("symbol_summary")
        assert (one.content_hash, one.revision, three.revision) == (three.content_hash, 1, 3)
        assert stage.actions() == ["inserted", "updated", "updated", "skipped"]


@pytest.mark.extended
def test_the_same_instant_twice(tmp_path: Path) -> None:
    """Two different contents within one second under one capture id."""
    files = tmp_path / "files"
    with staged(tmp_path / "home", f"file:{files}", Clock(FIRST)) as stage:
        for number in (1, 2):
            put(files, NOVEMBER, release(NOVEMBER, number))
            stage.refresh(NOVEMBER)
        first, second = stage.captures("raw")
        assert (second.captured_at - first.captured_at).total_seconds() == 1
        assert stage.current("raw", NOVEMBER) == second
