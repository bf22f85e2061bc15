"""Which finding explains which: one root cause is one alert, and what follows from it is linked, not repeated.

What belongs here: the table of explanations and the search in it. What does not: what opens an anomaly.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from market_spine.domain.contracts import Severity
from market_spine.domain.tiers import ALL_TIERS

NOT_DELIVERED = "NOT_DELIVERED"
DAMAGED = "DAMAGED"  # what is stored is not what was: it came, and explains nothing that is not there
CRITICAL = "*"  # in place of a code: any CRITICAL anomaly about what came


@dataclass(frozen=True, slots=True)
class Explanation:
    """The codes that explain another one, the likeliest first, and how many weeks back they may lie."""

    codes: tuple[str, ...]
    weeks_back: int = 0


_FEW_VENUES = Explanation(("UNUSUAL_VENUE_COUNT",))
EXPLANATIONS: Mapping[str, Explanation] = {
    "TOO_FEW_RECORDS": Explanation(("TOO_MANY_REJECTS",)),
    NOT_DELIVERED: Explanation(("UNREADABLE", "TOO_MANY_REJECTS", "TOO_FEW_RECORDS", "SOURCE_UNAVAILABLE", CRITICAL)),
    "MISSED_RUNS": Explanation((NOT_DELIVERED,)),
    "INCOMPLETE_TIER_SPLIT": Explanation((NOT_DELIVERED, CRITICAL)),
    "INCOMPLETE_STAGE_CHAIN": Explanation((CRITICAL, "TOO_MANY_REJECTS", "TOO_FEW_RECORDS", NOT_DELIVERED)),
    "INCOMPLETE_WINDOW": Explanation((NOT_DELIVERED, CRITICAL), weeks_back=5),
    "UNUSUAL_MISSING_VENUES": _FEW_VENUES,
    "UNUSUAL_MISSING_SYMBOLS": _FEW_VENUES,
    "UNUSUAL_LARGEST_SHARE_SHIFT": _FEW_VENUES,
    "UNUSUAL_SYMBOL_COUNT": _FEW_VENUES,
    "UNUSUAL_ROW_COUNT": Explanation(("UNUSUAL_VENUE_COUNT", "UNUSUAL_SYMBOL_COUNT")),
    "UNUSUAL_VOLUME_PER_SESSION": Explanation(("UNUSUAL_VENUE_COUNT", "UNUSUAL_SYMBOL_COUNT")),
    "UNUSUAL_TRADES_PER_SESSION": Explanation(
        ("UNUSUAL_VENUE_COUNT", "UNUSUAL_SYMBOL_COUNT", "UNUSUAL_VOLUME_PER_SESSION")
    ),
}
REACH = timedelta(weeks=max(one.weeks_back for one in EXPLANATIONS.values()))  # no cause lies further back


def cause_of(row: Mapping[str, Any], held: Sequence[Mapping[str, Any]]) -> int | None:
    """The id of the open anomaly in ``held`` that explains ``row``, or None where it stands for itself."""
    explanation = EXPLANATIONS.get(row["code"])
    if explanation is None or row["severity"] == Severity.INFO:  # what had to be expected needs no other cause
        return None
    near = [one for one in held if _explains_there(one, row, explanation.weeks_back)]
    for code in explanation.codes:
        found: list[int] = [one["id"] for one in near if _is(one, code)]
        if found:
            return min(found)
    return None


def _is(one: Mapping[str, Any], code: str) -> bool:
    if code == CRITICAL:
        return bool(one["severity"] == Severity.CRITICAL and one["code"] != DAMAGED)
    return bool(one["code"] == code)


def _explains_there(cause: Mapping[str, Any], effect: Mapping[str, Any], weeks_back: int) -> bool:
    """Of one domain, in the week or so many before it, in the same tier or where one of the two is of all tiers."""
    age = effect["week_ending"] - cause["week_ending"]
    tiers = {cause["tier"], effect["tier"]}
    return (
        cause["id"] != effect["id"]
        and cause["domain"] == effect["domain"]
        and timedelta(0) <= age <= timedelta(weeks=weeks_back)
        and (len(tiers) == 1 or ALL_TIERS in tiers)
    )


def roots(rows: Collection[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The anomalies of ``rows`` that stand for themselves."""
    return [row for row in rows if row["cause_id"] is None]
