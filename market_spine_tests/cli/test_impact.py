"""`impact`: what depends on a table, a column, or one week, as people and programs read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from market_spine_tests.cli.calls import Command, call


def kinds(rows: list[dict[str, str]], kind: str) -> list[dict[str, str]]:
    return [row for row in rows if row["kind"] == kind]


def test_a_column_needs_no_store(home: Path) -> None:
    """Prevents the question from being answered only where data is, and a column that comes from nowhere."""
    answer = call("impact", "venue_volume.total_shares")
    assert answer.code == 0, answer.err
    words = " ".join(answer.out.split())
    assert words.startswith("otc_venue_volume.total_shares Shares traded in the week")
    assert "Windows: otc_symbol_" in words
    assert "otc_symbol_rolling_6w (6 weeks)" in words
    assert "which rows there are (joins, filters, groups) may depend on it in every table above" in words
    assert "otc_average_trade_size" in words
    assert not list(home.iterdir())


def test_programs_get_everything(home: Path) -> None:
    """Prevents an answer for people only: tables, columns with where they come from, views."""
    rows = call("impact", "otc/venue_volume.total_trades", "-f", "csv").csv()
    columns = {(row["name"], row["column"]): row["through"] for row in kinds(rows, "column")}
    assert columns["otc_symbol_rolling_6w", "mean_trades"] == "otc_symbol_summary.total_trades"
    assert ("otc_symbol_hhi", "hhi") not in columns
    tables = {row["name"]: row for row in kinds(rows, "table")}
    assert (tables["otc_symbol_hhi"]["through"], tables["otc_symbol_hhi"]["weeks_in_window"]) == (
        "otc_symbol_venue_share",
        "1",
    )
    assert "otc_liquidity_score_versions" in {row["name"] for row in kinds(rows, "view")}
    assert kinds(rows, "partition") == []


@pytest.mark.parametrize("name", ["otc_raw", "otc/raw", "raw", "reference_trading_calendar", "trading_calendar"])
def test_a_table_by_any_of_its_names(home: Path, name: str) -> None:
    """Prevents names that other commands take from being unknown here; raw reaches what is made from venue volume."""
    tables = [row["name"] for row in kinds(call("impact", name, "-f", "csv").csv(), "table")]
    assert "otc_volume_per_day" in tables
    assert ("otc_venue_volume" in tables) == ("raw" in name)


def test_the_end_of_the_chain(home: Path) -> None:
    """Prevents a table without dependents from looking like a mistake, or its views from being left out."""
    answer = call("impact", "symbol_rolling_6w")
    assert answer.code == 0
    assert "nothing is made from it" in answer.out
    assert "otc_symbol_rolling_6w_clean" in answer.out
    assert "Which rows" not in answer.out


def test_one_of_each_is_not_several(home: Path) -> None:
    """Prevents "1 tables, 1 columns"."""
    assert "\n1 table, 1 column. Columns are" in call("impact", "symbol_hhi.hhi").out


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("name", ["otc_raw", "venue_volume", "volume_per_day"])
def test_names_are_not_broken(home: Path, name: str, width: int) -> None:
    """Prevents volume_per_day_vs_mean_p, ct: a name that nobody can search for or copy."""
    words = set(call("impact", name, width=width).out.replace(",", " ").split())
    rows = call("impact", name, "-f", "csv").csv()
    assert {row["name"] for row in kinds(rows, "table")} <= words
    assert {row["column"] for row in kinds(rows, "column")} <= words
    assert {table for row in kinds(rows, "table") for table in row["through"].split(", ")} <= words


def test_one_week_reaches_the_windows_that_hold_it(spine: Command) -> None:
    """Prevents a restatement whose effect is known only when everything is made again (F057, F185)."""
    rows = spine("impact", "otc_raw", "-w", "2025-11-07", "-t", "OTC", "-f", "csv").csv()
    found = {(row["name"], row["week_ending"], row["tier"]) for row in kinds(rows, "partition")}
    week = ("2025-11-07", "OTC")
    assert {("otc_venue_volume", *week), ("otc_symbol_hhi", *week), ("otc_tier_split", "2025-11-07", "ALL")} <= found
    rolling = sorted(one for one in found if one[0] == "otc_symbol_rolling_6w")
    assert rolling == [("otc_symbol_rolling_6w", f"2025-11-{day}", "OTC") for day in ("07", "14")]
    assert {tier for _, _, tier in found} == {"OTC", "ALL"}
    answer = spine("impact", "otc_raw", "-w", "2025-11-07", "-t", "OTC")
    assert f"{len(found)} captures of {len({name for name, _, _ in found})} tables" in answer.out
    assert answer.err == ""


def test_a_corrected_calendar_reaches_all_tiers(spine: Command) -> None:
    """Prevents a week of reference data from being taken for one tier's (F303)."""
    rows = spine("impact", "trading_calendar", "-w", "2025-11-14", "-f", "json").json()
    found = [(row["tier"], row["week_ending"]) for row in rows if row["name"] == "otc_volume_per_day" and row["tier"]]
    assert found == [(tier, "2025-11-14") for tier in ("NMS_TIER_1", "NMS_TIER_2", "OTC")]


def test_a_week_that_is_not_there(spine: Command) -> None:
    """Prevents "nothing depends on it" from being said of a week that nobody has."""
    answer = spine("impact", "otc_raw", "-w", "2025-12-05", "-t", "OTC")
    assert answer.code == 0
    assert "no current capture follows" in answer.out
    assert "no current capture: otc_raw OTC 2025-12-05" in answer.err


@pytest.mark.parametrize("name", ["venue_volume.total_shares", "otc_raw"])
@pytest.mark.parametrize("week", [(), ("-w", "2025-11-07")])
def test_it_fits_80_columns(spine: Command, name: str, week: tuple[str, ...]) -> None:
    """Prevents a table that a terminal breaks."""
    answer = spine("impact", name, *week)
    assert [line for line in answer.out.splitlines() if len(line) > 80] == []
    assert "not shown" not in answer.out + answer.err


@pytest.mark.parametrize(
    ("words", "cause", "step"),
    [
        (("otc_row",), "there is no table 'otc_row'", "nearest: otc_raw"),
        (("raw.total_share",), "otc_raw has no column 'total_share'", "nearest: total_shares"),
        (("otc_row.total_shares",), "there is no table 'otc_row'", "nearest: otc_raw"),
        (("otc_average_trade_size",), "is a view", "name a table"),
        (("raw", "-t", "OTC"), "a tier says little without its week", "add --week-ending"),
        (("trading_calendar", "-w", "2025-11-14", "-t", "OTC"), "has no tiers", "leave --tier out"),
        (("raw", "-w", "2025-11-13"), "2025-11-13 is a Thursday", "the nearest Friday is 2025-11-14"),
    ],
)
def test_what_cannot_be_asked(spine: Command, words: tuple[str, ...], cause: str, step: str) -> None:
    """Prevents a mistyped name from being answered with "nothing depends on it"."""
    answer = spine("impact", *words)
    assert (answer.code, answer.out) == (2, "")
    assert cause in answer.err
    assert step in answer.err
