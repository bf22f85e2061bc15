"""Which table or view a name means: the one place for commands and the API."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from market_spine.assets.tables import every_table, tables_of
from market_spine.assets.views import LONG_NAMES, views_of
from market_spine.domain.contracts import Feed, Table
from market_spine.domain.errors import NotFoundError, QueryError
from market_spine.feeds import load_feeds
from market_spine.store.publish import CORE_VIEWS, VERSIONS
from market_spine.store.schema import TABLES


@dataclass(frozen=True)
class Named:
    """A table of the store (``table``), or a view over tables (no ``table``), under its SQL name."""

    sql_name: str
    feed: Feed
    table: Table | None


def known() -> Mapping[str, Named]:
    """Everything that can be read, by every name it has: SQL, short, asset key, and the documents' long ones."""
    return _by_name(load_feeds())


@cache  # 4 ms, of 6 that an answer of the API took
def _by_name(feeds: Sequence[Feed]) -> Mapping[str, Named]:
    found: dict[str, Named] = {}
    for feed in feeds:
        tables = tables_of(feed)
        for sql_name, table in tables.items():
            named = Named(sql_name, feed, table)
            found[sql_name] = named
            found.setdefault(table.name, named)
            found.setdefault(f"{sql_name.removesuffix('_' + table.name)}/{table.name}", named)
        for short, patterns in LONG_NAMES.items():
            if feed.sql_name(short) in tables:
                found |= {one.format(p=feed.long_prefix): found[feed.sql_name(short)] for one in patterns}
        for extra in views_of(feed):
            if not extra.is_macro:
                named = Named(extra.name, feed, None)
                found.setdefault(extra.name, named)
                found.setdefault(extra.name.removeprefix(f"{feed.name}_"), named)
    return found


def find(name: str) -> Named:
    """The table or view called ``name``; NotFoundError with the nearest names otherwise."""
    names = known()
    wanted = name.strip().lower()
    if wanted not in names:
        _refuse_what_only_sql_reads(wanted)
        raise NotFoundError(f"there is no table {name!r}", f"{nearest(wanted, names)} with: spine catalog")
    return names[wanted]


def _refuse_what_only_sql_reads(name: str) -> None:
    if name in {*(view.name for view in CORE_VIEWS), *(table.name for table in TABLES)}:
        raise QueryError(f"{name} is a control table", f'ask it in SQL: spine sql "FROM {name}"')
    if name in {f"{table}{suffix}" for table in every_table(load_feeds()) for suffix in VERSIONS}:
        raise QueryError(f"{name} takes arguments", f'ask it in SQL: spine sql "FROM {name}(...)"')
    for feed, extra in ((one, extra) for one in load_feeds() for extra in views_of(one)):
        if name in (extra.name, extra.name.removeprefix(f"{feed.name}_")):
            remedy = f'ask it in SQL: spine sql "FROM {extra.name}(...)"  # {extra.description}'
            if extra.name.endswith("_ready"):
                table = extra.name.removesuffix("_ready")
                remedy = f"{remedy[:-1]}; by the API: /data/{table}?ready_for=trading"
            raise QueryError(f"{extra.name} takes arguments", remedy)


def nearest(wanted: str, names: Iterable[str]) -> str:
    """The first half of a remedy: what may have been meant."""
    close = difflib.get_close_matches(wanted, [*names], n=3, cutoff=0.4)
    return f"nearest: {', '.join(close)}; all of them" if close else "see them"


def captured(name: str) -> tuple[Named, Table]:
    """As `find`, for what only captured tables have: captures and revisions."""
    named = find(name)
    if named.table is None:
        raise QueryError(
            f"{named.sql_name} is a view over the latest captures: it has no captures of its own", "name a table"
        )
    return named, named.table
