"""The commands of ``spine`` and their groups: one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from market_spine.cli import (
    anomalies,
    backup,
    calendar,
    captures,
    care,
    catalog,
    certificates,
    demo,
    doctor,
    executions,
    impact,
    metrics,
    notify,
    query,
    readiness,
    recompute,
    records,
    restatement,
    run,
    serve,
    tokens,
    work_items,
)
from market_spine.cli.door import Door
from market_spine.cli.output import HOME
from market_spine.cli.state import State

app = typer.Typer(
    name="spine",
    cls=Door,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 not satisfied, 2 wrong usage or a failure. Global options may stand anywhere.",
)


def _version(wanted: bool) -> None:
    if wanted:
        from market_spine import __version__
        from market_spine.cli.output import say

        say(f"market-spine {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    home: Annotated[Path | None, typer.Option("--home", help="The store; else MARKET_SPINE_HOME.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Dagster's full log on the terminal.")] = False,
    traceback: Annotated[
        bool, typer.Option("--traceback", envvar="MARKET_SPINE_TRACEBACK", help="Failures with their traceback.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """FINRA weekly OTC/ATS data as captured, checked, replayable tables.

    Start with: spine demo
    """
    ctx.obj = State(home, verbose, traceback)
    HOME.set(str(home) if home else "")


LOAD, READ, TRUST, SERVE, KEEP = "Load", "Read", "Trust", "Serve", "Look after"

app.command(rich_help_panel="Begin")(demo.demo)
app.command(rich_help_panel="Begin")(care.init)
app.add_typer(care.database, rich_help_panel="Begin")
app.command(rich_help_panel=LOAD)(run.run)
app.command(rich_help_panel=LOAD)(run.backfill)
app.command(rich_help_panel=LOAD)(recompute.recompute)
app.add_typer(work_items.app, rich_help_panel=LOAD)
app.command(rich_help_panel=READ)(query.query)
app.command(rich_help_panel=READ)(query.sql)
app.command(rich_help_panel=READ)(catalog.catalog)
app.command(rich_help_panel=READ)(impact.impact)
captures.app.command()(restatement.impact)
app.add_typer(captures.app, rich_help_panel=READ)
app.command(rich_help_panel=TRUST)(readiness.readiness)
app.command(rich_help_panel=TRUST)(doctor.doctor)
app.add_typer(anomalies.app, rich_help_panel=TRUST)
app.add_typer(certificates.app, rich_help_panel=TRUST)
app.add_typer(calendar.app, rich_help_panel=TRUST)
app.command(rich_help_panel=READ)(records.rejects)
app.command(rich_help_panel=READ)(records.deliveries)
app.command(rich_help_panel=SERVE)(serve.serve)
app.add_typer(tokens.app, rich_help_panel=SERVE)
app.add_typer(executions.app, rich_help_panel=KEEP)
app.add_typer(metrics.app, rich_help_panel=KEEP)
app.add_typer(notify.app, rich_help_panel=KEEP)
app.command(rich_help_panel=KEEP)(care.publish)
app.command(rich_help_panel=KEEP)(care.verify)
app.command(rich_help_panel=KEEP)(care.rebuild)
app.command(rich_help_panel=KEEP)(care.gc)
app.command(rich_help_panel=KEEP)(backup.backup)
app.command(rich_help_panel=KEEP)(backup.restore)
