"""What a certificate says: the criteria with their numbers, the captures that were used, sums over them, the policy.

Captures are named with the hash of their rows, not of their files: a rebuild writes the same rows into other bytes.

A pure function of what is certified and of the code: no moment of issue, no run, nothing random, so that the same
captures give the same certificate to the byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from market_spine import __version__
from market_spine.domain.contracts import Table
from market_spine.governance.criteria import Verdict
from market_spine.store.manifest import Capture
from market_spine.store.store import Store

# Numbers are text: RFC 8785 writes them as doubles, which do not hold every count of shares.
TOTALS = """
    SELECT week_ending, tier, CAST(sum(total_volume) AS VARCHAR), CAST(sum(total_trades) AS VARCHAR),
           CAST(count(DISTINCT mpid) AS VARCHAR)
    FROM certified GROUP BY week_ending, tier ORDER BY week_ending, tier
"""


def content(
    store: Store, totals: tuple[str, Table], verdicts: Sequence[Verdict]
) -> dict[tuple[date, str], dict[str, Any]]:
    """(week, use case) -> the content of its certificate. Sums of all of them in one statement."""
    if not verdicts:
        return {}
    name, table = totals
    chosen = {one.capture_id: one for verdict in verdicts for one in verdict.used if one.table_name == name}
    with store.engine() as engine:
        store.show(engine, "certified", table, chosen.values())
        rows = engine.execute(TOTALS).fetchall()
    sums = {(row[0], row[1]): dict(zip(("shares", "trades", "venues"), row[2:], strict=True)) for row in rows}
    return {(one.week, one.use_case.name): _content(one, sums) for one in verdicts}


def _content(verdict: Verdict, sums: Mapping[tuple[date, str], Mapping[str, str]]) -> dict[str, Any]:
    use_case = verdict.use_case
    mine = {str(tier): dict(found) for tier in use_case.tiers if (found := sums.get((verdict.week, str(tier))))}
    return {
        "criteria": {"held": dict(verdict.criteria), "numbers": dict(verdict.numbers)},
        "evidence": {"captures": [_capture(one) for one in verdict.used], "totals": mine},
        "policy": {
            "use_case": use_case.name,
            "tiers": [str(tier) for tier in use_case.tiers],
            "stages": list(use_case.stages),
            "preliminary_hours": use_case.preliminary_hours,
            "hash": use_case.policy_hash,
        },
        "not_before": verdict.ready_after.isoformat() if verdict.ready_after else None,
        "code_version": __version__,
    }


def _capture(one: Capture) -> dict[str, Any]:
    return {
        "capture_id": one.capture_id,
        "table": one.table_name,
        "tier": one.tier,
        "revision": one.revision,
        "row_count": one.row_count,
        "content_hash": one.content_hash,
        "captured_at": one.captured_at.isoformat(),
        "calc_version": one.calc_version,
    }
