"""Restatements as the control tables have them: what replaced other content, what was made from it, what certifies it.

What belongs here: these questions. What does not: what a restatement changed, and how it is told
(`governance.restatement`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any

import sqlalchemy as sa

from market_spine.domain.trust import CertificateEvent
from market_spine.store.manifest import IN_LIMIT, Capture, by_ids
from market_spine.store.schema import BATCHES, CAPTURE_INPUTS, MANIFEST
from market_spine.store.trust_tables import ANOMALIES, CERTIFICATE_LOG, CERTIFICATES, READINESS

A, C, L, M, R = ANOMALIES.c, CERTIFICATES.c, CERTIFICATE_LOG.c, MANIFEST.c, READINESS.c
AFTER, BEFORE = MANIFEST.alias("restating"), MANIFEST.alias("restated")
Row = dict[str, Any]


def predecessor(connection: sa.Connection, capture: Capture) -> Capture | None:
    """The newest capture of the partition of ``capture`` before it that has other content, if any."""
    others = [
        before for _, before, is_other in _before(connection, AFTER.c.capture_id == capture.capture_id) if is_other
    ]
    return by_ids(connection, others[-1:])[others[-1]] if others else None


def untold(
    connection: sa.Connection, raw: str, code: str, weeks: Collection[date] | None = None
) -> list[tuple[Capture, Capture]]:
    """(before, after) of every current capture of ``raw`` that restates and that no anomaly ``code`` names.

    One statement where there is none. Nor of one that was forced, whose like of before it is named already.
    """
    shared = ("domain", "table_name", "week_ending", "tier", "capture_id")
    names_it = sa.exists().where(A.code == code, *(A[name] == AFTER.c[name] for name in shared))
    bounds = [AFTER.c.table_name == raw, AFTER.c.is_current == 1, ~names_it]
    if weeks:
        bounds.append(AFTER.c.week_ending.between(min(weeks), max(weeks)))
    found: dict[str, str] = {}
    alike: dict[str, set[str]] = {}
    for after, before, is_other in _before(connection, *bounds):
        if is_other:
            found[after], alike[after] = before, set()
        else:
            alike.setdefault(after, set()).add(before)
    named = set(connection.scalars(sa.select(A.capture_id).where(A.code == code))) if found else set()
    held = by_ids(connection, {*found, *found.values()})
    pairs = [(held[before], held[after]) for after, before in found.items() if not alike[after] & named]
    return [pair for pair in pairs if weeks is None or pair[1].week_ending in weeks]


def _before(connection: sa.Connection, *bounds: sa.ColumnElement[bool]) -> list[tuple[str, str, bool]]:
    """(capture id, id of one before it in its partition, whether that has other content), the newest before last.

    By moment, not by number: overwriting keeps the number.
    """
    same = (BEFORE.c[name] == AFTER.c[name] for name in ("table_name", "week_ending", "tier"))
    select = (
        sa.select(AFTER.c.capture_id, BEFORE.c.capture_id, BEFORE.c.content_hash != AFTER.c.content_hash)
        .join(BEFORE, sa.and_(*same, BEFORE.c.captured_at < AFTER.c.captured_at))
        .where(*bounds)
        .order_by(AFTER.c.week_ending, AFTER.c.tier, BEFORE.c.captured_at)
    )
    return [(after, before, bool(is_other)) for after, before, is_other in connection.execute(select)]


def made_from(connection: sa.Connection, one: Capture) -> list[Capture]:
    """``one`` and everything made from it, directly or through others, but no capture that it was merged into."""
    root = sa.select(M.capture_id).where(M.capture_id == one.capture_id).cte("made", recursive=True)
    inputs = CAPTURE_INPUTS.c
    made = root.union(
        sa.select(inputs.capture_id)
        .join(root, root.c.capture_id == inputs.input_capture_id)
        .join(MANIFEST, M.capture_id == inputs.capture_id)
        .where(M.table_name != one.table_name)
    )
    return list(by_ids(connection, list(connection.scalars(sa.select(made.c.capture_id)))).values())


def superseded_since(connection: sa.Connection, after: Capture) -> list[Row]:
    """Certificates of the domain that were superseded in a later transaction than that of ``after``, oldest first."""
    since = sa.select(BATCHES.c.seq).where(BATCHES.c.batch_id == after.batch_id).scalar_subquery()
    select = (
        sa.select(CERTIFICATES, L.reason, L.logged_at.label("superseded_at"))
        .join(CERTIFICATE_LOG, L.certificate_id == C.certificate_id)
        .join(BATCHES, BATCHES.c.batch_id == L.batch_id)
        .where(C.domain == after.domain, L.event == CertificateEvent.SUPERSEDED.value, BATCHES.c.seq > since)
        .order_by(L.seq)
    )
    return [dict(row) for row in connection.execute(select).mappings()]


def certified_since(connection: sa.Connection, ids: Collection[str]) -> dict[str, set[str]]:
    """Capture id -> the use cases that its week was certified for in a later transaction, and still is.

    A verdict holds only if nothing was written while it was judged: such a certificate is about the capture. Nothing of
    captures that are no longer current.
    """
    made, issued = BATCHES.alias("made"), BATCHES.alias("issued")
    select = (
        sa.select(M.capture_id, R.ready_for)
        .join(made, made.c.batch_id == M.batch_id)
        .join(READINESS, sa.and_(R.domain == M.domain, R.week_ending == M.week_ending, R.is_ready == 1))
        .join(CERTIFICATE_LOG, L.certificate_id == R.certificate_id)
        .join(issued, issued.c.batch_id == L.batch_id)
        .where(M.is_current == 1, L.event == CertificateEvent.ISSUED.value, issued.c.seq > made.c.seq)
    )
    found: dict[str, set[str]] = {}
    listed = sorted(ids)
    for start in range(0, len(listed), IN_LIMIT):
        asked = select.where(M.capture_id.in_(listed[start : start + IN_LIMIT]))
        for capture_id, ready_for in connection.execute(asked):
            found.setdefault(capture_id, set()).add(ready_for)
    return found
