"""`doctor` at the terminal: what people see, what programs get, exit codes, and that it touches nothing.

At 2025-12-22 16:00 UTC the demo of six weeks lacks what was published since: Tier 2 and OTC of 2025-11-21, which are
due for an hour, and Tier 1 from there to 2025-12-05. Tier 2 of 2025-11-14 came 24 hours after its deadline.
"""

from __future__ import annotations

import re
import shlex
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import time_machine

from market_spine.cli.doctor import _ago, _size
from market_spine_tests.cli.calls import Answer, call
from market_spine_tests.governance.doctor_json import DIAGNOSIS, SCHEDULE, mismatches

MOMENT = datetime(2025, 12, 22, 16, tzinfo=UTC)
DOCTOR = ("doctor", "finra.otc_transparency", "--weeks", "3")
Doctor = Callable[..., Answer]


@pytest.fixture
def doctor(demo_home: Path) -> Doctor:
    """The command on the demo, at MOMENT."""

    def run(*options: str, **more: Any) -> Answer:
        with time_machine.travel(MOMENT, tick=False):
            return call("--home", str(demo_home), *DOCTOR, *options, **more)

    return run


def words(answer: Answer) -> str:
    return " ".join(answer.out.split())


def test_what_people_see(doctor: Doctor, demo_home: Path) -> None:
    """Prevents a wall of facts in which the one that matters is not found, and advice for another store."""
    answer = doctor(width=200)
    assert (answer.code, answer.err) == (1, "")
    lines = [line.rstrip() for line in answer.out.splitlines()]
    assert lines[:2] == [
        "Doctor: FINRA OTC transparency, ATS weekly",
        "the newest 3 due weeks of each tier, as of 2025-12-22 16:00:00Z",
    ]
    for line in (
        "✗ Partitions   4 of 9 are there",
        "    - 2025-11-21 / NMS_TIER_2, OTC (2): published 2025-12-22 15:00 UTC",
        "    - 2025-11-21 .. 2025-12-05 / NMS_TIER_1 (3): the first not there since 2025-12-09 15:00 UTC: 13 days",
        "! Arrivals     1 late",
        "    - 2025-11-14 / NMS_TIER_2: 24.0 hours late, at 2025-12-17 15:00:00Z",
        "✓ Tables       all are made, and none is out of date",
        "  Sensor       has never looked at this store: nobody watches it",
    ):
        assert [one for one in lines if one.startswith(line)] != [], line
    place = lines.index(next(line for line in lines if line.startswith("unhealthy: ")))
    assert lines[place].endswith(" problems; what helps:")
    assert lines[place + 1 : place + 3] == [
        f"  spine --home {demo_home} backfill --from 2025-11-21 --to 2025-11-21 --tier NMS_TIER_2 --tier OTC",
        f"  spine --home {demo_home} backfill --from 2025-11-21 --to 2025-12-05 --tier NMS_TIER_1",
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_it_fits_the_screen(doctor: Doctor, width: int) -> None:
    """Prevents lines that wrap; commands are for copying, and are never broken."""
    answer = doctor("--check-schedule", width=width)
    long = [line for line in answer.out.splitlines() if len(line) > width]
    assert [line for line in long if "  spine --home " not in line and "spine --home" not in line] == []


def test_the_schedule_section(doctor: Doctor) -> None:
    """Prevents another section than the one that the documents print, and one that is there unasked."""
    assert "Schedule Compliance Check" not in doctor().out
    told = words(doctor("--check-schedule", width=200))
    for text in (
        "Schedule Compliance Check",
        "Expected Schedule: - Type: WEEKLY (every Monday; after a holiday the next business day)",
        "- Partitions: 3 weeks x 3 tiers = 9 partitions",
        "- SLA: data within 24 hours of Monday 10:00 America/New_York",
        "NMS_TIER_1 17, NMS_TIER_2 31, OTC 31",
        "Actual Runs: - 4/9 partitions present",
        "- Missing: 2025-11-21 / NMS_TIER_2, OTC (2); 2025-11-21 .. 2025-12-05 / NMS_TIER_1 (3)",
        "Late Arrivals: - 2025-11-14 / NMS_TIER_2: 24.0 hours late (arrived Wed 2025-12-17 10:00,"
        " expected by Tue 2025-12-16 10:00)",
        "Remediation: spine --home ",
    ):
        assert text in told


def test_a_store_that_begins_within_the_weeks(doctor: Doctor) -> None:
    """Prevents an arithmetic that is wrong: of twelve weeks the store has none before 2025-10-10."""
    told = words(doctor("--check-schedule", "--weeks", "12", width=200))
    assert "- Partitions: 12 weeks x 3 tiers = 36 partitions, 23 of them since the store began" in told


def test_what_programs_get(doctor: Doctor, demo_home: Path) -> None:
    """Prevents JSON that is a listing, counts that are lists, and commands without their store."""
    answer = doctor("--format", "json")
    value = answer.json()
    assert (answer.code, answer.err) == (1, "")
    assert mismatches(value, DIAGNOSIS) == []
    assert (value["expected_partitions"], value["found_partitions"], value["missing_partitions"]) == (9, 4, 5)
    assert (value["status"], value["checked_at"]) == ("unhealthy", "2025-12-22T16:00:00Z")
    assert [one["days"] for one in value["gaps"]] == [13, 0, 0, 6, 0]
    assert all(one.startswith(f"spine --home {demo_home} ") for one in value["remediation"])
    with_schedule = doctor("--format", "json", "--check-schedule").json()
    assert mismatches(with_schedule, DIAGNOSIS | {"schedule": SCHEDULE}) == []
    assert {name: with_schedule[name] for name in value} == value


def test_a_row_per_problem(doctor: Doctor) -> None:
    """Prevents a CSV that leaves a problem or its remedy out."""
    rows = doctor("--format", "csv").csv()
    problems = doctor("--format", "json").json()["problems"]
    assert rows == [{name: str(value or "") for name, value in one.items()} for one in problems]
    assert {one["kind"] for one in rows} >= {"GAP", "ANOMALY", "UNJUDGED"}


def test_a_store_in_which_nothing_was_ever_loaded(tmp_path: Path) -> None:
    """Prevents an empty store from passing for a healthy one, and advice that the shell takes apart."""
    home = tmp_path / "a home"
    assert call("--home", str(home), "init").code == 0
    answer = call("--home", str(home), *DOCTOR)
    assert answer.code == 1
    assert "✗ Partitions   nothing was ever loaded" in answer.out
    *_, last = answer.out.splitlines()
    assert shlex.split(last) == ["spine", "--home", str(home), "backfill", "--weeks-back", "3"]
    assert call("--home", str(home), *DOCTOR, "-f", "json").json()["status"] == "degraded"


def test_where_there_is_no_store(tmp_path: Path) -> None:
    """Prevents a look from making what it looks for."""
    home = tmp_path / "home"
    answer = call("--home", str(home), *DOCTOR)
    assert (answer.code, answer.out) == (2, "")
    assert f"there is no store in {home}" in answer.err
    assert not home.exists()


def test_a_store_of_another_version_is_not_changed(tmp_path: Path) -> None:
    """Prevents a look that migrates, and one that fails on a missing column."""
    home = tmp_path / "home"
    assert call("--home", str(home), "init").code == 0
    control = sqlite3.connect(home / "control.db")
    with control:
        control.execute("DELETE FROM core_migrations WHERE migration_id > '0001'")
    answer = call("--home", str(home), *DOCTOR)
    assert (answer.code, answer.out) == (2, "")
    assert "the control database has schema 0001, this code has 00" in answer.err
    assert f"next: spine --home {home} init" in answer.err
    assert control.execute("SELECT max(migration_id) FROM core_migrations").fetchone() == ("0001",)
    control.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("doctor", "finra.nms"), "there is no feed 'finra.nms'"),
        (("doctor", "otc", "--weeks", "0"), "Invalid value for '--weeks'"),
    ],
)
def test_what_cannot_be_asked(demo_home: Path, options: tuple[str, ...], told: str) -> None:
    """Prevents a question about nothing from being answered with health."""
    answer = call("--home", str(demo_home), *options, width=200)
    assert (answer.code, answer.out) == (2, "")
    assert told in answer.err


@pytest.mark.parametrize("command", ["doctor", "readiness"])
def test_the_only_feed_needs_no_name(demo_home: Path, command: str) -> None:
    """Prevents an operator at night from being asked which one of one."""
    words = (["--weeks", "1"] if command == "doctor" else []) + ["-f", "json"]
    named, unnamed = (call("--home", str(demo_home), command, *feed, *words) for feed in (["otc"], []))
    assert named.code == unnamed.code
    assert re.sub(r'"checked_at": "[^"]*"', "", unnamed.out) == re.sub(r'"checked_at": "[^"]*"', "", named.out)


@pytest.mark.parametrize(
    ("number", "told"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_000, "1 kB"), (2_649_000, "2.6 MB"), (50 * 10**9, "50 GB")],
)
def test_a_size(number: int, told: str) -> None:
    """Prevents a budget that is told in other units than what it is held against."""
    assert _size(number) == told


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (7_199, "119 minutes"), (86_400 * 3, "3 days")],
)
def test_an_age(seconds: float, told: str) -> None:
    """Prevents a sensor that died on Friday from having looked 4,320 minutes ago."""
    assert _ago(seconds) == told
