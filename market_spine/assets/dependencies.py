"""The asset graph as rows of core_calc_dependencies, read from the definitions: the two cannot disagree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg

from market_spine.domain import reference
from market_spine.domain.contracts import Feed


def dependency_rows(feed: Feed, assets: Sequence[dg.AssetsDefinition]) -> list[dict[str, Any]]:
    """One row per edge between captured tables of ``feed`` (and reference tables), with the window in weeks."""
    rows = []
    for asset in assets:
        for spec in asset.specs:
            if spec.key.path[0] == feed.name and spec.partitions_def is not None:
                rows += [_row(feed, spec.key, dep) for dep in spec.deps]
    return rows


def _row(feed: Feed, key: dg.AssetKey, dep: dg.AssetDep) -> dict[str, Any]:
    is_reference = dep.asset_key.path[0] == reference.NAME
    return {
        "domain": feed.domain,
        "table_name": "_".join(key.path),
        "depends_on_table": "_".join(dep.asset_key.path),
        "depends_on_domain": reference.DOMAIN if is_reference else feed.domain,
        "weeks_back": _weeks_back(dep.partition_mapping),
        "dependency_type": "reference" if is_reference else "calculation",
    }


def _weeks_back(mapping: dg.PartitionMapping | None) -> int:
    if not isinstance(mapping, dg.MultiPartitionMapping):
        return 0
    weeks = mapping.downstream_mappings_by_upstream_dimension["week_ending"].partition_mapping
    return -weeks.start_offset if isinstance(weeks, dg.TimeWindowPartitionMapping) else 0
