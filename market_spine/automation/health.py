"""The daily look: what is wrong, told in one run of its own, whether or not anything else ran that day.

It also puts the day's digest on record; the notification sensor sends it.
"""

from functools import cache

import dagster as dg

from market_spine.assets.scope import look, scope_of
from market_spine.assets.spine import Spine
from market_spine.assets.wholeness import look_through
from market_spine.domain.contracts import Feed, Severity
from market_spine.governance.causes import roots
from market_spine.governance.digests import draft_digest
from market_spine.store.anomalies import open_rows


@cache
def health_job(feed: Feed) -> dg.JobDefinition:
    """Looks through the watched weeks and every stored file, and writes every open root cause to the run's log."""

    @dg.op(name=f"{feed.name}_look", description="Compare what is expected with what is there, and tell what is wrong.")
    def tell(context: dg.OpExecutionContext, spine: dg.ResourceParam[Spine]) -> None:
        spine.store.ensure()
        run = spine.run_of(context)
        look(spine, feed, run)
        look_through(spine.store, feed, run)
        draft_digest(spine.store, run, feed, scope_of(feed).use_cases)
        with spine.store.control.read() as connection:
            wrong = [row for row in roots(open_rows(connection, feed.domain)) if row["severity"] != Severity.INFO]
        for row in wrong:
            write = context.log.warning if row["severity"] == Severity.WARN else context.log.error
            write(f"{row['severity']} {row['week_ending']} {row['tier']} {row['code']}: {row['message']}")
        if not wrong:
            context.log.info("nothing is wrong")
        context.add_output_metadata({"open": len(wrong)})

    @dg.job(name=f"{feed.name}_daily_health", description="What is wrong, every morning.", tags={"domain": feed.domain})
    def daily_health() -> None:
        tell()

    return daily_health
