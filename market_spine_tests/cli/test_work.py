"""`spine work`: asking, listing, showing; what is refused, and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from market_spine_tests.cli.calls import call

PIPELINE = "otc.weekly_refresh"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that was begun and holds nothing."""
    monkeypatch.setenv("MARKET_SPINE_HOME", str(tmp_path))
    assert call("init").code == 0
    return tmp_path


def states(*more: str) -> list[tuple[str, str, str, str]]:
    rows = call("work", "list", "--format", "csv", *more).csv()
    return [(row["id"], row["week_ending"], row["tier"], row["state"]) for row in rows]


def test_a_range_is_asked_for_once(home: Path) -> None:
    """Prevents a backfill that is asked for again from being done twice, and from standing before the current week."""
    asked = ("work", "enqueue", PIPELINE, "-p", "from=2025-10-03", "-p", "to=2025-12-19")
    first = call(*asked, "--format", "csv")
    assert (first.code, len(first.csv())) == (0, 36)  # the documents' 12 weeks x 3 tiers
    assert {(row["added"], row["priority"], row["state"]) for row in first.csv()} == {("true", "25", "PENDING")}
    again = call(*asked)
    assert (again.code, again.out.splitlines()[0]) == (1, "0 items added, 36 asked for before and not done yet")
    week = call("work", "enqueue", PIPELINE, "-w", "2026-01-02", "-t", "OTC", "-p", "min_records=5", "--format", "csv")
    assert [(row["priority"], row["params_json"]) for row in week.csv()] == [("100", '{"min_records": 5}')]
    assert states("--limit", "1") == [("37", "2026-01-02", "OTC", "PENDING")]  # the first that is done


def test_an_item_and_its_history(home: Path) -> None:
    """Prevents a cancelled item from vanishing, and a history that does not say who did it."""
    call("work", "enqueue", PIPELINE, "-w", "2025-11-14", "-t", "OTC", "--actor", "desk")
    done = call("work", "cancel", "1", "--actor", "ops")
    assert (done.code, done.out) == (0, "item 1: 2025-11-14 OTC is CANCELLED\n")
    assert states() == []
    assert states("--all") == [("1", "2025-11-14", "OTC", "CANCELLED")]
    shown = call("work", "show", "1")
    history = shown.out.partition("History")[2].split()
    assert [word for word in history if word in ("desk", "ops", "PENDING", "CANCELLED")] == [
        *("PENDING", "desk"),
        *("PENDING", "CANCELLED", "ops"),
    ]
    assert max(len(line) for line in shown.out.splitlines()) <= 80
    (row,) = call("work", "show", "1", "--format", "json").json()
    assert (row["state"], row["requested_by"]) == ("CANCELLED", "desk")


REFUSED = [
    (["retry", "1"], "work item 1 is PENDING, and cannot become PENDING", "spine work show 1"),
    (["retry", "7"], "there is no work item 7", "spine work list"),
    (["cancel", "7"], "there is no work item 7", "spine work list"),
    (["show", "7"], "there is no work item 7", "spine work list --all"),
    (["show", "100000000000000000000"], "there is no work item 100000000000000000000", "spine work list --all"),
    (["enqueue", "otc.backfill_range", "-w", "2025-11-14"], "is not done week by week", "otc.weekly_refresh"),
    (["enqueue", "otc/tier_split", "-w", "2025-11-14"], "is not done week by week", "spine run otc/tier_split"),
    (["enqueue", PIPELINE], "no week is named", "--week-ending"),
    (["enqueue", PIPELINE, "-w", "2025-11-13"], "Thursday", "2025-11-14"),
    (["enqueue", "otc.nothing", "-w", "2025-11-14"], "no pipeline or asset 'otc.nothing'", "spine catalog"),
]


@pytest.mark.parametrize(("args", "cause", "remedy"), REFUSED, ids=lambda value: " ".join(value)[:40])
def test_what_cannot_be_is_told(home: Path, args: list[str], cause: str, remedy: str) -> None:
    """Prevents a request from disappearing without a word, or with a trace."""
    call("work", "enqueue", PIPELINE, "-w", "2025-11-14", "-t", "OTC")
    answer = call("work", *args, width=200)
    assert (answer.code, answer.out) == (2, "")
    assert cause in answer.err
    assert remedy in answer.err.partition("next:")[2]


def test_the_ledger_of_a_quiet_store_agrees(home: Path) -> None:
    """Prevents the command for doubts from failing where there is nothing to doubt."""
    answer = call("work", "reconcile")
    assert (answer.code, answer.out.strip()) == (0, "the ledger and Dagster's runs agree")


def test_a_week_that_is_not_published_waits_for_it(home: Path) -> None:
    """Prevents FINRA from being asked every half hour for weeks, for what it publishes in a month."""
    import time_machine

    with time_machine.travel("2025-12-14T12:00:00Z", tick=False):
        rows = call("work", "enqueue", PIPELINE, "-w", "2025-12-12", "--format", "csv").csv()
    assert [(row["tier"], row["desired_at"][:16]) for row in rows] == [
        ("NMS_TIER_1", "2025-12-29T15:00"),  # 10:00 in New York
        ("NMS_TIER_2", "2026-01-12T15:00"),
        ("OTC", "2026-01-12T15:00"),
    ]
    assert rows[0]["give_up_at"][:16] == "2025-12-30T15:00"
