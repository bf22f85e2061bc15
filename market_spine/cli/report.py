"""How a request's plan and outcome look: what is listed is listed in full, with the command that helps.

What belongs here: the words and tables of `run` and `backfill`. What does not: counting (`work`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING, Any

from market_spine.cli.output import STYLES, Format, Listing, advise, escaped, note, say, show
from market_spine.cli.work import Forecast, Tally
from market_spine.domain.keys import WeekKey
from market_spine.domain.spans import spans
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.domain.weeks import WEEK

if TYPE_CHECKING:
    from market_spine.automation.launch import Launch, Outcome
    from market_spine.governance.staleness import Stale
    from market_spine.sources.delivery import Problem
    from market_spine.store.records import Failed

SHOWN = 20  # partitions listed one by one; more are counted


def problems(found: Sequence[Problem]) -> None:
    """Files that were not understood, each with the override to use; on stderr."""
    for one in found:
        note(f"[yellow]not understood:[/] {escaped(one.name)}")
        note(f"  {escaped(one.reason)}")
        advise(one.override)


def absent(found: Mapping[WeekKey, str]) -> None:
    """Partitions that were asked for and that the source cannot have; on stderr."""
    for key, why in list(found.items())[:SHOWN]:
        note(f"[yellow]without source:[/] {key}: {escaped(why)}")
    if len(found) > SHOWN:
        note(f"[yellow]without source:[/] {len(found) - SHOWN:,} more")


def plan(launches: Sequence[Launch], forecasts: Sequence[Forecast], form: Format) -> None:
    """A dry run: the runs, and what each would find to do."""
    columns = ["table", "partitions", "to do", "unchanged", "no input"]
    rows = [[one.table, one.asked, one.to_do, one.up_to_date, one.lacking] for one in forecasts]
    if form is Format.TABLE:
        runs = [[place, names(launch), span(launch)] for place, launch in enumerate(launches, start=1)]
        listing = Listing(["run", "assets", "partitions"], runs, "Runs", frozenset({"assets", "partitions"}))
        show(listing)
        say("")
    show(Listing(columns, rows, "Partitions, by what is there now", empty="nothing to do"), form)


def names(launch: Launch) -> str:
    """The assets of a run."""
    first = launch.assets[0].to_user_string()
    others = len(launch.assets) - 1
    return f"{first} and {others} more" if others else first


def span(launch: Launch) -> str:
    """The partitions of a run."""
    if not launch.first:
        return "all"
    return launch.first if launch.first == launch.last else f"{launch.first} .. {launch.last}"


def outcome(found: Outcome, counted: Sequence[Tally], form: Format, raw: str) -> None:
    """The summary per table, and every partition without a new capture with its reason."""
    columns = ["table", "partitions", "captured", "unchanged", "no capture", "rejects"]
    rows = [[one.table, one.asked, one.captured, one.unchanged, len(one.lacking), one.rejects] for one in counted]
    show(Listing(columns, rows), form)
    for why in found.failures:
        failure(why)
    told: set[str] = set()
    for one in counted:
        fresh = {key: why for key, why in one.lacking.items() if one.table == raw or not _follows(key, why, told)}
        _lacking(one, dict(list(fresh.items())[:SHOWN]))
        if len(fresh) > SHOWN:
            note(f"[red]without capture:[/] {one.table}: {len(fresh) - SHOWN:,} more")
        told |= {key.rpartition(":")[2] for key in one.lacking}


def _lacking(one: Tally, shown: Mapping[str, str]) -> None:
    """Partitions with their reasons; a remedy that several in a row share stands once, after the last of them."""
    for step, same in groupby(shown, lambda key: one.remedies.get(key, "")):
        for key in same:
            note(f"[red]without capture:[/] {one.table} {escaped(key)}: {escaped(shown[key])}")
        if step:
            advise(step)


def _follows(key: str, why: str, told: set[str]) -> bool:
    """Whether a partition lacks its capture only because its input, which was told already, lacks one."""
    is_consequence = why == "no capture" or why.startswith("no current capture of")
    return is_consequence and key.rpartition(":")[2] in told


def findings(found: Sequence[Failed]) -> None:
    """What the checks found wrong in what was captured, a line per check."""
    for one in found:
        tier = "" if one.tier == ALL_TIERS else f" {one.tier}"
        others = f" (and {one.partitions - 1:,} more)" if one.partitions > 1 else ""
        place = f"{one.table_name} {one.week_ending}{tier}{others}"
        told = f"{place}: {one.check}: {one.actual}, expected {one.expected}"
        note(f"[{STYLES[one.severity]}]{one.severity}:[/] {escaped(told)}")
    if found:
        advise("spine anomalies list --linked")


def out_of_date(found: Sequence[Stale]) -> None:
    """Captures that need to be calculated again, with the command that does."""
    if found:
        tables = ", ".join(sorted({one.capture.table_name for one in found}))
        note(f"[yellow]out of date:[/] {len(found):,} capture{'s' if len(found) > 1 else ''} of {tables}")
        advise("spine recompute --yes  # without --yes: what and why")


def no_longer_certified(lost: Sequence[Mapping[str, Any]]) -> None:
    """Weeks that what was loaded took out of certification, a line per use, with the command that says why."""
    weeks: dict[str, list[date]] = {}
    for row in lost:
        weeks.setdefault(row["ready_for"], []).append(row["week_ending"])
    for ready_for, found in weeks.items():
        named = ", ".join(in_words((ALL_TIERS, week) for week in found))
        note(f"[yellow]no longer certified for {escaped(ready_for)}:[/] {named}")
    if lost:
        advise(f"spine readiness {lost[0]['domain']}  # says why, and what helps")


def in_words(places: Iterable[tuple[str, date]]) -> list[str]:
    """Partitions, each a tier and a week, as people read them: tiers with the same consecutive weeks stand together."""
    keys = [WeekKey.from_string(f"{tier}:{week}") for tier, week in places]
    return [_span(*span) for span in spans(keys)]


def _span(first: date, last: date, tiers: Sequence[Tier | None]) -> str:
    count = ((last - first) // WEEK + 1) * len(tiers)
    named = f"{', '.join(tier for tier in tiers if tier)} " if tiers != [None] else ""
    return f"{named}{first}{f' .. {last}' if first != last else ''}{f' ({count:,})' if count > 1 else ''}"


def failure(text: str) -> None:
    """A failed step's error, as its class and message, without the class."""
    cause, _, remedy = text.partition("\n  next: ")
    head, colon, rest = cause.strip().partition(": ")
    shown = rest if colon and " " not in head else cause.strip()
    note(f"[bold red]error:[/] {escaped(shown)}")
    if remedy:
        advise(remedy.strip())
