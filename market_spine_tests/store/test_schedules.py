"""Tables that follow the code, heartbeats, and what is there by partition: on both databases."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.domain.captures import RevisionPolicy
from market_spine.domain.errors import StoreError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.store import dependencies, heartbeats, presence, schedules
from market_spine.store.commit import NewCapture, commit
from market_spine.store.control import Control
from market_spine.store.declared import replace_rows
from market_spine.store.ledger import Run
from market_spine.store.presence import Known
from market_spine.store.schema import CALC_DEPENDENCIES
from market_spine.store.store import Store
from market_spine.store.trust_tables import SCHEDULES
from market_spine_tests.store.builders import DERIVED, OTC, RAW, T0, WEEK, at, batch, derived, raw
from market_spine_tests.store.good_rows import GOOD

WEEKLY = GOOD["core_expected_schedules"]
HEALTH = WEEKLY | {"id": 2, "pipeline": "daily_health", "schedule_type": "DAILY", "expected_day_of_week": None}
CALENDAR = "reference_trading_calendar"


def read(store: Store) -> list[dict[str, Any]]:
    with store.control.read() as connection:
        return schedules.read(connection)


def test_schedules_are_replaced_whole_and_told_apart(store: Store) -> None:
    """Prevents a schedule that was removed from the file from being expected for ever, and needless writes."""
    assert read(store) == []
    assert schedules.replace_all(store.control, [HEALTH, WEEKLY]) is True
    assert read(store) == [WEEKLY, HEALTH]
    assert schedules.replace_all(store.control, [WEEKLY, HEALTH]) is False
    changed = HEALTH | {"expected_time": "09:30"}
    assert schedules.replace_all(store.control, [WEEKLY, changed]) is True
    assert read(store) == [WEEKLY, changed]
    assert schedules.replace_all(store.control, []) is True
    assert schedules.replace_all(store.control, []) is False
    assert read(store) == []


@pytest.mark.parametrize(
    ("table", "rows"),
    [(SCHEDULES, [WEEKLY, HEALTH]), (CALC_DEPENDENCIES, [GOOD["core_calc_dependencies"]])],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_refused_row_leaves_the_table_as_it_was(store: Store, table: Any, rows: list[dict[str, Any]]) -> None:
    """Prevents a store without expectations after one bad row: rows go and come in one transaction."""
    assert replace_rows(store.control, table, rows)
    with pytest.raises(sa.exc.IntegrityError):
        replace_rows(store.control, table, [*rows, rows[0]])
    assert replace_rows(store.control, table, rows) is False


def test_dependencies_follow_the_code_in_the_same_way(store: Store) -> None:
    """Prevents the two tables that follow the code from following it differently."""
    edge = GOOD["core_calc_dependencies"]
    assert dependencies.replace_all(store.control, [edge]) is True
    assert dependencies.replace_all(store.control, [edge]) is False


def test_a_heart_has_one_last_beat(store: Store) -> None:
    """Prevents beats from piling up, and one heart's beat from passing for another's."""

    def last(name: str) -> Any:
        with store.control.read() as connection:
            return heartbeats.last(connection, name)

    assert last("expectations") is None
    heartbeats.beat(store.control, "expectations", T0, "3 opened")
    heartbeats.beat(store.control, "other", at(1), "")
    heartbeats.beat(store.control, "expectations", at(60.5), "nothing")
    assert last("expectations") == {"name": "expectations", "beat_at": at(60.5), "detail": "nothing"}
    assert last("other") == {"name": "other", "beat_at": at(1), "detail": ""}


def test_a_heart_cannot_beat_without_a_database(empty_control: Control) -> None:
    """Prevents a look that could not be recorded from counting as one."""
    with pytest.raises(StoreError, match="core_heartbeats"):
        heartbeats.beat(empty_control, "expectations", T0, "")


def put(store: Store, *captures: NewCapture, seconds: float = 0) -> None:
    commit(store.control, store.home, batch(*captures, run=Run("r", "c", at(seconds))))


def test_presence_is_what_is_current_and_what_came_first(store: Store) -> None:
    """Prevents a restatement from making a week late, and an overwritten first delivery from being forgotten."""
    t1, week = WeekKey(WEEK, Tier.NMS_TIER_1), WeekKey(WEEK, None)
    later = WeekKey(WEEK + timedelta(weeks=1), Tier.OTC)
    first, restated = raw(), raw(seconds=100, content="b")
    put(store, first, raw(t1, 5), raw(later, 6), raw(week, 7, table_name=CALENDAR), seconds=10)
    put(store, derived([first]), seconds=20)
    put(store, restated, seconds=110)
    put(store, raw(t1, 200, "c", policy=RevisionPolicy.OVERWRITE), seconds=210)
    with store.control.read() as connection:
        current = presence.current(connection, [RAW, DERIVED, CALENDAR, "otc_nothing"])
        came_first = presence.first(connection, RAW)
        begun = presence.begun_at(connection)
    when = {name: {key: known.captured_at for key, known in found.items()} for name, found in current.items()}
    assert when == {
        RAW: {OTC: at(100), t1: at(200), later: at(6)},
        DERIVED: {OTC: at(0)},
        CALENDAR: {week: at(7)},
        "otc_nothing": {},
    }
    assert current[RAW][OTC] == Known(restated.capture_id, at(100))
    assert {key: known.captured_at for key, known in came_first.items()} == {OTC: at(0), t1: at(5), later: at(6)}
    assert came_first[OTC] == Known(first.capture_id, at(0))
    assert begun == at(10)


def test_an_empty_store_has_not_begun(store: Store) -> None:
    """Prevents an empty store from being taken for one that lost everything."""
    with store.control.read() as connection:
        assert presence.begun_at(connection) is None
        assert presence.first(connection, RAW) == {}
