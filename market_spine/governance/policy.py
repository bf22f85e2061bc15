"""The declared policies of a feed: what is expected when (schedules.yaml), and what a use needs (readiness.yaml).

What belongs here: these files as frozen values, and what they cannot mean. What does not: files as such
(`policy_files`), comparing with what is there (`expectations`), and judging a week (`criteria`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, time
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from market_spine.domain import reference
from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import LAG_DAYS, publication_date
from market_spine.domain.tiers import Tier
from market_spine.domain.trust import ScheduleType
from market_spine.domain.weeks import FRIDAY, week_ending
from market_spine.governance.policy_files import PolicyFile

# The documents' words for how far a partition must have come, and the stages that each of them needs.
STAGES: Mapping[str, tuple[Stage, ...]] = {
    "RAW": (Stage.INGESTED,),
    "NORMALIZED": (Stage.NORMALIZED,),
    "CALC": (Stage.AGGREGATED, Stage.ROLLING),
}
WEEK_FORMS = ("${WEEK_ENDING}", "${FRIDAY}")
VARIABLES = {"WEEK_ENDING", "FRIDAY", "MONDAY", "TIER"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What one pipeline is expected to do, and when: a row of core_expected_schedules, as its YAML file explains it."""

    domain: str
    pipeline: str
    schedule_type: ScheduleType
    partition_template: Mapping[str, str] = field(default_factory=dict)
    partition_values: Mapping[str, tuple[Tier, ...]] = field(default_factory=dict)
    expected_delay_hours: int
    preliminary_hours: int
    description: str
    is_active: bool = True
    expected_day_of_week: int | None = None
    expected_time: time
    timezone: ZoneInfo
    publication_lag_days: Mapping[Tier, int] = field(default_factory=dict)
    watch_weeks: int

    @property
    def name(self) -> str:
        return self.pipeline

    @property
    def tiers(self) -> tuple[Tier | None, ...]:
        """The tiers of a week that are expected; (None,) for tables without tiers, () where no partitions are."""
        return self.partition_values.get("TIER", (None,)) if self.partition_template else ()

    @property
    def is_watched(self) -> bool:
        """Whether its partitions are compared with what is there."""
        return self.is_active and bool(self.tiers) and self.watch_weeks > 0

    @property
    def first_tier(self) -> Tier:
        """The tier that is published first; tables without tiers are due with it."""
        return min(self.publication_lag_days, key=self.publication_lag_days.__getitem__)

    def publication_date(self, week: date, tier: Tier | None) -> date:
        """The day on which ``week`` of ``tier`` is first published."""
        return publication_date(week, tier or self.first_tier)


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCase:
    """What a week needs to be ready for one use."""

    name: str
    tiers: tuple[Tier, ...]
    stages: tuple[str, ...]
    preliminary_hours: int
    description: str

    @property
    def policy_hash(self) -> str:
        """sha256 of what is asked for, as certificates carry it: neither order nor description changes it."""
        asked = {
            "name": self.name,
            "tiers": sorted(self.tiers),
            "stages": sorted(self.stages),
            "preliminary_hours": self.preliminary_hours,
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


Row = TypeVar("Row", bound=Schedule | UseCase)


def load_schedules(feed: Feed, path: Path | None = None) -> tuple[Schedule, ...]:
    """The schedules of ``feed``, in the order of its file or of the one at ``path``; PolicyError for any mistake."""
    return _load(feed, "schedules.yaml", "schedules", path, Schedule) if path else _schedules(feed)


# A tick of the expectations sensor read it twice, which was half of its time; the views take 5 ms for the use cases.
@cache
def _schedules(feed: Feed) -> tuple[Schedule, ...]:
    return _load(feed, "schedules.yaml", "schedules", None, Schedule)


@cache
def _use_cases(feed: Feed) -> tuple[UseCase, ...]:
    return _load(feed, "readiness.yaml", "use_cases", None, UseCase)


def load_use_cases(feed: Feed, path: Path | None = None) -> dict[str, UseCase]:
    """The use cases of ``feed`` by name, from its file or the one at ``path``; PolicyError for any mistake."""
    rows = _load(feed, "readiness.yaml", "use_cases", path, UseCase) if path else _use_cases(feed)
    return {one.name: one for one in rows}


def expand(schedule: Schedule, week: date) -> dict[WeekKey, str]:
    """The partitions that are expected of ``week``: key -> canonical JSON of the filled template."""
    found = {}
    for tier in schedule.tiers:
        friday = week_ending(week).isoformat()
        values = {"WEEK_ENDING": friday, "FRIDAY": friday, "MONDAY": str(schedule.publication_date(week, tier))}
        values |= {"TIER": tier.value} if tier else {}
        filled = {name: Template(text).substitute(values) for name, text in schedule.partition_template.items()}
        found[WeekKey(week, tier)] = json.dumps(filled, sort_keys=True)
    return found


def rows_of(schedules: Iterable[Schedule]) -> list[dict[str, Any]]:
    """The schedules of all feeds as rows of core_expected_schedules, numbered in order; what is shared once."""
    once = {(one.domain, one.pipeline): one for one in reversed(list(schedules))}
    return [{"id": number} | _row(one) for number, one in enumerate(reversed(once.values()), 1)]


def _row(one: Schedule) -> dict[str, Any]:
    plain = {each.name: getattr(one, each.name) for each in fields(one)}
    for name in ("partition_template", "partition_values", "publication_lag_days"):
        plain[name] = json.dumps(plain[name], sort_keys=True)
    return plain | {
        "schedule_type": one.schedule_type.value,
        "is_active": int(one.is_active),
        "expected_time": f"{one.expected_time:%H:%M}",
        "timezone": one.timezone.key,
    }


class Problem(NamedTuple):
    """A key of a row that cannot be meant so, why, and what to write instead."""

    key: str
    cause: str
    remedy: str


def _load(feed: Feed, filename: str, section: str, path: Path | None, kind: type[Row]) -> tuple[Row, ...]:
    shipped = "market_spine/feeds/{}/" + filename
    file = PolicyFile(str(path or shipped.format(feed.name)), section, shipped.format("otc"))
    rows = file.rows(path or files("market_spine.feeds").joinpath(feed.name, filename), kind)
    names = [one.name for one in rows]
    for position, row in enumerate(rows):
        for problem in (*_in_common(row, names[:position]), *_problems(row, feed)):
            raise file.error(f"{section}[{row.name}].{problem.key}: {problem.cause}", problem.remedy)
    return rows


def _in_common(row: Schedule | UseCase, earlier: list[str]) -> Iterator[Problem]:
    key = "pipeline" if isinstance(row, Schedule) else "name"
    if not row.name.isidentifier():
        yield Problem(key, f"{row.name!r} is not a name", "write letters, digits and _, e.g. weekly_refresh")
    if row.name in earlier:
        yield Problem(key, "is there twice", "remove one of the two rows, or rename it")
    if not row.description.strip():
        yield Problem("description", "is empty", "say in a sentence what it is for")
    if row.preliminary_hours < 0:
        yield Problem("preliminary_hours", f"{row.preliminary_hours} is negative", "write 0 or more hours")


def _problems(row: Schedule | UseCase, feed: Feed) -> Iterator[Problem]:
    return _of_schedule(row, feed) if isinstance(row, Schedule) else _of_use_case(row, feed)


def _of_use_case(one: UseCase, feed: Feed) -> Iterator[Problem]:
    yield from _of_list("tiers", one.tiers, feed.tiers)
    yield from _of_list("stages", one.stages, STAGES)


def _of_list(key: str, chosen: tuple[str, ...], known: Iterable[str]) -> Iterator[Problem]:
    remedy = f"choose from {', '.join(known)}"
    if not chosen:
        yield Problem(key, "is empty", remedy)
    for one in chosen:
        if one not in known:
            yield Problem(key, f"'{one}' is unknown", remedy)
        if chosen.count(one) > 1:
            yield Problem(key, f"{one} is there twice", "name it once")


def _of_schedule(one: Schedule, feed: Feed) -> Iterator[Problem]:
    if one.domain not in (feed.domain, reference.DOMAIN):
        yield Problem("domain", f"{one.domain!r} is unknown", f"write {feed.domain} or {reference.DOMAIN}")
    if one.expected_delay_hours < 0:
        yield Problem("expected_delay_hours", f"{one.expected_delay_hours} is negative", "write 0 or more hours")
    if one.watch_weeks < 0:
        yield Problem("watch_weeks", f"{one.watch_weeks} is negative", "write 0 or more weeks")
    if one.expected_time != time(one.expected_time.hour, one.expected_time.minute):
        yield Problem("expected_time", f"{one.expected_time} is not HH:MM", 'write it in the zone, e.g. "10:00"')
    if one.schedule_type is not ScheduleType.WEEKLY:
        yield from _without_partitions(one, "expected_day_of_week")
    elif one.partition_template or one.partition_values or one.expected_day_of_week is None:
        yield from _of_template(one, feed)
    else:
        yield from _without_partitions(one)
        if one.expected_day_of_week not in range(7):
            yield Problem("expected_day_of_week", f"{one.expected_day_of_week} is no day", "write 0 (Monday) to 6")


def _without_partitions(one: Schedule, *more: str) -> Iterator[Problem]:
    for key in ("partition_template", "partition_values", "publication_lag_days", *more):
        if getattr(one, key) not in ({}, None):
            remedy = "remove it, or make it WEEKLY" if more else "remove it, or give the partition_template"
            yield Problem(key, f"means nothing in a {one.schedule_type} schedule without partitions", remedy)


def _of_template(one: Schedule, feed: Feed) -> Iterator[Problem]:
    template = one.partition_template
    for name, text in template.items():
        known = Template(text).is_valid() and set(Template(text).get_identifiers()) <= VARIABLES
        if not known:
            yield Problem(f"partition_template.{name}", f"{text!r} is unknown", f"use {_listed(VARIABLES)}")
    if template.get("week_ending") not in WEEK_FORMS:
        cause = f"{template.get('week_ending')!r} is not the Friday that ends a week"
        yield Problem("partition_template.week_ending", cause, f"write {' or '.join(WEEK_FORMS)}")
    if one.partition_values.keys() - {"TIER"}:
        yield Problem("partition_values", f"{[*one.partition_values]} has other names", "give values for TIER only")
    if "TIER" in one.partition_values:
        yield from _of_list("partition_values.TIER", one.partition_values["TIER"], feed.tiers)
    if template.get("tier") != ("${TIER}" if one.partition_values else None):
        remedy = 'write tier: "${TIER}" and partition_values: {TIER: [...]}, or neither'
        yield Problem("partition_template.tier", f"{template.get('tier')!r} and its values do not go together", remedy)
    yield from _of_lags(one)


def _of_lags(one: Schedule) -> Iterator[Problem]:
    lags = one.publication_lag_days
    wanted = set(one.partition_values.get("TIER", lags))
    if not lags or lags.keys() != wanted:
        yield Problem("publication_lag_days", f"{_listed(lags) or 'none'} given", f"give {_listed(wanted) or 'one'}")
    for tier, days in lags.items():
        if days != LAG_DAYS[tier]:
            cause = f"{days} is not the rule's {LAG_DAYS[tier]} (market_spine/domain/publication.py)"
            yield Problem(f"publication_lag_days.{tier}", cause, f"write {LAG_DAYS[tier]}")
        if (day := (FRIDAY + LAG_DAYS[tier]) % 7) != one.expected_day_of_week:
            cause = f"{one.expected_day_of_week} is not the day that {LAG_DAYS[tier]} days after a Friday is"
            yield Problem("expected_day_of_week", cause, f"write {day}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
