"""Whether a store is whole and unaltered, looked at every day and kept on record: damage tells nobody by itself.

What belongs here: every check of what is stored, and the anomalies that follow. What does not: the single checks
(`store.verify`, `sources.landing`, `governance.certificates`), and mending (`rebuild`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from functools import partial
from typing import Any

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Feed, Severity
from market_spine.domain.errors import SpineError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import current_week
from market_spine.feeds import load_feeds
from market_spine.governance.anomalies import SAMPLES, Changes, Observation, again, record
from market_spine.governance.causes import DAMAGED
from market_spine.governance.certificates import verify as check_certificates
from market_spine.sources.landing import Landing
from market_spine.store import anomalies, manifest
from market_spine.store.differences import Difference
from market_spine.store.ledger import Run
from market_spine.store.manifest import Capture
from market_spine.store.store import Store
from market_spine.store.verify import CAPTURE
from market_spine.store.verify import verify as check

Row = Mapping[str, Any]
ACTOR = "verification"
STORE = "store"  # stands before the kind of damage that belongs to no partition, in the place of a table


def everything(store: Store) -> list[Difference]:
    """Whatever of a store is not as recorded: captures, control rows, landing, certificates."""
    checks: Mapping[str, Callable[[Store], Iterable[Difference]]] = {
        "control": check,
        "landing": _landed,
        "certificate": partial(check_certificates, with_journal=False),  # the first has held every row against it
    }
    return [one for kind, every in checks.items() for one in _guarded(kind, every, store)]


def _landed(store: Store) -> list[Difference]:
    landed = Landing(str(store.home.landing)).verify()
    return [Difference("landing", one.name, one.reason, one.override) for one in landed]


def _guarded(kind: str, every: Callable[[Store], Iterable[Difference]], store: Store) -> list[Difference]:
    """What cannot even be read must not hide what the other checks find."""
    try:
        return list(every(store))
    except SpineError as error:
        return [Difference(kind, error.cause, "cannot be looked through", error.remedy)]
    except (OSError, ValueError, LookupError) as error:
        detail = f"cannot be looked through: {type(error).__name__}: {error}"
        return [Difference(kind, kind, detail, "spine rebuild; if that fails too, restore it from a backup")]


def look_through(store: Store, feed: Feed, run: Run) -> Changes:
    """Put on record what of the store is damaged, and close what was and is whole again.

    A damaged capture that is in force is CRITICAL, and blocks its week; everything else is an ERROR. What belongs to no
    feed is told of ``feed``. Reads every file once and replays the journal: 0.5 ms a file and 5 ms a transaction, 6 s
    for 100 weeks that were loaded two by two.
    """
    store.control.dispose()  # connections that are open may hold pages from before the damage
    found = everything(store)
    with store.control.read() as connection:
        held = [row for row in anomalies.open_rows(connection) if row["code"] == DAMAGED]
        captures = manifest.by_ids(connection, {one.name for one in found if one.kind == CAPTURE})
    observed = {one.fingerprint: one for one in _observations(found, captures, held, feed, run)}
    whole = [one for one in map(_is_whole, held) if one.fingerprint not in observed]
    return record(store, run, [*observed.values(), *whole], ACTOR, counts_repeats=False)


def _observations(
    found: Sequence[Difference], captures: Mapping[str, Capture], held: Sequence[Row], feed: Feed, run: Run
) -> Iterator[Observation]:
    by_place: dict[tuple[str, WeekKey], list[tuple[Capture, Difference]]] = defaultdict(list)
    by_kind: dict[str, list[Difference]] = defaultdict(list)
    for one in found:
        if capture := captures.get(one.name):
            by_place[capture.table_name, capture.key].append((capture, one))
        else:
            by_kind[one.kind].append(one)
    domains = {one.domain for one in load_feeds()}
    for of_place in by_place.values():
        domain = of_place[0][0].domain
        yield _of_captures(of_place, domain if domain in domains else feed.domain)  # the calendar's are of every feed
    places = {row["table_name"]: (row["domain"], row["week_ending"]) for row in held}
    today = feed.domain, current_week(run.now)
    for kind, of_kind in by_kind.items():
        name = f"{STORE}:{kind}"
        yield _of_store(name, of_kind, *places.get(name, today))


def _of_captures(damaged: Sequence[tuple[Capture, Difference]], domain: str) -> Observation:
    """Of one table and partition; what is in force is told first."""
    capture, first = min(damaged, key=lambda pair: (not pair[0].is_current, pair[0].capture_id))
    return Observation(
        domain,
        f"{domain}.{ACTOR}",
        capture.table_name,
        Stage(capture.stage),
        capture.key,
        DAMAGED,
        Severity.CRITICAL if capture.is_current else Severity.ERROR,
        Category.CONSISTENCY,
        f"{first.detail}{_more(damaged)}",
        details={"next": first.remedy},
        affected=len(damaged),
        samples=[one.detail for _, one in damaged[:SAMPLES]],
        capture_id=capture.capture_id,
    )


def _of_store(name: str, damaged: Sequence[Difference], domain: str, week: date) -> Observation:
    """Of what no partition has: the journal, landing, control rows, certificates. Such an anomaly has the week of the
    day on which it was found."""
    first = damaged[0]
    return Observation(
        domain,
        f"{domain}.{ACTOR}",
        name,
        Stage.INGESTED,
        WeekKey(week, None),
        DAMAGED,
        Severity.ERROR,
        Category.CONSISTENCY,
        f"{first.kind} {first.name}: {first.detail}{_more(damaged)}",
        details={"next": first.remedy},
        affected=len(damaged),
        samples=[f"{one.name}: {one.detail}" for one in damaged[:SAMPLES]],
    )


def _more(damaged: Sequence[object]) -> str:
    return f"; and {len(damaged) - 1:,} more" if len(damaged) > 1 else ""


def superseded(store: Store) -> Iterator[Observation]:
    """Damage that blocked a week and is of the past by now, since another capture came: it blocks no longer."""
    with store.control.read() as connection:
        held = [row for row in anomalies.open_rows(connection) if row["code"] == DAMAGED and row["capture_id"]]
        captures = manifest.by_ids(connection, {row["capture_id"] for row in held})
    for row in held:
        capture = captures.get(row["capture_id"])
        if row["severity"] == Severity.CRITICAL and not (capture and capture.is_current):
            yield again(row, Severity.ERROR)


def _is_whole(row: Row) -> Observation:
    return replace(again(row, Severity(row["severity"])), is_open=False, message="whole and unaltered")
