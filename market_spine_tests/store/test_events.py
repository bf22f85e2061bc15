"""Events of commits: which there are, what they are about, and the way back from each to the first."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.domain.captures import RevisionPolicy, Stage
from market_spine.domain.errors import CaptureConflict
from market_spine.domain.keys import WeekKey
from market_spine.domain.operations import EssentialEvent
from market_spine.domain.tiers import Tier
from market_spine.store import journal
from market_spine.store.commit import Committed, NewCapture, commit
from market_spine.store.events import CHAIN, event_id_of, event_row
from market_spine.store.ledger import transaction
from market_spine.store.publish import publish
from market_spine.store.schema import JOURNALLED
from market_spine.store.store import Store
from market_spine.store.trust_tables import EVENTS
from market_spine_tests.store.builders import OTC, RUN, T0, WEEK, at, batch, delivery, derived, file_path, raw

DOWNLOADED, INGESTED, CALCULATED = list(EssentialEvent)[:3]


def put(store: Store, *captures: NewCapture, **more: Any) -> Committed:
    return commit(store.control, store.home, batch(*captures, **more))


def told(store: Store) -> list[dict[str, Any]]:
    """Every event, in the order in which they were put in."""
    with store.control.read() as connection:
        return [dict(row) for row in connection.execute(sa.select(EVENTS)).mappings()]


def chain(store: Store, event_id: str) -> list[str]:
    """Types of events from ``event_id`` back, by the recursive query, on the control tables."""
    with store.control.read() as connection:
        rows = connection.execute(sa.text(CHAIN.format(event_id=":event_id")), {"event_id": event_id}).mappings()
        found = [dict(row) for row in rows]
    assert [row["depth"] for row in found] == list(range(len(found)))
    return [row["event_type"] for row in found]


def by_hand(event_type: str, subject: str) -> str:
    """The id, worked out apart from the code."""
    return hashlib.sha256(f"{event_type}|{subject}".encode()).hexdigest()[:32]


def test_ids_follow_from_type_and_subject() -> None:
    """Prevents a cause from being named by an id that its event does not have."""
    # printf 'FILE_DOWNLOADED|d1' | sha256sum | cut -c1-32
    assert event_id_of("FILE_DOWNLOADED", "d1") == "feae791e4f7a880471229c48e2b534eb"
    assert event_id_of(DOWNLOADED, "d1") == event_id_of("FILE_DOWNLOADED", "d1")


def test_a_row_says_what_it_is_given() -> None:
    """Prevents a column from being filled with another one's value."""
    row = event_row("T", "d", WeekKey(WEEK, None), "s", "m", {"b": 1, "a": None}, "cause", T0, "business")
    assert row == {
        "event_id": by_hand("T", "s"),
        "event_type": "T",
        "domain": "d",
        "week_ending": WEEK,
        "tier": "ALL",
        "message": "m",
        "payload_json": '{"a": null, "b": 1}',
        "correlation_id": "business",
        "causation_id": "cause",
        "occurred_at": T0,
    }


def test_a_delivery_its_capture_and_what_is_made_of_it(store: Store) -> None:
    """Prevents an event from being left out, from naming another cause, or from being told outside of its commit."""
    new = raw()
    put(store, new, deliveries=[delivery(new.capture_id, delivery_id="d1")])
    normal = derived([new])
    done = put(store, normal)
    rows = {row["event_type"]: row for row in told(store)}
    assert list(rows) == [DOWNLOADED, INGESTED, CALCULATED]
    ids = [
        by_hand(DOWNLOADED, "d1"),
        by_hand(INGESTED, new.capture_id),
        by_hand(CALCULATED, normal.capture_id),
    ]
    assert [row["event_id"] for row in rows.values()] == ids
    assert [row["causation_id"] for row in rows.values()] == [None, *ids[:2]]
    assert {row["correlation_id"] for row in rows.values()} == {RUN.correlation_id}
    assert {(row["occurred_at"], row["execution_id"]) for row in rows.values()} == {(RUN.now, RUN.execution_id)}
    assert {(row["week_ending"], row["tier"]) for row in rows.values()} == {(WEEK, "OTC")}
    assert rows[CALCULATED]["batch_id"] == done.batch_id
    assert [row["message"] for row in rows.values()] == [
        "4 lines from a file.csv: inserted",
        "otc_raw revision 1: 3 rows",
        "otc_venue_volume revision 1: 3 rows",
    ]
    assert json.loads(rows[DOWNLOADED]["payload_json"]) == {
        "action": "inserted",
        "capture_id": new.capture_id,
        "delivery_id": "d1",
        "fetched_at": "2025-12-15T15:00:00+00:00",
        "landing_id": "2" * 64,
        "line_count": 4,
        "source_kind": "file",
    }
    assert json.loads(rows[INGESTED]["payload_json"]) == {
        "calc_version": "1.0",
        "capture_id": new.capture_id,
        "content_hash": new.content_hash,
        "landing_id": "2" * 64,
        "revision": 1,
        "row_count": 3,
        "table_name": "otc_raw",
    }
    assert chain(store, ids[2]) == [CALCULATED, INGESTED, DOWNLOADED]
    assert chain(store, "no such event") == []


@pytest.mark.parametrize("action", ["blocked", "skipped"])
def test_a_delivery_that_becomes_nothing_has_landed_all_the_same(store: Store, action: str) -> None:
    """Prevents bytes that landed from being unknown to whoever follows events, and a capture from being told twice."""
    new = raw()
    put(store, new, deliveries=[delivery(new.capture_id)])
    put(store, deliveries=[delivery(new.capture_id if action == "skipped" else None, action)])
    assert sorted(row["event_type"] for row in told(store)) == [DOWNLOADED, DOWNLOADED, INGESTED]


def test_what_changes_nothing_is_not_told(store: Store) -> None:
    """Prevents an event of a capture that was there already, and one of a commit that was refused."""
    new = raw()
    put(store, new)
    before = told(store)
    assert put(store, new).already_there == (new,)
    late = raw(seconds=-5, content="b", follows="")
    with pytest.raises(CaptureConflict):
        put(store, late, deliveries=[delivery(late.capture_id)])
    assert told(store) == before


WEEK_BEFORE = WeekKey(WEEK.replace(day=7), Tier.OTC)
CALENDAR = {"domain": "reference.trading_calendar", "table_name": "reference_trading_calendar"}


@pytest.mark.parametrize(
    ("own", "before", "calendar", "newest"),
    [
        ((OTC, 9), (WEEK_BEFORE, 5), 2, "own"),
        ((OTC, 5), (WEEK_BEFORE, 9), 2, "before"),  # a restatement within the window
        ((OTC, 5), (WEEK_BEFORE, 2), 9, "calendar"),  # a correction of the calendar
        ((OTC, 5), (WEEK_BEFORE, 5), 5, "own"),  # all of one moment: the week's own data
        ((OTC, 2), (WEEK_BEFORE, 5), 5, "before"),
    ],
)
def test_the_newest_input_is_the_cause(
    store: Store, own: tuple[WeekKey, int], before: tuple[WeekKey, int], calendar: int, newest: str
) -> None:
    """Prevents the chain from leading to what had been there long before, instead of to what set it off."""
    sessions = raw(WeekKey(WEEK, None), calendar, **CALENDAR, capture_id="calendar", file_path=file_path("c", OTC))
    inputs = {"own": raw(own[0], own[1]), "before": raw(before[0], before[1]), "calendar": sessions}
    for one in sorted(inputs.values(), key=lambda one: one.captured_at):
        put(store, one)
    made = derived(list(inputs.values()))
    put(store, made)
    (row,) = [row for row in told(store) if row["event_type"] == CALCULATED]
    assert row["causation_id"] == by_hand(INGESTED, inputs[newest].capture_id)


def test_a_calculation_of_a_calculation_leads_on(store: Store) -> None:
    """Prevents a chain from ending at the first calculation."""
    new = raw()
    put(store, new, deliveries=[delivery(new.capture_id)])
    normal = derived([new])
    put(store, normal)
    share = derived([normal], "s", table_name="otc_venue_share", stage=Stage.AGGREGATED, capture_id="share")
    put(store, share)
    assert chain(store, event_id_of(CALCULATED, "share")) == [CALCULATED, CALCULATED, INGESTED, DOWNLOADED]


def test_a_merge_is_caused_by_its_delivery(store: Store) -> None:
    """Prevents a merged capture, which was also made from the one before it, from being told as a calculation."""
    first = raw()
    put(store, first, deliveries=[delivery(first.capture_id)])
    merged = raw(seconds=5, content="b", inputs=(first.capture_id,), policy=RevisionPolicy.MERGE)
    put(store, merged, deliveries=[delivery(merged.capture_id, "updated", delivery_id="second")])
    assert chain(store, event_id_of(INGESTED, merged.capture_id)) == [INGESTED, DOWNLOADED]
    assert [row["causation_id"] for row in told(store)][-1] == by_hand(DOWNLOADED, "second")


def test_events_are_in_the_journal(sqlite_store: Store) -> None:
    """Prevents a rebuild from losing them."""
    new = raw(OTC)
    put(sqlite_store, new, deliveries=[delivery(new.capture_id)])
    (entry,) = journal.read(sqlite_store.home.journal, JOURNALLED)
    assert entry.rows[EVENTS.name] == told(sqlite_store)


def test_the_published_file_has_the_chain_as_a_macro(sqlite_store: Store, tmp_path: Path) -> None:
    """Prevents people who ask the published file from having to write the recursion themselves."""
    import duckdb

    new = raw(seconds=0)
    put(sqlite_store, new, deliveries=[delivery(new.capture_id)])
    normal = derived([new])
    put(sqlite_store, normal)
    with sqlite_store.control.write() as connection:  # an older store's capture, whose event was never told
        connection.execute(sa.delete(EVENTS).where(EVENTS.c.event_type == DOWNLOADED))
    with duckdb.connect(str(publish(sqlite_store, {}, [])), read_only=True) as engine:
        asked = "SELECT depth, event_type, occurred_at FROM core_event_chain(?)"
        rows = engine.execute(asked, [by_hand(CALCULATED, normal.capture_id)]).fetchall()
    assert rows == [(0, CALCULATED, at(0)), (1, INGESTED, at(0))]


def test_whoever_else_tells_uses_the_same_form(store: Store) -> None:
    """Prevents a row of `event_row` from lacking a column that the ledger does not add."""
    row = event_row(DOWNLOADED, "d", OTC, "x", "m", {}, None, T0, RUN.correlation_id)
    with transaction(store.control, store.home, RUN, EVENTS.name) as draft:
        draft.put(EVENTS, row)
    (held,) = told(store)
    assert {name: held[name] for name in row} == row
    assert held["execution_id"] == RUN.execution_id
