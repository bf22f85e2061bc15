"""What helps: the problems of a feed by class, and the commands that mend them, one where it mends several.

What belongs here: from problems to commands. What does not: finding problems (`doctor`), and where the store is, which
the door that prints a command knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from market_spine.domain.contracts import Feed, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.spans import spans
from market_spine.feeds import load_feeds

WATCH = "dagster dev -m market_spine.definitions"  # runs the sensors
ONE_BY_ONE = 6  # anomalies that are shown one by one; more are listed


class Kind(StrEnum):
    """The classes of problems, in the order in which they are mended."""

    EMPTY = "EMPTY"  # nothing was ever loaded
    GAP = "GAP"  # a partition is due, and not there
    CHAIN = "CHAIN"  # a partition is there, and some of its tables are not
    STALE = "STALE"  # captures are out of date
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
        else:
            yield self._for_all(kind), problems

    def _for_all(self, kind: Kind) -> str:
        return {
            Kind.EMPTY: f"spine backfill{self._feed} --weeks-back {self.weeks}",
            Kind.STALE: "spine recompute --yes",
            Kind.ANOMALY: "spine anomalies list",
            Kind.UNJUDGED: f"spine readiness {self.feed.domain}",
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
            options = "".join(f" --tier {tier}" for tier in tiers if tier)
            mended = [one for key, one in held.items() if key.tier in tiers and first <= key.week_ending <= last]
            yield f"{command(first, last)}{options}", mended

    def _backfill(self, first: date, last: date) -> str:
        return f"spine backfill{self._feed} --from {first} --to {last}"

    def _refresh(self, first: date, last: date) -> str:
        weeks = f"--week-ending {first}" if first == last else f"-p from={first} -p to={last}"
        return f"spine run {self.feed.domain}.weekly_refresh {weeks}"
