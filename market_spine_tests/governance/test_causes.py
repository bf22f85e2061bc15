"""Which finding explains which: a table of cases, the table of explanations itself, and links through a real store."""

from __future__ import annotations

from datetime import date, timedelta
from graphlib import TopologicalSorter
from typing import Any

import pytest

from market_spine.assets import record
from market_spine.assets.tables import steps_of
from market_spine.checks.findings import CODES, Finding
from market_spine.checks.gates import DELIVERY_CHECKS, Tally, judge_delivery, nothing_delivered, unreadable
from market_spine.checks.judge import check_names
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.keys import WeekKey
from market_spine.feeds import load_feeds
from market_spine.governance import calendar, expectations, restatement
from market_spine.governance.causes import CRITICAL, EXPLANATIONS, NOT_DELIVERED, cause_of, roots
from market_spine.store.store import Store
from market_spine_tests.governance.anomaly_desk import T1, WHOLE, Desk, holds, seen, weeks_later
from market_spine_tests.store.builders import DOMAIN, OTC, WEEK

Row = dict[str, Any]


def row(number: int, code: str, tier: str = "OTC", weeks: int = 0, severity: str = "WARN", domain: str = DOMAIN) -> Row:
    """An open anomaly ``weeks`` after 2025-11-14, of what the search looks at."""
    week = WEEK + timedelta(weeks=weeks)
    return {"id": number, "code": code, "tier": tier, "week_ending": week, "severity": severity, "domain": domain}


MISSED = row(9, "MISSED_RUNS", "ALL")
WINDOW = row(9, "INCOMPLETE_WINDOW")
SPLIT = row(9, "INCOMPLETE_TIER_SPLIT", "ALL")
GAP = row(9, "NOT_DELIVERED")
ROWS = row(9, "UNUSUAL_ROW_COUNT")
# What is to be explained, what else is open, the number of what explains it.
CASES = {
    "nothing else is open": (MISSED, [], None),
    "one tier of the week": (MISSED, [row(3, "NOT_DELIVERED")], 3),
    "the first of two tiers": (MISSED, [row(4, "NOT_DELIVERED"), row(3, "NOT_DELIVERED", "NMS_TIER_2")], 3),
    "another week": (MISSED, [row(3, "NOT_DELIVERED", weeks=-1)], None),
    "a later week": (MISSED, [row(3, "NOT_DELIVERED", weeks=1)], None),
    "another domain": (MISSED, [row(3, "NOT_DELIVERED", domain="reference.trading_calendar")], None),
    "not what explains this": (MISSED, [row(3, "UNKNOWN_COLUMNS")], None),
    "what is explained by nothing": (row(9, "UNKNOWN_COLUMNS"), [row(3, "NOT_DELIVERED")], None),
    "another tier": (GAP, [row(3, "UNREADABLE", "NMS_TIER_1")], None),
    "the same tier": (GAP, [row(3, "UNREADABLE")], 3),
    "of all tiers": (GAP, [row(3, "SOURCE_UNAVAILABLE", "ALL")], 3),
    "the likeliest, not the oldest": (GAP, [row(3, "TOO_FEW_RECORDS"), row(4, "UNREADABLE")], 4),
    "any that is critical": (GAP, [row(3, "TRADES_WITHOUT_SHARES", severity="CRITICAL")], 3),
    "the same, not critical": (GAP, [row(3, "TRADES_WITHOUT_SHARES", severity="ERROR")], None),
    "damage of what came": (GAP, [row(3, "DAMAGED", "ALL", severity="CRITICAL")], None),
    "a name before any that is critical": (SPLIT, [row(3, "X", severity="CRITICAL"), row(4, "NOT_DELIVERED")], 4),
    "not itself": (SPLIT | {"severity": "CRITICAL"}, [SPLIT | {"severity": "CRITICAL"}], None),
    "a window of its own week": (WINDOW, [row(3, "NOT_DELIVERED")], 3),
    "a window five weeks on": (WINDOW, [row(3, "NOT_DELIVERED", weeks=-5)], 3),
    "a window six weeks on": (WINDOW, [row(3, "NOT_DELIVERED", weeks=-6)], None),
    "a window before it": (WINDOW, [row(3, "NOT_DELIVERED", weeks=1)], None),
    "a window of another tier": (WINDOW, [row(3, "NOT_DELIVERED", "NMS_TIER_1", weeks=-1)], None),
    "what had to be expected": (SPLIT | {"severity": "INFO"}, [row(3, "NOT_DELIVERED")], None),
    "by what had to be expected": (SPLIT, [row(3, "NOT_DELIVERED", severity="INFO")], 3),
    "few venues, few rows": (ROWS, [row(3, "UNUSUAL_SYMBOL_COUNT"), row(4, "UNUSUAL_VENUE_COUNT")], 4),
    "few symbols, few rows": (ROWS, [row(3, "UNUSUAL_SYMBOL_COUNT")], 3),
    "few rows explain no venues": (row(9, "UNUSUAL_VENUE_COUNT"), [row(3, "UNUSUAL_ROW_COUNT")], None),
}


@pytest.mark.parametrize(("effect", "others", "cause"), CASES.values(), ids=CASES)
def test_what_explains_a_finding(effect: Row, others: list[Row], cause: int | None) -> None:
    """Prevents ten alerts for one missing file, and a trouble of its own from hiding behind one elsewhere."""
    assert cause_of(effect, others) == cause
    assert cause_of(effect, [*others, effect]) == cause
    assert cause_of(effect, others[::-1]) == cause


def found(check: str) -> str:
    """The code of the anomaly that a check opens."""
    key = WeekKey(date(2025, 11, 14), None)
    return Finding(check, key, False, Severity.WARN, Category.CONSISTENCY, "", "").code


def producible() -> dict[str, set[Severity]]:
    """Every code that the platform can open an anomaly under, with the severities that it can have."""
    nothing, whole = Tally(OTC, 0, 0, 0, None), "nothing was delivered"
    arrivals = [
        *judge_delivery(nothing, 1, 0.05, ()),
        unreadable(OTC, whole),
        nothing_delivered(OTC, whole, whole, False),
    ]
    codes: dict[str, set[Severity]] = {}
    for one in arrivals:
        codes.setdefault(one.code, set()).add(one.severity)
    for feed in load_feeds():
        for step in steps_of(feed).values():
            laws = step.calculation.invariants
            declared = {law.name: law.severity for law in laws}
            for name in check_names(laws):  # schema and grain are declared by no law
                codes.setdefault(found(name), set()).add(declared.get(name, Severity.CRITICAL))
    others = (
        *(record.SOURCE_UNAVAILABLE, record.STEP_FAILED, restatement.RESTATED, calendar.CORRECTED),
        *(expectations.MISSED_RUNS, expectations.LATE_DATA, expectations.INCOMPLETE_STAGE_CHAIN),
    )
    return codes | {code: {Severity.ERROR} for code in others}


def test_every_code_in_the_table_can_occur() -> None:
    """Prevents a code that nothing is ever called, by a typo or after a renaming: it would silently link nothing."""
    named = {*EXPLANATIONS, *(code for one in EXPLANATIONS.values() for code in one.codes)} - {CRITICAL}
    assert len(named) > 10
    assert named - producible().keys() == set()


def test_every_check_with_a_code_of_its_own_exists() -> None:
    """Prevents a renamed check from opening an anomaly under its new name, beside those under the old one."""
    steps = [step for feed in load_feeds() for step in steps_of(feed).values()]
    checks = {*DELIVERY_CHECKS, *(name for step in steps for name in check_names(step.calculation.invariants))}
    assert CODES.keys() - checks == set()


def test_the_table_has_no_circle() -> None:
    """Prevents two findings from explaining each other, so that neither is ever told."""
    effects = {code: {one for one in why.codes if one != CRITICAL} for code, why in EXPLANATIONS.items()}
    assert [*TopologicalSorter(effects).static_order()]  # CycleError where there is one


def test_what_any_critical_finding_explains_is_never_critical() -> None:
    """Prevents a circle through "any that is critical", which the table does not name."""
    explained = {code for code, why in EXPLANATIONS.items() if CRITICAL in why.codes}
    assert explained
    assert {code for code in explained if Severity.CRITICAL in producible()[code]} == set()


def test_roots_stand_for_themselves() -> None:
    """Prevents what follows from another finding from being told as if it were one more."""
    assert [one["id"] for one in roots([{"id": 1, "cause_id": None}, {"id": 2, "cause_id": 1}])] == [1]


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store)


GONE = ("MISSED_RUNS", WHOLE, Severity.ERROR)
MISSING = (NOT_DELIVERED, OTC, Severity.ERROR)


def test_an_effect_is_linked_while_its_cause_is_open(desk: Desk) -> None:
    """Prevents an effect from staying hidden behind a cause that is gone, and the log from not saying so."""
    desk.look(seen(*MISSING), seen(*GONE))
    assert desk.open()["MISSED_RUNS"]["cause_id"] == desk.open()["NOT_DELIVERED"]["id"] == 1
    desk.look(holds(*MISSING[:2]))
    assert desk.open()["MISSED_RUNS"]["cause_id"] is None
    desk.look(seen(*MISSING))
    assert desk.open()["MISSED_RUNS"]["cause_id"] == desk.open()["NOT_DELIVERED"]["id"] == 3
    desk.resolve(3)
    assert desk.open()["MISSED_RUNS"]["cause_id"] is None
    of_effect = [(change, cause, note) for number, change, cause, note in desk.log(*NAMES) if number == 2]
    assert of_effect == [
        ("opened", None, ""),
        ("changed", 1, "caused by anomaly 1"),
        ("changed", None, "its cause is resolved"),
        ("changed", 3, "caused by anomaly 3"),
        ("changed", None, "its cause is resolved"),
    ]
    assert desk.open()["MISSED_RUNS"]["times_seen"] == 1  # being linked is not being seen


NAMES = ("anomaly_id", "change", "cause_id", "note")


def test_a_cause_that_comes_later_is_found(desk: Desk) -> None:
    """Prevents the order of the looks from deciding which of two findings is the cause."""
    desk.look(seen(*GONE))
    desk.look(seen(NOT_DELIVERED, T1))
    desk.look(seen(*MISSING))
    assert desk.open()["MISSED_RUNS"]["cause_id"] == 2


def test_another_cause_takes_over(desk: Desk) -> None:
    """Prevents an effect from standing for itself while a second tier is still missing."""
    desk.look(seen(*MISSING), seen(NOT_DELIVERED, T1), seen(*GONE))
    desk.look(holds(*MISSING[:2]))
    assert desk.open()["MISSED_RUNS"]["cause_id"] == 2
    assert desk.log("note")[-1] == ("caused by anomaly 2",)


@pytest.mark.parametrize("weeks", [0, 6, 11, 12, 13, 14, 17, 18, 40])
def test_a_look_at_other_weeks_leaves_links_as_they_are(sqlite_store: Store, weeks: int) -> None:
    """Prevents a look far from a cause from taking the cause for resolved, since it does not read it."""
    desk, cause, effect = Desk(sqlite_store), (NOT_DELIVERED, weeks_later(0)), ("INCOMPLETE_WINDOW", weeks_later(5))
    desk.look(seen(*cause), seen(*effect))
    for away in (weeks, -weeks):
        desk.look(seen(key=weeks_later(away)))
        assert desk.open()["INCOMPLETE_WINDOW"]["cause_id"] == 1
    assert [note for (note,) in desk.log("note") if note] == ["caused by anomaly 1"]


def test_a_chain_is_recorded_whatever_its_order(desk: Desk) -> None:
    """Prevents a row from naming a cause that the database does not have yet, where all are found at once."""
    desk.look(seen(*GONE), seen(*MISSING), seen("UNREADABLE", OTC, Severity.CRITICAL))
    found = {code: one["cause_id"] for code, one in desk.open().items()}
    assert found == {"MISSED_RUNS": 2, "NOT_DELIVERED": 3, "UNREADABLE": None}
