"""The work ledger: asked-for loads of partitions, claimed, settled, tried again; each change of state is on its log.

What belongs here: what may become of an item, decided under the write lock. What does not: the states themselves
(`domain.work`), and Dagster's runs, which do the work (`automation.work` claims for them and settles by them).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from market_spine.domain.errors import NotFoundError, WorkError
from market_spine.domain.keys import WeekKey
from market_spine.domain.work import (
    CURRENT,
    LOST_CLAIMS,
    MAX_ATTEMPTS,
    POLL,
    TRANSITIONS,
    ErrorClass,
    WorkState,
    wait_after,
)
from market_spine.store import work
from market_spine.store.ledger import Draft, Run, transaction
from market_spine.store.operations_tables import WORK_ITEMS, WORK_LOG
from market_spine.store.store import Store
from market_spine.store.work import Row

LIST = "spine work list"


@dataclass(frozen=True, slots=True)
class Ask:
    """A load that is asked for: not before ``desired_at``; ``give_up_at`` is until when its absence is no failure."""

    domain: str
    pipeline: str
    key: WeekKey
    desired_at: datetime
    priority: int = CURRENT
    give_up_at: datetime | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, str, str]:
        """What at most one open item is about."""
        return (self.domain, self.pipeline, self.key.partition_key)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The items that were added, and those that stood against an ask: open ones, or of the same business process."""

    added: list[Row]
    held: list[Row]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one attempt. Without ``to`` the state follows from ``error``, the attempts so far and the time."""

    run_id: str | None
    message: str
    to: WorkState | None = None
    error: ErrorClass | None = None


def enqueue(store: Store, run: Run, asks: Iterable[Ask], actor: str) -> Enqueued:
    """Put ``asks`` on the ledger. A partition with an open item gets no second one, nor the same process another.

    An open item that is asked for more urgently becomes so: a backfill must not hold the current week back.
    """
    wanted = {one.place: one for one in asks}
    if not wanted:
        return Enqueued([], [])
    found = Enqueued([], [])
    with transaction(store.control, store.home, run, WORK_ITEMS.name) as draft:
        last = work.newest(draft.connection, wanted)
        for place, ask in wanted.items():
            before = last.get(place)
            if before and (WorkState(before["state"]).is_open or before["correlation_id"] == run.correlation_id):
                found.held.append(_hastened(draft, before, ask))
                continue
            row = _new(draft, ask, before["generation"] + 1 if before else 1, actor)
            _log(draft, row, None, "asked for", actor, None)
            found.added.append(row)
    return found


def _hastened(draft: Draft, row: Row, ask: Ask) -> Row:
    """``row`` with the urgency and the patience of ``ask``, where it still waits and these are greater."""
    if row["state"] not in (WorkState.PENDING, WorkState.RETRY_WAIT) or row["priority"] >= ask.priority:
        return row
    patience = max(filter(None, (row["give_up_at"], ask.give_up_at)), default=None)
    sooner = {"priority": ask.priority, "give_up_at": patience, "desired_at": min(row["desired_at"], ask.desired_at)}
    hastened = row | sooner | {"updated_at": draft.run.now}
    draft.put(WORK_ITEMS, hastened)
    return hastened


def _new(draft: Draft, ask: Ask, generation: int, actor: str) -> Row:
    now = draft.run.now
    row: Row = dict.fromkeys(WORK_ITEMS.c.keys()) | {
        "id": draft.next_number(WORK_ITEMS.c.id),
        "domain": ask.domain,
        "pipeline": ask.pipeline,
        "partition_key": ask.key.partition_key,
        "generation": generation,
        "week_ending": ask.key.week_ending,
        "tier": ask.key.tier_text,
        "state": WorkState.PENDING.value,
        "priority": ask.priority,
        "desired_at": ask.desired_at,
        "give_up_at": ask.give_up_at,
        "params_json": json.dumps(ask.params, sort_keys=True),
        "attempt_count": 0,
        "max_attempts": MAX_ATTEMPTS,
        "requested_by": actor,
        "correlation_id": draft.run.correlation_id,
        "created_at": now,
        "updated_at": now,
    }
    draft.put(WORK_ITEMS, row)
    return row


# Of due rows, how many claims are open, and a word that no other transaction has: rows by claim.
Choice = Callable[[list[Row], int, str], Mapping[str, list[Row]]]


def claim(store: Store, run: Run, domain: str, choose: Choice, actor: str) -> dict[str, list[Row]]:
    """Lock what ``choose`` takes of the due items, by claim: the run key under which a run is asked for.

    Chosen under the write lock, so that two claimers never get one item.
    """
    claimed: dict[str, list[Row]] = {}
    with transaction(store.control, store.home, run, WORK_ITEMS.name) as draft:
        held = {row["locked_by"] for row in work.items(draft.connection, domain, [WorkState.RUNNING])}
        due = work.due(draft.connection, domain, run.now)
        for name, rows in choose(due, len(held), draft.batch_id[:8]).items():
            for row in rows:
                ready = row
                if row["state"] == WorkState.RETRY_WAIT:
                    ready = _move(draft, row, WorkState.PENDING, "its time has come", actor)
                attempt = ready["attempt_count"] + 1
                lock = {"locked_by": name, "locked_at": run.now, "attempt_count": attempt}
                told = f"attempt {attempt} of {row['max_attempts']}"
                claimed.setdefault(name, []).append(_move(draft, ready, WorkState.RUNNING, told, actor, **lock))
    return claimed


def execute(store: Store, run: Run, run_ids: Mapping[int, str]) -> None:
    """Note which Dagster run does each item (id -> run id); no change of state."""
    with transaction(store.control, store.home, run, WORK_ITEMS.name) as draft:
        for row in work.items(draft.connection, states=[WorkState.RUNNING], ids=run_ids):
            run_id = run_ids[row["id"]]
            if row["current_execution_id"] != run_id:
                draft.put(WORK_ITEMS, row | {"current_execution_id": run_id, "updated_at": run.now})


def settle(store: Store, run: Run, results: Mapping[tuple[int, str], Result], actor: str) -> list[Row]:
    """What became of claims: (item, claim) -> result. One that is no longer under that claim is left alone."""
    settled = []
    with transaction(store.control, store.home, run, WORK_ITEMS.name) as draft:
        held = work.items(draft.connection, states=[WorkState.RUNNING], ids={number for number, _ in results})
        for row in held:
            result = results.get((row["id"], row["locked_by"]))
            if result is not None:
                settled.append(_settle(draft, row, result, actor))
    return settled


def _settle(draft: Draft, row: Row, result: Result, actor: str) -> Row:
    now = draft.run.now
    to, changes = (result.to, {}) if result.to else _after(row, result.error or ErrorClass.TRANSIENT, now)
    if to is WorkState.PENDING and work.lost_claims(draft.connection, row["id"]) + 1 >= LOST_CLAIMS:
        to, changes = WorkState.FAILED, {"error_class": ErrorClass.TRANSIENT}
    if to is WorkState.COMPLETE:
        changes = {"completed_at": now, "error_class": None}
    elif to is WorkState.PENDING:  # no run ever did it
        changes = {"attempt_count": row["attempt_count"] - 1}
    else:
        changes = {"last_error": result.message, "error_class": result.error} | changes
    if result.run_id:
        changes["latest_execution_id"] = result.run_id
    return _move(draft, row, to, result.message, actor, run_id=result.run_id, **changes)


def _after(row: Row, error: ErrorClass, now: datetime) -> tuple[WorkState, dict[str, Any]]:
    """Where a failed attempt leads: a wait, or the end."""
    if error is ErrorClass.NOT_YET:
        last = row["give_up_at"]
        if last is None or now >= last:
            return WorkState.FAILED, {}
        return WorkState.RETRY_WAIT, {
            "next_attempt_at": min(now + POLL, last),
            "attempt_count": row["attempt_count"] - 1,
        }
    if not error.is_retried or row["attempt_count"] >= row["max_attempts"]:
        return WorkState.FAILED, {}
    return WorkState.RETRY_WAIT, {"next_attempt_at": now + wait_after(row["attempt_count"], error)}


def retry(store: Store, run: Run, ids: Collection[int], actor: str) -> list[Row]:
    """Failed or waiting items at once, with all their attempts; WorkError where one cannot be."""
    moved = []
    with transaction(store.control, store.home, run, WORK_ITEMS.name) as draft:
        rows = _found(draft, ids)
        last = work.newest(draft.connection, [_place(row) for row in rows])
        for row in rows:
            newer = last[_place(row)]
            if newer["id"] != row["id"]:
                cause = f"work item {row['id']} was asked for again as item {newer['id']} ({newer['state']})"
                raise WorkError(cause, f"spine work show {newer['id']}")
            fresh: Row = {"attempt_count": 0, "desired_at": run.now}
            moved.append(_move(draft, row, WorkState.PENDING, "asked for again", actor, **fresh))
    return moved


def cancel(store: Store, run: Run, ids: Collection[int], actor: str, why: str) -> list[Row]:
    """Items that are not to be done, or done with; as they were before, so that their runs can be ended."""
    with transaction(store.control, store.home, run, WORK_ITEMS.name) as draft:
        before = _found(draft, ids)
        for row in before:
            _move(draft, row, WorkState.CANCELLED, why, actor, run_id=row["current_execution_id"])
    return before


def check_claim(store: Store, claim: str) -> None:
    """WorkError where nothing is done under ``claim`` any more: cancelled, or given back and claimed by another."""
    with store.control.read() as connection:
        running = {row["locked_by"] for row in work.items(connection, states=[WorkState.RUNNING])}
    if claim not in running:
        raise WorkError(f"the work of claim {claim} was cancelled or given back", f"{LIST} --all  # what became of it")


def _found(draft: Draft, ids: Collection[int]) -> list[Row]:
    rows = work.items(draft.connection, ids=ids)
    for absent in sorted(set(ids) - {row["id"] for row in rows}):
        raise NotFoundError(f"there is no work item {absent}", LIST)
    return rows


def _place(row: Row) -> tuple[str, str, str]:
    return (row["domain"], row["pipeline"], row["partition_key"])


FREE: dict[str, Any] = dict.fromkeys(("locked_by", "locked_at", "current_execution_id", "next_attempt_at"))


def _move(
    draft: Draft, row: Row, to: WorkState, message: str, actor: str, run_id: str | None = None, **changes: Any
) -> Row:
    """``row`` in its next state, put into the draft with its line of the log; WorkError where that cannot follow."""
    if to not in TRANSITIONS[WorkState(row["state"])]:
        cause = f"work item {row['id']} is {row['state']}, and cannot become {to}"
        raise WorkError(cause, f"spine work show {row['id']}  # what happened to it; work enqueue asks for it anew")
    moved = row | FREE | {"state": to.value, "updated_at": draft.run.now} | changes
    draft.put(WORK_ITEMS, moved)
    _log(draft, moved, row["state"], message, actor, run_id)
    return moved


def _log(draft: Draft, row: Row, before: str | None, message: str, actor: str, run_id: str | None) -> None:
    line = {
        "seq": draft.next_number(WORK_LOG.c.seq),
        "work_item_id": row["id"],
        "from_state": before,
        "to_state": row["state"],
        "attempt_count": row["attempt_count"],
        "error_class": row["error_class"] if row["state"] in (WorkState.RETRY_WAIT, WorkState.FAILED) else None,
        "message": message,
        "execution_id": run_id,
        "actor": actor,
        "changed_at": draft.run.now,
    }
    draft.put(WORK_LOG, line)
