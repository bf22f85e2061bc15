"""What a restatement changed: symbols, rows, shares, measures; which windows and certificates it reached; telling it.

What belongs here: the comparison of two raw captures of one partition with all that was made from them, and the anomaly
about the newest one. What does not: comparing rows by key (`store.compare`), and what is out of date (`staleness`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from market_spine.domain.captures import VERBS, Stage
from market_spine.domain.contracts import Category, Feed, Severity
from market_spine.domain.weeks import WEEK
from market_spine.governance.anomalies import Changes, Observation, again, record
from market_spine.governance.certificates import parsed
from market_spine.governance.consumption import collect
from market_spine.governance.readiness import AUTOMATED, Scope
from market_spine.governance.staleness import Derived, Place, affected
from market_spine.store import anomalies, consumption
from market_spine.store import restatements as rows_of
from market_spine.store.compare import Comparison, compare
from market_spine.store.ledger import Run, committed_at
from market_spine.store.manifest import Capture, Question, captures
from market_spine.store.store import Store

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from sqlalchemy import Connection

RESTATED = "RESTATED"
PIPELINE = VERBS[Stage.INGESTED]
CONCENTRATION, SHARES = "symbol_hhi", "venue_share"  # the measures that are compared, by short name
HHI_MOVE = 0.05  # the documents' threshold: an index that moved by more is told
LISTED = 50  # names of each kind in an anomaly; the counts are of all
LEADERS = 10  # symbols of another leading venue in an anomaly

# Of the raw rows: every name, and in which of the two captures it is. Rows of private placements have no symbol.
SIDES = """
    SELECT {column}, bool_or(is_before), bool_or(NOT is_before)
    FROM (SELECT {column}, true AS is_before FROM raw_before UNION ALL SELECT {column}, false FROM raw_after)
    WHERE {column} <> '' GROUP BY {column} ORDER BY {column}
"""
# Rounded: 0.65125 - 0.60125 is 0.05, and as doubles a little more.
MOVED = """
    SELECT symbol, b.hhi, a.hhi FROM symbol_hhi_before b JOIN symbol_hhi_after a USING (symbol)
    WHERE round(abs(a.hhi - b.hhi), 12) > ? ORDER BY abs(a.hhi - b.hhi) DESC, symbol
"""
# A symbol without volume has no leading venue, only a first one.
OTHER_LEADER = """
    SELECT symbol, b.top_venue_mpid, a.top_venue_mpid, s.shares
    FROM symbol_hhi_before b JOIN symbol_hhi_after a USING (symbol)
    JOIN (SELECT symbol, sum(total_shares) AS shares FROM raw_after GROUP BY symbol) s USING (symbol)
    WHERE b.top_venue_mpid <> a.top_venue_mpid AND b.top_venue_share IS NOT NULL AND a.top_venue_share IS NOT NULL
    ORDER BY s.shares DESC, symbol
"""
LEADER = "SELECT mpid, venue_share FROM venue_share_{side} WHERE venue_rank = 1"


@dataclass(frozen=True, slots=True)
class Names:
    """Symbols or venues: how many before and after, and which came, went, or (symbols) have rows that changed."""

    before: int
    after: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Total:
    """A sum over all raw rows, before and after."""

    before: Decimal
    after: Decimal

    @property
    def delta(self) -> Decimal:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class Move:
    """A symbol's index of concentration (0..1) before and after."""

    symbol: str
    before: float
    after: float

    @property
    def delta(self) -> float:
        return self.after - self.before


@dataclass(frozen=True, slots=True)
class NewLeader:
    """A symbol whose leading venue is another one now, with the shares that it trades by the restatement."""

    symbol: str
    before: str
    after: str
    shares: Decimal


@dataclass(frozen=True, slots=True)
class Leader:
    """The venue with most shares of a tier, and its share of them (0..1); None where nothing was traded."""

    mpid: str
    share: float | None


@dataclass(frozen=True, slots=True)
class Superseded:
    """A certificate that rested on what was restated, and when and why it went out of force."""

    certificate_id: str
    week_ending: date
    ready_for: str
    superseded_at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Impact:
    """What the raw capture ``after`` changed against ``before``, of one partition.

    ``rows`` counts by what happened, those of a venue in a symbol as one. ``moved`` and ``new_leaders`` (the largest
    first) and ``leader`` are of measures made from both, and ``not_compared`` says of which measures there are none.
    ``windows`` are the current partitions with a window that the week is in; ``consumers`` used ``before``, or what was
    made from it: actor, via, uses, first_used_at, last_used_at.
    """

    before: Capture
    after: Capture
    symbols: Names
    venues: Names
    rows: Mapping[str, int]
    totals: Mapping[str, Total]
    moved: tuple[Move, ...]
    new_leaders: tuple[NewLeader, ...]
    leader: tuple[Leader | None, Leader | None]
    not_compared: Mapping[str, str]
    windows: tuple[Place, ...]
    certificates: tuple[Superseded, ...]
    consumers: tuple[Mapping[str, Any], ...] = ()

    @property
    def touched_rows(self) -> int:
        """How many rows came, went or changed."""
        return sum(count for word, count in self.rows.items() if word != "unchanged")

    @property
    def message(self) -> str:
        """What happened, in a sentence for who uses the numbers."""
        if not (self.touched_rows or self.moved):
            return "FINRA restated the week: names or dates only, no quantity changed"
        names, shares = self.symbols, _moved_by("shares", self.totals["total_shares"])
        came = f"{len(names.added):,} symbol{'' if len(names.added) == 1 else 's'} added"
        told = f"{came}, {len(names.removed):,} removed, {len(names.changed):,} changed; {shares}"
        if CONCENTRATION in self.not_compared:
            return f"FINRA restated the week: {told}; HHI not compared: {self.not_compared[CONCENTRATION]}"
        whose = {0: "no symbol's", 1: "1 symbol's"}.get(len(self.moved), f"{len(self.moved):,} symbols'")
        return f"FINRA restated the week: {told}; {whose} HHI moved by more than {HHI_MOVE}"

    def details(self) -> dict[str, Any]:
        """Everything, for an anomaly: long lists by their count and beginning."""
        return {
            "before": self.before.capture_id,
            "after": self.after.capture_id,
            "rows": dict(self.rows),
            "symbols": _as_details(self.symbols),
            "venues": _as_details(self.venues),
            "totals": {
                name: {"before": _plain(one.before), "after": _plain(one.after), "delta": _plain(one.delta)}
                for name, one in self.totals.items()
            },
            "hhi_moved": _cut([asdict(one) for one in self.moved]),
            "new_leaders": _cut([asdict(one) | {"shares": _plain(one.shares)} for one in self.new_leaders], LEADERS),
            "leader": [asdict(one) if one else None for one in self.leader],
            "not_compared": dict(self.not_compared),
            "windows": _cut([str(one) for one in self.windows]),
            "certificates": _cut([asdict(one) for one in self.certificates]),
            "consumers": _cut(self.consumers),
        }


def _as_details(names: Names) -> dict[str, Any]:
    lists = {word: _cut(getattr(names, word)) for word in ("added", "removed", "changed")}
    return {"before": names.before, "after": names.after, **lists}


def _cut(items: Sequence[Any], most: int = LISTED) -> dict[str, Any]:
    return {"count": len(items), "first": list(items[:most])}


def _plain(value: Decimal, form: str = "f") -> str:
    """All digits and no zeros at the end."""
    text = format(value, form)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moved_by(what: str, total: Total) -> str:
    if not total.delta:
        return f"{what} unchanged"
    number = _plain(total.delta, "+,f")
    if not total.before:
        return f"{what} {number}"
    percent = 100 * total.delta / total.before
    is_small = abs(percent) < Decimal("0.1")  # would read +0.0 %
    return f"{what} {number} (less than 0.1 %)" if is_small else f"{what} {percent:+.1f} % ({number})"


def impact(store: Store, feed: Feed, derived: Sequence[Derived], before: Capture, after: Capture) -> Impact:
    """What the raw capture ``after`` of ``feed`` changed against ``before``, an earlier one of its partition."""
    with store.control.read() as connection:
        made = {one.capture_id: rows_of.made_from(connection, one) for one in (before, after)}
        windows = _windows(connection, derived, after)
        certificates = _superseded(connection, made[before.capture_id], after)
        replaced = [one.capture_id for one in made[before.capture_id]]
        consumers = consumption.consumers(connection, replaced, committed_at(connection, after.batch_id))
    pairs, not_compared = _measures(feed, made, before, after)
    shown = {"raw": (feed.raw, (before, after))} | {
        one.calculation.name: (one.calculation.table, pairs[one.calculation.name])
        for one in derived
        if one.calculation.name in pairs
    }
    with store.engine() as engine:
        for name, (table, pair) in shown.items():
            for side, capture in zip(("before", "after"), pair, strict=True):
                store.show(engine, f"{name}_{side}", table, [capture])
        found = compare(engine, feed.raw, "raw_before", "raw_after")
        moved, new_leaders = _concentration(engine) if CONCENTRATION in pairs else ((), ())
        return Impact(
            before,
            after,
            symbols=_names(engine, "symbol", found),
            venues=_names(engine, "mpid"),
            rows=found.counts,
            totals={name: Total(*map(_decimal, sides)) for name, sides in found.totals.items()},
            moved=moved,
            new_leaders=new_leaders,
            leader=(_leader(engine, "before"), _leader(engine, "after")) if SHARES in pairs else (None, None),
            not_compared=not_compared,
            windows=windows,
            certificates=certificates,
            consumers=tuple(consumers),
        )


def _decimal(value: Any) -> Decimal:
    """A total; a capture without rows has none."""
    return Decimal(value or 0)


def _names(engine: DuckDBPyConnection, column: str, found: Comparison | None = None) -> Names:
    """The names in ``column`` of both captures; with ``found``, those among them that have other rows now."""
    rows = engine.execute(SIDES.format(column=column)).fetchall()
    both = [name for name, is_before, is_after in rows if is_before and is_after]
    added = tuple(name for name, is_before, _ in rows if not is_before)
    removed = tuple(name for name, _, is_after in rows if not is_after)
    touched = {row[1 + found.key.index(column)] for row in found.changes} if found else set()
    changed = tuple(name for name in both if name in touched)
    return Names(len(both) + len(removed), len(both) + len(added), added, removed, changed)


def _measures(
    feed: Feed, made: Mapping[str, Sequence[Capture]], before: Capture, after: Capture
) -> tuple[dict[str, tuple[Capture, Capture]], dict[str, str]]:
    """Measure -> its captures made from each of the two by one version; and of the other ones, why there are none."""
    pairs, reasons = {}, {}
    for name in (CONCENTRATION, SHARES):
        table_name = feed.sql_name(name)
        old, new = ([each for each in made[one.capture_id] if each.table_name == table_name] for one in (before, after))
        lacking = [one for one, found in ((before, old), (after, new)) if not found]
        if lacking:
            reasons[name] = f"there is no {table_name} of what was captured {lacking[0].captured_at:%Y-%m-%d %H:%M} UTC"
            continue
        newest = max(new, key=_rank)
        same = [one for one in old if one.calc_version == newest.calc_version]
        if same:
            pairs[name] = (max(same, key=_rank), newest)
        else:
            versions = f"{max(old, key=_rank).calc_version} and {newest.calc_version}"
            reasons[name] = f"{table_name} was made by versions {versions}"
    return pairs, reasons


def _rank(one: Capture) -> tuple[datetime, bool, int]:
    return (one.captured_at, one.is_current, one.revision)


def _concentration(engine: DuckDBPyConnection) -> tuple[tuple[Move, ...], tuple[NewLeader, ...]]:
    moved = engine.execute(MOVED, [HHI_MOVE]).fetchall()
    leaders = engine.execute(OTHER_LEADER).fetchall()
    return tuple(Move(*row) for row in moved), tuple(NewLeader(*row) for row in leaders)


def _leader(engine: DuckDBPyConnection, side: str) -> Leader | None:
    row = engine.execute(LEADER.format(side=side)).fetchone()
    return Leader(*row) if row else None


def _windows(connection: Connection, derived: Sequence[Derived], after: Capture) -> tuple[Place, ...]:
    """The current partitions over several weeks that follow from the week of ``after``, directly or through others."""
    names = tuple(one.table_name for one in derived)
    reach = sum(one.calculation.weeks_back for one in derived)  # no chain of windows goes on for longer
    weeks = [after.week_ending + number * WEEK for number in range(reach + 1)]
    there = [Place(one.table_name, one.key) for one in captures(connection, Question(names, weeks=weeks))]
    windows = {one.table_name for one in derived if one.calculation.weeks_back}
    follows = affected(derived, [Place(after.table_name, after.key)], there)
    return tuple(place for place in follows if place.table_name in windows)


def _superseded(connection: Connection, made: Iterable[Capture], after: Capture) -> tuple[Superseded, ...]:
    """The certificates superseded since ``after`` that rest on any of ``made``: of its week, and of later windows."""
    ids = {one.capture_id for one in made}
    found = {}
    for row in rows_of.superseded_since(connection, after):
        cited = parsed(row["document"].encode()).get("evidence", {}).get("captures", [])
        if any(one["capture_id"] in ids for one in cited):
            found[row["certificate_id"]] = Superseded(*(row[name] for name in Superseded.__dataclass_fields__))
    return tuple(found.values())


def tell_restatements(
    store: Store, run: Run, feed: Feed, scope: Scope, weeks: Collection[date] | None = None
) -> Changes:
    """Put restatements of ``weeks`` (else of all) on record, and close those whose weeks are certified again.

    Once per raw capture, when the measures made from it are the current ones; a later restatement takes its place.
    """
    with store.control.read() as connection:
        untold = rows_of.untold(connection, feed.sql_name("raw"), RESTATED, weeks)
        ready = [pair for pair in untold if _has_measures(connection, feed, pair[1])]
    if ready:
        collect(store, run)  # who used what they supersede
    observed = [_observation(feed, impact(store, feed, scope.derived, *pair)) for pair in ready]
    changes = _record(store, run, observed)
    changes.add(_record(store, run, _certified(store, feed, scope, weeks)))
    return changes


def _record(store: Store, run: Run, observed: Sequence[Observation]) -> Changes:
    return record(store, run, observed, AUTOMATED, counts_repeats=False) if observed else Changes()


def _has_measures(connection: Connection, feed: Feed, after: Capture) -> bool:
    current = {one.table_name for one in rows_of.made_from(connection, after) if one.is_current}
    return {feed.sql_name(name) for name in (CONCENTRATION, SHARES)} <= current


def _observation(feed: Feed, found: Impact) -> Observation:
    return Observation(
        feed.domain,
        f"{feed.domain}.{PIPELINE}",
        found.after.table_name,
        feed.raw.stage,
        found.after.key,
        RESTATED,
        Severity.INFO,
        Category.FRESHNESS,
        message=found.message,
        details=found.details(),
        affected=found.touched_rows,
        capture_id=found.after.capture_id,
    )


def _certified(store: Store, feed: Feed, scope: Scope, weeks: Collection[date] | None) -> list[Observation]:
    """Of every open restatement: whether each use case that covers its tier has certified the week since."""
    with store.control.read() as connection:
        held = anomalies.open_rows(connection, feed.domain)
        rows = [one for one in held if one["code"] == RESTATED and (weeks is None or one["week_ending"] in weeks)]
        certified = rows_of.certified_since(connection, [one["capture_id"] for one in rows]) if rows else {}
    found = []
    for row in rows:
        asked = sorted(name for name, one in scope.use_cases.items() if row["tier"] in one.tiers)
        if asked and certified.get(row["capture_id"], set()).issuperset(asked):
            message = f"certified again: {', '.join(asked)}"
            found.append(replace(again(row, Severity.INFO), is_open=False, message=message))
    return found
