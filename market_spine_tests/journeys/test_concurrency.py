"""Many processes on one store at once: nobody fails, nobody waits for ever, nobody sees half of anything."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from market_spine.assets.rebuild import rebuild
from market_spine.assets.spine import Spine
from market_spine.assets.tables import steps_of
from market_spine.domain.captures import View
from market_spine.feeds.otc import OTC
from market_spine.store.ledger import Run
from market_spine.store.manifest import Question, inputs_of
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine_tests.extended import extended
from market_spine_tests.journeys import crowd, worker
from market_spine_tests.journeys.crowd import Place
from market_spine_tests.journeys.history_model import expected
from market_spine_tests.journeys.history_scene import COMPARED, COMPUTED, Shelf, is_same, raw_lines, rows_of
from market_spine_tests.journeys.yard import FIRST, WAIT, Yard, a_yard, hashes, told

pytestmark = pytest.mark.slow

WRITERS, READERS = 8, 4
NAMES = {OTC.sql_name(name): name for name in ("raw", *COMPUTED)}


@pytest.fixture(scope="module")
def yard() -> Iterator[Yard]:
    with a_yard() as place:
        yield place


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """'' for the embedded database, or that of a real server."""
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgres_database"))


@contextmanager
def opened(place: Place, shelf: Shelf) -> Iterator[Spine]:
    """The store in this process, its connections closed on every way out."""
    spine = place.spine(shelf)
    try:
        yield spine
    finally:
        spine.store.control.dispose()


def prepared(yard: Yard, url: str) -> Place:
    """A store with two releases of every partition, and the moment at which the crowd starts."""
    place = Place(yard.place("crowd"), url, 0.0)
    shelf = Shelf()
    with opened(place, shelf) as spine:
        for variant, now in enumerate(crowd.RELEASES):
            crowd.prepare(spine, shelf, dict.fromkeys(crowd.KEYS, variant), now)
    return Place(place.home, url, time.time() + 1)


@pytest.mark.parametrize("url", ["sqlite", extended("postgres")], indirect=True)
def test_eight_writers_four_readers_and_an_auditor(yard: Yard, url: str) -> None:
    """Lost restatements, two current captures, torn answers, a past that changes, measures of inputs they were not
    made from, and errors that only a crowd meets."""
    place = prepared(yard, url)
    stop = Path(yard.place("stop"))
    reports = [yard.place("report") for _ in range(WRITERS + READERS + 1)]
    writers = [yard.start(crowd.restate, place, seed, reports[seed]) for seed in range(WRITERS)]
    others = [yard.start(crowd.ask, place, str(stop), report) for report in reports[WRITERS:-1]]
    others.append(yard.start(crowd.look_through, place, str(stop), reports[-1]))
    for process in writers:
        process.join(2 * WAIT)
    stop.touch()
    for process in others:
        process.join(WAIT)
    assert all(told(report) > 0 for report in reports)

    with opened(place, Shelf()) as spine:
        crowd.compute_all(spine, Run("an-execution", "a-correlation", place.now()))
        check_revisions(spine.store)
        check_measures(spine.store)
        assert verify(spine.store) == []
        assert rebuild(spine, [OTC], swap=False).differences == []


def check_revisions(store: Store) -> None:
    """One current capture per partition, the newest; revisions without a gap; as many as there were changes."""
    every = store.select(Question(tuple(NAMES), View.ALL_REVISIONS))
    latest = {(one.table_name, one.key): one for one in store.select(Question(tuple(NAMES)))}
    for place, current in latest.items():
        line = [one for one in every if (one.table_name, one.key) == place]
        assert [one.revision for one in line] == list(range(1, len(line) + 1))
        assert [one for one in line if one.is_current] == [current]
        assert current.captured_at == max(one.captured_at for one in line)
        if current.table_name == OTC.sql_name("raw"):
            assert len({one.captured_at for one in line}) == len(line)
            assert all(one.content_hash != other.content_hash for one, other in pairwise(line))
    assert {key for name, key in latest if name == OTC.sql_name("raw")} == set(crowd.KEYS)
    assert max(one.revision for one in latest.values()) > 3, "the crowd hardly restated anything"


def check_measures(store: Store) -> None:
    """The latest measures are those of the latest deliveries, and every one ever made is what its inputs give.

    While others write, a measure of two tables may be made of inputs that stand for two revisions of a partition; it is
    superseded as soon as someone computes again, and told by its inputs.
    """
    every = {one.capture_id: one for one in store.select(Question(tuple(NAMES), View.ALL_REVISIONS))}
    with store.control.read() as connection:
        inputs = inputs_of(connection, set(every))
    rows = contents(store)
    lines = {one: tuple(raw_lines(rows[one]).elements()) for one in every if NAMES[every[one].table_name] == "raw"}

    def roots(capture_id: str) -> set[str]:
        return {capture_id} if capture_id in lines else {one for source in inputs[capture_id] for one in roots(source)}

    latest = {one.key: lines[one.capture_id] for one in every.values() if one.is_current and one.capture_id in lines}
    compared = 0
    for one in every.values():
        if (name := NAMES[one.table_name]) not in COMPARED:
            continue
        made_from = "\n".join([steps_of(OTC)[name].calculation.version, *inputs[one.capture_id]])
        assert one.inputs_hash == hashlib.sha256(made_from.encode()).hexdigest()[:32]
        stored, sources = rows_of(name, rows[one.capture_id]), roots(one.capture_id)
        state = {every[source].key: lines[source] for source in sources}
        if len(state) == len(sources):
            compared += 1
            assert is_same(stored, expected(name, state)[one.key]), one.capture_id
        if one.is_current:
            assert is_same(stored, expected(name, latest)[one.key]), one.capture_id
    assert compared > len(every) / 2


def contents(store: Store) -> dict[str, list[dict[str, object]]]:
    """The rows of every capture."""
    tables = {name: OTC.raw if short == "raw" else steps_of(OTC)[short].table for name, short in NAMES.items()}
    found: dict[str, list[dict[str, object]]] = {}
    with store.engine() as engine:
        for name, chosen in store.show_all(engine, tables, Question(tuple(tables), View.ALL_REVISIONS)).items():
            found |= {one.capture_id: [] for one in chosen}
            cursor = engine.execute(f"SELECT * FROM {name}")
            columns = [column[0] for column in cursor.description or ()]
            for values in cursor.fetchall():
                row = dict(zip(columns, values, strict=True))
                found[row["capture_id"]].append(row)
    return found


@pytest.mark.parametrize("turn", range(3))
def test_eight_processes_open_a_new_home_at_one_moment(yard: Yard, url: str, turn: int) -> None:
    """A first use that migrates twice, or fails for those who come second."""
    home, at = yard.place(f"new-{turn}"), time.time() + 0.5
    reports = [yard.place("report") for _ in range(8)]
    processes = [yard.start(worker.open_home, home, url, at, report) for report in reports]
    for process in processes:
        process.join(WAIT)
    applied = [told(report) for report in reports]
    assert sorted(map(len, applied))[:7] == [0] * 7
    assert max(applied) != []
    store = Store.at(Path(home), url)
    assert store.ensure() == []
    assert verify(store) == []
    store.control.dispose()


def test_one_request_launched_twice_at_once(yard: Yard) -> None:
    """The same backfill started by two people: both succeed, and everything is captured once."""
    home, alone = Path(yard.place("twice")), Path(yard.place("alone"))
    with worker.instance_of(home):
        pass  # Dagster makes its own databases here; it cannot do so twice at once
    tasks = [yard.task(home, FIRST) for _ in range(2)]
    processes = [yard.start(worker.backfill, task) for task in tasks]
    for process in processes:
        process.join(WAIT)
    for task in tasks:
        assert told(task.report) | {"seconds": 0} == {"failures": [], "without_capture": {}, "seconds": 0}
    yard.complete(worker.refresh, yard.task(alone, FIRST))
    assert hashes(home) == hashes(alone)
    store = Store.at(home)
    names = tuple(sorted({table for table, _ in hashes(home)}))
    assert {one.revision for one in store.select(Question(names, View.ALL_REVISIONS))} == {1}
    assert verify(store) == []
    store.control.dispose()
