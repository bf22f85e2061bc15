"""Which tables SQL reads, and in which versions: DuckDB's own plan of it over empty tables says so.

The plan goes through views, macros, common table expressions and computed names, none of which the words of a statement
tell. What belongs here: from SQL to names of tables. What does not: which captures of them (`reading`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from market_spine.assets.tables import every_table
from market_spine.assets.views import views_of
from market_spine.domain.captures import View
from market_spine.domain.contracts import Feed
from market_spine.domain.sqltext import identifier
from market_spine.feeds import load_feeds
from market_spine.store.publish import CORE_VIEWS, VERSIONS, Extra, put_control_table
from market_spine.store.query import empty, scanned
from market_spine.store.relations import scan_with_provenance
from market_spine.store.schema import TABLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


@dataclass(frozen=True, slots=True)
class Reads:
    """Captured tables by SQL name -> the versions of them that are read, and names of control tables."""

    tables: Mapping[str, View]
    control: frozenset[str]


@cache
def _shapes(feeds: Sequence[Feed]) -> DuckDBPyConnection:
    """An engine with every relation of the published file, all empty; 0.1 s. A table stands for each of its versions:
    ``otc_raw`` for the latest one, ``otc_raw_asof of`` for what its macro reads."""
    engine = empty()
    for control in TABLES:
        put_control_table(engine, control, [])
    for name, table in every_table(feeds).items():
        engine.execute(f"CREATE TABLE {identifier(name)} AS {scan_with_provenance([], table, Path(), 'core_manifest')}")
        for suffix, version in VERSIONS.items():
            macro = f"{name}{suffix}"
            stand_in = identifier(f"{macro} of")
            engine.execute(f"CREATE TABLE {stand_in} AS FROM {identifier(name)}")
            engine.execute(f"CREATE MACRO {macro}{version.signature} AS TABLE FROM {stand_in}")
    for extra in (*CORE_VIEWS, *(one for feed in feeds for one in views_of(feed))):
        engine.execute(extra.sql)
    return engine


def reads_of(statement: str) -> Reads | None:
    """What ``statement``, one that reads, reads. None where no plan tells it: it looks into files itself, or fails."""
    feeds = load_feeds()
    captured = every_table(feeds)
    stand_ins = {f"{name}{suffix} of": (name, one.view) for name in captured for suffix, one in VERSIONS.items()}
    names = scanned(_shapes(feeds), statement)
    if names is None:
        return None
    found = [stand_ins.get(name, (name, View.LATEST)) for name in names]
    tables: dict[str, View] = {}
    for name in captured:
        if views := {view for one, view in found if one == name}:
            tables[name] = views.pop() if len(views) == 1 else View.ALL_REVISIONS
    return Reads(tables, frozenset(names) & {one.name for one in TABLES})


@cache
def reads_of_extra(extra: Extra) -> Reads:
    """What a view or macro reads."""
    nothing = f"({', '.join('NULL' for _ in extra.parameters)})" if extra.is_macro else ""
    found = reads_of(f"FROM {identifier(extra.name)}{nothing}")
    assert found is not None, extra.name  # noqa: S101 - it was created over the same tables
    return found
