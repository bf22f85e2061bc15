"""`spine work`: what was asked for and what became of it; asking, trying again, cancelling.

Runs are Dagster's: `make dev` or the daemon does what is asked for here, by priority.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.door import NOT_SATISFIED
from market_spine.cli.options import (
    ActorOption,
    LimitOption,
    SourceOption,
    TierOption,
    WeekOption,
    actor_of,
    shown_tiers,
    tiers_of,
    week_of,
)
from market_spine.cli.output import Format, FormatOption, Listing, cell, code, hanging, limited, many, note, say, show
from market_spine.cli.run import ParamOption
from market_spine.domain.errors import QueryError
from market_spine.domain.work import ErrorClass, WorkState

if TYPE_CHECKING:
    from market_spine.governance.work import Enqueued
    from market_spine.store.store import Store
    from market_spine.store.work import Row

app = typer.Typer(name="work", no_args_is_help=True, help="Loads that were asked for: list them, add, retry, cancel.")
NUMBERS = Annotated[list[int], typer.Argument(metavar="ID...", help="Numbers of items, from spine work list.")]
COLUMNS = ("id", "state", "pipeline", "week_ending", "tier", "priority", "attempts", "next_at", "told")


@app.command()
def enqueue(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Pipeline or asset, e.g. otc.weekly_refresh.")],
    week: WeekOption = None,
    tier: TierOption = None,
    param: ParamOption = None,
    priority: Annotated[
        int | None, typer.Option("--priority", min=0, max=100, help="Higher first; 100 for a week, 25 for a range.")
    ] = None,
    actor: ActorOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Ask for a week, or for a range with -p; the daemon runs it. A week that is not due yet waits until it is.

    A partition that is asked for and not done yet is not asked for twice: exit code 1 if none was added.

    Example: spine work enqueue otc.weekly_refresh --week-ending 2025-11-14 --tier OTC

    Example: spine work enqueue otc.weekly_refresh -p from=2025-10-03 -p to=2025-12-19
    """
    from market_spine.automation.asks import asked_for
    from market_spine.automation.pipelines import find
    from market_spine.automation.request import Params, parse
    from market_spine.cli.state import feeds, written_now
    from market_spine.governance import work

    params = parse(param or (), Params(week_of(week), tiers_of(tier)))
    feed, pipeline = find(feeds(), name)
    store, run = _store(ctx), written_now()
    asks, origin = asked_for(feed, pipeline, params, run.now, priority)
    if origin:
        note(f"[dim]{origin}[/]")
    found = work.enqueue(store, run, asks, actor_of(actor))
    _tell_enqueued(found, form)
    if not found.added:
        raise typer.Exit(NOT_SATISFIED)


def _tell_enqueued(found: Enqueued, form: Format) -> None:
    rows = [*found.added, *found.held]
    if form is not Format.TABLE:
        show(Listing(["added", *rows[0]], [[row in found.added, *row.values()] for row in rows]), form)
    else:
        say(f"{many(len(found.added), 'item')} added, {len(found.held)} asked for before and not done yet")
        show(_listing(rows))


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[
        list[WorkState] | None, typer.Option("--state", case_sensitive=False, help="In this state; may be repeated.")
    ] = None,
    week: WeekOption = None,
    tier: TierOption = None,
    every: Annotated[bool, typer.Option("--all", help="Also what is complete or cancelled.")] = False,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List what is open or failed, in the order in which it is done.

    Example: spine work list --state FAILED
    """
    from market_spine.store import work

    shown: Sequence[str] = state or ([] if every else [*work.OPEN, WorkState.FAILED])
    with _store(ctx).control.read() as connection:
        chosen = work.items(connection, states=shown, week_ending=week_of(week), tiers=shown_tiers(tier))
    if form is Format.TABLE:
        limited(_listing(chosen), form, limit)
    else:
        limited(Listing([*chosen[0]] if chosen else [], [[*row.values()] for row in chosen]), form, limit)


def _listing(rows: Sequence[Row]) -> Listing:
    shown = [[_shown(row, name) for name in COLUMNS] for row in rows]
    spare = frozenset({"priority", "pipeline"})
    empty, stacked = "nothing is open or failed", ("next_at", "told")
    return Listing(COLUMNS, shown, "", frozenset({"told"}), empty=empty, spare=spare, stacked=stacked, upright=False)


def _shown(row: Row, name: str) -> Any:
    if name == "attempts":
        return f"{row['attempt_count']}/{row['max_attempts']}"
    if name == "next_at":
        return row["next_attempt_at"] or (row["desired_at"] if row["state"] == WorkState.PENDING else None)
    if name == "told":
        return row["last_error"] if row["error_class"] else None  # what is complete has none
    if name == "pipeline":
        return row["pipeline"].rpartition(".")[2]
    return row[name]


@app.command("show")
def show_(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(metavar="ID", help="The item's number, from spine work list.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one item, and everything that happened to it.

    Example: spine work show 1
    """
    from market_spine.store import work

    with _store(ctx).control.read() as connection:
        rows, happened = work.items(connection, ids=[number]), work.log_of(connection, number)
    if not rows:
        raise QueryError(f"there is no work item {number}", "see them with: spine work list --all")
    (row,) = rows
    if form is not Format.TABLE:
        show(Listing([*row, "history_json"], [[*row.values(), json.dumps(happened, default=str)]]), form)
        return
    for name, value in row.items():
        if value is not None and name != "batch_id":
            hanging(f"{name:<20}", cell(value))
    say("")
    told = ["changed_at", "from_state", "to_state", "actor", "message"]
    shown = [[one[name] for name in told] for one in happened]
    show(Listing(told, shown, "History", frozenset({"message"}), stacked=("actor", "message"), upright=False))
    if row["state"] == WorkState.FAILED:
        say("")
        code(f"next: spine work retry {number}  # once its cause is mended")


@app.command()
def retry(ctx: typer.Context, numbers: NUMBERS, actor: ActorOption = None) -> None:
    """Try failed or waiting items again now, with all their attempts.

    Example: spine work retry 1
    """
    from market_spine.cli.state import written_now
    from market_spine.governance import work

    for row in work.retry(_store(ctx), written_now(), numbers, actor_of(actor)):
        say(_line(row))


@app.command()
def cancel(ctx: typer.Context, numbers: NUMBERS, actor: ActorOption = None) -> None:
    """Cancel open items, and end the runs that do nothing else. What is captured by then stays.

    Example: spine work cancel 1
    """
    from market_spine.automation import work
    from market_spine.cli.state import open_instance, settings_of, written_now
    from market_spine.settings import build_spine

    spine = build_spine(settings_of(ctx.obj))
    with open_instance(_store(ctx)) as instance:
        for row in work.cancel(spine, instance, written_now(), numbers, actor_of(actor)):
            say(_line(row | {"state": WorkState.CANCELLED.value}))
            if row["current_execution_id"] and not work.is_ending(instance, row["current_execution_id"]):
                note(f"its run {row['current_execution_id']} goes on in another process; what it captures stays")


@app.command("run")
def run_(ctx: typer.Context, source: SourceOption = None) -> None:
    """Do what is due in this process, for machines without the daemon (cron, CI); exit code 1 where something failed.

    Example: spine work run
    """
    from market_spine.automation import work
    from market_spine.cli.state import feeds, open_instance, settings_of
    from market_spine.settings import build_spine

    _store(ctx)
    spine = build_spine(settings_of(ctx.obj, source))
    with open_instance(spine.store) as instance:
        level = ctx.obj.log_level
        settled = [row for feed in feeds() for row in work.carry_out(spine, feed, instance, level)]
    if settled:
        show(_listing(settled))
    else:
        note(f"[dim]nothing is due{_next_due(spine.store)}[/]")
    last = {row["id"]: row for row in settled}.values()
    if any(row["error_class"] not in (None, ErrorClass.NOT_YET) or row["state"] == WorkState.FAILED for row in last):
        raise typer.Exit(NOT_SATISFIED)


def _next_due(store: Store) -> str:
    """When the first of what waits is due, in words; '' where nothing waits."""
    from market_spine.store import work

    with store.control.read() as connection:
        waiting = work.items(connection, states=[WorkState.PENDING, WorkState.RETRY_WAIT])
    moments = [row["next_attempt_at"] or row["desired_at"] for row in waiting]
    return f"; {many(len(moments), 'item')} from {cell(min(moments))} on" if moments else ""


@app.command()
def reconcile(ctx: typer.Context) -> None:
    """Make the ledger say what Dagster's runs say, as the sensor does by itself every 15 seconds.

    Example: spine work reconcile
    """
    from market_spine.automation import work
    from market_spine.cli.state import feeds, open_instance, settings_of, written_now
    from market_spine.settings import build_spine

    store = _store(ctx)
    spine = build_spine(settings_of(ctx.obj))
    with open_instance(store) as instance:
        settled = [
            row for feed in feeds() for row in work.reconcile(spine, feed, instance, written_now(), actor_of(None))
        ]
    for row in settled:
        say(_line(row))
    if not settled:
        say("the ledger and Dagster's runs agree")


def _line(row: Row) -> str:
    return f"item {row['id']}: {row['week_ending']} {row['tier']} is {row['state']}"


def _store(ctx: typer.Context) -> Store:
    from market_spine.cli.state import open_store, settings_of

    return open_store(settings_of(ctx.obj))
