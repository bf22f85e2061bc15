"""`spine executions`: Dagster's runs that are over, as kept beside what they captured."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.options import LimitOption
from market_spine.cli.output import Format, FormatOption, Listing, cell, hanging, limited, many, say, show
from market_spine.domain.errors import QueryError
from market_spine.domain.operations import Ended, Lane, Trigger

if TYPE_CHECKING:
    from market_spine.store.executions import Row

app = typer.Typer(name="executions", no_args_is_help=True, help="Dagster's runs that are over: export, list, show.")
SHOWN = ("ended_at", "execution_id", "pipeline", "logical_key", "status", "trigger_source", "seconds")
SHORT = 8  # of an id, on the screen: what Dagster's pages show


@app.command()
def export(ctx: typer.Context) -> None:
    """Put Dagster's runs that are over on record, as the execution sensor does every minute.

    Example: spine executions export
    """
    from market_spine.automation.export import export as keep
    from market_spine.cli.state import feeds, open_instance, open_store, settings_of, written_now

    store = open_store(settings_of(ctx.obj))
    with open_instance(store) as instance:
        kept = keep(store, feeds(), instance, written_now())
    say(f"{many(kept, 'run')} put on record" if kept else "every run that is over is on record")


@app.command("list")
def list_(
    ctx: typer.Context,
    status: Annotated[Ended | None, typer.Option("--status", help="How it ended.")] = None,
    trigger: Annotated[Trigger | None, typer.Option("--trigger", help="What started it.")] = None,
    lane: Annotated[Lane | None, typer.Option("--lane", help="What it waited behind.")] = None,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List runs that are over, the newest first.

    Example: spine executions list --status FAILURE
    """
    from market_spine.cli.state import open_store, settings_of
    from market_spine.store import executions

    store = open_store(settings_of(ctx.obj))
    with store.control.read() as connection:
        rows = executions.listed(connection, status=status, trigger_source=trigger, lane=lane)
    if form is Format.TABLE:
        short = [_seconds(row) | _short(row) for row in rows]
        wrapped, spare = frozenset({"pipeline", "logical_key"}), frozenset({"trigger_source", "seconds"})
        listing = Listing(SHOWN, [[row[name] for name in SHOWN] for row in short], "", wrapped, spare=spare)
    else:
        listing = Listing(list(rows[0]) if rows else SHOWN, [list(row.values()) for row in rows])
    limited(listing, form, limit)


def _seconds(row: Row) -> Row:
    """``row`` with how long the run took; None where it never started."""
    begun = row["started_at"]
    return row | {"seconds": Decimal(f"{(row['ended_at'] - begun).total_seconds():.1f}") if begun else None}


def _short(row: Row) -> Row:
    """The beginning of the id, and a range that breaks between its ends."""
    return {"execution_id": row["execution_id"][:SHORT], "logical_key": row["logical_key"].replace("...", " ... ")}


@app.command("show")
def show_(
    ctx: typer.Context,
    execution_id: Annotated[
        str, typer.Argument(metavar="[ID]", help="Its id, or its beginning; else the newest.")
    ] = "",
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one run: who started it, how it was configured, how it ended.

    Example: spine executions show
    """
    from market_spine.cli.state import open_store, settings_of
    from market_spine.store import executions

    store = open_store(settings_of(ctx.obj))
    with store.control.read() as connection:
        newest = executions.listed(connection)[:1]
        found = executions.begins_with(connection, execution_id) if execution_id else newest
    if len(found) != 1:
        cause = f"{len(found) or 'no'} runs on record" + (f" begin with {execution_id!r}" if execution_id else "")
        raise QueryError(cause, "see them with: spine executions list  # after: spine executions export")
    (row,) = found
    if form is not Format.TABLE:
        show(Listing(list(row), [list(row.values())]), form)
        return
    params = json.loads(row["params_json"])
    facts: dict[str, Any] = {name: value for name, value in _seconds(row).items() if name != "params_json"}
    facts |= {name: _told(value) for name, value in params.items()}
    for name, value in facts.items():
        if value not in (None, ""):
            hanging(f"{name:<20}", cell(value))


def _told(value: Any) -> str:
    """A parameter in words; configurations that many assets share once."""
    if not isinstance(value, dict):
        return ", ".join(value)
    return "; ".join(f"{name}: {one if isinstance(one, str) else json.dumps(one)}" for name, one in value.items())
