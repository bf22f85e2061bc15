"""Random histories of captures, run through the real ingest and compute, against a plain recomputation.

Each example is one store with several blocks of weeks that are too far apart to see one another: 2 examples of 26
blocks are 52 histories. A history is a few rounds; in each round the clock moves on (or does not), some files arrive
under one policy, and everything is computed that is not up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import sqlalchemy as sa
from duckdb import DuckDBPyConnection
from hypothesis import HealthCheck, example, given, settings

from market_spine.assets.calendar import capture_weeks
from market_spine.assets.capture import Options
from market_spine.assets.compute import compute, show_inputs
from market_spine.assets.ingest import ingest
from market_spine.assets.rebuild import rebuild
from market_spine.assets.spine import Spine
from market_spine.assets.tables import steps_of, tables_of
from market_spine.assets.views import views_of
from market_spine.domain.captures import RevisionPolicy, View
from market_spine.domain.contracts import Severity
from market_spine.domain.errors import ClockError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC
from market_spine.store.ledger import Run
from market_spine.store.manifest import Question, by_ids, inputs_of
from market_spine.store.plan import Target
from market_spine.store.publish import fill
from market_spine.store.schema import MANIFEST
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine_tests.journeys.history_model import SECOND, Line, Rows, expected, file_of
from market_spine_tests.journeys.history_scene import (
    COMPARED,
    COMPUTED,
    LINES,
    SLOTS,
    Judge,
    Round,
    Scene,
    histories,
    scene,
)

EXAMPLES = 2  # of 26 histories each

slow = pytest.mark.slow
of_histories = given(history=histories)


def examples(number: int) -> settings:
    return settings(max_examples=number, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated empty home, to be copied: migrating takes 0.2 s."""
    home = tmp_path_factory.mktemp("template")
    store = Store.at(home)
    store.ensure()
    store.control.dispose()
    return home


def moments_of(told: Scene) -> list[datetime]:
    """Every capture and just before it, half way to the next one, and long before the first."""
    known = told.model.moments()
    between = [one + (other - one) / 2 for one, other in pairwise(known)]
    around = [one + step for one in known for step in (-SECOND, timedelta(0))]
    return sorted({*around, *between, datetime(2020, 1, 1, tzinfo=known[0].tzinfo)}) if known else []


def versioned(*deliveries: dict[tuple[int, int], tuple[Line, ...]]) -> list[Round]:
    """Rounds within one second."""
    return [Round(0, RevisionPolicy.VERSIONED, dict(each)) for each in deliveries]


A, B, C = tuple(LINES[:2]), tuple(LINES[2:5]), tuple(LINES[5:7])


@slow
@examples(EXAMPLES)
@of_histories
# Two captures of one partition in one second: the other one is dated a second later, and so must be what comes after
# it, or with it: a window over both would have no answer for the moment at which the one was known.
@example(history=versioned({(0, 2): A}, {(0, 2): B}, {(0, 4): C}))
@example(history=versioned({(0, 2): A}, {(0, 2): B, (0, 4): C}))
def test_every_answer_equals_a_recomputation_from_what_had_landed(template: Path, history: list[Round]) -> None:
    """Rows that a restatement removed and an answer still shows, versions chosen per row, windows made of superseded
    weeks, history that moves afterwards: latest, first release and as-of at every moment, for seven tables."""
    with scene(template) as told:
        told.play(history)
        judge = Judge(told.contents())

        latest, first = told.select(View.LATEST), told.select(View.FIRST_RELEASE)
        judge.raw("latest", latest["raw"], told.model.latest())
        judge.raw("first", first["raw"], told.model.first())
        for name in COMPARED:
            judge.derived(name, "latest", latest[name], expected_now(name, told))
            judge.derived(name, "first", first[name], first_release(name, told))

        for moment in moments_of(told):
            answer, landed = told.select(View.AS_OF, moment), told.model.landed(moment)
            judge.raw(f"as of {moment}", answer["raw"], told.model.visible(moment))
            for name in COMPARED:
                judge.derived(name, f"as of {moment}", answer[name], expected(name, landed))

        assert told.select(View.AS_OF, told.now + timedelta(days=1)) == latest
        judge.hashes(told)
        assert verify(told.spine.store) == []


def expected_now(name: str, told: Scene) -> dict[WeekKey, Rows]:
    return expected(name, told.model.landed(told.now + timedelta(days=1)))


def first_release(name: str, told: Scene) -> dict[WeekKey, Rows]:
    """What each partition held when it was first computed, at the end of a round."""
    found: dict[WeekKey, Rows] = {}
    for state in told.states:
        found = expected(name, state) | found  # what was there stays
    return found


def stored(told: Scene) -> tuple[set[Path], list[tuple[object, ...]]]:
    """Every capture file, and every row of the manifest."""
    with told.spine.store.control.read() as connection:
        rows = [tuple(row) for row in connection.execute(sa.select(MANIFEST).order_by(MANIFEST.c.capture_id))]
    return set(told.spine.store.home.captures.rglob("*.*")), rows


@slow
@pytest.mark.extended
@examples(EXAMPLES)
@of_histories
def test_doing_it_again_changes_nothing_and_every_law_holds(template: Path, history: list[Round]) -> None:
    """A rerun that makes captures of what is known, for its order of rows or for nothing, and broken laws."""
    with scene(template) as told:
        told.play(history)
        compute_everything(told)
        before = stored(told)

        told.now += timedelta(days=7)
        held = told.model.latest()
        told.shelf.files = {
            key: file_of(Tier(key.tier_text), reversed(lines), blanks=place)  # no two files of one run are the same
            for place, (key, lines) in enumerate(sorted(held.items(), key=lambda item: item[0]))
        }
        report = ingest(told.spine, OTC, sorted(held), told.run(), Options(min_records=1))
        compute_everything(told)

        assert {one.key for one in report.unchanged} == set(held)
        assert stored(told) == before
        assert broken_laws(told) == []
        assert verify(told.spine.store) == []


def usable(told: Scene) -> list[WeekKey]:
    return sorted(told.model.landed(told.now + timedelta(days=1)))


def weeks_of(told: Scene) -> list[WeekKey]:
    return [WeekKey(week, None) for week in sorted({key.week_ending for key in usable(told)})]


def compute_everything(told: Scene) -> None:
    """The calendar and every calculation that is found, for every partition that is there."""
    keys, weeks = usable(told), weeks_of(told)
    capture_weeks(told.spine, weeks, told.run())
    for name, step in steps_of(OTC).items():
        report = compute(told.spine, step, keys if step.table.by_tier else weeks, told.run())
        assert name == "venue_volume" or report.without_capture == {}


def broken_laws(told: Scene) -> list[tuple[str, str]]:
    """Every CRITICAL law of every calculation, on the captures as they are stored."""
    store, broken = told.spine.store, []
    latest = store.select(Question(tuple(tables_of(OTC)), View.LATEST))
    with store.control.read() as connection:
        sources = inputs_of(connection, [one.capture_id for one in latest])
        captures = by_ids(connection, {source for ids in sources.values() for source in ids})
    for name, step in steps_of(OTC).items() if latest else ():
        held = [one for one in latest if one.table_name == step.table_name]
        targets = [Target(one.key, tuple(captures[source] for source in sources[one.capture_id])) for one in held]
        with store.engine() as engine:
            show_inputs(told.spine, engine, step, targets)
            store.show(engine, name, step.table, held)
            if step.rejects_sql:
                engine.execute(f"CREATE TABLE rejects AS {step.rejects_sql}")
            for law in step.calculation.invariants:
                if law.severity is Severity.CRITICAL and engine.execute(law.sql).fetchall():
                    broken.append((name, law.name))
    return broken


@slow
@examples(EXAMPLES)
@of_histories
def test_a_rebuild_and_the_published_relations_agree(template: Path, history: list[Round]) -> None:
    """A journal from which a history cannot be made again, and a second choice of versions unlike the first."""
    with scene(template) as told:
        told.play(history)
        compute_everything(told)
        before = [row[:12] for row in stored(told)[1]]

        with told.spine.store.engine() as engine:
            fill(told.spine.store, engine, tables_of(OTC), views_of(OTC))
            for moment in moments_of(told):
                for name, answer in told.select(View.AS_OF, moment).items():
                    relation = f"{OTC.sql_name(name)}_asof('{moment.isoformat()}')"
                    found = {row[0] for row in engine.execute(f"SELECT DISTINCT capture_id FROM {relation}").fetchall()}
                    assert found == {one.capture_id for one in answer.values() if one.row_count}, f"{relation}"

        report = rebuild(told.spine, [OTC])
        assert report.differences == []
        assert report.swapped
        assert [row[:12] for row in stored(told)[1]] == before
        assert verify(told.spine.store) == []


@dataclass(frozen=True)
class SlowSpine(Spine):
    """A platform on which something else happens between planning a computation and doing it."""

    meanwhile: list[Callable[[], None]] = field(default_factory=list)

    @contextmanager
    def engine(self) -> Iterator[DuckDBPyConnection]:
        while self.meanwhile:
            self.meanwhile.pop()()
        with super().engine() as connection:
            yield connection


SLOW = {
    # Both of one second: the slow writer works without the earlier week, or with its superseded first release.
    "a week of the window arrives meanwhile": [],
    "a week of the window is restated meanwhile": [LINES[:2]],
}


@pytest.mark.parametrize("before", SLOW.values(), ids=list(SLOW))
def test_a_slow_writer_does_not_replace_what_newer_inputs_gave(template: Path, before: list[list[Line]]) -> None:
    """A computation that was planned before another process had done a better one, and is committed after it."""
    week, earlier = (0, 4), (0, 2)
    with scene(template) as told:
        arrived = [(earlier, tuple(lines)) for lines in before]
        told.arrive(Round(0, RevisionPolicy.VERSIONED, dict([*arrived, (week, tuple(LINES[:3]))])))
        told.compute_all(COMPUTED[:-1])

        def other_process() -> None:
            told.arrive(Round(0, RevisionPolicy.VERSIONED, {earlier: tuple(LINES[3:6])}))
            told.compute_all()

        spine = told.spine
        slow = SlowSpine(spine.store, spine.source, spine.clock, meanwhile=[other_process])
        compute(slow, steps_of(OTC)["symbol_rolling_6w"], told.keys, told.run())

        judge, latest = Judge(told.contents()), told.select(View.LATEST)
        judge.derived(
            "symbol_rolling_6w", "latest", latest["symbol_rolling_6w"], expected_now("symbol_rolling_6w", told)
        )
        assert told.compute_all() == 0
        assert told.select(View.LATEST) == latest
        assert verify(spine.store) == []


def test_a_run_that_read_its_clock_long_ago(template: Path) -> None:
    """A run that fetches for minutes while another captures the same partition: its clock is not wrong, and what it
    captures follows. A clock that really runs behind is refused."""
    with scene(template) as told:
        key = SLOTS[0][0]
        told.now += timedelta(minutes=10)
        told.arrive(versioned({(0, 0): A})[0])
        began = Run("an-execution", "a-correlation", told.now - timedelta(minutes=9))
        told.shelf.files = {key: file_of(Tier.OTC, B)}

        with pytest.raises(ClockError, match="set this machine's clock right"):
            ingest(replace(told.spine, clock=lambda: began.now), OTC, [key], began, Options(min_records=1))
        right = replace(told.spine, clock=lambda: told.now + timedelta(seconds=1))
        report = ingest(right, OTC, [key], began, Options(min_records=1))
        assert [(one.revision, one.captured_at) for one in report.written] == [(2, told.now + SECOND)]
