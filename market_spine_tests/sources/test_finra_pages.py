"""Paging and the four kinds of empty over loopback: each trap of the API drives the real source."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_spine.domain.errors import SourceError
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC
from market_spine.sources.delivery import EmptyKind
from market_spine.sources.finra_api import FinraApiSource
from market_spine.sources.finra_http import RateBudget
from market_spine_tests.sources.finra_cases import (
    HERE,
    KEY,
    NOW,
    ROWS,
    WEEK,
    Make,
    delivered,
    empty,
    symbols,
)
from market_spine_tests.sources.finra_server import HTML, TRUTH, WEB_PAGE, FinraServer, Reply, Row, row


def test_pages_are_read_to_record_total(server: FinraServer, make: Make) -> None:
    """Prevents stopping at the first page that is shorter than the limit: the server's own caps are not ours."""
    assert symbols(delivered(make(server).fetch(OTC, KEY, NOW))) == [f"S{n:02}" for n in range(7)]
    assert [seen.body["offset"] for seen in server.data_requests()] == [0, 3, 6]


def test_a_page_ends_at_its_bytes_too(make: Make) -> None:
    """Prevents offsets that step by the limit instead of by the rows that came (a 3 MB page holds fewer)."""
    lengths = (10, 900, 10, 10, 900)
    rows = [row(f"S{n}", "UBSA", 1, 1, issueName="n" * length) for n, length in enumerate(lengths)]
    with FinraServer({(WEEK, Tier.OTC): rows}, page_bytes=1_000) as server:
        assert symbols(delivered(make(server).fetch(OTC, KEY, NOW))) == ["S0", "S1", "S2", "S3", "S4"]
        offsets = [seen.body["offset"] for seen in server.data_requests()]
    assert len(offsets) > 2
    assert len({after - before for before, after in pairwise(offsets)}) > 1


@settings(max_examples=15, deadline=None)
@given(count=st.integers(1, 40), page_rows=st.integers(1, 15), page_bytes=st.integers(1, 5_000))
def test_law_every_row_once_whatever_the_caps(count: int, page_rows: int, page_bytes: int) -> None:
    """Prevents a row that is lost or repeated at a page boundary."""
    rows = [row(f"S{n:02}", "OTCN", n, n) for n in range(count)]
    budget = RateBudget(per_second=1e6)
    with (
        FinraServer({(WEEK, Tier.OTC): rows}, page_rows=page_rows, page_bytes=page_bytes) as server,
        FinraApiSource(server.url, transport=httpx.HTTPTransport(), budget=budget) as source,
    ):
        assert symbols(delivered(source.fetch(OTC, KEY, NOW))) == [f"S{n:02}" for n in range(count)]


@pytest.mark.parametrize(
    ("replies", "pages"),
    [
        pytest.param([TRUTH, TRUTH, TRUTH, Reply(status=204, body=b"")], 3, id="204 before the total"),
        pytest.param([TRUTH, Reply(rows=[], status=200, body=b"[]", headers={"Record-Total": "9"})], 1, id="empty"),
        pytest.param([Reply(status=200, body=b"[]", headers={"Record-Total": "9"})], 0, id="empty from the start"),
        pytest.param([TRUTH, Reply(rows=[HERE | ROWS[n] for n in range(3)])], 1, id="the same page again"),
    ],
)
def test_a_page_that_adds_nothing_is_truncation(
    server: FinraServer, make: Make, replies: list[Reply], pages: int
) -> None:
    """Prevents an endless loop, and a part of a week that is captured as the whole."""
    server.always = Reply(total=9)
    json_type = {"Content-Type": "application/json"}
    server.answer_next(*(replace(one, total=9, headers=json_type | dict(one.headers)) for one in replies))
    found = empty(make(server).fetch(OTC, KEY, NOW), EmptyKind.TRUNCATED)
    assert "of 9 rows came" in found.reason
    assert len(server.data_requests()) == pages + 1


def test_a_total_that_changes_once_starts_again(server: FinraServer, make: Make) -> None:
    """Prevents a capture whose pages come from two states of the partition."""
    server.answer_next(Reply(total=8), Reply(total=7))
    delivery = delivered(make(server).fetch(OTC, KEY, NOW))
    assert symbols(delivery) == [f"S{n:02}" for n in range(7)]
    assert [seen.body["offset"] for seen in server.data_requests()] == [0, 3, 0, 3, 6]


def test_a_total_that_keeps_changing_is_truncation(server: FinraServer, make: Make) -> None:
    """Prevents starting again for ever while FINRA publishes."""
    server.answer_next(*(Reply(total=total) for total in (8, 7, 9, 8)))
    found = empty(make(server).fetch(OTC, KEY, NOW), EmptyKind.TRUNCATED)
    assert "changed from 9 to 8" in found.reason
    assert len(server.data_requests()) == 4


def test_more_rows_than_announced_is_truncation(server: FinraServer, make: Make) -> None:
    """Prevents trusting a total that the rows contradict."""
    server.always = Reply(total=5)
    found = empty(make(server).fetch(OTC, KEY, NOW), EmptyKind.TRUNCATED)
    assert "6 rows came, but Record-Total is 5" in found.reason


@pytest.mark.parametrize("reply", [Reply(without=frozenset({"Record-Total"})), Reply(headers={"Record-Total": "many"})])
def test_without_a_total_completeness_is_unknown(server: FinraServer, make: Make, reply: Reply) -> None:
    """Prevents one page that passes for a week because a proxy removed the header."""
    server.answer_next(reply)
    with pytest.raises(SourceError, match="completeness cannot be known"):
        make(server).fetch(OTC, KEY, NOW)


def test_a_partition_beyond_the_last_offset_is_refused_at_once(server: FinraServer, make: Make) -> None:
    """Prevents 100 requests before the 400 that offsets beyond 500,000 get."""
    server.answer_next(Reply(total=505_001))
    with pytest.raises(SourceError, match="505,001 rows"):
        make(server).fetch(OTC, KEY, NOW)
    assert len(server.data_requests()) == 1


def test_the_number_of_pages_is_bounded(make: Make) -> None:
    """Prevents a server of one-row pages that keeps a process busy for hours: 120 pages, then an error."""
    rows = [row(f"S{n:03}", "OTCN", n, n) for n in range(121)]
    with FinraServer({(WEEK, Tier.OTC): rows}, page_rows=1) as server:
        with pytest.raises(SourceError, match="more than 120 pages"):
            make(server).fetch(OTC, KEY, NOW)
        assert len(server.data_requests()) == 120


@pytest.mark.parametrize(
    ("now", "kind"),
    [
        (datetime(2025, 12, 15, 10, 59, 59, tzinfo=UTC), EmptyKind.NOT_DUE),
        (datetime(2025, 12, 15, 11, 0, tzinfo=UTC), EmptyKind.NO_ROWS),  # 06:00 New York, standard time
    ],
)
def test_204_is_not_due_or_no_rows(make: Make, now: datetime, kind: EmptyKind) -> None:
    """Prevents an alarm for a week that FINRA has not published, and silence for one that it should have."""
    with FinraServer() as server:
        found = empty(make(server).fetch(OTC, KEY, now), kind)
    assert "2025-12-15 11:00 UTC" in found.reason


def test_an_empty_list_is_no_rows(server: FinraServer, make: Make) -> None:
    """Prevents a delivery without rows, should FINRA ever answer [] where it answers 204 today."""
    server.answer_next(Reply(status=200, body=b"[]", total=0))
    empty(make(server).fetch(OTC, KEY, NOW), EmptyKind.NO_ROWS)


JSON_TYPE, TEXT_TYPE = {"Content-Type": "application/json"}, {"Content-Type": "text/plain"}


@pytest.mark.parametrize(
    ("reply", "as_csv", "said"),
    [
        pytest.param(WEB_PAGE, False, "text/html", id="a web page"),
        pytest.param(Reply(body=HTML, headers=JSON_TYPE), False, "<!DOCTYPE", id="a web page that says JSON"),
        pytest.param(Reply(headers={"Content-Type": "text/html"}), False, "text/html", id="JSON that says web page"),
        pytest.param(Reply(without=frozenset({"Content-Type"})), False, "no content type", id="no content type"),
        pytest.param(Reply(body=b'"a","b"\n', headers=TEXT_TYPE), False, "text/plain", id="CSV instead of JSON"),
        pytest.param(Reply(body=b""), False, "beginning b''", id="nothing with status 200"),
        pytest.param(Reply(body=b'{"message":"ok"}'), False, "message", id="an object"),
        pytest.param(Reply(body=b"\xef\xbb\xbf[]"), False, "xef", id="a byte order mark"),
        pytest.param(Reply(body=b'[{"a":1}'), False, "not valid", id="JSON that ends early"),
        pytest.param(Reply(body=b'[{"a":"\xff"}]'), False, "not valid", id="not UTF-8"),
        pytest.param(Reply(body=b"[" * 100_000), False, "not valid", id="JSON too deep"),
        pytest.param(Reply(body=b"[1, 2]"), False, "other than rows", id="an array of numbers"),
        pytest.param(Reply(body=HTML, headers=TEXT_TYPE), True, "<!DOCTYPE", id="a web page that says text"),
        pytest.param(Reply(body=b"<p>weekStartDate</p>", headers=TEXT_TYPE), True, "<p>", id="one line of HTML"),
        pytest.param(Reply(body=b"weekStartDate\n" + b"x" * 200_000), True, "not valid", id="an endless CSV field"),
        pytest.param(Reply(headers=JSON_TYPE), True, "application/json", id="CSV that says JSON"),
    ],
)
def test_wrong_content_with_status_200(server: FinraServer, make: Make, reply: Reply, as_csv: bool, said: str) -> None:
    """Prevents a login page that is landed as data: status 200 says nothing."""
    server.answer_next(reply)
    found = empty(make(server, as_csv=as_csv).fetch(OTC, KEY, NOW), EmptyKind.WRONG_CONTENT)
    assert said in found.reason
    assert len(server.data_requests()) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weekStartDate": "2025-11-03"}, "1 rows of 2025-11-03, OTCE, ATS_W_SMBL_FIRM"),
        ({"tierIdentifier": "T1"}, "1 rows of 2025-11-10, T1, ATS_W_SMBL_FIRM"),
        ({"tierIdentifier": "T9"}, "1 rows of 2025-11-10, T9, ATS_W_SMBL_FIRM"),
        ({"tierIdentifier": None}, "1 rows of 2025-11-10, None, ATS_W_SMBL_FIRM"),
        ({"summaryTypeCode": "ATS_W_SMBL"}, "1 rows of 2025-11-10, OTCE, ATS_W_SMBL"),
    ],
)
@pytest.mark.parametrize("as_csv", [False, True])
def test_one_row_of_another_partition_spoils_the_page(
    server: FinraServer, make: Make, change: Row, said: str, as_csv: bool
) -> None:
    """Prevents rows of another week, tier or kind (aggregates double the volume) that a filter let through."""
    server.answer_next(Reply(rows=[HERE | ROWS[0], HERE | ROWS[1] | change], total=7))
    found = empty(make(server, as_csv=as_csv).fetch(OTC, KEY, NOW), EmptyKind.WRONG_CONTENT)
    assert said.replace("None", "" if as_csv else "None") in found.reason
    assert "weekStartDate 2025-11-10, tier OTCE" in found.reason


def test_filters_that_are_ignored_are_found_out(server: FinraServer, make: Make) -> None:
    """Prevents the oldest partition, which FINRA answers to an unfiltered question, under the name of ours."""
    oldest = server.datasets["weeklysummary"]
    server.answer_next(Reply(rows=oldest, total=18_000_000))
    found = empty(make(server).fetch(OTC, KEY, NOW), EmptyKind.WRONG_CONTENT)
    assert "2024-12-30, T1" in found.reason


def test_the_tier_may_be_spelled_as_in_the_metadata(server: FinraServer, make: Make) -> None:
    """Prevents refusing OTC, the metadata's spelling of what the filter calls OTCE."""
    server.always = Reply(rows=[HERE | ROWS[0] | {"tierIdentifier": "OTC"}], total=1)
    assert symbols(delivered(make(server).fetch(OTC, KEY, NOW))) == ["S00"]
