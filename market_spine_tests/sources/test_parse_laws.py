"""Laws of parsing over arbitrary lines, and the real files, whose answers were counted by other means.

`reference` is a second parser in plain Python that shares nothing with the SQL.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_spine.domain.tiers import Tier
from market_spine.sources import parse
from market_spine.sources.delivery import Part
from market_spine_tests.sources.parse_lab import GOOD, HEADER, parsed, reasons


def reference(text: str) -> bool:
    """Whether a second parser, in plain Python, takes the line for a good OTC row."""
    fields = [field.strip(" ") for field in text.split("|")]
    if len(fields) != 8 or len(text.encode()) > 10_000 or "\ufffd" in text:
        return False
    tier = re.sub("[ -]", "_", fields[0].strip(" \t\r")).upper()
    try:
        is_date = date.fromisoformat(fields[7]).isoformat() == fields[7]
    except ValueError:
        is_date = False
    return (
        tier in {"OTC", "OTCE"}
        and re.fullmatch(r"-?[0-9]{1,14}(\.[0-9]{1,6})?", fields[5]) is not None
        and re.fullmatch(r"-?[0-9]{1,18}", fields[6]) is not None
        and is_date
    )


ANY_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from("\t\r\x0b\x85"), max_size=12)
FRAGMENT = st.sampled_from(
    ["OTC", "otce", "NMS Tier 1", "", " ", "AA", "-5", "1", "1.5", "1e3", "+1", "2025-12-15", "2025-02-30", '"', "NaN"]
)
NEAR = st.tuples(
    st.sampled_from(["OTC", "OTCE ", "T1"]), ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT,
    st.sampled_from(["1", "-1.5", "0", "1e5"]) | FRAGMENT, st.sampled_from(["1", "22"]) | FRAGMENT,
    st.dates().map(str) | FRAGMENT,
).map("|".join)  # fmt: skip
ANY_LINE = NEAR | ANY_TEXT | st.lists(FRAGMENT | ANY_TEXT, max_size=10).map("|".join)


@settings(max_examples=150)
@given(st.lists(ANY_LINE.filter(lambda text: not text.endswith("\r")), max_size=30))
def test_law_lines_in_are_rows_plus_rejects(texts: list[str]) -> None:
    """Prevents a line from vanishing, coming out twice, or passing where an independent parser refuses it."""
    found = parsed(Part("file", "".join(f"{text}\n" for text in (HEADER, *texts)).encode()))
    assert [row["line_no"] for row in found] == list(range(2, len(texts) + 2))
    assert [row["reason_code"] is None for row in found] == [reference(text) for text in texts]
    rejects = {row["line_no"]: row for row in found if row["reason_code"]}
    assert {number: row["raw"] for number, row in rejects.items()} == {n: texts[n - 2] for n in rejects}
    assert {row["reason_code"] for row in rejects.values()} <= set(parse.reject_reasons)


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=40).filter(lambda data: b"\n" not in data), max_size=20))
def test_law_any_bytes_come_out_as_one_line_each(texts: list[bytes]) -> None:
    """Prevents bytes that are no text from ending the statement, or from hiding the lines after them."""
    good = GOOD.encode() + b"\n"  # as many good lines as keep the file from being refused as binary, NUL bytes apart
    safe = [text.replace(b"\0", b"\x01") for text in texts]
    found = parsed(Part("file", HEADER.encode() + b"\n" + good * 20 + b"".join(text + b"\n" for text in safe)))
    codes = Counter("row" if row["reason_code"] is None else "reject" for row in found)
    assert codes["row"] == 20
    assert codes["reject"] == len(texts)


@pytest.mark.parametrize(
    ("name", "week", "rows", "shares", "trades", "symbols"),
    [
        ("finra_otc_weekly_otc_20251215.csv", date(2025, 11, 14), 5_328, 1_335_995_901, 472_776, 3_111),
        ("finra_otc_weekly_otc_20251222.csv", date(2025, 11, 21), 5_192, 943_802_893, 497_191, 2_985),
    ],
)
def test_the_real_otc_files(
    finra_dir: Path, name: str, week: date, rows: int, shares: int, trades: int, symbols: int
) -> None:
    """Prevents a parser that passes every made-up case and loses real rows."""
    found = parsed(Part(name, finra_dir / name), week=week)
    assert Counter(row["reason_code"] for row in found) == {None: rows}
    assert sum(row["total_shares"] for row in found) == shares
    assert sum(row["total_trades"] for row in found) == trades
    assert len({row["symbol"] for row in found}) == symbols
    assert len({row["mpid"] for row in found}) == 9
    days = {row["source_last_update_date"] for row in found}
    assert parse.week_of_content(min(days), Tier.OTC) == week


@pytest.mark.parametrize(
    ("name", "shares", "trades", "venues"),
    [("week_2025-12-13.psv", 22_053_665, 186_600, 30), ("week_2025-12-20.psv", 29_645_382, 241_090, None)],
)
def test_the_real_simple_files(finra_dir: Path, name: str, shares: int, trades: int, venues: int | None) -> None:
    """Prevents the Saturday in these files from being taken for a week, and the caller's week from being refused."""
    part = Part(name, finra_dir / name)
    week = date(2025, 12, 12)
    assert Counter(reasons(part, week=week, tier=Tier.NMS_TIER_1)) == {"WRONG_WEEK": 100}
    found = parsed(part, week=week, tier=Tier.NMS_TIER_1, explicit=True)
    assert Counter(row["reason_code"] for row in found) == {None: 100}
    assert sum(row["total_shares"] for row in found) == shares
    assert sum(row["total_trades"] for row in found) == trades
    assert venues is None or len({row["mpid"] for row in found}) == venues
