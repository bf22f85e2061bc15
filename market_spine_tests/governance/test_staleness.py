"""What is out of date and what follows: reasons worked out by hand, and the laws against brute force."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_spine.assets.tables import derived_of
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED
from market_spine.governance.staleness import Derived, Part, Place, Recompute, affected, stale, to_recompute
from market_spine.store.plan import Input
from market_spine_tests.governance.ledger import CALENDAR, OTC, RAW, T1, Ledger, entry, key, places, table, week


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One control database for all tests; `ledger` empties it."""
    with Ledger.at(tmp_path_factory.mktemp("ledger")) as made:
        yield made


@pytest.fixture
def ledger(shared: Ledger) -> Ledger:
    shared.clear()
    return shared


def told(ledger: Ledger, *derived: Derived, keys: Collection[WeekKey] | None = None) -> dict[str, list[str]]:
    """Partition -> reasons, as people read them."""
    with ledger.control.read() as connection:
        found = stale(connection, derived, keys)
    return {str(Place(one.capture.table_name, one.capture.key)): list(one.reasons) for one in found}


def outstanding(ledger: Ledger, *derived: Derived) -> Recompute:
    with ledger.control.read() as connection:
        return to_recompute(connection, derived)


SUMMARY = table("summary", RAW)
SPLIT = table("split", entry(SUMMARY), by_tier=False)
ROLLING = table("rolling", entry(SUMMARY), weeks_back=2)
PER_DAY = table("per_day", entry(SUMMARY), CALENDAR)


def test_a_restated_input_is_named_with_its_revision(ledger: Ledger) -> None:
    """Prevents a derived capture from passing for up to date, and a reason that nobody can follow up."""
    ledger.arrive(RAW, key(0), key(0, T1))
    ledger.make(SUMMARY, [key(0), key(0, T1)])
    assert told(ledger, SUMMARY) == {}
    ledger.arrive(RAW, key(0))
    assert told(ledger, SUMMARY) == {"otc_summary OTC 2025-11-14": ["input otc_raw OTC 2025-11-14 is now revision 2"]}
    ledger.make(SUMMARY, [key(0), key(0, T1)])
    assert told(ledger, SUMMARY) == {}


def test_an_overwritten_input_has_the_revision_that_it_had(ledger: Ledger) -> None:
    """Prevents a reason that says nothing: the policy overwrite gives the new capture the old one's number."""
    ledger.arrive(RAW, key(0))
    ledger.make(SUMMARY, [key(0)])
    ledger.arrive(RAW, key(0), overwrites=True)
    assert told(ledger, SUMMARY) == {"otc_summary OTC 2025-11-14": ["input otc_raw OTC 2025-11-14 was overwritten"]}


def test_what_arrived_later_is_an_input_that_is_missing(ledger: Ledger) -> None:
    """Prevents windows and splits that were made too early from being taken for whole."""
    ledger.arrive(RAW, key(0))
    for one in (SUMMARY, ROLLING):
        ledger.make(one, [key(0)])
    ledger.make(SPLIT, [key(0, None)])
    assert told(ledger, SUMMARY, SPLIT, ROLLING) == {}
    ledger.arrive(RAW, key(-1), key(0, T1), key(-3))
    ledger.make(SUMMARY, [key(-1), key(0, T1), key(-3)])
    assert told(ledger, SUMMARY, SPLIT, ROLLING) == {
        "otc_split 2025-11-14": ["input otc_summary NMS_TIER_1 2025-11-14 has arrived since"],
        "otc_rolling OTC 2025-11-14": ["input otc_summary OTC 2025-11-07 has arrived since"],
    }


def test_a_corrected_calendar_reaches_every_tier_of_its_week(ledger: Ledger) -> None:
    """Prevents volume per day from standing on sessions that were corrected (F292)."""
    keys = [key(0), key(0, T1), key(1)]
    ledger.arrive(RAW, *keys)
    ledger.arrive(CALENDAR, key(0, None), key(1, None))
    for one in (SUMMARY, PER_DAY):
        ledger.make(one, keys)
    ledger.arrive(CALENDAR, key(0, None))
    why = ["input reference_trading_calendar 2025-11-14 is now revision 2"]
    assert told(ledger, SUMMARY, PER_DAY) == {
        "otc_per_day NMS_TIER_1 2025-11-14": why,
        "otc_per_day OTC 2025-11-14": why,
    }


def test_a_version_comes_first_and_inputs_beside_it(ledger: Ledger) -> None:
    """Prevents a mended calculation from leaving the old answers, or from hiding that inputs moved too."""
    ledger.arrive(RAW, key(0), key(1))
    ledger.make(SUMMARY, [key(0), key(1)])
    ledger.arrive(RAW, key(1))
    newer = table("summary", RAW, version="1.1")
    version = "made by version 1.0, the code has 1.1"
    assert told(ledger, newer) == {
        "otc_summary OTC 2025-11-14": [version],
        "otc_summary OTC 2025-11-21": [version, "input otc_raw OTC 2025-11-21 is now revision 2"],
    }


def test_what_is_gone_and_what_is_not_read_any_more(ledger: Ledger) -> None:
    """Prevents a capture without a reason where inputs went away, and a claim that they are gone where they are not."""
    ledger.arrive(RAW, *(key(number) for number in (-2, -1, 0)))
    ledger.make(SUMMARY, [key(-2), key(-1), key(0)])
    ledger.make(ROLLING, [key(0)])
    shorter = table("rolling", entry(SUMMARY), weeks_back=1)
    assert told(ledger, shorter) == {
        "otc_rolling OTC 2025-11-14": ["input otc_summary OTC 2025-10-31 is no longer read"]
    }
    ledger.lose(entry(SUMMARY), key(-1))
    gone = "input otc_summary OTC 2025-11-07 is gone"
    assert told(ledger, ROLLING) == {"otc_rolling OTC 2025-11-14": [gone]}
    other = table("rolling", RAW, weeks_back=2)
    assert told(ledger, other)["otc_rolling OTC 2025-11-14"] == [
        *(f"input otc_raw OTC {week(number)} has arrived since" for number in (-2, -1, 0)),
        *(f"input otc_summary OTC {week(number)} is no longer read" for number in (-2, -1, 0)),
    ]


def test_what_cannot_be_made_again_is_not_out_of_date(ledger: Ledger) -> None:
    """Prevents a command that never comes to an end, because it asks for what lacks its input."""
    ledger.arrive(RAW, key(0))
    ledger.make(SUMMARY, [key(0)])
    needs_more = table("summary", RAW, CALENDAR, version="2.0")
    assert told(ledger, needs_more) == {}
    ledger.arrive(CALENDAR, key(0, None))
    assert told(ledger, needs_more) == {
        "otc_summary OTC 2025-11-14": [
            "made by version 1.0, the code has 2.0",
            "input reference_trading_calendar 2025-11-14 has arrived since",
        ]
    }


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, ["otc_summary NMS_TIER_1 2025-11-14", "otc_summary OTC 2025-11-21", "otc_split 2025-11-14"]),
        ([], []),
        ([key(1, None)], ["otc_summary OTC 2025-11-21"]),
        ([key(0, None)], ["otc_summary NMS_TIER_1 2025-11-14", "otc_split 2025-11-14"]),
        ([key(0)], ["otc_split 2025-11-14"]),
        ([key(0, T1)], ["otc_summary NMS_TIER_1 2025-11-14", "otc_split 2025-11-14"]),
        ([key(2, None)], []),
    ],
)
def test_some_weeks_only(ledger: Ledger, asked: list[WeekKey] | None, found: list[str]) -> None:
    """Prevents a verdict on one week from being about another, and a table without tiers from belonging to none."""
    keys = [key(0), key(0, T1), key(1)]
    ledger.arrive(RAW, *keys)
    ledger.make(SUMMARY, keys)
    ledger.make(SPLIT, [key(0, None)])
    ledger.arrive(RAW, key(0, T1), key(1))
    bumped = replace(SPLIT, calculation=replace(SPLIT.calculation, version="1.1"))
    assert list(told(ledger, SUMMARY, bumped, keys=asked)) == found


def test_a_window_is_judged_over_weeks_that_were_not_asked_for(ledger: Ledger) -> None:
    """Prevents a window from losing its earlier weeks because only the last one was asked about."""
    keys = [key(-2), key(-1), key(0)]
    ledger.arrive(RAW, *keys)
    ledger.make(SUMMARY, keys)
    ledger.make(ROLLING, keys)
    assert told(ledger, SUMMARY, ROLLING, keys=[key(0)]) == {}
    ledger.arrive(RAW, key(-2))
    ledger.make(SUMMARY, keys)
    assert list(told(ledger, SUMMARY, ROLLING, keys=[key(0)])) == ["otc_rolling OTC 2025-11-14"]


# What follows: the whole chain of one restated week in the middle, worked out by hand.
CHAIN = (SUMMARY, SPLIT, ROLLING, table("mean", entry(ROLLING), weeks_back=1))


def load(ledger: Ledger, derived: Sequence[Derived], keys: Sequence[WeekKey]) -> None:
    ledger.arrive(RAW, *keys)
    for one in derived:
        weeks = sorted({WeekKey(each.week_ending, None) for each in keys})
        ledger.make(one, keys if one.calculation.table.by_tier else weeks)


def test_what_follows_from_a_restated_week(ledger: Ledger) -> None:
    """Prevents windows, splits or windows of windows from being forgotten, or weeks from being made for nothing."""
    keys = [key(number, tier) for number in range(-3, 6) for tier in (OTC, T1)]
    load(ledger, CHAIN, keys)
    ledger.arrive(RAW, key(0))
    found = outstanding(ledger, *CHAIN)
    assert found.partitions == {
        "otc_summary": [key(0)],
        "otc_split": [key(0, None)],
        "otc_rolling": [key(0), key(1), key(2)],
        "otc_mean": [key(0), key(1), key(2), key(3)],
    }
    by_place = {str(part.place): part for part in found.parts}
    first, window = by_place["otc_summary OTC 2025-11-14"], by_place["otc_rolling OTC 2025-11-28"]
    assert (first.is_stale, first.reasons) == (True, ("input otc_raw OTC 2025-11-14 is now revision 2",))
    assert (window.is_stale, window.reasons) == (False, ("follows from otc_summary OTC 2025-11-14",))
    assert (window.kinds, window.weeks_back) == (("follows from otc_summary",), 2)
    assert by_place["otc_mean OTC 2025-12-05"].reasons == ("follows from otc_rolling OTC 2025-11-28",)
    assert by_place["otc_mean OTC 2025-11-28"].reasons == (
        "follows from otc_rolling OTC 2025-11-21, otc_rolling OTC 2025-11-28",
    )


def test_what_is_not_there_is_not_made(ledger: Ledger) -> None:
    """Prevents a recomputation from becoming a backfill."""
    load(ledger, CHAIN, [key(0), key(1), key(2)])
    ledger.lose(entry(ROLLING), key(1))
    ledger.arrive(RAW, key(0))
    ledger.arrive(RAW, key(3))
    assert outstanding(ledger, *CHAIN).partitions == {
        "otc_summary": [key(0)],
        "otc_split": [key(0, None)],
        "otc_rolling": [key(0), key(2)],
        "otc_mean": [key(0), key(1), key(2)],
    }


def test_what_would_follow_from_a_partition_that_is_not_there(ledger: Ledger) -> None:
    """Prevents the question "what if this week arrives" from being answered with nothing."""
    held = [Place(one.table_name, key(number)) for one in (SUMMARY, ROLLING) for number in (-1, 1, 2, 3)]
    found = affected((SUMMARY, ROLLING), [Place("otc_summary", key(0))], held)
    assert list(found) == [Place("otc_rolling", key(1)), Place("otc_rolling", key(2))]


@pytest.mark.parametrize(
    ("chosen", "kept"),
    [
        ("otc_summary OTC 2025-11-14", "summary@0 split@0 rolling@0 rolling@1 rolling@2"),
        ("otc_split 2025-11-28", "summary@2 split@2 rolling@2"),
        ("otc_rolling OTC 2025-11-28", "summary@0 summary@2 split@0 split@2 rolling@0 rolling@1 rolling@2"),
        ("otc_rolling OTC 2025-11-21", "summary@0 split@0 rolling@0 rolling@1 rolling@2"),
        ("otc_summary OTC 2025-11-21", ""),
    ],
)
def test_a_part_of_it_with_what_belongs_to_it(ledger: Ledger, chosen: str, kept: str) -> None:
    """Prevents a chosen partition from being made of what is out of date, and others from being left out of date."""
    chain = (SUMMARY, SPLIT, ROLLING)
    load(ledger, chain, [key(0), key(1), key(2)])
    ledger.arrive(RAW, key(0), key(2))
    found = outstanding(ledger, *chain).around(lambda one: str(Place(one.table_name, one.key)) == chosen)
    weeks = {week(number): number for number in range(3)}
    shown = [
        f"{name.removeprefix('otc_')}@{weeks[one.week_ending]}"
        for name, keys in found.partitions.items()
        for one in keys
    ]
    assert " ".join(shown) == kept


# The laws, over random graphs of tables and random histories.
WEEKS, TIERS = range(4), (T1, OTC)


@dataclass(frozen=True)
class History:
    """Tables, and what happened: captures that arrived, tables that were made, versions that were raised."""

    tables: tuple[Derived, ...]
    events: tuple[tuple[Any, ...], ...]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Derived, ...]:
    """Two to five tables, each over some of those before it."""
    made: list[Derived] = []
    for number in range(draw(st.integers(2, 5))):
        known = [RAW, CALENDAR, *map(entry, made)]
        inputs = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3, unique=True))
        by_tier, weeks_back = draw(st.booleans()), draw(st.sampled_from([0, 0, 1, 2]))
        made.append(table(f"t{number}", *inputs, by_tier=by_tier, weeks_back=weeks_back))
    return tuple(made)


@st.composite
def histories(draw: st.DrawFn) -> History:
    tables = draw(graphs())
    some = st.lists(st.sampled_from(WEEKS), min_size=1, max_size=4, unique=True)
    arrive = st.tuples(st.just("arrive"), st.sampled_from((RAW, CALENDAR)), some, st.sampled_from(TIERS))
    make = st.tuples(st.just("make"), st.sampled_from(range(len(tables))), some)
    raised = st.tuples(st.just("raise"), st.sampled_from(range(len(tables))))
    begin = [("arrive", source, draw(some), tier) for source in (RAW, CALENDAR) for tier in TIERS]
    all_of_it = [("make", number, list(WEEKS)) for number in range(len(tables))]
    return History(tables, (*begin, *all_of_it, *draw(st.lists(st.one_of(arrive, make, raised), max_size=8))))


def keys_of(by_tier: bool, weeks: Collection[int]) -> list[WeekKey]:
    return [key(number, tier) for number in weeks for tier in (TIERS if by_tier else (None,))]


def play(ledger: Ledger, history: History) -> tuple[Derived, ...]:
    """Fill the ledger; the tables as the code has them at the end."""
    ledger.clear()
    tables = list(history.tables)
    for what, *more in history.events:
        if what == "arrive":
            source, weeks, tier = more
            ledger.arrive(source, *(key(number, tier if source.by_tier else None) for number in weeks))
        elif what == "make":
            one = tables[more[0]]
            ledger.make(one, keys_of(one.calculation.table.by_tier, more[1]))
        else:
            one = tables[more[0]]
            raised = f"{float(one.calculation.version) + 1}"
            tables[more[0]] = replace(one, calculation=replace(one.calculation, version=raised))
    return tuple(tables)


State = Mapping[Place, tuple[str, str, frozenset[str]]]


def should_be(one: Derived, at: WeekKey, state: State) -> frozenset[str] | None:
    """The ids that the partition would be made from, by the definition; None where an input of its week is missing."""
    ids: set[str] = set()
    for source in one.inputs:
        tiers: Sequence[Tier | None] = (None,)
        if source.by_tier:
            tiers = tuple(Tier) if at.tier is None else (at.tier,)
        for back in range(one.calculation.weeks_back + 1):
            friday = at.week_ending - timedelta(weeks=back)
            here = [
                state[place][0] for tier in tiers if (place := Place(source.sql_name, WeekKey(friday, tier))) in state
            ]
            if not here and back == 0:
                return None
            ids.update(here)
    return frozenset(ids)


def out_of_date(tables: Sequence[Derived], state: State) -> set[Place]:
    """By the definition, one partition at a time."""
    by_name = {one.table_name: one for one in tables}
    found = set()
    for place, (_, version, inputs) in state.items():
        if one := by_name.get(place.table_name):
            wanted = should_be(one, place.key, state)
            if wanted is not None and (version, inputs) != (one.calculation.version, wanted):
                found.add(place)
    return found


def made_again(tables: Sequence[Derived], state: State) -> set[Place]:
    """Everything that gets a new capture while what is out of date is made again until nothing is; any order."""
    now, made = dict(state), set()
    by_name = {one.table_name: one for one in tables}
    order = {one.table_name: number for number, one in enumerate(tables)}
    while old := out_of_date(tables, now):
        place = min(old, key=lambda one: (order[one.table_name], one.key))
        one = by_name[place.table_name]
        inputs = should_be(one, place.key, now)
        assert inputs is not None
        assert place not in made, "made twice: not in order"
        now[place] = (f"new {place}", one.calculation.version, inputs)
        made.add(place)
    return made


@given(histories(), st.data())
@settings(max_examples=80)
def test_the_laws(shared: Ledger, history: History, data: st.DataObject) -> None:
    """Prevents a stale capture that is not seen, one too many, and a plan that leaves or does more than it must."""
    tables = play(shared, history)
    before = shared.current()
    with shared.control.read() as connection:
        found = stale(connection, tables)
        todo = to_recompute(connection, tables)
        weeks = data.draw(st.sets(st.sampled_from(sorted({place.key.week_ending for place in before}))))
        bounded = to_recompute(connection, tables, weeks)
    assert set(bounded.parts) <= set(todo.parts), "what was not read seems to be gone"
    assert of_weeks(bounded, weeks) == of_weeks(todo, weeks)
    old = out_of_date(tables, before)
    assert set(places(one.capture for one in found)) == old
    assert all(one.reasons and one.kinds for one in found)
    assert {part.place for part in todo.parts if part.is_stale} == old
    assert {part.place for part in todo.parts} == made_again(tables, before)
    assert {part.place for part in todo.parts if not part.is_stale} <= {one.place for one in todo.parts if one.sources}

    wanted = data.draw(st.sets(st.sampled_from([*before])))
    part = todo.around(lambda one: Place(one.table_name, one.key) in wanted)
    after = made(shared, tables, part)
    left = out_of_date(tables, after)
    assert left <= old, "something is newly out of date"
    assert not left & wanted & {one.place for one in todo.parts}
    assert changed(before, after) == {one.place for one in part.parts}

    rest = outstanding(shared, *tables)
    last = made(shared, tables, rest)
    assert changed(after, last) == {one.place for one in rest.parts}
    assert out_of_date(tables, last) == set()
    assert outstanding(shared, *tables).parts == ()


def of_weeks(todo: Recompute, weeks: Collection[date]) -> list[Part]:
    return [part for part in todo.parts if part.place.key.week_ending in weeks]


def made(ledger: Ledger, tables: Sequence[Derived], todo: Recompute) -> State:
    """The state after a run over exactly the partitions of ``todo``."""
    by_name = {one.table_name: one for one in tables}
    for name, keys in todo.partitions.items():
        assert len(ledger.make(by_name[name], keys)) == len(keys), "a partition that needed nothing"
    return ledger.current()


def changed(before: State, after: State) -> set[Place]:
    return {place for place, held in after.items() if before.get(place) != held}


def three_years(ledger: Ledger) -> tuple[list[Derived], Input]:
    """156 weeks of three tiers of every table that the platform has."""
    derived = derived_of(FEED)
    fridays = [date(2023, 1, 6) + timedelta(weeks=number) for number in range(156)]
    keys = [WeekKey(friday, tier) for friday in fridays for tier in Tier]
    raw = Input("raw", FEED.sql_name("raw"), True)
    ledger.arrive(raw, *keys)
    ledger.arrive(CALENDAR, *(WeekKey(friday, None) for friday in fridays))
    for one in derived:
        ledger.make(one, keys if one.calculation.table.by_tier else [WeekKey(friday, None) for friday in fridays])
    return derived, raw


@pytest.mark.slow
def test_three_years_take_two_statements(ledger: Ledger) -> None:
    """Prevents a question per partition; benchmarks/doctor.py has the seconds."""
    derived, raw = three_years(ledger)
    bumped = [replace(one, calculation=replace(one.calculation, version="99.0")) for one in derived]
    with ledger.counted() as (connection, asked):
        assert stale(connection, derived) == []
        assert len(asked) == 1
        everything = to_recompute(connection, bumped)
        assert len(asked) == 3
    assert len(everything.parts) == sum(468 if one.calculation.table.by_tier else 156 for one in derived)
    ledger.arrive(raw, WeekKey(date(2024, 6, 7), OTC))
    found = outstanding(ledger, *derived).partitions
    widths = {one.table_name: one.calculation.weeks_back + 1 for one in derived}
    assert {name: len(keys) for name, keys in found.items()} == widths
