"""Partitions as few ranges of consecutive weeks: a range over a gap would ask for weeks that are not there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import WEEK

Span = tuple[date, date, Sequence[Tier | None]]


def spans(keys: Iterable[WeekKey]) -> list[Span]:
    """``keys`` as few ranges of consecutive weeks; tiers that have the same one share it."""
    weeks: dict[Tier | None, list[date]] = {}
    for key in sorted(set(keys)):
        weeks.setdefault(key.tier, []).append(key.week_ending)
    found: dict[tuple[date, date], list[Tier | None]] = {}
    for tier in (None, *Tier):
        for stretch in _stretches(weeks.get(tier, ())):
            found.setdefault((stretch[0], stretch[-1]), []).append(tier)
    return [(first, last, tiers) for (first, last), tiers in sorted(found.items())]


def _stretches(weeks: Iterable[date]) -> list[list[date]]:
    found: list[list[date]] = []
    for week in weeks:
        if found and week - found[-1][-1] == WEEK:
            found[-1].append(week)
        else:
            found.append([week])
    return found
