"""The one factory: every derived table of a feed as an asset, made from its declaration alone."""

from collections.abc import Mapping, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Any

import dagster as dg

from market_spine.assets import events
from market_spine.assets.compute import Step, compute
from market_spine.assets.partition_checks import log_per_partition
from market_spine.assets.partitions import WEEK_TIERS, WEEKS, week_keys
from market_spine.assets.spine import Spine
from market_spine.checks.judge import check_names
from market_spine.domain import calculations, normalization, reference
from market_spine.domain.contracts import Feed
from market_spine.domain.lineage import column_lineage

OWNERS = ["team:market-data"]


class CalculationConfig(dg.Config):
    """``force`` computes again what is up to date; the content must come out the same."""

    force: bool = False


def calculation_asset(feed: Feed, step: Step, is_described: bool = True) -> dg.AssetsDefinition:
    """The asset ``[feed, table]`` of one calculation; its column lineage takes as long as a week's run."""
    key = dg.AssetKey([feed.name, step.table.name])
    invariants = step.calculation.invariants
    descriptions = {one.name: one.description for one in invariants}
    checks = [(name, descriptions.get(name, f"{name} of the declared columns")) for name in check_names(invariants)]

    @dg.asset(
        key=key,
        deps=[_dependency(feed, step, name) for name in step.inputs],
        partitions_def=WEEK_TIERS if step.table.by_tier else WEEKS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version=step.calculation.version,
        group_name=step.table.stage.value.lower(),
        kinds={"duckdb", "parquet"},
        owners=OWNERS,
        tags={"domain": feed.domain},
        description=_description(step),
        metadata=definition_metadata(feed, step) if is_described else {},
        check_specs=events.check_specs(key, step.table, checks),
    )
    def body(
        context: dg.AssetExecutionContext, config: CalculationConfig, spine: dg.ResourceParam[Spine]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes the bare class only
        keys = week_keys(context)
        run = spine.run_of(context)
        report = compute(spine, step, keys, run, config.force)
        events.tell(context, report)
        if step.rejects_sql:
            log_per_partition(context, key, events.CAPTURED, keys, report.without_capture, run.now)
        return events.result(key, keys, report, [name for name, _ in checks])

    return body


def _dependency(feed: Feed, step: Step, name: str) -> dg.AssetDep:
    own = dg.AssetKey([reference.NAME if name == reference.TRADING_CALENDAR.name else feed.name, name])
    entry, _ = step.inputs[name]
    if step.calculation.weeks_back and entry.by_tier and step.table.by_tier:
        window = dg.TimeWindowPartitionMapping(
            start_offset=-step.calculation.weeks_back, allow_nonexistent_upstream_partitions=True
        )
        tiers = dg.DimensionPartitionMapping("tier", dg.IdentityPartitionMapping())
        weeks = dg.DimensionPartitionMapping("week_ending", window)
        return dg.AssetDep(own, partition_mapping=dg.MultiPartitionMapping({"week_ending": weeks, "tier": tiers}))
    return dg.AssetDep(own)


def _source_of(step: Step) -> dg.LocalFileCodeReference:
    """The file that declares the calculation; Dagster adds the factory, which is the same for all."""
    own = Path(calculations.__file__).with_name(f"{step.calculation.name}.py")
    path = own if own.exists() else Path(normalization.__file__)
    return dg.LocalFileCodeReference(file_path=str(path), line_number=1, label="calculation")


def _description(step: Step) -> str:
    spec = step.calculation.spec()
    lines = [spec.description, "", f"Rows: {spec.expected_row_count}.", "", "Assumptions:"]
    return "\n".join([*lines, *(f"* {assumption}" for assumption in spec.assumptions)])


def table_schema(step_table: Any) -> dg.TableSchema:
    """Dagster's schema of a table, from its one column list."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                one.name,
                one.type,
                one.description,
                constraints=dg.TableColumnConstraints(nullable=one.nullable),
            )
            for one in step_table.columns
        ]
    )


def definition_metadata(feed: Feed, step: Step) -> dict[str, Any]:
    """Schema, column lineage from the SQL, and names, known before anything runs."""
    lineage = column_lineage(step.calculation, step.known_columns)
    deps = {
        column: [
            dg.TableColumnDep(
                dg.AssetKey([reference.NAME if table == "trading_calendar" else feed.name, table]), source
            )
            for table, source in sources
            if source != "captured_at"
        ]
        for column, sources in lineage.items()
    }
    return {
        "dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[_source_of(step)]),
        "dagster/column_schema": table_schema(step.table),
        "dagster/column_lineage": dg.TableColumnLineage(deps),
        "dagster/table_name": step.table_name,
        "grain": ", ".join(step.table.grain),
        # Dagster draws column lineage in its hosted edition only: here it can be read.
        "columns_made_from": dg.MetadataValue.md(_lineage_table(lineage)),
        "sql": dg.MetadataValue.md(f"```sql\n{cleandoc(step.calculation.sql)}\n```"),
    }


def _lineage_table(lineage: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    rows = (
        f"| {name} | {', '.join(f'{table}.{column}' for table, column in made)} |" for name, made in lineage.items()
    )
    return "\n".join(["| column | made from |", "| --- | --- |", *rows])
