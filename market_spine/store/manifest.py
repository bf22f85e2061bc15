"""Questions to the manifest: which capture answers latest, as of, first release, all revisions; what it was made from.

Versions are chosen per capture, never per row, so that a row which a restatement removed disappears from the answer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from market_spine.domain.captures import View
from market_spine.domain.errors import QueryError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.store.schema import CAPTURE_INPUTS, MANIFEST

M = MANIFEST.c
Partition = tuple[str, date, str]  # SQL table name, week, tier (or ALL)
IN_LIMIT = 500  # values per IN list; SQLite's default limit is 32,766 parameters, PostgreSQL's 65,535


@dataclass(frozen=True, slots=True)
class Capture:
    """One row of the manifest."""

    capture_id: str
    domain: str
    table_name: str
    stage: str
    week_ending: date
    tier: str
    revision: int
    is_current: bool
    status: str
    row_count: int
    content_hash: str
    file_path: str
    file_sha256: str
    file_bytes: int
    captured_at: datetime
    computed_at: datetime
    calc_version: str
    inputs_hash: str
    landing_id: str | None
    policy: str
    execution_id: str
    batch_id: str
    correlation_id: str

    @property
    def key(self) -> WeekKey:
        return WeekKey(self.week_ending, None if self.tier == ALL_TIERS else Tier(self.tier))

    @property
    def state(self) -> str:
        """``current``, ``superseded``, or ``overwritten``: out of the history, its file may be gone."""
        if self.is_current:
            return "current"
        return "superseded" if self.status == "complete" else self.status


COLUMNS = [M[name] for name in Capture.__dataclass_fields__]


def capture_of(row: Sequence[Any]) -> Capture:
    """A row of `COLUMNS`."""
    return Capture(*row)


@dataclass(frozen=True, slots=True)
class Question:
    """Which captures: tables by SQL name, a view, and optional bounds. ``as_of`` goes with View.AS_OF only."""

    tables: tuple[str, ...]
    view: View = View.LATEST
    as_of: datetime | None = None
    weeks: Collection[date] | None = None
    tiers: Collection[str] | None = None

    def __post_init__(self) -> None:
        if (self.view is View.AS_OF) != (self.as_of is not None):
            raise QueryError(
                f"view {self.view} with as-of {self.as_of}", "give --as-of a date, and no other view with it"
            )
        if self.as_of is not None and self.as_of.tzinfo is None:
            raise QueryError(f"as-of {self.as_of} has no time zone", f"write --as-of {self.as_of.isoformat()}Z")


def captures(connection: sa.Connection, question: Question) -> list[Capture]:
    """The captures that answer ``question``, ordered by table, week, tier and revision."""
    bounds = [M.status == "complete", M.table_name.in_(question.tables)]
    if question.tiers is not None:
        bounds.append(M.tier.in_([*map(str, question.tiers), ALL_TIERS]))
    if question.weeks is not None:
        if not question.weeks:
            return []
        bounds.append(M.week_ending.between(min(question.weeks), max(question.weeks)))
    if question.view is View.LATEST:
        bounds.append(M.is_current == 1)
    if question.as_of is not None:
        bounds.append(M.captured_at <= question.as_of)
    select = sa.select(*COLUMNS).where(*bounds).order_by(M.table_name, M.week_ending, M.tier, M.revision)
    found = [capture_of(row) for row in connection.execute(select)]
    if question.weeks is not None:
        wanted = set(question.weeks)
        found = [capture for capture in found if capture.week_ending in wanted]
    if question.view in (View.LATEST, View.ALL_REVISIONS):
        return found
    return _one_per_partition(found, newest=question.view is View.AS_OF)


def _one_per_partition(found: Iterable[Capture], newest: bool) -> list[Capture]:
    def rank(capture: Capture) -> tuple[datetime, bool, int]:
        # Equal moments are versions of one knowledge (a new calculation version, or inputs of one second): the
        # current one counts, else the one that came later.
        return (capture.captured_at, capture.is_current, capture.revision)

    chosen: dict[Partition, Capture] = {}
    for capture in found:
        place = (capture.table_name, capture.week_ending, capture.tier)
        held = chosen.get(place)
        if held is None or (rank(capture) > rank(held) if newest else capture.revision < held.revision):
            chosen[place] = capture
    return list(chosen.values())


def by_ids(connection: sa.Connection, ids: Collection[str]) -> dict[str, Capture]:
    """Captures by id, of any status."""
    found: dict[str, Capture] = {}
    listed = sorted(ids)
    for start in range(0, len(listed), IN_LIMIT):
        select = sa.select(*COLUMNS).where(M.capture_id.in_(listed[start : start + IN_LIMIT]))
        found |= {row.capture_id: capture_of(row) for row in connection.execute(select)}
    return found


def inputs_of(connection: sa.Connection, ids: Collection[str]) -> dict[str, tuple[str, ...]]:
    """What each capture was made from, sorted."""
    found: dict[str, list[str]] = {capture_id: [] for capture_id in ids}
    listed, columns = sorted(ids), CAPTURE_INPUTS.c
    for start in range(0, len(listed), IN_LIMIT):
        chunk = listed[start : start + IN_LIMIT]
        for row in connection.execute(sa.select(CAPTURE_INPUTS).where(columns.capture_id.in_(chunk))):
            found[row.capture_id].append(row.input_capture_id)
    return {capture_id: tuple(sorted(inputs)) for capture_id, inputs in found.items()}


def made_from(connection: sa.Connection, chosen: Collection[Capture]) -> dict[str, dict[Partition, tuple[str, int]]]:
    """What each of ``chosen``, current captures, was made from: partition -> capture id and revision; one statement."""
    if not chosen:
        return {}
    source = MANIFEST.alias("source")
    names = {capture.table_name for capture in chosen}
    weeks = [capture.week_ending for capture in chosen]
    select = (
        sa.select(
            M.capture_id, *(source.c[name] for name in ("table_name", "week_ending", "tier", "capture_id", "revision"))
        )
        .join(CAPTURE_INPUTS, CAPTURE_INPUTS.c.capture_id == M.capture_id)
        .join(source, source.c.capture_id == CAPTURE_INPUTS.c.input_capture_id)
        .where(M.is_current == 1, M.table_name.in_(names), M.week_ending.between(min(weeks), max(weeks)))
    )
    found: dict[str, dict[Partition, tuple[str, int]]] = {capture.capture_id: {} for capture in chosen}
    for capture_id, table_name, week, tier, input_id, revision in connection.execute(select):
        if capture_id in found:
            found[capture_id][table_name, week, tier] = (input_id, revision)
    return found


def tables(connection: sa.Connection) -> list[str]:
    """SQL names of all tables that have captures."""
    return list(connection.scalars(sa.select(M.table_name).distinct().order_by(M.table_name)))


def newest(connection: sa.Connection) -> datetime | None:
    """When anything last became known, of whatever partition; None for an empty store."""
    found: datetime | None = connection.scalar(sa.select(sa.func.max(M.captured_at)))
    return found
