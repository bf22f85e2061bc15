"""Dagster's event log as kept here holds what the stock one holds, whether events come alone or in a batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from market_spine.automation.event_log import KeptConnectionsEventLog
from market_spine.automation.instance import open_instance

PARTITIONS = dg.StaticPartitionsDefinition([f"p{n}" for n in range(7)])
KEYS = [dg.AssetKey("first"), dg.AssetKey("second")]


def asset_called(name: str, **more: Any) -> dg.AssetsDefinition:
    @dg.asset(  # type: ignore[untyped-decorator]
        name=name,
        partitions_def=PARTITIONS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        check_specs=[dg.AssetCheckSpec("held", asset=name)],
        **more,
    )
    def body() -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes the bare class only
        return dg.MaterializeResult(metadata={"rows": 7}, check_results=[dg.AssetCheckResult(passed=True)])

    made: dg.AssetsDefinition = body
    return made


def history(instance: dg.DagsterInstance) -> dict[str, Any]:
    """Two range runs over two assets, then what can be asked of the log, without ids and times."""
    assets = [asset_called("first"), asset_called("second", deps=["first"])]
    for first in ("p0", "p3"):
        spread = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": "p6"}
        assert dg.materialize(assets, instance=instance, tags=spread).success
    last = instance.get_runs(limit=1)[0].run_id
    log = instance.event_log_storage
    records = {record.asset_entry.asset_key: record.asset_entry for record in log.get_asset_records(KEYS)}
    kinds = [log.get_logs_for_run(run.run_id) for run in instance.get_runs()]
    return {
        "events": Counter(one.dagster_event_type for of_run in kinds for one in of_run if one.is_dagster_event),
        "partitions": [log.get_materialized_partitions(key) for key in KEYS],
        "newest": [records[key].last_materialization.get_dagster_event().partition for key in KEYS],  # type: ignore[union-attr]
        "by_last_run": [records[key].last_run_id == last for key in KEYS],
        "counted": [len(log.fetch_materializations(key, limit=100).records) for key in KEYS],
    }


def test_a_batch_leaves_what_single_events_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents partitions that the pages do not know, or an asset whose newest event is an old one."""
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    (tmp_path / "stock").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "stock")) as stock:
        wanted = history(stock)
    assert wanted["events"][dg.DagsterEventType.ASSET_MATERIALIZATION] == 2 * (7 + 4)
    (tmp_path / "kept").mkdir()
    with open_instance(tmp_path / "kept") as kept:
        assert isinstance(kept.event_log_storage, KeptConnectionsEventLog)
        assert history(kept) == wanted
