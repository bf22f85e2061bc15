"""The asset graph as rows of core_calc_dependencies, read from the definitions: the two cannot disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from market_spine.assets.tables import tables_of
from market_spine.domain import reference
from market_spine.domain.contracts import Feed


def dependency_rows(feed: Feed, assets: Sequence[dg.AssetsDefinition]) -> list[dict[str, Any]]:
    """One row per edge between captured tables of ``feed`` (and reference tables), with the window in weeks."""
    tables = tables_of(feed)
    return [
        _row(feed, spec.key, dep)
        for asset in assets
        for spec in asset.specs
        for dep in spec.deps
        if _sql_name(spec.key) in tables and _sql_name(dep.asset_key) in tables
    ]


def _sql_name(key: dg.AssetKey) -> str:
    return "_".join(key.path)


def _row(feed: Feed, key: dg.AssetKey, dep: dg.AssetDep) -> dict[str, Any]:
    is_reference = dep.asset_key.path[0] == reference.NAME
    return {
        "domain": feed.domain,
        "table_name": _sql_name(key),
        "depends_on_table": _sql_name(dep.asset_key),
        "depends_on_domain": reference.DOMAIN if is_reference else feed.domain,
        "weeks_back": _weeks_back(dep.partition_mapping),
        "dependency_type": "reference" if is_reference else "calculation",
    }


def _weeks_back(mapping: dg.PartitionMapping | None) -> int:
    if not isinstance(mapping, dg.MultiPartitionMapping):
        return 0
    weeks = mapping.downstream_mappings_by_upstream_dimension["week_ending"].partition_mapping
    return -weeks.start_offset if isinstance(weeks, dg.TimeWindowPartitionMapping) else 0
