"""What ingesting does when the week is already there: each policy, with its rows, its history and its result."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from market_spine.assets.capture import Options
from market_spine.assets.ingest import ingest
from market_spine.domain.captures import Action, IngestionResult, RevisionPolicy, View
from market_spine.domain.errors import ClockError
from market_spine.store.ledger import Run
from market_spine_tests.journeys.stage import POLICIES, Clock, Scene, copied, key, line, put, staged, text

pytestmark = pytest.mark.xdist_group("policies")
WEEK = key("2025-11-14")
OLD = {"AAA": 100, "BBB": 200, "OLD": 1}
NEW = {"AAA": 100, "BBB": 222, "NEW": 2}
VERSIONED, OVERWRITE, SKIP, MERGE = (POLICIES[policy] for policy in RevisionPolicy)


def rows(shares: dict[str, int]) -> bytes:
    return text([line(WEEK, symbol, "UBSA", number, 1) for symbol, number in shares.items()])


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The old week is there."""
    folder = tmp_path_factory.mktemp("before")
    put(folder / "files", WEEK, rows(OLD))
    with staged(folder / "home", f"file:{folder / 'files'}", Clock()) as scene:
        scene.refresh(WEEK)
        scene.clock.forward(days=1)
        yield scene


@pytest.fixture
def stage(before: Scene, tmp_path: Path) -> Iterator[Scene]:
    with copied(before, tmp_path) as scene:
        yield scene


def load(stage: Scene, folder: Path, shares: dict[str, int], options: Options) -> IngestionResult:
    """One more delivery, as the raw asset takes it."""
    put(folder / "files", WEEK, rows(shares))
    report = ingest(stage.spine, stage.feed, [WEEK], Run("a-run", "a-process", stage.clock()), options)
    (result,) = report.results
    return result


def held(stage: Scene, relation: str = "otc_raw") -> dict[str, int]:
    return {symbol: int(shares) for symbol, shares in stage.sql(f"SELECT symbol, total_shares FROM {relation}")}


CASES = [
    # policy, rows afterwards, revision, captures in the history, rows of the first release
    (VERSIONED, NEW, 2, 2, OLD),
    (OVERWRITE, NEW, 1, 1, NEW),
    (MERGE, {"AAA": 100, "BBB": 200, "OLD": 1, "NEW": 2}, 2, 2, OLD),
]


@pytest.mark.parametrize(
    ("options", "after", "revision", "history", "first"), CASES, ids=["versioned", "overwrite", "merge"]
)
def test_policy(
    stage: Scene,
    tmp_path: Path,
    options: Options,
    after: dict[str, int],
    revision: int,
    history: int,
    first: dict[str, int],
) -> None:
    """A policy that loses or doubles rows, or that counts revisions wrongly."""
    result = load(stage, tmp_path, NEW, options)
    assert result == IngestionResult(WEEK, len(after), revision, Action.UPDATED, 1, "")
    assert held(stage) == after
    assert len(stage.captures("raw")) == history
    assert held(stage, "otc_raw_first_release()") == first
    assert stage.counts("core_manifest", where="table_name = 'otc_raw'") == (2,), "what is overwritten stays on record"
    stage.refresh(WEEK, options=options)
    assert held(stage, "otc_venue_volume") == after
    assert stage.stale() == []


def test_skip_does_not_even_fetch(stage: Scene, tmp_path: Path) -> None:
    """A week that is there fetched again, or changed, under the policy that keeps it."""
    put(tmp_path / "files", WEEK, rows(NEW))
    report = ingest(stage.spine, stage.feed, [WEEK], Run("a-run", "a-process", stage.clock()), SKIP)
    assert (report.results, [one.key for one in report.unchanged]) == ([], [WEEK])
    assert stage.run("otc.ingest_week", WEEK, options=SKIP).is_complete
    assert held(stage) == OLD
    assert len(stage.landed(WEEK)) == 1


def test_skip_takes_what_is_not_there(stage: Scene, tmp_path: Path) -> None:
    """A policy that keeps everything, and so never gets anything."""
    later = key("2025-11-21")
    put(tmp_path / "files", later, text([line(later, "AAA", "UBSA", 5, 1)]))
    stage.run("otc.ingest_week", WEEK, later, options=SKIP)
    assert [one.key for one in stage.captures("raw")] == [WEEK, later]


@pytest.mark.parametrize("options", [VERSIONED, OVERWRITE], ids=["versioned", "overwrite"])
def test_the_same_content_is_no_news(stage: Scene, tmp_path: Path, options: Options) -> None:
    """A capture for every fetch: histories full of nothing."""
    again = dict(reversed(OLD.items()))  # another order is the same content
    result = load(stage, tmp_path, again, options)
    assert result == IngestionResult(WEEK, 3, 1, Action.SKIPPED, 1, "same content as revision 1")
    assert len(stage.captures("raw")) == 1
    assert stage.actions() == ["inserted", "skipped"]


def test_force_captures_the_same_content(stage: Scene, tmp_path: Path) -> None:
    """A forced run that is skipped, or derived tables that are not made again."""
    forced = Options(force=True, min_records=1)
    result = load(stage, tmp_path, OLD, forced)
    assert result == IngestionResult(WEEK, 3, 2, Action.UPDATED, 1, "")
    stage.clock.forward(days=1)
    before = stage.current_of(WEEK)
    stage.refresh(WEEK, options=forced)
    after = stage.current_of(WEEK)
    assert after["raw"].revision == 3
    assert {name: one.content_hash for name, one in before.items()} == {
        name: one.content_hash for name, one in after.items()
    }


def test_merge_that_adds_nothing(stage: Scene, tmp_path: Path) -> None:
    """A merge of known keys that makes a new capture, or that takes the other volume."""
    result = load(stage, tmp_path, {"AAA": 999}, MERGE)
    assert result == IngestionResult(WEEK, 3, 1, Action.SKIPPED, 1, "same content as revision 1")
    assert held(stage) == OLD


def test_merge_twice(stage: Scene, tmp_path: Path) -> None:
    """A second merge over the first one's rows: positions that collide, keys that come twice."""
    for shares in ({"M1": 1}, {"M1": 9, "M2": 2}):
        load(stage, tmp_path, shares, MERGE)
        stage.clock.forward(days=1)
    assert held(stage) == {**OLD, "M1": 1, "M2": 2}
    positions = "SELECT count(*), count(DISTINCT (part_no, line_no)) FROM otc_raw"
    assert stage.one(positions) == (5, 5)


def test_overwrite_leaves_no_earlier_answer(stage: Scene, tmp_path: Path) -> None:
    """A capture that was overwritten and still answers as of yesterday."""
    yesterday = stage.clock() - timedelta(hours=1)
    load(stage, tmp_path, NEW, OVERWRITE)
    assert held(stage, f"otc_raw_asof('{yesterday.isoformat()}')") == {}
    query = "SELECT status FROM core_manifest WHERE table_name = 'otc_raw' ORDER BY captured_at"
    assert stage.sql(query) == [("overwritten",), ("complete",)]


@pytest.mark.parametrize(("minimum", "action"), [(3, Action.INSERTED), (4, Action.BLOCKED), (0, Action.INSERTED)])
def test_min_records(tmp_path: Path, minimum: int, action: Action) -> None:
    """An override that is off by one, or 0 taken for 'not given'."""
    with staged(tmp_path / "home", f"file:{tmp_path / 'files'}", Clock()) as stage:
        result = load(stage, tmp_path, OLD, Options(min_records=minimum))
        assert result.action is action
        assert len(stage.captures("raw", View.LATEST)) == (action is Action.INSERTED)


def test_a_clock_that_runs_behind(stage: Scene, tmp_path: Path) -> None:
    """A capture dated before the one that it follows: as-of answers would turn round."""
    stage.clock.forward(days=-2)
    with pytest.raises(ClockError, match="set this machine's clock right"):
        load(stage, tmp_path, NEW, VERSIONED)
    assert held(stage) == OLD
