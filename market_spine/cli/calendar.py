"""`spine calendar`: what the trading calendar says by which vintage, how two differ, and correcting it.

What belongs here: choosing and showing. What does not: what a correction changes (`governance.calendar`), carrying it
out (`automation.calendar`), and its plan and outcome in words (`corrections`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.cli.door import DONE, NOT_SATISFIED
from market_spine.cli.options import week_of
from market_spine.cli.output import Format, FormatOption, Listing, cell, code, say, show
from market_spine.domain.errors import CalendarError

if TYPE_CHECKING:
    from market_spine.domain.vintages import Vintage
    from market_spine.store.store import Store
    from market_spine.store.vintages import Recorded

app = typer.Typer(
    name="calendar", no_args_is_help=True, help="The trading calendar: its vintages, how two differ, corrections."
)
SEE = "see them with: spine calendar list"
EXAMPLE = """\
# Days that OTC trading kept otherwise than exchange-calendars says; at least one. Times are New York's.
reason: MLK Day 2025 was an OTC trading day
actor: operations
dated: 2025-02-03
exchange: XNYS
open: [2025-01-20]
# close: [2025-01-09]
# early_close: {2025-07-03: "13:00"}
"""
VintageArgument = Annotated[int | None, typer.Argument(metavar="[N]", help="A vintage; the newest one if unset.")]


@app.command("list")
def list_(ctx: typer.Context, form: FormatOption = Format.TABLE) -> None:
    """List vintages: what was installed or corrected when, by whom, and why. The newest one holds.

    Example: spine calendar list
    """
    found = _every(_store(ctx))
    rows = [
        [
            one.number,
            "current" if one is found[-1] else "",
            one.built_at,
            one.vintage.library_version,
            len(one.vintage.closed),
            # A narrow screen has no room for a column of the actor's own.
            f"{one.reason} ({one.actor})" if form is Format.TABLE else one.reason,
            one.actor,
            len(one.vintage.corrections),
            one.vintage.content_hash,
        ]
        for one in found
    ]
    extra = ("actor", "corrections", "content_hash")
    columns = ["vintage", "state", "built_at", "library", "closed_days", "reason", *extra]
    headers = {"vintage": "no", "closed_days": "closed", "reason": "reason (actor)"}
    empty = "no vintage yet: the first load records one"
    show(Listing(columns, rows, "", frozenset({"reason"}), frozenset(extra), empty, headers), form)


@app.command("show")
def show_(
    ctx: typer.Context,
    number: VintageArgument = None,
    week: Annotated[
        str | None, typer.Option("--week", "--week-ending", "-w", metavar="FRIDAY", help="The days of a week.")
    ] = None,
    month: Annotated[str | None, typer.Option("--month", metavar="YYYY-MM", help="The days of a month.")] = None,
    year: Annotated[
        int | None, typer.Option("--year", metavar="YYYY", help="The days out of the ordinary; this year's if unset.")
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show what a vintage says: of a week, of a month, or its corrections and the closed and short days of a year.

    Example: spine calendar show --week 2025-11-28

    Example: spine calendar show --month 2025-01
    """
    if sum(one is not None for one in (week, month, year)) > 1:
        raise CalendarError("a week, a month and a year at once", "give one of --week, --month, --year")
    chosen = _chosen(_every(_store(ctx)), number)
    vintage = chosen.vintage
    if (friday := week_of(week)) is not None:
        days = [friday - timedelta(days=4 - n) for n in range(5)]
        title = f"Week {friday}: {_sessions(vintage.session_count(friday))}"
    elif month is not None:
        days, count = _month(vintage, month)
        title = f"{days[0]:%B %Y}: {_sessions(count)}"
    else:
        days = _unusual(vintage, _year(vintage, year))
        title = "Closed and short days"
    rows = [_row(vintage, day) for day in days]
    listing = Listing(["day", "weekday", "hours", "counts", "by"], rows, title, frozenset({"by"}), empty="none")
    if form is Format.TABLE:
        _tell(chosen, with_corrections=friday is None and month is None)
    show(listing, form)


@app.command()
def diff(
    ctx: typer.Context,
    before: Annotated[int, typer.Argument(metavar="A", help="A vintage.")],
    after: Annotated[int | None, typer.Argument(metavar="[B]", help="Another one; the newest if unset.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Compare two vintages: the days that they see differently, and the months whose sessions are not as many.

    Example: spine calendar diff 1
    """
    from market_spine.cli.corrections import day_rows, month_rows
    from market_spine.domain.vintages import difference, months_changed

    found = _every(_store(ctx))
    old, new = _chosen(found, before).vintage, _chosen(found, after).vintage
    days, months = day_rows(difference(old, new)), month_rows(months_changed(old, new))
    columns = ["kind", "name", "weekday", "before", "after"]
    listing = Listing(columns, [*days, *months], empty="no differences", headers={"name": "day or month"})
    show(listing, form)


@app.command()
def apply(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The correction, in YAML.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only tell what follows, as without an option.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it.")] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a correction to begin with.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Tell what a correction changes and what follows from it, and with --yes do exactly that.

    A new vintage is recorded; the weeks whose sessions change are captured again, and what was made from them too.

    As of an earlier moment the old calendar goes on answering. Exit code 1: there is something to do.

    \b
    spine calendar apply --example > correction.yaml
    spine calendar apply correction.yaml
    spine calendar apply correction.yaml --yes

    Example: spine calendar apply --example
    """
    from market_spine.automation import calendar as automation
    from market_spine.cli import corrections
    from market_spine.cli.state import feeds
    from market_spine.governance.calendar import read_correction

    if example:
        code(EXAMPLE.rstrip())
        return
    path = _asked(file, plan and yes)
    correction, store = read_correction(path), _store(ctx)
    planned = automation.plan(store, correction, feeds())
    if planned.is_done:
        corrections.nothing_to_do(planned, store, form)
        raise typer.Exit(DONE)
    if yes:
        corrections.carry_out(ctx.obj, store, planned, form)
        return
    corrections.tell(planned, form, path)
    raise typer.Exit(NOT_SATISFIED)


def _asked(file: Path | None, is_both: bool) -> Path:
    if file is None:
        raise CalendarError("which correction?", "spine calendar apply FILE.yaml  # for a file: --example")
    if is_both:
        raise CalendarError("--plan and --yes say opposite things", "spine calendar apply FILE.yaml --plan  # or --yes")
    return file


def _store(ctx: typer.Context) -> Store:
    from market_spine.cli.state import open_store, settings_of

    return open_store(settings_of(ctx.obj))


def _every(store: Store) -> list[Recorded]:
    from market_spine.store import vintages

    with store.control.read() as connection:
        return vintages.every(connection)


def _chosen(found: Sequence[Recorded], number: int | None) -> Recorded:
    if not found:
        raise CalendarError("no calendar vintage is on record yet", "load a week first: spine backfill --weeks-back 1")
    for one in found:
        if one.number == number:
            return one
    if number is not None:
        raise CalendarError(f"there is no calendar vintage {number}", SEE)
    return found[-1]


def _month(vintage: Vintage, text: str) -> tuple[list[date], float]:
    """The weekdays of a month, and how many of them have a session."""
    year, _, month = text.partition("-")
    if not (year.isdecimal() and month.isdecimal()):
        raise CalendarError(f"{text!r} is not a month", "write it as YYYY-MM, e.g. 2025-01")
    count = vintage.session_count_of_month(int(year), int(month))
    first = date(int(year), int(month), 1)
    days = (first + timedelta(days=n) for n in range(31))
    return [day for day in days if day.month == first.month and day.weekday() < 5], count


def _year(vintage: Vintage, year: int | None) -> int:
    from market_spine.settings import clock

    chosen = year if year is not None else clock().year
    if not vintage.first_day.year <= chosen <= vintage.last_day.year:
        cause = f"{chosen} is outside the trading calendar {vintage.first_day} .. {vintage.last_day}"
        raise CalendarError(cause, "give --year a year inside it")
    return chosen


def _unusual(vintage: Vintage, year: int) -> list[date]:
    days = (*vintage.closed, *(one.session_date for one in vintage.irregular))
    return sorted(day for day in days if day.year == year)


def _row(vintage: Vintage, day: date) -> list[object]:
    from market_spine.domain.corrections import words

    session = vintage.session_on(day)
    hours = words(session).partition(" ")[0]
    named = [one.reason for one in vintage.corrections if any(change.day == day for change in one.changes)]
    counts = Decimal(str(session.session_fraction)) if session else Decimal(0)
    return [day, f"{day:%A}", hours, counts, named[-1] if named else ""]


def _sessions(count: float) -> str:
    return f"{count:g} session{'' if count == 1 else 's'}"


def _tell(chosen: Recorded, with_corrections: bool) -> None:
    vintage = chosen.vintage
    facts = {
        "vintage": chosen.number,
        "built_at": cell(chosen.built_at),
        "library": f"exchange_calendars {vintage.library_version}",
        "reason": chosen.reason,
        "actor": chosen.actor,
        "days": f"{vintage.first_day} .. {vintage.last_day}, {len(vintage.closed)} of them closed",
    }
    for name, value in facts.items():
        code(f"{name:<10}{value}")
    say("")
    if with_corrections:
        rows = [
            [one.dated, one.reason, one.actor, ", ".join(str(change.day) for change in one.changes)]
            for one in vintage.corrections
        ]
        wrapped = frozenset({"reason", "days"})
        show(Listing(["dated", "reason", "actor", "days"], rows, "Corrections", wrapped, empty="none"))
        say("")
