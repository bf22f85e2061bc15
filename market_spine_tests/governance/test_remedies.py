"""Commands for problems: which weeks and tiers stand together, and that no problem is left without a command."""

from __future__ import annotations

import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.contracts import Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.spans import spans
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC as FEED
from market_spine.governance import remedies as module
from market_spine.governance.remedies import ABSENT, NOTHING, ONE_BY_ONE, Kind, Problem, remedies, steps

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
        problem(Kind.WORK, "OTC:2025-11-07", 3),
        problem(Kind.WORK, "OTC:2025-11-14", 4),
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
        "spine work retry 3 4",
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


def row(code: str, key: str = "OTC:2025-11-14", severity: str = "WARN", **more: Any) -> dict[str, Any]:
    tier, _, week = key.partition(":")
    place = {"tier": tier, "week_ending": date.fromisoformat(week)}
    return {"id": 7, "code": code, "severity": severity, "cause_id": None, "details_json": "{}", **place, **more}


PLACE = "--week-ending 2025-11-14 --tier OTC"
LOAD = "spine backfill --from 2025-11-14 --to 2025-11-14 --tier OTC"
RESOLVE = 'spine anomalies resolve 7 --note "what was found"'
NEXT = '{"next": "set the key", "partitions": 1}'
# An anomaly, and what to do about it where every partition but OTC of 2025-10-17 and 2025-11-14 is there.
STEPS: list[tuple[dict[str, Any], list[str]]] = [
    (row("NOT_DELIVERED", severity="ERROR"), [LOAD]),
    (row("NOT_DELIVERED", severity="INFO"), [NOTHING, f"{LOAD}  # or load what is lacking"]),
    (row("MISSED_RUNS", "ALL:2025-11-14", "ERROR"), [LOAD]),
    (row("MISSED_RUNS", "ALL:2025-11-14", "ERROR", cause_id=3), ["spine anomalies show 3  # it follows from that one"]),
    (row("INCOMPLETE_TIER_SPLIT", "ALL:2025-11-14"), [LOAD]),
    (row("INCOMPLETE_WINDOW", "OTC:2025-11-21", "ERROR"), [LOAD.replace("11-14", "10-17"), LOAD]),
    (row("INCOMPLETE_WINDOW", "OTC:2025-11-28", "ERROR"), [LOAD]),  # 2025-10-17 is a week too early
    (row("INCOMPLETE_WINDOW", "NMS_TIER_1:2025-11-14", "ERROR"), [f"{REFRESH} {PLACE[:-3]}NMS_TIER_1"]),
    (row("INCOMPLETE_STAGE_CHAIN", severity="ERROR"), [f"{REFRESH} {PLACE}"]),
    (row("LATE_DATA"), ["nothing: it closes when its week is no longer watched"]),
    (row("TOO_FEW_RECORDS", severity="ERROR"), [f"{REFRESH} {PLACE} -p min_records=0  # if the delivery is whole"]),
    (
        row("TRADES_WITHOUT_SHARES", severity="CRITICAL"),
        [f"spine rejects {PLACE}", f"{LOAD}  # when the source has it corrected"],
    ),
    (row("SOURCE_UNAVAILABLE", severity="ERROR", details_json=NEXT), ["set the key", f"{REFRESH} {PLACE}"]),
    (row("RESTATED", severity="INFO"), [NOTHING, f"spine captures impact otc_raw {PLACE}  # what it changed"]),
    (row("CALENDAR_CORRECTED"), ["spine recompute --yes"]),
    (row("UNUSUAL_VENUE_COUNT"), [f"{LOAD}  # loads it again", f"{RESOLVE}  # if it is so"]),
    (row("UNKNOWN_COLUMNS"), [RESOLVE]),
    (row("VOLUME_RECONCILES", severity="CRITICAL"), ["spine verify", "spine recompute --yes"]),
]


@pytest.mark.parametrize(("anomaly", "expected"), STEPS, ids=lambda one: one["code"] if isinstance(one, dict) else "")
def test_what_to_do_about_one_anomaly(anomaly: dict[str, Any], expected: list[str]) -> None:
    """Prevents an anomaly without a next step, one that loads what is there, and what only follows being mended."""
    lacking = {WeekKey.from_string(f"OTC:2025-{day}") for day in ("10-17", "11-14")}
    weeks = [date(2025, 9, 5) + timedelta(weeks=number) for number in range(20)]
    there = {WeekKey(week, tier) for week in weeks for tier in Tier} - lacking
    assert steps(anomaly, FEED, there) == expected


def test_every_code_of_the_page_has_a_step() -> None:
    """Prevents a code that the documents know and of which `show` says nothing, and one that is in no place."""
    page = Path(module.__file__).parents[2] / "docs" / "anomalies.md"
    codes = re.findall(r"^\| `([A-Z_]+)`", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert {*codes} >= ABSENT
    for code in codes:
        for severity in Severity:
            assert all(steps(row(code, severity=severity.value, details_json=NEXT), FEED, ())), code


def test_weeks_before_the_feed_are_not_lacking() -> None:
    """Prevents advice to load what FINRA never published: the window of the first week lacks nothing."""
    first = row("INCOMPLETE_WINDOW", f"OTC:{FEED.first_week}", "INFO")
    assert steps(first, FEED, {WeekKey(FEED.first_week, Tier.OTC)})[1].startswith(f"{REFRESH} --week-ending")


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
