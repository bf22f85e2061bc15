"""Policies: what the shipped files say, what their templates mean, and that every mistake in a file is told."""

from __future__ import annotations

import hashlib
import json
from dataclasses import FrozenInstanceError, fields, replace
from datetime import date, time
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import PolicyError, WeekError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.trust import ScheduleType
from market_spine.feeds import load_feeds
from market_spine.feeds.otc import OTC
from market_spine.governance.policy import STAGES, Schedule, expand, load_schedules, load_use_cases, rows_of
from market_spine.store.trust_tables import SCHEDULES

T1, T2, OTC_TIER = Tier.NMS_TIER_1, Tier.NMS_TIER_2, Tier.OTC
SHIPPED = {
    name: files("market_spine.feeds.otc").joinpath(name).read_text() for name in ("schedules.yaml", "readiness.yaml")
}


def load(name: str, feed: Feed = OTC, path: Path | None = None) -> Any:
    return load_schedules(feed, path) if name == "schedules.yaml" else load_use_cases(feed, path)


def schedule(pipeline: str = "weekly_refresh") -> Schedule:
    (found,) = [one for one in load_schedules(OTC) if one.pipeline == pipeline]
    return found


def test_the_documents_weekly_schedule_is_shipped() -> None:
    """Prevents the documents' numbers from changing unnoticed: Monday 10:00, 24 h to the deadline, 48 h preliminary."""
    weekly = schedule()
    assert (weekly.domain, weekly.schedule_type, weekly.is_active) == (OTC.domain, ScheduleType.WEEKLY, True)
    assert weekly.partition_template == {"week_ending": "${WEEK_ENDING}", "tier": "${TIER}"}
    assert weekly.partition_values == {"TIER": (T1, T2, OTC_TIER)}
    assert (weekly.expected_delay_hours, weekly.preliminary_hours, weekly.watch_weeks) == (24, 48, 12)
    assert (weekly.expected_day_of_week, weekly.expected_time) == (0, time(10))
    assert weekly.timezone == ZoneInfo("America/New_York")
    assert weekly.publication_lag_days == {T1: 17, T2: 31, OTC_TIER: 31}
    assert "ingest_week" in weekly.description


def test_the_other_shipped_schedules() -> None:
    """Prevents a calendar that is expected by tier, or only with the last one, and a health check with partitions."""
    names = ["weekly_refresh", "recheck", "trading_calendar", "daily_health"]
    assert [one.pipeline for one in load_schedules(OTC)] == names
    calendar, health, recheck = (schedule(name) for name in ("trading_calendar", "daily_health", "recheck"))
    assert (recheck.schedule_type, recheck.expected_day_of_week, recheck.is_watched) == (ScheduleType.WEEKLY, 2, False)
    assert (calendar.domain, calendar.tiers, calendar.first_tier) == ("reference.trading_calendar", (None,), T1)
    assert calendar.publication_date(date(2025, 12, 12), None) == date(2025, 12, 29)
    assert (health.schedule_type, health.expected_time, health.tiers) == (ScheduleType.DAILY, time(9), ())


def test_the_shipped_use_cases() -> None:
    """Prevents research from waiting for tiers it does not need, and trading from being ready without them."""
    cases = load_use_cases(OTC)
    every = (T1, T2, OTC_TIER)
    assert {name: (one.tiers, one.preliminary_hours) for name, one in cases.items()} == {
        "trading": (every, 48),
        "compliance": (every, 48),
        "research": ((T1,), 24),
    }
    assert {one.stages for one in cases.values()} == {("RAW", "NORMALIZED", "CALC")}


def test_the_stages_of_readiness_are_all_stages_once() -> None:
    """Prevents a stage that no use case can ask for."""
    assert [stage for stages in STAGES.values() for stage in stages] == list(Stage)


@pytest.mark.parametrize("feed", load_feeds(), ids=lambda feed: feed.name)
def test_every_feed_declares_its_policies(feed: Feed) -> None:
    """Prevents a feed whose gaps nobody looks for, and whose weeks are never ready for anything."""
    assert {one.domain for one in load_schedules(feed) if None not in one.tiers} == {feed.domain}
    assert set(load_use_cases(feed)) == {"trading", "compliance", "research"}


def test_policies_are_frozen() -> None:
    """Prevents a run from changing what the next one expects."""
    with pytest.raises(FrozenInstanceError):
        schedule().watch_weeks = 1  # type: ignore[misc]  # the mistake under test


def test_a_path_takes_the_place_of_the_shipped_file(tmp_path: Path) -> None:
    """Prevents an operator's own policy from being ignored."""
    own = tmp_path / "own.yaml"
    own.write_text(SHIPPED["readiness.yaml"].replace("preliminary_hours: 24", "preliminary_hours: 36"))
    assert load_use_cases(OTC, own)["research"].preliminary_hours == 36
    assert load_use_cases(OTC)["research"].preliminary_hours == 24


# What is replaced in the shipped file, and what the error says. Cause and remedy are worked out by hand.
WEEKLY, RESEARCH = "schedules[weekly_refresh]", "use_cases[research]"
LAGS = "publication_lag_days: {NMS_TIER_1: 17, NMS_TIER_2: 31, OTC: 31}"
TEMPLATE = 'partition_template: {week_ending: "${WEEK_ENDING}", tier: "${TIER}"}'
VALUES = "partition_values: {TIER: [NMS_TIER_1, NMS_TIER_2, OTC]}"
HEALTH = "schedule_type: DAILY"
CALENDAR_SAYS = "description: The sessions of a week, needed as soon as its first tier is published"
ALL = SHIPPED["schedules.yaml"]
Mistake = tuple[str, str, str, str]
SCHEDULE_MISTAKES: list[Mistake] = [
    ("watch_weeks: 12", "watch: 12", f"{WEEKLY}.watch: unknown key", "known keys: domain, pipeline"),
    ("    preliminary_hours: 48\n", "", f"{WEEKLY}.preliminary_hours: missing", "add preliminary_hours"),
    ("expected_delay_hours: 24", "expected_delay_hours: -1", "-1 is negative", "0 or more hours"),
    ("preliminary_hours: 48", "preliminary_hours: -2", "-2 is negative", "0 or more hours"),
    ("preliminary_hours: 48", "preliminary_hours: 1.5", "not 1.5", "what the key asks"),
    ("preliminary_hours: 48", 'preliminary_hours: "48"', "valid integer, not '48'", "the key asks"),
    ("watch_weeks: 12", "watch_weeks: -1", f"{WEEKLY}.watch_weeks: -1 is negative", "write 0 or more"),
    ("timezone: America/New_York", "timezone: Mars/Olympus", "timezone: Mars/Olympus", "the key asks"),
    ('expected_time: "10:00"', "expected_time: 10:00", "valid time, not 600", "the key asks"),
    ('expected_time: "10:00"', 'expected_time: "25:00"', "not '25:00'", "the key asks"),
    ('expected_time: "10:00"', 'expected_time: "10:00Z"', "10:00:00+00:00 is not HH:MM", '"10:00"'),
    ('expected_time: "10:00"', 'expected_time: "10:00:30"', "10:00:30 is not HH:MM", '"10:00"'),
    ("schedule_type: WEEKLY", "schedule_type: HOURLY", "'WEEKLY', 'DAILY'", "the key asks"),
    ("domain: finra.otc_transparency", "domain: finra.otc", "'finra.otc' is unknown", OTC.domain),
    ("pipeline: daily_health", "pipeline: weekly_refresh", "weekly_refresh].pipeline: is there twice", "rename it"),
    ("pipeline: weekly_refresh", "pipeline: weekly refresh", "'weekly refresh' is not a name", "letters"),
    (CALENDAR_SAYS, 'description: " "', "schedules[trading_calendar].description: is empty", "sentence"),
    ("OTC: 31}", "OTC: 28}", "publication_lag_days.OTC: 28 is not the rule's 31", "write 31"),
    (
        LAGS,
        "publication_lag_days: {NMS_TIER_1: 17, OTC: 31}",
        "NMS_TIER_1, OTC given",
        "give NMS_TIER_1, NMS_TIER_2, OTC",
    ),
    (LAGS, "publication_lag_days: {}", "none given", "give NMS_TIER_1, NMS_TIER_2, OTC"),
    (
        "publication_lag_days: {NMS_TIER_1: 17}",
        "publication_lag_days: {}",
        "schedules[trading_calendar].publication_lag_days: none given",
        "give one",
    ),
    (LAGS, LAGS.replace("OTC", "OTCE"), "publication_lag_days.OTCE", "the key asks"),
    ("expected_day_of_week: 0", "expected_day_of_week: 2", "expected_day_of_week: 2 is not the day", "write 0"),
    (VALUES, VALUES.replace(", OTC", ", OTCE"), "partition_values.TIER.2", "the key asks"),
    (VALUES, VALUES.replace(", OTC", ", NMS_TIER_2"), "NMS_TIER_2 is there twice", "once"),
    (VALUES, "partition_values: {TIER: []}", "partition_values.TIER: is empty", "choose from"),
    (VALUES, "partition_values: {TIER: [OTC], VENUE: [OTC]}", "['TIER', 'VENUE'] has other names", "TIER only"),
    (VALUES, "partition_values: {}", "'${TIER}' and its values do not go together", "or neither"),
    (TEMPLATE, 'partition_template: {week_ending: "${WEEK_ENDING}"}', "None and its values do not", "or neither"),
    (
        TEMPLATE,
        TEMPLATE.replace("WEEK_ENDING", "MONDAY"),
        "'${MONDAY}' is not the Friday",
        "${WEEK_ENDING} or ${FRIDAY}",
    ),
    (
        TEMPLATE,
        TEMPLATE.replace("${TIER}", "${VENUE}"),
        "template.tier: '${VENUE}' is unknown",
        "FRIDAY, MONDAY, TIER, WEEK_ENDING",
    ),
    (TEMPLATE, TEMPLATE.replace("${TIER}", "${TIER"), "template.tier: '${TIER' is unknown", "FRIDAY"),
    (TEMPLATE, "partition_template: {}", "None is not the Friday", "${WEEK_ENDING}"),
    ("expected_day_of_week: 2", "expected_day_of_week: 7", "7 is no day", "write 0 (Monday) to 6"),
    ("expected_day_of_week: 2\n", f"expected_day_of_week: 2\n    {LAGS}\n", "WEEKLY schedule without", "or give the"),
    (HEALTH, f"{HEALTH}\n    {TEMPLATE}", "partition_template: means nothing in a DAILY", "make it WEEKLY"),
    (HEALTH, f"{HEALTH}\n    expected_day_of_week: 0", "expected_day_of_week: means nothing", "remove it"),
    ("    watch_weeks: 12", "    watch_weeks: 12\n    watch_weeks: 1", "watch_weeks is there twice", "keep one"),
    ("schedules:\n", "plans:\n", "schedules must be its one key", "begin with schedules:"),
    ("schedules:\n", "use_cases: []\nschedules:\n", "schedules must be its one key", "begin with"),
    ("schedules:\n", "schedules:\n  - weekly\n", "schedules[1]: ", "the key asks"),
    (ALL, "", "schedules must be its one key", "begin with"),
    (ALL, "schedules: []", "not a list of rows", "at least one row"),
    (ALL, "schedules: {a: 1}", "not a list of rows", "at least one row"),
    (ALL, "schedules: [", "it is not YAML of plain values: while parsing", "mend it"),
    (ALL, "schedules: !!python/object:os.system {}", "not YAML of plain", "mend it"),
    (ALL, "schedules: &a [*a]", "not YAML of plain values: Circular", "mend it"),
    (ALL, "schedules: [{pipeline: 2025-12-12}]", "not YAML of plain values", "mend it"),
    (ALL, "schedules: [{domain: .nan}]", "not YAML of plain values", "mend it"),
]
READINESS_MISTAKES: list[Mistake] = [
    ("name: research", "name: trading", "use_cases[trading].name: is there twice", "rename it"),
    ("tiers: [NMS_TIER_1]", "tiers: [T1]", f"{RESEARCH}.tiers.0: Input should be 'NMS_TIER_1'", "the key asks"),
    ("tiers: [NMS_TIER_1]", "tiers: NMS_TIER_1", f"{RESEARCH}.tiers: ", "the key asks"),
    ("tiers: [NMS_TIER_1]", "tiers: []", f"{RESEARCH}.tiers: is empty", "choose from NMS_TIER_1"),
    ("CALC]", "GOLD]", "use_cases[trading].stages: 'GOLD' is unknown", "choose from RAW, NORMALIZED, CALC"),
    ("CALC]", "CALC, RAW]", "use_cases[trading].stages: RAW is there twice", "name it once"),
    ("preliminary_hours: 24", "preliminary_hours: -24", f"{RESEARCH}.preliminary_hours: -24 is negative", "0 or more"),
    ("preliminary_hours: 24", "preliminary_hours: true", "integer, not True", "the key asks"),
    ("    preliminary_hours: 24\n", "", f"{RESEARCH}.preliminary_hours: missing", "add preliminary_hours"),
    (
        "tiers: [NMS_TIER_1]",
        "tiers: [NMS_TIER_1]\n    tier: OTC",
        f"{RESEARCH}.tier: unknown key",
        "known keys: name, tiers",
    ),
]
MISTAKES = [
    *(("schedules.yaml", *one) for one in SCHEDULE_MISTAKES),
    *(("readiness.yaml", *one) for one in READINESS_MISTAKES),
]


@pytest.mark.parametrize(("name", "old", "new", "cause", "remedy"), MISTAKES, ids=[one[3][:60] for one in MISTAKES])
def test_every_mistake_in_a_file_is_told(
    tmp_path: Path, name: str, old: str, new: str, cause: str, remedy: str
) -> None:
    """Prevents a typing error from switching a watch off, or from being taken for another rule, without a word."""
    assert old in SHIPPED[name]
    file = tmp_path / name
    file.write_text(SHIPPED[name].replace(old, new, 1))
    with pytest.raises(PolicyError) as caught:
        load(name, path=file)
    assert caught.value.cause.startswith(f"{file}: ")
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy
    assert f"market_spine/feeds/otc/{name} explains every key" in caught.value.remedy


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "not UTF-8"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, name: str, content: bytes | None) -> None:
    """Prevents a path with a typing error from meaning "nothing is expected"."""
    file = tmp_path / name
    if content:
        file.write_bytes(content)
    with pytest.raises(PolicyError, match="it cannot be read") as caught:
        load(name, path=file)
    assert str(file) in caught.value.cause


@pytest.mark.parametrize("name", SHIPPED)
def test_a_feed_without_its_files_is_told(name: str) -> None:
    """Prevents a new feed without policies from being a feed of which nothing is expected."""
    with pytest.raises(PolicyError, match=f"market_spine/feeds/nowhere/{name}: it cannot be read"):
        load(name, replace(OTC, name="nowhere"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_tier_that_the_feed_does_not_have_is_told(name: str, tmp_path: Path) -> None:
    """Prevents waiting for ever for a tier that never comes."""
    file = tmp_path / name
    file.write_text(SHIPPED[name])
    with pytest.raises(PolicyError, match="'OTC' is unknown") as caught:
        load(name, replace(OTC, tiers=(T1, T2)), file)
    assert "choose from NMS_TIER_1, NMS_TIER_2" in caught.value.remedy


@pytest.mark.parametrize(
    ("pipeline", "week", "expected"),
    [
        (
            "weekly_refresh",
            "2025-12-12",
            [
                '{"tier": "NMS_TIER_1", "week_ending": "2025-12-12"}',
                '{"tier": "NMS_TIER_2", "week_ending": "2025-12-12"}',
                '{"tier": "OTC", "week_ending": "2025-12-12"}',
            ],
        ),
        ("trading_calendar", "2025-12-12", ['{"week_ending": "2025-12-12"}']),
        ("daily_health", "2025-12-12", []),
    ],
)
def test_a_template_gives_the_partitions_of_a_week(pipeline: str, week: str, expected: list[str]) -> None:
    """Prevents partitions that no stored partition key equals, as pipes, Mondays and dicts did."""
    found = expand(schedule(pipeline), date.fromisoformat(week))
    assert list(found.values()) == expected
    assert [key.partition_key for key in found] == expected


@pytest.mark.parametrize(
    ("week", "tier", "monday"),
    [("2025-12-12", "NMS_TIER_1", "2025-12-29"), ("2023-12-29", "NMS_TIER_1", "2024-01-16")],
)
def test_the_variables_of_a_template(week: str, tier: str, monday: str) -> None:
    """Prevents ${MONDAY} from meaning the week: it is the publication date, a Tuesday after MLK Day 2024-01-15."""
    template = {"week_ending": "${FRIDAY}", "tier": "${TIER}", "published": "on ${MONDAY}"}
    found = expand(replace(schedule(), partition_template=template), date.fromisoformat(week))
    key = WeekKey(date.fromisoformat(week), Tier(tier))
    assert json.loads(found[key]) == {"week_ending": week, "tier": tier, "published": f"on {monday}"}


def test_only_fridays_are_expanded() -> None:
    """Prevents the documents' Mondays from becoming partitions."""
    with pytest.raises(WeekError, match="is a Monday"):
        expand(schedule(), date(2025, 12, 22))


def test_rows_are_the_columns_of_the_table_in_the_order_of_the_file() -> None:
    """Prevents a key of the file from being lost on the way to core_expected_schedules."""
    rows = rows_of(load_schedules(OTC))
    assert [(row["id"], row["pipeline"]) for row in rows] == [
        (1, "weekly_refresh"),
        (2, "recheck"),
        (3, "trading_calendar"),
        (4, "daily_health"),
    ]
    assert {tuple(sorted(row)) for row in rows} == {tuple(sorted(SCHEDULES.c.keys()))}
    assert {"id"} | {one.name for one in fields(Schedule)} == set(SCHEDULES.c.keys())
    weekly = rows[0]
    assert (weekly["schedule_type"], weekly["expected_time"], weekly["timezone"], weekly["is_active"]) == (
        "WEEKLY",
        "10:00",
        "America/New_York",
        1,
    )
    assert weekly["partition_values"] == '{"TIER": ["NMS_TIER_1", "NMS_TIER_2", "OTC"]}'
    assert weekly["publication_lag_days"] == '{"NMS_TIER_1": 17, "NMS_TIER_2": 31, "OTC": 31}'


def test_the_hash_of_a_policy_is_that_of_what_it_asks_for() -> None:
    """Prevents certificates of different policies from looking alike, and a better sentence from voiding them."""
    text = (
        b'{"name": "research", "preliminary_hours": 24, "stages": ["CALC", "NORMALIZED", "RAW"],'
        b' "tiers": ["NMS_TIER_1"]}'
    )
    research = load_use_cases(OTC)["research"]
    assert research.policy_hash == hashlib.sha256(text).hexdigest()
    same: list[dict[str, Any]] = [{"description": "another sentence"}, {"stages": ("CALC", "RAW", "NORMALIZED")}]
    assert {replace(research, **change).policy_hash for change in same} == {research.policy_hash}
    others: list[dict[str, Any]] = [{"name": "x"}, {"tiers": (T2,)}, {"stages": ("RAW",)}, {"preliminary_hours": 25}]
    assert len({research.policy_hash, *(replace(research, **change).policy_hash for change in others)}) == 5
