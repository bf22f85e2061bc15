"""The published file as the last asset of a feed's graph."""

import dagster as dg

from market_spine.assets import readiness
from market_spine.assets.calculations import OWNERS
from market_spine.assets.reading import publish_all
from market_spine.assets.spine import Spine
from market_spine.assets.tables import steps_of
from market_spine.domain.contracts import Feed


def published_asset(feed: Feed) -> dg.AssetsDefinition:
    """The asset ``[feed, published]``: unpartitioned, rebuilt whole from the manifest in well under a second."""

    @dg.asset(
        key=dg.AssetKey([feed.name, "published"]),
        deps=[
            dg.AssetDep(dg.AssetKey([feed.name, name]), partition_mapping=dg.AllPartitionMapping())
            for name in (*steps_of(feed), readiness.NAME)
        ],
        group_name="published",
        kinds={"duckdb"},
        owners=OWNERS,
        tags={"domain": feed.domain},
        description="market_spine.duckdb: control tables, latest, as-of, first release and revisions of every table,"
        " for people and BI tools. Built aside and swapped in; never the truth.",
    )
    def body(context: dg.AssetExecutionContext, spine: dg.ResourceParam[Spine]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes the bare class only
        spine.store.ensure()
        path = publish_all(spine.store, feed)
        context.log.info(f"published {path}")
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": str(path),
                "bytes": dg.MetadataValue.int(path.stat().st_size),
            }
        )

    return body
