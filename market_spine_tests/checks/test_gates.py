"""Gates of a delivery: each passes at its bound, fails beyond it, and blocks exactly where it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from market_spine.checks.findings import Finding, blocked_keys
from market_spine.checks.gates import DELIVERY_CHECKS, Tally, judge_delivery, nothing_delivered, unreadable
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier

KEY = WeekKey(date(2025, 11, 28), Tier.NMS_TIER_1)
PUBLISHED = date(2025, 12, 15)  # FINRA: Tier 1 week 2025-11-28 came out on Monday 2025-12-15
GOOD = Tally(KEY, lines=200, rows=190, rejects=10, first_update=PUBLISHED)  # exactly 5 % and enough rows


def findings(unknown: tuple[str, ...] = (), minimum: int = 190, **change: Any) -> list[Finding]:
    return judge_delivery(replace(GOOD, **change), minimum, 0.05, unknown)


def failed(found: list[Finding]) -> list[tuple[str, bool]]:
    return [(one.check, one.is_blocking) for one in found if not one.passed]


def test_a_delivery_on_every_bound_passes() -> None:
    """Prevents a gate that refuses its own bound, and a check that is not reported."""
    found = findings()
    assert tuple(one.check for one in found) == tuple(DELIVERY_CHECKS)
    assert failed(found) == []
    assert blocked_keys(found) == {}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"lines": 201}, [("accounts_for_every_line", True)]),
        ({"rows": 191}, [("accounts_for_every_line", True)]),
        ({"minimum": 191}, [("minimum_records", True)]),
        ({"rows": 189, "rejects": 11}, [("minimum_records", True), ("error_rate", True)]),
        ({"rows": 190, "rejects": 11, "lines": 201}, [("error_rate", True)]),
        ({"lines": 0, "rows": 0, "rejects": 0}, [("minimum_records", True)]),
        ({"lines": 0, "rows": 0, "rejects": 0, "minimum": 0}, []),
        ({"unknown": ("newColumn",)}, [("known_columns", False)]),
        ({"first_update": date(2025, 12, 14)}, [("publication_date", False)]),
        ({"first_update": date(2025, 12, 22)}, [("publication_date", False)]),
        ({"first_update": None}, []),
        ({"key": WeekKey(date(2025, 11, 14), Tier.OTC)}, []),  # same Monday, by the other lag
        ({"key": WeekKey(date(2025, 11, 28), Tier.OTC)}, [("publication_date", False)]),
    ],
)
def test_each_gate_fails_beyond_its_bound(change: dict[str, Any], expected: list[tuple[str, bool]]) -> None:
    """Prevents a short, garbled or miscounted file from being captured, and a warning from keeping a good one out."""
    assert failed(findings(**change)) == expected


def test_findings_say_numbers() -> None:
    """Prevents a refusal that does not say by how much."""
    by_name = {one.check: one for one in findings(("a", "b"), 200, rows=150, rejects=50)}
    shown = {name: (one.actual, one.expected) for name, one in by_name.items()}
    assert shown["error_rate"] == ("25.0% rejected (50 of 200)", "at most 5%")
    assert shown["minimum_records"] == ("150 rows", "at least 200 rows")
    assert shown["known_columns"][0] == "a, b"
    assert shown["publication_date"] == ("2025-12-15", "2025-12-15")
    assert shown["accounts_for_every_line"] == ("150 rows + 50 rejects", "200 lines")


@pytest.mark.parametrize("is_expected", [True, False])
@pytest.mark.parametrize("kind", ["not_due", "no_rows", "truncated", "wrong_content"])
def test_nothing_delivered_is_an_error_unless_it_is_expected(kind: str, is_expected: bool) -> None:
    """Prevents an alarm every Monday before FINRA publishes, and silence afterwards."""
    found = nothing_delivered(KEY, kind, "because", is_expected)
    assert (found.passed, found.is_blocking, found.category) == (False, False, Category.INCOMPLETE_INPUT)
    assert (found.actual, found.code) == (f"{kind}: because", "NOT_DELIVERED")
    severity = Severity.INFO if is_expected else Severity.ERROR
    assert (found.severity, found.is_expected) == (severity, is_expected)


def test_what_cannot_be_read_blocks() -> None:
    """Prevents bytes of another kind from counting as an empty week."""
    found = unreadable(KEY, "an HTML page")
    assert (found.is_blocking, found.severity, found.actual) == (True, Severity.CRITICAL, "an HTML page")


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("blocks", [True, False])
def test_what_blocks(severity: Severity, passed: bool, blocks: bool) -> None:
    """Prevents a passed check from blocking, and a failed CRITICAL or gate from letting through."""
    found = Finding("c", KEY, passed, severity, Category.CONSISTENCY, "a", "e", blocks=blocks)
    assert found.is_blocking == (not passed and (blocks or severity is Severity.CRITICAL))


def test_a_finding_as_a_row() -> None:
    """Prevents the record from saying otherwise than the finding, and details from losing what JSON has no form for."""
    found = Finding(
        "c", KEY, False, Severity.CRITICAL, Category.CONSISTENCY, "1", "0", True, {"day": PUBLISHED, "a": 1}
    )
    assert found.quality_row("finra.otc_transparency", "otc_raw", None) == {
        "domain": "finra.otc_transparency",
        "table_name": "otc_raw",
        "week_ending": date(2025, 11, 28),
        "tier": "NMS_TIER_1",
        "check_name": "c",
        "capture_id": None,
        "status": "failed",
        "severity": "CRITICAL",
        "category": "CONSISTENCY",
        "is_expected": 1,
        "is_blocking": 1,
        "actual": "1",
        "expected": "0",
        "details_json": '{"a": 1, "day": "2025-12-15"}',
    }
    assert replace(found, passed=True).quality_row("d", "t", "id")["status"] == "passed"
