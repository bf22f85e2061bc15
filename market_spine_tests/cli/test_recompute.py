"""`recompute`: what it tells, what it does, and what may stand in a script."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import time_machine

from market_spine.assets.tables import steps_of
from market_spine.feeds.otc import FEED
from market_spine_tests.cli.calls import SOURCE, Answer, Command, call

WEEK = ("--week-ending", "2025-10-31", "--tier", "OTC")
LATER = 3  # weeks of the demo from 2025-10-31 on, itself among them
EXPECTED = {step.table_name: LATER if step.calculation.weeks_back else 1 for step in steps_of(FEED).values()}
PARTS = sum(EXPECTED.values())
NEW_YEAR = datetime(2026, 1, 5, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def restated_home(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo's home with one week restated and nothing calculated since. For reading only."""
    home = tmp_path_factory.mktemp("restated") / "home"
    shutil.copytree(demo_home, home)
    source = SOURCE.replace("seed=7", "seed=7,fault=restatement:OTC:2025-10-31:3")
    with time_machine.travel(NEW_YEAR, tick=True):
        answer = call("run", "otc.ingest_week", *WEEK, "--source", source, MARKET_SPINE_HOME=str(home))
    assert answer.code == 0, answer.err
    return home


@pytest.fixture
def restated(restated_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As MARKET_SPINE_HOME."""
    monkeypatch.setenv("MARKET_SPINE_HOME", str(restated_home))
    return restated_home


def listed(*options: str) -> list[tuple[str, str, str]]:
    rows = call("recompute", *options, "-f", "json").json()
    return [(row["table"], row["tier"], row["week_ending"]) for row in rows]


def test_nothing_is_out_of_date(spine: Command) -> None:
    """Prevents a demo that leaves work undone, and a script that goes on where it should not."""
    answer = spine("recompute")
    assert (answer.code, answer.out, answer.err) == (0, "nothing is out of date\n", "")
    assert spine("recompute", "--yes").out == "nothing is out of date\n"
    assert spine("recompute", "--plan", "-f", "json").json() == []


def test_the_plan_says_what_and_why(restated: Path) -> None:
    """Prevents work that nobody can judge beforehand, and a plan that is not told to a script."""
    answer = call("recompute")
    assert answer.code == 1
    assert answer == call("recompute", "--plan")
    words = " ".join(answer.out.split())
    assert f"{PARTS} partitions of {len(EXPECTED)} tables: 1 out of date, {PARTS - 1} that follow;" in words
    assert [name for name in EXPECTED if f"\n{name} " not in answer.out] == []
    assert f"windows: {LATER} of otc_symbol" in words
    assert answer.err == "  next: spine recompute --yes\n"
    rows = call("recompute", "-f", "csv").csv()
    assert {name: sum(row["table"] == name for row in rows) for name in EXPECTED} == EXPECTED
    assert rows[0]["why"] == "input otc_raw OTC 2025-10-31 is now revision 2"
    assert [row["is_stale"] for row in rows] == ["true"] + ["false"] * (PARTS - 1)
    last = [row for row in rows if row["table"] == "otc_symbol_rolling_6w"][-1]
    assert (last["week_ending"], last["weeks_in_window"]) == ("2025-11-14", "6")
    assert last["why"] == "follows from otc_symbol_summary OTC 2025-10-31, otc_symbol_hhi OTC 2025-10-31"


@pytest.mark.parametrize("width", [80, 120])
def test_the_plan_fits_the_screen(restated: Path, width: int) -> None:
    """Prevents lines that wrap, hundreds of them, and reasons that are cut off."""
    answer = call("recompute", width=width)
    assert [line for line in answer.out.splitlines() if len(line) > width] == []
    assert len(answer.out.splitlines()) < 50
    assert "not shown" not in answer.out + answer.err
    assert call("recompute", "--limit", "2", width=width).err.startswith("first 2 of ")


def test_options_choose_with_what_belongs_to_it(restated: Path) -> None:
    """Prevents a part of the plan that leaves something out of date, or one that is about another week."""
    everything = listed()
    assert listed("--week-ending", "2025-11-14") == everything, "the window is made from what is out of date"
    assert listed("--table", "tier_split") == everything
    assert listed("--week-ending", "2025-10-24") == []
    assert listed("--tier", "NMS_TIER_1") == []
    answer = call("recompute", *WEEK, "--table", "hhi")
    assert answer.code == 2
    answer = call("recompute", *WEEK, "--table", "symbol_hhi")
    assert answer.err == "  next: spine recompute --week-ending 2025-10-31 --tier OTC --table symbol_hhi --yes\n"


@pytest.mark.slow
def test_it_makes_exactly_that_again(restated_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a command that promises one thing and does another, and one that is never done."""
    monkeypatch.setenv("MARKET_SPINE_HOME", str(shutil.copytree(restated_home, tmp_path / "own")))

    def captures() -> set[str]:
        return {row["capture_id"] for row in call("captures", "list", "--all", "-f", "csv").csv()}

    asked, before = sorted(listed()), captures()
    answer = call("recompute", "--yes", "-f", "json")
    assert answer.code == 0, answer.err
    assert {row["table"]: (row["captured"], row["no capture"]) for row in answer.json()} == {
        name: (count, 0) for name, count in EXPECTED.items()
    }
    rows = call("captures", "list", "--all", "-f", "csv").csv()
    made = [(row["table"], row["tier"], row["week_ending"]) for row in rows if row["capture_id"] not in before]
    assert sorted(made) == asked
    assert call("recompute").out == "nothing is out of date\n"
    held = captures()
    assert call("recompute", "--yes").code == 0
    assert captures() == held


@pytest.mark.slow
@pytest.mark.extended
def test_what_is_left_is_told(own_home: Path) -> None:
    """Prevents success where a week could not be made again: it has trades without shares, and stays out of date."""
    source = SOURCE.replace("seed=7", "seed=7,fault=zero-volume:OTC:2025-10-31:1")
    with time_machine.travel(NEW_YEAR, tick=True):
        assert call("run", "otc.ingest_week", *WEEK, "--source", source).code == 0
        answer = call("recompute", "--yes")
    assert answer.code == 1
    assert "without capture: otc_venue_volume OTC:2025-10-31: " in answer.err
    assert f"still out of date: {PARTS} partitions" in answer.err


@pytest.mark.parametrize(
    ("words", "cause", "step"),
    [
        (("--plan", "--yes"), "--plan and --yes say opposite things", "recompute --plan  # or --yes"),
        (("--table", "otc_raw"), "otc_raw is not calculated", "name a calculated table"),
        (("--table", "tier_split", "--tier", "OTC"), "otc_tier_split has no tiers", "leave --tier out"),
        (("--table", "symbol_hh"), "there is no table 'symbol_hh'", "nearest: symbol_hhi"),
        (("--week-ending", "2025-11-13"), "2025-11-13 is a Thursday", "the nearest Friday is 2025-11-14"),
    ],
)
def test_what_cannot_be_asked(spine: Command, words: tuple[str, ...], cause: str, step: str) -> None:
    """Prevents a question that chooses nothing from passing for an answer."""
    answer: Answer = spine("recompute", *words)
    assert (answer.code, answer.out) == (2, "")
    assert cause in answer.err
    assert step in answer.err
