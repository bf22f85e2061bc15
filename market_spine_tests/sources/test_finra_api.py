"""The FINRA API source over loopback: its questions, weeks older than a year, its inventory."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest

from market_spine.domain.errors import SourceError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FINRA_API, OTC
from market_spine.sources.delivery import Empty, EmptyKind, Source, WeekSource
from market_spine.sources.finra_api import FIELDS
from market_spine_tests.sources.finra_cases import (
    HERE,
    KEY,
    NOW,
    OLD,
    ROWS,
    WEEK,
    Make,
    delivered,
    empty,
    symbols,
)
from market_spine_tests.sources.finra_server import WEB_PAGE, FinraServer, Reply, Row, row


def test_the_question_is_a_post_with_equal_filters(server: FinraServer, make: Make) -> None:
    """Prevents asking by GET (filters ignored), with the Friday, or with the file's spelling of the tier."""
    source: Source = make(server)
    source.fetch(OTC, KEY, NOW)
    first = server.data_requests()[0]
    assert (first.method, first.path) == ("POST", "/data/group/otcMarket/name/weeklySummary")
    assert first.body["compareFilters"] == [
        {"fieldName": "weekStartDate", "fieldValue": "2025-11-10", "compareType": "EQUAL"},
        {"fieldName": "tierIdentifier", "fieldValue": "OTCE", "compareType": "EQUAL"},
        {"fieldName": "summaryTypeCode", "fieldValue": "ATS_W_SMBL_FIRM", "compareType": "EQUAL"},
    ]
    assert (first.body["limit"], first.body["offset"]) == (5000, 0)
    assert first.body["sortFields"][:2] == ["+issueSymbolIdentifier", "+MPID"]
    assert first.headers["Accept"] == "application/json"
    assert {seen.method for seen in server.data_requests()} == {"POST"}
    assert "Authorization" not in first.headers


def test_the_fields_make_the_api_shape_and_no_other() -> None:
    """Prevents a column of the shape that is not asked for, and a page that the weekly file's shape would match."""
    assert set(FINRA_API.roles) <= set(FIELDS)
    assert [shape.name for shape in OTC.shapes if set(shape.roles) <= set(FIELDS)] == [FINRA_API.name]


def test_a_delivery_is_the_exact_pages_with_their_provenance(server: FinraServer, make: Make) -> None:
    """Prevents re-serialised bytes (0.1 becoming 0.10000000000000001), lost provenance and cookies in the record."""
    delivery = delivered(make(server).fetch(OTC, KEY, NOW))
    body = server.data_requests()[2].body
    again = httpx.post(delivery.source_name, json=body, headers={"Accept": "application/json"}, trust_env=False)
    assert delivery.parts[2].data == again.content
    assert [part.name for part in delivery.parts] == [f"weeklySummary-{n:03}.json" for n in (1, 2, 3)]
    assert {part.media_type for part in delivery.parts} == {"application/json"}
    assert (delivery.key, delivery.source_kind, delivery.fetched_at) == (KEY, "api", NOW)
    assert delivery.week_source is WeekSource.REQUEST
    assert delivery.source_name == f"{server.url}/data/group/otcMarket/name/weeklySummary"
    assert set(delivery.headers) == {"content-type", "date", "record-total"}
    assert delivery.headers["record-total"] == "7"


def test_csv_is_an_option(server: FinraServer, make: Make) -> None:
    """Prevents CSV pages that are taken for the pipe-separated file, or lose their header on later pages."""
    delivery = delivered(make(server, as_csv=True).fetch(OTC, KEY, NOW))
    assert {part.media_type for part in delivery.parts} == {"text/csv"}
    lines = [part.data.decode().splitlines() for part in delivery.parts if isinstance(part.data, bytes)]
    assert [len(page) for page in lines] == [4, 4, 2]
    assert {page[0] for page in lines} == {",".join(f'"{name}"' for name in FIELDS)}
    assert server.data_requests()[0].headers["Accept"] == "text/plain"


KINDS = ("ATS_W_SMBL", "ATS_W_SMBL_FIRM", "OTC_W_SMBL_FIRM")
MIXED = [row(f"S{n}", "UBSA", n, n, summaryTypeCode=kind) for n in range(4) for kind in KINDS]
BY_KIND = sorted(MIXED, key=lambda one: str(one["summaryTypeCode"]))


@pytest.mark.parametrize("as_csv", [False, True])
@pytest.mark.parametrize("rows", [MIXED, BY_KIND], ids=["mixed", "by kind"])
def test_historic_weeks_leave_other_kinds_out(make: Make, rows: list[Row], as_csv: bool) -> None:
    """Prevents a 400 for filters that the historic dataset refuses, and totals that count every trade three times."""
    with FinraServer(historic={(OLD.week_ending, Tier.NMS_TIER_1): rows}, page_rows=4) as server:
        delivery = delivered(make(server, as_csv=as_csv).fetch(OTC, OLD, NOW))
        asked = server.data_requests()
    assert {seen.path for seen in asked} == {"/data/group/otcMarket/name/weeklySummaryHistoric"}
    assert [seen.body["offset"] for seen in asked] == [0, 4, 8]
    assert "sortFields" not in asked[0].body
    assert [one["fieldName"] for one in asked[0].body["compareFilters"]] == ["weekStartDate", "tierIdentifier"]
    names = [part.name for part in delivery.parts]
    if rows is BY_KIND:
        assert [name.partition(".")[0] for name in names] == ["weeklySummaryHistoric-002"]
    else:
        assert len(names) == 3
        assert all("ATS_W_SMBL_FIRM" in name for name in names)
    if not as_csv:
        assert symbols(delivery) == ["S0", "S1", "S2", "S3"]
    else:
        texts = [part.data.decode() for part in delivery.parts if isinstance(part.data, bytes)]
        kept = [line for text in texts for line in text.splitlines()[1:]]
        assert [line.split(",")[2] for line in kept] == ['"S0"', '"S1"', '"S2"', '"S3"']
        assert all('"ATS_W_SMBL_FIRM"' in line for line in kept)


OLD_ROW = '"weekStartDate":"2023-02-27","tierIdentifier":"T1","summaryTypeCode":'
OLD_CSV = "weekStartDate,tierIdentifier,summaryTypeCode,issueName,totalWeeklyShareQuantity\r\n"


@pytest.mark.parametrize(
    ("as_csv", "page", "kept"),
    [
        (
            False,
            f'[ {{{OLD_ROW}"ATS_W_SMBL"}} ,\n {{{OLD_ROW}"ATS_W_SMBL_FIRM", "q":1.50, "n":"a, ] \\u00e9"}} ]',
            f'[{{{OLD_ROW}"ATS_W_SMBL_FIRM", "q":1.50, "n":"a, ] \\u00e9"}}]',
        ),
        (
            True,
            f'{OLD_CSV}2023-02-27,T1,ATS_W_SMBL,x,1\r\n\r\n2023-02-27,T1,ATS_W_SMBL_FIRM,"a\r\nb ""c""",1.50\r\n',
            f'{OLD_CSV}2023-02-27,T1,ATS_W_SMBL_FIRM,"a\r\nb ""c""",1.50\r\n',
        ),
    ],
)
def test_rows_that_stay_keep_their_text(make: Make, as_csv: bool, page: str, kept: str) -> None:
    """Prevents 1.50 that becomes 1.5, and a row cut at a bracket or line break within its text."""
    with FinraServer(historic={(OLD.week_ending, Tier.NMS_TIER_1): [row("A", "UBSA", 1, 1)]}) as server:
        server.answer_next(Reply(body=page.encode(), total=2))
        delivery = delivered(make(server, as_csv=as_csv).fetch(OTC, OLD, NOW))
    assert [part.data for part in delivery.parts] == [kept.encode()]


def test_a_historic_page_of_another_week_is_wrong_content(make: Make) -> None:
    """Prevents trusting the historic filters more than the current ones."""
    with FinraServer(historic={(OLD.week_ending, Tier.NMS_TIER_1): MIXED}) as server:
        server.answer_next(Reply(rows=[HERE | ROWS[0]], total=1))
        answer = make(server).fetch(OTC, OLD, NOW)
    assert isinstance(answer, Empty)
    assert answer.kind is EmptyKind.WRONG_CONTENT


@pytest.mark.parametrize(
    ("days", "asked"),
    [
        (329, ["weeklySummary"]),
        (330, ["weeklySummary", "weeklySummaryHistoric"]),
        (365, ["weeklySummary", "weeklySummaryHistoric"]),
        (366, ["weeklySummaryHistoric", "weeklySummary"]),
        (400, ["weeklySummaryHistoric", "weeklySummary"]),
        (401, ["weeklySummaryHistoric"]),
    ],
)
def test_a_week_about_a_year_old_is_sought_in_both_datasets(make: Make, days: int, asked: list[str]) -> None:
    """Prevents "no rows" for a week that has just moved, or not yet moved, to the other dataset."""
    now = datetime(2025, 11, 10, 12, 0, tzinfo=UTC) + timedelta(days=days)
    with FinraServer() as server:
        empty(make(server).fetch(OTC, KEY, now), EmptyKind.NO_ROWS)
        assert [seen.path.rpartition("/")[2] for seen in server.data_requests()] == asked


def test_the_second_dataset_delivers(make: Make) -> None:
    """Prevents giving up at the first dataset's 204."""
    now = datetime(2026, 11, 5, 12, 0, tzinfo=UTC)
    with FinraServer(historic={(WEEK, Tier.OTC): ROWS}) as server:
        delivery = delivered(make(server).fetch(OTC, KEY, now))
    assert delivery.source_name.endswith("/weeklySummaryHistoric")
    assert delivery.parts[0].name == "weeklySummaryHistoric-001.json"


def test_the_inventory_names_fridays(server: FinraServer, make: Make) -> None:
    """Prevents Mondays that pass for week endings, and an inventory in FINRA's order (newest first)."""
    found = make(server).inventory(OTC, NOW)
    assert found.keys == (WeekKey(date(2025, 1, 3), Tier.NMS_TIER_1), WeekKey(WEEK, Tier.NMS_TIER_1), KEY)
    assert found.problems == ()
    assert found.since == date(2025, 1, 25)  # of Monday 2025-01-20, 330 days ago, the historic dataset is asked
    only = make(server).inventory(replace(OTC, tiers=(Tier.OTC,)), NOW)
    assert only.keys == (KEY,)


def test_partitions_that_cannot_be_understood_are_problems(server: FinraServer, make: Make) -> None:
    """Prevents a shifted week, a default tier, and one odd partition that hides all others."""
    server.partitions = [["2025-11-10", "OTCE"], ["2025-11-11", "T1"], ["2025-11-10", "T9"], ["soon", "T1"]]
    found = make(server).inventory(OTC, NOW)
    assert found.keys == (KEY,)
    assert [problem.name.rpartition(": ")[2] for problem in found.problems] == [
        "2025-11-11, T1",
        "2025-11-10, T9",
        "soon, T1",
    ]
    assert [
        word in problem.reason for word, problem in zip(("Tuesday", "T9", "soon"), found.problems, strict=True)
    ] == [True] * 3
    assert all("--week-ending" in problem.override for problem in found.problems)


def test_no_partitions(server: FinraServer, make: Make) -> None:
    """Prevents a failure where FINRA lists nothing."""
    server.answer_next(Reply(status=204, body=b""))
    assert make(server).inventory(OTC, NOW).keys == ()


@pytest.mark.parametrize(
    "reply",
    [
        WEB_PAGE,
        Reply(body=b"[]"),
        Reply(body=b"{}"),
        Reply(body=b'{"partitionFields":["a"],"availablePartitions":[1]}'),
    ],
)
def test_a_list_that_is_none(server: FinraServer, make: Make, reply: Reply) -> None:
    """Prevents an empty inventory, which reads as "nothing published", for an answer that was not understood."""
    server.answer_next(reply)
    with pytest.raises(SourceError, match="no list of partitions"):
        make(server).inventory(OTC, NOW)
