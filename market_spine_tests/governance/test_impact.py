"""What depends on a table or a column: answers read off the SQL by hand, and laws over every table."""

from __future__ import annotations

from functools import cache

import pytest

from market_spine.assets.tables import derived_of, lineage_of, tables_of
from market_spine.domain.normalization import normalization
from market_spine.feeds.otc import FEED
from market_spine.governance.impact import Dependent, Lineage, dependents
from market_spine_tests.governance.ledger import CALENDAR, RAW, entry, table

TABLES = tables_of(FEED)


@cache
def lineage() -> Lineage:
    return lineage_of(FEED)


def reached(name: str, *columns: str) -> dict[str, Dependent]:
    """Dependents by short name, of a table by short name."""
    sql_name = CALENDAR.sql_name if name == CALENDAR.name else FEED.sql_name(name)
    asked = columns or [one.name for one in TABLES[sql_name].columns]
    found = dependents(derived_of(FEED), lineage(), sql_name, asked)
    return {one.table_name.removeprefix("otc_"): one for one in found}


def fields(name: str, *columns: str) -> set[str]:
    return {f"{table}.{column}" for table, one in reached(name, *columns).items() for column in one.columns}


@pytest.mark.parametrize(
    ("name", "column", "reaches", "not_reached"),
    [
        (
            "venue_volume",
            "total_shares",
            "symbol_summary.total_volume symbol_venue_share.venue_share symbol_hhi.hhi symbol_rolling_6w.mean_hhi"
            " tier_split.volume_share venue_share.venue_rank liquidity_score.liquidity_score"
            " volume_per_day.volume_per_day symbol_rolling_6w.trend_direction",
            "symbol_summary.total_trades symbol_summary.venue_count symbol_rolling_6w.mean_trades"
            " volume_per_day.session_count tier_split.total_trades symbol_hhi.venue_count",
        ),
        (
            "venue_volume",
            "total_trades",
            "symbol_summary.total_trades symbol_summary.avg_trade_size liquidity_score_v2.liquidity_score"
            " symbol_rolling_6w.mean_trades tier_split.total_trades",
            "symbol_hhi.hhi symbol_rolling_6w.mean_hhi symbol_rolling_6w.mean_volume volume_per_day.volume_per_day"
            " venue_share.venue_share",
        ),
        ("raw", "total_shares", "venue_volume.total_shares symbol_hhi.hhi", "venue_volume.total_trades"),
        (
            "trading_calendar",
            "session_fraction",
            "volume_per_day.session_count volume_per_day.volume_per_day",
            "volume_per_day.total_volume symbol_summary.total_volume symbol_rolling_6w.mean_volume",
        ),
        ("symbol_hhi", "hhi", "symbol_rolling_6w.mean_hhi", "symbol_rolling_6w.mean_volume"),
    ],
)
def test_columns_that_a_column_reaches(name: str, column: str, reaches: str, not_reached: str) -> None:
    """Prevents a change of meaning from being made without knowing which numbers it moves (F191, F369)."""
    found = fields(name, column)
    assert set(reaches.split()) <= found
    assert found.isdisjoint(not_reached.split())
    known = {f"{one.name}.{each.name}" for one in TABLES.values() for each in one.columns}
    assert set(not_reached.split()) <= known


def test_the_way_that_a_column_takes() -> None:
    """Prevents an answer that says that something depends and not by which step."""
    found = reached("raw", "total_shares")
    assert found["venue_volume"].columns["total_shares"] == (("otc_raw", "total_shares"),)
    assert found["symbol_hhi"].columns["hhi"] == (("otc_symbol_venue_share", "total_shares"),)
    assert found["symbol_rolling_6w"].columns["mean_hhi"] == (("otc_symbol_hhi", "hhi"),)
    assert found["symbol_rolling_6w"].through == ("otc_symbol_summary", "otc_symbol_hhi")
    assert found["symbol_rolling_6w"].weeks_back == 5


def test_tables_that_are_made_from_a_table() -> None:
    """Prevents neighbours from being taken for dependents, and the end of the chain from having any."""
    assert reached("symbol_rolling_6w") == {}
    assert set(reached("symbol_hhi")) == {"symbol_rolling_6w"}
    assert {"tier_split"} <= set(reached("venue_share"))
    assert not {"symbol_summary", "symbol_hhi", "symbol_rolling_6w"} & set(reached("venue_share"))
    assert {"volume_per_day"} <= set(reached("trading_calendar"))
    assert set(reached("raw")) == {one.table_name.removeprefix("otc_") for one in derived_of(FEED)}


def test_a_table_whose_rows_depend_only() -> None:
    """Prevents a filter from being forgotten because no value comes from the column, here or further on."""
    base = table("base", RAW)
    kept = table("kept", entry(base))
    last = table("last", entry(kept))
    columns: Lineage = {
        "otc_base": {"flag": (("otc_raw", "flag"),), "shares": (("otc_raw", "shares"),)},
        "otc_kept": {"shares": (("otc_base", "shares"),)},
        "otc_last": {"total": (("otc_kept", "shares"),)},
    }
    found = dependents((base, kept, last), columns, "otc_raw", ["flag"])
    assert [(one.table_name, list(one.columns)) for one in found] == [
        ("otc_base", ["flag"]),
        ("otc_kept", []),
        ("otc_last", []),
    ]


@pytest.mark.parametrize("sql_name", TABLES)
def test_a_table_reaches_what_its_columns_reach(sql_name: str) -> None:
    """Prevents the answer for a table from leaving out what the answer for one of its columns has."""
    name = CALENDAR.name if sql_name == CALENDAR.sql_name else sql_name.removeprefix("otc_")
    of_columns = [reached(name, one.name) for one in TABLES[sql_name].columns]
    assert fields(name) == {f"{table}.{c}" for found in of_columns for table, one in found.items() for c in one.columns}
    assert all(set(found) == set(reached(name)) for found in of_columns)


def test_every_column_of_every_table_has_its_lineage_in_sql_names() -> None:
    """Prevents lineage between feeds from being mixed up, and a table that is not there."""
    assert set(lineage()) == {one.table_name for one in derived_of(FEED)}
    for name, columns in lineage().items():
        assert list(columns) == [one.name for one in TABLES[name].columns]
        for sources in columns.values():
            known = {(other, one.name) for other, found in TABLES.items() for one in found.columns}
            assert set(sources) <= known
    assert normalization(FEED).calculation.name in {one.calculation.name for one in derived_of(FEED)}
