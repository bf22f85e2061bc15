"""`spine impact`: what depends on a table or a column, and on one week of it.

What belongs here: reading the name, and showing the answer. What does not: following tables, columns and partitions
(`governance.impact`, `governance.staleness`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.options import TierOption, WeekOption, tiers_of, week_of
from market_spine.cli.output import Format, FormatOption, Listing, escaped, many, note, say, show
from market_spine.domain.errors import QueryError

if TYPE_CHECKING:
    from datetime import date

    from market_spine.cli.tables import Named
    from market_spine.domain.contracts import Table
    from market_spine.domain.tiers import Tier
    from market_spine.governance.impact import Dependent
    from market_spine.governance.staleness import Derived, Place
    from market_spine.store.store import Store

COVERED = (
    "Columns are those whose values are computed from it, as the SQL says; which rows there are"
    " (joins, filters, groups) may depend on it in every table above."
)


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


def impact(
    ctx: typer.Context,
    name: Annotated[
        str, typer.Argument(help="Table, asset or TABLE.COLUMN, e.g. otc_raw or venue_volume.total_shares.")
    ],
    week: WeekOption = None,
    tier: TierOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Tell what depends on a table or a column: tables, their columns, views; with a week also which captures.

    Example: spine impact venue_volume.total_shares

    Example: spine impact otc_raw --week-ending 2025-11-07 --tier OTC
    """
    from market_spine.assets.tables import derived_of, lineage_of
    from market_spine.cli.state import feeds, open_store, settings_of
    from market_spine.governance.impact import dependents

    asked, friday, tiers = _asked(name), week_of(week), tiers_of(tier)
    if tiers and not (friday and asked.table.by_tier):
        cause = "a tier says little without its week" if asked.table.by_tier else f"{asked.sql_name} has no tiers"
        raise QueryError(cause, "add --week-ending" if asked.table.by_tier else "leave --tier out")
    derived = [one for feed in feeds() for one in derived_of(feed)]
    lineage = {table: columns for feed in feeds() for table, columns in lineage_of(feed).items()}
    found = dependents(derived, lineage, asked.sql_name, asked.columns)
    views = _views({asked.sql_name, *(one.table_name for one in found)})
    follows: dict[Place, tuple[Place, ...]] = {}
    if friday:
        follows = _follows(open_store(settings_of(ctx.obj)), derived, asked, friday, tiers)
    if form is not Format.TABLE:
        show(_listing(found, follows, views), form)
        return
    _tell(asked, found, views)
    if friday:
        _tell_partitions(follows)


def _asked(name: str) -> Asked:
    from market_spine.cli.tables import captured, nearest

    table_name, _, column = name.strip().lower().partition(".")
    named, table = captured(table_name)
    columns = [one.name for one in table.columns]
    if column and column not in columns:
        cause = f"{named.sql_name} has no column {column!r}"
        raise QueryError(cause, f"{nearest(column, columns)} with: spine catalog {named.sql_name}")
    return Asked(named, table, column)


def _follows(
    store: Store, derived: Sequence[Derived], asked: Asked, friday: date, tiers: Sequence[Tier]
) -> dict[Place, tuple[Place, ...]]:
    """The partitions with a current capture that a change of the asked week reaches."""
    from market_spine.domain.keys import WeekKey
    from market_spine.governance.staleness import Place, affected
    from market_spine.store.manifest import Question

    chosen = tiers or asked.named.feed.tiers
    keys = [WeekKey(friday, tier) for tier in chosen] if asked.table.by_tier else [WeekKey(friday, None)]
    names = tuple(one.table_name for one in derived)
    current = store.select(Question((asked.sql_name, *names)))
    there = {Place(one.table_name, one.key) for one in current}
    seeds = [Place(asked.sql_name, key) for key in keys]
    for seed in seeds:
        if seed not in there:
            note(f"[yellow]no current capture:[/] {seed}; what follows is told as if it arrived")
    return affected(derived, seeds, there)


def _views(tables: Collection[str]) -> dict[str, list[str]]:
    """Views and macros that read any of ``tables``, with those that each reads; what every table has is left out."""
    from market_spine.assets.views import OWN, views_of
    from market_spine.cli.state import feeds

    found = {}
    for feed in feeds():
        own = {name.replace("{f}", feed.name) for name in OWN}
        for extra in views_of(feed):
            read = sorted(set(re.findall(r"\w+", extra.sql)) & set(tables))
            if read and extra.name in own:
                found[extra.name] = read
    return found


def _listing(
    found: Sequence[Dependent], follows: dict[Place, tuple[Place, ...]], views: dict[str, list[str]]
) -> Listing:
    """Everything in one list, for programs."""
    rows: list[list[Any]] = []
    for one in found:
        rows.append(["table", one.table_name, None, ", ".join(one.through), one.weeks_back + 1, None, None])
        rows += [
            ["column", one.table_name, column, ", ".join(map(".".join, sources)), None, None, None]
            for column, sources in one.columns.items()
        ]
    rows += [
        [
            "partition",
            place.table_name,
            None,
            ", ".join(map(str, sources)),
            None,
            place.key.week_ending,
            place.key.tier_text,
        ]
        for place, sources in follows.items()
    ]
    rows += [["view", name, None, ", ".join(read), None, None, None] for name, read in views.items()]
    return Listing(["kind", "name", "column", "through", "weeks_in_window", "week_ending", "tier"], rows)


def _tell(asked: Asked, found: Sequence[Dependent], views: dict[str, list[str]]) -> None:
    say(f"[bold]{asked.text}[/]  {escaped(asked.description)}\n")
    rows = [[one.table_name, ", ".join(one.through), ", ".join(one.columns) or "(no column)"] for one in found]
    columns, wrapped = ["table", "through", "columns"], frozenset({"through", "columns"})
    empty = "nothing is made from it"
    show(Listing(columns, rows, wrapped=wrapped, empty=empty, stacked=("through", "columns"), upright=False))
    if found:
        count = sum(len(one.columns) for one in found)
        say(f"\n{many(len(found), 'table')}, {many(count, 'column')}. {COVERED}")
    if windows := [f"{one.table_name} ({one.weeks_back + 1} weeks)" for one in found if one.weeks_back]:
        say(f"Windows: {', '.join(windows)}")
    if views:
        say(f"Views over {'these' if found else 'it'}: {', '.join(views)}")


def _tell_partitions(follows: dict[Place, tuple[Place, ...]]) -> None:
    from market_spine.cli.report import in_words

    by_table: dict[str, list[Place]] = {}
    for place in follows:
        by_table.setdefault(place.table_name, []).append(place)
    rows = [
        [table, text]
        for table, places in by_table.items()
        for text in in_words((place.key.tier_text, place.key.week_ending) for place in places)
    ]
    say("")
    title = "Current captures that follow from it"
    show(Listing(["table", "partitions"], rows, title, frozenset({"partitions"}), empty="no current capture follows"))
    if rows:
        say(f"\n{many(len(follows), 'capture')} of {many(len(by_table), 'table')}")
