"""Parsing: every line is a row or a reject with its reason; nothing is guessed, nothing is lost.

Answers are written out by hand; the laws over arbitrary lines, and the real files, are in `test_parse_laws`.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from market_spine.domain.contracts import Shape
from market_spine.domain.errors import ContentError
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import FEED, FINRA_API, FINRA_FILE, SIMPLE_FILE
from market_spine.sources import lines, parse
from market_spine.sources.delivery import Part
from market_spine_tests.sources.parse_lab import ENGINE, GOOD, HEADER, SIMPLE, WEEK, parsed, pipes, reasons


def test_a_good_row_has_exactly_the_columns_of_raw() -> None:
    """Prevents a column of the store from being filled by another one's text."""
    assert parsed(pipes(GOOD)) == [
        {
            "week_ending": WEEK,
            "tier": "OTC",
            "part_no": 1,
            "line_no": 2,
            "symbol": "AABB",
            "issue_name": "Asia  Broadband's Inc",
            "venue_name": "OTC LINK",
            "mpid": "OTCN",
            "total_shares": Decimal("6753871.000000"),
            "total_trades": 171,
            "source_last_update_date": date(2025, 12, 15),
            "reason_code": None,
            "detail": None,
            "raw": None,
        }
    ]


def test_the_types_are_those_of_the_raw_table() -> None:
    """Prevents a capture whose Parquet types differ from what the contract declares."""
    parsed(pipes(GOOD))
    header = tuple(HEADER.split("|"))
    sql = parse.parse_sql(FINRA_FILE, header, lines.PIPES, FEED)
    ENGINE.register("stream", pa.RecordBatchReader.from_batches(lines.SCHEMA, lines.batches(1, pipes(GOOD))))
    types = {name: str(kind) for name, kind, *_ in ENGINE.execute(f"DESCRIBE {sql}").fetchall()}
    assert {column.name: types[column.name] for column in FEED.raw.columns} == {
        column.name: column.type for column in FEED.raw.columns
    }
    assert list(types)[len(FEED.raw.columns) :] == ["reason_code", "detail", "raw"]


def line(**fields: str) -> str:
    """The good line with some fields replaced (by their place in the file)."""
    places = ["tier", "symbol", "name", "venue", "mpid", "shares", "trades", "date"]
    values = dict(zip(places, GOOD.split("|"), strict=True))
    return "|".join((values | fields).values())


BAD_LINES = [
    ("", "BLANK_LINE", None),
    ("   \t", "BLANK_LINE", None),
    ("x" * 10_001, "LINE_TOO_LONG", "the first 10001 characters are kept"),
    (line(name="caf\ufffd"), "BAD_ENCODING", None),
    ("AABB", "FIELD_COUNT", "1 fields, the header has 8"),
    (GOOD + "|", "FIELD_COUNT", "9 fields, the header has 8"),
    (GOOD.rpartition("|")[0], "FIELD_COUNT", "7 fields, the header has 8"),
    (line(tier=""), "UNKNOWN_TIER", "tier "),
    (line(tier="NMS Tier 3"), "UNKNOWN_TIER", "tier NMS Tier 3"),
    (line(tier="NMS Tier 1"), "WRONG_TIER", "tier NMS Tier 1, delivered for OTC"),
    (line(tier="T2"), "WRONG_TIER", "tier T2, delivered for OTC"),
    (line(shares=""), "NOT_A_NUMBER", "shares , trades 171"),
    (line(shares="NaN"), "NOT_A_NUMBER", "shares NaN, trades 171"),
    (line(shares="1e5"), "NOT_A_NUMBER", "shares 1e5, trades 171"),
    (line(shares="1,000"), "NOT_A_NUMBER", "shares 1,000, trades 171"),
    (line(shares="1_000"), "NOT_A_NUMBER", "shares 1_000, trades 171"),
    (line(shares="+5"), "NOT_A_NUMBER", "shares +5, trades 171"),
    (line(shares=".5"), "NOT_A_NUMBER", "shares .5, trades 171"),
    (line(shares="5."), "NOT_A_NUMBER", "shares 5., trades 171"),
    (line(shares="1.2345678"), "NOT_A_NUMBER", "shares 1.2345678, trades 171"),
    (line(shares="123456789012345"), "NOT_A_NUMBER", "shares 123456789012345, trades 171"),
    (line(shares="\u0661\u0662"), "NOT_A_NUMBER", "shares \u0661\u0662, trades 171"),
    (line(trades="1.0"), "NOT_A_NUMBER", "shares 6753871, trades 1.0"),
    (line(trades="1.5"), "NOT_A_NUMBER", "shares 6753871, trades 1.5"),
    (line(trades="9999999999999999999"), "NOT_A_NUMBER", "shares 6753871, trades 9999999999999999999"),
    (line(date=""), "NOT_A_DATE", "last update "),
    (line(date="2025-1-5"), "NOT_A_DATE", "last update 2025-1-5"),
    (line(date="12/15/2025"), "NOT_A_DATE", "last update 12/15/2025"),
    (line(date="2025/12/15"), "NOT_A_DATE", "last update 2025/12/15"),
    (line(date="2025-02-30"), "NOT_A_DATE", "last update 2025-02-30"),
    (line(date="infinity"), "NOT_A_DATE", "last update infinity"),
    (line(date="2025-12-15 00:00"), "NOT_A_DATE", "last update 2025-12-15 00:00"),
]


@pytest.mark.parametrize(("text", "code", "detail"), BAD_LINES)
def test_a_bad_line_is_a_reject_with_its_reason(text: str, code: str, detail: str | None) -> None:
    """Prevents a line that does not cast from being dropped, stopped at, or stored as something near it."""
    before, bad, after = parsed(pipes(GOOD, text, GOOD))
    assert (bad["line_no"], bad["reason_code"], bad["detail"], bad["raw"]) == (3, code, detail, text)
    assert (bad["total_shares"], bad["total_trades"], bad["source_last_update_date"]) == (None, None, None)
    assert (before["reason_code"], after["reason_code"]) == (None, None)
    assert code in parse.reject_reasons


GOOD_LINES = [
    (line(symbol="NA"), {"symbol": "NA"}),
    (line(symbol="NAN"), {"symbol": "NAN"}),
    (line(symbol="TRUE"), {"symbol": "TRUE"}),
    (line(symbol="null"), {"symbol": "null"}),
    (line(symbol=""), {"symbol": ""}),
    (line(symbol=" \tAA "), {"symbol": "AA"}),
    (line(mpid="   "), {"mpid": ""}),
    (line(name=" "), {"issue_name": None}),
    (line(venue=""), {"venue_name": None}),
    (line(name='12" PIPE "CO'), {"issue_name": '12" PIPE "CO'}),
    (line(name="Soci\u00e9t\u00e9 'X', Inc"), {"issue_name": "Soci\u00e9t\u00e9 'X', Inc"}),
    (line(tier="otce"), {"tier": "OTC"}),
    (line(shares="-5"), {"total_shares": Decimal(-5)}),
    (line(shares="0", trades="0"), {"total_shares": Decimal(0), "total_trades": 0}),
    (line(shares="0.000001"), {"total_shares": Decimal("0.000001")}),
    (line(shares="12345678901234.123456"), {"total_shares": Decimal("12345678901234.123456")}),
    (line(shares=" 007 "), {"total_shares": Decimal(7)}),
    (line(trades="-171"), {"total_trades": -171}),
    (line(trades="999999999999999999"), {"total_trades": 999_999_999_999_999_999}),
    (line(date="2099-12-31"), {"source_last_update_date": date(2099, 12, 31)}),
    (line(date="2024-02-29"), {"source_last_update_date": date(2024, 2, 29)}),
]


@pytest.mark.parametrize(("text", "expected"), GOOD_LINES)
def test_odd_values_are_data(text: str, expected: dict[str, Any]) -> None:
    """Prevents the parser from judging values: negative, future, empty and odd ones are for the feed's rules."""
    (row,) = parsed(pipes(text))
    assert row["reason_code"] is None
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize("tier", Tier)
def test_every_spelling_of_a_tier_is_that_tier(tier: Tier) -> None:
    """Prevents the SQL from knowing other spellings than the domain."""
    spelt = [tier.file_text, tier.api_code, tier.value, tier.value.lower(), tier.file_text.upper().replace(" ", "-")]
    assert reasons(pipes(*(line(tier=text) for text in spelt)), tier=tier) == [None] * len(spelt)
    others = [other.file_text for other in Tier if other is not tier]
    assert reasons(pipes(*(line(tier=text) for text in others)), tier=tier) == ["WRONG_TIER"] * 2


def test_columns_may_stand_in_any_order_and_more_of_them() -> None:
    """Prevents shares from being read as trades when FINRA moves a column, or adds one."""
    names = HEADER.split("|")
    values = dict(zip(names, GOOD.split("|"), strict=True)) | {"productTypeCode": "CORP"}
    order = [*reversed(names[:5]), "productTypeCode", *names[5:]]
    part = pipes("|".join(values[name] for name in order), header="|".join(order))
    assert parsed(part) == parsed(pipes(GOOD))
    assert parse.unknown_columns(FINRA_FILE, lines.header(part)) == ("productTypeCode",)
    assert parse.unknown_columns(FINRA_FILE, names) == ()


@pytest.mark.parametrize(
    ("header", "shape"),
    [
        (HEADER.split("|"), FINRA_FILE),
        (SIMPLE.split("|"), SIMPLE_FILE),
        (list(FINRA_API.roles), FINRA_API),
        ([name for name in FINRA_API.roles if name not in FINRA_API.optional], FINRA_API),
    ],
)
def test_each_shape_is_known_by_its_header(header: list[str], shape: Shape) -> None:
    """Prevents the API's rows, which carry their week, from being read as the file's, which do not."""
    assert parse.detect_shape(FEED, header) is shape
    assert parse.detect_shape(FEED, header[::-1]) is shape


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        (
            HEADER.replace("MPID|", "").split("|"),
            "the header lacks 'MPID' of the shape finra_weekly_file; found: 'tierDescription', ",
        ),
        (
            SIMPLE.replace("TotalShares", "Shares").split("|"),
            "the header lacks 'TotalShares' of the shape simple_file; found: 'WeekEnding', 'Tier', 'Symbol', 'MPID', "
            "'Shares', 'TotalTrades'",
        ),
        ([*HEADER.split("|"), "MPID"], "the header names 'MPID' more than once: "),
        (GOOD.split("|"), "the header lacks "),
        ([], "the header lacks "),
    ],
)
def test_a_header_that_is_no_shape_says_what_it_lacks(header: list[str], cause: str) -> None:
    """Prevents a file without its header, or without a column, from becoming thousands of rejects."""
    with pytest.raises(ContentError) as caught:
        parse.detect_shape(FEED, header)
    assert caught.value.cause.startswith(cause)
    assert FEED.source_url in caught.value.remedy


@pytest.mark.parametrize(
    ("label", "explicit", "code"),
    [
        ("2025-11-14", False, None),
        ("2025-11-15", False, "WRONG_WEEK"),
        ("", False, "WRONG_WEEK"),
        ("2025-11-15", True, None),
        ("garbage", True, None),
    ],
)
def test_the_week_in_a_row_against_the_week_delivered_for(label: str, explicit: bool, code: str | None) -> None:
    """Prevents a file that says Saturday from being shifted to Friday, unless the caller named the week."""
    part = pipes(f"{label}|OTC|A|ALPX|982|23", header=SIMPLE)
    (row,) = parsed(part, explicit=explicit)
    assert row["reason_code"] == code
    assert row["detail"] == (code and f"week {label}, delivered for 2025-11-14")
    assert (row["issue_name"], row["source_last_update_date"]) == (None, None)


API_ROW = {
    "tierIdentifier": "OTCE",
    "weekStartDate": "2025-11-10",
    "issueSymbolIdentifier": "AABB",
    "issueName": "Asia, Broadband",
    "marketParticipantName": None,
    "MPID": None,
    "totalWeeklyShareQuantity": 10.5,
    "totalWeeklyTradeCount": 3,
    "lastUpdateDate": None,
}


def page(*rows: dict[str, Any]) -> Part:
    return Part("page", json.dumps(rows).encode(), lines.JSON)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"firmCRDNumber": 7}, None),
        ({"issueName": "\\ud83d \u0000 \" ' \\"}, None),
        ({"weekStartDate": "2025-11-03"}, "WRONG_WEEK"),
        ({"weekStartDate": None}, "WRONG_WEEK"),
        ({"tierIdentifier": "T1"}, "WRONG_TIER"),
        ({"totalWeeklyShareQuantity": None}, "NOT_A_NUMBER"),
        ({"totalWeeklyShareQuantity": 1e20}, "NOT_A_NUMBER"),
        ({"totalWeeklyTradeCount": True}, "NOT_A_NUMBER"),
        ({"totalWeeklyTradeCount": [1]}, "NOT_A_NUMBER"),
        ({"lastUpdateDate": "soon"}, "NOT_A_DATE"),
        ({"issueName": "x" * 10_000}, "LINE_TOO_LONG"),
    ],
)
def test_json_rows(change: dict[str, Any], code: str | None) -> None:
    """Prevents the API's rows of another week from being stored under the week asked for, even an explicit one."""
    good, changed = parsed(page(API_ROW, API_ROW | change), explicit=True)
    assert (good["symbol"], good["mpid"], good["issue_name"]) == ("AABB", "", "Asia, Broadband")
    assert (good["total_shares"], good["total_trades"], good["line_no"]) == (Decimal("10.5"), 3, 1)
    assert (good["venue_name"], good["source_last_update_date"], good["reason_code"]) == (None, None, None)
    assert changed["reason_code"] == code


@pytest.mark.parametrize(
    ("text", "code", "name"),
    [
        ("OTCE,2025-11-10,A,Plain Inc,V,M,1,2,2025-12-15", None, "Plain Inc"),
        ('"OTCE","2025-11-10","A","Two, Inc","V","M",1,2,"2025-12-15"', None, "Two, Inc"),
        ('OTCE,2025-11-10,A,"The ""X"" Co, Ltd",V,M,1,2,2025-12-15', None, 'The "X" Co, Ltd'),
        ('OTCE,2025-11-10,A,"",V,M,1,2,2025-12-15', None, None),
        ('OTCE,2025-11-10,A,12" Pipe,V,M,1,2,2025-12-15', None, '12" Pipe'),
        ('OTCE,2025-11-10,A,"Open, Inc,V,M,1,2,2025-12-15', "FIELD_COUNT", None),
        ('OTCE,2025-11-10,A,"Shut" Inc,V,M,1,2,2025-12-15', "FIELD_COUNT", None),
        ("OTCE,2025-11-10,A,Two, Inc,V,M,1,2,2025-12-15", "FIELD_COUNT", None),
    ],
)
def test_comma_separated_lines(text: str, code: str | None, name: str | None) -> None:
    """Prevents a comma or a quote in an issue name from moving every field behind it."""
    header = ",".join(f'"{name}"' for name in FINRA_API.roles)
    (row,) = parsed(Part("page", f"{header}\n{text}\n".encode(), lines.COMMAS))
    assert row["reason_code"] == code
    if code is None:
        assert (row["issue_name"], row["symbol"], row["total_trades"]) == (name, "A", 2)


def test_one_statement_serves_many_partitions() -> None:
    """Prevents a backfill of 468 partitions from needing 468 statements, or mixing their weeks and tiers."""
    header = tuple(SIMPLE.split("|"))
    sql = parse.parse_sql(SIMPLE_FILE, header, lines.PIPES, FEED)
    cases = [
        (1, "2025-11-14|OTC|A|M|1|1", "2025-11-14", "OTC", False, None),
        (1, "2025-11-14|OTC|A|M|1|1", "2025-11-21", "OTC", False, "WRONG_WEEK"),
        (2, "2025-11-14|OTC|A|M|1|1", "2025-11-21", "OTC", True, None),
        (2, "2025-11-14|OTC|A|M|1|1", "2025-11-14", "NMS_TIER_1", True, "WRONG_TIER"),
        (3, "2025-11-14|T1|A|M|1|1", "2025-11-14", "NMS_TIER_1", False, None),
    ]
    values = ", ".join(
        f"({part}, {number}, '{raw}', DATE '{week}', '{tier}', {explicit})"
        for number, (part, raw, week, tier, explicit, _) in enumerate(cases)
    )
    with duckdb.connect() as engine:
        engine.execute(
            f"CREATE VIEW lines AS FROM (VALUES {values}) v(part_no, line_no, raw, week_ending, tier, week_is_explicit)"
        )
        found = engine.execute(f"SELECT reason_code FROM ({sql}) ORDER BY line_no").fetchall()
    assert [code for (code,) in found] == [code for *_, code in cases]


def test_a_feed_may_add_a_text_column() -> None:
    """Prevents the second feed, whose venues are known by a CRD number, from needing a parser of its own."""
    column = replace(FEED.raw.columns[5], name="firm_crd_number")
    shape = Shape("with_crd", {**FINRA_FILE.roles, "firmCRDNumber": "firm_crd_number"})
    feed = replace(FEED, raw=replace(FEED.raw, columns=(*FEED.raw.columns, column)), shapes=(shape,))
    rows = parsed(pipes(f"{GOOD}| 7691 ", f"{GOOD}|", header=f"{HEADER}|firmCRDNumber"), feed=feed)
    assert [row["firm_crd_number"] for row in rows] == ["7691", None]


@pytest.mark.parametrize(
    ("day", "tier", "week"),
    [
        (date(2025, 12, 15), Tier.NMS_TIER_1, date(2025, 11, 28)),
        (date(2025, 12, 15), Tier.OTC, date(2025, 11, 14)),
        (date(2023, 5, 30), Tier.NMS_TIER_1, date(2023, 5, 12)),  # Memorial Day moved Monday to Tuesday
        (date(2024, 1, 2), Tier.NMS_TIER_1, date(2023, 12, 15)),
        (date(2025, 12, 16), Tier.OTC, None),
        (date(2022, 7, 29), Tier.NMS_TIER_1, None),  # a restatement's day
        (date(1, 1, 1), Tier.OTC, None),
        (date(9999, 12, 31), Tier.OTC, None),
    ],
)
def test_week_of_content(day: date, tier: Tier, week: date | None) -> None:
    """Prevents a file from being given a week that the publication rule does not say."""
    assert parse.week_of_content(day, tier) == week
