"""What `spine doctor --format json` is made of, written by hand, and the check of a value against it.

What belongs here: shapes. What does not: which values are right.
"""

from __future__ import annotations

import re
from typing import Any

from market_spine.domain.contracts import Severity
from market_spine.governance.remedies import Kind

Shape = Any  # a type, a pattern for text, None, a tuple of choices, [shape of every item], {name: shape}, {"*": shape}
MOMENT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
WEEK = r"\d{4}-\d\d-\d\d"
PLACE: dict[str, Any] = {"week_ending": WEEK, "tier": "NMS_TIER_1|NMS_TIER_2|OTC|ALL"}
DIAGNOSIS: Shape = {
    "domain": str,
    "weeks": int,
    "checked_at": MOMENT,
    "status": "healthy|degraded|unhealthy",
    "expected_partitions": int,
    "found_partitions": int,
    "missing_partitions": int,
    "gaps": [PLACE | {"due_at": MOMENT, "deadline": MOMENT, "days": int, "cause_id": (int, None)}],
    "late": [PLACE | {"deadline": MOMENT, "captured_at": MOMENT, "hours": float, "severity": "WARN|ERROR"}],
    "incomplete_chains": [PLACE | {"missing": {"*": [str]}, "cause_id": (int, None)}],
    "stale": int,
    "stale_tables": {"*": int},
    "anomalies": {"critical": int, "error": int, "warn": int, "info": int},
    "older_anomalies": int,
    "settled_anomalies": int,
    "open_anomalies": [
        PLACE | {"id": int, "severity": "CRITICAL|ERROR|WARN", "code": str, "message": str, "follows": int}
    ],
    "open_work": int,
    "waiting_work": int,
    "failed_work": [
        PLACE
        | {
            "id": int,
            "pipeline": str,
            "attempt_count": int,
            "error_class": "transient|unavailable|not_yet|schema|refused",
            "last_error": str,
            "failed_at": MOMENT,
        }
    ],
    "certified": {"*": {"certified": int, "weeks": int}},
    "uncertified": [
        {
            "week_ending": WEEK,
            "ready_for": str,
            "state": "MISSING|BLOCKED|PRELIMINARY|CERTIFIED",
            "recorded": ("MISSING|BLOCKED|PRELIMINARY|CERTIFIED", None),
            "reasons": [str],
        },
    ],
    "heartbeat": {
        "name": str,
        "beat_at": (MOMENT, None),
        "age_seconds": (int, None),
        "detail": str,
        "is_silent": bool,
    },
    "storage": {
        "files": int,
        "bytes": int,
        "budget_bytes": int,
        "tables": {"*": {"files": int, "bytes": int}},
        "landing": {"deliveries": int, "contents": int},
    },
    "batches": int,
    "committed_at": (MOMENT, None),
    "schema_version": str,
    "problems": [
        {
            "kind": "|".join(Kind),
            "severity": "|".join(Severity),
            "anomaly_id": (int, None),
            "week_ending": (WEEK, None),
            "tier": (PLACE["tier"], None),
            "message": str,
            "remedy": str,
        }
    ],
    "remediation": [str],
}
SCHEDULE: Shape = {
    "type": "WEEKLY",
    "weeks": int,
    "tiers": [str],
    "expected_delay_hours": int,
    "expected_day_of_week": (int, None),
    "expected_time": r"\d\d:\d\d",
    "timezone": str,
    "publication_lag_days": {"*": int},
    "is_active": bool,
    "expected": int,
    "present": int,
}


def mismatches(value: Any, shape: Shape, path: str = "") -> list[str]:
    """Where ``value`` is not of ``shape``, each place with what stands there."""
    if isinstance(shape, dict):
        return _of_object(value, shape, path) if isinstance(value, dict) else [f"{path}: {value!r}"]
    if isinstance(shape, list):
        items = enumerate(value) if isinstance(value, list) else ()
        found = [one for number, item in items for one in mismatches(item, shape[0], _below(path, number))]
        return found if isinstance(value, list) else [f"{path}: {value!r}"]
    return (
        []
        if any(_fits(value, one) for one in (shape if isinstance(shape, tuple) else (shape,)))
        else [f"{path}: {value!r}"]
    )


def _fits(value: Any, shape: Any) -> bool:
    if isinstance(shape, str):
        return isinstance(value, str) and re.fullmatch(shape, value) is not None
    return value is None if shape is None else type(value) is shape  # a bool is no int here


def _of_object(value: dict[str, Any], shape: dict[str, Any], path: str) -> list[str]:
    if "*" in shape:
        return [one for name in value for one in mismatches(value[name], shape["*"], _below(path, name))]
    found = [f"{path}: unknown {name}" for name in value.keys() - shape.keys()]
    found += [f"{path}: missing {name}" for name in shape.keys() - value.keys()]
    shared = [name for name in shape if name in value]
    return found + [one for name in shared for one in mismatches(value[name], shape[name], _below(path, name))]


def _below(path: str, name: str | int) -> str:
    return f"{path}.{name}" if path else f"{name}"
