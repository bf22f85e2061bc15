"""`spine anomalies`: what is wrong now, what became of it, and closing it by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.options import LimitOption, TierOption, WeekOption, shown_tiers, week_of
from market_spine.cli.output import (
    Format,
    FormatOption,
    Listing,
    cell,
    code,
    escaped,
    hanging,
    limited,
    note,
    say,
    show,
    step,
)
from market_spine.domain.contracts import Severity
from market_spine.domain.errors import QueryError

if TYPE_CHECKING:
    from market_spine.store.store import Store

app = typer.Typer(name="anomalies", no_args_is_help=True, help="What is wrong: list it, show its history, resolve it.")
SHOWN = 5  # samples on the screen; all 20 for programs
SEE = "see them with: spine anomalies list --all"
EXTRA = frozenset({"category", "table_name", "affected_records", "times_seen", "detected_at", "last_seen_at"})
STATE = frozenset({"state", "resolved_at"})  # not shown where all are open
NUMBER = Annotated[int, typer.Argument(metavar="ID", help="The anomaly's number, from spine anomalies list.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    week: WeekOption = None,
    tier: TierOption = None,
    severity: Annotated[Severity, typer.Option("--severity", help="This one and graver ones.")] = Severity.WARN,
    linked: Annotated[bool, typer.Option("--linked", help="Also what only follows from another anomaly.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List what is wrong now, the gravest first: one line per root cause, with the number of what follows from it.

    INFO asks for nothing, and is shown with --severity INFO.

    Example: spine anomalies list --week-ending 2025-11-14
    """
    from market_spine.cli.state import open_store, settings_of
    from market_spine.store import listings

    with open_store(settings_of(ctx.obj)).control.read() as connection:
        found = listings.anomalies(connection, week_of(week), shown_tiers(tier), severity, every, linked)
    columns, rows = listings.ANOMALY_COLUMNS, [[*row.values()] for row in found]
    wrapped, spare, stacked = frozenset({"message"}), frozenset({"follows", "resolved_at"}), ("code", "message")
    extra = EXTRA if every else EXTRA | STATE
    listing = Listing(columns, rows, "", wrapped, extra, "nothing is wrong", spare=spare, stacked=stacked)
    limited(replace(listing, upright=False), form, limit)


@app.command("show")
def show_(ctx: typer.Context, number: NUMBER, form: FormatOption = Format.TABLE) -> None:
    """Show one anomaly: the finding, sample records, what it follows from, and everything that happened to it.

    Example: spine anomalies show 2
    """
    from market_spine.cli.state import open_store, settings_of
    from market_spine.store import anomalies

    store = open_store(settings_of(ctx.obj))
    with store.control.read() as connection:
        row = anomalies.by_id(connection, number)
        happened = anomalies.history(connection, number)
    if row is None:
        raise QueryError(f"there is no anomaly {number}", SEE)
    if form is not Format.TABLE:
        log = json.dumps(happened, default=str)
        show(Listing([*row, "history_json"], [[*row.values(), log]]), form)
        return
    for name, value in _facts(row):
        hanging(f"{name:<17}", cell(value))
    if samples := json.loads(row["sample_records"]):
        say("")
        columns = list(samples[0])
        rows = [[sample.get(name) for name in columns] for sample in samples[:SHOWN]]
        show(Listing(columns, rows, "Sample records", wrapped=frozenset({"raw_text", "detail"})))
        if len(samples) > SHOWN:
            note(f"first {SHOWN} of {len(samples)} samples (--format json)")
    say("")
    told = ["changed_at", "change", "severity", "actor", "note"]
    rows = [[one[name] for name in told] for one in happened]
    wrapped, spare, stacked = frozenset({"note"}), frozenset({"severity"}), ("actor", "note")
    show(Listing(told, rows, "History", wrapped, spare=spare, stacked=stacked, upright=False))
    if row["resolved_at"] is None:
        say("")
        for command in _steps(store, row):
            code(f"next: {step(command)}")


def _steps(store: Store, row: Mapping[str, Any]) -> list[str]:
    """What to do about an open anomaly."""
    from market_spine.automation.request import feed_of
    from market_spine.cli.state import feeds
    from market_spine.governance.remedies import steps
    from market_spine.store.presence import current

    feed = feed_of(feeds(), row["domain"])
    raw = feed.sql_name("raw")
    with store.control.read() as connection:
        there = current(connection, [raw])[raw]
    return steps(row, feed, there)


def _facts(row: dict[str, Any]) -> list[tuple[str, Any]]:
    names = ["id", "code", "severity", "category", "message", "domain", "table_name", "week_ending", "tier", "stage"]
    names += ["affected_records", "times_seen", "detected_at", "last_seen_at", "resolved_at", "resolved_by"]
    names += ["resolution_note", "cause_id", "capture_id", "pipeline", "execution_id"]
    details = json.loads(row["details_json"])
    return [(name, row[name]) for name in names if row[name] is not None] + [
        (name, value if isinstance(value, str | int | float) else json.dumps(value))
        for name, value in details.items()
        if name not in ("samples", "check")
    ]


@app.command()
def resolve(
    ctx: typer.Context,
    number: NUMBER,
    note: Annotated[str, typer.Option("--note", help="What was found, and why it is settled.")],
    actor: Annotated[str | None, typer.Option("--actor", help="Who says so; else the user who runs this.")] = None,
) -> None:
    """Close an anomaly by hand. It opens again where the same is found once more.

    Example: spine anomalies resolve 2 --note "FINRA confirmed the quantities" --actor compliance
    """
    import getpass

    from market_spine.assets.reading import publish_again
    from market_spine.cli.state import open_store, settings_of, written_now
    from market_spine.governance import anomalies

    store = open_store(settings_of(ctx.obj))
    row = anomalies.resolve(store, written_now(), number, note, actor or getpass.getuser())
    publish_again(store)
    say(f"resolved anomaly {number}: {escaped(row['code'])} {row['week_ending']} {row['tier']}")
