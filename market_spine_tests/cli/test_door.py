"""The door: the program itself, failures nobody foresaw, and long lists of what is missing."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from market_spine import __version__
from market_spine.automation.request import Params, feed_of, parse
from market_spine.cli import report
from market_spine.cli.work import Tally, availability
from market_spine.domain.errors import PartitionError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import weeks_between
from market_spine.feeds.otc import OTC
from market_spine.sources.delivery import Inventory, Problem
from market_spine_tests.cli.calls import Command, call

MAIN = "import sys; from market_spine.cli import main; sys.argv[0] = 'spine'; main()"


def test_the_program_itself(tmp_path: Path) -> None:
    """Prevents an entry point that tests never take: version on stdout, errors on stderr, exit codes."""
    done = subprocess.run([sys.executable, "-c", MAIN, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"market-spine {__version__}\n", "")
    words = ["query", "nothing", "--home", str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", MAIN, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: there is no table 'nothing'\n  next: ")


@pytest.mark.parametrize(
    ("redirection", "code"), [("", 0), (" >&-", 0), (" 2>&-", 0), (" >/dev/full", 1), (" | true", 0)]
)
def test_the_process_ends_at_once_and_loses_nothing(tmp_path: Path, redirection: str, code: int) -> None:
    """Prevents output that was buffered, or what waits for the end of the process, from going with it unsaid."""
    mark = tmp_path / "mark"
    begin = f"import atexit, pathlib; atexit.register(pathlib.Path({str(mark)!r}).touch); print('first'); "
    command = f"{shlex.quote(sys.executable)} -c {shlex.quote(begin + MAIN)} --version{redirection}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    # Who notices the full disk first depends on the stream's buffer: Typer (1), or the last flush (120).
    assert (done.returncode in ((1, 120) if code else (0,)), mark.exists()) == (True, True)
    if not redirection:
        assert done.stdout == f"first\nmarket-spine {__version__}\n"


def test_the_unforeseen_is_one_line_and_a_way_to_the_details(tmp_path: Path) -> None:
    """Prevents a traceback for users, and its loss for those who need it."""
    place = tmp_path / "a-file"
    place.write_text("not a folder")
    answer = call("init", "--home", str(place))
    assert answer.code == 2
    assert answer.err.startswith("unexpected NotADirectoryError: ")
    assert answer.err.splitlines()[1] == "  next: repeat the command with --traceback for the details"
    assert "Traceback (most recent call last)" in call("init", "--home", str(place), "--traceback").err


def test_an_id_that_means_several_captures_is_refused(spine: Command) -> None:
    """Prevents the first of several from being taken."""
    answer = spine("captures", "show", "")
    assert answer.code == 2
    assert "captures begin with ''" in answer.err


WEEKS = weeks_between(date(2025, 1, 3), date(2025, 6, 6))  # 23 of them


def test_nothing_that_was_asked_for_disappears() -> None:
    """Prevents a partition from being neither had nor absent; the two reasons to be absent are told apart."""
    now = datetime(2025, 6, 1, tzinfo=UTC)
    asked = [WeekKey(week, Tier.OTC) for week in WEEKS]
    problem = Problem("x.csv", "its name says neither week nor tier", "spine run ...")
    found = availability(Inventory(tuple(asked[:3]), (problem,)), asked, now)
    assert [*found.have, *found.absent] == asked
    assert found.have == tuple(asked[:3])
    assert found.absent[WeekKey(date(2025, 4, 25), Tier.OTC)] == (  # published 05-27
        "the source has no file that is understood for it"
    )
    # 2025-05-02 + 31 days is Monday 06-02
    assert found.absent[WeekKey(date(2025, 5, 2), Tier.OTC)] == "not due: FINRA publishes it on 2025-06-02"
    assert found.problems == (problem,)


def test_what_is_not_listed_is_asked_for() -> None:
    """Prevents old weeks, which the API serves but does not list, from counting as absent."""
    unlisted, missing, listed = (WeekKey(week, Tier.OTC) for week in WEEKS[:3])
    inventory = Inventory((listed,), since=date(2025, 1, 10))
    found = availability(inventory, [listed, unlisted, missing], datetime(2025, 12, 1, tzinfo=UTC))
    assert found.have == (listed, unlisted)
    assert found.absent == {missing: "the source has nothing for it"}


def test_a_feed_is_chosen_by_name_where_there_are_several() -> None:
    """Prevents a backfill of the wrong feed, and one that must be named where there is no other."""
    other = replace(OTC, name="other", domain="finra.other")
    assert feed_of([OTC], None) is OTC
    assert feed_of([OTC, other], "other") is other
    assert feed_of([OTC, other], "finra.other") is other
    for name, cause in ((None, "several feeds"), ("floppy", "no feed 'floppy'")):
        with pytest.raises(PartitionError, match=cause) as caught:
            feed_of([OTC, other], name)
        assert caught.value.remedy == "add --feed otc  # or: other"


def test_long_lists_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents a terminal full of one reason, and a list that ends without a word."""
    report.absent({WeekKey(week, Tier.OTC): "nothing" for week in WEEKS})
    assert "without source: 3 more" in capsys.readouterr().err


def test_a_consequence_is_not_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents one missing delivery from filling a page with its ten derived tables."""
    from market_spine.automation.launch import Outcome
    from market_spine.cli.output import Format

    missing = {f"OTC:{day}": "no_rows: late" for day in ("2025-01-03", "2025-01-17", "2025-01-24")}
    helps = {"OTC:2025-01-03": "come back", "OTC:2025-01-17": "come back"}
    follows = {"OTC:2025-01-03": "no current capture of otc_raw for 2025-01-03"}
    own = {"OTC:2025-01-10": "row_count: 3, expected 4"}
    counted = [
        Tally("otc_raw", 2, 1, 0, missing, 0, helps),
        Tally("otc_venue_volume", 2, 0, 1, follows | own, 7),
    ]
    failure = "market_spine.domain.errors.SourceError: the folder is gone\n  next: look for it"
    report.outcome(Outcome("c", failures=[failure]), counted, Format.CSV, "otc_raw")
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == ["otc_raw,2,1,0,3,0", "otc_venue_volume,2,0,1,2,7"]
    assert err.splitlines() == [
        "error: the folder is gone",
        "  next: look for it",
        "without capture: otc_raw OTC:2025-01-03: no_rows: late",
        "without capture: otc_raw OTC:2025-01-17: no_rows: late",
        "  next: come back",
        "without capture: otc_raw OTC:2025-01-24: no_rows: late",
        "without capture: otc_venue_volume OTC:2025-01-10: row_count: 3, expected 4",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tier=T1,otc", Params(tiers=(Tier.NMS_TIER_1, Tier.OTC))),
        ("weeks_back=3", Params(weeks_back=3)),
        ("from=2025-01-03", Params(first=date(2025, 1, 3))),
        ("to=2025-01-03", Params(last=date(2025, 1, 3))),
        ("min_records=0", Params(min_records=0)),
        ("force=false", Params()),
        ("force=yes", Params(force=True)),
    ],
)
def test_a_parameter_is_read(text: str, expected: Params) -> None:
    """Prevents a parameter that lands in another's place."""
    assert parse([text], Params()) == expected


def test_saying_the_same_twice_is_no_contradiction() -> None:
    """Prevents `--week-ending X -p week_ending=X` from failing."""
    given = Params(week_ending=date(2025, 1, 3))
    assert parse(["week_ending=2025-01-03"], given) == given
