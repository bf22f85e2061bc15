"""Reading a table or view in one of its versions: which captures answer, and their rows in order.

What belongs here: the one way from a name to rows, for commands and the API. What does not: names (`names`), how rows
look (`cli`, `api`), and writing down who read them (`governance.consumption`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_spine.assets.names import Named
from market_spine.assets.reads import Reads, reads_of, reads_of_extra
from market_spine.assets.tables import every_table
from market_spine.assets.views import views_of
from market_spine.domain.captures import View
from market_spine.domain.contracts import Feed, Table
from market_spine.domain.errors import QueryError
from market_spine.domain.keys import WeekKey
from market_spine.domain.sqltext import identifier
from market_spine.feeds import load_feeds
from market_spine.store.manifest import Capture, Question
from market_spine.store.publish import Extra, copy_control_tables, publish
from market_spine.store.publish import fill as fill_engine
from market_spine.store.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Sources:
    """What a table or view is read from: captured tables by SQL name, the views on the way, and the control tables."""

    tables: Mapping[str, Table]
    views: tuple[Extra, ...]
    reads_control: bool

    @property
    def definition(self) -> str:
        """Stands for the SQL of the views, if there are any: another SQL over the same captures is another answer."""
        text = "\n".join(extra.sql for extra in self.views)
        return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


@cache
def sources_of(named: Named) -> Sources:
    """The sources of ``named``; of a table, itself."""
    if named.table is not None:
        return Sources({named.sql_name: named.table}, (), False)
    earlier = [extra for extra in views_of(named.feed) if not (extra.is_macro or extra.is_alias)]
    (place,) = (number for number, extra in enumerate(earlier) if extra.name == named.sql_name)
    reads = reads_of_extra(earlier[place])
    # Views are made in the order in which they stand; those that read something else as well are not among these.
    on_the_way = [one for one in earlier[:place] if _is_within(reads_of_extra(one), reads)]
    # What is known about deliveries rests on what was delivered, though no row of it is read.
    rests_on = reads.tables or {named.feed.sql_name("raw"): View.LATEST}
    tables = {name: table for name, table in every_table(load_feeds()).items() if name in rests_on}
    return Sources(tables, (*on_the_way, earlier[place]), bool(reads.control))


def _is_within(one: Reads, other: Reads) -> bool:
    return one.tables.keys() <= other.tables.keys() and one.control <= other.control


def question_of(
    named: Named,
    as_of: datetime | None = None,
    first_release: bool = False,
    all_revisions: bool = False,
    weeks: Collection[date] | None = None,
    tiers: Collection[str] | None = None,
) -> Question:
    """Which captures answer about ``named``. QueryError where several versions are asked for, or one that is not."""
    if sum((as_of is not None, first_release, all_revisions)) > 1:
        raise QueryError("several versions are asked for", "use one of --as-of, --first-release, --all-revisions")
    view = View.LATEST
    if as_of is not None:
        view = View.AS_OF
    elif first_release or all_revisions:
        view = View.FIRST_RELEASE if first_release else View.ALL_REVISIONS
    sources = sources_of(named)
    # What findings and verdicts say is of now; and a view over every revision would join rows of different ones.
    if named.table is None and (view is View.ALL_REVISIONS or (sources.reads_control and view is not View.LATEST)):
        raise QueryError(f"{named.sql_name} is a view over the latest captures", "ask a table for its earlier versions")
    return Question(tuple(sources.tables), view, as_of, weeks, tiers or None)


def show(store: Store, engine: DuckDBPyConnection, named: Named, chosen: Collection[Capture]) -> None:
    """Make ``named`` readable in ``engine`` under its SQL name, from the captures ``chosen`` alone."""
    sources = sources_of(named)
    by_table: dict[str, list[Capture]] = {name: [] for name in sources.tables}
    for capture in chosen:
        by_table[capture.table_name].append(capture)
    for name, held in by_table.items():
        store.show(engine, name, sources.tables[name], held)
    if sources.reads_control:
        with store.control.read() as connection:
            copy_control_tables(connection, engine)
    for extra in sources.views:
        engine.execute(extra.sql)


def fill(store: Store, engine: DuckDBPyConnection) -> list[Capture]:
    """Every relation of the published file, and the control tables, into ``engine``; the captures that are in them."""
    return fill_engine(store, engine, *_relations(load_feeds()))


def publish_all(store: Store, *more: Feed) -> Path:
    """Build the published file, one for all feeds and ``more``, and swap it in; its path."""
    return publish(store, *_relations(dict.fromkeys((*load_feeds(), *more))))


def publish_again(store: Store) -> None:
    """As `publish_all` where there is a published file: what was recorded just now is in it."""
    if store.home.published.exists():
        publish_all(store)


def _relations(feeds: Iterable[Feed]) -> tuple[dict[str, Table], list[Extra]]:
    every = list(feeds)
    return every_table(every), [extra for feed in every for extra in views_of(feed)]


@dataclass(frozen=True, slots=True)
class Ask:
    """Rows of one table or view: the values that its columns must have, which of its columns, from where, how many."""

    named: Named
    filters: Mapping[str, Sequence[Any]]
    columns: tuple[str, ...] = ()
    offset: int = 0
    limit: int | None = None


def columns_of(engine: DuckDBPyConnection, named: Named) -> list[str]:
    """The names of the columns of what `show` made readable."""
    return [row[0] for row in engine.execute(f"DESCRIBE {identifier(named.sql_name)}").fetchall()]


def statement(engine: DuckDBPyConnection, ask: Ask) -> tuple[str, list[Any]]:
    """SQL and its values for rows of what `show` made readable, the newest week first: in one order, whoever asks.

    QueryError for columns that are not there.
    """
    there = columns_of(engine, ask.named)
    where, values = ["true"], list[Any]()
    for column, wanted in ask.filters.items():
        if not wanted:
            continue
        _require(ask.named, there, column)
        where.append(f"{identifier(column)} IN ({', '.join('?' * len(wanted))})")
        values += wanted
    for column in ask.columns:
        _require(ask.named, there, column)
    order = [*ask.named.table.grain, "revision"] if ask.named.table else there
    by = ", ".join(f"{identifier(name)} DESC" if name == "week_ending" else identifier(name) for name in order)
    only = f" LIMIT {int(ask.limit)}" if ask.limit is not None else ""
    read = ", ".join(map(identifier, ask.columns)) or "*"
    sql = f"SELECT {read} FROM {identifier(ask.named.sql_name)} WHERE {' AND '.join(where)} ORDER BY {by}"
    return f"{sql}{only} OFFSET {int(ask.offset)}", values


def _require(named: Named, there: Collection[str], column: str) -> None:
    if column not in there:
        raise QueryError(
            f"{named.sql_name} has no column {column!r}; it has {', '.join(there)}", f"leave {column} away"
        )


def may_read(captures: Sequence[Capture], sql: str) -> list[Capture]:
    """Those of ``captures``, all that `fill` showed, which the rows of a statement may come from: rather too many than
    too few. Of a moment (``_asof``), and where it reads files itself, every revision.
    """
    reads = reads_of(sql)
    if reads is None:
        return [*captures]
    first: dict[tuple[str, WeekKey], int] = {}
    for one in captures:
        place = (one.table_name, one.key)
        first[place] = min(one.revision, first.get(place, one.revision))

    def is_read(one: Capture) -> bool:
        view = reads.tables.get(one.table_name)
        if view is View.LATEST:
            return one.is_current
        return view is not None and (view is not View.FIRST_RELEASE or one.revision == first[one.table_name, one.key])

    return [one for one in captures if is_read(one)]


def likest(store: Store, named: Named, chosen: Collection[Capture], symbol: str) -> list[str]:
    """The three symbols of ``chosen`` whose names are most like ``symbol``."""
    if named.table is None or "symbol" not in (column.name for column in named.table.columns):
        return []
    likest_first = "ORDER BY jaro_winkler_similarity(symbol, ?) DESC, symbol LIMIT 3"
    with store.engine() as engine:
        show(store, engine, named, chosen)
        sql = f"FROM (SELECT DISTINCT symbol FROM {identifier(named.sql_name)} WHERE symbol <> '') {likest_first}"
        return [row[0] for row in engine.execute(sql, [symbol.upper()]).fetchall()]
