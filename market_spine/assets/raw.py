"""The raw asset of a feed: what a source delivered, parsed, gated and captured."""

import dagster as dg

from market_spine.assets import events
from market_spine.assets.calculations import OWNERS, table_schema
from market_spine.assets.capture import Options
from market_spine.assets.ingest import ingest
from market_spine.assets.partition_checks import log_per_partition
from market_spine.assets.partitions import WEEK_TIERS, week_keys
from market_spine.assets.spine import CLAIM_TAG, Spine
from market_spine.checks.gates import DELIVERY_CHECKS
from market_spine.checks.schema import CHECK as SCHEMA
from market_spine.domain.captures import RevisionPolicy
from market_spine.domain.contracts import Feed
from market_spine.governance.work import check_claim

PARENT_TAG = "dagster/parent_run_id"
CHECKS = DELIVERY_CHECKS | {SCHEMA: "Rows keep the declared columns, nulls and bounds."}


class IngestConfig(dg.Config):
    """How to ingest; ``min_records`` below 0 means the feed's own gate."""

    force: bool = False
    revision_policy: str = RevisionPolicy.VERSIONED.value
    min_records: int = -1

    def options(self) -> Options:
        policy = RevisionPolicy(self.revision_policy)
        return Options(policy, self.force, None if self.min_records < 0 else self.min_records)


def raw_asset(feed: Feed) -> dg.AssetsDefinition:
    """The asset ``[feed, raw]``."""
    key = dg.AssetKey([feed.name, "raw"])

    @dg.asset(
        key=key,
        partitions_def=WEEK_TIERS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name=feed.raw.stage.value.lower(),
        kinds={"finra", "parquet"},
        owners=OWNERS,
        tags={"domain": feed.domain},
        description=f"{feed.title}. {feed.raw.description}",
        metadata={
            "dagster/column_schema": table_schema(feed.raw),
            "dagster/table_name": feed.sql_name("raw"),
            "source": dg.MetadataValue.url(feed.source_url),
        },
        check_specs=events.check_specs(key, feed.raw, list(CHECKS.items())),
    )
    def body(
        context: dg.AssetExecutionContext, config: IngestConfig, spine: dg.ResourceParam[Spine]
    ) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes the bare class only
        keys = week_keys(context)
        run = spine.run_of(context)
        tags = context.run.tags
        if CLAIM_TAG in tags and PARENT_TAG not in tags:  # a person who executes it again means it
            check_claim(spine.store, tags[CLAIM_TAG])
        report = ingest(spine, feed, keys, run, config.options())
        for held in report.results:
            context.log.info(f"{held.week_key}: {held.action}, {held.record_count:,} rows {held.reason}".rstrip())
        events.tell(context, report)
        log_per_partition(context, key, events.CAPTURED, keys, report.without_capture, run.now)
        return events.result(key, keys, report, list(CHECKS))

    return body
