"""`spine run` and `spine backfill`: start Dagster work for partitions, and tell what became of each."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.automation.request import Params, Request, feed_of, parse
from market_spine.cli.door import FAILED, NOT_SATISFIED
from market_spine.cli.options import SourceOption, TierOption, WeekOption, tiers_of, week_of
from market_spine.cli.output import Format, FormatOption, advise, escaped, note
from market_spine.cli.state import State
from market_spine.domain.captures import RevisionPolicy

if TYPE_CHECKING:
    from datetime import datetime

    from market_spine.assets.spine import Spine
    from market_spine.cli.work import Availability
    from market_spine.sources.delivery import Inventory

PolicyOption = Annotated[
    RevisionPolicy | None, typer.Option("--policy", help="What to do with a week that is already there.")
]
FeedOption = Annotated[
    str | None, typer.Option("--feed", metavar="NAME", help="Which feed, where there are several, e.g. otc.")
]
ForceOption = Annotated[bool, typer.Option("--force", help="Capture and calculate again what has not changed.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")]
ParamOption = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", metavar="KEY=VALUE", help="A parameter as the documents write it; may be repeated."),
]


def run(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Asset or pipeline, e.g. otc/venue_share or otc.weekly_refresh.")],
    week: WeekOption = None,
    tier: TierOption = None,
    param: ParamOption = None,
    source: SourceOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Run an asset or a pipeline for a week, or for a range with -p.

    Parameters: week_ending, tier, weeks_back, from, to, min_records, revision_policy, force. Without a tier: all tiers.

    Example: spine run otc.weekly_refresh --week-ending 2025-11-14 --tier OTC

    Example: spine run otc.backfill_range -p tier=NMS_TIER_1 -p weeks_back=3 --dry-run
    """
    from market_spine.automation.pipelines import find
    from market_spine.cli.state import feeds

    params = parse(param or (), Params(week_of(week), tiers_of(tier), force=force))
    feed, pipeline = find(feeds(), name)
    request = Request(feed, pipeline.name, pipeline.tables, (), pipeline.rolls_latest_only, params=params)
    _carry_out(ctx.obj, request, source, dry_run, form, filtered=params.is_range)


def backfill(
    ctx: typer.Context,
    first: Annotated[str | None, typer.Option("--from", metavar="FRIDAY", help="First week.")] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="FRIDAY", help="Last week; the newest one if unset.")
    ] = None,
    weeks_back: Annotated[
        int | None,
        typer.Option(
            "--weeks-back", min=1, metavar="N", help="The last N weeks that are due of every tier, and newer ones."
        ),
    ] = None,
    tier: TierOption = None,
    source: SourceOption = None,
    feed: FeedOption = None,
    policy: PolicyOption = None,
    dry_run: DryRunOption = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Load a range of weeks: every table, for every week and tier that the source has.

    What the source cannot have is listed with its reason, never dropped.

    Example: spine backfill --from 2025-11-07 --to 2025-11-14 --tier OTC --source synthetic:scale=0.05

    Example: spine backfill --weeks-back 4 --dry-run
    """
    from market_spine.automation.pipelines import pipelines_of
    from market_spine.cli.state import feeds

    begin, end = week_of(first), week_of(last)
    params = Params(None, tiers_of(tier), weeks_back, begin, end, policy=policy, by_options=True)
    chosen = feed_of(feeds(), feed)
    pipeline = pipelines_of(chosen)[f"{chosen.domain}.weekly_refresh"]
    _carry_out(ctx.obj, Request(chosen, "backfill", pipeline.tables, (), params=params), source, dry_run, form, True)


def _carry_out(state: State, request: Request, source: str | None, dry_run: bool, form: Format, filtered: bool) -> None:
    """``filtered``: ask the source first what it has, and run only that."""
    from market_spine.cli.state import settings_of
    from market_spine.settings import build_spine, source_of

    settings = settings_of(state, source)
    path = Path(settings.source.removeprefix("file:")).expanduser()
    names_one = request.params.week_ending is not None and len(request.params.tiers) == 1
    is_explicit = settings.source.startswith("file:") and path.is_file() and names_one
    opened = source_of(settings, is_explicit)
    if opened.kind == "api":
        _tell_retries()
    with opened if isinstance(opened, AbstractContextManager) else nullcontext():  # the API's has connections
        spine = build_spine(settings, source=opened)
        asks = "raw" in request.tables and not is_explicit and (filtered or dry_run)
        _ask_and_start(state, spine, request, dry_run, form, filtered, asks)


def _tell_retries() -> None:
    """A retry is a line for people; the library's own is its log record, of fields."""
    from stamina.instrumentation import RetryDetails, set_on_retry_hooks

    def tell(details: RetryDetails) -> None:
        note(f"[dim]no answer: {escaped(str(details.caused_by))}; asking again in {details.wait_for:.0f} s[/]")

    set_on_retry_hooks([tell])


def _ask_and_start(
    state: State, spine: Spine, request: Request, dry_run: bool, form: Format, filtered: bool, asks: bool
) -> None:
    from market_spine.automation.request import keys_of
    from market_spine.cli import report, work

    now = spine.clock()
    asked: list[Inventory] = []

    def inventory() -> Inventory:
        """Asked once, and only where it is needed: of the API it is a request."""
        if not asked:
            asked.append(spine.source.inventory(request.feed, now))
        return asked[0]

    if "raw" in request.tables and spine.source.kind == "file":
        inventory()  # a path that is not there is told before anything is begun
    if "raw" in request.tables:
        _check_source(spine, request, now)
    keys, origin = keys_of(request.feed, request.params, now, inventory, spine.source.kind == "file")
    if origin:
        note(f"[dim]{origin}[/]")
    there = work.availability(inventory(), keys, now) if asks else work.Availability(tuple(keys))
    report.problems(there.problems)
    report.absent(there.absent)
    request = replace(request, keys=tuple(there.have if filtered else keys))
    if dry_run:
        report.plan(work.launches_of(request, request.keys), work.forecast(spine, request, keys, there.have), form)
        return
    _start(state, spine, request, form, bool(filtered and _missing(spine, request, there)))


def _check_source(spine: Spine, request: Request, now: datetime) -> None:
    """Refuse a source that does not fit the store before anything is planned or begun; name the one that is made up.

    Tell of a clock that reads earlier than the store's newest transaction: by such a clock weeks are not due yet.
    """
    from market_spine.cli.state import is_there
    from market_spine.store.ledger import CLOCK_SKEW, newest
    from market_spine.store.records import SYNTHETIC, refuse_mixture

    if spine.source.kind == SYNTHETIC:
        note("[dim]source synthetic: generated weeks, not FINRA's (--source or MARKET_SPINE_SOURCE names another)[/]")
    if is_there(spine.store):
        spine.store.ensure()
        with spine.store.control.read() as connection:
            source = spine.source
            refuse_mixture(connection, request.feed.domain, source.kind, source.series, spine.store.home.root)
            last = newest(connection)[1]
        if last and now < last - CLOCK_SKEW:
            newer = f"{last:%Y-%m-%d %H:%M}"
            note(f"[yellow]the clock reads {now:%Y-%m-%d %H:%M} UTC, but the newest transaction is of {newer}[/]")
            advise("set this machine's clock right (timedatectl), then repeat the command")


def _missing(spine: Spine, request: Request, there: Availability) -> bool:
    """Whether something asked for is neither at the source nor in the store."""
    from market_spine.store.manifest import Question

    if not there.absent:
        return False
    spine.store.ensure()
    weeks = {key.week_ending for key in there.absent}
    held = {one.key for one in spine.store.select(Question((request.feed.sql_name("raw"),), weeks=weeks))}
    return bool(set(there.absent) - held)


def _start(state: State, spine: Spine, request: Request, form: Format, is_missing: bool) -> None:
    from market_spine.cli import report, work
    from market_spine.cli.progress import Watch, expected_steps
    from market_spine.cli.state import open_instance

    if not request.keys:
        note("[red]nothing to run:[/] the source has none of the partitions that were asked for")
        raise typer.Exit(NOT_SATISFIED)
    fetches = len(request.keys) if "raw" in request.tables else 0
    steps = expected_steps(work.partitions_of(request, request.keys), fetches)
    with Watch(steps) as watch, open_instance(spine.store) as instance:
        watched = replace(spine, progress=watch.step)
        found, counted = work.carry_out(watched, request, request.keys, instance, state.log_level)
    report.outcome(found, counted, form, request.feed.sql_name("raw"))
    report.findings(work.failed_checks(spine.store, found))
    report.out_of_date(work.out_of_date(spine.store, request.feed))
    report.no_longer_certified(work.no_longer_certified(spine.store, request.feed, found))
    if found.failures:  # the work itself failed: whether the partitions could be had is not known
        raise typer.Exit(FAILED)
    if is_missing or any(one.lacking for one in counted):
        raise typer.Exit(NOT_SATISFIED)
