"""A correction of the trading calendar in words: its plan, and what became of it once it was carried out.

What belongs here: showing, and starting it. What does not: what it changes (`governance.calendar`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from market_spine.cli.door import FAILED, NOT_SATISFIED
from market_spine.cli.output import Format, Listing, advise, escaped, many, say, show
from market_spine.cli.state import State
from market_spine.domain.tiers import ALL_TIERS

if TYPE_CHECKING:
    from market_spine.automation.calendar import Applied, Followed
    from market_spine.cli.work import Tally
    from market_spine.domain.keys import WeekKey
    from market_spine.domain.vintages import DayChange, MonthChange
    from market_spine.governance.calendar import CorrectionPlan, WeekChange
    from market_spine.governance.staleness import Place
    from market_spine.store.store import Store

COLUMNS = ("kind", "name", "week_ending", "tier", "before", "after", "weeks_in_window", "why")
SHORT = 12  # digits of a certificate's id on the screen, as in `certificates`


def day_rows(changes: Iterable[DayChange]) -> list[list[Any]]:
    """Kind, day, weekday, hours before and after."""
    return [["day", str(one.day), f"{one.day:%A}", one.before, one.after] for one in changes]


def month_rows(changes: Iterable[MonthChange]) -> list[list[Any]]:
    """Kind, month, no weekday, sessions before and after."""
    return [
        ["month", f"{one.year}-{one.month:02}", "", f"{one.before} sessions", f"{one.after} sessions"]
        for one in changes
    ]


def nothing_to_do(plan: CorrectionPlan, store: Store, form: Format) -> None:
    """Say that the correction is in force already; what an interrupted run left out of date is told beside it."""
    from market_spine.cli import report, work
    from market_spine.cli.state import feeds

    if form is Format.TABLE:
        number = plan.held.number if plan.held else 0
        say(f"nothing to do: vintage {number} has this correction, and its weeks are captured from it")
    else:
        show(Listing(COLUMNS, []), form)
    report.out_of_date([one for feed in feeds() for one in work.out_of_date(store, feed)])


def tell(plan: CorrectionPlan, form: Format, file: Path) -> None:
    """What the correction changes and what follows from it; everything one by one for programs."""
    if form is not Format.TABLE:
        show(Listing(COLUMNS, list(_rows(plan))), form)
    else:
        _tell(plan)
    advise(f"spine calendar apply {shlex.quote(str(file))} --yes")


def _rows(plan: CorrectionPlan) -> Iterator[list[Any]]:
    for kind, name, _, before, after in (*day_rows(plan.days), *month_rows(plan.months)):
        yield [kind, name, None, None, before, after, None, plan.correction.reason]
    for week in plan.weeks:
        one = week.capture
        yield ["capture", one.table_name, one.week_ending, one.tier, week.before, week.after, None, _change(week)]
    for place, sources in plan.partitions.items():
        key, weeks = place.key, plan.weeks_back[place.table_name] + 1
        why = f"follows from {', '.join(map(str, sources))}"
        yield ["partition", place.table_name, key.week_ending, key.tier_text, None, None, weeks, why]
    for row in plan.certificates:
        why = f"in force for {row['ready_for']}"
        yield ["certificate", row["certificate_id"], row["week_ending"], ALL_TIERS, None, None, None, why]


def _change(week: WeekChange) -> str:
    return f"{week.before:g} -> {week.after:g} sessions" if week.before != week.after else "other hours"


def _tell(plan: CorrectionPlan) -> None:
    one, number = plan.correction, plan.held.number if plan.held else 0
    say(f"[bold]{escaped(one.reason)}[/]")
    after = (
        f"becomes vintage {number + 1 + bool(plan.build)}"
        if not plan.is_recorded
        else f"is in vintage {number} already"
    )
    say(escaped(f"{one.name} by {one.actor}, {one.dated}, {after}"))
    if plan.build:
        say(f"before it, {plan.build} becomes vintage {number + 1}")
    say("")
    changes = [row[1:] for row in (*day_rows(plan.days), *month_rows(plan.months))]
    columns = ["day or month", "weekday", "before", "after"]
    show(Listing(columns, changes, empty="no day changes"))
    say("")
    wrapped = frozenset({"partitions", "why"})
    rows = [*_week_rows(plan), *_partition_rows(plan)]
    show(Listing(["table", "partitions", "why"], rows, wrapped=wrapped, empty="no captured week changes"))
    if plan.weeks:
        say(f"\n{_totals(plan)}")
    if plan.certificates:
        say("")
        held = [
            [row["week_ending"], row["ready_for"], row["certificate_id"][:SHORT], row["certified_at"]]
            for row in plan.certificates
        ]
        columns = ["week_ending", "ready_for", "certificate", "certified_at"]
        show(Listing(columns, held, "Certificates in force that are superseded"))


def _week_rows(plan: CorrectionPlan) -> list[list[str]]:
    return [[one.capture.table_name, str(one.week), _change(one)] for one in plan.weeks]


def _partition_rows(plan: CorrectionPlan) -> list[list[str]]:
    """Those of one table and reason in one line."""
    from market_spine.cli.report import in_words

    shown = {one.capture.table_name: "the calendar" for one in plan.weeks}
    grouped: dict[tuple[str, str], list[Place]] = {}
    for place, sources in plan.partitions.items():
        names = ", ".join(dict.fromkeys(shown.get(source.table_name, source.table_name) for source in sources))
        grouped.setdefault((place.table_name, f"follows from {names}"), []).append(place)
    return [
        [table, words, why]
        for (table, why), places in grouped.items()
        for words in in_words((place.key.tier_text, place.key.week_ending) for place in places)
    ]


def _totals(plan: CorrectionPlan) -> str:
    tables = dict.fromkeys(place.table_name for place in plan.partitions)
    windows = [place for place in plan.partitions if plan.weeks_back[place.table_name]]
    told = f"{many(len(plan.weeks), 'week')} of the calendar"
    if tables:
        told += f", {many(len(plan.partitions), 'partition')} of {many(len(tables), 'table')}"
    if windows:
        told += f"; {len(windows):,} of them are windows"
    return told


def carry_out(state: State, store: Store, plan: CorrectionPlan, form: Format) -> None:
    """Apply the correction of ``plan``, follow it up, and tell what became of each partition."""
    from market_spine.automation import calendar as automation
    from market_spine.cli import work
    from market_spine.cli.progress import Watch
    from market_spine.cli.state import feeds, open_instance, settings_of
    from market_spine.settings import build_spine

    with Watch(len(plan.weeks) + len(plan.partitions)) as watch, open_instance(store) as instance:
        spine = replace(build_spine(settings_of(state)), progress=watch.step)
        applied = automation.apply_correction(spine, plan.correction, feeds(), instance, state.log_level)
        followed = automation.follow_up(spine, applied, feeds(), instance, state.log_level)
    weeks: dict[str, list[WeekKey]] = {}
    for one in applied.plan.weeks:
        weeks.setdefault(one.capture.table_name, []).append(one.capture.key)
    counted = [
        *work.tallies(store, weeks, applied.outcome),
        *work.tallies(store, followed.partitions, followed.outcome),
    ]
    _report(store, applied, followed, counted, form)
    if applied.outcome.failures or followed.outcome.failures:
        raise typer.Exit(FAILED)
    if any(one.lacking for one in counted):
        raise typer.Exit(NOT_SATISFIED)


def _report(store: Store, applied: Applied, followed: Followed, counted: Sequence[Tally], form: Format) -> None:
    from market_spine.cli import report, work
    from market_spine.cli.state import feeds

    both = (applied.outcome, followed.outcome)
    outcome = replace(
        applied.outcome,
        run_ids=[run_id for one in both for run_id in one.run_ids],
        failures=[why for one in both for why in one.failures],
    )
    if form is Format.TABLE:
        was = "is" if applied.is_new else "was"
        say(f"vintage {applied.recorded.number} {was} on record: {escaped(applied.recorded.reason)}\n")
    report.outcome(outcome, counted, form, "")
    report.findings(work.failed_checks(store, outcome))
    if applied.plan.certificates and form is Format.TABLE:
        say("")
        _certificates(store, applied.plan)
    report.out_of_date([one for feed in feeds() for one in work.out_of_date(store, feed)])


def _certificates(store: Store, plan: CorrectionPlan) -> None:
    """What became of each certificate that was in force: the verdict now, and its certificate."""
    from market_spine.store.readiness import held

    rows = []
    with store.control.read() as connection:
        for row in plan.certificates:
            now = held(connection, row["domain"], [row["week_ending"]])[row["week_ending"], row["ready_for"]]
            ids = [(one["certificate_id"] or "-")[:SHORT] for one in (row, now)]
            rows.append([row["week_ending"], row["ready_for"], now["state"], *ids])
    show(Listing(["week_ending", "ready_for", "state", "was", "certificate"], rows, "Certificates"))
