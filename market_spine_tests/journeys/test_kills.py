"""Real processes killed with SIGKILL in the middle of real work: nothing half-done is ever visible, and a rerun ends
where an undisturbed run ends.

A kill loses no write that the kernel has taken, so the homes lie in memory where the machine has such a folder.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa

from market_spine.assets.rebuild import rebuild
from market_spine.assets.tables import steps_of
from market_spine.feeds.otc import OTC
from market_spine.store.gc import collect
from market_spine.store.journal import read
from market_spine.store.schema import BATCHES, JOURNALLED, MANIFEST
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine_tests.extended import extended
from market_spine_tests.journeys import worker
from market_spine_tests.journeys.worker import AFTER, BEFORE, Point, Task
from market_spine_tests.journeys.yard import FIRST, KEYS, MINUTE, RECIPE, REVISED, WAIT, Hashes, Yard, a_yard, hashes

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kills")]

# What the content of a partition depends on is that partition alone, so it is the first release or the revision.
ALONE = (
    "raw",
    *(name for name, step in steps_of(OTC).items() if step.table.by_tier and not step.calculation.weeks_back),
)


@pytest.fixture(scope="module")
def yard() -> Iterator[Yard]:
    with a_yard() as place:
        yield place


@dataclass(frozen=True)
class Undisturbed:
    """A home after the first release, and what every partition is then and after the revision."""

    home: Path
    first: Hashes
    revised: Hashes
    calls: dict[str, int]


@pytest.fixture(scope="module")
def undisturbed(yard: Yard) -> Undisturbed:
    home = Path(yard.place("undisturbed"))
    yard.complete(worker.refresh, yard.task(home, FIRST))
    first, prepared = hashes(home), yard.copy(home)
    calls = yard.complete(worker.refresh, yard.task(home, REVISED))["calls"]
    return Undisturbed(prepared, first, hashes(home), calls)


def check_after_kill(home: Path, known: Undisturbed) -> None:
    """Everything visible is whole: files, rows, journal, the published file, and each partition one of its versions."""
    store = Store.at(home)
    assert verify(store) == []
    assert worker.miscounted(store) == []
    alone = {OTC.sql_name(name) for name in ALONE}
    for place, content in hashes(home).items():
        assert place[0] not in alone or content in (known.first[place], known.revised[place]), place
    if store.home.published.exists():
        with duckdb.connect(str(store.home.published), read_only=True) as engine:
            assert engine.execute("SELECT count(*) FROM core_manifest").fetchone() is not None
    store.control.dispose()


def check_after_recovery(home: Path, known: Undisturbed, with_rebuild: bool) -> None:
    """The content of an undisturbed run; sweeping removes left-overs only; the journal is the history."""
    assert hashes(home) == known.revised
    store = Store.at(home)
    collect(store, datetime.now(UTC) + timedelta(hours=2), timedelta(hours=1))
    assert verify(store) == []
    with store.control.read() as connection:
        named = {store.home.captures / path for path in connection.scalars(sa.select(MANIFEST.c.file_path))}
    assert {path for path in store.home.captures.rglob("*") if path.is_file()} == named
    assert [*store.home.landing.rglob("*.tmp"), *home.glob(".*.tmp*")] == []
    if with_rebuild:
        spine = replace(Task(str(home), RECIPE, KEYS, REVISED.isoformat(), "").spine(), store=store)
        report = rebuild(spine, [OTC])
        assert report.differences == []
        assert hashes(home) == known.revised
        assert verify(store) == []
    store.control.dispose()


# Of each kind of call: how many kills, spread evenly over the calls of an undisturbed run.
KILLS = {("fsync", BEFORE): 2, ("fsync", AFTER): 2, ("rename", BEFORE): 1, ("rename", AFTER): 2}
KILLS |= {("commit", BEFORE): 3, ("commit", AFTER): 3}
POINTS = [
    extended(call, when, part, when=part > 1) for (call, when), many in KILLS.items() for part in range(1, many + 1)
]


@pytest.mark.parametrize(("call", "when", "part"), POINTS)
def test_a_kill_at_a_sync_a_rename_or_a_commit(
    yard: Yard, undisturbed: Undisturbed, call: str, when: str, part: int
) -> None:
    """The windows between file and row, between journal and commit, between commit and the next step."""
    number = max(1, undisturbed.calls[call] * part // KILLS[call, when])
    home = yard.copy(undisturbed.home)
    process = yard.start(worker.refresh, yard.task(home, REVISED, Point(call, when, number)))
    process.join(WAIT)
    assert process.exitcode == -signal.SIGKILL
    check_after_kill(home, undisturbed)
    yard.complete(worker.refresh, yard.task(home, REVISED + MINUTE))
    check_after_recovery(home, undisturbed, with_rebuild=part % 3 == 0)
    shutil.rmtree(home)


KILLS_PER_HOME = 4  # 200 more, over all processes: benchmarks/kills.py


@pytest.fixture(scope="module")
def launched(yard: Yard) -> tuple[Path, float]:
    """A home with a Dagster instance and no work done yet, and how long an undisturbed backfill of it takes."""
    home = Path(yard.place("launched"))
    Store.at(home).ensure()
    with worker.instance_of(home):
        pass
    seconds = yard.complete(worker.backfill, yard.task(yard.copy(home), FIRST))["seconds"]
    return home, float(seconds)


def kill_at_random(process: Any, home: Path, moments: random.Random, seconds: float) -> bool:
    """Kill after a random number of new transactions and a random while; whether it was still at work.

    Counted in transactions because a busy machine takes any time for them. There are 12 in an undisturbed run.
    """
    journal = Store.at(home).home.journal
    enough = len(list(journal.glob("*/*.zst"))) + moments.randint(0, 8)
    while process.is_alive() and len(list(journal.glob("*/*.zst"))) < enough:
        time.sleep(0.002)
    time.sleep(moments.uniform(0, seconds / 6))
    process.kill()
    process.join(WAIT)
    return bool(process.exitcode == -signal.SIGKILL)


@pytest.mark.extended
def test_a_backfill_killed_at_random_moments(
    yard: Yard, undisturbed: Undisturbed, launched: tuple[Path, float]
) -> None:
    """A real backfill through Dagster, killed four times over on one home while a reader reads: two kills during the
    first release, two during its revision; what Dagster's own records are left in must not hinder the next run."""
    prepared, seconds = launched
    home, moments = yard.copy(prepared), random.Random(0)
    killed = 0
    with yard.reading(home):
        for attempt in range(KILLS_PER_HOME):
            now = (FIRST if attempt < 2 else REVISED) + attempt * MINUTE
            process = yard.start(worker.backfill, yard.task(home, now))
            killed += kill_at_random(process, home, moments, seconds)
            check_after_kill(home, undisturbed)
        last = yard.complete(worker.backfill, yard.task(home, REVISED + KILLS_PER_HOME * MINUTE))

    assert killed >= 2, "the others had ended before their moment"
    assert last["failures"] == []
    assert last["without_capture"] == {}
    check_after_recovery(home, undisturbed, with_rebuild=True)
    shutil.rmtree(home)


def test_a_rebuild_right_after_a_kill_between_journal_and_commit(yard: Yard, undisturbed: Undisturbed) -> None:
    """An entry whose transaction never committed, taken for history: its captures would appear from nowhere."""
    for number in range(1, undisturbed.calls["commit"] + 1):
        home = yard.copy(undisturbed.home)
        process = yard.start(worker.refresh, yard.task(home, REVISED, Point("commit", BEFORE, number)))
        process.join(WAIT)
        store = Store.at(home)
        with store.control.read() as connection:
            committed = connection.scalar(sa.select(sa.func.count()).select_from(BATCHES))
        if len(list(read(store.home.journal, JOURNALLED))) > (committed or 0):
            break
        shutil.rmtree(home)
    else:
        pytest.fail("no commit has a journal entry before it")
    before = hashes(home)
    report = rebuild(Task(str(home), RECIPE, KEYS, REVISED.isoformat(), "").spine(), [OTC])
    assert report.differences == []
    assert report.swapped
    assert hashes(home) == before
    assert verify(store) == []
