"""A crowd of processes on one store: writers that restate overlapping partitions, readers that ask all the while.

What belongs here: what is delivered, and what one writer or reader does. What does not: claims about the end
(`test_concurrency`). Nothing is random but by a seed, and the clock of all processes runs 60 times as fast as time: a
capture is dated in whole seconds, and eight processes restate one partition several times in one.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from market_spine.assets.capture import Options
from market_spine.assets.compute import compute
from market_spine.assets.ingest import ingest
from market_spine.assets.spine import Spine
from market_spine.assets.tables import steps_of
from market_spine.domain.captures import View
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC
from market_spine.store.ledger import Run
from market_spine.store.manifest import Question
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine_tests.journeys.history_model import Line, expected, file_of
from market_spine_tests.journeys.history_scene import COMPUTED, SLOTS, Shelf, is_same, raw_lines, rows_of
from market_spine_tests.journeys.worker import quietly

KEYS = sorted(SLOTS[0])
WEEKS = sorted({WeekKey(key.week_ending, None) for key in KEYS})
VARIANTS = 10
SPEED = 60
BEGIN = datetime(2026, 3, 2, 12, tzinfo=UTC)
# Before the crowd there are two releases of every partition; these moments stay what they are.
RELEASES = (BEGIN - timedelta(days=1), BEGIN - timedelta(hours=1))
PAST = (RELEASES[0] - timedelta(days=1), RELEASES[0], BEGIN - timedelta(hours=9), RELEASES[1])


def lines_of(key: WeekKey, variant: int) -> tuple[Line, ...]:
    """One version of a partition: rows come, go and change from one to the next."""
    number = KEYS.index(key)
    return tuple(
        Line(symbol, mpid, Decimal(100 + 10 * variant + number + place) / 8, 1 + variant, "One")
        for place, (symbol, mpid) in enumerate((s, m) for s in ("QA", "QB", "") for m in ("VEN1", "VEN2", "VEN3"))
        if (place + variant) % 4
    )


@dataclass(frozen=True)
class Place:
    """A store, and when (in seconds since the epoch) its clock read `BEGIN`."""

    home: str
    url: str
    epoch: float

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=SPEED * (time.time() - self.epoch))

    def spine(self, shelf: Shelf) -> Spine:
        return Spine(Store.at(Path(self.home), self.url, 1), shelf, self.now)


def prepare(spine: Spine, shelf: Shelf, files: dict[WeekKey, int], now: datetime) -> None:
    """As `release`, at a moment before the clock of the crowd begins to run."""
    release(replace(spine, clock=lambda: now), shelf, files, now)


def release(spine: Spine, shelf: Shelf, files: dict[WeekKey, int], now: datetime) -> None:
    """Ingest these variants, and compute whatever is not up to date then."""
    shelf.files = {key: file_of(Tier(key.tier_text), lines_of(key, variant)) for key, variant in files.items()}
    run = Run("an-execution", "a-correlation", now)
    ingest(spine, OTC, sorted(files), run, Options(min_records=1))
    compute_all(spine, run)


def compute_all(spine: Spine, run: Run) -> None:
    for name in COMPUTED:
        step = steps_of(OTC)[name]
        compute(spine, step, KEYS if step.table.by_tier else WEEKS, run)


def restate(place: Place, seed: int, report: str) -> None:
    """One writer: some partitions, each in some variant. A minute of it, and longer: benchmarks/contention.py."""
    quietly(report, lambda: _restate(place, random.Random(seed)))


def _restate(place: Place, chance: random.Random) -> int:
    shelf = Shelf()
    spine = place.spine(shelf)
    time.sleep(max(0.0, place.epoch - time.time()))
    keys = chance.sample(KEYS, chance.randint(1, 4))
    release(spine, shelf, {key: chance.randrange(VARIANTS) for key in keys}, spine.clock())
    return len(keys)


def ask(place: Place, stop: str, report: str) -> None:
    """One reader: latest and as of the past, until told to stop; how often it asked."""
    quietly(report, lambda: _ask(Store.at(Path(place.home), place.url, 1), Path(stop)))


def _ask(store: Store, stop: Path) -> int:
    past, rounds = as_of_past(store), 0
    while not stop.exists():
        assert torn(store) == []
        assert as_of_past(store) == past, "the past has changed"
        rounds += 1
    return rounds


def look_through(place: Place, stop: str, report: str) -> None:
    """One auditor: verifies the store while it is written to."""
    quietly(report, lambda: _look_through(Store.at(Path(place.home), place.url, 1), Path(stop)))


def _look_through(store: Store, stop: Path) -> int:
    rounds = 0
    while not stop.exists():
        assert verify(store) == []
        rounds += 1
    return rounds


def as_of_past(store: Store) -> list[list[tuple[str, str]]]:
    """The captures (and their content) that answer for each moment of the past."""
    names = tuple(OTC.sql_name(name) for name in ("raw", *COMPUTED))
    found = (store.select(Question(names, View.AS_OF, moment)) for moment in PAST)
    return [[(one.capture_id, one.content_hash) for one in answer] for answer in found]


def torn(store: Store) -> list[str]:
    """Partitions whose readable latest rows are not those of one delivery, or of the measures of one delivery."""
    tables = {OTC.sql_name(name): steps_of(OTC)[name].table for name in ("venue_volume", "symbol_hhi")}
    tables[OTC.sql_name("raw")] = OTC.raw
    wrong = []
    with store.engine() as engine:
        chosen = store.show_all(engine, tables, Question(tuple(tables)))
        for name, captures in chosen.items():
            cursor = engine.execute(f"SELECT * FROM {name}")
            columns = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(columns, values, strict=True)) for values in cursor.fetchall()]
            for one in captures:
                held = [row for row in rows if row["capture_id"] == one.capture_id]
                if not is_some_variant(name, one.key, held):
                    wrong.append(one.capture_id)
    return wrong


def is_some_variant(name: str, key: WeekKey, rows: list[dict[str, object]]) -> bool:
    """Whether the rows are one whole variant of the partition."""
    variants = [lines_of(key, variant) for variant in range(VARIANTS)]
    if name == OTC.sql_name("raw"):
        return raw_lines(rows) in [Counter(lines) for lines in variants]
    short = name.removeprefix("otc_")
    return any(is_same(rows_of(short, rows), expected(short, {key: lines})[key]) for lines in variants)
