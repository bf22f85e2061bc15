"""Anomalies as people and programs read them, and closing one by hand."""

from __future__ import annotations

import getpass
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from market_spine.domain.contracts import Category, Severity
from market_spine.store.store import Store
from market_spine_tests.cli.calls import Answer, call
from market_spine_tests.governance.anomaly_desk import T1, WHOLE, Desk, holds, seen, weeks_later
from market_spine_tests.store.builders import OTC

ACTOR = "finra.otc_transparency.ingest_week"
ZERO = "150 rows set aside: trades without shares"
SAMPLES = [
    {"part_no": 1, "line_no": number, "reason_code": "X", "detail": "why", "raw_text": "[bold]|x"}
    for number in range(30)
]


@pytest.fixture
def desk(home: Path) -> Iterator[Desk]:
    """One that is critical, one with an effect, a warning of the next week, one that asks for nothing, a closed one."""
    store = Store.at(home)
    store.ensure()
    made = Desk(store, ACTOR)
    critical: dict[str, Any] = {
        "category": Category.BUSINESS_RULE,
        "message": ZERO,
        "affected": 150,
        "samples": SAMPLES,
    }
    made.look(seen("SCHEMA_VIOLATED"))
    made.look(
        seen("NOT_DELIVERED", OTC, Severity.ERROR, message="not there since 2025-12-16 15:00 UTC"),
        seen("MISSED_RUNS", WHOLE, Severity.ERROR),
        seen("TRADES_WITHOUT_SHARES", T1, Severity.CRITICAL, details={"check": "x", "days": [3]}, **critical),
        seen("UNUSUAL_LARGEST_SHARE_SHIFT", weeks_later(1, T1.tier), message="largest share shift: [red]UBSA +11.92"),
        seen("INCOMPLETE_WINDOW", weeks_later(2), Severity.INFO),
    )
    made.look(holds("SCHEMA_VIOLATED"))
    yield made
    store.control.dispose()


CLOSED, GAP, MISSED, CRITICAL, SHIFT, WINDOW = range(1, 7)
# Options, the numbers that are shown, in order: the gravest first, then the newest week.
FILTERS: list[tuple[str, list[int]]] = [
    ("", [CRITICAL, GAP, SHIFT]),
    ("--linked", [CRITICAL, MISSED, GAP, SHIFT]),
    ("--severity INFO", [CRITICAL, GAP, SHIFT, WINDOW]),
    ("--severity INFO --linked", [CRITICAL, MISSED, GAP, SHIFT, WINDOW]),
    ("--severity ERROR", [CRITICAL, GAP]),
    ("--severity CRITICAL", [CRITICAL]),
    ("--all", [CRITICAL, MISSED, GAP, SHIFT, CLOSED]),
    ("--all --severity INFO", [CRITICAL, MISSED, GAP, SHIFT, WINDOW, CLOSED]),
    ("--week-ending 2025-11-21", [SHIFT]),
    ("-w 2025-11-14", [CRITICAL, GAP]),
    ("-w 2025-12-05", []),
    ("--tier OTC", [GAP]),
    ("-t T1 -t OTC", [CRITICAL, GAP, SHIFT]),
    ("-n 2", [CRITICAL, GAP]),
]


def numbers(answer: Answer) -> list[int]:
    assert answer.code == 0, answer.err
    return [row["id"] for row in answer.json()]


@pytest.mark.parametrize(("options", "expected"), FILTERS, ids=[row[0] or "none" for row in FILTERS])
def test_list_shows_what_is_asked(desk: Desk, options: str, expected: list[int]) -> None:
    """Prevents a root cause from being hidden, and what follows from it, or asks for nothing, from being in the way."""
    assert numbers(call("anomalies", "list", *options.split(), "-f", "json")) == expected


def test_programs_get_every_column(desk: Desk) -> None:
    """Prevents numbers from becoming words on the way to a program, and JSON and CSV from disagreeing."""
    row = call("anomalies", "list", "--linked", "-t", "T1", "-f", "json").json()[0]
    assert row == {
        "id": 4,
        "severity": "CRITICAL",
        "week_ending": "2025-11-14",
        "tier": "NMS_TIER_1",
        "code": "TRADES_WITHOUT_SHARES",
        "message": ZERO,
        "follows": 0,
        "state": "open",
        "category": "BUSINESS_RULE",
        "table_name": "otc_raw",
        "affected_records": 150,
        "times_seen": 1,
        "detected_at": "2025-12-15T15:02:00Z",
        "last_seen_at": "2025-12-15T15:02:00Z",
        "resolved_at": None,
    }
    rows = call("anomalies", "list", "--linked", "-f", "csv").csv()
    assert [one["follows"] for one in rows] == ["0", "0", "1", "0"]
    assert rows[0] == {name: "" if value is None else str(value) for name, value in row.items()}


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_table_says_what_is_wrong_at_every_width(desk: Desk, width: int) -> None:
    """Prevents a table without the code, by which the page of anomalies is read, or without what was found."""
    out = call("anomalies", "list", width=width).out
    assert max(map(len, out.splitlines())) <= width
    words = " ".join(out.split())
    for part in ("CRITICAL 2025-11-14 NMS_TIER_1", "ERROR 2025-11-14 OTC", "WARN 2025-11-21 NMS_TIER_1", "[red]UBSA"):
        assert part in words
    for code in ("TRADES_WITHOUT_SHARES", "NOT_DELIVERED", "UNUSUAL_LARGEST_SHARE_SHIFT"):
        assert code in out
    assert ("code / message" in out) is (width < 160)
    assert "not shown" not in out


@pytest.mark.parametrize(("width", "has_moments"), [(80, False), (160, True)])
def test_what_is_resolved_looks_so(desk: Desk, width: int, has_moments: bool) -> None:
    """Prevents --all from showing what is wrong and what was like each other, and the others from saying what is."""
    out = call("anomalies", "list", "--all", width=width).out
    assert max(map(len, out.splitlines())) <= width
    states = [word for word in out.split() if word in ("open", "resolved")]
    assert states == ["open"] * 4 + ["resolved"]
    assert ("2025-12-15 15:03:00Z" in out) is has_moments
    assert "SCHEMA_VIOLATED" in out
    assert "state" not in call("anomalies", "list", width=width).out
    assert [row["state"] for row in call("anomalies", "list", "--all", "-f", "csv").csv()] == states


def test_more_than_is_shown_is_told(desk: Desk) -> None:
    """Prevents a limit from looking like the end."""
    answer = call("anomalies", "list", "-n", "1")
    assert "first 1 of 3 rows (--limit)" in answer.err
    assert "NMS_TIER_1" in answer.out


def test_where_nothing_is_wrong_it_says_so(home: Path) -> None:
    """Prevents an empty page that could as well be a failure."""
    assert call("init").code == 0
    answer = call("anomalies", "list")
    assert (answer.code, answer.out, answer.err) == (0, "nothing is wrong\n", "")
    assert call("anomalies", "list", "-f", "json").json() == []
    assert call("anomalies", "list", "-f", "csv").out.startswith("id,severity,week_ending,tier,code,message,follows,")


def facts(out: str) -> dict[str, str]:
    """Name and value of each line above the tables."""
    return dict(line.split(maxsplit=1) for line in out.partition("\n\n")[0].splitlines())


def test_show_tells_all_there_is(desk: Desk) -> None:
    """Prevents an anomaly from being shown without its numbers, its records, or what became of it."""
    answer = call("anomalies", "show", "4")
    assert answer.code == 0, answer.err
    shown = facts(answer.out)
    assert shown["code"] == "TRADES_WITHOUT_SHARES"
    assert shown["message"] == ZERO
    assert (shown["affected_records"], shown["times_seen"], shown["days"]) == ("150", "1", "[3]")
    assert "check" not in shown
    samples = answer.out.partition("Sample records\n")[2].partition("\n\n")[0]
    assert samples.count("[bold]|x") == 5
    assert "first 5 of 20 samples" in answer.err
    assert len(json.loads(call("anomalies", "show", "4", "-f", "json").json()[0]["sample_records"])) == 20
    history = answer.out.partition("History\n")[2]
    assert history.splitlines()[2].split() == ["2025-12-15", "15:02:00Z", "opened", "CRITICAL", ACTOR]
    assert max(len(line) for line in answer.out.splitlines() if not line.startswith("next: ")) <= 80


def test_show_tells_what_became_of_it(desk: Desk) -> None:
    """Prevents who closed it, when and why from being lost, and what it follows from."""
    call("anomalies", "resolve", "2", "--note", "FINRA [ticket 7]: no file this week", "--actor", "jane")
    shown = call("anomalies", "show", "2")
    assert facts(shown.out)["resolved_by"] == "jane"
    assert facts(shown.out)["resolution_note"] == "FINRA [ticket 7]: no file this week"
    assert "FINRA [ticket 7]: no file this" in " ".join(shown.out.partition("History\n")[2].split())
    assert "next:" not in shown.out
    history = call("anomalies", "show", "3").out.partition("History\n")[2].split()
    assert " ".join(history).count("caused by anomaly 2") == 1
    assert " ".join(history).count("its cause is resolved") == 1


@pytest.mark.parametrize("actor", ["jane", "finra.otc_transparency.compute_rolling", "x" * 60])
def test_a_history_says_who_and_when_at_every_width(desk: Desk, actor: str) -> None:
    """Prevents a log from which the person is left out, and a single entry that looks unlike several."""
    call("anomalies", "resolve", "2", "--note", "FINRA said that there is no file of this week", "--actor", actor)
    for number in ("2", "6"):
        for width in (80, 100):
            history = call("anomalies", "show", number, width=width).out.partition("History\n")[2]
            assert history.split()[:2] == ["changed_at", "change"]
            assert "not shown" not in history.replace("not shown at this width: severity", "")
            assert "2025-12-15 15:02:00Z  opened" in history
            assert max(len(line) for line in history.splitlines() if not line.startswith("next: ")) <= width
    assert actor in "".join(call("anomalies", "show", "2").out.partition("History\n")[2].split())


def test_a_long_message_goes_on_below_itself(desk: Desk) -> None:
    """Prevents words that a terminal breaks in two, and ids that cannot be copied."""
    message = "missing venues: 18 (X084, X088, X092, X095, X097, X110, X117, X119, X121); usual is none"
    desk.look(seen("UNUSUAL_MISSING_VENUES", T1, message=message, capture_id="c" * 90))
    out = call("anomalies", "show", "7").out
    told = out.partition("message")[2].partition("\ndomain")[0]
    first, second = told.splitlines()
    assert (len("message" + first) <= 80, second.startswith(" " * 17), second[17] != " ") == (True, True, True)
    assert " ".join(told.split()) == message
    assert "c" * 90 in out


def steps(number: int) -> list[str]:
    """The next steps that `show` prints."""
    lines = call("anomalies", "show", str(number)).out.splitlines()
    return [line.removeprefix("next: ") for line in lines if line.startswith("next: ")]


def test_show_tells_what_helps_and_that_works(desk: Desk) -> None:
    """Prevents an anomaly of which one learns everything but what to do, and a command that is refused."""
    assert steps(GAP) == ["spine backfill --from 2025-11-14 --to 2025-11-14 --tier OTC"]
    assert steps(MISSED) == ["spine anomalies show 2  # it follows from that one"]
    assert steps(CLOSED) == []
    load, resolve = steps(SHIFT)
    assert load == "spine backfill --from 2025-11-21 --to 2025-11-21 --tier NMS_TIER_1  # loads it again"
    answer = call(*shlex.split(resolve, comments=True)[1:])
    assert (answer.code, answer.out) == (0, "resolved anomaly 5: UNUSUAL_LARGEST_SHARE_SHIFT 2025-11-21 NMS_TIER_1\n")
    assert steps(SHIFT) == []


def test_show_for_programs_has_the_history(desk: Desk) -> None:
    """Prevents the log from being for people only."""
    (row,) = call("anomalies", "show", "1", "-f", "json").json()
    assert (row["id"], row["resolution_note"]) == (1, "holds again: SCHEMA_VIOLATED in OTC:2025-11-14")
    assert [one["change"] for one in json.loads(row["history_json"])] == ["opened", "resolved"]
    assert call("anomalies", "show", "1", "-f", "csv").csv()[0]["history_json"] == row["history_json"]


def test_resolve_closes_it_and_nothing_else(desk: Desk) -> None:
    """Prevents an effect from being closed with its cause, or a message that names another anomaly."""
    answer = call("anomalies", "resolve", "2", "--note", "there is none this week", "--actor", "jane")
    assert (answer.code, answer.out) == (0, "resolved anomaly 2: NOT_DELIVERED 2025-11-14 OTC\n")
    assert numbers(call("anomalies", "list", "-f", "json")) == [CRITICAL, MISSED, SHIFT]
    assert call("anomalies", "resolve", "5", "--note", "x").code == 0
    assert desk.rows()[4]["resolved_by"] == getpass.getuser()


REFUSED = [
    ("show 99", "there is no anomaly 99", "see them with: spine anomalies list --all"),
    (
        "show 100000000000000000000",
        "there is no anomaly 100000000000000000000",
        "see them with: spine anomalies list --all",
    ),
    ("resolve 99 --note x", "there is no anomaly 99", "see them with: spine anomalies list --all"),
    ("resolve 1 --note x", "was resolved at 2025-12-15 15:03 UTC by finra.", "spine anomalies show 1"),
    ("resolve 2 --note ''", "not resolved without a reason", "add --note"),
    ("resolve 2", "--note", ""),
    ("list --severity FATAL", "FATAL", ""),
    ("list -t T9", "'T9' is not a FINRA tier", "use --tier"),
    ("list -w 2025-11-13", "2025-11-13 is a Thursday", "the nearest Friday is 2025-11-14"),
]


@pytest.mark.parametrize(("words", "cause", "remedy"), REFUSED, ids=[row[0] for row in REFUSED])
def test_what_cannot_be_done_is_refused(desk: Desk, words: str, cause: str, remedy: str) -> None:
    """Prevents a wrong word from showing everything or nothing, and an anomaly from being closed twice."""
    before = desk.rows()
    answer = call("anomalies", *[word.strip("'") for word in words.split()])
    assert answer.code == 2
    assert cause in answer.err
    assert remedy in answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    assert desk.rows() == before


def test_without_a_store_it_says_how_to_begin(home: Path) -> None:
    """Prevents a look at a wrong home from making a store there."""
    for words in ("list", "show 1", "resolve 1 --note x"):
        answer = call("anomalies", *words.split())
        assert (answer.code, "there is no store in" in answer.err) == (2, True)
    assert list(home.iterdir()) == []
