"""What depends on a table or a column, and on one week of it: the question as people ask it, and what answers it.

What belongs here: reading the name, and putting feeds, views and the store together. What does not: following tables,
columns and partitions (`governance.impact`, `governance.staleness`), and showing the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from market_spine.assets.names import Named, captured, nearest
from market_spine.assets.reads import reads_of_extra
from market_spine.assets.tables import derived_of, lineage_of
from market_spine.assets.views import OWN, views_of
from market_spine.domain.contracts import Table
from market_spine.domain.errors import NotFoundError, QueryError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds import load_feeds
from market_spine.governance.impact import Dependent, dependents
from market_spine.governance.staleness import Place, affected
from market_spine.store.manifest import Question
from market_spine.store.store import Store


@dataclass(frozen=True)
class Asked:
    """What the question is about: a table, and one of its columns or all."""

    named: Named
    table: Table
    column: str = ""

    @property
    def sql_name(self) -> str:
        return self.named.sql_name

    @property
    def columns(self) -> tuple[str, ...]:
        return (self.column,) if self.column else tuple(one.name for one in self.table.columns)

    @property
    def text(self) -> str:
        return f"{self.sql_name}.{self.column}" if self.column else self.sql_name

    @property
    def description(self) -> str:
        (about,) = [one.description for one in self.table.columns if one.name == self.column] or [
            self.table.description
        ]
        return about


def asked_of(name: str) -> Asked:
    """What ``TABLE`` or ``TABLE.COLUMN`` means."""
    table_name, _, column = name.strip().lower().partition(".")
    named, table = captured(table_name)
    columns = [one.name for one in table.columns]
    if column and column not in columns:
        cause = f"{named.sql_name} has no column {column!r}"
        raise NotFoundError(cause, f"{nearest(column, columns)} with: spine catalog {named.sql_name}")
    return Asked(named, table, column)


def check_week(asked: Asked, friday: date | None, tiers: Sequence[Tier]) -> None:
    """QueryError where a tier is asked for that says nothing."""
    if tiers and not (friday and asked.table.by_tier):
        cause = "a tier says little without its week" if asked.table.by_tier else f"{asked.sql_name} has no tiers"
        raise QueryError(cause, "add --week-ending" if asked.table.by_tier else "leave --tier out")


def reached(asked: Asked) -> list[Dependent]:
    """The tables that depend on it, in the order of making."""
    derived = [one for feed in load_feeds() for one in derived_of(feed)]
    lineage = {table: columns for feed in load_feeds() for table, columns in lineage_of(feed).items()}
    return dependents(derived, lineage, asked.sql_name, asked.columns)


def follows(
    store: Store, asked: Asked, friday: date, tiers: Sequence[Tier]
) -> tuple[Mapping[Place, tuple[Place, ...]], list[Place]]:
    """The partitions with a current capture that a change of the asked week reaches, each with those that it is reached
    through; and those of the asked week that have no current capture, of which it is told as if they arrived."""
    chosen = tiers or asked.named.feed.tiers
    keys = [WeekKey(friday, tier) for tier in chosen] if asked.table.by_tier else [WeekKey(friday, None)]
    derived = [one for feed in load_feeds() for one in derived_of(feed)]
    current = store.select(Question((asked.sql_name, *(one.table_name for one in derived))))
    there = {Place(one.table_name, one.key) for one in current}
    seeds = [Place(asked.sql_name, key) for key in keys]
    return affected(derived, seeds, there), [seed for seed in seeds if seed not in there]


def views_over(tables: Collection[str]) -> dict[str, list[str]]:
    """Views and macros that read any of ``tables``, with those that each reads; what every table has is left out."""
    found = {}
    for feed in load_feeds():
        own = {name.replace("{f}", feed.name) for name in OWN}
        for extra in views_of(feed):
            read = sorted(reads_of_extra(extra).tables.keys() & set(tables)) if extra.name in own else []
            if read:
                found[extra.name] = read
    return found
