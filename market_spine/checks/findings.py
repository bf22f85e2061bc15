"""A finding: what one check saw in one partition."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from market_spine.domain.contracts import Category, Severity
from market_spine.domain.keys import WeekKey

MINIMUM_RECORDS = "minimum_records"
SAMPLES = 20  # rows shown of what is wrong; the count is always the full one
# A check is named by what should hold, an anomaly by what is wrong. A check that is not here gives its own name.
CODES = {
    "delivered": "NOT_DELIVERED",
    "readable": "UNREADABLE",
    "accounts_for_every_line": "LINES_UNACCOUNTED",
    MINIMUM_RECORDS: "TOO_FEW_RECORDS",
    "error_rate": "TOO_MANY_REJECTS",
    "known_columns": "UNKNOWN_COLUMNS",
    "publication_date": "UNEXPECTED_PUBLICATION_DATE",
    "schema": "SCHEMA_VIOLATED",
    "unique_grain": "DUPLICATE_KEYS",
    "full_history_window": "INCOMPLETE_WINDOW",
    "all_tiers_present": "INCOMPLETE_TIER_SPLIT",
}
USUAL = "usual_"  # a check usual_x finds UNUSUAL_X


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of ``check`` for ``key``. ``is_expected`` marks what is known to happen and needs no action."""

    check: str
    key: WeekKey
    passed: bool
    severity: Severity
    category: Category
    actual: str
    expected: str
    is_expected: bool = False
    details: dict[str, Any] = field(default_factory=dict)
    blocks: bool = False
    message: str = ""  # what is said of it, where the check's name and numbers do not say it by themselves
    affected: int | None = None  # records, where they were counted

    @property
    def code(self) -> str:
        """What the anomaly is called that this finding opens."""
        if self.check.startswith(USUAL):
            return f"UN{self.check.upper()}"
        return CODES.get(self.check, self.check.upper())

    @property
    def said(self) -> str:
        """The finding in words."""
        return self.message or f"{self.check.replace('_', ' ')}: {self.actual}, expected {self.expected}"

    @property
    def is_blocking(self) -> bool:
        """Whether the partition must not be captured: a failed CRITICAL, or a failed gate."""
        return not self.passed and (self.blocks or self.severity is Severity.CRITICAL)

    def quality_row(self, domain: str, table_name: str, capture_id: str | None) -> dict[str, Any]:
        """The row of core_quality, without the columns that committing adds."""
        return {
            "domain": domain,
            "table_name": table_name,
            "week_ending": self.key.week_ending,
            "tier": self.key.tier_text,
            "check_name": self.check,
            "capture_id": capture_id,
            "status": "passed" if self.passed else "failed",
            "severity": self.severity.value,
            "category": self.category.value,
            "is_expected": int(self.is_expected),
            "is_blocking": int(self.is_blocking),
            "actual": self.actual,
            "expected": self.expected,
            "details_json": json.dumps(self.details, sort_keys=True, default=str),
        }


def remedy(blocking: Iterable[Finding], domain: str) -> str:
    """What to do about the findings that keep one partition of ``domain`` out."""
    found = {one.check: one.key for one in blocking}
    key = next(iter(found.values()))
    place = f"--week-ending {key.week_ending}" + (f" --tier {key.tier}" if key.tier else "")
    if set(found) == {MINIMUM_RECORDS}:
        again = f"spine run {domain}.weekly_refresh {place} -p min_records=0"
        return f"if the delivery is whole, load it from its --source with: {again}"
    return f"spine rejects {place}  # the rows that were set aside; where it shows none: spine anomalies list --linked"


def blocked_keys(findings: Iterable[Finding]) -> dict[WeekKey, list[Finding]]:
    """The findings that keep a partition out, by partition."""
    blocked: dict[WeekKey, list[Finding]] = {}
    for finding in findings:
        if finding.is_blocking:
            blocked.setdefault(finding.key, []).append(finding)
    return blocked
