"""Which partition depends on which: the store's plan, Dagster's asset graph and core_calc_dependencies say the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from functools import cache
from typing import Any

import dagster as dg
import pytest

from market_spine.assets.dependencies import dependency_rows
from market_spine.assets.graph import assets_of
from market_spine.assets.partitions import WEEK_TIERS, WEEKS, partition_key, week_key
from market_spine.assets.tables import derived_of, tables_of
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.feeds import load_feeds
from market_spine.governance.staleness import Derived, Place
from market_spine.store.plan import read_by

FRIDAY = date(2025, 11, 14)
SEEN = [FRIDAY - timedelta(weeks=number) for number in range(-2, 30)]  # more than any window, and later weeks
EDGES = [(feed, one, entry.sql_name) for feed in load_feeds() for one in derived_of(feed) for entry in one.inputs]


@cache
def graph_of(feed: Feed) -> Any:
    nothing = {"spine": dg.ResourceDefinition.none_resource()}  # nothing runs here
    return dg.Definitions(assets=assets_of(feed), resources=nothing).resolve_asset_graph()


@cache
def stored(feed: Feed) -> Mapping[tuple[str, str], int]:
    """(table, input) -> weeks back, as core_calc_dependencies has it."""
    rows = dependency_rows(feed, assets_of(feed))
    found = {(row["table_name"], row["depends_on_table"]): row["weeks_back"] for row in rows}
    assert len(found) == len(rows)
    return found


def asset_key(feed: Feed, sql_name: str) -> dg.AssetKey:
    table = tables_of(feed)[sql_name]
    return dg.AssetKey([sql_name.removesuffix(f"_{table.name}"), table.name])


def read_by_the_store(one: Derived, key: WeekKey, sql_name: str) -> set[WeekKey]:
    """Of everything that might be there, what the plan of ``key`` takes of an input."""
    there: dict[tuple[str, date], dict[str, Place]] = {}
    for entry in one.inputs:
        for friday in SEEN:
            keys = [WeekKey(friday, tier) for tier in (Tier if entry.by_tier else (None,))]
            there[entry.sql_name, friday] = {each.tier_text: Place(entry.sql_name, each) for each in keys}
    read = read_by(one.calculation, one.inputs, key, there)
    return {place.key for _, _, here in read for place in here if place.table_name == sql_name}


def read_by_dagster(feed: Feed, one: Derived, key: WeekKey, sql_name: str) -> set[WeekKey]:
    """The partitions of an input that Dagster takes ``key`` to depend on."""
    graph, child, parent = graph_of(feed), asset_key(feed, one.table_name), asset_key(feed, sql_name)
    definition, upstream = graph.get(child).partitions_def, graph.get(parent).partitions_def
    subset = definition.subset_with_partition_keys([partition_key(key)])
    mapping = graph.get_partition_mapping(child, parent)
    found = mapping.get_upstream_mapped_partitions_result_for_partitions(subset, definition, upstream)
    return {week_key(str(text)) for text in found.partitions_subset.get_partition_keys()}


@pytest.mark.parametrize(("feed", "one", "sql_name"), EDGES, ids=[f"{one.table_name}<{name}" for _, one, name in EDGES])
def test_an_edge_and_its_window_are_the_same_everywhere(feed: Feed, one: Derived, sql_name: str) -> None:
    """Dagster that takes a partition for up to date which the store makes again, or the reverse; a window by hand."""
    key = WeekKey(FRIDAY, Tier.OTC if one.calculation.table.by_tier else None)
    read = read_by_the_store(one, key, sql_name)
    assert read_by_dagster(feed, one, key, sql_name) == read
    oldest = FRIDAY - timedelta(weeks=stored(feed)[one.table_name, sql_name])
    assert (min(read).week_ending, max(read).week_ending) == (oldest, FRIDAY)
    assert {each.tier_text for each in read} <= {*map(str, Tier), ALL_TIERS}


@pytest.mark.parametrize("feed", load_feeds(), ids=lambda feed: feed.name)
def test_no_edge_is_missing_and_none_is_more(feed: Feed) -> None:
    """An edge that the graph has and core_calc_dependencies has not, an input that Dagster does not know."""
    tables = {asset_key(feed, name): name for name in tables_of(feed)}
    graph = graph_of(feed)
    edges = {
        (tables[node.key], tables[parent])
        for node in graph.asset_nodes
        for parent in node.parent_keys
        if node.key in tables and parent in tables
    }
    assert set(stored(feed)) == edges
    assert edges == {(one.table_name, entry.sql_name) for one in derived_of(feed) for entry in one.inputs}
    for key, name in tables.items():
        assert graph.get(key).partitions_def == (WEEK_TIERS if tables_of(feed)[name].by_tier else WEEKS)
