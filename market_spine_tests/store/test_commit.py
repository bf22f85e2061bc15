"""Committing: which capture becomes current, what a repeated write means, and that a failure leaves nothing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.domain.captures import RevisionPolicy, View
from market_spine.domain.errors import CaptureConflict, SourceError, StoreError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.store import listings
from market_spine.store.commit import Batch, Committed, NewCapture, commit
from market_spine.store.journal import read
from market_spine.store.manifest import Capture, Question, by_ids, inputs_of
from market_spine.store.schema import BATCHES, JOURNALLED, MANIFEST, REJECTS
from market_spine.store.store import Store
from market_spine_tests.store.builders import (
    DERIVED,
    OTC,
    RAW,
    RUN,
    WEEK,
    at,
    batch,
    delivery,
    derived,
    quality,
    raw,
    reject,
)


def put(store: Store, *captures: NewCapture, **more: Any) -> Committed:
    return commit(store.control, store.home, batch(*captures, **more))


def history(store: Store, table: str = RAW) -> list[tuple[int, bool, str, str]]:
    """(revision, is_current, status, last letter of the content) of every row, in the order of their moments."""
    columns = MANIFEST.c
    select = sa.select(columns.revision, columns.is_current, columns.status, columns.content_hash)
    select = select.where(columns.table_name == table).order_by(columns.captured_at, columns.revision)
    with store.control.read() as connection:
        return [(row[0], bool(row[1]), row[2], row[3].lstrip("0")) for row in connection.execute(select)]


def current(store: Store, table: str = RAW) -> list[Capture]:
    return store.select(Question((table,)))


def counts(store: Store) -> dict[str, int]:
    with store.control.read() as connection:
        return {table.name: len(connection.execute(sa.select(table)).all()) for table in JOURNALLED}


def test_the_first_capture_is_current(store: Store) -> None:
    """Prevents a column from being stored otherwise than it was handed over."""
    new = raw()
    done = put(store, new, deliveries=[delivery(new.capture_id)])
    (held,) = current(store)
    assert done == Committed(done.batch_id, (held,), ())
    assert (held.capture_id, held.key, held.revision, held.captured_at) == (new.capture_id, OTC, 1, new.captured_at)
    assert (held.file_bytes, held.computed_at, held.execution_id) == (1 << 40, RUN.now, RUN.execution_id)
    assert (held.correlation_id, held.batch_id, held.landing_id) == (RUN.correlation_id, done.batch_id, "2" * 64)


def test_restatements_supersede_and_count(store: Store) -> None:
    """Prevents a restatement from erasing the evidence of what was published before it."""
    for seconds, content in enumerate("abc"):
        put(store, raw(seconds=seconds, content=content))
    complete = "complete"
    assert history(store) == [(1, False, complete, "a"), (2, False, complete, "b"), (3, True, complete, "c")]


def test_partitions_and_tables_do_not_touch_each_other(store: Store) -> None:
    """Prevents a restatement of one tier, week or table from superseding another's."""
    others = [
        raw(WeekKey(WEEK, Tier.NMS_TIER_1)),
        raw(WeekKey(WEEK + timedelta(weeks=1), Tier.OTC)),
        raw(WeekKey(WEEK, None), table_name="reference_trading_calendar"),
    ]
    put(store, raw(), *others)
    put(store, raw(seconds=1, content="b"))
    held = current(store) + current(store, "reference_trading_calendar")
    assert sorted((str(one.key), one.revision) for one in held) == sorted(
        [("OTC:2025-11-14", 2), ("NMS_TIER_1:2025-11-14", 1), ("OTC:2025-11-21", 1), ("ALL:2025-11-14", 1)]
    )


@pytest.mark.parametrize("seconds", [0, -1, 0.5])
def test_a_raw_capture_that_is_not_newer_is_beaten(store: Store, seconds: float) -> None:
    """Prevents two captures of one second, or a clock that went back, from leaving no order between them."""
    put(store, raw(seconds=0.5))
    before = counts(store)
    with pytest.raises(CaptureConflict):
        put(store, raw(seconds=seconds, content="b"))
    assert counts(store) == before


def test_two_contents_of_one_capture_id_conflict(store: Store) -> None:
    """Prevents the second of two processes that captured in one second from passing for the first."""
    put(store, raw())
    with pytest.raises(CaptureConflict, match="exists with other content"):
        put(store, raw(content="b"))


def test_one_second_and_one_content_is_a_no_op(store: Store) -> None:
    """Prevents a repeated write of the same from becoming a revision."""
    new = raw()
    put(store, new)
    done = put(store, replace(new, file_path="another.parquet"))
    assert (done.captures, [one.file_path for one in done.already_there]) == ((), ["another.parquet"])
    assert history(store) == [(1, True, "complete", "a")]


@pytest.mark.parametrize(("follows", "conflicts"), [(None, False), ("", True), ("seen", False), ("other", True)])
def test_what_was_decided_against_a_beaten_capture_is_decided_again(
    store: Store, follows: str | None, conflicts: bool
) -> None:
    """Prevents two processes with the same bytes from making two revisions, and a merge from losing rows."""
    first = raw()
    put(store, first)
    second = raw(seconds=1, follows=first.capture_id if follows == "seen" else follows)
    if conflicts:
        with pytest.raises(CaptureConflict, match="became current meanwhile"):
            put(store, second)
    else:
        put(store, second)
    assert len(history(store)) == (1 if conflicts else 2)


def test_a_first_capture_may_follow_nothing(store: Store) -> None:
    """Prevents the check of the predecessor from refusing the first capture of a partition."""
    put(store, raw(follows=""))
    with pytest.raises(CaptureConflict):
        put(store, raw(WeekKey(WEEK, Tier.NMS_TIER_2), follows="gone"))
    assert history(store) == [(1, True, "complete", "a")]


def test_an_identical_derived_capture_is_a_no_op(store: Store) -> None:
    """Prevents two processes that compute the same from making two versions of it."""
    source = raw()
    put(store, source)
    put(store, derived([source]))
    done = put(store, derived([source]))
    assert (len(done.captures), len(done.already_there)) == (0, 1)
    assert history(store, DERIVED) == [(1, True, "complete", "d")]


def test_other_content_from_the_same_inputs_is_an_error(store: Store) -> None:
    """Prevents a calculation that depends on order, time or chance from replacing its own answer."""
    source = raw()
    put(store, source)
    put(store, derived([source]))
    with pytest.raises(StoreError, match="gave other content") as caught:
        put(store, derived([source], content="e"))
    assert not isinstance(caught.value, CaptureConflict)
    assert "not deterministic" in caught.value.remedy
    assert history(store, DERIVED) == [(1, True, "complete", "d")]


def test_a_new_version_of_a_calculation_supersedes_on_the_same_inputs(store: Store) -> None:
    """Prevents a mended calculation from being taken for a slow writer because nothing newer was captured."""
    source = raw()
    put(store, source)
    put(store, derived([source]))
    put(store, derived([source], content="e", version="1.1"))
    assert history(store, DERIVED) == [(1, False, "complete", "d"), (2, True, "complete", "e")]


def test_a_slow_writer_on_superseded_inputs_does_not_become_current(store: Store) -> None:
    """Prevents a long computation over an old capture from replacing what newer inputs gave."""
    old, new = raw(), raw(seconds=1, content="b")
    put(store, old)
    slow = derived([old], content="e")
    put(store, new)
    put(store, derived([new], content="f"))
    put(store, slow)
    assert history(store, DERIVED) == [(2, False, "complete", "e"), (1, True, "complete", "f")]


def test_a_slow_writer_of_the_same_moment_leaves_nothing(store: Store) -> None:
    """Prevents the same where another input of that second hides the difference of the moments.

    What it made was the answer at no moment, so it must not stand in the history either, where it could win a tie.
    """
    calendar = raw(WeekKey(WEEK, None), 5, table_name="reference_trading_calendar")
    old, new = raw(), raw(seconds=5, content="b")
    put(store, calendar)
    put(store, old)
    slow = derived([old, calendar], content="e")
    put(store, new)
    put(store, derived([new, calendar], content="f"))
    put(store, slow)
    assert history(store, DERIVED) == [(1, True, "complete", "f")]


def test_an_earlier_version_in_use_again_takes_its_place_back(store: Store) -> None:
    """Prevents a calculation that was rolled back from being planned for ever and never becoming current."""
    source = raw()
    put(store, source)
    first, second = derived([source]), derived([source], content="e", version="1.1")
    put(store, first)
    put(store, second)
    assert history(store, DERIVED) == [(1, False, "complete", "d"), (2, True, "complete", "e")]
    put(store, derived([source]))
    assert history(store, DERIVED) == [(1, True, "complete", "d"), (2, False, "complete", "e")]
    entries = list(read(store.home.journal, JOURNALLED))
    assert (entries[-1].superseded, entries[-1].revived) == ([second.capture_id], [first.capture_id])


def test_a_slow_writer_is_better_than_nothing(store: Store) -> None:
    """Prevents a partition from staying empty because its only computation was overtaken; staleness tells of it."""
    old = raw()
    put(store, old)
    put(store, raw(seconds=1, content="b"))
    put(store, derived([old]))
    assert history(store, DERIVED) == [(1, True, "complete", "d")]


def test_overwrite_leaves_the_history(store: Store) -> None:
    """Prevents an overwritten capture from answering any question, and its number from being counted twice."""
    put(store, raw(content="a"))
    put(store, raw(seconds=1, content="b"))
    put(store, raw(seconds=2, content="c", policy=RevisionPolicy.OVERWRITE))
    put(store, raw(seconds=3, content="e"))
    complete = "complete"
    expected = [(1, False, complete, "a"), (2, False, "overwritten", "b"), (2, False, complete, "c")]
    assert history(store) == [*expected, (3, True, complete, "e")]
    found = store.select(Question((RAW,), View.ALL_REVISIONS))
    assert [(one.revision, one.content_hash.lstrip("0")) for one in found] == [(1, "a"), (2, "c"), (3, "e")]
    assert store.select(Question((RAW,), View.AS_OF, at(1)))[0].content_hash.endswith("a")
    with store.control.read() as connection:
        listed = {row["capture_id"]: row for row in listings.captures(connection, every=True)}
        assert {one: listings.capture_row(capture) for one, capture in by_ids(connection, listed).items()} == listed
    states = [(row["revision"], row["state"]) for row in listed.values()]
    assert sorted(states) == [(1, "superseded"), (2, "overwritten"), (2, "superseded"), (3, "current")]


def test_overwriting_nothing_is_a_first_capture(store: Store) -> None:
    """Prevents an overwrite of an empty partition from failing or counting from 0."""
    put(store, raw(policy=RevisionPolicy.OVERWRITE))
    assert history(store) == [(1, True, "complete", "a")]


def test_inputs_are_recorded_once(store: Store) -> None:
    """Prevents lineage from being lost, or written again for a capture that was there already."""
    one, two = raw(), raw(WeekKey(WEEK, None), 1, table_name="reference_trading_calendar")
    put(store, one, two)
    made = derived([one, two])
    put(store, made)
    put(store, derived([one, two]))
    with store.control.read() as connection:
        found = inputs_of(connection, [made.capture_id, one.capture_id])
    assert found == {made.capture_id: tuple(sorted([one.capture_id, two.capture_id])), one.capture_id: ()}


def test_a_batch_may_hold_a_capture_and_what_is_made_from_it(store: Store) -> None:
    """Prevents the order of rows inside one transaction from breaking a foreign key."""
    source = raw()
    put(store, derived([source]), source)
    assert [len(current(store, table)) for table in (RAW, DERIVED)] == [1, 1]


def test_rejects_are_recorded_once_per_delivery(store: Store) -> None:
    """Prevents fetching a bad file every day from adding its rejects every day."""
    put(store, raw(), rejects=[reject(1), reject(2)])
    put(store, rejects=[reject(1), reject(2)])
    put(store, rejects=[reject(1, "3" * 64), reject(1, table_name=DERIVED), reject(1, tier="NMS_TIER_1")])
    with store.control.read() as connection:
        columns = (REJECTS.c.source_id, REJECTS.c.table_name, REJECTS.c.tier, REJECTS.c.line_no)
        found = sorted((row[0][0], *row[1:]) for row in connection.execute(sa.select(*columns)))
    assert found == [
        ("2", RAW, "NMS_TIER_1", 1),
        ("2", RAW, "OTC", 1),
        ("2", RAW, "OTC", 2),
        ("2", DERIVED, "OTC", 1),
        ("3", RAW, "OTC", 1),
    ]


def test_quality_rows_are_kept_of_every_batch(store: Store) -> None:
    """Prevents a later look at a partition from erasing what an earlier one saw."""
    for _ in range(2):
        put(store, quality=[quality("schema"), quality("minimum_records", is_blocking=1, severity="ERROR")])
    assert counts(store)["core_quality"] == 4


SPOILED: list[dict[str, Any]] = [
    {"quality": [quality(severity="DEBUG")]},
    {"quality": [quality(), quality()]},
    {"rejects": [reject(1), reject(-1)]},
    {"deliveries": [delivery("missing")]},
    {"deliveries": [delivery(None, "inserted")]},
]


@pytest.mark.parametrize("spoiled", SPOILED, ids=["check", "twice", "negative line", "no such capture", "no capture"])
def test_a_failure_in_the_middle_leaves_nothing(store: Store, spoiled: dict[str, Any]) -> None:
    """Prevents half a batch, a superseded flag without its successor, and a journal entry that cannot be replayed."""
    put(store, raw())
    before = counts(store)
    with pytest.raises(sa.exc.IntegrityError):
        put(store, raw(seconds=1, content="b"), **spoiled)
    assert counts(store) == before
    assert history(store) == [(1, True, "complete", "a")]
    assert [entry.seq for entry in read(store.home.journal, JOURNALLED)] == [1]
    put(store, raw(seconds=1, content="b"))
    assert [entry.seq for entry in read(store.home.journal, JOURNALLED)] == [1, 2]


@pytest.mark.parametrize(
    ("first", "second", "series"),
    [
        ("seed=7,scale=0.05,revision_hours=240", "seed=7,scale=0.05,fault=zero-volume:OTC:2025-11-14:150", None),
        (
            "seed=7,scale=0.05",
            "seed=7,scale=1.0",
            "of seed=7,scale=0.05, and the source makes those of seed=7,scale=1.0",
        ),
        ("seed=7,scale=1.0", "seed=8,scale=1.0", "of seed=7,scale=1.0, and the source makes those of seed=8,scale=1.0"),
    ],
)
def test_generated_weeks_of_two_series_never_meet(store: Store, first: str, second: str, series: str | None) -> None:
    """Prevents the default source from replacing a demo's weeks by others, as if FINRA had restated them."""
    one, two = raw(), raw(seconds=1, content="b")
    name = {"source_kind": "synthetic", "source_name": f"synthetic:{first}"}
    put(store, one, deliveries=[delivery(one.capture_id, **name)])
    before = counts(store)
    entry = {"deliveries": [delivery(two.capture_id, **name | {"source_name": f"synthetic:{second}"})]}
    if series is None:
        put(store, two, **entry)
        return
    with pytest.raises(SourceError, match=series) as error:
        put(store, two, **entry)
    assert error.value.remedy.startswith(f"export MARKET_SPINE_SOURCE=synthetic:{first} ")
    assert counts(store) == before


@pytest.mark.parametrize(
    ("first", "second", "cause"),
    [
        ("synthetic", "file", "holds generated weeks, and the source \\(file\\) has FINRA's"),
        ("file", "synthetic", "holds FINRA's weeks, and the source generates weeks"),
        ("file", "api", None),
        ("synthetic", "synthetic", None),
    ],
)
def test_generated_and_real_weeks_never_meet(store: Store, first: str, second: str, cause: str | None) -> None:
    """Prevents two loads that began at once, each into an empty store, from mixing what nobody can tell apart."""
    one, two = raw(), raw(seconds=1, content="b")
    put(store, one, deliveries=[delivery(one.capture_id, source_kind=first)])
    before = counts(store)
    entry = {"deliveries": [delivery(two.capture_id, source_kind=second)]}
    if cause is None:
        put(store, two, **entry)
        return
    with pytest.raises(SourceError, match=cause):
        put(store, two, **entry)
    assert counts(store) == before


@pytest.mark.parametrize("change", [{"inputs": ("missing",)}, {"row_count": -1}])
def test_a_capture_that_the_tables_refuse_leaves_nothing(store: Store, change: dict[str, Any]) -> None:
    """Prevents a capture from naming an input that is not on record."""
    with pytest.raises(sa.exc.IntegrityError):
        put(store, raw(**change))
    assert set(counts(store).values()) == {0}
    assert list(read(store.home.journal, JOURNALLED)) == []


def test_transactions_are_numbered_without_gaps(store: Store) -> None:
    """Prevents the journal from losing its order or its link to the batches."""
    ids = [put(store, raw(seconds=seconds)).batch_id for seconds in range(3)]
    with store.control.read() as connection:
        rows = connection.execute(sa.select(BATCHES.c.seq, BATCHES.c.batch_id).order_by(BATCHES.c.seq)).all()
    assert [tuple(row) for row in rows] == list(enumerate(ids, start=1))
    assert [(entry.seq, entry.batch_id) for entry in read(store.home.journal, JOURNALLED)] == list(enumerate(ids, 1))


def test_a_batch_of_many_partitions(store: Store) -> None:
    """Prevents lists of more than 500 ids from being cut or refused."""
    captures = [raw(WeekKey(WEEK + timedelta(weeks=week), tier)) for week in range(250) for tier in Tier]
    assert len(put(store, *captures).captures) == 750
    done = put(store, *(replace(one, file_path=f"{one.file_path}x") for one in captures))
    assert len(done.already_there) == 750
    assert len(current(store)) == 750


def test_an_empty_batch_is_a_batch(store: Store) -> None:
    """Prevents a step that found nothing from leaving no trace of having looked."""
    assert commit(store.control, store.home, Batch(RAW, RUN)).captures == ()
    assert counts(store)["core_batches"] == 1
