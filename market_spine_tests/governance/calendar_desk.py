"""A store with a real calendar and hand-made captures over it, and builds of the library that say something else.

What belongs here: arriving, correcting and reading back. What does not: claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

import sqlalchemy as sa

from market_spine.assets.calendar import capture_weeks
from market_spine.assets.capture import RawReport
from market_spine.assets.scope import scope_of
from market_spine.assets.spine import Spine
from market_spine.assets.tables import CALENDAR, derived_of
from market_spine.domain.corrections import Correction
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.vintages import Vintage, corrected
from market_spine.feeds.otc import FEED
from market_spine.governance.calendar import CorrectionPlan, Library, plan_correction, record_correction
from market_spine.governance.staleness import Place
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store.ledger import Run
from market_spine.store.manifest import Capture, Question
from market_spine.store.plan import Input
from market_spine.store.schema import BATCHES
from market_spine.store.store import Store
from market_spine_tests.domain.vintage_lab import library, opened
from market_spine_tests.governance.ledger import Ledger
from market_spine_tests.store.good_rows import BATCH_ROW

T1, OTC = Tier.NMS_TIER_1, Tier.OTC
BEGUN = datetime(2026, 1, 5, 12, tzinfo=UTC)
PER_DAY, SIX_WEEKS, BASELINE = "otc_volume_per_day", "otc_symbol_volume_per_day_6w", "otc_weekly_baseline"
DERIVED = {one.table_name: one for one in derived_of(FEED)}
REAL = Library("4.13.2", lambda _: library())


def knowing(correction: Correction, version: str) -> Library:
    """A build of the library that says what ``correction`` says, without one."""

    def built(name: str) -> Vintage:
        return replace(corrected(library(), correction), library_version=name, corrections=())

    return Library(version, built)


def without(*days: date) -> Library:
    """A build from before these days were closed."""
    return knowing(opened(*days), "4.0")


@dataclass
class Desk:
    """A store, its manifest to be filled by hand, and a clock that goes on by a minute with every use."""

    spine: Spine
    ledger: Ledger
    moment: datetime = BEGUN

    @property
    def store(self) -> Store:
        return self.spine.store

    def run(self) -> Run:
        self.moment += timedelta(minutes=1)
        return Run("run", "process", self.moment)

    def capture(self, weeks: Iterable[date], build: Library = REAL) -> RawReport:
        return capture_weeks(self.spine, [WeekKey(week, None) for week in weeks], self.run(), build)

    def calendar(self) -> dict[date, Capture]:
        """The current captures of the calendar by week."""
        return {one.week_ending: one for one in self.store.select(Question((CALENDAR,)))}

    def make(self, names: Sequence[str], keys: Sequence[WeekKey]) -> None:
        """Captures without files of calculated tables."""
        for name in names:
            self.ledger.make(DERIVED[name], keys)

    def load(self, weeks: Sequence[date], tiers: Sequence[Tier] = (T1, OTC), build: Library = REAL) -> None:
        """The calendar of ``weeks``, and by hand everything that is made from it."""
        self.capture(weeks, build)
        keys = [WeekKey(week, tier) for week in weeks for tier in tiers]
        for name in ("symbol_summary", "venue_share"):
            self.ledger.arrive(Input(name, f"otc_{name}", True), *keys)
        self.make((PER_DAY, SIX_WEEKS, BASELINE), keys)

    def plan(self, correction: Correction, build: Library = REAL) -> CorrectionPlan:
        return plan_correction(self.store, correction, build, CALENDAR, [scope_of(FEED)])

    def correct(self, correction: Correction, build: Library = REAL) -> None:
        """Record ``correction`` and capture the weeks that it changes."""
        weeks = [one.week for one in self.plan(correction, build).weeks]
        record_correction(self.store, self.run(), correction, build)
        if weeks:
            self.capture(weeks, build)


@contextmanager
def desk_at(store: Store) -> Iterator[Desk]:
    with store.control.write() as connection:
        connection.execute(sa.insert(BATCHES), BATCH_ROW)
    made: list[Desk] = []
    spine = Spine(store, SyntheticSource.from_spec(""), lambda: made[0].moment)
    made.append(Desk(spine, Ledger(store.control)))
    yield made[0]


def places(plan: CorrectionPlan) -> set[Place]:
    return set(plan.partitions)
