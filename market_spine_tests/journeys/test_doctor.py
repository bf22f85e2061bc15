"""The doctor after real runs: what it finds, and that every command which it prints does what it is printed for.

The first four are the documents' own tests. They name weeks by Mondays; here those are the Mondays of publication.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine

from market_spine.assets.scope import look
from market_spine.domain.tiers import Tier
from market_spine.settings import clock
from market_spine.store import heartbeats, schedules
from market_spine.store.ledger import Run
from market_spine.store.store import Store
from market_spine_tests.cli.calls import Answer, call
from market_spine_tests.journeys.stage import OTC, T1, T2, Clock, Scene, key, staged

pytestmark = pytest.mark.slow
DOMAIN = "finra.otc_transparency"
SOURCE = "seed=7,scale=0.02"
START_SECONDS = 120  # of dagster dev, beside other tests; 20 s by itself
STOP_SECONDS = 30


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class Patient:
    """A home, and the command line at a moment that the test sets."""

    home: Path
    clock: Clock

    def call(self, *words: str, fault: str = "") -> Answer:
        source = f"synthetic:{SOURCE}" + (f",fault={fault}" if fault else "")
        with time_machine.travel(self.clock(), tick=words[0] != "doctor"):  # a run has to last some time
            return call("--home", str(self.home), *words, MARKET_SPINE_SOURCE=source)

    def doctor(self, weeks: int = 1, *options: str) -> dict[str, Any]:
        answer = self.call("doctor", DOMAIN, "--weeks", str(weeks), "--format", "json", *options)
        assert answer.err == ""
        value: dict[str, Any] = answer.json()
        assert answer.code == (0 if value["status"] == "healthy" else 1)
        return value

    def paste(self, command: str) -> Answer:
        """Run a printed command, word by word as the shell would take it."""
        program, *words = shlex.split(command)
        assert (program, words[:2]) == ("spine", ["--home", str(self.home)])
        with time_machine.travel(self.clock(), tick=True):
            return call(*words, MARKET_SPINE_SOURCE=f"synthetic:{SOURCE}")


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with staged(tmp_path / "home", f"synthetic:{SOURCE}", Clock(utc("2025-12-01 16:00"))) as made:
        yield made


def patient_of(scene: Scene) -> Patient:
    return Patient(scene.spine.store.home.root, scene.clock)


def at(scene: Scene, when: str) -> None:
    scene.clock.moment = utc(when)


def test_gap_detection_missing_partitions(scene: Scene) -> None:
    """A Monday that was missed (2025-12-08): 9 partitions expected, 6 there, 3 gaps with the commands that load them.

    Prevents a run that never started from leaving no trace, and gaps from the weeks that are not due yet.
    """
    tier_1 = [key(f"2025-{day}", T1) for day in ("10-31", "11-07", "11-14")]
    scene.refresh(*tier_1, key("2025-10-31", T2), key("2025-10-31", OTC))
    at(scene, "2025-12-15 16:00")
    scene.refresh(key("2025-11-28", T1), key("2025-11-14", T2), key("2025-11-14", OTC))
    at(scene, "2025-12-16 16:00")
    found = patient_of(scene).doctor(3)
    assert [found[f"{name}_partitions"] for name in ("expected", "found", "missing")] == [9, 6, 3]
    assert found["status"] == "unhealthy"
    assert {(one["week_ending"], one["tier"]) for one in found["gaps"]} == {
        ("2025-11-07", "NMS_TIER_2"),
        ("2025-11-07", "OTC"),
        ("2025-11-21", "NMS_TIER_1"),
    }
    assert {(one["due_at"], one["deadline"], one["days"]) for one in found["gaps"]} == {
        ("2025-12-08T15:00:00Z", "2025-12-09T15:00:00Z", 7)
    }
    home = shlex.quote(str(scene.spine.store.home.root))
    assert found["remediation"][:2] == [
        f"spine --home {home} backfill --from 2025-11-07 --to 2025-11-07 --tier NMS_TIER_2 --tier OTC",
        f"spine --home {home} backfill --from 2025-11-21 --to 2025-11-21 --tier NMS_TIER_1",
    ]


def test_incomplete_stage_chain(scene: Scene) -> None:
    """Prevents weeks that were captured and never calculated from passing for weeks; one command mends both."""
    at(scene, "2025-12-15 16:00")
    scene.refresh(*(key(f"2025-11-{day}", T1) for day in (21, 28)), *(key(f"2025-11-{day}", T2) for day in ("07", 14)))
    assert scene.run("otc.ingest_week", key("2025-11-07", OTC), key("2025-11-14", OTC)).is_complete
    assert patient_of(scene).doctor(2)["incomplete_chains"] == []  # it may be under way
    scene.clock.forward(hours=2)
    found = patient_of(scene).doctor(2)
    assert found["missing_partitions"] == 0
    assert [(one["week_ending"], one["tier"]) for one in found["incomplete_chains"]] == [
        ("2025-11-07", "OTC"),
        ("2025-11-14", "OTC"),
    ]
    missing = found["incomplete_chains"][0]["missing"]
    assert missing["NORMALIZED"] == ["otc_venue_volume"]
    assert {"otc_symbol_hhi", "otc_venue_share"} <= set(missing["AGGREGATED"])
    commands = {one["remedy"] for one in found["problems"] if one["kind"] == "CHAIN"}
    (command,) = commands
    assert command.endswith(f" run {DOMAIN}.weekly_refresh -p from=2025-11-07 -p to=2025-11-14 --tier OTC")
    assert patient_of(scene).paste(command).code == 0
    assert patient_of(scene).doctor(2)["incomplete_chains"] == []


def test_missed_run_detection(scene: Scene) -> None:
    """Prevents a doctor and a sensor that say different things, and a doctor who needs the sensor to know anything."""
    at(scene, "2025-12-15 16:00")
    scene.refresh(*(key(f"2025-11-{day}", T1) for day in (14, 21, 28)), key("2025-11-14", T2))
    at(scene, "2025-12-16 15:00")
    assert patient_of(scene).doctor()["status"] == "degraded"  # due, and in time until now
    at(scene, "2025-12-16 15:01")
    alone = patient_of(scene).doctor()
    look(scene.spine, scene.feed, Run("sensor", "sensor", scene.clock()))
    watched = patient_of(scene).doctor()
    assert alone["gaps"] == [one | {"cause_id": None} for one in watched["gaps"]]
    assert [(one["week_ending"], one["tier"]) for one in alone["gaps"]] == [("2025-11-14", "OTC")]
    roots = {one["code"]: one for one in watched["open_anomalies"]}
    assert "MISSED_RUNS" not in roots
    assert (roots["NOT_DELIVERED"]["severity"], roots["NOT_DELIVERED"]["tier"]) == ("ERROR", "OTC")
    assert roots["NOT_DELIVERED"]["follows"] >= 1
    assert watched["heartbeat"]["age_seconds"] == 0
    told = [(one["kind"], one["tier"]) for one in watched["problems"] if one["kind"] == "GAP"]
    assert told == [("GAP", "OTC")]


def test_expected_schedule_definition(scene: Scene) -> None:
    """The documents' section: 12 partitions expected, 11 present, the missing one named with its command.

    Prevents a report about another schedule than the one on record.
    """
    at(scene, "2025-12-15 16:00")
    weeks: dict[Tier, tuple[str, ...]] = {
        T1: ("11-07", "11-14", "11-21", "11-28"),
        T2: ("10-24", "10-31", "11-07", "11-14"),
    }
    weeks |= {OTC: weeks[T2][:-1]}
    scene.refresh(*(key(f"2025-{day}", tier) for tier, days in weeks.items() for day in days))
    at(scene, "2025-12-16 16:00")
    found = patient_of(scene).doctor(4, "--check-schedule")
    with scene.spine.store.control.read() as connection:
        (row,) = [one for one in schedules.read(connection) if one["pipeline"] == "weekly_refresh"]
    schedule = found["schedule"]
    assert (schedule["type"], schedule["expected_delay_hours"]) == (row["schedule_type"], row["expected_delay_hours"])
    assert (schedule["expected_time"], schedule["timezone"]) == (row["expected_time"], row["timezone"])
    assert (schedule["type"], schedule["expected_delay_hours"], row["preliminary_hours"]) == ("WEEKLY", 24, 48)
    assert (schedule["expected"], schedule["present"]) == (12, 11)
    told = patient_of(scene).call("doctor", "otc", "--check-schedule").out
    section = " ".join(told.partition("Schedule Compliance Check")[2].split())
    for text in (
        "- Type: WEEKLY (every Monday;",
        "- Partitions: 4 weeks x 3 tiers = 12 partitions - SLA: data within 24 hours of Monday 10:00 America/New_York",
        "- 11/12 partitions present - Missing: 2025-11-14 / OTC Late Arrivals: - none Remediation: spine ",
        " backfill --from 2025-11-14 --to 2025-11-14 --tier OTC",
    ):
        assert text in section


def mended(patient: Patient, kind: str, weeks: int = 1) -> list[str]:
    """Paste what is printed for the problems of ``kind``: they are there before, and gone afterwards. The commands."""
    before = patient.doctor(weeks)
    problems = [one for one in before["problems"] if one["kind"] == kind]
    assert problems, before
    commands = list(dict.fromkeys(one["remedy"] for one in problems))
    assert set(commands) <= set(before["remediation"])
    for command in commands:
        answer = patient.paste(command)
        assert answer.code == 0, (command, answer.out, answer.err)
    places = [(one["kind"], one["week_ending"], one["tier"]) for one in problems]
    left = [(one["kind"], one["week_ending"], one["tier"]) for one in patient.doctor(weeks)["problems"]]
    assert [one for one in places if one in left] == []
    return [shlex.join(shlex.split(command)[3:]) for command in commands]


def test_the_first_command_leaves_no_gap(tmp_path: Path) -> None:
    """Prevents a first load whose oldest weeks lack Tier 1, which is published a fortnight before the others."""
    patient = Patient(tmp_path / "a home", Clock(utc("2025-12-16 16:00")))
    assert patient.call("init").code == 0
    assert mended(patient, "EMPTY") == ["backfill --weeks-back 1"]
    found = patient.doctor(weeks=3)
    assert "GAP" not in [one["kind"] for one in found["problems"]]
    assert (found["expected_partitions"], found["found_partitions"]) == (5, 5)


@pytest.mark.extended
def test_every_printed_command_mends_what_it_is_printed_for(tmp_path: Path) -> None:
    """Prevents advice that fails when it is pasted, or that changes nothing.

    From two loads that know nothing of each other to a healthy store over a fortnight, by what the doctor prints.
    """
    patient = Patient(tmp_path / "a home", Clock(utc("2025-12-16 16:00")))
    assert patient.call("backfill", "--weeks-back", "1", "--tier", "NMS_TIER_1").code == 0
    assert patient.call("backfill", "--weeks-back", "1", "--tier", "NMS_TIER_2", "--tier", "OTC").code == 0
    # Three days later what came has settled with nobody to judge it, and the week of the others lacks its Tier 1.
    patient.clock.moment = utc("2025-12-19 16:00")
    assert mended(patient, "UNJUDGED") == [f"readiness {DOMAIN}"]
    assert mended(patient, "GAP") == ["backfill --from 2025-11-14 --to 2025-11-14 --tier NMS_TIER_1"]
    assert mended(patient, "STALE") == ["recompute --yes"]  # windows that the new week belongs to
    # On Monday one tier is fetched and not calculated, and the others are not fetched.
    patient.clock.moment = utc("2025-12-22 16:00")
    assert patient.call("run", "otc.ingest_week", "--week-ending", "2025-12-05", "--tier", "NMS_TIER_1").code == 0
    patient.clock.forward(hours=2)
    place = "--week-ending 2025-12-05 --tier NMS_TIER_1"
    assert mended(patient, "CHAIN") == [f"run {DOMAIN}.weekly_refresh {place}"]
    gap = "--from 2025-11-21 --to 2025-11-21 --tier NMS_TIER_2 --tier OTC"
    assert f"backfill {gap}" in mended(patient, "GAP")
    _impossible_data(patient)
    _healthy(patient)


def _impossible_data(patient: Patient) -> None:
    """A week with trades without shares: shown, loaded again once the source has mended it, and settled by hand."""
    patient.clock.forward(hours=1)
    spoilt = ("run", "otc.weekly_refresh", "--week-ending", "2025-11-21", "--tier", "OTC")
    assert patient.call(*spoilt, fault="zero-volume:OTC:2025-11-21:1").code == 1
    found = patient.doctor()
    assert (found["status"], found["anomalies"]["critical"]) == ("unhealthy", 1)
    (critical,) = [one for one in found["open_anomalies"] if one["severity"] == "CRITICAL"]
    (shown,) = [one["remedy"] for one in found["problems"] if one["anomaly_id"] == critical["id"]]
    answer = patient.paste(shown)
    assert (answer.code, shown.split()[-3:]) == (0, ["anomalies", "show", str(critical["id"])])
    assert critical["code"] in answer.out
    assert patient.call(*spoilt).code == 0
    found = patient.doctor()
    assert found["anomalies"]["critical"] == 0


def _healthy(patient: Patient) -> None:
    """What is left: a tier that only a use case lacks, windows, verdicts, and what only a person can settle."""
    patient.clock.moment = utc("2025-12-26 16:00")
    assert mended(patient, "GAP") == ["backfill --from 2025-11-21 --to 2025-11-21 --tier NMS_TIER_1"]
    mended(patient, "STALE")
    patient.clock.moment = utc("2025-12-28 17:00")
    assert mended(patient, "UNJUDGED") == [f"readiness {DOMAIN}"]
    while problems := patient.doctor()["problems"]:  # at most six are shown one by one
        assert {one["kind"] for one in problems} == {"ANOMALY"}
        first = problems[0]
        assert patient.paste(first["remedy"]).code == 0
        words = ("resolve", str(first["anomaly_id"]), "--note", "generated weeks differ so")
        assert patient.call("anomalies", *words).code == 0
        assert first["anomaly_id"] not in [one["anomaly_id"] for one in patient.doctor()["problems"]]
    answer = patient.call("doctor", "otc", "--weeks", "1")
    assert (answer.code, answer.err) == (0, ""), answer.out
    assert answer.out.splitlines()[-1].startswith("healthy: nothing to do")


@contextmanager
def pasted(command: str, folder: Path) -> Iterator[None]:
    """A printed command that does not end, in a shell; its process group is stopped, and no other process."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            shell=True,
            cwd=folder,
            env=os.environ | {"PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield
    finally:
        for asked in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, asked)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)


@pytest.mark.xdist_group("ui")  # it opens the same port
def test_the_command_against_a_silent_sensor(tmp_path: Path) -> None:
    """Prevents a watch that stays dead because nobody knows how it is started for this store."""
    home = tmp_path / "a home"
    assert call("--home", str(home), "init").code == 0
    store = Store.at(home)
    heartbeats.beat(store.control, "expectations", clock() - timedelta(hours=1), "0 opened")
    store.control.dispose()

    def doctor() -> dict[str, Any]:
        found: dict[str, Any] = call("--home", str(home), "doctor", "otc", "--format", "json").json()
        return found

    (command,) = [one["remedy"] for one in doctor()["problems"] if one["kind"] == "SILENT"]
    with pasted(command, tmp_path):
        deadline = time.monotonic() + START_SECONDS
        while doctor()["heartbeat"]["is_silent"]:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-4000:]
            time.sleep(1)
    assert "SILENT" not in [one["kind"] for one in doctor()["problems"]]
