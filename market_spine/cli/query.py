"""`spine query` and `spine sql`: read tables, in any of their versions."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.options import LimitOption, TierOption, WeekOption, tiers_of, week_of
from market_spine.cli.output import Format, FormatOption, Listing, cell, limited, note, show
from market_spine.domain.captures import View
from market_spine.domain.errors import QueryError

if TYPE_CHECKING:
    from datetime import date

    from duckdb import DuckDBPyConnection

    from market_spine.cli.tables import Named
    from market_spine.store.manifest import Question
    from market_spine.store.store import Store

# Shown to programs only: the screen has the capture's moment and revision.
PROVENANCE = frozenset({"capture_id", "computed_at", "calc_version", "execution_id", "batch_id"})
SCREEN = 20  # rows on the screen where no limit is given
VERSION = frozenset({"captured_at", "revision"})


def query(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(metavar="TABLE", help="Table or view, e.g. otc_venue_share or venue_share.")],
    week: WeekOption = None,
    tier: TierOption = None,
    symbol: Annotated[str | None, typer.Option("--symbol", "-s", metavar="SYMBOL", help="One symbol.")] = None,
    limit: LimitOption = None,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="MOMENT", help="As known then: 2025-12-15 (its end, UTC) or 2025-12-15T15:00:00Z."
        ),
    ] = None,
    first_release: Annotated[bool, typer.Option("--first-release", help="As first captured.")] = False,
    all_revisions: Annotated[bool, typer.Option("--all-revisions", help="Every capture ever made.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show rows of a table, the newest week first: the latest captures, or an earlier version.

    Example: spine query venue_share --week-ending 2025-11-14 --tier OTC

    Example: spine query symbol_summary --as-of 2025-12-16 --limit 5 --format csv
    """
    from market_spine.cli.state import open_store, settings_of
    from market_spine.cli.tables import find

    question = _question(find(table), week_of(week), [*map(str, tiers_of(tier))], as_of, first_release, all_revisions)
    store = open_store(settings_of(ctx.obj))
    most = limit or (SCREEN if form is Format.TABLE else None)
    columns, rows = _rows(store, find(table), question, symbol, most)
    empty = "" if rows or form is not Format.TABLE else _why_empty(store, find(table), question, symbol)
    hides_version = frozenset() if question.view is not View.LATEST else VERSION
    title = f"{find(table).sql_name}, {question.view}{f' {as_of}' if as_of else ''}"
    extra = PROVENANCE | hides_version
    if form is Format.TABLE and not hides_version:
        columns, rows = _version_first(columns, rows)
    show(Listing(columns, rows[:most], title, extra=extra, empty=empty), form)
    if most and len(rows) > most:
        note(f"the first {most:,} rows; more with --limit")


def _version_first(columns: list[str], rows: list[tuple[Any, ...]]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """What tells versions of a row apart, before what does not fit the screen."""
    order = sorted(range(len(columns)), key=lambda place: columns[place] not in VERSION)
    return [columns[place] for place in order], [tuple(row[place] for place in order) for row in rows]


def _question(
    named: Named, week: date | None, tiers: list[str], as_of: str | None, first_release: bool, all_revisions: bool
) -> Question:
    from market_spine.domain.captures import as_of_instant
    from market_spine.store.manifest import Question

    if sum((bool(as_of), first_release, all_revisions)) > 1:
        raise QueryError("several versions are asked for", "use one of --as-of, --first-release, --all-revisions")
    moment = as_of_instant(as_of) if as_of else None
    view = View.LATEST
    if moment:
        view = View.AS_OF
    elif first_release or all_revisions:
        view = View.FIRST_RELEASE if first_release else View.ALL_REVISIONS
    if named.table is None and view is not View.LATEST:
        raise QueryError(f"{named.sql_name} is a view over the latest captures", "ask a table for its earlier versions")
    return Question((named.sql_name,), view, moment, weeks=[week] if week else None, tiers=tiers or None)


def _rows(
    store: Store, named: Named, question: Question, symbol: str | None, limit: int | None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """One row more than ``limit``, so that it can be told that there are more."""
    with store.engine() as engine:
        if named.table:
            store.show_all(engine, {named.sql_name: named.table}, question)
        else:
            fill(store, engine)
        names = [row[0] for row in engine.execute(f"DESCRIBE {named.sql_name}").fetchall()]
        where, values = _bounds(named.sql_name, names, question, symbol)
        order = [*named.table.grain, "revision"] if named.table else names
        by = ", ".join(f"{name} DESC" if name == "week_ending" else name for name in order)
        only = f" LIMIT {limit + 1}" if limit else ""
        cursor = engine.execute(f"SELECT * FROM {named.sql_name} WHERE {where} ORDER BY {by}{only}", values)
        return names, cursor.fetchall()


def _bounds(name: str, columns: Sequence[str], question: Question, symbol: str | None) -> tuple[str, list[object]]:
    from market_spine.cli.queries import filters

    if symbol and "symbol" not in columns:
        raise QueryError(f"{name} has no symbols; its columns are {', '.join(columns)}", "leave --symbol away")
    tiers = list(question.tiers or ()) if "tier" in columns else []
    return filters(symbol=symbol, week_ending=list(question.weeks or ()), tier=tiers)


def _why_empty(store: Store, named: Named, question: Question, symbol: str | None) -> str:
    """Whether there is no capture, or no row in it; for a symbol, the ones of those captures that are like it."""
    if named.table is None:
        return "no rows"
    found = store.select(question)
    if not found:
        ever = store.select(replace(question, view=View.ALL_REVISIONS, as_of=None)) if question.as_of else []
        if ever:
            return (
                f"nothing of this was known then; it was first captured at {cell(min(one.captured_at for one in ever))}"
            )
        return "no captures answer this; see what there is with: spine captures list --all"
    if not symbol:
        return "no rows"
    with store.engine() as engine:
        store.show(engine, named.sql_name, named.table, found)
        likest = "ORDER BY jaro_winkler_similarity(symbol, ?) DESC, symbol LIMIT 3"
        near = engine.execute(
            f"FROM (SELECT DISTINCT symbol FROM {named.sql_name} WHERE symbol <> '') {likest}", [symbol.upper()]
        ).fetchall()
    captures = "1 capture" if len(found) == 1 else f"{len(found)} captures"
    return f"no rows of {symbol} in {captures}; the nearest symbols: {', '.join(row[0] for row in near) or 'none'}"


def fill(store: Store, engine: DuckDBPyConnection) -> None:
    """Every relation of the published file, and the control tables, into ``engine``."""
    from market_spine.assets.views import views_of
    from market_spine.cli.state import feeds
    from market_spine.cli.tables import all_tables
    from market_spine.store.publish import fill as fill_engine

    fill_engine(store, engine, all_tables(), [extra for feed in feeds() for extra in views_of(feed)])


def sql(
    ctx: typer.Context,
    text: Annotated[str, typer.Argument(metavar="SQL", help="One statement that reads; - reads it from stdin.")],
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Ask in SQL (DuckDB), over the latest captures, every version and the control tables.

    Per table: NAME, NAME_asof('2025-12-16'), NAME_first_release(), NAME_revisions(); beside them core_manifest & co.
    Nothing can be changed, and no other file can be read.

    Example: spine sql "SELECT tier, count(*) AS rows FROM otc_raw GROUP BY ALL"

    Example: spine sql "SHOW TABLES"
    """
    from market_spine.cli.state import open_store, settings_of
    from market_spine.store.query import answer, lock, require_reading

    statement = sys.stdin.read() if text == "-" else text
    store = open_store(settings_of(ctx.obj))
    with store.engine() as engine:
        require_reading(engine, statement)
        fill(store, engine)
        lock(engine, store)
        columns, rows = answer(engine, statement)
    if "explain_value" in columns:
        sys.stdout.write("\n".join(str(row[-1]) for row in rows) + "\n")
        return
    texts = frozenset(name for place, name in enumerate(columns) if any(isinstance(row[place], str) for row in rows))
    limited(Listing(columns, rows, wrapped=texts, empty="no rows"), form, limit, 200)
