"""Commands for problems: which weeks and tiers stand together, and that no problem is left without a command."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.contracts import Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.spans import spans
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC as FEED
from market_spine.governance import remedies as module
from market_spine.governance.remedies import ONE_BY_ONE, Kind, Problem, remedies

DOMAIN = FEED.domain
REFRESH = f"spine run {DOMAIN}.weekly_refresh"


def problem(kind: Kind, key: str = "", number: int | None = None) -> Problem:
    return Problem(kind, Severity.WARN, "wrong", WeekKey.from_string(key) if key else None, number)


def commands(*found: Problem) -> list[str]:
    return list(remedies(found, FEED, 4))


CASES = [
    ([], []),
    (["OTC:2025-11-14"], ["--from 2025-11-14 --to 2025-11-14 --tier OTC"]),
    (["OTC:2025-11-14", "OTC:2025-11-21"], ["--from 2025-11-14 --to 2025-11-21 --tier OTC"]),
    # A hole between two weeks is not loaded: it is there.
    (
        ["OTC:2025-11-14", "OTC:2025-11-28"],
        ["--from 2025-11-14 --to 2025-11-14 --tier OTC", "--from 2025-11-28 --to 2025-11-28 --tier OTC"],
    ),
    (
        ["OTC:2025-11-14", "NMS_TIER_2:2025-11-14", "NMS_TIER_1:2025-11-28"],
        [
            "--from 2025-11-14 --to 2025-11-14 --tier NMS_TIER_2 --tier OTC",
            "--from 2025-11-28 --to 2025-11-28 --tier NMS_TIER_1",
        ],
    ),
    # The same weeks, but for one: nothing is loaded that is there.
    (
        ["OTC:2025-11-14", "OTC:2025-11-21", "NMS_TIER_2:2025-11-14"],
        [
            "--from 2025-11-14 --to 2025-11-14 --tier NMS_TIER_2",
            "--from 2025-11-14 --to 2025-11-21 --tier OTC",
        ],
    ),
    # Over the end of a year.
    (["OTC:2026-01-02", "OTC:2025-12-26"], ["--from 2025-12-26 --to 2026-01-02 --tier OTC"]),
]


@pytest.mark.parametrize(("keys", "expected"), CASES)
def test_gaps_become_few_backfills(keys: list[str], expected: list[str]) -> None:
    """Prevents a command per partition, and a range that loads weeks which are there."""
    assert commands(*(problem(Kind.GAP, key) for key in keys)) == [f"spine backfill {one}" for one in expected]


def test_half_finished_weeks_are_refreshed() -> None:
    """Prevents a range in a command that takes a single week, and a tier for tables that have none."""
    assert commands(problem(Kind.CHAIN, "OTC:2025-11-14")) == [f"{REFRESH} --week-ending 2025-11-14 --tier OTC"]
    assert commands(problem(Kind.CHAIN, "ALL:2025-11-14")) == [f"{REFRESH} --week-ending 2025-11-14"]
    several = [problem(Kind.CHAIN, f"{tier}:2025-11-{day}") for tier in ("OTC", "NMS_TIER_2") for day in (14, 21)]
    assert commands(*several) == [f"{REFRESH} -p from=2025-11-14 -p to=2025-11-21 --tier NMS_TIER_2 --tier OTC"]


def test_what_one_command_mends_stands_once_and_in_order() -> None:
    """Prevents commands in an order in which the later ones undo or miss what the earlier ones make."""
    found = [
        problem(Kind.SILENT),
        problem(Kind.UNJUDGED),
        problem(Kind.ANOMALY, "OTC:2025-11-14", 7),
        problem(Kind.STALE),
        problem(Kind.CHAIN, "OTC:2025-11-07"),
        problem(Kind.GAP, "OTC:2025-11-14"),
        problem(Kind.EMPTY),
    ]
    assert commands(*found) == [
        "spine backfill --weeks-back 4",
        "spine backfill --from 2025-11-14 --to 2025-11-14 --tier OTC",
        f"{REFRESH} --week-ending 2025-11-07 --tier OTC",
        "spine recompute --yes",
        "spine anomalies show 7",
        f"spine readiness {DOMAIN}",
        "dagster dev -m market_spine.definitions",
    ]


@pytest.mark.parametrize(("count", "expected"), [(ONE_BY_ONE, ONE_BY_ONE), (ONE_BY_ONE + 1, 1)])
def test_many_anomalies_are_listed(count: int, expected: int) -> None:
    """Prevents a screen full of commands that each show one of thirty findings."""
    found = commands(*(problem(Kind.ANOMALY, "OTC:2025-11-14", number) for number in range(count)))
    assert len(found) == expected
    assert (found == ["spine anomalies list"]) == (expected == 1)


def test_a_backfill_names_its_feed_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a printed command that is refused because it does not say which feed."""
    monkeypatch.setattr(module, "load_feeds", lambda: (FEED, FEED))
    assert commands(problem(Kind.GAP, "OTC:2025-11-14"))[0].startswith("spine backfill --feed otc --from ")
    assert commands(problem(Kind.EMPTY)) == ["spine backfill --feed otc --weeks-back 4"]


WEEKS = st.integers(0, 12).map(lambda number: date(2025, 11, 14) + timedelta(weeks=number))
KEYS = st.sets(st.builds(WeekKey, WEEKS, st.sampled_from([None, *Tier])))


@given(KEYS)
def test_spans_are_exactly_the_partitions(keys: set[WeekKey]) -> None:
    """Prevents a range that leaves a partition out, or that has one which was not asked for, or twice."""
    found = [
        WeekKey(first + timedelta(weeks=number), tier)
        for first, last, tiers in spans(keys)
        for number in range((last - first).days // 7 + 1)
        for tier in tiers
    ]
    assert sorted(found) == sorted(keys)


@given(KEYS.flatmap(lambda keys: st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from([*keys, None])))))
def test_every_problem_is_behind_exactly_one_command(found: list[tuple[Kind, WeekKey | None]]) -> None:
    """Prevents a problem that is counted and that nothing helps against."""
    needs_key = {Kind.GAP, Kind.CHAIN}
    told = {
        (kind, key): Problem(kind, Severity.WARN, "wrong", key, number)
        for number, (kind, key) in enumerate(found)
        if key or kind not in needs_key
    }
    mended = [one for group in remedies(list(told.values()), FEED, 4).values() for one in group]
    assert sorted(mended, key=str) == sorted(told.values(), key=str)
