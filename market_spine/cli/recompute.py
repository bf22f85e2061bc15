"""`spine recompute`: what is out of date, what follows from it, and making exactly that again.

What belongs here: choosing, showing and starting. What does not: what is out of date (`governance.staleness`), and
which runs that takes (`automation.recompute`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.cli.door import FAILED, NOT_SATISFIED
from market_spine.cli.options import LimitOption, TierOption, WeekOption, tiers_of, week_of
from market_spine.cli.output import Format, FormatOption, Listing, advise, limited, note, say
from market_spine.cli.state import State
from market_spine.domain.errors import QueryError

if TYPE_CHECKING:
    from market_spine.governance.staleness import Derived, Part, Recompute
    from market_spine.store.manifest import Capture
    from market_spine.store.store import Store

Chosen = Callable[["Capture"], bool]


def recompute(
    ctx: typer.Context,
    week: WeekOption = None,
    tier: TierOption = None,
    table: Annotated[str | None, typer.Option("--table", metavar="NAME", help="A calculated table.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what and why, as without an option.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    limit: LimitOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Tell what is out of date and what follows from it, and with --yes calculate exactly that again.

    Week, tier and table choose among it: with what is chosen goes whatever it is made from or is made from it.
    Exit code 1: something is out of date.

    Example: spine recompute --plan

    Example: spine recompute --week-ending 2025-11-07 --tier OTC --yes
    """
    from market_spine.cli.state import open_store, settings_of

    if plan and yes:
        raise QueryError("--plan and --yes say opposite things", "spine recompute --plan  # or --yes")
    store = open_store(settings_of(ctx.obj))
    derived = _derived()
    is_chosen = _choice(derived, week, tier, table)
    todo = _outstanding(store, derived, is_chosen)
    if yes and todo.parts:
        _carry_out(ctx.obj, store, derived, is_chosen, todo, form)
        return
    _show(todo, limit, form)
    if todo.parts:
        advise(f"spine recompute{_options(week, tier, table)} --yes")
        raise typer.Exit(NOT_SATISFIED)


def _derived() -> list[Derived]:
    from market_spine.assets.tables import derived_of
    from market_spine.cli.state import feeds

    return [one for feed in feeds() for one in derived_of(feed)]


def _choice(derived: list[Derived], week: str | None, tier: list[str] | None, table: str | None) -> Chosen:
    """Whether a capture is asked for."""
    from market_spine.assets.names import captured

    friday, tiers, name = week_of(week), tiers_of(tier), captured(table)[0].sql_name if table else None
    by_tier = {one.table_name: one.calculation.table.by_tier for one in derived}
    if name and name not in by_tier:
        raise QueryError(f"{name} is not calculated, so it is never out of date", "name a calculated table")
    if name and tiers and not by_tier[name]:
        raise QueryError(f"{name} has no tiers", "leave --tier out")

    def is_chosen(capture: Capture) -> bool:
        return (
            friday in (None, capture.week_ending)
            and (not tiers or capture.key.tier in tiers)
            and name in (None, capture.table_name)
        )

    return is_chosen


def _options(week: str | None, tier: list[str] | None, table: str | None) -> str:
    said = [("week-ending", week), *(("tier", one) for one in tier or ()), ("table", table)]
    return "".join(f" --{name} {value}" for name, value in said if value)


def _outstanding(store: Store, derived: list[Derived], is_chosen: Chosen) -> Recompute:
    from market_spine.governance.staleness import to_recompute

    with store.control.read() as connection:
        return to_recompute(connection, derived).around(is_chosen)


def _show(todo: Recompute, limit: int | None, form: Format) -> None:
    """Every partition with its reasons for programs; for people those of one table and reason in one line."""
    from market_spine.cli.report import in_words

    if form is not Format.TABLE:
        columns = ["table", "week_ending", "tier", "is_stale", "weeks_in_window", "why", "capture_id"]
        limited(Listing(columns, [_row(part) for part in todo.parts]), form, limit)
        return
    rows = []
    for (table, kinds), parts in groupby(_by_reason(todo), lambda part: (part.capture.table_name, part.kinds)):
        places = in_words((part.capture.tier, part.capture.week_ending) for part in parts)
        rows += [[table, place, "; ".join(kinds)] for place in places]
    wrapped = frozenset({"partitions", "why"})
    limited(Listing(["table", "partitions", "why"], rows, wrapped=wrapped, empty="nothing is out of date"), form, limit)
    if todo.parts:
        say(f"\n{_totals(todo)}")


def _by_reason(todo: Recompute) -> list[Part]:
    """The parts with those of one table and reason in a row; tables in their order."""
    order = {name: number for number, name in enumerate(todo.partitions)}
    return sorted(todo.parts, key=lambda part: (order[part.capture.table_name], part.kinds, part.capture.key))


def _row(part: Part) -> list[object]:
    one = part.capture
    why = "; ".join(part.reasons)
    return [one.table_name, one.week_ending, one.tier, part.is_stale, part.weeks_back + 1, why, one.capture_id]


def _totals(todo: Recompute) -> str:
    """How many partitions, how many of them follow only, and which are windows."""
    stale = sum(part.is_stale for part in todo.parts)
    told = f"{_count(len(todo.parts), 'partition')} of {_count(len(todo.partitions), 'table')}:"
    told += f" {stale:,} out of date, {len(todo.parts) - stale:,} that follow"
    widths = {part.capture.table_name: part.weeks_back + 1 for part in todo.parts if part.weeks_back}
    windows = [f"{len(todo.partitions[name]):,} of {name} ({weeks} weeks)" for name, weeks in widths.items()]
    return told + (f"; windows: {', '.join(windows)}" if windows else "")


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _carry_out(
    state: State, store: Store, derived: list[Derived], is_chosen: Chosen, todo: Recompute, form: Format
) -> None:
    from market_spine.automation.recompute import recompute as start
    from market_spine.cli import report, work
    from market_spine.cli.progress import Watch, expected_steps
    from market_spine.cli.state import feeds, open_instance, settings_of
    from market_spine.settings import build_spine

    partitions = todo.partitions
    tags = {"market_spine/request": "recompute"}
    with Watch(expected_steps(partitions, 0)) as watch, open_instance(store) as instance:
        spine = replace(build_spine(settings_of(state)), progress=watch.step)
        found = start(spine, feeds(), partitions, instance, tags, state.log_level)
    counted = work.tallies(store, partitions, found)
    report.outcome(found, counted, form, "")
    report.findings(work.failed_checks(store, found))
    left = _outstanding(store, derived, is_chosen)
    if left.parts:
        note(f"[yellow]still out of date:[/] {_totals(left)}")
    if found.failures:
        raise typer.Exit(FAILED)
    if left.parts or any(one.lacking for one in counted):
        raise typer.Exit(NOT_SATISFIED)
