"""What helps: the problems of a feed by class, and the commands that mend them, one where it mends several.

What belongs here: from problems, and from single anomalies, to commands. What does not: finding problems (`doctor`),
and where the store is, which the door that prints a command knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from market_spine.domain.contracts import Feed, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.spans import Span, spans
from market_spine.domain.weeks import WEEK
from market_spine.feeds import load_feeds
from market_spine.governance.causes import DAMAGED, EXPLANATIONS, NOT_DELIVERED

WATCH = "dagster dev -m market_spine.definitions"  # runs the sensors
ONE_BY_ONE = 6  # anomalies that are shown one by one; more are listed


class Kind(StrEnum):
    """The classes of problems, in the order in which they are mended."""

    EMPTY = "EMPTY"  # nothing was ever loaded
    GAP = "GAP"  # a partition is due, and not there
    CHAIN = "CHAIN"  # a partition is there, and some of its tables are not
    WORK = "WORK"  # a load that was asked for failed, and is not tried again by itself
    WAITING = "WAITING"  # a load that was asked for is due, and nobody claims it
    STALE = "STALE"  # captures are out of date: behind the loads, which bring what others are made of
    ANOMALY = "ANOMALY"  # something that a person has to look at
    UNJUDGED = "UNJUDGED"  # the verdict on record is not the one that holds
    SILENT = "SILENT"  # the sensor that compares has not looked


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in words. ``key`` is its partition, where it has one, ``number`` its anomaly."""

    kind: Kind
    severity: Severity
    message: str
    key: WeekKey | None = None
    number: int | None = None


Remedies = Mapping[str, Sequence[Problem]]


def remedies(problems: Collection[Problem], feed: Feed, weeks: int) -> Remedies:
    """Command -> the problems that it mends, in the order of carrying them out; every problem is behind a command."""
    commands = _Commands(feed, weeks)
    found: dict[str, list[Problem]] = {}
    for kind in Kind:
        mine = [one for one in problems if one.kind is kind]
        for command, mended in commands.of(kind, mine) if mine else ():
            found.setdefault(command, []).extend(mended)
    return found


@dataclass(frozen=True, slots=True)
class _Commands:
    feed: Feed
    weeks: int

    def of(self, kind: Kind, problems: Sequence[Problem]) -> Iterator[tuple[str, Sequence[Problem]]]:
        """The commands for ``problems``, all of ``kind``, each with those that it mends."""
        if kind is Kind.GAP:
            yield from self._by_span(problems, self._backfill)
        elif kind is Kind.CHAIN:
            yield from self._by_span(problems, self._refresh)
        elif kind is Kind.ANOMALY and len(problems) <= ONE_BY_ONE:
            yield from ((f"spine anomalies show {one.number}", [one]) for one in problems)
        elif kind is Kind.WORK and len(problems) <= ONE_BY_ONE:
            yield f"spine work retry {' '.join(str(one.number) for one in problems)}", problems
        else:
            yield self._for_all(kind), problems

    def _for_all(self, kind: Kind) -> str:
        return {
            Kind.EMPTY: f"spine backfill{self._feed} --weeks-back {self.weeks}",
            Kind.STALE: "spine recompute --yes",
            Kind.ANOMALY: "spine anomalies list",
            Kind.WORK: "spine work list --state FAILED",
            Kind.UNJUDGED: f"spine readiness {self.feed.domain}",
            Kind.WAITING: "spine work run",
            Kind.SILENT: WATCH,
        }[kind]

    @property
    def _feed(self) -> str:
        """`backfill` asks which feed, where there are several."""
        return f" --feed {self.feed.name}" if len(load_feeds()) > 1 else ""

    def _by_span(
        self, problems: Sequence[Problem], command: Callable[[date, date], str]
    ) -> Iterator[tuple[str, Sequence[Problem]]]:
        held = {one.key: one for one in problems if one.key}
        for first, last, tiers in spans(held):
            mended = [one for key, one in held.items() if key.tier in tiers and first <= key.week_ending <= last]
            yield _over((first, last, tiers), command), mended

    def load(self, keys: Collection[WeekKey]) -> list[str]:
        """The commands that load ``keys``, whether they are there or not."""
        return [_over(span, self._backfill) for span in spans(keys)]

    def refresh(self, key: WeekKey) -> str:
        """The command that loads ``key`` and makes everything of it."""
        return _over((key.week_ending, key.week_ending, [key.tier]), self._refresh)

    def _backfill(self, first: date, last: date) -> str:
        return f"spine backfill{self._feed} --from {first} --to {last}"

    def _refresh(self, first: date, last: date) -> str:
        weeks = f"--week-ending {first}" if first == last else f"-p from={first} -p to={last}"
        return f"spine run {self.feed.domain}.weekly_refresh {weeks}"


def _over(span: Span, command: Callable[[date, date], str]) -> str:
    first, last, tiers = span
    return command(first, last) + "".join(f" --tier {tier}" for tier in tiers if tier)


NOTHING = "nothing has to be done: what is INFO is known to happen"
BY_ITSELF = "nothing: it closes when its week is no longer watched"
ABSENT = frozenset(
    {NOT_DELIVERED, "MISSED_RUNS", "INCOMPLETE_TIER_SPLIT", "INCOMPLETE_WINDOW"}
)  # partitions are lacking
_AGAIN = "{load}  # when the source has it corrected"
_SET_ASIDE = ("spine rejects {place}", _AGAIN)
_RESOLVE = 'spine anomalies resolve {id} --note "what was found"'
# Code -> what to do, in order. What is not here is looked at by a person, and a law that does not hold is recomputed.
_STEPS: Mapping[str, Sequence[str]] = {
    "LATE_DATA": (BY_ITSELF,),
    "SOURCE_UNAVAILABLE": ("{next}", "{refresh}"),
    "STEP_FAILED": ("{next}", "{refresh}"),
    DAMAGED: ("spine verify", "{next}"),
    "CHANNEL_FAILING": ("{next}", "spine notify retry --all"),
    "UNREADABLE": ("spine deliveries {place}", _AGAIN),
    "TOO_FEW_RECORDS": ("{refresh} -p min_records=0  # if the delivery is whole",),
    "TOO_MANY_REJECTS": _SET_ASIDE,
    "LINES_UNACCOUNTED": ("spine deliveries {place}  # a fault of this program: report it with the landed file",),
    "UNEXPECTED_PUBLICATION_DATE": ("spine deliveries {place}  # how its week was found", _RESOLVE),
    "RESTATED": ("spine captures impact {raw} {place}  # what it changed",),
    "TRADES_WITHOUT_SHARES": _SET_ASIDE,
    "SHARES_WITHOUT_TRADES": _SET_ASIDE,
    "NEGATIVE_VALUE": _SET_ASIDE,
    "FUTURE_DATE": _SET_ASIDE,
    "BLANK_MPID": _SET_ASIDE,
    "EXACT_DUPLICATE": ("spine rejects {place}", _RESOLVE),
    "INCOMPLETE_STAGE_CHAIN": ("{refresh}",),
    "CALENDAR_CORRECTED": ("spine recompute --yes",),
}
_UNUSUAL = ("{load}  # loads it again", f"{_RESOLVE}  # if it is so")
_LAW = ("spine verify", "spine recompute --yes")


def steps(row: Mapping[str, Any], feed: Feed, there: Collection[WeekKey]) -> list[str]:
    """What to do about the open anomaly ``row`` (of core_anomalies), in order: commands, or words where none helps.

    ``there`` are the partitions of ``feed`` that have arrived, at least of the weeks that its window may lack.
    """
    if row["cause_id"] is not None:
        return [f"spine anomalies show {row['cause_id']}  # it follows from that one"]
    commands, key = _Commands(feed, 1), WeekKey.from_string(f"{row['tier']}:{row['week_ending']}")
    told = [NOTHING] if row["severity"] == Severity.INFO else []
    if row["code"] in ABSENT:
        lacking = commands.load(_absent(row, key, feed, there))
        if not lacking:  # all has come: what was made before it did is made again
            return [*told, commands.refresh(key)]
        return told + [f"{one}  # or load what is lacking" if told else one for one in lacking]
    words = {
        "id": row["id"],
        "place": f"--week-ending {key.week_ending}" + (f" --tier {key.tier}" if key.tier else ""),
        "load": commands.load([key])[0],
        "refresh": commands.refresh(key),
        "raw": feed.sql_name("raw"),
        "next": json.loads(row["details_json"]).get("next", ""),
    }
    return told + [one.format_map(words) for one in _steps_of(row)]


def _steps_of(row: Mapping[str, Any]) -> Sequence[str]:
    if row["code"] in _STEPS:
        return _STEPS[row["code"]]
    if row["code"].startswith("UNUSUAL_"):
        return _UNUSUAL
    return _LAW if row["severity"] == Severity.CRITICAL else (_RESOLVE,)


def _absent(row: Mapping[str, Any], key: WeekKey, feed: Feed, there: Collection[WeekKey]) -> set[WeekKey]:
    """The partitions that something is made of and that are not there; no weeks before the feed begins."""
    explanation = EXPLANATIONS[row["code"]]
    weeks = [key.week_ending - age * WEEK for age in range(explanation.weeks_back + 1)]
    tiers = [key.tier] if key.tier else feed.tiers
    return {WeekKey(week, tier) for week in weeks if week >= feed.first_week for tier in tiers} - {*there}
