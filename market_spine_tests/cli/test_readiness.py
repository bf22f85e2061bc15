"""`spine readiness`: what it says of a week at each point of its way, and that what it advises really helps."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import time_machine

from market_spine.cli.output import hanging
from market_spine.cli.readiness import criteria, folded
from market_spine.domain.contracts import Severity
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store.schema import BATCHES
from market_spine.store.store import Store
from market_spine_tests.cli.calls import Answer, call
from market_spine_tests.governance.anomaly_desk import Desk, seen
from market_spine_tests.journeys.stage import OTC, T1, T2, Clock, Scene, key, staged

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("readiness")]
WEEK = "2025-11-14"
KEYS = {tier: key(WEEK, tier) for tier in (T1, T2, OTC)}
PUBLISHED = datetime(2025, 12, 15, 16, tzinfo=UTC)  # Tier 2 and OTC of the week, an hour ago
# The restatement of OTC shows 240 hours after publication: 2025-12-25 15:00.
RECIPE = "seed=7,scale=0.02,revision_hours=240,fault=restatement:OTC:2025-11-14:3"
DOMAIN = "finra.otc_transparency"


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The home of one week at four points of its way. For copying only."""
    folder = tmp_path_factory.mktemp("readiness")
    with staged(folder / "home", SyntheticSource.from_spec(RECIPE), Clock(PUBLISHED)) as scene:
        return dict(_points(scene, folder))


def _points(scene: Scene, folder: Path) -> Iterator[tuple[str, Path]]:
    def copied(name: str) -> tuple[str, Path]:
        scene.spine.store.control.dispose()
        return name, Path(shutil.copytree(scene.spine.store.home.root, folder / name))

    scene.run("otc.weekly_refresh", KEYS[T1], KEYS[T2])
    yield copied("lacks a tier")
    scene.run("otc.ingest_week", KEYS[OTC])
    yield copied("lacks stages")
    scene.refresh(*KEYS.values())
    yield copied("whole")
    scene.clock.forward(days=11)
    scene.run("otc.ingest_week", KEYS[OTC])
    yield copied("restated")


@pytest.fixture
def home(request: pytest.FixtureRequest, homes: dict[str, Path], home: Path) -> Path:
    """A copy of the home of that point to change, as MARKET_SPINE_HOME."""
    shutil.rmtree(home)
    shutil.copytree(homes[request.param], home)
    return home


def of(point: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("home", [point], indirect=True)


def spine(day: str, *words: str, **env: Any) -> Answer:
    """A command at 16:00 UTC of a day."""
    with time_machine.travel(datetime.fromisoformat(f"{day} 16:00+00:00"), tick=True):
        return call(*words, MARKET_SPINE_SOURCE=f"synthetic:{RECIPE}", **env)


def readiness(day: str, *words: str) -> Answer:
    return spine(day, "readiness", DOMAIN, "--week", WEEK, *words)


def issues(answer: Answer) -> dict[str, str]:
    """Blocking issue -> the command that helps, as printed."""
    text = answer.out.partition("Blocking issues:\n")[2]
    return dict(re.findall(r"^  - ((?:.|\n(?! {4}next:))*)\n    next: (.*)$", text, re.MULTILINE))


def followed(day: str, answer: Answer) -> list[Answer]:
    """What becomes of the advice in ``answer``, each command carried out as it is printed."""
    return [spine(day, *shlex.split(step, comments=True)[1:]) for step in issues(answer).values()]


READY = """\
Data Readiness: FINRA OTC transparency, ATS weekly / 2025-11-14
────────────────────────────────────────────────────────────────────────────────
Status: READY for trading
Certified: {}Z by automated_check, certificate {}

Criteria:
  ✓ All partitions present (3/3 tiers)
  ✓ All stages complete (RAW, NORMALIZED, CALC: 37/37 captures)
  ✓ No CRITICAL anomalies (0 open)
  ✓ Dependencies current (0 stale captures)
  ✓ Age exceeds preliminary (120.0 hours > 48 hour threshold)
"""


@of("whole")
def test_a_week_that_has_settled_is_ready(home: Path) -> None:
    """Prevents the words of the documents from being missing: status, who certified it when, five criteria."""
    answer = readiness("2025-12-20")
    assert (answer.code, answer.err) == (0, "")
    (row,) = readiness("2025-12-21", "-f", "json").json()
    certified_at = row["certified_at"][:19].replace("T", " ")
    assert answer.out == READY.format(certified_at, row["certificate_id"][:12])
    assert (row["is_ready"], row["state"], row["certified_by"]) == (1, "CERTIFIED", "automated_check")
    assert certified_at.startswith("2025-12-20 16:0")  # asked again a day later, it is the same certificate
    assert row["partition_key"] == '{"week_ending": "2025-11-14"}'
    assert readiness("2025-12-22", "-f", "csv").csv()[0]["certificate_id"] == row["certificate_id"]


@of("whole")
def test_a_week_that_has_not_is_not(home: Path) -> None:
    """Prevents a script from going on with a week that is 24 hours old."""
    answer = readiness("2025-12-16")
    assert answer.code == 1
    assert "Status: NOT READY for trading (PRELIMINARY)" in answer.out
    assert "Certified" not in answer.out
    assert "✗ Age exceeds preliminary (24.0 hours > 48 hour threshold)" in answer.out
    (message,) = issues(answer)
    assert " ".join(message.split()) == "Preliminary until 2025-12-17 16:00 UTC, 48 hours after the last capture"
    (later,) = followed("2025-12-18", answer)
    assert (later.code, "Status: READY" in later.out) == (0, True)
    assert readiness("2025-12-16", "--ready-for", "research").code == 0  # Tier 1 needs 24 hours, and a bit


@pytest.mark.parametrize(
    ("hours", "shown"), [(47.97, "47.9"), (48, "48.0"), (48.001, "48.1"), (50, "50.0"), (24.06, "24.1")]
)
def test_hours_are_shown_on_their_side_of_the_threshold(hours: float, shown: str) -> None:
    """Prevents a cross beside 48.0 > 48 for a week that lacks two minutes, and a tick beside it."""
    captured = datetime(2025, 12, 15, 16, tzinfo=UTC)
    facts = {"captured_at": captured.isoformat(), "preliminary_hours": 48, "partitions": (3, 3), "captures": (9, 9)}
    facts |= {"stages": ["RAW"], "critical": 0, "stale": 0}
    words = criteria(facts, captured + timedelta(hours=hours))["age_exceeds_preliminary"]
    assert words == f"Age exceeds preliminary ({shown} hours > 48 hour threshold)"


@of("lacks a tier")
def test_what_helps_where_a_tier_is_missing(home: Path) -> None:
    """Prevents advice that loads something else: a missing tier is loaded, and then only time is lacking."""
    answer = readiness("2025-12-20")
    assert answer.code == 1
    assert "Status: NOT READY for trading (MISSING)" in answer.out
    assert "✗ All partitions present (2/3 tiers)" in answer.out
    assert issues(answer) == {
        "Missing expected partitions: OTC tier": "spine backfill --from 2025-11-14 --to 2025-11-14 --tier OTC"
        "  # FINRA's day: 2025-12-15"
    }
    (loaded,) = followed("2025-12-20", answer)
    assert loaded.code == 0, loaded.err
    after = readiness("2025-12-20")
    assert "(PRELIMINARY)" in after.out
    assert readiness("2025-12-23").code == 0


@of("lacks stages")
@pytest.mark.extended
def test_what_helps_where_stages_are_missing(home: Path) -> None:
    """Prevents advice that fetches and does not calculate: the week is ready as soon as it is followed."""
    answer = readiness("2025-12-20")
    assert answer.code == 1
    assert "✗ All stages complete (RAW, NORMALIZED, CALC: 26/37 captures)" in answer.out
    # The tier split of two tiers was made from what was there: it is not current either.
    message, *others = issues(answer)
    assert " ".join(message.split()) == "Stages incomplete: OTC CALC, OTC NORMALIZED"
    assert issues(answer)[message] == f"spine run {DOMAIN}.weekly_refresh --week-ending 2025-11-14 --tier OTC"
    assert others == []
    (made,) = followed("2025-12-20", answer)
    assert made.code == 0, made.err
    assert readiness("2025-12-20").code == 0


@of("restated")
def test_what_helps_where_captures_are_out_of_date(home: Path) -> None:
    """Prevents advice that leaves something stale, or a week that is ready on measures of the old rows."""
    answer = readiness("2025-12-30")
    assert answer.code == 1
    assert "Status: NOT READY for trading (BLOCKED)" in answer.out
    assert "✗ Dependencies current (12 stale captures)" in answer.out  # one, and what follows from it
    ((message, remedy),) = issues(answer).items()
    assert message.startswith("Dependencies not current: otc_venue_volume OTC, ")
    assert message.endswith(" and 6 more")
    assert remedy == "spine recompute --week-ending 2025-11-14 --yes"
    (made,) = followed("2025-12-30", answer)
    assert made.code == 0, made.err
    assert readiness("2025-12-30").code == 0


def test_what_stands_against_a_week_goes_on_below_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents the second line of an issue from looking like one of its own."""
    hanging("  - ", "Stages incomplete: OTC CALC, OTC NORMALIZED; CRITICAL anomalies present: 1 unresolved, [red]")
    first, second = capsys.readouterr().out.splitlines()
    assert (first[:5], second[:5], second[-5:]) == ("  - S", "    u", "[red]")


@of("whole")
def test_what_helps_where_something_is_critical(home: Path) -> None:
    """Prevents advice that shows something else than what blocks, or a week that stays blocked when it is settled."""
    store = Store.at(home)
    bad = seen(
        "TRADES_WITHOUT_SHARES", KEYS[T2], Severity.CRITICAL, message="150 rows set aside: trades without shares"
    )
    Desk(store).look(bad, seen("UNKNOWN_COLUMNS", KEYS[T2]))
    answer = readiness("2025-12-20")
    assert answer.code == 1
    assert "✗ No CRITICAL anomalies (1 open)" in answer.out
    assert "CRITICAL anomalies present: 1 unresolved" in answer.out
    (listed,) = followed("2025-12-20", answer)
    assert listed.code == 0
    assert "150 rows set aside" in listed.out
    assert "UNKNOWN_COLUMNS" not in listed.out
    number = store_numbers(store)["TRADES_WITHOUT_SHARES"]
    assert spine("2025-12-20", "anomalies", "resolve", str(number), "--note", "FINRA confirmed them").code == 0
    assert readiness("2025-12-20").code == 0
    store.control.dispose()


def store_numbers(store: Store) -> dict[str, int]:
    return {code: row["id"] for code, row in Desk(store).open().items()}


@of("restated")
@pytest.mark.extended
def test_several_issues_and_each_of_them_helps(home: Path) -> None:
    """Prevents one reason from hiding the others, and advice that works only where it stands alone."""
    store = Store.at(home)
    Desk(store).look(seen("SCHEMA_VIOLATED", KEYS[T1], Severity.CRITICAL))
    answer = readiness("2025-12-27")  # a day after the restatement was captured
    kinds = [" ".join(one.split()).partition(":")[0] for one in issues(answer)]
    assert kinds[:2] == ["CRITICAL anomalies present", "Dependencies not current"]
    assert kinds[2].startswith("Preliminary until 2025-12-28")
    assert all(one.code in (0, 1) for one in followed("2025-12-27", answer))
    assert (
        spine("2025-12-27", "anomalies", "resolve", str(store_numbers(store)["SCHEMA_VIOLATED"]), "--note", "x").code
        == 0
    )
    assert list(issues(readiness("2025-12-27"))) == [next(one for one in issues(answer) if one.startswith("Prelim"))]
    assert readiness("2025-12-29").code == 0
    store.control.dispose()


@of("lacks a tier")
@pytest.mark.extended
def test_advice_names_the_store_that_was_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents advice that, pasted, loads another store than the one that was asked about."""
    monkeypatch.delenv("MARKET_SPINE_HOME")
    named = home.rename(home.parent / "a store")
    answer = spine("2025-12-20", "readiness", "otc", "-w", WEEK, "--home", str(named))
    (step,) = issues(answer).values()
    assert step.startswith(f"spine --home '{named}' backfill ")
    (loaded,) = followed("2025-12-20", answer)
    assert loaded.code == 0, loaded.err
    assert "(PRELIMINARY)" in spine("2025-12-20", "readiness", "otc", "-w", WEEK, "--home", str(named)).out


@of("lacks a tier")
def test_without_a_week_every_week_is_listed(home: Path) -> None:
    """Prevents a week from being left out, or a listing that says nothing of what stands against it."""
    answer = spine("2025-12-20", "readiness", "otc")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["ready_for", "state", "certified_at", "stands", "against", "it"]
    lacks, certified = ["MISSING", "-", "Missing expected partitions: OTC"], ["CERTIFIED", "2025-12-20", "16:0"]
    told = {words[0]: words[1:] for line in lines[2:-2] if len(words := line.rstrip().split(maxsplit=3)) == 4}
    told["research"][2] = told["research"][2][:4]
    assert told == {"trading": lacks, "compliance": lacks, "research": certified}
    assert lines[-2:] == [
        "every row: week_ending 2025-11-14",
        "not shown at this width: certified_by (--format csv has all)",
    ]
    rows = spine("2025-12-20", "readiness", "otc", "--ready-for", "research", "-f", "json").json()
    assert [(row["ready_for"], row["state"], row["stands against it"]) for row in rows] == [
        ("research", "CERTIFIED", "")
    ]
    csv = spine("2025-12-20", "readiness", "otc", "-f", "csv", "-n", "2")
    assert len(csv.csv()) == 2
    assert "first 2 of 3 rows" in csv.err


def row(week: str, use_case: str, state: str, against: str, certified: int = 0) -> list[Any]:
    moment = datetime(2025, 12, certified, 12, tzinfo=UTC) if certified else None
    return [date.fromisoformat(week), use_case, state, moment, "jane" if certified else None, against]


def test_weeks_that_are_alike_stand_in_one_row() -> None:
    """Prevents a screen of the same words week after week, and weeks between from being said to be like the others."""
    rows = [
        row("2025-11-14", "trading", "PRELIMINARY", "until then"),
        row("2025-11-14", "research", "CERTIFIED", "", 19),
        row("2025-11-07", "trading", "PRELIMINARY", "until then"),
        row("2025-10-31", "trading", "MISSING", "OTC"),
        row("2025-10-31", "research", "CERTIFIED", "", 17),
        row("2025-10-24", "trading", "PRELIMINARY", "until then"),
        row("2025-10-17", "trading", "PRELIMINARY", "until later"),
    ]
    assert folded(rows) == [
        ["2025-10-24, 2025-11-07 .. 2025-11-14", "trading", "PRELIMINARY", None, None, "until then"],
        ["2025-10-31, 2025-11-14", "research", "CERTIFIED", "2025-12-17 .. 2025-12-19", "jane", ""],
        ["2025-10-31", "trading", "MISSING", None, None, "OTC"],
        ["2025-10-17", "trading", "PRELIMINARY", None, None, "until later"],
    ]
    assert folded(rows[1:2]) == [["2025-11-14", *rows[1][1:]]]


@of("whole")
def test_asking_again_records_nothing(home: Path) -> None:
    """Prevents a transaction for every question."""
    store = Store.at(home)
    readiness("2025-12-20")
    before = len(Desk(store).rows(BATCHES))
    for words in ((), ("--ready-for", "compliance"), ("-f", "json")):
        readiness("2025-12-20", *words)
    assert len(Desk(store).rows(BATCHES)) == before
    store.control.dispose()


@of("whole")
def test_whoever_reads_the_published_file_learns_of_it(home: Path) -> None:
    """Prevents a verdict, or what blocks it, from being one thing on the screen and another in the file."""
    query = "SELECT state, (SELECT count(*) FROM core_anomalies WHERE severity = 'CRITICAL' AND resolved_at IS NULL)"
    query += " FROM core_data_readiness WHERE ready_for = 'trading'"

    def shown() -> list[tuple[Any, ...]]:
        with duckdb.connect(str(home / "market_spine.duckdb"), read_only=True) as engine:
            return engine.execute(query).fetchall()

    store = Store.at(home)
    assert readiness("2025-12-16").code == 1
    assert not (home / "market_spine.duckdb").exists()  # where nobody asked for one, none is made
    assert spine("2025-12-16", "publish").code == 0
    assert shown() == [("PRELIMINARY", 0)]
    assert readiness("2025-12-20").code == 0
    assert shown() == [("CERTIFIED", 0)]
    Desk(store).look(seen("SCHEMA_VIOLATED", KEYS[T1], Severity.CRITICAL))
    assert readiness("2025-12-20").code == 1
    assert shown() == [("BLOCKED", 1)]
    number = store_numbers(store)["SCHEMA_VIOLATED"]
    assert spine("2025-12-20", "anomalies", "resolve", str(number), "--note", "settled").code == 0
    assert shown() == [("BLOCKED", 0)]
    store.control.dispose()


REFUSED = [
    ("readiness nope", "there is no feed 'nope'", "name the feed otc"),
    ("readiness otc --ready-for fun", "there is no use case 'fun'", "use one of: trading, compliance, research"),
    ("readiness otc -w 2025-11-13", "2025-11-13 is a Thursday", "the nearest Friday is 2025-11-14"),
    ("readiness otc -w soon", "soon", ""),
    (
        "readiness otc -w 2025-11-21",
        "nothing of the week 2025-11-21 was ever captured",
        "spine backfill --from 2025-11-21 --to 2025-11-21",
    ),
    (
        "readiness otc -w 2030-01-04",
        "nothing of the week 2030-01-04 was ever captured",
        "spine backfill --from 2030-01-04 --to 2030-01-04",
    ),
]


@of("whole")
def test_what_cannot_be_judged_is_refused(home: Path) -> None:
    """Prevents a slip of the hand from becoming a verdict that is listed, and judged again, for ever."""
    store = Store.at(home)
    before = len(Desk(store).rows(BATCHES))
    for words, cause, remedy in REFUSED:
        answer = spine("2025-12-20", *words.split())
        assert (answer.code, answer.out) == (2, ""), words
        assert cause in answer.err
        assert remedy in answer.err
        assert "Traceback" not in answer.err
    assert len(Desk(store).rows(BATCHES)) == before
    store.control.dispose()


def test_without_a_store_it_says_how_to_begin(tmp_path: Path) -> None:
    """Prevents an empty store from being made by asking about a week."""
    answer = call("readiness", "otc", "--home", str(tmp_path / "none"))
    assert (answer.code, "there is no store in" in answer.err) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_week_of_which_nothing_was_captured_has_no_age() -> None:
    """Prevents an age of a capture that never was."""
    facts = {"partitions": [0, 3], "captures": [0, 0], "stages": ["RAW"], "critical": 0, "stale": 0}
    told = criteria(json.loads(json.dumps(facts | {"captured_at": None, "preliminary_hours": 48})), PUBLISHED)
    assert told["age_exceeds_preliminary"] == "Age exceeds preliminary (nothing was captured)"
    assert told["all_partitions_present"] == "All partitions present (0/3 tiers)"
