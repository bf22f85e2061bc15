"""The life of a receipt: claimed before each attempt, settled after it, retried with growing waits, failed in the end.

What belongs here: these changes, each in a transaction of its own, and the anomaly of a channel that fails. What does
not: what is told to whom (`notices`), and sending (`automation.notify`).

The attempt is counted before it is made, so that one that takes its process with it is counted too; the receipt is
committed after it. A kill between the two sends the same message again: at least once, not at most (decision 0021).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.errors import QueryError
from market_spine.domain.keys import WeekKey
from market_spine.domain.operations import ReceiptState
from market_spine.domain.publication import current_week
from market_spine.domain.work import ErrorClass, wait_after
from market_spine.governance.anomalies import Changes, Observation, record
from market_spine.governance.matters import CHANNEL_FAILING
from market_spine.governance.subscriptions import is_snoozed
from market_spine.store import anomalies
from market_spine.store import notices as rows_of
from market_spine.store.ledger import Run, transaction
from market_spine.store.operations_tables import NOTICE_RECEIPTS
from market_spine.store.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

ATTEMPTS = 4  # waits of 60, 120 and 240 s lie between them
FAILING_AFTER = 2  # attempts: one that fails once and then arrives is no anomaly
CUT_OFF = "the last attempt was cut off: whether it arrived is not known"
NOTIFICATIONS = "notifications"  # the actor, and what stands for a table in the anomaly of a channel
Row = Mapping[str, Any]


def claim(store: Store, run: Run, ids: Collection[int]) -> list[Row]:
    """Count an attempt of the receipts that are still due at ``run.now``; those are to be sent now, by nobody else."""
    with transaction(store.control, store.home, run, NOTICE_RECEIPTS.name) as draft:
        there = {one["id"]: one for one in rows_of.subscriptions(draft.connection, active_only=False)}
        claimed: list[Row] = []
        for row in rows_of.receipts(draft.connection, ids):
            if row["state"] != ReceiptState.PENDING or row["next_attempt_at"] > run.now:
                continue
            change = _claimed(row, there[row["subscription_id"]], run.now)
            rows_of.put_receipt(draft, row | change)
            if change["state"] == ReceiptState.PENDING:
                claimed.append(row | change)
        return claimed


def _claimed(row: Row, subscription: Row, now: datetime) -> dict[str, Any]:
    if is_snoozed(subscription, now):
        return _over(ReceiptState.SUPPRESSED, "snoozed")
    if row["attempt_count"] >= ATTEMPTS:
        return _over(ReceiptState.FAILED, row["last_error"] or CUT_OFF)
    attempt = row["attempt_count"] + 1
    again = now + wait_after(attempt, ErrorClass.TRANSIENT)
    return {"state": ReceiptState.PENDING.value, "attempt_count": attempt, "next_attempt_at": again}


def _over(state: ReceiptState, error: str | None) -> dict[str, Any]:
    return {"state": state.value, "next_attempt_at": None, "last_error": error}


def settle(store: Store, run: Run, claimed: Sequence[Row], error: str | None) -> None:
    """What became of the attempt: sent at ``run.now``, or ``error``, in words without any secret."""
    with transaction(store.control, store.home, run, NOTICE_RECEIPTS.name) as draft:
        now_there = {row["id"]: row for row in rows_of.receipts(draft.connection, [one["id"] for one in claimed])}
        for one in claimed:
            row = now_there[one["id"]]
            if error is None:
                rows_of.put_receipt(draft, row | _over(ReceiptState.SENT, None) | {"sent_at": run.now})
            elif row["state"] == ReceiptState.PENDING:  # else it was overtaken meanwhile
                is_last = row["attempt_count"] >= ATTEMPTS
                again = run.now + wait_after(row["attempt_count"], ErrorClass.TRANSIENT)
                change = {"next_attempt_at": again, "last_error": error}
                rows_of.put_receipt(draft, row | (_over(ReceiptState.FAILED, error) if is_last else change))


def retry(store: Store, run: Run, ids: Collection[int] | None) -> list[Row]:
    """Send receipts that FAILED again (None: all of them), from the first attempt on. QueryError for any other one."""
    with transaction(store.control, store.home, run, NOTICE_RECEIPTS.name) as draft:
        rows = rows_of.receipts(draft.connection, ids)
        failed = [row for row in rows if row["state"] == ReceiptState.FAILED]
        others = set(ids or ()) - {row["id"] for row in failed}
        if others:
            named = ", ".join(map(str, sorted(others)))
            raise QueryError(f"not FAILED, or not there: receipt {named}", "see them with: spine notify receipts")
        change = {"state": ReceiptState.PENDING.value, "attempt_count": 0, "next_attempt_at": run.now}
        return [rows_of.put_receipt(draft, row | change) for row in failed]


def observe_channels(store: Store, run: Run, domain: str, outcomes: Mapping[str, str | None]) -> Changes:
    """Put on record which channels fail: channel -> why, in a sentence, or None where something arrived over it."""
    with store.control.read() as connection:
        held = _failing(connection, domain)
    observed = []
    for channel, error in outcomes.items():
        row = held.get(channel)
        if error is not None or row is not None:
            week = row["week_ending"] if row else current_week(run.now)
            observed.append(_observation(domain, channel, week, error))
    return record(store, run, observed, NOTIFICATIONS, counts_repeats=False) if observed else Changes()


def _failing(connection: Connection, domain: str) -> dict[str, Row]:
    """Channel -> its open anomaly."""
    rows = anomalies.open_rows(connection, domain)
    return {row["table_name"].partition(":")[2]: row for row in rows if row["code"] == CHANNEL_FAILING}


def _observation(domain: str, channel: str, week: date, error: str | None) -> Observation:
    return Observation(
        domain,
        f"{domain}.{NOTIFICATIONS}",
        f"{NOTIFICATIONS}:{channel}",
        Stage.INGESTED,
        WeekKey(week, None),
        CHANNEL_FAILING,
        Severity.ERROR,
        Category.DEPENDENCY,
        message=error or "a message arrived",
        is_open=error is not None,
        details={"channel": channel, "next": f"spine notify test {channel}"},
    )
