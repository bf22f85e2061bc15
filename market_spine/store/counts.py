"""What an operator counts, as the control tables have it: a statement for each number, however many weeks there are.

What belongs here: counting, and the moment on which a count rests. What does not: what a number is called and what is
too much (`governance.metrics`, the alert rules), and the sizes of a store (`health`).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from typing import NamedTuple

import sqlalchemy as sa

from market_spine.domain.contracts import Severity
from market_spine.domain.operations import NoticeState, ReceiptState
from market_spine.domain.work import WorkState
from market_spine.store.operations_tables import NOTICE_RECEIPTS, NOTICES, WORK_ITEMS
from market_spine.store.schema import MANIFEST, QUALITY, REJECTS
from market_spine.store.trust_tables import ANOMALIES, HEARTBEATS

M, W, A, R = MANIFEST.c, WORK_ITEMS.c, ANOMALIES.c, NOTICE_RECEIPTS.c


class Week(NamedTuple):
    """The rows of one capture of a week."""

    week_ending: date
    row_count: int
    captured_at: datetime
    is_current: bool


class Work(NamedTuple):
    """The work ledger of a domain: items by state, the oldest moments that matter, and its last change."""

    by_state: dict[str, int]
    oldest_due: datetime | None  # since when the first of the due items could have been claimed
    oldest_claim: datetime | None  # of those that run
    changed_at: datetime | None


class Notices(NamedTuple):
    """What became of notices: receipts by state, those that failed for good of notices still open, the oldest due."""

    by_state: dict[str, int]
    failed: int
    oldest_due: datetime | None
    changed_at: datetime | None


def weeks(connection: sa.Connection, raw: str) -> dict[str, list[Week]]:
    """Tier -> every capture of the raw table that there ever was, oldest week and revision first."""
    columns = (M.tier, M.week_ending, M.row_count, M.captured_at, M.is_current)
    select = sa.select(*columns).where(M.table_name == raw).order_by(M.week_ending, M.captured_at)
    found: dict[str, list[Week]] = {}
    for tier, week, row_count, captured_at, is_current in connection.execute(select):
        found.setdefault(tier, []).append(Week(week, row_count, captured_at, bool(is_current)))
    return found


def failed_checks(connection: sa.Connection, domain: str) -> dict[str, int]:
    """Check -> how often it failed without being expected to; 0 for one that never did."""
    q = QUALITY.c
    failed = sa.case(((q.status == "failed") & (q.is_expected == 0), 1), else_=0)
    select = sa.select(q.check_name, sa.func.sum(failed)).where(q.domain == domain)
    return {name: int(count) for name, count in connection.execute(select.group_by(q.check_name))}


def rejects(connection: sa.Connection, domain: str, reason: str) -> dict[str, int]:
    """Tier -> lines that were ever set aside for ``reason``; tiers without any are not named."""
    r = REJECTS.c
    select = sa.select(r.tier, sa.func.count()).where(r.domain == domain, r.reason_code == reason).group_by(r.tier)
    return {tier: int(count) for tier, count in connection.execute(select)}


def open_anomalies(connection: sa.Connection, domain: str) -> tuple[dict[str, int], datetime | None]:
    """Severity -> open anomalies; and when an anomaly of the domain was last seen or resolved."""
    select = sa.select(A.severity, sa.func.count()).where(A.domain == domain, A.resolved_at.is_(None))
    counted = dict.fromkeys(map(str, Severity), 0)
    counted |= {severity: int(count) for severity, count in connection.execute(select.group_by(A.severity))}
    last = sa.select(sa.func.max(A.last_seen_at), sa.func.max(A.resolved_at)).where(A.domain == domain)
    return counted, _latest(connection.execute(last).one())


def work(connection: sa.Connection, domain: str, now: datetime) -> Work:
    """The work ledger of ``domain`` as it stands at ``now``."""
    mine = W.domain == domain
    counted = dict.fromkeys(map(str, WorkState), 0)
    counts = sa.select(W.state, sa.func.count()).where(mine).group_by(W.state)
    counted |= {state: int(count) for state, count in connection.execute(counts)}
    oldest = (
        sa.select(sa.func.min(W.desired_at)).where(mine, W.state == WorkState.PENDING, W.desired_at <= now),
        sa.select(sa.func.min(W.next_attempt_at)).where(mine, W.next_attempt_at <= now),
    )
    due = [moment for select in oldest if (moment := connection.scalar(select)) is not None]
    claims = sa.select(sa.func.min(W.locked_at)).where(mine, W.state == WorkState.RUNNING)
    changed = sa.select(sa.func.max(W.updated_at)).where(mine)
    return Work(counted, min(due, default=None), connection.scalar(claims), connection.scalar(changed))


def notices(connection: sa.Connection, now: datetime) -> Notices:
    """What became of all notices, as it stands at ``now``."""
    counted = dict.fromkeys(map(str, ReceiptState), 0)
    counts = sa.select(R.state, sa.func.count()).group_by(R.state)
    counted |= {state: int(count) for state, count in connection.execute(counts)}
    n = NOTICES.c
    failed = (
        sa.select(sa.func.count())
        .select_from(NOTICE_RECEIPTS)
        .join(NOTICES, n.id == R.notice_id)
        .where(R.state == ReceiptState.FAILED, n.state != NoticeState.CLOSED)
    )
    due = sa.select(sa.func.min(R.next_attempt_at)).where(R.state == ReceiptState.PENDING, R.next_attempt_at <= now)
    changed = sa.select(sa.func.max(R.created_at), sa.func.max(R.sent_at))
    last = _latest(connection.execute(changed).one())
    return Notices(counted, connection.scalar(failed) or 0, connection.scalar(due), last)


def beats(connection: sa.Connection) -> dict[str, datetime]:
    """Everything that beats, and when it last did."""
    h = HEARTBEATS.c
    return {row.name: row.beat_at for row in connection.execute(sa.select(h.name, h.beat_at))}


def _latest(moments: Iterable[datetime | None]) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
