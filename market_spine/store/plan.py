"""What a calculation still has to do: partitions that changed, those that did not, and those without input."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TypeVar

import sqlalchemy as sa

from market_spine.domain.captures import View, capture_id
from market_spine.domain.contracts import Calculation
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import ALL_TIERS
from market_spine.domain.weeks import window
from market_spine.store.manifest import Capture, Question, captures

T = TypeVar("T")
Places = Mapping[tuple[str, date], Mapping[str, T]]  # what there is at (SQL table name, week) of each tier


@dataclass(frozen=True, slots=True)
class Input:
    """An input of a calculation: its SQL name in the store, and whether it has tiers."""

    name: str
    sql_name: str
    by_tier: bool


@dataclass(frozen=True, slots=True)
class Target:
    """A partition to compute, with exactly the captures that it is computed from."""

    key: WeekKey
    inputs: tuple[Capture, ...]
    not_before: datetime | None = None

    @property
    def captured_at(self) -> datetime:
        """When the newest of the inputs became known.

        Not before what it replaces: a version that reads fewer inputs must not be older than the one before it.
        """
        known = max(capture.captured_at for capture in self.inputs)
        return max(known, self.not_before) if self.not_before else known

    @property
    def input_ids(self) -> tuple[str, ...]:
        return tuple(sorted(capture.capture_id for capture in self.inputs))

    def inputs_hash(self, version: str) -> str:
        """What this partition would be made from; equal hashes mean there is nothing to do."""
        return hashlib.sha256("\n".join([version, *self.input_ids]).encode()).hexdigest()[:32]

    def capture_id(self, domain: str, calculation: Calculation) -> str:
        """The id of the capture to be: equal inputs and version give the equal id."""
        version = calculation.version
        named = capture_id(domain, self.key, self.captured_at, calculation.name, version)
        return f"{named}-{self.inputs_hash(version)[:8]}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The three parts of what was asked for."""

    targets: tuple[Target, ...]
    unchanged: tuple[Capture, ...]
    missing: Mapping[WeekKey, str]


def plan(
    connection: sa.Connection,
    calculation: Calculation,
    table_name: str,
    inputs: Collection[Input],
    keys: Collection[WeekKey],
    force: bool = False,
) -> Plan:
    """Compare what each partition in ``keys`` would be made from with what its current capture was made from."""
    weeks = {week for key in keys for week in window(key.week_ending, calculation.weeks_back)}
    names = tuple(entry.sql_name for entry in inputs)
    found = by_place(captures(connection, Question((*names, table_name), View.LATEST, weeks=weeks)))
    return planned(found, calculation, table_name, inputs, keys, force)


def by_place(found: Iterable[Capture]) -> Places[Capture]:
    """``found``, at most one a partition, by where it is."""
    places: dict[tuple[str, date], dict[str, Capture]] = {}
    for capture in found:
        places.setdefault((capture.table_name, capture.week_ending), {})[capture.tier] = capture
    return places


def planned(
    found: Places[Capture],
    calculation: Calculation,
    table_name: str,
    inputs: Collection[Input],
    keys: Collection[WeekKey],
    force: bool = False,
) -> Plan:
    """As `plan`, of the current captures in ``found``: the table's own and its inputs', of all weeks of the windows."""
    targets, unchanged, missing = [], [], {}
    for key in keys:
        held = found.get((table_name, key.week_ending), {}).get(key.tier_text)
        target, lacking = _target(calculation, inputs, key, found)
        if held and held.calc_version != calculation.version:
            target = replace(target, not_before=held.captured_at)
        if lacking:
            missing[key] = lacking
        elif held and not force and held.inputs_hash == target.inputs_hash(calculation.version):
            unchanged.append(held)
        else:
            targets.append(target)
    return Plan(tuple(targets), tuple(unchanged), missing)


def _target(
    calculation: Calculation, inputs: Collection[Input], key: WeekKey, found: Places[Capture]
) -> tuple[Target, str]:
    chosen: list[Capture] = []
    lacking = []
    for entry, week, here in read_by(calculation, inputs, key, found):
        chosen += here
        # Earlier weeks of a window may be missing (the result says so); the week itself may not.
        if not here and week == key.week_ending:
            lacking.append(f"no current capture of {entry.sql_name} for {week}")
    return Target(key, tuple(chosen)), "; ".join(lacking)


def read_by(
    calculation: Calculation, inputs: Collection[Input], key: WeekKey, found: Places[T]
) -> Iterator[tuple[Input, date, list[T]]]:
    """What the partition ``key`` reads of ``found``, per input and week of its window. No other place says this."""
    for entry in inputs:
        for week in window(key.week_ending, calculation.weeks_back):
            yield entry, week, _of_tier(found.get((entry.sql_name, week), {}), key, entry)


def _of_tier(at_week: Mapping[str, T], key: WeekKey, entry: Input) -> list[T]:
    if not entry.by_tier:
        return [at_week[ALL_TIERS]] if ALL_TIERS in at_week else []
    if key.tier is None:
        return [at_week[tier] for tier in sorted(at_week)]
    return [at_week[key.tier_text]] if key.tier_text in at_week else []
