"""Checks of a delivery as a whole: did anything come, can it be read, is every line accounted for, is it enough.

Gates that fail keep the partition out (its bytes stay in landing, its rejects on record).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from market_spine.checks.findings import MINIMUM_RECORDS, Finding
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import publication_date
from market_spine.domain.tiers import Tier

DELIVERED = "delivered"
READABLE = "readable"
# Every check that `judge_delivery` reports, in its order, and what it asks.
DELIVERY_CHECKS = {
    DELIVERED: "The source had a delivery for the partition; before the deadline of the week its absence is expected.",
    READABLE: "The delivery is text with a header of this feed.",
    "accounts_for_every_line": "Lines read = rows + rejects.",
    MINIMUM_RECORDS: "Gate: enough rows for a week of the tier.",
    "error_rate": "Gate: at most 5 % of the lines are rejects.",
    "known_columns": "The header has no columns beyond the known ones.",
    "publication_date": "The smallest lastUpdateDate is the week's publication date.",
}


@dataclass(frozen=True, slots=True)
class Tally:
    """What parsing counted: lines as read, rows and rejects as parsed, and the smallest lastUpdateDate."""

    key: WeekKey
    lines: int
    rows: int
    rejects: int
    first_update: date | None

    @property
    def error_rate(self) -> float:
        return self.rejects / self.lines if self.lines else 0.0


def nothing_delivered(key: WeekKey, kind: str, reason: str, is_expected: bool) -> Finding:
    """The source had nothing: expected before the deadline of the week, an incomplete input afterwards."""
    return Finding(
        DELIVERED,
        key,
        passed=False,
        severity=Severity.INFO if is_expected else Severity.ERROR,
        category=Category.INCOMPLETE_INPUT,
        actual=f"{kind}: {reason}",
        expected="a delivery",
        is_expected=is_expected,
        message=reason,
    )


def unreadable(key: WeekKey, cause: str) -> Finding:
    """The delivery is not a file of this feed."""
    return Finding(READABLE, key, False, Severity.CRITICAL, Category.INCOMPLETE_INPUT, cause, "a readable delivery")


def judge_delivery(tally: Tally, min_records: int, max_error_rate: float, unknown: Sequence[str]) -> list[Finding]:
    """The findings of one delivery that could be read."""
    key = tally.key
    return [
        Finding(DELIVERED, key, True, Severity.ERROR, Category.INCOMPLETE_INPUT, "delivered", "a delivery"),
        Finding(READABLE, key, True, Severity.CRITICAL, Category.INCOMPLETE_INPUT, "readable", "a readable delivery"),
        Finding(
            "accounts_for_every_line",
            key,
            tally.lines == tally.rows + tally.rejects,
            Severity.CRITICAL,
            Category.CONSISTENCY,
            actual=f"{tally.rows} rows + {tally.rejects} rejects",
            expected=f"{tally.lines} lines",
        ),
        *_gates(tally, min_records, max_error_rate),
        Finding(
            "known_columns",
            key,
            not unknown,
            Severity.WARN,
            Category.CONSISTENCY,
            actual=", ".join(unknown) or "all known",
            expected="no columns beyond the known ones",
        ),
        _publication_date(tally),
    ]


def _gates(tally: Tally, min_records: int, max_error_rate: float) -> list[Finding]:
    key = tally.key
    return [
        Finding(
            MINIMUM_RECORDS,
            key,
            tally.rows >= min_records,
            Severity.ERROR,
            Category.COMPLETENESS,
            actual=f"{tally.rows} rows",
            expected=f"at least {min_records} rows",
            blocks=True,
        ),
        Finding(
            "error_rate",
            key,
            tally.error_rate <= max_error_rate,
            Severity.ERROR,
            Category.BUSINESS_RULE,
            actual=f"{tally.error_rate:.1%} rejected ({tally.rejects} of {tally.lines})",
            expected=f"at most {max_error_rate:.0%}",
            blocks=True,
        ),
    ]


def _publication_date(tally: Tally) -> Finding:
    """The smallest lastUpdateDate is the week's publication date; otherwise the file is of another week."""
    expected = publication_date(tally.key.week_ending, tally.key.tier) if isinstance(tally.key.tier, Tier) else None
    return Finding(
        "publication_date",
        tally.key,
        tally.first_update is None or tally.first_update == expected,
        Severity.WARN,
        Category.CONSISTENCY,
        actual=str(tally.first_update or "no lastUpdateDate"),
        expected=str(expected),
    )
