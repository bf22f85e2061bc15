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
    from market_spine.assets.names import Named
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
    from market_spine.assets.names import find
    from market_spine.assets.reading import question_of
    from market_spine.cli.state import open_store, settings_of
    from market_spine.domain.captures import as_of_instant

    named, friday, moment = find(table), week_of(week), as_of_instant(as_of) if as_of else None
    weeks, tiers = [friday] if friday else None, [*map(str, tiers_of(tier))]
    question = question_of(named, moment, first_release, all_revisions, weeks, tiers)
    title = f"{named.sql_name}, {question.view}{f' {as_of}' if as_of else ''}"
    _tell(open_store(settings_of(ctx.obj)), named, question, symbol, limit, form, title)


def _tell(
    store: Store, named: Named, question: Question, symbol: str | None, limit: int | None, form: Format, title: str
) -> None:
    most = limit or (SCREEN if form is Format.TABLE else None)
    columns, rows = _rows(store, named, question, symbol, most, form)
    empty = "" if rows or form is not Format.TABLE else _why_empty(store, named, question, symbol)
    hides_version = frozenset() if question.view is not View.LATEST else VERSION
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


def _rows(
    store: Store, named: Named, question: Question, symbol: str | None, limit: int | None, form: Format
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """One row more than ``limit``, so that it can be told that there are more."""
    from market_spine.assets import reading
    from market_spine.cli.state import used

    chosen = store.select(question)
    with store.engine() as engine:
        reading.show(store, engine, named, chosen)
        names = reading.columns_of(engine, named)
        if symbol and "symbol" not in names:
            cause = f"{named.sql_name} has no symbols; its columns are {', '.join(names)}"
            raise QueryError(cause, "leave --symbol away")
        wanted: dict[str, Sequence[Any]] = {
            "symbol": [symbol] if symbol else [],
            "week_ending": [*(question.weeks or ())],
        }
        wanted["tier"] = [*(question.tiers or ())] if "tier" in names else []
        sql, values = reading.statement(engine, reading.Ask(named, wanted, limit=limit and limit + 1))
        rows = engine.execute(sql, values).fetchall()
    shown = min(len(rows), limit or len(rows))
    used(store, chosen, named.sql_name, question.view, form, shown, reading.sources_of(named).definition)
    return names, rows


def _why_empty(store: Store, named: Named, question: Question, symbol: str | None) -> str:
    """Whether there is no capture, or no row in it; for a symbol, the ones of those captures that are like it."""
    from market_spine.assets.reading import likest

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
    near = likest(store, named, found, symbol)
    captures = "1 capture" if len(found) == 1 else f"{len(found)} captures"
    return f"no rows of {symbol} in {captures}; the nearest symbols: {', '.join(near) or 'none'}"


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
    from market_spine.assets.reading import fill, may_read
    from market_spine.cli.state import collected, open_store, settings_of, used
    from market_spine.store.query import answer, lock, require_reading

    statement = sys.stdin.read() if text == "-" else text
    store = open_store(settings_of(ctx.obj))
    with store.engine() as engine:
        require_reading(engine, statement)
        if "core_" in statement:
            collected(store)
        captures = fill(store, engine)
        lock(engine, store)
        columns, rows = answer(engine, statement)
    used(store, may_read(captures, statement), "", "", form, len(rows))
    if "explain_value" in columns:
        sys.stdout.write("\n".join(str(row[-1]) for row in rows) + "\n")
        return
    texts = frozenset(name for place, name in enumerate(columns) if any(isinstance(row[place], str) for row in rows))
    limited(Listing(columns, rows, wrapped=texts, empty="no rows"), form, limit, 200)
