"""Builders of the store's values: rows with sensible columns, of which a test names only what it is about."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from market_spine.domain.captures import RevisionPolicy, Stage, capture_id
from market_spine.domain.contracts import Column, Table
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.store.commit import Batch, NewCapture
from market_spine.store.ledger import Run

T0 = datetime(2025, 12, 15, 15, tzinfo=UTC)
WEEK = date(2025, 11, 14)
OTC = WeekKey(WEEK, Tier.OTC)
RUN = Run("run-1", "business-1", T0)
RAW, DERIVED = "otc_raw", "otc_venue_volume"
DOMAIN = "finra.otc_transparency"
COUNTER = itertools.count(1)

SALES = Table(
    name="sales",
    stage=Stage.NORMALIZED,
    grain=("week_ending", "tier", "symbol"),
    columns=(
        Column("week_ending", "DATE", "Friday"),
        Column("tier", "VARCHAR", "Tier"),
        Column("symbol", "VARCHAR", "Symbol", nullable=True),
        Column("shares", "DECIMAL(20,6)", "Shares", nullable=True),
        Column("trades", "BIGINT", "Trades", nullable=True),
    ),
    description="A table of the tests",
)


def at(seconds: float) -> datetime:
    """A moment after T0."""
    return T0 + timedelta(seconds=seconds)


def file_path(table_name: str, key: WeekKey) -> str:
    """A path that nothing else has, with week and tier in it as readers need them."""
    return f"{table_name}/week_ending={key.week_ending}/tier={key.tier_text}/{next(COUNTER)}.parquet"


def raw(key: WeekKey = OTC, seconds: float = 0, content: str = "a", **more: Any) -> NewCapture:
    """A raw capture that waits for its manifest row."""
    fields: dict[str, Any] = {
        "capture_id": capture_id(DOMAIN, key, at(seconds)),
        "domain": DOMAIN,
        "table_name": RAW,
        "stage": Stage.INGESTED,
        "key": key,
        "row_count": 3,
        "content_hash": f"{content:0>32}",
        "file_path": file_path(RAW, key),
        "file_sha256": "0" * 64,
        "file_bytes": 1 << 40,  # more than an INTEGER holds
        "captured_at": at(seconds),
        "calc_version": "1.0",
        "inputs": (),
        "inputs_hash": "1" * 32,
        "landing_id": "2" * 64,
        "policy": RevisionPolicy.VERSIONED,
    }
    return NewCapture(**(fields | more))


def derived(inputs: Sequence[NewCapture], content: str = "d", version: str = "1.0", **more: Any) -> NewCapture:
    """A capture made from ``inputs``, dated by the newest of them as the platform does."""
    key = inputs[0].key
    newest = max(one.captured_at for one in inputs)
    ids = tuple(sorted(one.capture_id for one in inputs))
    digest = hashlib.sha256("|".join([version, *ids]).encode()).hexdigest()[:32]
    named = capture_id(DOMAIN, key, newest, "venue_volume", version)
    fields: dict[str, Any] = {
        "capture_id": f"{named}-{digest[:8]}",
        "table_name": DERIVED,
        "stage": Stage.NORMALIZED,
        "calc_version": version,
        "inputs": ids,
        "inputs_hash": digest,
        "landing_id": None,
        "captured_at": newest,
        "file_path": file_path(DERIVED, key),
    }
    return raw(key, content=content, **(fields | more))


def batch(*captures: NewCapture, run: Run = RUN, **more: Any) -> Batch:
    """A batch of ``captures``."""
    return Batch(captures[0].table_name if captures else RAW, run, captures, **more)


def reject(line_no: int, source_id: str = "2" * 64, **more: Any) -> dict[str, Any]:
    """A reject without the columns that committing adds."""
    return {
        "source_id": source_id,
        "table_name": RAW,
        "week_ending": WEEK,
        "tier": "OTC",
        "part_no": 1,
        "line_no": line_no,
        "domain": DOMAIN,
        "stage": "INGESTED",
        "reason_code": "BAD_NUMBER",
        "detail": "not a number: 'x'",
        "raw_text": "OTC|ABC|Ünïcode's \\ | 'quoted'",
        "scope": "ROW",
    } | more


def quality(check: str = "schema", captured: str | None = None, **more: Any) -> dict[str, Any]:
    """A quality row without the columns that committing adds."""
    return {
        "domain": DOMAIN,
        "table_name": RAW,
        "week_ending": WEEK,
        "tier": "OTC",
        "check_name": check,
        "capture_id": captured,
        "status": "failed",
        "severity": "WARN",
        "category": "CONSISTENCY",
        "is_expected": 0,
        "is_blocking": 0,
        "actual": "1",
        "expected": "0",
        "details_json": "{}",
    } | more


def delivery(captured: str | None, action: str = "inserted", **more: Any) -> dict[str, Any]:
    """A delivery row without the columns that committing adds."""
    return {
        "delivery_id": f"delivery-{next(COUNTER)}",
        "landing_id": "2" * 64,
        "domain": DOMAIN,
        "week_ending": WEEK,
        "tier": "OTC",
        "source_kind": "file",
        "source_name": "a file.csv",
        "week_source": "path",
        "headers_json": "{}",
        "fetched_at": T0,
        "line_count": 4,
        "action": action,
        "reason": "",
        "capture_id": captured,
    } | more
