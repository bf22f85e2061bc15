"""A single file whose name says nothing: its rows' smallest lastUpdateDate, or nothing; never a guess."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pytest

from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED, FINRA_FILE
from market_spine.sources.delivery import Delivery, Empty, WeekSource
from market_spine.sources.files import FileSource
from market_spine_tests.sources.test_files import KEY, ROWS, RUN, put

T1, _, OTC = Tier
FINRA = "|".join(FINRA_FILE.roles)
OTC_ROW, T1_ROW = "OTC|A|A Co|X ATS|XATS|10|1|{}", "NMS Tier 1|A|A Co|X ATS|XATS|10|1|{}"


def finra_file(row: str, *days: str) -> str:
    return "\n".join([FINRA, *(row.format(day) for day in days)])


def test_a_single_file_without_a_name_is_dated_by_its_rows(tmp_path: Path, now: datetime) -> None:
    """Prevents FINRA's download under another name from being stored as whatever week is asked for."""
    (path,) = put(tmp_path, "data.csv", content=finra_file(OTC_ROW, "2025-12-22", "2025-12-15", ""))
    source = FileSource(path)
    inventory = source.inventory(FEED, now)
    assert (inventory.keys, inventory.problems) == ((KEY,), ())
    answer = source.fetch(FEED, KEY, now)
    assert isinstance(answer, Delivery)
    assert (answer.week_source, answer.headers.get("name_says")) == (WeekSource.PUBLICATION_DATE, None)
    other = source.fetch(FEED, WeekKey(date(2025, 11, 28), T1), now)
    assert isinstance(other, Empty)
    assert other.reason == f"{path} holds OTC:2025-11-14 by its rows' lastUpdateDate, not NMS_TIER_1:2025-11-28"
    assert other.remedy == f"{RUN} file:{path} --week-ending 2025-11-28 --tier NMS_TIER_1"


def test_a_single_file_is_read_again_after_it_changed(tmp_path: Path, now: datetime) -> None:
    """Prevents the week of the file that stood there before from being given to the one that stands there now."""
    (path,) = put(tmp_path, "data.csv", content=finra_file(OTC_ROW, "2025-12-15"))
    source = FileSource(path)
    assert source.inventory(FEED, now).keys == (KEY,)
    put(tmp_path, "data.csv", content=finra_file(T1_ROW, "2025-12-15"))
    assert isinstance(source.fetch(FEED, WeekKey(date(2025, 11, 28), T1), now), Delivery)
    assert isinstance(source.fetch(FEED, KEY, now), Empty)


def test_rows_are_not_asked_where_the_caller_or_the_name_says_something(tmp_path: Path, now: datetime) -> None:
    """Prevents rows from outvoting the caller, a wrong name from passing unseen, and a folder from being read whole."""
    content = finra_file(OTC_ROW, "2025-12-15")
    silent, saturday = put(tmp_path, "data.csv", "OTC_2025-11-15.csv", content=content)
    week = WeekKey(date(2025, 11, 21), OTC)
    answer = FileSource(silent, explicit=True).fetch(FEED, week, now)
    assert isinstance(answer, Delivery)
    assert (answer.key, answer.week_source) == (week, WeekSource.CALLER)
    assert len(FileSource(saturday).inventory(FEED, now).problems) == 1
    assert len(FileSource(tmp_path).inventory(FEED, now).problems) == 2


@pytest.mark.parametrize(
    "content",
    [
        finra_file(OTC_ROW, "2025-12-16"),  # a Tuesday, on which FINRA first publishes nothing
        finra_file(OTC_ROW, "2025-12-15") + "\n" + T1_ROW.format("2025-12-15"),
        finra_file(OTC_ROW.replace("OTC|", "Tier 9|"), "2025-12-15"),
        finra_file(OTC_ROW, "", "15.12.2025"),
        finra_file(OTC_ROW, "2025-12-15", "2025-00-00"),
        finra_file(OTC_ROW + "|more", "2025-12-15"),
        finra_file(OTC_ROW, "2025-12-15").replace("|", ","),
        finra_file(OTC_ROW, "2025-12-15").encode("utf-16"),
        ROWS,
        "",
    ],
    ids=[
        "no publication",
        "two tiers",
        "unknown tier",
        "no date",
        "bad date",
        "fields",
        "commas",
        "UTF-16",
        "simple",
        "",
    ],
)
def test_rows_that_do_not_show_one_partition_leave_the_problem(
    tmp_path: Path, now: datetime, content: str | bytes
) -> None:
    """Prevents a week from being guessed from rows that do not agree, or not with the publication rule."""
    (path,) = put(tmp_path, "data.csv", content=content)
    inventory = FileSource(path).inventory(FEED, now)
    assert inventory.keys == ()
    (problem,) = inventory.problems
    assert problem.reason == "its name says neither week nor tier"
    assert problem.override == f"{RUN} file:{path} --week-ending YYYY-MM-DD --tier TIER"


def test_the_real_files_are_dated_by_their_rows(finra_dir: Path, tmp_path: Path, now: datetime) -> None:
    """Prevents a rule that holds for made-up rows only."""
    for day, week in (("20251215", date(2025, 11, 14)), ("20251222", date(2025, 11, 21))):
        (path,) = put(tmp_path, "x.csv", content=(finra_dir / f"finra_otc_weekly_otc_{day}.csv").read_bytes())
        assert FileSource(path).inventory(FEED, now).keys == (WeekKey(week, OTC),)
