"""Plans: which partitions have to be computed, which are up to date, and which lack input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from market_spine.domain.contracts import Calculation
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.store.commit import NewCapture, commit
from market_spine.store.plan import Input, Plan, Target, plan
from market_spine.store.store import Store
from market_spine_tests.store.builders import DOMAIN, RAW, SALES, WEEK, at, batch, raw

CALENDAR = "reference_trading_calendar"
SALES_NAME = "otc_sales"
SOURCE = Input("raw", RAW, True)
WITH_CALENDAR = (SOURCE, Input("trading_calendar", CALENDAR, False))
BY_TIER = Calculation(SALES, "1.0", ("raw",), "SELECT 1")
BY_WEEK = replace(BY_TIER, table=replace(SALES, by_tier=False))
ROLLING = replace(BY_TIER, weeks_back=2)
OTC, T1 = WeekKey(WEEK, Tier.OTC), WeekKey(WEEK, Tier.NMS_TIER_1)


def key(weeks: int, tier: Tier | None = Tier.OTC) -> WeekKey:
    return WeekKey(WEEK + timedelta(weeks=weeks), tier)


def put(store: Store, *new: NewCapture) -> None:
    commit(store.control, store.home, batch(*new))


def planned(
    store: Store,
    calculation: Calculation,
    keys: Sequence[WeekKey],
    inputs: Sequence[Input] = (SOURCE,),
    force: bool = False,
) -> Plan:
    with store.control.read() as connection:
        return plan(connection, calculation, SALES_NAME, inputs, keys, force)


def parts(found: Plan) -> tuple[list[str], list[str], list[str]]:
    return (
        [str(one.key) for one in found.targets],
        [str(one.key) for one in found.unchanged],
        [str(one) for one in found.missing],
    )


def make(store: Store, target: Target, calculation: Calculation) -> None:
    """Commit what ``target`` asks for, as the platform does."""
    version = calculation.version
    new = replace(
        raw(target.key, table_name=SALES_NAME, stage=SALES.stage, content=target.inputs_hash(version)[:8]),
        capture_id=target.capture_id(DOMAIN, calculation),
        captured_at=target.captured_at,
        calc_version=version,
        inputs=target.input_ids,
        inputs_hash=target.inputs_hash(version),
    )
    put(store, new)


def test_a_new_partition_is_a_target_with_exactly_its_inputs(store: Store) -> None:
    """Prevents another tier, week or table from entering a computation."""
    put(store, raw(OTC), raw(T1), raw(key(1)), raw(key(-1)), raw(WeekKey(WEEK, None), table_name=CALENDAR))
    found = planned(store, BY_TIER, [OTC])
    assert parts(found) == (["OTC:2025-11-14"], [], [])
    assert found.targets[0].input_ids == (raw(OTC).capture_id,)
    assert found.targets[0].captured_at == at(0)


def test_what_is_made_is_unchanged_until_an_input_moves(store: Store) -> None:
    """Prevents work that changes nothing, and a restatement that changes nothing downstream."""
    put(store, raw(OTC), raw(T1))
    for target in planned(store, BY_TIER, [OTC, T1]).targets:
        make(store, target, BY_TIER)
    assert parts(planned(store, BY_TIER, [OTC, T1])) == ([], ["OTC:2025-11-14", "NMS_TIER_1:2025-11-14"], [])
    put(store, raw(OTC, 1, "b"))
    assert parts(planned(store, BY_TIER, [OTC, T1])) == (["OTC:2025-11-14"], ["NMS_TIER_1:2025-11-14"], [])


def test_a_version_or_force_makes_it_a_target_again(store: Store) -> None:
    """Prevents a mended calculation from leaving the old answers in place."""
    put(store, raw(OTC))
    make(store, planned(store, BY_TIER, [OTC]).targets[0], BY_TIER)
    assert parts(planned(store, replace(BY_TIER, version="1.1"), [OTC]))[0] == ["OTC:2025-11-14"]
    assert parts(planned(store, BY_TIER, [OTC], force=True))[0] == ["OTC:2025-11-14"]
    assert parts(planned(store, BY_TIER, [OTC]))[1] == ["OTC:2025-11-14"]


def test_what_lacks_input_says_which(store: Store) -> None:
    """Prevents an empty answer from being made out of an input that is not there."""
    put(store, raw(OTC))
    found = planned(store, BY_TIER, [OTC, T1, key(1)])
    assert parts(found) == (["OTC:2025-11-14"], [], ["NMS_TIER_1:2025-11-14", "OTC:2025-11-21"])
    assert found.missing[key(1)] == "no current capture of otc_raw for 2025-11-21"
    both = planned(store, BY_TIER, [T1], WITH_CALENDAR).missing[T1]
    assert both == (
        "no current capture of otc_raw for 2025-11-14; no current capture of reference_trading_calendar for 2025-11-14"
    )


def test_a_calendar_is_an_input_of_every_tier(store: Store) -> None:
    """Prevents a corrected calendar from leaving any tier of its week as it was, or from touching another week."""
    weeks = [WeekKey(WEEK, None), key(1, None)]
    put(store, raw(OTC), raw(T1), raw(key(1)), *(raw(one, 3, table_name=CALENDAR) for one in weeks))
    for target in planned(store, BY_TIER, [OTC, T1, key(1)], WITH_CALENDAR).targets:
        assert (len(target.inputs), target.captured_at) == (2, at(3))
        make(store, target, BY_TIER)
    put(store, raw(weeks[0], 4, "corrected", table_name=CALENDAR))
    found = planned(store, BY_TIER, [OTC, T1, key(1)], WITH_CALENDAR)
    assert parts(found) == (["OTC:2025-11-14", "NMS_TIER_1:2025-11-14"], ["OTC:2025-11-21"], [])


def test_a_week_table_reads_all_tiers_that_are_there(store: Store) -> None:
    """Prevents the split of a week from being made of one tier, and from standing still when another arrives."""
    week = WeekKey(WEEK, None)
    put(store, raw(OTC), raw(key(1)))
    (first,) = planned(store, BY_WEEK, [week]).targets
    assert [one.tier for one in first.inputs] == ["OTC"]
    make(store, first, BY_WEEK)
    put(store, raw(T1))
    (second,) = planned(store, BY_WEEK, [week]).targets
    assert [one.tier for one in second.inputs] == ["NMS_TIER_1", "OTC"]
    assert parts(planned(store, BY_WEEK, [key(2, None)]))[2] == ["ALL:2025-11-28"]


@pytest.mark.parametrize(
    ("there", "asked", "weeks"),
    [
        ([-3, -2, -1, 0, 1], 0, [-2, -1, 0]),  # neither older nor newer weeks than the window
        ([-2, 0], 0, [-2, 0]),  # a hole in the window is allowed
        ([0], 0, [0]),
        ([-2, -1], 0, []),  # the week itself is not
        ([-1, 0, 1, 2], 2, [0, 1, 2]),
    ],
)
def test_windows(store: Store, there: list[int], asked: int, weeks: list[int]) -> None:
    """Prevents a window that is one week too long or short, or that ends before the week it is about."""
    put(store, *(raw(key(week)) for week in there))
    put(store, *(raw(key(week, Tier.NMS_TIER_2)) for week in range(-3, 3)))
    found = planned(store, ROLLING, [key(asked)])
    assert [one.key for target in found.targets for one in target.inputs] == [key(week) for week in weeks]
    assert len(found.missing) == (0 if weeks else 1)


def test_an_earlier_week_of_a_window_moves_the_later_ones(store: Store) -> None:
    """Prevents a restatement, or a week that was filled in, from leaving the windows that hold it as they were."""
    put(store, *(raw(key(week)) for week in (0, 1, 2, 3)))
    keys = [key(week) for week in range(4)]
    for target in planned(store, ROLLING, keys).targets:
        make(store, target, ROLLING)
    put(store, raw(key(0), 1, "restated"))
    assert parts(planned(store, ROLLING, keys))[0] == ["OTC:2025-11-14", "OTC:2025-11-21", "OTC:2025-11-28"]
    put(store, raw(key(-1), 2))
    assert parts(planned(store, ROLLING, [key(1)]))[0] == ["OTC:2025-11-21"]


def test_ids_depend_on_inputs_and_version_only(store: Store) -> None:
    """Prevents two computations of the same from having two names, or two different ones from sharing one."""
    put(store, raw(OTC), raw(WeekKey(WEEK, None), table_name=CALENDAR))
    (target,) = planned(store, BY_TIER, [OTC], WITH_CALENDAR).targets
    turned = Target(target.key, tuple(reversed(target.inputs)))
    fewer = Target(target.key, target.inputs[:1])
    newer = replace(BY_TIER, version="1.1")
    assert turned.capture_id(DOMAIN, BY_TIER) == target.capture_id(DOMAIN, BY_TIER)
    names = {one.capture_id(DOMAIN, version) for one in (target, fewer) for version in (BY_TIER, newer)}
    assert len(names) == 4
    assert target.capture_id(DOMAIN, BY_TIER).startswith(
        "finra.otc_transparency.sales@1.0:OTC:2025-11-14:20251215T150000Z-"
    )


def test_nothing_asked_is_nothing_planned(store: Store) -> None:
    """Prevents an empty selection from being read as all partitions."""
    put(store, raw(OTC))
    assert parts(planned(store, BY_TIER, [])) == ([], [], [])
