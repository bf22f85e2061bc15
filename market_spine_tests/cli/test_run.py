"""`run` and `backfill`, with real Dagster runs recorded in a real instance."""

from __future__ import annotations

import shlex
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import time_machine

from market_spine.assets.tables import derived_of
from market_spine.cli.report import in_words
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED
from market_spine_tests.cli.calls import SOURCE, Command, call
from market_spine_tests.sources.finra_cases import ROWS
from market_spine_tests.sources.finra_server import FinraServer


@pytest.fixture
def at_new_year() -> Iterator[None]:
    """2026-01-05: the weeks 2025-11-14 and 2025-11-21 are published for every tier, 2025-12-05 for Tier 1 only."""
    with time_machine.travel(datetime(2026, 1, 5, 15, tzinfo=UTC), tick=True):
        yield


@pytest.mark.slow
def test_backfill_of_real_files(home: Path, finra_dir: Path, at_new_year: None) -> None:
    """Prevents a file that names no week from being dropped, and a week derived wrongly from its publication date."""
    words = ("backfill", "--from", "2025-11-14", "--to", "2025-11-21", "--tier", "OTC", "--source", f"file:{finra_dir}")
    answer = call(*words, "-f", "json")
    assert answer.code == 0, answer.err
    counted = {row["table"]: row for row in answer.json()}
    assert (counted["otc_raw"]["captured"], counted["otc_raw"]["no capture"]) == (2, 0)
    rows = call("sql", "SELECT week_ending, count(*) AS n FROM otc_raw GROUP BY ALL ORDER BY 1", "-f", "csv").csv()
    assert [(row["week_ending"], row["n"]) for row in rows] == [("2025-11-14", "5328"), ("2025-11-21", "5192")]
    assert answer.err.count("not understood: ") == 2
    assert "week_2025-12-13.psv" in answer.err
    assert "spine run finra.otc_transparency.weekly_refresh --source file:" in answer.err
    again = call(*words, "-f", "json")
    assert {(row["captured"], row["unchanged"]) for row in again.json()} == {(0, 2)}
    found = call("deliveries", "-t", "OTC", "-f", "json").json()
    assert {one["week found by"] for one in found} == {"publication_date"}


@pytest.mark.slow
def test_the_override_of_a_file_works(home: Path, finra_dir: Path, at_new_year: None) -> None:
    """Prevents advice that fails: the file's label is a Saturday, the caller's Friday wins and is recorded."""
    path = finra_dir / "week_2025-12-13.psv"
    words = ("run", "finra.otc_transparency.ingest_week", "--source", f"file:{path}", "-w", "2025-12-12", "-t", "T1")
    answer = call(*words, "-f", "json")
    assert answer.code == 0, answer.err
    (found,) = call("deliveries", "-f", "json").json()
    assert (found["week_ending"], found["tier"], found["week found by"]) == ("2025-12-12", "NMS_TIER_1", "caller")


@pytest.mark.slow
def test_what_is_missing_is_told_and_exit_is_1(home: Path, finra_dir: Path, at_new_year: None) -> None:
    """Prevents a backfill that looks complete: one week is not there, another is not due."""
    answer = call(
        "backfill", "--from", "2025-11-21", "--to", "2025-12-05", "-t", "OTC", "--source", f"file:{finra_dir}"
    )
    assert answer.code == 1
    assert "OTC:2025-11-28: the source has no file that is understood for it" in answer.err
    assert "OTC:2025-12-05: not due: FINRA publishes it on 2026-01-05" not in answer.err  # 15:00 UTC is 10:00 there
    assert "OTC:2025-12-05: the source has no file that is understood for it" in answer.err
    late = call("backfill", "--from", "2025-12-12", "--to", "2025-12-12", "-t", "OTC", "--source", f"file:{finra_dir}")
    assert late.code == 1
    assert "OTC:2025-12-12: not due: FINRA publishes it on 2026-01-12" in late.err
    assert "nothing to run" in late.err


def test_a_week_without_delivery_fails_in_the_sources_words(own_home: Path) -> None:
    """Prevents a run without data from looking like a success."""
    source = "synthetic:seed=7,scale=0.05,fault=late-tier:OTC:2025-11-21:99999"
    answer = call("run", "otc.ingest_week", "-w", "2025-11-21", "-t", "OTC", "--source", source, "-f", "json")
    assert answer.code == 1
    assert {row["no capture"] for row in answer.json()} == {1}
    assert "without capture: otc_raw OTC:2025-11-21: no_rows: OTC:2025-11-21 was due" in " ".join(answer.err.split())


@pytest.mark.slow
def test_run_with_parameters_of_the_documents(own_home: Path) -> None:
    """Prevents the documents' commands from failing; windows are made for the latest week only."""
    words = "run otc.backfill_range -p tier=tier1 -p from=2025-11-14 -p to=2025-11-21 -p revision_policy=skip -f json"
    answer = call(*words.split())
    assert answer.code == 0, answer.err
    counted = {row["table"]: row for row in answer.json()}
    assert (counted["otc_raw"]["captured"], counted["otc_raw"]["unchanged"]) == (1, 1)
    assert counted["otc_symbol_rolling_6w"]["partitions"] == 1
    weeks = call("captures", "list", "symbol_rolling_6w", "-t", "T1", "-f", "json").json()
    assert max(one["week_ending"] for one in weeks) == "2025-11-21"


@pytest.mark.slow
@pytest.mark.extended
def test_force_makes_a_new_revision_of_equal_content(own_home: Path) -> None:
    """Prevents --force from being ignored."""
    words = ("run", "otc/raw", "-w", "2025-10-10", "-t", "OTC")
    assert call(*words, "-f", "json").json()[0]["unchanged"] == 1
    assert call(*words, "--force", "-f", "json").json()[0]["captured"] == 1
    listed = call("captures", "list", "raw", "-w", "2025-10-10", "-t", "OTC", "--all", "-f", "json").json()
    assert [one["revision"] for one in listed] == [1, 2]


def test_runs_are_in_dagsters_record(own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents work that Dagster's interface does not show; DAGSTER_HOME wins over the store's own."""
    import dagster as dg

    folder = tmp_path / "dagster"
    monkeypatch.setenv("DAGSTER_HOME", str(folder))
    call("readiness", "otc")  # time has passed since the weeks were loaded: that is no news of this run
    call("publish")
    answer = call("run", "otc/venue_share", "-w", "2025-10-10", "-t", "OTC")
    assert answer.code == 0, answer.err
    assert (folder / "dagster.yaml").is_file()
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert len(instance.get_runs()) == 2  # the table, and whether its week may be used: nothing new to publish
        assert not instance.telemetry_enabled


@pytest.mark.extended
def test_what_changes_nothing_does_not_publish(own_home: Path) -> None:
    """Prevents a file that is made again for nothing, and one that is not there, or lags behind, after a run."""
    path = own_home / "market_spine.duckdb"
    words = ("run", "otc/venue_share", "-w", "2025-10-10", "-t", "OTC")
    assert call(*words).code == 0  # months after the demo its weeks are judged again, and certified
    made = path.stat().st_ino
    assert call(*words).code == 0
    assert path.stat().st_ino == made
    path.unlink()
    assert call(*words).code == 0
    remade = path.stat().st_ino, path.stat().st_mtime_ns
    assert call(*words, "--force").code == 0
    assert (path.stat().st_ino, path.stat().st_mtime_ns) != remade


def test_dagsters_log_is_shown_when_asked(own_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Prevents a flooded terminal, and a log that cannot be had."""
    words = ("run", "otc/venue_share", "-w", "2025-10-10", "-t", "OTC")
    quiet = call(*words)
    assert "STEP_START" not in quiet.err + quiet.out + "".join(capfd.readouterr())
    loud = call(*words, "--verbose")
    assert "STEP_START" in loud.err + loud.out + "".join(capfd.readouterr())


def test_a_dry_run_does_nothing(home: Path) -> None:
    """Prevents a plan that begins to carry itself out."""
    answer = call("backfill", "--from", "2025-11-07", "--to", "2025-11-14", "--tier", "OTC", "--dry-run", "-f", "json")
    assert answer.code == 0, answer.err
    assert list(home.iterdir()) == []
    plan = {row["table"]: row for row in answer.json()}
    assert plan["otc_raw"] == {"table": "otc_raw", "partitions": 2, "to do": 2, "unchanged": 0, "no input": 0}
    assert plan["otc_tier_split"]["to do"] == 2


def test_a_dry_run_tells_what_is_up_to_date(spine: Command) -> None:
    """Prevents a plan that takes everything for new."""
    plan = spine("run", "otc.aggregate_week", "-w", "2025-11-07", "-t", "OTC", "--dry-run", "-f", "json").json()
    assert {row["unchanged"] for row in plan if row["table"] != "reference_trading_calendar"} == {1}
    missing = spine("run", "otc.aggregate_week", "-w", "2024-11-08", "-t", "OTC", "--dry-run", "-f", "json").json()
    assert {row["no input"] for row in missing if row["table"] != "reference_trading_calendar"} == {1}
    runs = spine("run", "otc.aggregate_week", "-w", "2025-11-07", "-t", "OTC", "--dry-run").out
    assert "OTC|2025-11-07" in runs


@pytest.mark.parametrize(
    ("words", "cause", "remedy"),
    [
        ("run otc.weekly_refresh -w 2025-11-13", "2025-11-13 is a Thursday", "2025-11-14"),
        ("run otc.weekly_refresh -p week_ending=2025-11-15", "2025-11-15 is a Saturday", "2025-11-14"),
        ("run otc.weekly_refresh -w 2025-11-14 -t T4", "'T4' is not a FINRA tier", "NMS_TIER_1"),
        ("run otc.weekly_refres -w 2025-11-14", "no pipeline or asset 'otc.weekly_refres'", "otc.weekly_refresh"),
        ("run otc.weekly_refresh", "no week is named", "--week-ending"),
        ("run raw -w 2025-11-14 -p color=red", "'color' is not a parameter", "week_ending, tier, weeks_back"),
        ("run raw -p tier", "'tier' is not key=value", "-p weeks_back=3"),
        ("run raw -w 2025-11-14 -p week_ending=2025-11-07", "said twice", "say week_ending once"),
        ("run raw -w 2025-11-14 -p weeks_back=2", "one week and a range", "not both"),
        ("run raw -p weeks_back=0", "weeks_back=0 is not", "weeks_back=3"),
        ("run raw -p weeks_back=many", "weeks_back=many is not", "weeks_back=3"),
        ("run raw -p force=perhaps", "neither true nor false", "force=true"),
        ("run raw -p revision_policy=newest", "'newest' is not a revision policy", "versioned"),
        ("run raw -p to=2025-11-14", "a range needs its first week", "-p from=2025-11-14"),
        ("run raw -p from=2025-11-14 -p to=2025-11-07", "runs backwards", "-p from=2025-11-07 -p to=2025-11-14"),
        ("backfill --to 2025-11-14", "a range needs its first week", "add --from 2025-11-14"),
        ("backfill", "no week is named", "add --weeks-back 4"),
        ("backfill --weeks-back 2 --feed floppy", "there is no feed 'floppy'", "add --feed otc"),
        ("run raw -p from=2025-11-14 -p weeks_back=3", "both say where", "use one"),
        ("run raw -w 2099-11-13", "has not ended yet", "the newest ended week"),
        ("run raw -w 2022-12-30", "before the feed otc begins", "2023-01-06"),
        ("backfill --from 2025-11-14 --to 2025-11-07", "runs backwards", "--from 2025-11-07 --to 2025-11-14"),
        ("backfill --from 2025-11-12", "2025-11-12 is a Wednesday", "2025-11-14"),
        ("backfill --weeks-back 2 --source floppy:A", "is not a source", "synthetic, file:PATH"),
        ("backfill --weeks-back 2 --source file:/no/such/folder", "there is no file or folder", "ls -l"),
        ("backfill --weeks-back 2 --source synthetic:scale=big", "not a number", "synthetic:scale=7"),
    ],
)
def test_a_bad_request_names_cause_and_remedy(home: Path, words: str, cause: str, remedy: str) -> None:
    """Prevents a failure that leaves its reader alone, a shifted week, and work that begins before it is understood."""
    answer = call(*words.split())
    assert (answer.code, answer.out) == (2, ""), answer.out
    error, next_step = answer.err.split("  next: ")
    assert cause in error
    assert remedy in next_step
    assert "--week-ending" not in next_step or not words.startswith("backfill"), "an option that backfill has not"
    assert list(home.iterdir()) == []


def test_an_unreadable_folder_is_an_error(home: Path, tmp_path: Path) -> None:
    """Prevents a source that cannot be read from passing for an empty one."""
    place = tmp_path / "gone"
    place.mkdir()
    shutil.rmtree(place)
    answer = call("run", "raw", "-w", "2025-11-14", "-t", "OTC", "--source", f"file:{place}")
    assert answer.code == 2
    assert answer.out == "", "told before anything is begun"
    assert "there is no file or folder" in answer.err
    assert "next: check the path" in answer.err


HEADER = b"WeekEnding|Tier|Symbol|MPID|TotalShares|TotalTrades\n"


@pytest.mark.parametrize(
    ("content", "cause", "remedy"),
    [
        (b"a|b\n1|2\n", "the header lacks", "its header has WeekEnding|Tier|Symbol"),
        (HEADER, "has a header and no rows", "fetch the file again"),
        (
            HEADER + b"2025-11-14|OTC|AAAA|XXXX|1|1\n",
            "minimum_records: 1 rows",
            "--week-ending 2025-11-14 --tier OTC -p min_records=0",
        ),
        (
            HEADER + b"2025-11-14|OTC|AAAA|XXXX|1|x\n" * 9,
            "error_rate",
            "spine rejects --week-ending 2025-11-14 --tier OTC",
        ),
    ],
)
def test_a_delivery_without_capture_is_told_with_the_next_step(
    home: Path, tmp_path: Path, content: bytes, cause: str, remedy: str
) -> None:
    """Prevents a refusal that leaves its reader alone: the remedy is known where the cause is."""
    path = tmp_path / "OTC_2025-11-14.csv"
    path.write_bytes(content)
    answer = call("run", "otc.ingest_week", "-w", "2025-11-14", "-t", "OTC", "--source", f"file:{path}")
    assert answer.code == 1
    _, told = answer.err.split("without capture: otc_raw OTC:2025-11-14: ")
    why, next_step = told.split("\n  next: ")
    assert (cause in why, remedy in next_step) == (True, True), told


def test_generated_and_real_weeks_do_not_mix(home: Path, own_home: Path, tmp_path: Path) -> None:
    """Prevents generated weeks, the default source, from replacing FINRA's without a word; and the reverse."""
    path = tmp_path / "OTC_2025-11-14.csv"
    path.write_bytes(HEADER + b"2025-11-14|OTC|AAAA|XXXX|1|1\n")
    load = ("run", "otc.ingest_week", "-w", "2025-11-14", "-t", "OTC", "-p", "min_records=1")
    into_generated = call(*load, "--source", f"file:{path}", MARKET_SPINE_HOME=str(own_home))
    assert (into_generated.code, "holds generated weeks" in into_generated.err) == (2, True), into_generated.err
    real = str(tmp_path / "real")
    assert call(*load, "--source", f"file:{path}", MARKET_SPINE_HOME=real).code == 0
    into_real = call(*load, MARKET_SPINE_HOME=real)
    assert (into_real.code, "holds FINRA's weeks" in into_real.err) == (2, True), into_real.err
    assert "source synthetic: generated weeks, not FINRA's" in into_real.err
    assert "next: name the source" in into_real.err
    planned = call(*load, "--dry-run", MARKET_SPINE_HOME=real)
    assert (planned.code, planned.out) == (2, ""), "a plan that could not be carried out"
    listed = call("captures", "list", "raw", "--all", "-f", "json", MARKET_SPINE_HOME=real).json()
    assert [one["rows"] for one in listed] == [1]


@pytest.mark.slow
@pytest.mark.extended
def test_what_a_load_leaves_out_of_date_is_told_and_the_command_mends_it(own_home: Path) -> None:
    """Prevents a restated week from leaving later windows as they were without a word."""
    source = SOURCE.replace("seed=7", "seed=7,fault=restatement:OTC:2025-10-24:3")
    week = ("-w", "2025-10-24", "-t", "OTC")
    with time_machine.travel(datetime(2026, 1, 5, 15, tzinfo=UTC), tick=True):
        answer = call("run", "otc.weekly_refresh", *week, "--source", source)
        assert answer.code == 0, answer.err
        told, _, command = answer.err.partition("out of date: ")[2].partition("\n  next: ")
        # The three weeks after it, of every window.
        windows = sorted(one.table_name for one in derived_of(FEED) if one.calculation.weeks_back)
        assert told == f"{3 * len(windows)} captures of {', '.join(windows)}"
        mend = shlex.split(command.strip().splitlines()[0], comments=True)
        assert mend == ["spine", "recompute", "--yes"]
        assert call("recompute").code == 1
        assert call(*mend[1:]).code == 0
        assert "out of date" not in call("run", "otc.weekly_refresh", *week, "--source", source).err


def test_partitions_in_words() -> None:
    """Prevents a line per tier where all have the same weeks, and weeks between that are not meant."""
    first, second, last = date(2025, 1, 3), date(2025, 1, 10), date(2025, 1, 24)
    assert in_words(
        [("OTC", second), ("NMS_TIER_1", first), ("OTC", first), ("NMS_TIER_1", second), ("OTC", last)]
    ) == [
        "NMS_TIER_1, OTC 2025-01-03 .. 2025-01-10 (4)",
        "OTC 2025-01-24",
    ]
    assert in_words([("ALL", first), ("ALL", second)]) == ["2025-01-03 .. 2025-01-10 (2)"]
    assert in_words([]) == []


def test_advice_looks_at_the_store_that_the_command_was_given(demo_home: Path) -> None:
    """Prevents a command to copy that changes or asks the default store instead of the one of --home."""
    answer = call("--home", str(demo_home), "captures", "show", "nothing", MARKET_SPINE_HOME="/nowhere")
    assert f"next: see the ids with: spine --home {demo_home} captures list --all" in answer.err
    assert "spine captures list --all" in call("captures", "show", "nothing", MARKET_SPINE_HOME=str(demo_home)).err


def test_what_checks_found_in_captured_weeks_is_told(home: Path) -> None:
    """Prevents a load that looks clean where a check has failed without keeping anything out."""
    answer = call("run", "otc.weekly_refresh", "-w", "2025-11-14", "-t", "OTC", "--source", SOURCE)
    assert answer.code == 0, answer.err
    assert "WARN: otc_tier_split 2025-11-14: all_tiers_present: 1, expected 3" in answer.err
    (step,) = [line.partition("next: ")[2] for line in answer.err.splitlines() if "next: " in line]
    warned = [line.split()[1:3] for line in answer.err.splitlines() if line.startswith("WARN: ")]
    listed = call(*shlex.split(step)[1:], "-f", "json").json()
    assert step == "spine anomalies list --linked"
    assert warned == [[row["table_name"], f"{row['week_ending']}:"] for row in listed]


def test_a_server_that_does_not_answer_is_told_in_words(home: Path) -> None:
    """Prevents a library's log of fields in the middle of a command's output."""
    with socket.socket() as reserved:  # bound and not listening: nobody answers there
        reserved.bind(("127.0.0.1", 0))
        source = f"finra-api:http://127.0.0.1:{reserved.getsockname()[1]}"
        answer = call("run", "otc/raw", "-w", "2025-11-14", "-t", "OTC", "--source", source)
    assert answer.code == 2
    told = [line for line in answer.err.splitlines() if line.startswith("no answer: ConnectError")]
    assert len(told) == 3
    assert all("asking again in" in line for line in told)
    assert "retry_num" not in answer.err


def test_a_clock_that_goes_back_is_a_failure(own_home: Path) -> None:
    """Prevents a run that failed from looking like a week that is merely not there."""
    with time_machine.travel(datetime(2025, 12, 1, tzinfo=UTC), tick=True):
        answer = call("run", "raw", "-w", "2025-10-10", "-t", "OTC", "--force")
    assert (answer.code, "error: " in answer.err) == (2, True), answer.err


def test_unknown_commands_and_options_are_usage_errors(home: Path) -> None:
    """Prevents a misspelt option from being taken for nothing."""
    assert call("querry").code == 2
    assert call("query", "raw", "--wek", "x").code == 2
    assert call("backfill", "--weeks-back", "0").code == 2


def test_weeks_that_the_api_does_not_list_are_asked_for(home: Path, at_new_year: None) -> None:
    """Prevents "nothing to run" for weeks older than a year, which FINRA serves from a dataset without a list."""
    week = date(2024, 6, 14)
    with FinraServer(historic={(week, Tier.OTC): ROWS}) as server:
        source = ("--source", f"finra-api:{server.url}", "-t", "OTC", "-f", "json")
        plan = call("backfill", "--from", str(week), "--to", str(week), "--dry-run", *source)
        assert (plan.code, plan.json()[0]["to do"]) == (0, 1), plan.err
        span = ("-p", f"from={week}", "-p", f"to={week}", "-p", "min_records=1")
        answer = call("run", "otc.ingest_week", *span, *source)
    assert answer.code == 0, answer.err
    assert [row["captured"] for row in answer.json() if row["table"] == "otc_raw"] == [1]


def test_a_tilde_is_the_users_home(home: Path) -> None:
    """Prevents a store in a folder called ~, where no shell has read the setting."""
    assert call("init", MARKET_SPINE_HOME="~/x", HOME=str(home)).code == 0
    assert (home / "x" / "control.db").is_file()
    answer = call("init", MARKET_SPINE_HOME="~nobody-of-this-name/x")
    assert (answer.code, "MARKET_SPINE_HOME" in answer.err) == (2, True)


def test_settings_that_are_wrong_are_told(home: Path) -> None:
    """Prevents a stack of validation messages."""
    answer = call("catalog", MARKET_SPINE_THREADS="0")
    assert answer.code == 0  # needs no settings
    answer = call("verify", MARKET_SPINE_THREADS="0")
    assert (answer.code, "MARKET_SPINE_THREADS" in answer.err) == (2, True)


def test_the_unexpected_is_one_line_unless_asked(home: Path, tmp_path: Path) -> None:
    """Prevents a traceback for users, and its loss for those who need it."""
    (home / "control.db").mkdir()  # nobody foresees this
    answer = call("verify")
    assert answer.code == 2
    assert "Traceback" not in answer.err
    assert "next: " in answer.err
    assert "Traceback" in call("verify", "--traceback").err
    assert "Traceback" in call("verify", MARKET_SPINE_TRACEBACK="1").err
    assert SOURCE.startswith("synthetic")
