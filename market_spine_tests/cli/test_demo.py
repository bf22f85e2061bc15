"""The demo: what it tells is true of its store, and what it proposes works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from market_spine.cli.demo_story import next_commands
from market_spine_tests.cli.calls import Answer, Command, call


def test_it_tells_its_whole_story(demo: tuple[Path, Answer]) -> None:
    """Prevents a demo that ends well and leaves out what it is there to show."""
    home, answer = demo
    assert answer.code == 0, answer.err
    for part in (
        "What was loaded",
        "One question, two answers",
        "What was set aside",
        "Which tier was late",
        "Try next",
    ):
        assert part in answer.out
    assert (home / "market_spine.duckdb").is_file()
    assert (home / "dagster" / "dagster.yaml").is_file()


def test_its_totals_are_the_stores(demo: tuple[Path, Answer], spine: Command) -> None:
    """Prevents numbers that were written down instead of asked."""
    totals = spine(
        "sql", "SELECT tier, count(*) AS n, sum(total_shares) AS s FROM otc_raw GROUP BY ALL", "-f", "json"
    ).json()
    assert [row["tier"] for row in sorted(totals, key=lambda row: row["tier"])] == ["NMS_TIER_1", "NMS_TIER_2", "OTC"]
    for row in totals:
        assert re.search(rf"^{row['tier']} +6 +{row['n']:,} +{row['s']:,} ", demo[1].out, re.MULTILINE)


def test_the_two_answers_are_what_the_store_answers(demo: tuple[Path, Answer], spine: Command) -> None:
    """Prevents an as-of answer that does not depend on the moment."""
    asked = re.search(r"shares of (\w+) \(OTC\) were traded in week 2025-11-07", demo[1].out)
    assert asked
    told = re.findall(r"as known on (\d{4}-\d\d-\d\d) +([\d,]+)", demo[1].out)
    assert [day for day, _ in told] == ["2025-12-15", "2025-12-19"]
    assert told[0][1] != told[1][1]
    for day, shares in told:
        found = spine(
            *f"query symbol_summary -w 2025-11-07 -t OTC --symbol {asked[1]} --as-of {day} --format json".split()
        ).json()
        assert [f"{row['total_volume']:,}" for row in found] == [shares]


def test_the_late_tier_and_the_reject_are_told(demo: tuple[Path, Answer]) -> None:
    """Prevents a late tier that shows nowhere, and a reject without its line."""
    assert "NMS_TIER_2 of 2025-11-14: INFO on 2025-12-15 15:00:00Z" in demo[1].out
    assert "revision 1 (2025-12-15): 2 tiers, flagged incomplete" in demo[1].out
    assert "revision 2 (2025-12-17): 3 tiers, complete" in demo[1].out
    assert re.search(r"^2025-10-31 +OTC +\d+ +FIELD_COUNT +OTC\|", demo[1].out, re.MULTILINE)


def test_the_commands_work(demo: tuple[Path, Answer]) -> None:
    """Prevents advice that fails when it is followed."""
    commands = [shlex.split(line) for line in demo[1].out.partition("Try next\n")[2].strip().splitlines()]
    assert len(commands) == 4
    for program, *words in commands:
        assert program == "spine"
        answer = call(*words)
        assert answer.code == 0, answer.err
        assert len(answer.out.splitlines()) >= 3


@pytest.mark.parametrize(
    ("called", "on_path", "expected"),
    [("bin/spine", True, "spine"), ("bin/spine", False, "bin/spine"), ("bin/pytest", False, "spine")],
)
def test_the_advice_names_the_program_as_it_was_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, on_path: bool, expected: str
) -> None:
    """Prevents commands to copy that no shell finds: `make demo` runs the program out of .venv."""
    program = tmp_path / called
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [called])
    monkeypatch.setenv("PATH", str(program.parent) if on_path else "")
    told = next_commands(tmp_path / "demo", ["anomalies list", "rejects"])
    assert told == [f"{expected} --home demo anomalies list", f"{expected} --home demo rejects"]


@pytest.mark.parametrize("name", ["tier=x", "a?b"])
def test_a_folder_that_can_be_no_home_is_not_made(tmp_path: Path, name: str) -> None:
    """Prevents an empty folder, and a mark in it, where the demo was refused."""
    answer = call("--home", str(tmp_path / name), "demo")
    assert (answer.code, list(tmp_path.iterdir())) == (2, [])


def test_keep_tells_it_again_and_does_nothing(demo_home: Path, own_home: Path) -> None:
    """Prevents a second run over the first one's clock."""
    before = sorted(path.name for path in own_home.rglob("*.parquet"))
    answer = call("--home", str(own_home), "demo", "--keep")
    assert answer.code == 0
    assert "What was loaded" in answer.out
    assert "captures made" not in answer.out
    assert sorted(path.name for path in own_home.rglob("*.parquet")) == before


def test_a_folder_that_is_no_demos_is_never_wiped(tmp_path: Path) -> None:
    """Prevents the loss of a real store that was named by mistake."""
    (tmp_path / "control.db").write_text("precious")
    answer = call("demo", "--home", str(tmp_path))
    assert answer.code == 2
    assert "no demo's home" in answer.err
    assert "next: name another folder" in answer.err
    assert (tmp_path / "control.db").read_text() == "precious"


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal(demo_home: Path, own_home: Path, width: int) -> None:
    """Prevents a broken picture; only commands to copy are never broken."""
    out = call("--home", str(own_home), "demo", "--keep", width=width).out
    picture = out.partition("Try next")[0].splitlines()
    assert [line for line in picture if len(line) > width and str(own_home) not in line] == []
