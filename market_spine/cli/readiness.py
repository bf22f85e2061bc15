"""`spine readiness`: may a week be used for this, and what stands against it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.door import NOT_SATISFIED
from market_spine.cli.options import week_of
from market_spine.cli.output import (
    Format,
    FormatOption,
    Listing,
    cell,
    code,
    escaped,
    hanging,
    limited,
    out,
    say,
    show,
    step,
)
from market_spine.domain.errors import QueryError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date, datetime

    from market_spine.domain.contracts import Feed
    from market_spine.store.ledger import Run
    from market_spine.store.store import Store

MARKS = {True: "[green]✓[/]", False: "[red]✗[/]"}


def readiness(
    ctx: typer.Context,
    domain: Annotated[
        str | None, typer.Argument(metavar="[DOMAIN]", help="A feed, e.g. otc; the only one there is, if unset.")
    ] = None,
    week: Annotated[
        str | None, typer.Option("--week", "--week-ending", "-w", metavar="FRIDAY", help="The week; else all of them.")
    ] = None,
    ready_for: Annotated[
        str | None, typer.Option("--ready-for", metavar="USE_CASE", help="trading (if unset), compliance or research.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="Rows to show at most.")
    ] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Judge now whether a week may be used, record the verdict, and show it: five criteria, and what helps.

    Exit code 0: ready, 1: not ready, 2: failure. Without a week: every week, for the use case or for all.

    Example: spine readiness finra.otc_transparency --week 2025-11-14 --ready-for trading
    """
    from market_spine.assets.scope import scope_of
    from market_spine.automation.request import feed_of
    from market_spine.cli.state import feeds, open_store, settings_of, written_now
    from market_spine.store.readiness import held

    feed = feed_of(feeds(), domain, "name the feed")
    chosen, use_case = week_of(week), scope_of(feed).use_case(ready_for or "trading")
    store = open_store(settings_of(ctx.obj))
    run = written_now()
    _judge(store, run, feed, chosen)
    with store.control.read() as connection:
        rows = held(connection, feed.domain, [chosen] if chosen else None)
    if chosen is None:
        names = [ready_for] if ready_for else list(scope_of(feed).use_cases)
        _show_weeks([rows[place] for place in sorted(rows, reverse=True) if place[1] in names], limit, form)
    else:
        _show_one(feed, rows[chosen, use_case.name], run.now, form)


def _judge(store: Store, run: Run, feed: Feed, week: date | None) -> None:
    """Judge one week or all; where a verdict changed, whoever reads the published file is to know."""
    from market_spine.assets.reading import publish_again
    from market_spine.assets.scope import judge, scope_of
    from market_spine.store.readiness import held, weeks_captured

    with store.control.read() as connection:
        known = weeks_captured(connection, scope_of(feed).tables.raw) | {at for at, _ in held(connection, feed.domain)}
    if week and week not in known:  # a verdict on it would be listed, and judged again, for ever
        raise QueryError(f"nothing of the week {week} was ever captured", f"spine backfill --from {week} --to {week}")
    if judge(store, run, feed, [week] if week else None):
        publish_again(store)


def _show_one(feed: Feed, row: Mapping[str, Any], now: datetime, form: Format) -> None:
    if form is Format.TABLE:
        _tell(feed, row, now)
    else:
        show(Listing(list(row), [list(row.values())]), form)
    if not row["is_ready"]:
        raise typer.Exit(NOT_SATISFIED)


def _show_weeks(rows: list[dict[str, Any]], limit: int | None, form: Format) -> None:
    columns = ["week_ending", "ready_for", "state", "certified_at", "certified_by", "stands against it"]
    told = [
        [*(row[name] for name in columns[:-1]), "; ".join(one["message"] for one in json.loads(row["blocking_issues"]))]
        for row in rows
    ]
    if form is Format.TABLE:
        told = folded(told)
    wrapped, spare = frozenset({columns[0], columns[-1]}), frozenset({"certified_at", "certified_by"})
    listing = Listing(columns, told, wrapped=wrapped, spare=spare, empty="no week was ever captured")
    limited(listing, form, limit)


def folded(rows: list[list[Any]]) -> list[list[Any]]:
    """Weeks of one use with the same state and the same against them in one row, which stands where its newest does."""
    from market_spine.domain.keys import WeekKey
    from market_spine.domain.spans import spans

    blocks: dict[tuple[Any, ...], list[list[Any]]] = {}
    for row in rows:
        blocks.setdefault((*row[1:3], row[-1]), []).append(row)
    told = []
    for (use_case, state, against), same in blocks.items():
        keys = [WeekKey(row[0], None) for row in same]
        weeks = (f"{first}" if first == last else f"{first} .. {last}" for first, last, _ in spans(keys))
        by = ", ".join(dict.fromkeys(row[4] for row in same if row[4])) or None
        told.append([", ".join(weeks), use_case, state, _span([row[3] for row in same if row[3]]), by, against])
    return told


def _span(moments: list[datetime]) -> datetime | str | None:
    """The moment that all are, or the days from the first to the last."""
    first, last = min(moments, default=None), max(moments, default=None)
    if first is None or last is None or first == last:
        return first
    return f"{first:%Y-%m-%d}" if first.date() == last.date() else f"{first:%Y-%m-%d} .. {last:%Y-%m-%d}"


def _tell(feed: Feed, row: Mapping[str, Any], now: datetime) -> None:
    """A verdict as people read it: status, who certified it when, the five criteria, what stands against it."""
    title = f"Data Readiness: {feed.title} / {row['week_ending']}"
    say(f"[bold]{escaped(title)}[/]")
    out().rule(style="dim", characters="─")
    status = "[bold green]READY[/]" if row["is_ready"] else "[bold red]NOT READY[/]"
    state = "" if row["is_ready"] else f" ({row['state']})"
    say(f"Status: {status} for {row['ready_for']}{state}")
    if row["is_ready"]:
        certificate = f"certificate {row['certificate_id'][:12]}"
        say(f"Certified: {cell(row['certified_at'])} by {escaped(row['certified_by'])}, {certificate}")
    say("\nCriteria:")
    for name, text in criteria(json.loads(row["facts_json"]), now).items():
        say(f"  {MARKS[bool(row[name])]} {escaped(text)}")
    if issues := json.loads(row["blocking_issues"]):
        say("\nBlocking issues:")
        for issue in issues:
            hanging("  - ", issue["message"])
            code(f"    next: {step(issue['remedy'])}")


def criteria(facts: Mapping[str, Any], now: datetime) -> dict[str, str]:
    """Each criterion in words, with its numbers."""
    from datetime import datetime

    have, wanted = facts["partitions"]
    made, needed = facts["captures"]
    age = "nothing was captured"
    if facts["captured_at"]:
        hours = (now - datetime.fromisoformat(facts["captured_at"])).total_seconds() / 3600
        threshold = facts["preliminary_hours"]
        shown = round(hours, 1)
        if shown == threshold != hours:  # 47.97 hours beside a cross are not 48.0
            shown += 0.1 if hours > threshold else -0.1
        age = f"{shown:,.1f} hours > {threshold} hour threshold"
    return {
        "all_partitions_present": f"All partitions present ({have}/{wanted} tiers)",
        "all_stages_complete": f"All stages complete ({', '.join(facts['stages'])}: {made}/{needed} captures)",
        "no_critical_anomalies": f"No CRITICAL anomalies ({facts['critical']} open)",
        "dependencies_current": f"Dependencies current ({facts['stale']} stale captures)",
        "age_exceeds_preliminary": f"Age exceeds preliminary ({age})",
    }
