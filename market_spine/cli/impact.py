"""`spine impact`: what depends on a table or a column, and on one week of it.

What belongs here: showing the answer. What does not: reading the question and following it (`assets.impact`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.options import TierOption, WeekOption, tiers_of, week_of
from market_spine.cli.output import Format, FormatOption, Listing, escaped, many, note, say, show

if TYPE_CHECKING:
    from market_spine.assets.impact import Asked
    from market_spine.governance.impact import Dependent
    from market_spine.governance.staleness import Place

COVERED = (
    "Columns are those whose values are computed from it, as the SQL says; which rows there are"
    " (joins, filters, groups) may depend on it in every table above."
)


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
    from market_spine.assets.impact import asked_of, check_week, follows, reached, views_over
    from market_spine.cli.state import open_store, settings_of

    asked, friday, tiers = asked_of(name), week_of(week), tiers_of(tier)
    check_week(asked, friday, tiers)
    found = reached(asked)
    views = views_over({asked.sql_name, *(one.table_name for one in found)})
    follow: Mapping[Place, tuple[Place, ...]] = {}
    if friday:
        follow, absent = follows(open_store(settings_of(ctx.obj)), asked, friday, tiers)
        for seed in absent:
            note(f"[yellow]no current capture:[/] {seed}; what follows is told as if it arrived")
    if form is not Format.TABLE:
        show(_listing(found, follow, views), form)
        return
    _tell(asked, found, views)
    if friday:
        _tell_partitions(follow)


def _listing(
    found: Sequence[Dependent], follows: Mapping[Place, tuple[Place, ...]], views: dict[str, list[str]]
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


def _tell_partitions(follows: Mapping[Place, tuple[Place, ...]]) -> None:
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
