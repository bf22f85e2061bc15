"""The stand-in for FINRA's API itself: what FINRA does, so that the tests over it mean something."""

from __future__ import annotations

import json

import httpx
import pytest

from market_spine_tests.sources.finra_server import FinraServer, Row


def ask(
    server: FinraServer, body: Row, name: str = "weeklySummary", accept: str = "application/json"
) -> httpx.Response:
    url = f"{server.url}/data/group/otcMarket/name/{name}"
    return httpx.post(url, json=body, headers={"Accept": accept}, trust_env=False)


def equal(**filters: str) -> list[Row]:
    return [{"fieldName": name, "fieldValue": value, "compareType": "EQUAL"} for name, value in filters.items()]


def test_server_ignores_filters_of_get(server: FinraServer) -> None:
    """Prevents a stand-in that is kinder than FINRA: GET answers the oldest rows of the whole dataset."""
    url = f"{server.url}/data/group/otcMarket/name/weeklySummary"
    wanted = {"compareFilters": json.dumps(equal(weekStartDate="2025-11-10", tierIdentifier="OTCE")), "limit": "1"}
    got = httpx.get(url, params=wanted, headers={"Accept": "application/json"}, trust_env=False)
    assert got.json()[0]["issueSymbolIdentifier"] == "OLDEST"
    assert got.headers["Record-Total"] == "9"


def test_server_answers_csv_unless_json_is_accepted(server: FinraServer) -> None:
    """Prevents a client that gets JSON only because the stand-in always sends it."""
    got = ask(server, {"limit": 1}, accept="*/*")
    assert got.headers["Content-Type"].startswith("text/plain")
    assert got.text.startswith('"issueSymbolIdentifier","issueName"')


@pytest.mark.parametrize(
    ("body", "name", "status", "said"),
    [
        (
            {"sortFields": ["+MPID"], "compareFilters": equal(weekStartDate="2025-11-10")},
            "weeklySummary",
            400,
            "Sorting",
        ),
        ({"offset": 500_001}, "weeklySummary", 400, "offset"),
        ({"offset": 500_000}, "weeklySummary", 204, ""),
        ({"fields": ["weekEnding"]}, "weeklySummary", 400, "weekEnding"),
        (
            {"compareFilters": [{"fieldName": "MPID", "fieldValue": "A", "compareType": "GTE"}]},
            "weeklySummary",
            400,
            "EQUAL",
        ),
        ({"compareFilters": equal(summaryTypeCode="ATS_W_SMBL")}, "weeklySummaryHistoric", 400, "filtered by"),
        ({"sortFields": ["+MPID"]}, "weeklySummaryHistoric", 400, "not sorted"),
        ({"compareFilters": equal(weekStartDate="2001-01-01")}, "weeklySummary", 204, ""),
        ({}, "monthlySummary", 404, "not found"),
    ],
)
def test_server_refuses_as_finra_does(server: FinraServer, body: Row, name: str, status: int, said: str) -> None:
    """Prevents a stand-in that accepts questions which FINRA refuses."""
    got = ask(server, body, name)
    assert (got.status_code, said in got.text) == (status, True)
    assert got.content == b"" or status != 204


def test_server_says_where_a_page_stands(server: FinraServer) -> None:
    """Prevents a stand-in whose headers or caps differ from FINRA's."""
    filters = equal(weekStartDate="2025-11-10", tierIdentifier="OTCE")
    got = ask(server, {"compareFilters": filters, "sortFields": ["-MPID", "-issueSymbolIdentifier"], "offset": 2})
    assert [one["issueSymbolIdentifier"] for one in got.json()] == ["S04", "S03", "S02"]
    assert (got.headers["Record-Total"], got.headers["Record-Offset"], got.headers["Record-Limit"]) == ("7", "2", "3")
