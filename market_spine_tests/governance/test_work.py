"""Laws of the work ledger under any order of asking, claiming, settling, retrying and cancelling."""

from __future__ import annotations

import tempfile
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from market_spine.domain.errors import WorkError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.work import BACKFILL, CATCH_UP, CURRENT, TRANSITIONS, ErrorClass, WorkState
from market_spine.governance import work as ledger
from market_spine.governance.work import Ask, Result
from market_spine.store import work
from market_spine.store.ledger import Run
from market_spine.store.store import Store
from market_spine.store.verify import verify
from market_spine.store.work import Row

DOMAIN, PIPELINE = "finra.otc_transparency", "finra.otc_transparency.weekly_refresh"
KEYS = [WeekKey(date(2025, 11, 14), tier) for tier in Tier]
RESULTS = [Result("r", "done", WorkState.COMPLETE), Result(None, "no run", WorkState.PENDING)] + [
    Result("r", str(error), error=error) for error in ErrorClass
]


class Ledger(RuleBasedStateMachine):
    """Four hands on one ledger; after each step its laws hold."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.at(Path(self.folder.name) / "home")
        self.store.ensure()
        self.now = datetime(2025, 12, 15, 15, tzinfo=UTC)
        self.steps = 0

    def teardown(self) -> None:
        assert not verify(self.store)
        self.store.control.dispose()
        self.folder.cleanup()

    def run_(self) -> Run:
        self.steps += 1
        return Run(f"s{self.steps}", f"s{self.steps}", self.now)

    def rows(self) -> list[Row]:
        with self.store.control.read() as connection:
            return work.items(connection)

    @rule(key=st.sampled_from(KEYS), priority=st.sampled_from([100, 25]), hours=st.sampled_from([None, 1, 48]))
    def ask(self, key: WeekKey, priority: int, hours: int | None) -> None:
        had = [row for row in self.rows() if row["tier"] == key.tier_text and WorkState(row["state"]).is_open]
        last = self.now + timedelta(hours=hours) if hours else None
        one = Ask(DOMAIN, PIPELINE, key, self.now, priority, last)
        found = ledger.enqueue(self.store, self.run_(), [one], "ops")
        assert (len(found.added), [row["id"] for row in found.held]) == (not had, [row["id"] for row in had])
        for row in found.held:  # never less urgent than whoever asks for it
            assert row["state"] == WorkState.RUNNING or row["priority"] >= priority

    @rule(limit=st.integers(1, 3))
    def claim(self, limit: int) -> None:
        claimed = ledger.claim(
            self.store, self.run_(), DOMAIN, lambda rows, held, token: {token: rows[:limit]}, "sensor"
        )
        priorities = [row["priority"] for rows in claimed.values() for row in rows]
        assert priorities == sorted(priorities, reverse=True)

    @rule(result=st.sampled_from(RESULTS), is_late=st.booleans())
    def settle(self, result: Result, is_late: bool) -> None:
        running = [row for row in self.rows() if row["state"] == WorkState.RUNNING]
        claims = {(row["id"], "an older claim" if is_late else row["locked_by"]): result for row in running}
        settled = ledger.settle(self.store, self.run_(), claims, "sensor")
        assert len(settled) == (0 if is_late else len(running))
        for row in settled:
            if row["state"] == WorkState.RETRY_WAIT:
                assert row["next_attempt_at"] > self.now or row["next_attempt_at"] == row["give_up_at"]

    @rule(data=st.data(), what=st.sampled_from(["retry", "cancel"]))
    def by_hand(self, data: Any, what: str) -> None:
        rows = self.rows()
        if not rows:
            return
        row = data.draw(st.sampled_from(rows))
        to = WorkState.PENDING if what == "retry" else WorkState.CANCELLED
        newer = [one for one in rows if one["tier"] == row["tier"] and one["generation"] > row["generation"]]
        allowed = to in TRANSITIONS[WorkState(row["state"])] and not (what == "retry" and newer)
        with nullcontext() if allowed else pytest.raises(WorkError, match="spine work show"):
            if what == "retry":
                ledger.retry(self.store, self.run_(), [row["id"]], "ops")
            else:
                ledger.cancel(self.store, self.run_(), [row["id"]], "ops", "not needed")

    @rule(minutes=st.sampled_from([1, 5, 31, 1500]))
    def wait(self, minutes: int) -> None:
        self.now += timedelta(minutes=minutes)

    @invariant()
    def the_log_tells_how_each_item_came_to_stand_so(self) -> None:
        """Prevents a state that nothing led to, or that its log contradicts."""
        with self.store.control.read() as connection:
            rows = work.items(connection)
            logs = {row["id"]: work.log_of(connection, row["id"]) for row in rows}
        for row in rows:
            states = [line["to_state"] for line in logs[row["id"]]]
            assert (states[0], states[-1]) == ("PENDING", row["state"])
            for before, after in pairwise(states):
                assert WorkState(after) in TRANSITIONS[WorkState(before)]
            assert row["attempt_count"] <= row["max_attempts"]
            if row["state"] == WorkState.FAILED and row["error_class"] in ("transient", "unavailable"):
                assert row["attempt_count"] == row["max_attempts"]

    @invariant()
    def a_partition_has_one_open_item_and_generations_without_gaps(self) -> None:
        """Prevents work from being done twice at once, and a request from being lost."""
        for key in KEYS:
            mine = [row for row in self.rows() if row["tier"] == key.tier_text]
            assert sum(WorkState(row["state"]).is_open for row in mine) <= 1
            assert sorted(row["generation"] for row in mine) == list(range(1, len(mine) + 1))


TestLedger = Ledger.TestCase
TestLedger.settings = settings(
    max_examples=8, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


DOWN, EMPTY = Result("r", "HTTP 503", error=ErrorClass.UNAVAILABLE), Result("r", "HTTP 204", error=ErrorClass.NOT_YET)
LOADED, LOST = Result("r", "done", WorkState.COMPLETE), Result(None, "no run", WorkState.PENDING)
FRIDAY = KEYS[0].week_ending


@pytest.mark.parametrize(
    ("priority", "steps", "in_vain"),
    [
        (CURRENT, [], None),
        (CURRENT, ["claim"], None),  # the first attempt of all: nothing has failed yet
        (CURRENT, ["claim", LOADED], None),
        (CURRENT, ["claim", LOST], None),  # no run ever asked for it
        (CURRENT, ["claim", DOWN], FRIDAY),
        (CURRENT, ["claim", DOWN, "claim"], FRIDAY),  # it runs again, and has failed all the same
        (CURRENT, ["claim", DOWN, "claim", DOWN, "claim", DOWN], FRIDAY),
        (CURRENT, ["claim", EMPTY], FRIDAY),
        (CURRENT, ["claim", DOWN, "retry"], FRIDAY),
        (CURRENT, ["claim", DOWN, "cancel"], None),  # somebody does not want it any more
        (CATCH_UP, ["claim", DOWN], FRIDAY),
        (BACKFILL, ["claim", DOWN], None),  # history is not what a platform begins with
    ],
)
def test_what_was_asked_for_in_vain(priority: int, steps: list[Any], in_vain: date | None, tmp_path: Path) -> None:
    """Prevents a failed load from being forgotten while it is tried again, or from counting once it was cancelled."""
    store = Store.at(tmp_path / "home")
    store.ensure()
    now = datetime(2025, 12, 15, 15, tzinfo=UTC)
    asked = Ask(DOMAIN, PIPELINE, KEYS[0], now, priority, now + timedelta(days=3))
    (row,) = ledger.enqueue(store, Run("0", "0", now), [asked], "ops").added
    for number, step in enumerate(steps, 1):
        now += timedelta(hours=1)
        run = Run(str(number), str(number), now)
        if step == "claim":
            ledger.claim(store, run, DOMAIN, lambda rows, held, token: {token: rows}, "sensor")
        elif step == "retry":
            ledger.retry(store, run, [row["id"]], "ops")
        elif step == "cancel":
            ledger.cancel(store, run, [row["id"]], "ops", "not needed")
        else:
            with store.control.read() as connection:
                (held,) = work.items(connection, states=[WorkState.RUNNING])
            ledger.settle(store, run, {(held["id"], held["locked_by"]): step}, "sensor")
    with store.control.read() as connection:
        assert work.first_in_vain(connection, DOMAIN) == in_vain
        assert work.first_in_vain(connection, "another.domain") is None
