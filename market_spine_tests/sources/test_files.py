"""Files: week and tier come from the name or from the caller; nothing is guessed, nothing picked, nothing ignored."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from market_spine.domain.contracts import Feed
from market_spine.domain.errors import ContentError, SourceError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED
from market_spine.sources import files, lines
from market_spine.sources.delivery import Delivery, Empty, EmptyKind, Part, WeekSource
from market_spine.sources.files import FileSource

ROWS = "WeekEnding|Tier|Symbol|MPID|TotalShares|TotalTrades\n2025-11-14|OTC|A|ALPX|982|23\n"
T1, T2, OTC = Tier
KEY = WeekKey(date(2025, 11, 14), OTC)
RUN = "spine run finra.otc_transparency.weekly_refresh --source"


def put(folder: Path, *names: str, content: str | bytes = ROWS) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return paths


@pytest.mark.parametrize(
    ("name", "week", "tier", "week_source"),
    [
        ("finra_otc_weekly_tier1_20251215.csv", date(2025, 11, 28), T1, WeekSource.PUBLICATION_DATE),
        ("finra_otc_weekly_tier2_20251215.csv", date(2025, 11, 14), T2, WeekSource.PUBLICATION_DATE),
        ("finra_otc_weekly_otc_20251215.csv", date(2025, 11, 14), OTC, WeekSource.PUBLICATION_DATE),
        ("FINRA_OTC_WEEKLY_OTC_20251222.CSV", date(2025, 11, 21), OTC, WeekSource.PUBLICATION_DATE),
        ("finra_otc_weekly_otc_20251229.psv", date(2025, 11, 28), OTC, WeekSource.PUBLICATION_DATE),
        ("finra_otc_weekly_tier1_20240102.csv", date(2023, 12, 15), T1, WeekSource.PUBLICATION_DATE),  # after a holiday
        ("NMS_TIER_1_2025-11-28.csv", date(2025, 11, 28), T1, WeekSource.PATH),
        ("nms_tier_2_2025-11-28.PSV", date(2025, 11, 28), T2, WeekSource.PATH),
        ("otc_2025-11-28.psv", date(2025, 11, 28), OTC, WeekSource.PATH),
        ("2025-11-28/NMS_TIER_1.csv", date(2025, 11, 28), T1, WeekSource.PATH),
        ("deep/er/2025-11-28/t2.psv", date(2025, 11, 28), T2, WeekSource.PATH),
    ],
)
def test_names_that_say_week_and_tier(
    tmp_path: Path, now: datetime, name: str, week: date, tier: Tier, week_source: WeekSource
) -> None:
    """Prevents FINRA's file date from being taken for the week, or one lag from being used for all tiers."""
    (path,) = put(tmp_path, name)
    source = FileSource(tmp_path)
    inventory = source.inventory(FEED, now)
    assert (inventory.keys, inventory.problems) == ((WeekKey(week, tier),), ())
    delivery = source.fetch(FEED, WeekKey(week, tier), now)
    assert isinstance(delivery, Delivery)
    assert (delivery.week_source, delivery.source_name, delivery.source_kind) == (week_source, str(path), "file")
    assert (delivery.fetched_at, delivery.key) == (now, WeekKey(week, tier))
    assert [(part.name, part.data, part.media_type) for part in delivery.parts] == [(path.name, path, "text/plain")]


@pytest.mark.parametrize(
    ("name", "reason", "override"),
    [
        (
            "week_2025-12-13.psv",
            "2025-12-13 is a Saturday; a week is named by the Friday that ends it; the nearest Friday is 2025-12-12; "
            "'week' is not a FINRA tier",
            "--week-ending 2025-12-12 --tier TIER",
        ),
        (
            "OTC_2025-11-17.csv",
            "2025-11-17 is a Monday; a week is named by the Friday that ends it; the nearest Friday is 2025-11-14",
            "--week-ending 2025-11-14 --tier OTC",
        ),
        ("OTC_2025-02-30.csv", "2025-02-30 is not a date", "--week-ending YYYY-MM-DD --tier OTC"),
        ("ATS_2025-11-14.csv", "'ATS' is not a FINRA tier", "--week-ending 2025-11-14 --tier TIER"),
        ("2025-11-14/data.csv", "'data' is not a FINRA tier", "--week-ending 2025-11-14 --tier TIER"),
        ("data.csv", "its name says neither week nor tier", "--week-ending YYYY-MM-DD --tier TIER"),
        ("OTC_2025-11-14.xlsx", "files end in .csv or .psv, not '.xlsx'", "--week-ending YYYY-MM-DD --tier TIER"),
        ("OTC", "files end in .csv or .psv, not 'nothing'", "--week-ending YYYY-MM-DD --tier TIER"),
        (
            "finra_otc_weekly_otc_20251216.csv",
            "FINRA first publishes no OTC week on 2025-12-16 (Tuesday); week 2025-11-14 is published on 2025-12-15",
            "--week-ending YYYY-MM-DD --tier OTC",
        ),
        (
            "finra_otc_weekly_tier1_20251301.csv",
            "20251301 is not a date (YYYYMMDD)",
            "--week-ending YYYY-MM-DD --tier NMS_TIER_1",
        ),
        (
            "finra_otc_weekly_tier1_99991231.csv",
            "9999-12-31 is outside the trading calendar (2012-01-02 .. 2035-12-28)",
            "--week-ending YYYY-MM-DD --tier NMS_TIER_1",
        ),
    ],
)
def test_names_that_do_not_say_are_problems_with_an_override(
    tmp_path: Path, now: datetime, name: str, reason: str, override: str
) -> None:
    """Prevents a file from being passed over in silence, and a Saturday from becoming a Friday by itself."""
    (path,) = put(tmp_path, name)
    (problem,) = FileSource(tmp_path).inventory(FEED, now).problems
    assert (problem.name, problem.reason) == (str(path), reason)
    assert problem.override == f"{RUN} file:{path} {override}"


def test_the_override_of_a_path_with_spaces_can_be_pasted(tmp_path: Path, now: datetime) -> None:
    """Prevents a remedy that the shell takes apart."""
    (path,) = put(tmp_path, "my data.csv")
    (problem,) = FileSource(tmp_path).inventory(FEED, now).problems
    assert problem.override.startswith(f"{RUN} 'file:{path}' --week-ending")


def test_only_hidden_files_readmes_and_licences_are_ignored(tmp_path: Path, now: datetime) -> None:
    """Prevents a list of problems from being full of what is no data, so that nobody reads it."""
    put(
        tmp_path,
        ".DS_Store",
        ".git/config",
        "a/.x.csv",
        "README",
        "readme.md",
        "README-data.txt",
        "LICENSE",
        "License.txt",
    )
    inventory = FileSource(tmp_path).inventory(FEED, now)
    assert (inventory.keys, inventory.problems) == ((), ())
    put(tmp_path, "notes.txt")
    assert len(FileSource(tmp_path).inventory(FEED, now).problems) == 1


def test_two_files_for_one_week_are_a_problem_and_none_is_picked(tmp_path: Path, now: datetime) -> None:
    """Prevents the order of a folder's entries from deciding which of two versions of a week is stored."""
    paths = put(tmp_path, "2025-11-14/OTC.csv", "finra_otc_weekly_otc_20251215.csv", "OTC_2025-11-21.csv")
    source = FileSource(tmp_path)
    inventory = source.inventory(FEED, now)
    assert inventory.keys == (WeekKey(date(2025, 11, 21), OTC),)
    (problem,) = inventory.problems
    assert problem.name == f"{paths[0]}, {paths[1]}"
    assert problem.reason == "2 files hold OTC:2025-11-14, and none is picked"
    assert problem.override == f"{RUN} file:{paths[0]} --week-ending 2025-11-14 --tier OTC"
    answer = source.fetch(FEED, KEY, now)
    assert isinstance(answer, Empty)  # not an error, which would take the other weeks of a range with it
    assert answer.kind is EmptyKind.WRONG_CONTENT
    assert answer.reason == f"2 files hold OTC:2025-11-14, and none is picked: {paths[0]}, {paths[1]}"
    assert answer.remedy == problem.override
    assert isinstance(source.fetch(FEED, WeekKey(date(2025, 11, 21), OTC), now), Delivery)


def test_a_folder_is_walked_once_for_a_range(tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a walk and 468 parsed names for each of 468 keys: 5 s of a backfill."""
    put(tmp_path, "2025-11-14/OTC.csv", "2025-11-21/OTC.csv", "OTC_2025-11-28.csv")
    seen: list[Path] = []
    named = files._named

    def counted(path: Path, feed: Feed) -> Any:
        seen.append(path)
        return named(path, feed)

    monkeypatch.setattr(files, "_named", counted)
    source = FileSource(tmp_path)
    for key in source.inventory(FEED, now).keys:
        assert isinstance(source.fetch(FEED, key, now), Delivery)
    assert isinstance(source.fetch(FEED, WeekKey(date(2025, 12, 5), OTC), now), Empty)
    assert len(seen) == 3


@pytest.mark.parametrize("folder", [".", "2025-11-14", "new"])
def test_a_file_that_comes_or_goes_is_seen_by_the_same_source(tmp_path: Path, now: datetime, folder: str) -> None:
    """Prevents a source that lives long from answering with yesterday's folder, below the root as well as in it."""
    (first,) = put(tmp_path, "2025-11-14/OTC.csv")
    for path in (tmp_path, first.parent):
        os.utime(path, (1_765_800_000, 1_765_800_000))  # a change in the same tick of the clock (4 ms) has no trace
    source = FileSource(tmp_path)
    assert isinstance(source.fetch(FEED, KEY, now), Delivery)
    (second,) = put(tmp_path, f"{folder}/OTC_2025-11-14.csv")
    assert isinstance(source.fetch(FEED, KEY, now), Empty)
    first.unlink()
    answer = source.fetch(FEED, KEY, now)
    assert isinstance(answer, Delivery)
    assert answer.source_name == str(second)


def test_a_file_that_vanishes_before_it_is_read_is_named(
    tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prevents a bare FileNotFoundError, or an empty week, for a file that was there a moment ago."""
    (path,) = put(tmp_path, "OTC_2025-11-14.csv")
    source = FileSource(tmp_path)
    header_only = lines.is_header_only

    def read_then_gone(part: Part) -> bool:
        answer = header_only(part)
        path.unlink()
        return answer

    monkeypatch.setattr(lines, "is_header_only", read_then_gone)
    with pytest.raises(SourceError, match=f"{path} cannot be read"):  # after it was looked into
        source.fetch(FEED, KEY, now)
    put(tmp_path, path.name)
    source.inventory(FEED, now)
    path.unlink()
    monkeypatch.setattr(files._Walk, "still_holds", lambda walk, feed: True)
    with pytest.raises(SourceError, match=r"OTC_2025-11-14\.csv cannot be read"):  # before
        source.fetch(FEED, KEY, now)


def test_keys_come_oldest_first(tmp_path: Path, now: datetime) -> None:
    """Prevents a backfill from capturing a restatement before the week that it restates."""
    put(tmp_path, "OTC_2025-11-21.csv", "NMS_TIER_2_2025-11-14.csv", "OTC_2025-11-14.csv", "NMS_TIER_1_2025-11-28.csv")
    keys = FileSource(tmp_path).inventory(FEED, now).keys
    assert [str(key) for key in keys] == [
        "NMS_TIER_2:2025-11-14", "OTC:2025-11-14", "OTC:2025-11-21", "NMS_TIER_1:2025-11-28",
    ]  # fmt: skip


def test_a_tier_that_the_feed_does_not_have_is_a_problem(tmp_path: Path, now: datetime) -> None:
    """Prevents a partition that no table of the feed has."""
    put(tmp_path, "OTC_2025-11-14.csv")
    (problem,) = FileSource(tmp_path).inventory(replace(FEED, tiers=(T1, T2)), now).problems
    assert problem.reason == "the feed otc has no tier OTC; it has NMS_TIER_1, NMS_TIER_2"


def test_a_missing_root_is_a_source_error(tmp_path: Path, now: datetime) -> None:
    """Prevents a mistyped folder from looking like a quiet week."""
    source = FileSource(tmp_path / "gone")
    with pytest.raises(SourceError, match="there is no file or folder"):
        source.inventory(FEED, now)
    with pytest.raises(SourceError, match="there is no file or folder"):
        source.fetch(FEED, KEY, now)


@pytest.mark.parametrize(
    ("moment", "kind"),
    [
        (datetime(2025, 12, 15, 10, 59, tzinfo=UTC), EmptyKind.NOT_DUE),  # 05:59 in New York
        (datetime(2025, 12, 15, 11, 0, tzinfo=UTC), EmptyKind.NO_ROWS),
    ],
)
def test_an_absent_week_is_not_due_or_missing(tmp_path: Path, moment: datetime, kind: EmptyKind) -> None:
    """Prevents an alarm for a week that FINRA has not published, and silence about one that it has."""
    answer = FileSource(tmp_path).fetch(FEED, KEY, moment)
    assert isinstance(answer, Empty)
    assert answer.kind is kind
    assert f"no file below {tmp_path} holds OTC:2025-11-14" in answer.reason
    assert ("2025-12-15" if kind is EmptyKind.NOT_DUE else "OTC_2025-11-14.csv") in answer.remedy


@pytest.mark.parametrize(
    ("content", "kind", "reason"),
    [
        (b"", EmptyKind.NO_ROWS, "has no content"),
        (b"\xef\xbb\xbf\n", EmptyKind.NO_ROWS, "has no content"),
        (ROWS.splitlines()[0].encode(), EmptyKind.NO_ROWS, "has a header and no rows"),
    ],
)
def test_a_file_without_usable_content_is_a_typed_empty(
    tmp_path: Path, now: datetime, content: bytes, kind: EmptyKind, reason: str
) -> None:
    """Prevents an empty download from replacing a good week, or from counting as success."""
    put(tmp_path, "OTC_2025-11-14.csv", content=content)
    answer = FileSource(tmp_path).fetch(FEED, KEY, now)
    assert isinstance(answer, Empty)
    assert answer.kind is kind
    assert reason in answer.reason
    assert answer.remedy


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>", b"PK\x03\x04\x00\x00", ROWS.encode("utf-16")])
def test_a_file_that_is_not_text_is_delivered_to_be_landed(tmp_path: Path, now: datetime, content: bytes) -> None:
    """Prevents the bytes of a wrong file from being refused before they are kept: they are the evidence."""
    put(tmp_path, "OTC_2025-11-14.csv", content=content)
    answer = FileSource(tmp_path).fetch(FEED, KEY, now)
    assert isinstance(answer, Delivery)
    with pytest.raises(ContentError):
        lines.header(answer.parts[0])


def test_commas_or_pipes_are_told_by_the_header_not_by_the_name(tmp_path: Path, now: datetime) -> None:
    """Prevents FINRA's .csv files, which are separated by pipes, from being one column wide."""
    put(tmp_path, "OTC_2025-11-14.psv", content=ROWS.replace("|", ","))
    answer = FileSource(tmp_path).fetch(FEED, KEY, now)
    assert isinstance(answer, Delivery)
    assert answer.parts[0].media_type == "text/csv"


@pytest.mark.parametrize(
    ("name", "explicit", "week_source", "says"),
    [
        ("week_2025-12-13.psv", False, WeekSource.CALLER, None),
        ("week_2025-12-13.psv", True, WeekSource.CALLER, None),
        ("OTC_2025-11-14.csv", False, WeekSource.PATH, None),
        ("finra_otc_weekly_otc_20251215.csv", False, WeekSource.PUBLICATION_DATE, None),
        ("OTC_2025-11-14.csv", True, WeekSource.CALLER, None),
        ("OTC_2025-11-21.csv", True, WeekSource.CALLER, "OTC:2025-11-21"),
        ("finra_otc_weekly_tier1_20251215.csv", True, WeekSource.CALLER, "NMS_TIER_1:2025-11-28"),
    ],
)
def test_a_single_file_is_what_the_caller_says(
    tmp_path: Path, now: datetime, name: str, explicit: bool, week_source: WeekSource, says: str | None
) -> None:
    """Prevents an override from being ignored, and from hiding what the file's name said."""
    (path,) = put(tmp_path, name)
    answer = FileSource(path, explicit=explicit).fetch(FEED, KEY, now)
    assert isinstance(answer, Delivery)
    assert (answer.key, answer.week_source, answer.headers.get("name_says")) == (KEY, week_source, says)
    assert answer.parts[0].data == path


def test_a_single_file_is_not_another_week_unless_the_caller_insists(tmp_path: Path, now: datetime) -> None:
    """Prevents one file from being stored as every week of a range that it was given for."""
    (path,) = put(tmp_path, "OTC_2025-11-21.csv")
    answer = FileSource(path).fetch(FEED, KEY, now)
    assert isinstance(answer, Empty)
    assert answer.kind is EmptyKind.NO_ROWS
    assert answer.reason == f"{path} holds OTC:2025-11-21 by its name, not OTC:2025-11-14"
    assert answer.remedy == f"{RUN} file:{path} --week-ending 2025-11-14 --tier OTC"


def test_the_inventory_of_a_single_file(tmp_path: Path, now: datetime) -> None:
    """Prevents an unclear name from looking like an empty source."""
    clear, unclear = put(tmp_path, "OTC_2025-11-14.csv", "data.csv")
    assert FileSource(clear).inventory(FEED, now).keys == (KEY,)
    assert len(FileSource(unclear).inventory(FEED, now).problems) == 1


def test_a_delivery_says_when_the_file_was_last_changed(tmp_path: Path, now: datetime) -> None:
    """Prevents the only trace of a file's age from being lost when its bytes are landed."""
    (path,) = put(tmp_path, "OTC_2025-11-14.csv")
    os.utime(path, (1_765_800_000, 1_765_800_000))
    answer = FileSource(tmp_path).fetch(FEED, KEY, now)
    assert isinstance(answer, Delivery)
    assert answer.headers == {"last_modified": "2025-12-15T12:00:00+00:00"}


def test_the_real_folder(finra_dir: Path, now: datetime) -> None:
    """Prevents real names from being understood differently than made-up ones."""
    inventory = FileSource(finra_dir).inventory(FEED, now)
    assert {WeekKey(date(2025, 11, 14), OTC), WeekKey(date(2025, 11, 21), OTC)} <= set(inventory.keys)
    unclear = [problem for problem in inventory.problems if problem.name.endswith("week_2025-12-13.psv")]
    assert len(unclear) == 1
    assert "the nearest Friday is 2025-12-12" in unclear[0].reason
