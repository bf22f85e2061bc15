"""A manifest without files: captures put straight into the control tables, so that states of any size are cheap.

What belongs here: arriving, making and reading back. What does not: a second way to say what is out of date.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from market_spine.domain.contracts import Calculation
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.governance.staleness import Derived, Place
from market_spine.store.control import Control
from market_spine.store.manifest import Capture
from market_spine.store.plan import Input, Target, plan
from market_spine.store.schema import BATCHES, CAPTURE_INPUTS, MANIFEST
from market_spine_tests.store.builders import SALES, T0, WEEK
from market_spine_tests.store.good_rows import BATCH_ROW, MANIFEST_ROW

RAW, CALENDAR = Input("raw", "otc_raw", True), Input("trading_calendar", "reference_trading_calendar", False)
T1, OTC = Tier.NMS_TIER_1, Tier.OTC


def week(number: int) -> date:
    """2025-11-14 and the weeks around it."""
    return WEEK + timedelta(weeks=number)


def key(number: int, tier: Tier | None = OTC) -> WeekKey:
    return WeekKey(week(number), tier)


def table(name: str, *inputs: Input, by_tier: bool = True, weeks_back: int = 0, version: str = "1.0") -> Derived:
    """A derived table of ``inputs``."""
    declared = replace(SALES, name=name, by_tier=by_tier)
    names = tuple(entry.name for entry in inputs)
    return Derived(f"otc_{name}", Calculation(declared, version, names, "SELECT 1", weeks_back), tuple(inputs))


def entry(one: Derived) -> Input:
    """``one`` as the input of another."""
    return Input(one.calculation.name, one.table_name, one.calculation.table.by_tier)


@dataclass
class Ledger:
    """One control database whose manifest a test fills."""

    control: Control
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    @contextmanager
    def at(cls, folder: Path) -> Iterator[Ledger]:
        control = Control(f"sqlite:///{folder / 'control.db'}")
        control.ensure()
        with control.write() as connection:
            connection.execute(sa.insert(BATCHES), BATCH_ROW)
        yield cls(control)
        control.dispose()

    def clear(self) -> None:
        with self.control.write() as connection:
            connection.execute(sa.delete(CAPTURE_INPUTS))
            connection.execute(sa.delete(MANIFEST))

    def arrive(self, source: Input, *keys: WeekKey, overwrites: bool = False) -> None:
        """New current captures of a table that is not calculated."""
        self._put([self._row(source.sql_name, one) for one in keys], [], overwrites)

    def make(self, one: Derived, keys: Collection[WeekKey]) -> list[Place]:
        """What a run over ``keys`` would do: the partitions that got a new capture."""
        with self.control.read() as connection:
            targets = plan(connection, one.calculation, one.table_name, one.inputs, keys).targets
        made = [self._made(one, target) for target in targets]
        self._put([row for row, _ in made], [edge for _, edges in made for edge in edges])
        return [Place(one.table_name, target.key) for target in targets]

    def lose(self, source: Input, one: WeekKey) -> None:
        """No capture of the partition answers any more."""
        where = (MANIFEST.c.table_name == source.sql_name, MANIFEST.c.week_ending == one.week_ending)
        with self.control.write() as connection:
            connection.execute(sa.update(MANIFEST).where(*where, MANIFEST.c.tier == one.tier_text).values(is_current=0))

    def current(self) -> dict[Place, tuple[str, str, frozenset[str]]]:
        """Partition -> id, version and inputs of its current capture."""
        held = MANIFEST.c
        with self.control.read() as connection:
            edges = [tuple(row) for row in connection.execute(sa.select(CAPTURE_INPUTS))]
            columns = (held.table_name, held.week_ending, held.tier, held.capture_id, held.calc_version)
            rows = connection.execute(sa.select(*columns).where(held.is_current == 1)).all()
        inputs: dict[str, set[str]] = {}
        for capture_id, input_id in edges:
            inputs.setdefault(capture_id, set()).add(input_id)
        return {
            Place(name, WeekKey(friday, None if tier == "ALL" else Tier(tier))): (
                capture_id,
                version,
                frozenset(inputs.get(capture_id, ())),
            )
            for name, friday, tier, capture_id, version in rows
        }

    @contextmanager
    def counted(self) -> Iterator[tuple[sa.Connection, list[str]]]:
        """A connection, and the statements that it is asked to execute."""
        asked: list[str] = []

        def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            asked.append(statement)

        with self.control.read() as connection:
            sa.event.listen(self.control.engine, "before_cursor_execute", note)
            yield connection, asked
            sa.event.remove(self.control.engine, "before_cursor_execute", note)

    def _made(self, one: Derived, target: Target) -> tuple[dict[str, Any], list[dict[str, str]]]:
        version = one.calculation.version
        row = self._row(one.table_name, target.key) | {
            "calc_version": version,
            "inputs_hash": target.inputs_hash(version),
        }
        return row, [{"capture_id": row["capture_id"], "input_capture_id": one} for one in target.input_ids]

    def _row(self, table_name: str, one: WeekKey) -> dict[str, Any]:
        number = next(self.numbers)
        return MANIFEST_ROW | {
            "capture_id": f"{table_name}:{one}:{number}",
            "table_name": table_name,
            "week_ending": one.week_ending,
            "tier": one.tier_text,
            "file_path": f"{number}.parquet",
            "captured_at": moment(number),
        }

    def _put(self, rows: Sequence[dict[str, Any]], edges: Sequence[dict[str, str]], overwrites: bool = False) -> None:
        """``rows`` as the newest revisions of their partitions, each with its inputs."""
        if not rows:
            return
        held = MANIFEST.c
        with self.control.write() as connection:
            places = sa.select(held.table_name, held.week_ending, held.tier, sa.func.max(held.revision))
            found = connection.execute(places.group_by(held.table_name, held.week_ending, held.tier)).all()
            last = {tuple(place): revision for *place, revision in found}
            ended = sa.update(MANIFEST).where(
                held.table_name == sa.bindparam("name"),
                held.week_ending == sa.bindparam("friday"),
                held.tier == sa.bindparam("of_tier"),
            )
            names = [(row["table_name"], row["week_ending"], row["tier"]) for row in rows]
            connection.execute(
                ended.values({"is_current": 0} | ({"status": "overwritten"} if overwrites else {})),
                [dict(zip(("name", "friday", "of_tier"), place, strict=True)) for place in names],
            )
            connection.execute(
                sa.insert(MANIFEST),
                [
                    row | {"revision": last.get(place, 0) + (not overwrites)}
                    for row, place in zip(rows, names, strict=True)
                ],
            )
            if edges:
                connection.execute(sa.insert(CAPTURE_INPUTS), edges)


def moment(number: int) -> datetime:
    return T0 + timedelta(seconds=number)


def places(captures: Iterable[Capture]) -> list[Place]:
    return [Place(one.table_name, one.key) for one in captures]
