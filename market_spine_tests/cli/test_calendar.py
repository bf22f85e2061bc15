"""`spine calendar`: vintages, days, differences, and a correction from its plan to what became of it."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from market_spine_tests.cli.calls import Answer, Command, call
from market_spine_tests.domain.vintage_lab import library

COLUMBUS = """\
reason: Columbus Day 2025 turned out to be no OTC trading day
actor: operations
dated: 2025-12-20
exchange: XNYS
close: [2025-10-13]
"""
CLOSED = len(library().closed)  # weekdays of 2012 .. 2035
# The demo has 2025-10-10 .. 2025-11-14 in three tiers. Of 2025-10-17 are volume per day itself, and in the windows of
# six and of thirteen weeks the five weeks from it on.
REACHED = {
    "reference_trading_calendar": 1,
    "otc_volume_per_day": 3,
    "otc_symbol_volume_per_day_6w": 15,
    "otc_weekly_baseline": 15,
}


@dataclass(frozen=True)
class Corrected:
    home: Path
    file: Path
    plan: Answer
    applied: Answer

    def ask(self, *words: str) -> Answer:
        return call("--home", str(self.home), *words)

    def calendar(self, *words: str) -> Answer:
        return self.ask("calendar", *words)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corrections") / "columbus-2025.yaml"
    path.write_text(COLUMBUS)
    return path


@pytest.fixture(scope="module")
def corrected(demo_home: Path, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Corrected:
    """A copy of the demo's home with one correction applied. For reading only."""
    home = tmp_path_factory.mktemp("corrected") / "home"
    shutil.copytree(demo_home, home)
    at = ("--home", str(home), "calendar", "apply", str(file))
    plan = call(*at)
    return Corrected(home, file, plan, call(*at, "--yes"))


def test_a_first_vintage_is_there_after_a_load(spine: Command) -> None:
    """Prevents weeks whose calendar nobody can name."""
    (row,) = spine("calendar", "list", "-f", "json").json()
    assert (row["vintage"], row["state"], row["corrections"], row["actor"]) == (1, "current", 0, "exchange_calendars")
    assert row["reason"] == f"exchange_calendars {row['library']}"
    assert row["closed_days"] == CLOSED
    table = " ".join(spine("calendar", "list").out.split())
    assert f"1 current {row['built_at'].replace('T', ' ')} {row['library']} {CLOSED} {row['reason']}" in table


def test_a_week_and_a_month(spine: Command) -> None:
    """Prevents an early close that counts a whole session of a week, or half a one of a month."""
    days = spine("calendar", "show", "--week", "2025-11-28", "-f", "json").json()
    assert [(one["day"], one["hours"], one["counts"]) for one in days] == [
        ("2025-11-24", "09:30-16:00", 1),
        ("2025-11-25", "09:30-16:00", 1),
        ("2025-11-26", "09:30-16:00", 1),
        ("2025-11-27", "closed", 0),
        ("2025-11-28", "09:30-13:00", 0.5),
    ]
    assert "Week 2025-11-28: 3.5 sessions" in spine("calendar", "show", "-w", "2025-11-28").out
    month = spine("calendar", "show", "1", "--month", "2025-01", "-f", "csv").csv()
    assert len(month) == 23  # weekdays
    assert [one["day"] for one in month if one["hours"] == "closed"] == ["2025-01-01", "2025-01-09", "2025-01-20"]
    assert "January 2025: 20 sessions" in spine("calendar", "show", "--month", "2025-01").out


def test_the_days_of_a_year(spine: Command) -> None:
    """Prevents days of other years, and short days that are missing among the closed ones."""
    days = spine("calendar", "show", "--year", "2025", "-f", "json").json()
    assert Counter(one["hours"] for one in days) == {"closed": 11, "09:30-13:00": 3}
    assert [one["day"] for one in days] == sorted(one["day"] for one in days)
    assert {one["day"][:4] for one in days} == {"2025"}
    assert "Corrections\nnone" in spine("calendar", "show").out


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (("show", "9"), "there is no calendar vintage 9"),
        (("diff", "1", "9"), "there is no calendar vintage 9"),
        (("show", "--week", "2025-11-27"), "the nearest Friday is 2025-11-28"),
        (("show", "--week", "2012-01-01"), "2012-01-01 is a Sunday"),
        (("show", "--week", "2040-01-06"), "outside the trading calendar"),
        (("show", "--month", "January"), "'January' is not a month"),
        (("show", "--month", "2025-13"), "2025-13 is not a month"),
        (("show", "--month", "2040-01"), "not wholly inside the trading calendar"),
        (("show", "--year", "1999"), "1999 is outside the trading calendar"),
        (("show", "--year", "2025", "--month", "2025-01"), "a week, a month and a year at once"),
        (("apply",), "which correction?"),
        (("apply", "FILE", "--plan", "--yes"), "--plan and --yes say opposite things"),
        (("apply", "nowhere.yaml"), "calendar correction nowhere.yaml: it cannot be read: No such file or directory"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked(spine: Command, file: Path, words: tuple[str, ...], cause: str) -> None:
    """Prevents tracebacks, and failures without a next step."""
    answer = spine("calendar", *(str(file) if word == "FILE" else word for word in words))
    assert answer.code == 2
    assert cause in answer.err
    assert "next:" in answer.err


def test_a_store_without_a_vintage(home: Path) -> None:
    """Prevents an empty store from failing without a word of what to do."""
    assert call("init").code == 0
    assert call("calendar", "list").out == "no vintage yet: the first load records one\n"
    answer = call("calendar", "show")
    assert (answer.code, "no calendar vintage is on record yet" in answer.err) == (2, True)


def test_the_plan_is_told_and_nothing_is_done(spine: Command, file: Path) -> None:
    """Prevents a correction that is applied unasked, and a plan that hides a window or a reason."""
    answer = spine("calendar", "apply", str(file))
    assert answer == spine("calendar", "apply", str(file), "--plan")
    assert answer.code == 1
    told = " ".join(answer.out.split())
    for part in (
        "Columbus Day 2025 turned out to be no OTC trading day",
        "columbus-2025.yaml by operations, 2025-12-20, becomes vintage 2",
        "2025-10-13 Monday 09:30-16:00 closed",
        "2025-10 23 sessions 22 sessions",
        "reference_trading_calendar 2025-10-17 5 -> 4 sessions",
        "1 week of the calendar, 33 partitions of 3 tables; 30 of them are windows",
    ):
        assert part in told
    assert re.search(r"spine --home \S+ calendar apply \S+columbus-2025.yaml --yes", answer.err)
    assert len(spine("calendar", "list", "-f", "json").json()) == 1


def test_the_plan_for_programs_names_every_partition(spine: Command, file: Path) -> None:
    """Prevents a script from having to read tables for people."""
    answer = spine("calendar", "apply", str(file), "-f", "json")
    assert answer.code == 1
    rows = answer.json()
    days = [(one["kind"], one["name"], one["before"], one["after"]) for one in rows[:3]]
    assert days == [
        ("day", "2025-10-13", "09:30-16:00", "closed"),
        ("month", "2025-10", "23 sessions", "22 sessions"),
        ("capture", "reference_trading_calendar", 5, 4),
    ]
    assert Counter(one["name"] for one in rows if one["kind"] in ("capture", "partition")) == REACHED
    named = [[one["week_ending"], one["why"]] for one in rows if one["kind"] == "certificate"]
    held = (
        "SELECT week_ending, 'in force for ' || ready_for AS why FROM core_data_readiness"
        " WHERE is_ready = 1 AND week_ending >= '2025-10-17' ORDER BY ALL"
    )
    assert named == [list(one.values()) for one in spine("sql", held, "-f", "json").json()] != []
    first = rows[3]
    assert (first["week_ending"], first["tier"], first["why"]) == (
        "2025-10-17",
        "NMS_TIER_1",
        "follows from reference_trading_calendar 2025-10-17",
    )
    assert {one["weeks_in_window"] for one in rows if one["name"] == "otc_weekly_baseline"} == {13}


def test_applying_tells_what_became_of_each(corrected: Corrected) -> None:
    """Prevents an application of which nobody knows what it did, or that does more than its plan."""
    assert corrected.plan.code == 1
    assert corrected.applied.code == 0, corrected.applied.err
    told = " ".join(corrected.applied.out.split())
    assert "vintage 2 is on record: Columbus Day 2025 turned out to be no OTC trading day" in told
    for name, count in REACHED.items():
        assert re.search(rf"{name} {count} {count} ", told), name
    for week in ("2025-11-07", "2025-11-14"):
        assert re.search(rf"{week} research CERTIFIED ([0-9a-f]{{12}}) (?!\1)[0-9a-f]{{12}}", told)
    assert corrected.ask("recompute").out == "nothing is out of date\n"
    sessions = "SELECT DISTINCT session_count FROM otc_volume_per_day WHERE week_ending = '2025-10-17'"
    assert corrected.ask("sql", sessions, "-f", "json").json() == [{"session_count": 4.0}]


def test_applying_it_again_does_nothing(corrected: Corrected, tmp_path: Path) -> None:
    """Prevents a script that is repeated from recording again; the file may have another name by then."""
    renamed = shutil.copy(corrected.file, tmp_path / "renamed.yaml")
    for words in ((str(corrected.file), "--yes"), (str(corrected.file),), (str(renamed), "--yes")):
        answer = corrected.calendar("apply", *words)
        assert answer.out.startswith("nothing to do: vintage 2 has this correction")
        assert (answer.code, answer.err) == (0, "")
    assert corrected.calendar("apply", str(corrected.file), "-f", "json").json() == []
    assert len(corrected.calendar("list", "-f", "json").json()) == 2


def test_a_correction_of_weeks_that_nobody_loaded_is_recorded(own_home: Path, file: Path, tmp_path: Path) -> None:
    """Prevents it from being lost before its weeks are loaded, and words for people among rows for programs."""
    early = tmp_path / "2012.yaml"
    early.write_text(file.read_text().replace("close: [2025-10-13]", "open: [2012-10-29]"))
    plan = call("calendar", "apply", str(early))
    assert (plan.code, "no captured week changes" in plan.out) == (1, True)
    answer = call("calendar", "apply", str(early), "--yes", "-f", "json")
    assert (answer.code, answer.json()) == (0, [])
    later = tmp_path / "2025.yaml"
    later.write_text(file.read_text().replace("2025-10-13", "2025-11-11"))
    answer = call("calendar", "apply", str(later), "--yes", "-f", "json")
    assert {one["table"]: one["captured"] for one in answer.json()} == {
        name: 1 if name.startswith("reference") else 3 for name in REACHED
    }


def test_what_an_interrupted_application_left_is_told(
    demo_home: Path, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents 'nothing to do' as the last word on captures that were never made again."""
    home = tmp_path / "home"
    shutil.copytree(demo_home, home)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("market_spine.automation.calendar.follow_up", killed)
    assert call("calendar", "apply", str(file), "--yes", MARKET_SPINE_HOME=str(home)).code != 0
    answer = call("calendar", "apply", str(file), MARKET_SPINE_HOME=str(home))
    assert (answer.code, answer.out.startswith("nothing to do")) == (0, True)
    assert "out of date: 3 captures of otc_volume_per_day" in answer.err
    assert "spine recompute --yes" in answer.err


def test_the_correction_is_part_of_the_calendar(corrected: Corrected) -> None:
    """Prevents a correction that cannot be found again by its day, its vintage or its reason."""
    rows = corrected.calendar("list", "-f", "json").json()
    assert [(one["vintage"], one["state"], one["closed_days"], one["actor"]) for one in rows] == [
        (1, "", CLOSED, "exchange_calendars"),
        (2, "current", CLOSED + 1, "operations"),
    ]
    assert corrected.calendar("diff", "1", "2", "-f", "json").json() == [
        {"kind": "day", "name": "2025-10-13", "weekday": "Monday", "before": "09:30-16:00", "after": "closed"},
        {"kind": "month", "name": "2025-10", "weekday": "", "before": "23 sessions", "after": "22 sessions"},
    ]
    assert corrected.calendar("diff", "1") == corrected.calendar("diff", "1", "2")
    backward = corrected.calendar("diff", "2", "1", "-f", "json").json()
    assert [(one["before"], one["after"]) for one in backward] == [
        ("closed", "09:30-16:00"),
        ("22 sessions", "23 sessions"),
    ]
    assert corrected.calendar("diff", "2").out == "no differences\n"
    days = corrected.calendar("show", "--week", "2025-10-17", "-f", "json").json()
    assert (days[0]["hours"], days[0]["by"]) == ("closed", "Columbus Day 2025 turned out to be no OTC trading day")
    assert corrected.calendar("show", "1", "--week", "2025-10-17", "-f", "json").json()[0]["counts"] == 1
    shown = " ".join(corrected.calendar("show").out.replace("─", "").split())
    assert "Corrections dated reason actor days" in shown
    assert "2025-12-20 Columbus Day 2025 turned out to be no OTC operations 2025-10-13 trading day" in shown


def test_everything_fits_eighty_columns(corrected: Corrected) -> None:
    """Prevents lines that break, and columns that are left out, on a narrow screen."""
    asked = (("list",), ("show",), ("show", "--week", "2025-10-17"), ("show", "--month", "2025-10"), ("diff", "1"))
    answers = [corrected.calendar(*words) for words in asked]
    for answer in (*answers, corrected.plan, corrected.applied):
        assert [line for line in answer.out.splitlines() if len(line) > 80] == []
        assert "not shown at this width" not in answer.out
