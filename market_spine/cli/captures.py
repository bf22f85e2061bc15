"""`spine captures`: which versions there are, what one was made from, and what changed between two."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.options import LimitOption, OneTierOption, TierOption, WeekOption, shown_tiers, week_of
from market_spine.cli.output import Format, FormatOption, Listing, cell, code, limited, say, show
from market_spine.domain.captures import View
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
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """List captures: the current ones, or every revision.

    Example: spine captures list otc_raw --tier OTC --all
    """
    from market_spine.assets.names import captured
    from market_spine.cli.state import open_store, settings_of
    from market_spine.store import listings

    name = captured(table)[0].sql_name if table else None
    with open_store(settings_of(ctx.obj)).control.read() as connection:
        found = listings.captures(connection, name, week_of(week), shown_tiers(tier), every)
    columns, rows = listings.CAPTURE_COLUMNS, [[*row.values()] for row in found]
    limited(Listing(columns, rows, extra=frozenset({"capture_id"}), empty="no captures"), form, limit)


@app.command("show")
def show_(
    ctx: typer.Context,
    capture: Annotated[str, typer.Argument(metavar="ID|TABLE", help="Capture id, its short form, or a table.")],
    week: WeekOption = None,
    tier: OneTierOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show one capture: file, landing, run, inputs and checks. With a table, a week and a tier: the current one.

    Example: spine captures show symbol_hhi --week-ending 2025-11-07 --tier OTC
    """
    from market_spine.cli.queries import DELIVERY_OF, QUALITY
    from market_spine.cli.state import control_tables, open_store, settings_of
    from market_spine.store.manifest import by_ids, inputs_of

    store = open_store(settings_of(ctx.obj))
    with control_tables(store) as engine:
        chosen = chosen_capture(store, engine, capture, week_of(week), shown_tiers(tier))
        arrived = engine.execute(DELIVERY_OF, [chosen.capture_id]).fetchone()
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
    for name, value in facts:
        code(f"{name:<15}{cell(value)}")


@app.command()
def diff(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(metavar="A|TABLE", help="The earlier capture's id, or a table.")],
    after: Annotated[
        str | None, typer.Argument(metavar="[B]", help="The later capture's id; the current one if unset.")
    ] = None,
    week: WeekOption = None,
    tier: OneTierOption = None,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare two captures by natural key: rows added, removed and changed, with the difference.

    With a table, a week and a tier: the current capture against the revision before it.

    Example: spine captures diff otc_raw --week-ending 2025-11-07 --tier OTC
    """
    from market_spine.assets.tables import every_table
    from market_spine.cli.state import control_tables, open_store, settings_of, used
    from market_spine.feeds import load_feeds
    from market_spine.store.compare import compare

    store = open_store(settings_of(ctx.obj))
    with control_tables(store) as engine:
        old, new = _pair(store, engine, before, after, week_of(week), shown_tiers(tier))
    if old.table_name != new.table_name:
        raise QueryError(
            f"{old.table_name} and {new.table_name} have no rows in common", "compare captures of one table"
        )
    table = every_table(load_feeds())[new.table_name]
    with store.engine() as engine:
        found = _compared(store, engine, table, old, new, compare)
    rows = [_typed(row) for row in found.changes]
    used(store, [old, new], new.table_name, View.ALL_REVISIONS, form, len(rows))
    if form is Format.TABLE:
        _headline(found, old, new)
    limited(Listing(found.columns, rows, empty="no differences"), form, limit, 40)


def _compared(
    store: Store, engine: DuckDBPyConnection, table: Table, old: Capture, new: Capture, compare: Any
) -> Comparison:
    store.show(engine, "capture_a", table, [old])
    store.show(engine, "capture_b", table, [new])
    found: Comparison = compare(engine, table, "capture_a", "capture_b")
    return found


def _typed(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values come as text, since a column of changes holds several types; only numbers have a delta."""
    *key, before, after, delta = row
    if delta is None:
        return row
    return (*key, *(None if one is None else Decimal(one) for one in (before, after, delta)))


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
    from market_spine.assets.names import known

    if before.lower() not in known():
        old = _resolve(store, engine, before)
        return old, _resolve(store, engine, after) if after else _current(store, engine, old)
    ids = _history(engine, before, week, tiers)
    if len(ids) < 2:
        raise QueryError(
            f"{before} of {week} has {len(ids)} revision{'' if len(ids) == 1 else 's'}: nothing to compare",
            f"see what there is with: spine captures list {before} --all",
        )
    return _resolve(store, engine, ids[-2]), _resolve(store, engine, ids[-1])


def chosen_capture(store: Store, engine: DuckDBPyConnection, text: str, week: date | None, tiers: list[str]) -> Capture:
    """The capture of that id, or the current one of a table's partition."""
    from market_spine.assets.names import known

    if text.lower() not in known():
        return _resolve(store, engine, text)
    ids = _history(engine, text, week, tiers)
    if not ids:
        raise QueryError(f"{text} of {week} has no capture", SEE)
    return _resolve(store, engine, ids[-1])


def _current(store: Store, engine: DuckDBPyConnection, old: Capture) -> Capture:
    from market_spine.cli.queries import revisions

    return _resolve(store, engine, revisions(engine, old.table_name, old.week_ending, old.tier)[-1])


def _history(engine: DuckDBPyConnection, name: str, week: date | None, tiers: list[str]) -> list[str]:
    """The capture ids of one partition of the table ``name``, the current one last."""
    from market_spine.assets.names import captured
    from market_spine.cli.queries import revisions

    named, table = captured(name)
    if week is None or (table.by_tier and len(tiers) != 1):
        raise PartitionError(f"which partition of {named.sql_name}?", "add --week-ending FRIDAY and one --tier")
    return revisions(engine, named.sql_name, week, tiers[0] if table.by_tier else "ALL")


def _resolve(store: Store, engine: DuckDBPyConnection, text: str) -> Capture:
    """The capture that ``text`` means: its id, or the beginning of its short form."""
    from market_spine.assets.names import known, nearest
    from market_spine.cli.queries import capture_ids
    from market_spine.store.manifest import by_ids

    ids = capture_ids(engine, text)
    if len(ids) > 1:
        raise QueryError(f"{len(ids)} captures begin with {text!r}", SEE)
    if not ids:
        tables = f"tables: {nearest(text.lower(), known())} with: spine catalog"
        raise QueryError(f"there is neither a capture nor a table {text!r}", f"{SEE}; {tables}")
    with store.control.read() as connection:
        return by_ids(connection, ids)[ids[0]]
