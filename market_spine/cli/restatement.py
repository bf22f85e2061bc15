"""`spine captures impact`: what a restatement changed, for people in small tables and for programs in one list.

What belongs here: reading the question, and showing the answer. What does not: finding it (`governance.restatement`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from market_spine.cli.captures import SEE, chosen_capture
from market_spine.cli.options import OneTierOption, WeekOption, shown_tiers, week_of
from market_spine.cli.output import Format, FormatOption, Listing, cell, escaped, note, say, show
from market_spine.domain.captures import View
from market_spine.domain.errors import QueryError

if TYPE_CHECKING:
    from market_spine.domain.contracts import Feed
    from market_spine.governance.restatement import Impact, Names
    from market_spine.store.manifest import Capture
    from market_spine.store.store import Store

MOST = 10  # rows of a table on the screen; --format json and csv have all
CONSUMER = ("actor", "via", "uses", "first_used_at", "last_used_at")
SHORT = 12  # digits of a certificate's id, as in spine certificates
COLUMNS = ("kind", "name", "change", "before", "after", "delta", "amount", "week_ending", "tier", "note")


def impact(
    ctx: typer.Context,
    capture: Annotated[str, typer.Argument(metavar="TABLE|ID", help="A raw table, or the id of a raw capture.")],
    week: WeekOption = None,
    tier: OneTierOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Tell what a restatement changed: symbols, shares, measures, and which windows and certificates it reached.

    With a table, a week and a tier: the current capture against the newest one before it that has other content.

    Example: spine captures impact otc_raw --week-ending 2025-11-07 --tier OTC
    """
    from market_spine.assets.tables import derived_of
    from market_spine.cli.state import collected, control_tables, open_store, settings_of, used
    from market_spine.governance.restatement import impact as compared

    _refuse_other_tables(capture)
    store = open_store(settings_of(ctx.obj))
    collected(store)
    with control_tables(store) as engine:
        after = chosen_capture(store, engine, capture, week_of(week), shown_tiers(tier))
    feed = _feed_of(after.table_name)
    before = _before(store, after)
    found = compared(store, feed, derived_of(feed), before, after)
    used(store, [before, after], after.table_name, View.ALL_REVISIONS, form)
    if form is Format.TABLE:
        _tell(found)
    else:
        show(Listing(COLUMNS, list(_rows(found))), form)


def _refuse_other_tables(name: str) -> None:
    """A table that is not raw is refused before its week and tier are asked for."""
    from market_spine.assets.names import captured, known

    if name.lower() in known():
        _feed_of(captured(name)[0].sql_name)


def _feed_of(table_name: str) -> Feed:
    """The feed whose raw table ``table_name`` is."""
    from market_spine.cli.state import feeds

    raw = {feed.sql_name("raw"): feed for feed in feeds()}
    if table_name not in raw:
        raise QueryError(
            f"{table_name} is made from what was delivered: only that is restated",
            f"name a raw table: {', '.join(raw)}; or compare captures with: spine captures diff {table_name}",
        )
    return raw[table_name]


def _before(store: Store, after: Capture) -> Capture:
    from market_spine.store.restatements import predecessor

    with store.control.read() as connection:
        before = predecessor(connection, after)
    if before is None:
        raise QueryError(
            f"{after.table_name} {after.week_ending} {after.tier}, revision {after.revision}: "
            "no capture before it has other content, so it restates nothing",
            SEE,
        )
    return before


def _tell(found: Impact) -> None:
    """The headline, and a small table for each thing that there is."""
    one = found.after
    say(f"[bold]{one.table_name} {one.week_ending} {one.tier}[/]")
    for word, side in (("before", found.before), ("after", found.after)):
        say(f"  {word:<7} revision {side.revision}, captured {cell(side.captured_at)}, {side.row_count:,} rows")
    say(f"\n{escaped(found.message)}\n")
    show(Listing(["total of", "before", "after", "delta"], _totals(found)))
    say(f"[dim]rows: {', '.join(f'{count:,} {word}' for word, count in found.rows.items())}[/]")
    for listing in (*_measures(found), *_reach(found)):
        if listing.rows:
            say("")
            show(listing)
    for name, why in found.not_compared.items():
        note(f"[yellow]not compared:[/] {name}: {escaped(why)}")


def _totals(found: Impact) -> list[list[Any]]:
    sizes = [("symbols", found.symbols), ("venues", found.venues)]
    counted = [[name, one.before, one.after, one.after - one.before] for name, one in sizes]
    return [*counted, *([name, one.before, one.after, one.delta] for name, one in found.totals.items())]


def _measures(found: Impact) -> Iterator[Listing]:
    """What came and went, and what that did to measures: the largest first, and of how many."""
    from market_spine.governance.restatement import HHI_MOVE

    named = [("symbols", *one) for one in _changes(found.symbols)] + [
        ("venues", *one) for one in _changes(found.venues)
    ]
    rows = [[f"{kind} {word}", len(names), _beginning(names)] for kind, word, names in named if names]
    yield Listing(["change", "count", "names"], rows, "What came, went and changed", frozenset({"names"}))
    before, after = found.leader
    leaders = [[word, one.mpid, one.share] for word, one in (("before", before), ("after", after)) if one]
    yield Listing(["", "leading venue", "share of the tier"], leaders, "Leading venue of the tier")
    moves = [[one.symbol, one.before, one.after, one.delta] for one in found.moved[:MOST]]
    title = f"Symbols whose HHI moved by more than {HHI_MOVE}{_of(moves, found.moved)}"
    yield Listing(["symbol", "before", "after", "delta"], moves, title)
    others = [[one.symbol, one.before, one.after, one.shares] for one in found.new_leaders[:MOST]]
    title = f"Symbols with another leading venue{_of(others, found.new_leaders)}"
    yield Listing(["symbol", "before", "after", "shares now"], others, title)


def _reach(found: Impact) -> Iterator[Listing]:
    """The windows that the week is in, and the certificates that did not outlive the restatement."""
    from market_spine.cli.report import in_words

    tables = dict.fromkeys(place.table_name for place in found.windows)
    windows = [
        [table, text]
        for table in tables
        for text in in_words(
            (one.key.tier_text, one.key.week_ending) for one in found.windows if one.table_name == table
        )
    ]
    yield Listing(["table", "partitions"], windows, "Windows that the week is in", frozenset({"partitions"}))
    ended = [
        [one.week_ending, one.ready_for, one.certificate_id[:SHORT], one.superseded_at] for one in found.certificates
    ]
    yield Listing(["week", "ready for", "certificate", "superseded"], ended, "Certificates that it superseded")
    users = [[one[name] for name in CONSUMER] for one in found.consumers]
    yield Listing([*CONSUMER], users, "Who used what it superseded")


def _changes(names: Names) -> tuple[tuple[str, Sequence[str]], ...]:
    return (("added", names.added), ("removed", names.removed), ("changed", names.changed))


def _beginning(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return f"{', '.join(names[:MOST])}{more}"


def _of(shown: Sequence[Any], every: Sequence[Any]) -> str:
    return f" (first {len(shown)} of {len(every):,})" if len(shown) < len(every) else ""


def _rows(found: Impact) -> Iterator[list[Any]]:
    """Everything in one list, for programs: ``amount`` counts rows, or says the shares of a symbol."""
    one, place = found.after, {"week_ending": found.after.week_ending, "tier": found.after.tier}
    ids = {"before": found.before.capture_id, "after": one.capture_id}
    yield _row("capture", one.table_name, **ids, **place, note=found.message)
    for name, before, after, delta in _totals(found):
        yield _row("total", name, before=before, after=after, delta=delta)
    for word, count in found.rows.items():
        yield _row("rows", None, change=word, amount=count)
    for kind, names in (("symbol", found.symbols), ("venue", found.venues)):
        yield from (_row(kind, name, change=word) for word, listed in _changes(names) for name in listed)
    for user in found.consumers:
        when = {"before": user["first_used_at"], "after": user["last_used_at"], "amount": user["uses"]}
        yield _row("consumer", user["actor"], change=user["via"], **when)
    yield from _rows_of_measures(found)
    for window in found.windows:
        yield _row("window", window.table_name, week_ending=window.key.week_ending, tier=window.key.tier_text)
    for ended in found.certificates:
        when = {"change": "superseded", "after": ended.superseded_at, "week_ending": ended.week_ending}
        yield _row("certificate", ended.certificate_id, **when, note=f"{ended.ready_for}: {ended.reason}")


def _rows_of_measures(found: Impact) -> Iterator[list[Any]]:
    for moved in found.moved:
        yield _row("hhi", moved.symbol, before=moved.before, after=moved.after, delta=moved.delta)
    for other in found.new_leaders:
        yield _row("new_leader", other.symbol, before=other.before, after=other.after, amount=other.shares)
    for side, leader in zip(("before", "after"), found.leader, strict=True):
        if leader:
            yield _row("leader", leader.mpid, **{side: leader.share})
    for name, why in found.not_compared.items():
        yield _row("not_compared", name, note=why)


def _row(kind: str, name: str | None, **values: Any) -> list[Any]:
    return [kind, name, *(values.get(column) for column in COLUMNS[2:])]
