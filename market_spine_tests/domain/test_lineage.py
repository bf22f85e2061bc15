"""Column lineage: entries read off the SQL by hand, completeness for every calculation, errors that name the gap."""

from __future__ import annotations

from dataclasses import replace

import pytest

from market_spine.domain.contracts import WEEK_ENDING, Calculation, Column
from market_spine.domain.errors import CalculationError
from market_spine.domain.lineage import column_lineage
from market_spine_tests.domain.calculation_lab import CALCULATIONS, TABLES

VV, SS, HHI, SVS = "venue_volume", "symbol_summary", "symbol_hhi", "symbol_venue_share"
CONSTANT = {("weekly_baseline", "measure")}  # names that the SQL itself gives to its rows


@pytest.mark.parametrize(
    ("name", "column", "sources"),
    [
        (SS, "week_ending", {(VV, "week_ending")}),
        (SS, "total_volume", {(VV, "total_shares")}),
        (SS, "venue_count", {(VV, "mpid")}),
        (SS, "avg_trade_size", {(VV, "total_shares"), (VV, "total_trades")}),
        ("venue_share", "symbol_count", {(VV, "symbol")}),
        ("venue_share", "venue_share", {(VV, "total_shares"), (VV, "week_ending"), (VV, "tier")}),
        (
            SVS,
            "venue_rank",
            {(VV, "total_shares"), (VV, "mpid"), (VV, "week_ending"), (VV, "tier"), (VV, "symbol")},
        ),
        (HHI, "hhi", {(SVS, "total_shares")}),
        (HHI, "top_venue_mpid", {(SVS, "mpid"), (SVS, "venue_rank")}),
        ("liquidity_score", "liquidity_score", {(SS, "avg_trade_size"), (SS, "venue_count")}),
        (
            "liquidity_score_v2",
            "liquidity_score",
            {(SS, "total_volume"), (SS, "venue_count"), (SS, "total_trades")},
        ),
        ("volume_per_day", "session_count", {("trading_calendar", "session_fraction")}),
        ("volume_per_day", "volume_per_day", {(SS, "total_volume"), ("trading_calendar", "session_fraction")}),
        ("tier_split", "is_complete", {("venue_share", "tier"), ("venue_share", "week_ending")}),
        ("symbol_rolling_6w", "week_ending", {(SS, "week_ending")}),
        ("symbol_rolling_6w", "mean_hhi", {(HHI, "hhi")}),
        ("symbol_rolling_6w", "trend_pct", {(SS, "total_volume"), (SS, "week_ending")}),
        ("symbol_volume_per_day_6w", "session_count_6w", {("volume_per_day", "session_count")}),
        ("weekly_baseline", "tier", {("venue_share", "tier")}),
    ],
)
def test_sources_of_a_column(name: str, column: str, sources: set[tuple[str, str]]) -> None:
    """A column that seems to come from nowhere, or from everything."""
    assert set(column_lineage(CALCULATIONS[name], TABLES)[column]) == sources


@pytest.mark.parametrize("calculation", CALCULATIONS.values(), ids=CALCULATIONS.keys())
def test_every_column_has_sources_among_the_inputs(calculation: Calculation) -> None:
    """A column without lineage, lineage into the table of asked partitions, or to a column that does not exist."""
    found = column_lineage(calculation, TABLES)
    assert list(found) == [column.name for column in calculation.table.columns]
    for column, sources in found.items():
        assert bool(sources) is ((calculation.name, column) not in CONSTANT), column
        assert all(table in calculation.inputs and name in TABLES[table] for table, name in sources), column
        assert list(sources) == sorted(set(sources))
    assert {table for sources in found.values() for table, _ in sources} == set(calculation.inputs)


def test_unknown_columns_of_an_input() -> None:
    """Lineage that is silently empty because the caller forgot an input."""
    with pytest.raises(CalculationError, match="columns of venue_volume, which symbol_summary reads, are not known"):
        column_lineage(CALCULATIONS[SS], {})


def test_a_column_that_the_input_does_not_have() -> None:
    """SQL that reads a renamed column, with lineage to the old name."""
    columns = tuple(name for name in TABLES[VV] if name != "total_shares")
    with pytest.raises(CalculationError, match=r"symbol_summary cannot be read: Column .* could not be resolved"):
        column_lineage(CALCULATIONS[SS], {VV: columns})


def test_a_declared_column_that_the_sql_lacks() -> None:
    """A column list that promises more than the SQL returns."""
    table = replace(
        CALCULATIONS[SS].table, columns=(WEEK_ENDING, Column("extra", "DOUBLE", "x")), grain=("week_ending",)
    )
    with pytest.raises(CalculationError, match=r"symbol_summary cannot be read: the SQL has no column extra"):
        column_lineage(replace(CALCULATIONS[SS], table=table), TABLES)
