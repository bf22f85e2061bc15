"""Questions to the manifest against a brute-force oracle over random histories, and what captures were made from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from market_spine.domain.captures import View
from market_spine.domain.errors import QueryError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.store.commit import commit
from market_spine.store.control import Control
from market_spine.store.manifest import Capture, Question, by_ids, captures, made_from, tables
from market_spine.store.schema import BATCHES, MANIFEST
from market_spine.store.store import Store
from market_spine_tests.store.builders import DERIVED, RAW, WEEK, at, batch, derived, raw
from market_spine_tests.store.good_rows import BATCH_ROW, MANIFEST_ROW

TABLES = ("otc_raw", "otc_venue_share")
WEEKS = [WEEK + timedelta(weeks=n) for n in range(3)]
TIERS = [*(tier.value for tier in Tier), "ALL"]


@dataclass(frozen=True)
class Held:
    """One capture of a random history."""

    table: str
    week: date
    tier: str
    revision: int
    seconds: int
    overwritten: bool = False
    current: bool = False

    @property
    def place(self) -> tuple[str, date, str]:
        return (self.table, self.week, self.tier)

    @property
    def name(self) -> str:
        return f"{self.table}:{self.week}:{self.tier}:{self.revision}:{self.overwritten}"


@st.composite
def histories(draw: st.DrawFn) -> list[Held]:
    """Captures of up to four partitions; moments tie often, and the current one is any complete one of the newest."""
    found: list[Held] = []
    places = draw(st.lists(st.tuples(*map(st.sampled_from, (TABLES, WEEKS, TIERS))), max_size=4, unique=True))
    for table, week, tier in places:
        moments = draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
        line = [
            Held(table, week, tier, number, seconds, overwritten=draw(st.booleans()) and draw(st.booleans()))
            for number, seconds in enumerate(moments, start=1)
        ]
        complete = [one for one in line if not one.overwritten]
        if complete:
            newest = max(one.seconds for one in complete)
            chosen = draw(st.sampled_from([one for one in complete if one.seconds == newest]))
            line = [Held(**(vars(one) | {"current": one is chosen})) for one in line]
        found += line
    return found


QUESTIONS = st.fixed_dictionaries(
    {
        "tables": st.lists(st.sampled_from(TABLES), unique=True).map(tuple),
        "view": st.sampled_from(View),
        "weeks": st.none() | st.lists(st.sampled_from(WEEKS), unique=True),
        "tiers": st.none() | st.lists(st.sampled_from(TIERS[:3]), unique=True),
    }
)


def expected(history: list[Held], question: Question, seconds: int) -> list[str]:
    """The answer by its definition, one partition at a time."""
    names: list[str] = []
    for place in sorted({one.place for one in history}):
        table, week, tier = place
        asked = table in question.tables and (question.weeks is None or week in question.weeks)
        if not asked or not (question.tiers is None or tier == "ALL" or tier in question.tiers):
            continue
        line = [one for one in history if one.place == place and not one.overwritten]
        known = [one for one in line if one.seconds <= seconds]
        newest = [one for one in known if one.seconds == max(each.seconds for each in known)]
        answers = {
            View.LATEST: [one for one in line if one.current],
            View.ALL_REVISIONS: line,
            View.FIRST_RELEASE: line[:1],
            View.AS_OF: [one for one in newest if one.current] or newest[-1:],
        }
        names += [one.name for one in answers[question.view]]
    return names


def store_rows(connection: sa.Connection, history: list[Held]) -> None:
    connection.execute(sa.delete(MANIFEST))
    rows = [
        MANIFEST_ROW
        | {
            "capture_id": one.name,
            "file_path": f"{one.table}/week_ending={one.week}/tier={one.tier}/{one.name}",
            "table_name": one.table,
            "week_ending": one.week,
            "tier": one.tier,
            "revision": one.revision,
            "status": "overwritten" if one.overwritten else "complete",
            "is_current": int(one.current),
            "captured_at": at(one.seconds),
        }
        for one in history
    ]
    if rows:
        connection.execute(sa.insert(MANIFEST), rows)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One control database for all examples; each replaces its manifest."""
    control = Control(f"sqlite:///{tmp_path_factory.mktemp('manifest') / 'control.db'}")
    control.ensure()
    with control.write() as connection:
        connection.execute(sa.insert(BATCHES), BATCH_ROW)
    yield control
    control.dispose()


@given(histories(), QUESTIONS, st.integers(-1, 4))
@settings(max_examples=200)
def test_every_question_is_answered_as_defined(
    shared: Control, history: list[Held], asked: dict[str, Any], seconds: int
) -> None:
    """Prevents a wrong version on ties, overwritten captures in answers, and bounds that leak or lose partitions."""
    as_of = at(seconds) if asked["view"] is View.AS_OF else None
    question = Question(as_of=as_of, **asked)
    with shared.write() as connection:
        store_rows(connection, history)
    with shared.read() as connection:
        found = [one.capture_id for one in captures(connection, question)]
    assert found == expected(history, question, seconds)


@given(histories())
@settings(max_examples=50)
def test_as_of_the_end_of_time_is_latest(shared: Control, history: list[Held]) -> None:
    """Prevents the two questions from giving two answers about one state."""
    with shared.write() as connection:
        store_rows(connection, history)
    with shared.read() as connection:
        late = captures(connection, Question(TABLES, View.AS_OF, datetime(9999, 12, 31, tzinfo=UTC)))
        assert late == captures(connection, Question(TABLES))


def put(store: Store, *new: Any) -> None:
    commit(store.control, store.home, batch(*new))


def test_as_of_includes_its_moment_to_the_microsecond(store: Store) -> None:
    """Prevents an off-by-one at the moment of capture, on texts as they sort in either database."""
    put(store, raw(seconds=0))
    put(store, raw(seconds=1, content="b"))
    for seconds, revision in [(0.999999, 1), (1, 2), (1.000001, 2)]:
        (found,) = store.select(Question((RAW,), View.AS_OF, at(seconds)))
        assert found.revision == revision
    assert store.select(Question((RAW,), View.AS_OF, at(-0.000001))) == []
    new_york = at(1).astimezone(ZoneInfo("America/New_York"))
    assert store.select(Question((RAW,), View.AS_OF, new_york))[0].revision == 2


@pytest.mark.parametrize(
    ("view", "as_of"),
    [(View.AS_OF, None), (View.LATEST, at(0)), (View.FIRST_RELEASE, at(0)), (View.AS_OF, at(0).replace(tzinfo=None))],
)
def test_questions_that_contradict_themselves_are_refused(view: View, as_of: datetime | None) -> None:
    """Prevents an as-of that is silently ignored, or taken for local time."""
    with pytest.raises(QueryError, match="as-of"):
        Question((RAW,), view, as_of)


def test_what_current_captures_were_made_from(store: Store) -> None:
    """Prevents lineage that names another capture's inputs, or the partition of the capture instead of the input's."""
    first, other = raw(), raw(WeekKey(WEEK, Tier.NMS_TIER_1))
    put(store, first, other)
    split = {"capture_id": "split", "table_name": "otc_tier_split", "file_path": "split.parquet"}
    both = replace(derived([first, other], **split), key=WeekKey(WEEK, None))
    put(store, derived([first]), both)
    put(store, raw(seconds=1, content="b"))
    current = store.select(Question((DERIVED, "otc_tier_split")))
    partitions = {one.capture_id: (RAW, WEEK, one.key.tier_text) for one in (first, other)}
    expected = {
        DERIVED: {partitions[first.capture_id]: (first.capture_id, 1)},
        "otc_tier_split": {place: (capture_id, 1) for capture_id, place in partitions.items()},
    }
    with store.control.read() as connection:
        found = made_from(connection, current)
        assert {one.table_name: found[one.capture_id] for one in current} == expected
        assert made_from(connection, current[:1]) == {current[0].capture_id: expected[current[0].table_name]}
        assert made_from(connection, store.select(Question((RAW,)))[:1]).popitem()[1] == {}
        assert made_from(connection, []) == {}


def test_ids_of_any_status_are_found(store: Store) -> None:
    """Prevents lists of more than 500 ids from being cut, and unknown ids from becoming something."""
    many = [raw(seconds=seconds) for seconds in range(3)]
    for one in many:
        put(store, one)
    wanted = [one.capture_id for one in many]
    with store.control.read() as connection:
        found = by_ids(connection, [*wanted, *(f"missing-{n}" for n in range(1200))])
        assert by_ids(connection, []) == {}
        assert tables(connection) == [RAW]
    assert sorted(found) == sorted(wanted)
    assert {type(one) for one in found.values()} == {Capture}


def test_a_capture_of_all_tiers_has_the_key_without_tier(store: Store) -> None:
    """Prevents week-partitioned tables from being taken for a tier named ALL."""
    put(store, raw(WeekKey(WEEK, None)))
    (found,) = store.select(Question((RAW,), tiers=["OTC"]))
    assert (found.tier, found.key) == ("ALL", WeekKey(WEEK, None))
