"""Calculations: answers worked out by hand, figures of FINRA's real files, and discovery that fails loudly.

The laws that hold for every calculation stand in test_calculation_laws.py.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from market_spine.domain.calculations import calculations_in, load_calculations
from market_spine.domain.contracts import Calculation, Severity
from market_spine.domain.errors import CalculationError
from market_spine.domain.weeks import last_n_weeks
from market_spine_tests.domain import calculation_lab as lab

ANSWERS = Path(__file__).parent / "answers"
CALCULATIONS = load_calculations()
WEEKS = last_n_weeks(7, date(2030, 2, 15))
T1 = "NMS_TIER_1"


def close(expected: list[Any]) -> list[Any]:
    """Rows whose DOUBLEs may differ in the last digits; everything else must be equal."""
    return [tuple(pytest.approx(v, rel=1e-12) if isinstance(v, float) else v for v in row) for row in expected]


def given(calculation: Calculation, table: str) -> Path:
    """The rows that answers are worked out from: those that all share, or its own where they are not enough."""
    own = ANSWERS / f"_{calculation.name}_{table}.csv"
    return own if own.exists() else ANSWERS / f"_{table}.csv"


@pytest.mark.parametrize("calculation", CALCULATIONS.values(), ids=CALCULATIONS.keys())
def test_answers(calculation: Calculation) -> None:
    """Any wrong formula, divisor, tie, window or NULL: the answers were worked out on paper, not by the SQL."""
    con = lab.connect()
    lab.put_csv(con, "venue_volume", given(calculation, "venue_volume"), lab.VENUE_VOLUME)
    con.execute("UPDATE store.venue_volume SET symbol = coalesce(symbol, '')")
    lab.put_csv(con, "trading_calendar", given(calculation, "trading_calendar"), lab.TRADING_CALENDAR)
    lab.fill(con, *calculation.inputs)
    lab.put_csv(con, "wanted", given(calculation, "wanted"), {"week_ending": "DATE", "tier": "VARCHAR"})
    lab.ask(con, calculation, con.execute("FROM store.wanted").fetchall())

    types = {column.name: column.type for column in calculation.table.columns}
    lab.put_csv(con, "answers", ANSWERS / f"{calculation.name}.csv", types, null="")

    expected = lab.rows_of(con, "store.answers", calculation)
    assert expected
    assert lab.rows_of(con, calculation.name, calculation) == close(expected)


def test_every_calculation_has_answers_and_every_answer_a_calculation() -> None:
    """A calculation added without answers, or answers left behind by a renamed one."""
    assert {path.stem for path in ANSWERS.glob("[!_]*.csv")} == set(CALCULATIONS)


def one_symbol(volumes: Mapping[date, int | str]) -> duckdb.DuckDBPyConnection:
    """A lab with one symbol on one venue in Tier 1."""
    con = lab.connect()
    rows = {(week, T1, "QAAA", "VEN1"): (Decimal(v), 1 if Decimal(v) else 0) for week, v in volumes.items()}
    lab.put_rows(con, rows)
    lab.fill(con, *CALCULATIONS["symbol_rolling_6w"].inputs)
    return con


@pytest.mark.parametrize(
    ("first", "last", "direction", "pct"),
    [
        (100, 105, "FLAT", 5.0),
        (100, "105.000001", "UP", 5.000001),
        (100, 95, "FLAT", -5.0),
        (100, "94.999999", "DOWN", -5.000001),
        (100, 100, "FLAT", 0.0),
        (100, 0, "DOWN", -100.0),
        (0, 100, None, None),
        ("0.000001", 10_000_000_000, "UP", 999999999999999900.0),
    ],
)
def test_trend(first: int | str, last: int | str, direction: str | None, pct: float | None) -> None:
    """A bound at 5 % decided by binary fractions, a division by a zero week, an overflow."""
    con = one_symbol({WEEKS[1]: first, WEEKS[3]: 7, WEEKS[6]: last})
    lab.ask(con, CALCULATIONS["symbol_rolling_6w"], [(WEEKS[6], T1)])
    found = con.execute("SELECT trend_direction, trend_pct FROM symbol_rolling_6w").fetchall()
    assert found == [(direction, pytest.approx(pct, rel=1e-12) if pct is not None else None)]


@pytest.mark.parametrize(
    ("present", "weeks_in_window", "violations"),
    [
        ((0, 1, 2, 3, 4, 5, 6), 6, []),
        ((1, 2, 3, 4, 5, 6), 6, []),
        ((0, 2, 3, 4, 5, 6), 5, [(WEEKS[6], T1, 5.0, 6.0)]),
        ((0, 6), 1, [(WEEKS[6], T1, 1.0, 6.0)]),
        ((1, 6), 2, [(WEEKS[6], T1, 2.0, 6.0)]),
        ((1, 2, 3, 4, 5), None, [(WEEKS[6], T1, 5.0, 6.0)]),
    ],
)
def test_window_is_six_consecutive_fridays(
    present: tuple[int, ...], weeks_in_window: int | None, violations: Any
) -> None:
    """A window over the last six rows, of seven weeks, or one that ends before the asked week; and its gate."""
    calculation = CALCULATIONS["symbol_rolling_6w"]
    con = one_symbol({WEEKS[n]: 100 + n for n in present})
    lab.ask(con, calculation, [(WEEKS[6], T1)])
    rows = con.execute("SELECT weeks_in_window, is_complete FROM symbol_rolling_6w").fetchall()
    assert rows == ([(weeks_in_window, weeks_in_window == 6)] if weeks_in_window else [])
    gate = next(invariant for invariant in calculation.invariants if invariant.name == "full_history_window")
    assert con.execute(gate.sql).fetchall() == violations
    assert gate.severity is Severity.ERROR


def test_a_corrected_calendar_reaches_six_windows() -> None:
    """A window per session that keeps the sessions it was computed with, or asks for those of the asked week only."""
    con = one_symbol(dict.fromkeys(last_n_weeks(8, WEEKS[6]), 90))
    calculation = CALCULATIONS["symbol_volume_per_day_6w"]
    found = []
    for correction in ("SELECT 1", f"DELETE FROM store.trading_calendar WHERE session_date = DATE '{WEEKS[0]}'"):
        con.execute(correction)
        lab.fill(con, calculation.name)
        rows = con.execute("SELECT week_ending, session_count_6w FROM symbol_volume_per_day_6w ORDER BY ALL").fetchall()
        found.append(dict(rows))
    assert found[0][WEEKS[6]] == found[1][WEEKS[6]] == 27
    changed = {week: found[0][week] - found[1][week] for week in found[0] if found[0][week] != found[1][week]}
    assert changed == dict.fromkeys(WEEKS[:6], 0.5)


@pytest.mark.parametrize("name", ["venue_share", "symbol_venue_share"])
def test_equal_venues_are_ranked_by_mpid(name: str) -> None:
    """A rank among equals that is left to chance: 30 venues of one volume, stored in the reverse of their order."""
    con = lab.connect()
    venues = [f"V{n:03}" for n in range(30)]
    lab.put_rows(con, {(WEEKS[0], T1, "QAAA", mpid): (Decimal(5), 1) for mpid in reversed(venues)})
    lab.fill(con, name)
    assert con.execute(f"SELECT mpid FROM {name} ORDER BY venue_rank").fetchall() == [(mpid,) for mpid in venues]


def test_hhi_is_exact_at_the_largest_volumes_and_overflows_loudly() -> None:
    """A square that wraps or saturates; an index above 1 by one binary digit."""
    con = lab.connect()
    big = {(WEEKS[0], T1, "QAAA", "VEN1"): Decimal("9999999999999.999999")}
    lab.put_rows(con, {key: (shares, 1) for key, shares in big.items()})
    lab.fill(con, "symbol_hhi")
    assert con.execute("SELECT hhi, effective_venues FROM store.symbol_hhi").fetchall() == [(1.0, 1.0)]
    lab.put_rows(con, {key: (shares * 9, 1) for key, shares in big.items()})
    with pytest.raises((duckdb.OutOfRangeException, duckdb.ConversionException)):
        lab.fill(con, "symbol_hhi")


def test_a_week_without_calendar_breaks_the_row_count() -> None:
    """Volumes per day of a week whose sessions nobody knows, silently missing or silently divided by 5."""
    con = one_symbol({WEEKS[0]: 100})
    con.execute("DELETE FROM store.trading_calendar")
    calculation = CALCULATIONS["volume_per_day"]
    lab.ask(con, calculation, [(WEEKS[0], T1)])
    row_count = next(invariant for invariant in calculation.invariants if invariant.name == "row_count")
    assert row_count.severity is Severity.CRITICAL
    assert con.execute(row_count.sql).fetchall() == [(WEEKS[0], T1, 0.0, 1.0)]


def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, files: dict[str, str]) -> Any:
    """An importable package of calculation modules."""
    folder = tmp_path / name
    folder.mkdir()
    for stem, text in ({"__init__": ""} | files).items():
        (folder / f"{stem}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


def module(name: str, *inputs: str) -> str:
    """The text of a minimal calculation module."""
    return f"""
from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Calculation, TIER, Table, WEEK_ENDING
TABLE = Table("{name}", Stage.AGGREGATED, ("week_ending", "tier"), (WEEK_ENDING, TIER), "")
CALCULATION = Calculation(TABLE, "1.0", {inputs!r}, "SELECT 1")
"""


@pytest.mark.parametrize(
    ("case", "files", "message"),
    [
        ("empty", {}, "holds no calculation modules"),
        ("nothing", {"a": "x = 1"}, "defines no CALCULATION"),
        ("other_type", {"a": "CALCULATION = 'a'"}, "defines no CALCULATION"),
        ("misnamed", {"a": module("b", "venue_volume")}, "defines the calculation 'b'"),
        ("unknown", {"a": module("a", "venue_volume", "volume_venue")}, "a reads volume_venue, which nothing makes"),
        ("itself", {"a": module("a", "a")}, "in a circle: a -> a"),
        ("circle", {"a": module("a", "b"), "b": module("b", "a")}, "in a circle"),
    ],
)
def test_discovery_fails_loudly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, files: dict[str, str], message: str
) -> None:
    """A calculation that is skipped because its file is broken, misnamed or reads what does not exist."""
    found = package(tmp_path, monkeypatch, f"calculations_{case}", files)
    with pytest.raises(CalculationError, match=message):
        calculations_in(found)


def test_discovery_lets_import_errors_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module with a broken import that is skipped with a warning."""
    found = package(tmp_path, monkeypatch, "calculations_broken", {"a": "import no_such_module_anywhere"})
    with pytest.raises(ModuleNotFoundError):
        calculations_in(found)


def test_discovery_sorts_inputs_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A calculation that runs before its input: names sort the other way round here."""
    files = {"a": module("a", "b"), "b": module("b", "c"), "c": module("c", "venue_volume")}
    assert list(calculations_in(package(tmp_path, monkeypatch, "calculations_sorted", files))) == ["c", "b", "a"]


def test_all_calculations_are_found() -> None:
    """A module that the walk does not see; a replaced calculation that is not there."""
    assert len(CALCULATIONS) == 11
    assert {found.replaces for found in CALCULATIONS.values() if found.replaces} <= set(CALCULATIONS)
    assert CALCULATIONS["liquidity_score_v2"].spec().replaces == "liquidity_score"
    assert all(found.assumptions and found.expected_rows and found.invariants for found in CALCULATIONS.values())
