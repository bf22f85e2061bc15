"""`spine doctor`: how the newest weeks of a feed are, and the commands that help where something is wrong.

What belongs here: opening the store without touching it, and how a diagnosis looks. What does not: what is wrong
(`governance.doctor`), and what helps (`governance.remedies`).
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from market_spine.cli.door import NOT_SATISFIED
from market_spine.cli.output import HOME, STYLES, Format, FormatOption, Listing, cell, code, escaped, out, say, show
from market_spine.cli.output import step as with_home
from market_spine.domain.errors import StoreError
from market_spine.domain.keys import WeekKey

if TYPE_CHECKING:
    from datetime import date

    from market_spine.cli.state import State
    from market_spine.governance.diagnosis import Diagnosis, Open
    from market_spine.store.store import Store

GOOD, BAD, NOTED, PLAIN = "[green]✓[/]", "[red]✗[/]", "[yellow]![/]", " "
LARGEST = 3  # tables that are named with their size
COLUMNS = ("kind", "severity", "week_ending", "tier", "anomaly_id", "message", "remedy")


def doctor(
    ctx: typer.Context,
    domain: Annotated[
        str | None, typer.Argument(metavar="[DOMAIN]", help="A feed, e.g. otc; the only one there is, if unset.")
    ] = None,
    weeks: Annotated[
        int, typer.Option("--weeks", min=1, max=1000, metavar="N", help="The newest N due weeks of each tier.")
    ] = 4,
    check_schedule: Annotated[
        bool, typer.Option("--check-schedule", help="Also what the schedule expects against what ran.")
    ] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Tell what is missing, late, half-finished, out of date, wrong or uncertified, and what helps. Changes nothing.

    Exit code 0: healthy, 1: not healthy, 2: failure. JSON is one object; CSV has a row per problem.

    Example: spine doctor finra.otc_transparency --weeks 4 --check-schedule
    """
    from market_spine.assets.expected import schedule_of
    from market_spine.assets.scope import scope_of
    from market_spine.assets.tables import tables_of
    from market_spine.automation.request import feed_of
    from market_spine.cli.state import feeds
    from market_spine.governance.diagnosis import Status
    from market_spine.governance.doctor import examine
    from market_spine.settings import clock

    feed = feed_of(feeds(), domain)
    store = _open(ctx.obj)
    found = examine(store, feed, schedule_of(feed), scope_of(feed), tables_of(feed), clock(), weeks)
    found = replace(found, remedies={_pasted(one, store): mended for one, mended in found.remedies.items()})
    if form is Format.JSON:
        _write_document(found, check_schedule)
    elif form is Format.CSV:
        _write_problems(found)
    else:
        _tell(found, check_schedule)
    if found.status is not Status.HEALTHY:
        raise typer.Exit(NOT_SATISFIED)


def _open(state: State) -> Store:
    """The store as it is: not even its schema is brought up to date."""
    from market_spine.cli.state import is_there, open_store, settings_of
    from market_spine.store.control import migrations
    from market_spine.store.health import schema_version
    from market_spine.store.store import Store

    settings = settings_of(state)
    store = Store.at(settings.home, settings.control_url.get_secret_value(), settings.threads)
    if not is_there(store):
        return open_store(settings)  # which says so
    with store.control.read() as connection:
        held = schema_version(connection)
    if held != (known := migrations()[-1][0]):
        raise StoreError(
            f"the control database has schema {held or 'none'}, this code has {known}",
            f"spine --home {shlex.quote(str(store.home.root))} init  # brings it up to date, or says why it cannot",
        )
    return store


def _pasted(command: str, store: Store) -> str:
    """``command`` for this store, wherever it is pasted."""
    from market_spine.cli.state import dagster_home
    from market_spine.governance.remedies import WATCH

    if command != WATCH:
        return with_home(command)
    home = f"MARKET_SPINE_HOME={shlex.quote(str(store.home.root))} " if HOME.get() else ""
    return f"{home}DAGSTER_HOME={shlex.quote(str(dagster_home(store)))} {command}"


def _write_document(found: Diagnosis, with_schedule: bool) -> None:
    from market_spine.governance.diagnosis import document, schedule_document

    told = document(found) | ({"schedule": schedule_document(found)} if with_schedule else {})
    sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def _write_problems(found: Diagnosis) -> None:
    from market_spine.governance.diagnosis import document

    rows = [[one[name] for name in COLUMNS] for one in document(found)["problems"]]
    show(Listing(COLUMNS, rows), Format.CSV)


def _tell(found: Diagnosis, with_schedule: bool) -> None:
    say(f"[bold]Doctor: {escaped(found.feed.title)}[/]")
    say(f"[dim]the newest {_count(found.weeks, 'due week')} of each tier, as of {cell(found.checked_at)}[/]\n")
    if found.is_empty:
        _head(BAD, "Partitions", "nothing was ever loaded")
    else:
        _partitions(found)
        _arrivals(found)
        _tables(found)
        _readiness(found)
    _anomalies(found)
    _work(found)
    _sensor(found)
    _holdings(found)
    if with_schedule:
        _schedule(found)
    _close(found)


def _head(mark: str, name: str, told: str) -> None:
    """The line of a section. What wraps goes on under its text."""
    _columns([[f"{mark} [bold]{name:<11}[/]", told]], indent=0, gap=2)


def _items(lines: Iterable[str], indent: int = 4) -> None:
    """What belongs to a section, with rich markup."""
    _columns([["-", line] for line in lines], indent, gap=1)


def _columns(rows: Sequence[Sequence[str]], indent: int, gap: int) -> None:
    from rich.padding import Padding
    from rich.table import Table

    if rows:
        table = Table.grid(padding=(0, gap, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for row in rows:
            table.add_row(*row)
        out().print(Padding(table, (0, 0, 0, indent), expand=False))


def _at(key: WeekKey) -> str:
    return f"{key.week_ending} / {key.tier_text}"


def _places(keys: Iterable[WeekKey]) -> list[tuple[str, list[WeekKey]]]:
    """Partitions as people read them: consecutive weeks of the same tiers stand together."""
    from market_spine.domain.spans import spans

    listed, found = list(keys), []
    for first, last, tiers in spans(listed):
        mine = [key for key in listed if key.tier in tiers and first <= key.week_ending <= last]
        weeks = f"{first}" if first == last else f"{first} .. {last}"
        named = ", ".join(str(tier) for tier in tiers if tier)
        count = f" ({len(mine)})" if len(mine) > 1 else ""
        found.append((f"{weeks}{f' / {named}' if named else ''}{count}", mine))
    return found


def _partitions(found: Diagnosis) -> None:
    told = f"{found.found} of {len(found.expected)} are there"
    _head(BAD if found.gaps else GOOD, "Partitions", told if found.expected else "none is expected")
    by_key = {one.key: one for one in found.gaps}
    lines = []
    for place, keys in _places(by_key):
        one, others = by_key[keys[0]], len({key.week_ending for key in keys}) > 1
        lines.append(f"{place}: {'the first ' if others else ''}{one.message}{_cause(one.cause_id)}")
    _items(lines)


def _cause(number: int | None) -> str:
    return f" (follows from anomaly {number})" if number else ""


def _arrivals(found: Diagnosis) -> None:
    _head(NOTED if found.late else GOOD, "Arrivals", f"{len(found.late)} late" if found.late else "none was late")
    _items(f"{_at(one.key)}: {one.hours:.1f} hours late, at {cell(one.captured_at)}" for one in found.late)


def _tables(found: Diagnosis) -> None:
    stale = sum(found.stale.values())
    told = [_count(len(found.chains), "incomplete stage chain")] if found.chains else []
    told += [f"{_count(stale, 'capture')} out of date"] if stale else []
    _head(BAD if told else GOOD, "Tables", ", ".join(told) or "all are made, and none is out of date")
    _items(f"{_at(one.key)}: {escaped(one.message)}{_cause(one.cause_id)}" for one in found.chains)
    _items(f"{name}: {_count(number, 'capture')} out of date" for name, number in found.stale.items())


def _readiness(found: Diagnosis) -> None:
    counted = [f"{name} {weeks - found.uncertified_for(name)}/{weeks}" for name, weeks in found.judged.items() if weeks]
    told = f"certified weeks: {', '.join(counted)}" if counted else "no week is old enough to be certified"
    _head(BAD if found.uncertified else GOOD, "Readiness", told)
    use_cases: dict[tuple[date, str], list[str]] = {}
    for one in found.uncertified:
        state = "" if one.verdict.is_ready else f"{one.verdict.state}: "
        use_cases.setdefault((one.verdict.week, state + "; ".join(one.reasons)), []).append(one.verdict.use_case.name)
    weeks_of: dict[tuple[str, str], list[WeekKey]] = {}
    for (week, why), names in use_cases.items():
        weeks_of.setdefault((", ".join(names), why), []).append(WeekKey(week, None))
    _items(
        f"{place} for {names}: {escaped(why)}" for (names, why), keys in weeks_of.items() for place, _ in _places(keys)
    )


def _anomalies(found: Diagnosis) -> None:
    from market_spine.domain.contracts import Severity
    from market_spine.governance.expectations import LATE_DATA

    counts = {one: found.open_anomalies(one) for one in reversed(Severity)}
    grave = [one for one in found.anomalies if one.row["severity"] != Severity.INFO]
    told = ", ".join(f"{number} {one}" for one, number in counts.items() if number)
    asks = any(one.row["code"] != LATE_DATA for one in grave)  # what came late has come
    _head(BAD if asks else NOTED if grave else GOOD, "Anomalies", told or "none is open in these weeks")
    _items(_anomaly(one) for one in grave)
    if found.settled:
        say(f"    [dim]and {found.settled} that no longer hold: the sensor closes them[/]")
    if found.older:
        code(f"    and {found.older} in earlier weeks: {with_home('spine anomalies list')}")


def _anomaly(one: Open) -> str:
    row = one.row
    follows = f", {one.follows} more follow{'s' if one.follows == 1 else ''} from it" if one.follows else ""
    severity = f"[{STYLES[row['severity']]}]{row['severity']}[/]"
    return f"{severity} {row['week_ending']} / {row['tier']}: {escaped(row['message'])} (id {row['id']}{follows})"


def _work(found: Diagnosis) -> None:
    if not (found.open_work or found.failed_work):
        return
    told = f"{found.open_work} to be done, {len(found.failed_work)} failed"
    if found.waiting_work:
        told += f"; {len(found.waiting_work)} due, and nobody claims them"
    _head(BAD if found.failed_work or found.waiting_work else PLAIN, "Work", told)
    _items(
        f"{row['week_ending']} / {row['tier']}: {escaped(row['last_error'])} (item {row['id']},"
        f" {_count(row['attempt_count'], 'attempt')})"
        for row in found.failed_work
    )


def _sensor(found: Diagnosis) -> None:
    beat = found.heartbeat
    if beat.age is None:
        _head(PLAIN, "Sensor", "[dim]has never looked at this store: nobody watches it[/]")
        return
    told = f"looked {_ago(beat.age.total_seconds())} ago: {escaped(beat.detail)}"
    _head(BAD if beat.is_silent else GOOD, "Sensor", told)


def _ago(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size):,} {unit}s"
    return f"{int(seconds)} seconds"


def _holdings(found: Diagnosis) -> None:
    from market_spine.governance.diagnosis import BUDGET

    held = found.holdings
    total = held.total
    told = f"{_count(total.files, 'file')} of captures, {_size(total.bytes)} of {_size(BUDGET)}"
    largest = sorted(held.tables.items(), key=lambda one: -one[1].bytes)[:LARGEST]
    named = ", ".join(f"{name} {_size(one.bytes)}" for name, one in largest)
    landed = f"{_count(held.landed.deliveries, 'delivery', 'deliveries')}, {held.landed.contents:,} of them new"
    _head(PLAIN if total.bytes <= BUDGET else NOTED, "Storage", told)
    _items([*([f"largest: {named}"] if named else []), landed])
    since = f", the last one {cell(held.committed_at)}" if held.committed_at else ""
    _head(PLAIN, "Journal", f"{_count(held.batches, 'transaction')}{since}; schema {held.schema_version}")


def _size(number: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}".replace(".0 ", " ")
    return f"{number} bytes"


def _count(number: int, word: str, words: str = "") -> str:
    return f"{number:,} {word if number == 1 else words or f'{word}s'}"


def _schedule(found: Diagnosis) -> None:
    """The documents' section: what is expected, what ran, what came late, and what helps."""
    from market_spine.governance.remedies import Kind

    console = out()
    console.print()
    console.rule(style="dim", characters="━")
    say(" [bold]Schedule Compliance Check[/]")
    console.rule(style="dim", characters="━")
    say("\n[bold]Expected Schedule:[/]")
    _items(_expected(found), indent=2)
    say("\n[bold]Actual Runs:[/]")
    missing = "; ".join(place for place, _ in _places(one.key for one in found.gaps))
    there = f"{found.found}/{len(found.expected)} partitions present"
    _items([there, f"Missing: {missing}"] if missing else [there], indent=2)
    say("\n[bold]Late Arrivals:[/]")
    zone = found.schedule.timezone
    late = [
        f"{_at(one.key)}: {one.hours:.1f} hours late (arrived {one.captured_at.astimezone(zone):%a %Y-%m-%d %H:%M},"
        f" expected by {one.deadline.astimezone(zone):%a %Y-%m-%d %H:%M})"
        for one in found.late
    ]
    _items(late or ["none"], indent=2)
    say("\n[bold]Remediation:[/]")
    mine = [
        command
        for command, mended in found.remedies.items()
        if {one.kind for one in mended} <= {Kind.EMPTY, Kind.GAP, Kind.CHAIN}
    ]
    for command in mine:
        code(f"  {command}")
    if not mine:
        _items(["none"], indent=2)


def _expected(found: Diagnosis) -> list[str]:
    one = found.schedule
    tiers = [tier for tier in one.tiers if tier]
    day = DAYS[one.expected_day_of_week] if one.expected_day_of_week is not None else "day"
    whole = found.weeks * len(tiers)
    partitions = f"{_count(found.weeks, 'week')} x {_count(len(tiers), 'tier')} = {whole} partitions"
    if len(found.expected) != whole:
        partitions += f", {len(found.expected)} of them since the store began"
    lags = ", ".join(f"{tier} {days}" for tier, days in one.publication_lag_days.items())
    return [
        f"Type: {one.schedule_type} (every {day}; after a holiday the next business day)",
        f"Partitions: {partitions if one.is_watched else 'none, the schedule is switched off'}",
        f"SLA: data within {one.expected_delay_hours} hours of {day} {one.expected_time:%H:%M} {one.timezone.key}",
        f"Publication: so many days after the week's Friday: {lags}",
    ]


DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _close(found: Diagnosis) -> None:
    """What is to be done, to be pasted."""
    problems = len(found.problems)
    if not problems:
        say(f"\n[green]healthy:[/] nothing to do{' in these weeks' if found.older else ''}")
        return
    colour = "red" if found.status == "unhealthy" else "yellow"
    say(f"\n[{colour}]{found.status}:[/] {_count(problems, 'problem')}; what helps:")
    for command in found.remedies:
        code(f"  {command}")
