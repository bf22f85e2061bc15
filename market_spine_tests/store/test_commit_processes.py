"""Eight processes that commit restatements of overlapping partitions: one current capture each, and a whole journal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from market_spine.domain.captures import View
from market_spine.domain.errors import CaptureConflict
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.store.commit import commit
from market_spine.store.control import Control
from market_spine.store.journal import read
from market_spine.store.ledger import apply
from market_spine.store.manifest import Question
from market_spine.store.schema import JOURNALLED, MANIFEST
from market_spine.store.store import Store
from market_spine_tests.store.builders import DERIVED, RAW, WEEK, batch, derived, raw
from market_spine_tests.store.processes import at_once

KEYS = [WeekKey(WEEK, tier) for tier in Tier]
ROUNDS = 4


def _restate(root: str, url: str, worker: int) -> list[str]:
    """Restate every partition ``ROUNDS`` times, each round deciding anew when beaten; the ids that were committed."""
    store = Store.at(Path(root), url)
    done: list[str] = []
    for round_no in range(ROUNDS):
        keys = KEYS[worker % 3 :] + KEYS[: worker % 3]  # another order in every process
        done += _until_committed(store, keys, f"{worker}{round_no}")
    store.control.dispose()
    return done


def _until_committed(store: Store, keys: list[WeekKey], content: str) -> list[str]:
    for _ in range(500):
        held = {one.key: one for one in store.select(Question((RAW,)))}
        new = []
        for key in keys:
            seconds = (held[key].captured_at - raw().captured_at).total_seconds() + 1 if key in held else 0
            follows = held[key].capture_id if key in held else ""
            path = f"{content}/{key}/{seconds}.parquet"
            new.append(raw(key, seconds, content, follows=follows, file_path=path))
        made = [derived([one], content=content, file_path=f"d/{one.file_path}") for one in new]
        try:
            commit(store.control, store.home, batch(*new, *made))
        except CaptureConflict:
            continue
        return [one.capture_id for one in new]
    raise AssertionError("beaten 500 times")


def _same_bytes(root: str, url: str, worker: int) -> bool:
    """Capture one content unless it is there: whether this process was the one that did."""
    store = Store.at(Path(root), url)
    for attempt in range(500):
        held = store.select(Question((RAW,)))
        if held:
            return False
        new = raw(seconds=worker + attempt, follows="", file_path=f"{worker}/{attempt}.parquet")
        try:
            commit(store.control, store.home, batch(new))
        except CaptureConflict:
            continue
        return True
    raise AssertionError("beaten 500 times")


@pytest.mark.slow
def test_eight_writers_leave_one_current_capture_per_partition(store: Store, tmp_path: Path) -> None:
    """Prevents lost restatements, two current captures, revisions counted twice, and a journal out of step."""
    arguments = [(str(store.home.root), store.control.url, worker) for worker in range(8)]
    committed = [capture_id for ids in at_once(_restate, arguments) for capture_id in ids]
    assert len(set(committed)) == len(committed) == 8 * ROUNDS * 3
    for table in (RAW, DERIVED):
        found = store.select(Question((table,), View.ALL_REVISIONS))
        assert Counter(one.tier for one in found) == dict.fromkeys((tier.value for tier in Tier), 8 * ROUNDS)
        for tier in Tier:
            line = sorted((one for one in found if one.tier == tier), key=lambda one: one.captured_at)
            assert [one.revision for one in line] == list(range(1, 8 * ROUNDS + 1))
            assert [one.is_current for one in line] == [False] * (8 * ROUNDS - 1) + [True]
    _assert_journal_is_the_history(store, tmp_path)


def _assert_journal_is_the_history(store: Store, tmp_path: Path) -> None:
    replayed = Control(f"sqlite:///{tmp_path / 'replayed.db'}")
    replayed.ensure()
    with replayed.write() as connection:
        for entry in read(store.home.journal, JOURNALLED):
            apply(connection, entry)
    select = sa.select(MANIFEST).order_by(MANIFEST.c.capture_id)
    with replayed.read() as ours, store.control.read() as theirs:
        wanted = [tuple(row) for row in theirs.execute(select)]
        assert sorted(map(repr, wanted)) == sorted(repr(tuple(row)) for row in ours.execute(select))
    assert len(wanted) == 8 * ROUNDS * 6
    replayed.dispose()


@pytest.mark.slow
def test_eight_writers_of_the_same_bytes_make_one_capture(store: Store) -> None:
    """Prevents one file that eight processes fetch at once from becoming eight revisions without a difference."""
    arguments = [(str(store.home.root), store.control.url, worker) for worker in range(8)]
    assert sorted(at_once(_same_bytes, arguments)) == [False] * 7 + [True]
    assert len(store.select(Question((RAW,), View.ALL_REVISIONS))) == 1
