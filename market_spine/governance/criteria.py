"""The five criteria of readiness, judged for one week and one use case. Pure: facts in, a verdict out.

What belongs here: what each criterion asks, and the words for what stands against it. What does not: gathering the
facts and recording verdicts (`readiness`).

1. Every tier that the use case names has been captured.
2. Every table of the stages that it names has a capture, in every tier that has been captured.
3. No CRITICAL anomaly is open in the week, in those tiers or in all of them.
4. No capture in use was made from something that is no longer current, directly or through others.
5. The newest delivery is older than the preliminary period: 48 hours are not yet more than 48 hours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from market_spine.domain.captures import Stage
from market_spine.domain.publication import publication_date
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.domain.trust import Readiness
from market_spine.governance.policy import STAGES, UseCase
from market_spine.store.manifest import Capture

CRITERIA = (
    "all_partitions_present",
    "all_stages_complete",
    "no_critical_anomalies",
    "dependencies_current",
    "age_exceeds_preliminary",
)
LISTED = 6  # things named in a message; the detail has all of them


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of a feed by stage: SQL name -> whether it has tiers. ``raw`` is the one that deliveries become."""

    domain: str
    tiers: tuple[Tier, ...]
    raw: str
    by_stage: Mapping[Stage, Mapping[str, bool]]

    def of(self, use_case: UseCase) -> dict[str, bool]:
        """The tables that ``use_case`` needs. One over all tiers counts where the use case names all of them."""
        stages = {stage for word in use_case.stages for stage in STAGES[word]}
        needs_all = set(use_case.tiers) == set(self.tiers)
        return {
            name: by_tier
            for stage, tables in self.by_stage.items()
            if stage in stages
            for name, by_tier in tables.items()
            if by_tier or needs_all
        }


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one week: current captures by (table, tier), open CRITICAL anomalies, stale captures."""

    week: date
    captures: Mapping[tuple[str, str], Capture]
    critical: Sequence[Mapping[str, Any]] = ()
    stale: Mapping[str, Sequence[str]] = field(default_factory=dict)  # capture id -> reasons


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing that stands against use: a code, a sentence, what exactly, and the command that helps."""

    code: str
    message: str
    detail: Mapping[str, Any]
    remedy: str

    def row(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "detail": dict(self.detail), "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How ready one week is for one use case: criteria in order, issues, and the numbers behind them.

    ``used`` are the captures that the verdict is about; ``ready_after`` is when the preliminary period ends.
    """

    week: date
    use_case: UseCase
    criteria: Mapping[str, bool]
    issues: tuple[Issue, ...]
    numbers: Mapping[str, Any]
    used: tuple[Capture, ...]
    ready_after: datetime | None

    @property
    def state(self) -> Readiness:
        if not self.criteria["all_partitions_present"]:
            return Readiness.MISSING
        if all(self.criteria.values()):
            return Readiness.CERTIFIED
        others = [holds for name, holds in self.criteria.items() if name != "age_exceeds_preliminary"]
        return Readiness.PRELIMINARY if all(others) else Readiness.BLOCKED

    @property
    def is_ready(self) -> bool:
        return self.state is Readiness.CERTIFIED


def judge(use_case: UseCase, tables: Tables, facts: Facts, now: datetime) -> Verdict:
    """The verdict on ``facts`` at ``now``."""
    wanted = tables.of(use_case)
    present = [tier for tier in use_case.tiers if (tables.raw, tier.value) in facts.captures]
    absent = [tier for tier in use_case.tiers if tier not in present]
    places = _places(wanted, present)
    lacking = [place for place in places if place not in facts.captures]
    used = tuple(facts.captures[place] for place in sorted(places) if place in facts.captures)
    critical = [row for row in facts.critical if row["tier"] in {*map(str, use_case.tiers), ALL_TIERS}]
    stale = [one for one in used if one.capture_id in facts.stale]
    newest = max((facts.captures[tables.raw, tier.value].captured_at for tier in present), default=None)
    ready_after = newest + timedelta(hours=use_case.preliminary_hours) if newest else None
    holds = (
        not absent,
        bool(places) and not lacking,
        not critical,
        not stale,
        ready_after is not None and now > ready_after,
    )
    issues = [
        *_partitions(tables, facts.week, absent),
        *_stages(tables, facts.week, lacking),
        *_anomalies(facts.week, critical),
        *_dependencies(facts, stale),
        *([_age(tables, facts.week, use_case, ready_after, bool(absent))] if ready_after and not holds[4] else []),
    ]
    numbers = {
        "partitions": [len(present), len(use_case.tiers)],
        "captures": [len(places) - len(lacking), len(places)],
        "stages": list(use_case.stages),
        "critical": len(critical),
        "stale": len(stale),
        "captured_at": newest.isoformat() if newest else None,
        "preliminary_hours": use_case.preliminary_hours,
    }
    criteria = dict(zip(CRITERIA, holds, strict=True))
    return Verdict(facts.week, use_case, criteria, tuple(issues), numbers, used, ready_after)


def _places(wanted: Mapping[str, bool], present: Collection[Tier]) -> set[tuple[str, str]]:
    """The (table, tier) that must have a capture; tiers that were never delivered are the first criterion's."""
    if not present:
        return set()
    return {
        (name, tier)
        for name, by_tier in wanted.items()
        for tier in ([one.value for one in present] if by_tier else [ALL_TIERS])
    }


def _partitions(tables: Tables, week: date, absent: Sequence[Tier]) -> list[Issue]:
    if not absent:
        return []
    named = ", ".join(absent)
    of = " ".join(f"--tier {tier}" for tier in absent)
    days = sorted({publication_date(week, tier) for tier in absent})
    return [
        Issue(
            "MISSING_PARTITION",
            f"Missing expected partitions: {named} tier{'s' if len(absent) > 1 else ''}",
            {"tiers": [str(tier) for tier in absent]},
            f"spine backfill --from {week} --to {week} {of}  # FINRA's day: {', '.join(map(str, days))}",
        )
    ]


def _stages(tables: Tables, week: date, lacking: Sequence[tuple[str, str]]) -> list[Issue]:
    if not lacking:
        return []
    stage_of = {name: stage for stage, held in tables.by_stage.items() for name in held}
    words = {stage: word for word, stages in STAGES.items() for stage in stages}
    found = sorted({(tier, words[stage_of[name]]) for name, tier in lacking})
    tiers = sorted({tier for _, tier in lacking if tier != ALL_TIERS})
    of = "".join(f" --tier {tier}" for tier in tiers)
    return [
        Issue(
            "INCOMPLETE_STAGES",
            f"Stages incomplete: {', '.join(f'{tier} {word}' for tier, word in found)}",
            {"tables": [f"{name} {tier}" for name, tier in sorted(lacking)]},
            f"spine run {tables.domain}.weekly_refresh --week-ending {week}{of}",
        )
    ]


def _anomalies(week: date, critical: Sequence[Mapping[str, Any]]) -> list[Issue]:
    if not critical:
        return []
    named = "; ".join(f"{row['tier']} {row['message']}" for row in critical[:LISTED])
    return [
        Issue(
            "CRITICAL_ANOMALIES",
            f"CRITICAL anomalies present: {len(critical)} unresolved ({named})",
            {"anomalies": [{name: row[name] for name in ("id", "code", "tier", "message")} for row in critical]},
            f"spine anomalies list --week-ending {week} --severity CRITICAL",
        )
    ]


def _dependencies(facts: Facts, stale: Sequence[Capture]) -> list[Issue]:
    if not stale:
        return []
    order = {capture_id: number for number, capture_id in enumerate(facts.stale)}  # of making them again
    first = sorted(stale, key=lambda one: order[one.capture_id])[:LISTED]
    named = ", ".join(f"{one.table_name} {one.tier}" for one in first)
    more = f" and {len(stale) - LISTED} more" if len(stale) > LISTED else ""
    return [
        Issue(
            "STALE_DEPENDENCIES",
            f"Dependencies not current: {named}{more}",
            {"captures": {one.capture_id: list(facts.stale[one.capture_id]) for one in stale}},
            f"spine recompute --week-ending {facts.week} --yes",
        )
    ]


def _age(tables: Tables, week: date, use_case: UseCase, ready_after: datetime, is_partial: bool) -> Issue:
    hours = use_case.preliminary_hours
    shown = ready_after + timedelta(seconds=59, microseconds=999_999)  # the next whole minute: by then it is over
    return Issue(
        "PRELIMINARY",
        f"Preliminary until {hours} hours after the tiers that are missing have come"
        if is_partial
        else f"Preliminary until {shown:%Y-%m-%d %H:%M} UTC, {hours} hours after the last capture",
        {"ready_after": ready_after.isoformat(), "preliminary_hours": hours},
        f"spine readiness {tables.domain} --week {week} --ready-for {use_case.name}  # after that moment",
    )
