"""`spine captures`: which versions there are, what one was made from, and what changed between two."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.options import LimitOption, TierOption, WeekOption, tiers_of, week_of
from market_spine.cli.output import Format, FormatOption, Listing, cell, escaped, note, say, show
from market_spine.domain.errors import PartitionError, QueryError

if TYPE_CHECKING:
    from datetime import date

    from duckdb import DuckDBPyConnection

    from market_spine.domain.contracts import Table
    from market_spine.store.compare import Comparison
    from market_spine.store.manifest import Capture
    from market_spine.store.store import Store

app = typer.Typer(name="captures", no_args_is_help=True, help="Versions: list them, show one, compare two.")
SEE = "see the ids with: spine captures list --all"


@app.command("list")
def list_(
    ctx: typer.Context,
    table: Annotated[str | None, typer.Argument(metavar="[TABLE]", help="One table; else every one.")] = None,
    week: WeekOption = None,
    tier: TierOption = None,
    every: Annotated[bool, typer.Option("--all", help="Superseded revisions too.")] = False,
    limit: LimitOption = 50,
    form: FormatOption = Format.TABLE,
) -> None:
    """List captures: the current ones, or every revision.

    Example: spine captures list otc_raw --tier OTC --all
    """
    from market_spine.cli.queries import CAPTURES, listed
    from market_spine.cli.state import control_tables, open_store, settings_of
    from market_spine.cli.tables import captured

    name = captured(table)[0].sql_name if table else None
    tiers = [*map(str, tiers_of(tier))]
    with control_tables(open_store(settings_of(ctx.obj))) as engine:
        columns, rows = listed(
            engine, CAPTURES, table_name=name, week_ending=week_of(week), tier=tiers, is_current=None if every else 1
        )
    shown = rows if form is not Format.TABLE else rows[:limit]
    show(Listing(columns, shown, extra=frozenset({"capture_id"}), empty="no captures"), form)
    if len(shown) < len(rows):
        note(f"first {limit:,} of {len(rows):,} captures (--limit)")


@app.command("show")
def show_(
    ctx: typer.Context,
    capture: Annotated[str, typer.Argument(metavar="ID", help="Capture id, or its short form from the list.")],
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one capture: file, landing, run, inputs and checks.

    Example: spine captures show $(spine captures list otc_raw -n 1 -f csv | sed -n 2p | cut -d, -f1)
    """
    from market_spine.cli.queries import DELIVERY_OF, QUALITY, first
    from market_spine.cli.state import control_tables, open_store, settings_of
    from market_spine.store.manifest import by_ids, inputs_of

    store = open_store(settings_of(ctx.obj))
    with control_tables(store) as engine:
        chosen = _resolve(store, engine, capture)
        arrived = first(engine.execute(DELIVERY_OF, [chosen.capture_id]).fetchall())
        cursor = engine.execute(QUALITY, [chosen.capture_id])
        checks = Listing([one[0] for one in cursor.description or ()], cursor.fetchall(), "Checks", empty="none")
    with store.control.read() as connection:
        ids = inputs_of(connection, [chosen.capture_id])[chosen.capture_id]
        made_from = by_ids(connection, ids)
    facts = _facts(store, chosen, arrived)
    if form is not Format.TABLE:
        listing = Listing([name for name, _ in facts], [[value for _, value in facts]])
        show(listing, form)
        return
    _say_facts(facts)
    rows = [[one.table_name, one.week_ending, one.tier, one.revision, one.captured_at] for one in made_from.values()]
    columns = ["table", "week_ending", "tier", "revision", "captured_at"]
    say("")
    show(Listing(columns, sorted(rows), "Made from", empty="landed bytes only"))
    say("")
    show(checks)


def _facts(store: Store, one: Capture, arrived: tuple[Any, ...] | None) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = [
        ("capture_id", one.capture_id),
        ("table", one.table_name),
        ("week_ending", one.week_ending),
        ("tier", one.tier),
        ("revision", one.revision),
        ("is_current", one.is_current),
        ("rows", one.row_count),
        ("captured_at", one.captured_at),
        ("computed_at", one.computed_at),
        ("calc_version", one.calc_version),
        ("policy", one.policy),
        ("content_hash", one.content_hash),
        ("file", str(store.home.captures / one.file_path)),
        ("file_bytes", one.file_bytes),
        ("file_sha256", one.file_sha256),
        ("execution_id", one.execution_id),
        ("batch_id", one.batch_id),
        ("correlation_id", one.correlation_id),
        ("landing_id", one.landing_id),
    ]
    if arrived:
        names = ("source_name", "week_source", "fetched_at", "line_count", "headers")
        facts += zip(names, arrived, strict=False)
    return facts


def _say_facts(facts: list[tuple[str, Any]]) -> None:
    from market_spine.cli.output import out

    console = out()
    for name, value in facts:
        console.print(f"[bold]{name:<15}[/]{escaped(cell(value))}", soft_wrap=True)


@app.command()
def diff(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(metavar="A|TABLE", help="The earlier capture's id, or a table.")],
    after: Annotated[
        str | None, typer.Argument(metavar="[B]", help="The later capture's id; the current one if unset.")
    ] = None,
    week: WeekOption = None,
    tier: TierOption = None,
    limit: LimitOption = 40,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare two captures by natural key: rows added, removed and changed, with the difference.

    With a table, a week and a tier: the current capture against the revision before it.

    Example: spine captures diff otc_raw --week-ending 2025-11-07 --tier OTC
    """
    from market_spine.cli.state import control_tables, open_store, settings_of
    from market_spine.cli.tables import all_tables
    from market_spine.store.compare import compare

    store = open_store(settings_of(ctx.obj))
    with control_tables(store) as engine:
        old, new = _pair(store, engine, before, after, week_of(week), [*map(str, tiers_of(tier))])
    if old.table_name != new.table_name:
        raise QueryError(
            f"{old.table_name} and {new.table_name} have no rows in common", "compare captures of one table"
        )
    table = all_tables()[new.table_name]
    with store.engine() as engine:
        found = _compared(store, engine, table, old, new, compare)
    rows = [tuple(map(_number, row)) for row in found.changes]
    if form is Format.TABLE:
        _headline(found, old, new)
    shown = rows if form is not Format.TABLE else rows[:limit]
    show(Listing(found.columns, shown, empty="no differences"), form)
    if len(shown) < len(rows):
        note(f"first {limit:,} of {len(rows):,} changed values (--limit)")


def _compared(
    store: Store, engine: DuckDBPyConnection, table: Table, old: Capture, new: Capture, compare: Any
) -> Comparison:
    store.show(engine, "capture_a", table, [old])
    store.show(engine, "capture_b", table, [new])
    found: Comparison = compare(engine, table, "capture_a", "capture_b")
    return found


def _number(value: Any) -> Any:
    """Values come as text, since a column of changes holds several types."""
    try:
        return Decimal(value) if isinstance(value, str) and value[:1] in "-0123456789" else value
    except InvalidOperation:
        return value


def _headline(found: Comparison, old: Capture, new: Capture) -> None:
    place = f"{new.table_name} {new.week_ending} {new.tier}" if old.key == new.key else new.table_name
    say(f"[bold]{place}[/]")
    for word, one in (("before", old), ("after", new)):
        other = "" if old.key == new.key else f", {one.week_ending} {one.tier}"
        say(f"  {word:<7} revision {one.revision}, captured {cell(one.captured_at)}, {one.row_count:,} rows{other}")
    say("  " + ", ".join(f"{count:,} {word}" for word, count in found.counts.items()))
    say("")
    totals = [[name, a, b, _delta(a, b)] for name, (a, b) in found.totals.items()]
    show(Listing(["total of", "before", "after", "delta"], totals))
    say("")


def _delta(before: Any, after: Any) -> Any:
    return None if before is None or after is None else after - before


def _pair(
    store: Store, engine: DuckDBPyConnection, before: str, after: str | None, week: date | None, tiers: list[str]
) -> tuple[Capture, Capture]:
    """The two captures that the arguments name, the earlier one first."""
    from market_spine.cli.queries import revisions
    from market_spine.cli.tables import captured, known

    if before.lower() not in known():
        old = _resolve(store, engine, before)
        if after:
            return old, _resolve(store, engine, after)
        current = [
            one for one, _, is_current in revisions(engine, old.table_name, old.week_ending, old.tier) if is_current
        ]
        return old, _resolve(store, engine, current[0])
    named, table = captured(before)
    if week is None or (table.by_tier and len(tiers) != 1):
        raise PartitionError(f"which partition of {named.sql_name}?", "add --week-ending FRIDAY and one --tier")
    tier = tiers[0] if table.by_tier else "ALL"
    ids = [one for one, _, _ in revisions(engine, named.sql_name, week, tier)]
    if len(ids) < 2:
        raise QueryError(
            f"{named.sql_name} {tier}:{week} has {len(ids)} revision{'' if len(ids) == 1 else 's'}: nothing to compare",
            f"see what there is with: spine captures list {named.sql_name} --all",
        )
    return _resolve(store, engine, ids[-2]), _resolve(store, engine, ids[-1])


def _resolve(store: Store, engine: DuckDBPyConnection, text: str) -> Capture:
    """The capture that ``text`` means: its id, or the beginning of its short form."""
    from market_spine.cli.queries import capture_ids
    from market_spine.store.manifest import by_ids

    ids = capture_ids(engine, text)
    if len(ids) != 1:
        cause = f"{len(ids)} captures begin with {text!r}" if ids else f"there is no capture {text!r}"
        raise QueryError(cause, SEE)
    with store.control.read() as connection:
        return by_ids(connection, ids)[ids[0]]
