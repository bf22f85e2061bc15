"""Which current captures are out of date, why, and what has to be made again so that nothing is.

A capture is out of date exactly if `store.plan` would make its partition again: an input has another current version,
has arrived since or is gone, or the calculation has another version. What belongs here: that question for all tables at
once, and what follows from making them again. What does not: how a partition is made, and which tables there are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, NamedTuple

from market_spine.domain.captures import View
from market_spine.domain.contracts import Calculation
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.domain.weeks import WEEK, window
from market_spine.store.manifest import Capture, Partition, Question, captures, made_from
from market_spine.store.plan import Input, Places, Target, by_place, planned, read_by

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class Derived:
    """A calculated table: SQL name, calculation and inputs. In a sequence, inputs stand before what reads them."""

    table_name: str
    calculation: Calculation
    inputs: tuple[Input, ...]


class Place(NamedTuple):
    """A partition of a table."""

    table_name: str
    key: WeekKey

    def __str__(self) -> str:
        tier = f" {self.key.tier}" if self.key.tier else ""
        return f"{self.table_name}{tier} {self.key.week_ending}"


@dataclass(frozen=True, slots=True)
class Stale:
    """A current capture that is out of date: ``reasons`` in words, and as ``kinds`` without weeks and tiers."""

    capture: Capture
    reasons: tuple[str, ...]
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A partition to make again: what it is now, why, and whether it is out of date already.

    ``sources`` are those of its inputs that are made again before it; ``weeks_back`` is its calculation's window.
    """

    capture: Capture
    reasons: tuple[str, ...]
    kinds: tuple[str, ...]
    is_stale: bool
    sources: tuple[Place, ...]
    weeks_back: int

    @property
    def place(self) -> Place:
        return Place(self.capture.table_name, self.capture.key)


@dataclass(frozen=True, slots=True)
class Recompute:
    """Everything that has to be made again, each partition after its inputs."""

    parts: tuple[Part, ...]

    @property
    def partitions(self) -> dict[str, list[WeekKey]]:
        """The partitions of each table by SQL name, in the order of making them."""
        found: dict[str, list[WeekKey]] = {}
        for part in self.parts:
            found.setdefault(part.capture.table_name, []).append(part.capture.key)
        return found

    def around(self, is_chosen: Callable[[Capture], bool]) -> Recompute:
        """What is chosen, what that is made from, and whatever follows from those: afterwards no more is out of date.

        Without the inputs the chosen ones would be out of date again at once; without the rest others would.
        """
        kept = {part.place for part in self.parts if is_chosen(part.capture)}
        for part in reversed(self.parts):
            if part.place in kept:
                kept.update(part.sources)
        for part in self.parts:
            if not kept.isdisjoint(part.sources):
                kept.add(part.place)
        return Recompute(tuple(part for part in self.parts if part.place in kept))


Held = Mapping[str, Mapping[WeekKey, Capture]]  # current captures by SQL table name and key, both in order


def stale(connection: Connection, derived: Sequence[Derived], keys: Collection[WeekKey] | None = None) -> list[Stale]:
    """The current captures that are out of date: of all partitions, or of ``keys``, in the order of ``derived``.

    A key without a tier means its whole week; tables without tiers belong to every key of their week.
    """
    current = _current(connection, derived, None if keys is None else {key.week_ending for key in keys})
    return _stale(connection, derived, current, _held(derived, current, keys))


def to_recompute(
    connection: Connection, derived: Sequence[Derived], weeks: Collection[date] | None = None
) -> Recompute:
    """What has to be made again so that nothing is out of date; nothing else, and nothing that is not there yet.

    With ``weeks``, of those and of what they are made from: what one week asks does not grow with the store.
    """
    reach = _reach(derived)
    read = None if weeks is None else {week for end in weeks for week in window(end, max(reach.values(), default=0))}
    current = _captures(connection, derived, read)
    held = _held(derived, current, None)
    if read is not None:  # without all that it is made from, a capture would seem to be out of date
        held = {
            name: {key: one for key, one in of_table.items() if read.issuperset(window(key.week_ending, reach[name]))}
            for name, of_table in held.items()
        }
    why = {Place(one.capture.table_name, one.capture.key): one for one in _stale(connection, derived, current, held)}
    places = [Place(name, key) for name, of_table in held.items() for key in of_table]
    follows = affected(derived, why, places)
    windows = {one.table_name: one.calculation.weeks_back for one in derived}
    return Recompute(
        tuple(
            _part(held[place.table_name][place.key], why.get(place), follows.get(place, ()), windows[place.table_name])
            for place in places
            if place in why or place in follows
        )
    )


def unmade(
    connection: Connection, derived: Sequence[Derived], raw: str, weeks: Collection[date]
) -> dict[Place, Target]:
    """What of ``weeks`` was never made though its inputs are there; ``raw`` says which tiers have been captured.

    What a killed load left, a new calculation, and a week whose tiers were loaded one by one.
    """
    current = _current(connection, derived, weeks)
    found, held = by_place(current), _held(derived, current, None)
    by_tier = [one.key for one in current if one.table_name == raw and one.week_ending in weeks]
    by_week = [WeekKey(week, None) for week in sorted({key.week_ending for key in by_tier})]
    return {
        Place(one.table_name, target.key): target
        for one in derived
        for target in planned(
            found,
            one.calculation,
            one.table_name,
            one.inputs,
            [key for key in (by_tier if one.calculation.table.by_tier else by_week) if key not in held[one.table_name]],
        ).targets
    }


def affected(
    derived: Sequence[Derived], seeds: Collection[Place], held: Collection[Place]
) -> dict[Place, tuple[Place, ...]]:
    """Which partitions of ``held`` will be out of date once those of ``seeds`` were made again or have arrived.

    In an order in which they can be made; each with those of its own inputs that it follows from.
    """
    changed: dict[tuple[str, date], dict[str, Place]] = {}
    for place in seeds:
        changed.setdefault((place.table_name, place.key.week_ending), {})[place.key.tier_text] = place
    by_table: dict[str, list[Place]] = {}
    for place in held:
        by_table.setdefault(place.table_name, []).append(place)
    found = {}
    for one in derived:
        for place in sorted(by_table.get(one.table_name, ()), key=lambda place: place.key):
            read = read_by(one.calculation, one.inputs, place.key, changed)
            if sources := tuple(source for _, _, here in read for source in here):
                found[place] = sources
                changed.setdefault((place.table_name, place.key.week_ending), {})[place.key.tier_text] = place
    return found


def _reach(derived: Sequence[Derived]) -> dict[str, int]:
    """How many weeks back each table reads anything, itself or through what it is made from."""
    found: dict[str, int] = {}
    for one in derived:
        through = max((found.get(entry.sql_name, 0) for entry in one.inputs), default=0)
        found[one.table_name] = one.calculation.weeks_back + through
    return found


def _current(connection: Connection, derived: Sequence[Derived], weeks: Collection[date] | None) -> list[Capture]:
    """The current captures of every table and input: of all weeks, or of the windows of ``weeks``."""
    back = max((one.calculation.weeks_back for one in derived), default=0)
    return _captures(
        connection, derived, None if weeks is None else {week for end in weeks for week in window(end, back)}
    )


def _captures(connection: Connection, derived: Sequence[Derived], weeks: Collection[date] | None) -> list[Capture]:
    """The current captures of every table and input, in one statement: of all weeks, or of ``weeks``."""
    names = {one.table_name for one in derived} | {entry.sql_name for one in derived for entry in one.inputs}
    return captures(connection, Question(tuple(sorted(names)), View.LATEST, weeks=weeks))


def _held(derived: Sequence[Derived], current: Collection[Capture], keys: Collection[WeekKey] | None) -> Held:
    held: dict[str, dict[WeekKey, Capture]] = {one.table_name: {} for one in derived}
    asked = {
        WeekKey(key.week_ending, tier)
        for key in keys or ()
        for tier in ((key.tier, None) if key.tier else (None, *Tier))
    }
    for capture in current:
        if capture.table_name in held and (keys is None or capture.key in asked):
            held[capture.table_name][capture.key] = capture
    return held


def _stale(connection: Connection, derived: Sequence[Derived], current: Collection[Capture], held: Held) -> list[Stale]:
    found = by_place(current)
    targets = [(one, target) for one in derived for target in _targets(one, found, held[one.table_name])]
    chosen = [held[one.table_name][target.key] for one, target in targets]
    inputs = made_from(connection, chosen)
    reasons = [
        list(_why(one, capture, target, inputs[capture.capture_id]))
        for (one, target), capture in zip(targets, chosen, strict=True)
    ]
    return [
        Stale(capture, tuple(words for words, _ in why), tuple(dict.fromkeys(kind for _, kind in why)))
        for capture, why in zip(chosen, reasons, strict=True)
    ]


def _targets(one: Derived, found: Places[Capture], held: Mapping[WeekKey, Capture]) -> tuple[Target, ...]:
    return planned(found, one.calculation, one.table_name, one.inputs, held).targets


def _why(
    one: Derived, capture: Capture, target: Target, inputs: Mapping[Partition, tuple[str, int]]
) -> Iterator[tuple[str, str]]:
    """Each difference between what ``capture`` was made from and ``target``: in words, and without week and tier."""
    version = one.calculation.version
    if capture.calc_version != version:
        told = f"made by version {capture.calc_version}, the code has {version}"
        yield told, told
    now = {Place(each.table_name, each.key): (each.capture_id, each.revision) for each in target.inputs}
    then = {_place(partition): made for partition, made in inputs.items()}
    names = {entry.sql_name for entry in one.inputs}
    first = target.key.week_ending - one.calculation.weeks_back * WEEK
    for place in sorted({*now, *then}):
        held, made = now.get(place), then.get(place)
        if held == made:
            continue
        if made is None:
            what = "has arrived since"
        elif held is None:
            is_read = place.table_name in names and place.key.week_ending >= first
            what = "is gone" if is_read else "is no longer read"
        else:
            what = f"is now revision {held[1]}" if held[1] != made[1] else "was overwritten"
        yield f"input {place} {what}", f"input {place.table_name} {what}"


def _place(partition: Partition) -> Place:
    table_name, week, tier = partition
    return Place(table_name, WeekKey(week, None if tier == ALL_TIERS else Tier(tier)))


def _part(capture: Capture, why: Stale | None, sources: tuple[Place, ...], weeks_back: int) -> Part:
    follows = [f"follows from {', '.join(map(str, sources))}"] if sources else []
    kinds = [f"follows from {', '.join(dict.fromkeys(source.table_name for source in sources))}"] if sources else []
    reasons = (*why.reasons, *follows) if why else tuple(follows)
    return Part(capture, reasons, (*why.kinds, *kinds) if why else tuple(kinds), why is not None, sources, weeks_back)
