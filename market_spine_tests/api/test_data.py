"""Data over HTTP: the same rows as commands and SQL give, in every form and version, and the same bytes again."""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_spine.api.answers import MEDIA_TYPES, WRITER, Form
from market_spine_tests.api.conftest import text_of
from market_spine_tests.api.server import FRIDAY, Api
from market_spine_tests.cli.calls import Command

RESTATED = {"week_ending": FRIDAY, "tier": "OTC"}
PARTITION = ("--week-ending", FRIDAY, "--tier", "OTC")
ALL = {"limit": 10_000}


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({}, 259),  # the restatement took one symbol with one row away
        ({"first_release": True}, 260),
        ({"as_of": "2025-12-15"}, 260),
        ({"as_of": "2025-12-19T14:59:59Z"}, 260),
        ({"as_of": "2025-12-19T15:00:00Z"}, 259),
        ({"as_of": "2025-12-19T16:00:00+01:00"}, 259),
        ({"as_of": "2025-12-14"}, 0),  # the day before the first capture
        ({"all_revisions": True}, 519),
        ({"limit": 7}, 7),
    ],
)
def test_a_version_is_chosen_whole(api: Api, asked: dict[str, Any], rows: int) -> None:
    """Prevents another answer than `spine query` gives, whose cases these are."""
    assert len(api.rows("otc_raw", params=RESTATED | ALL | asked)) == rows


@pytest.mark.parametrize(
    ("table", "asked", "options"),
    [
        ("symbol_hhi", {}, ()),
        ("otc_venue_share", {}, ()),
        ("otc_raw", {"as_of": "2025-12-15"}, ("--as-of", "2025-12-15")),
        ("symbol_summary", {"first_release": True}, ("--first-release",)),
        ("otc_raw", {"all_revisions": True}, ("--all-revisions",)),
        ("otc_average_trade_size", {}, ()),
        ("otc_symbol_profile", {"as_of": "2025-12-15"}, ("--as-of", "2025-12-15")),
        ("otc_raw_annotated", {}, ()),
        ("trading_calendar", {"tier": []}, ()),
    ],
)
def test_bytes_are_those_of_the_command(
    api: Api, spine: Command, table: str, asked: dict[str, Any], options: tuple[str, ...]
) -> None:
    """Prevents programs from being told something else, or in other digits, than people are."""
    answer = api.get(f"data/{table}", params=RESTATED | asked | {"format": "csv"})
    printed = text_of(spine("query", table, *PARTITION, *options, "--format", "csv"))
    assert answer.text == printed
    assert answer.headers["X-Row-Count"] == str(len(printed.splitlines()) - 1)


def read_as(form: Form, content: bytes) -> list[dict[str, str]]:
    """Rows of any form, with every value as its text."""
    if form is Form.CSV:
        return list(csv.DictReader(io.StringIO(content.decode())))
    whole = pq.read_table(io.BytesIO(content)) if form is Form.PARQUET else pa.ipc.open_stream(content).read_all()
    return [{name: "" if value is None else str(value) for name, value in row.items()} for row in whole.to_pylist()]


COLUMNS = "week_ending,tier,symbol,hhi,venue_count,capture_id"


@pytest.mark.parametrize("form", [Form.CSV, Form.PARQUET, Form.ARROW])
def test_every_form_has_the_same_rows(api: Api, form: Form) -> None:
    """Prevents a program's choice of form from being a choice of data."""
    asked = RESTATED | {"columns": COLUMNS}
    rows = api.rows("symbol_hhi", params=asked | ALL)
    answer = api.get("data/symbol_hhi", params=asked, headers={"Accept": MEDIA_TYPES[form]})
    assert answer.headers["content-type"].partition(";")[0] == MEDIA_TYPES[form]
    told = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    assert read_as(form, answer.content) == told
    assert len(told) > 100


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.JSON),
        ("*/*", Form.JSON),
        ("text/*", Form.CSV),
        ("application/json;q=0.5, text/csv", Form.CSV),
        ("text/csv;q=0, application/vnd.apache.parquet;q=0.1", Form.PARQUET),
        ("text/html, application/vnd.apache.arrow.stream;q=0.9", Form.ARROW),
        ("TEXT/CSV", Form.CSV),
    ],
)
def test_the_form_follows_accept(api: Api, accept: str, form: Form) -> None:
    """Prevents a client that asks for one form from being sent another."""
    answer = api.get("data/weeks", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == form.media_type
    assert answer.headers["vary"] == "Accept, Authorization"


@pytest.mark.parametrize("accept", ["text/html", "image/png;q=1", "text/csv;q=0", "text/csv;q=x"])
def test_an_unknown_form_is_refused(api: Api, accept: str) -> None:
    """Prevents a browser's or a wrong header from being answered with whatever there is."""
    answer = api.get("data/weeks", headers={"Accept": accept})
    assert answer.status_code == 406
    assert "application/vnd.apache.parquet" in answer.json()["next"]


@pytest.mark.parametrize("form", list(Form))
def test_pages_make_the_whole(api: Api, form: Form) -> None:
    """Prevents rows from being lost or doubled between pages, and an end that is not told."""
    whole = api.rows("symbol_hhi", params=RESTATED | ALL)
    symbols, url, pages = list[str](), "data/symbol_hhi", 0
    params: dict[str, Any] | None = RESTATED | {"limit": 60, "format": form.value}
    while url:
        answer = api.get(url, params=params)
        found = answer.json()["rows"] if form is Form.JSON else read_as(form, answer.content)
        symbols += [row["symbol"] for row in found]
        following = answer.links.get("next")
        if form is Form.JSON:
            assert (answer.json()["next"] is None) == (following is None)
        url, params, pages = following["url"] if following else "", None, pages + 1
    assert symbols == [row["symbol"] for row in whole]
    assert pages == -(-len(whole) // 60)


def test_the_version_names_exactly_the_captures(api: Api) -> None:
    """Prevents a version that says less, or more, than which captures the rows rest on."""
    answer = api.get("data/symbol_hhi", params={"week_ending": FRIDAY})
    ids = answer.headers["X-Capture-Ids"].split(",")
    assert len(ids) == int(answer.headers["X-Capture-Count"]) == 3
    version = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:32]
    assert answer.headers["X-Data-Version"] == answer.json()["data_version"] == version
    assert answer.headers["ETag"] == f'W/"{version}-json{WRITER}"'
    assert {row["capture_id"] for row in answer.json()["rows"]} <= set(ids)
    listed = api.get(f"versions/{version}").json()
    assert sorted(one["capture_id"] for one in listed["captures"]) == sorted(ids)


def test_many_captures_are_counted_and_listed_elsewhere(api: Api) -> None:
    """Prevents headers of 28 KB, which proxies refuse."""
    answer = api.get("data/otc_raw", params={"limit": 1})
    count = int(answer.headers["X-Capture-Count"])
    assert count == 18
    assert len(answer.headers["X-Capture-Ids"].split(",")) == count
    answer = api.get("data/symbols", params={"limit": 1})
    assert int(answer.headers["X-Capture-Count"]) == 72
    assert len(answer.headers["X-Capture-Ids"].split(",")) == 50
    version = answer.headers["X-Data-Version"]
    assert len(api.get(f"versions/{version}").json()["captures"]) == 72


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_what_is_unchanged_is_not_sent_again(api: Api, form: str) -> None:
    """Prevents a client that polls from being sent what it has."""
    first = api.get("data/symbol_hhi", params=RESTATED)
    etag = first.headers["ETag"].removeprefix("W/")
    again = api.get("data/symbol_hhi", params=RESTATED, headers={"If-None-Match": form.format(etag)})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["X-Data-Version"] == first.headers["X-Data-Version"]
    other = api.get("data/symbol_hhi", params=RESTATED, headers={"If-None-Match": '"other"'})
    assert other.content == first.content


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("data/otc_raw", RESTATED | {"as_of": "2025-12-15"}),
        ("data/otc_raw", RESTATED | {"symbol": ["SYDPSM"]}),
        ("data/symbol_hhi", {"from": "2025-10-31", "to": FRIDAY, "limit": 10}),
        ("data/weeks", {}),
        ("data/weeks", {"as_of": "2025-12-14"}),  # nothing was known
        ("data/venues", {"format": "parquet"}),
        ("data/symbols", {"format": "arrow", "tier": ["OTC"]}),
    ],
)
def test_a_replay_has_the_same_bytes(api: Api, path: str, params: dict[str, Any]) -> None:
    """Prevents an answer that somebody acted on from being gone."""
    first = api.get(path, params=params)
    replayed = api.get(path, params=params | {"data_version": first.headers["X-Data-Version"]})
    assert replayed.status_code == first.status_code == 200
    assert replayed.content == first.content
    assert replayed.headers["ETag"] == first.headers["ETag"]


@pytest.mark.parametrize(
    ("path", "params", "status", "told"),
    [
        ("data/symbol_hhi", {"data_version": "0" * 32}, 404, "no answer ever had the data version"),
        ("data/symbol_hhi", {"data_version": "latest"}, 422, "data_version"),
        ("data/otc_raw_annotated", {"data_version": "{version}"}, 422, "findings as they are now"),
        ("data/venues", {"data_version": "{version}"}, 422, "that data version is of otc_raw"),
        ("data/otc_raw", {"cursor": "nonsense"}, 422, "that is no cursor"),
        ("data/otc_raw", {"cursor": "w7w="}, 422, "that is no cursor"),
        ("data/otc_raw", {"cursor": "MTIzNDU2Nzg5MDoxMA=="}, 422, "that is no cursor"),
        ("data/otc_raw", {"columns": "symbol,nope"}, 422, "has no column 'nope'; it has"),
        ("data/otc_raw", {"columns": 'symbol"; DROP TABLE x'}, 422, "has no column"),
        ("data/weeks", {"symbol": "AAPL"}, 422, "has no column 'symbol'"),
        ("data/otc_raw", {"week_ending": "2025-11-06"}, 422, "is a Thursday"),
        ("data/otc_raw", {"week_ending": "soon"}, 422, "soon"),
        ("data/otc_raw", {"tier": "Tier 9"}, 422, "Tier 9"),
        ("data/otc_raw", {"from": FRIDAY}, 422, "a range has a first and a last week"),
        ("data/otc_raw", {"from": FRIDAY, "to": "2025-10-31"}, 422, "runs backwards"),
        ("data/otc_raw", {"from": FRIDAY, "to": FRIDAY, "week_ending": FRIDAY}, 422, "a range of weeks are asked for"),
        ("data/otc_raw", {"as_of": "2025-12-15T15:00:00"}, 422, "has no time zone"),
        ("data/otc_raw", {"as_of": "2025-12-15", "first_release": True}, 422, "several versions"),
        ("data/otc_average_trade_size", {"all_revisions": True}, 422, "is a view over the latest captures"),
        ("data/otc_week_quality", {"as_of": "2025-12-15"}, 422, "is a view over the latest captures"),
        ("data/otc_raw", {"limit": 0}, 422, "limit"),
        ("data/otc_raw", {"limit": "many"}, 422, "limit"),
        ("data/otc_raw", {"format": "xml"}, 422, "format"),
        ("data/otc_raw", {"where": "1=1"}, 422, "there is no parameter 'where'"),
        ("data/otc_rwa", {}, 404, "there is no table 'otc_rwa'"),
        ("data/core_manifest", {}, 422, "is a control table"),
        ("data/otc_raw_asof", {}, 422, "takes arguments"),
        ("data/symbols/SYDPSMX/history", {}, 404, "has the symbol 'SYDPSMX'"),
    ],
)
def test_what_cannot_be_meant_is_refused(api: Api, path: str, params: dict[str, Any], status: int, told: str) -> None:
    """Prevents a question from being answered as another one, and a refusal that leads no further."""
    version = api.get("data/otc_raw", params=RESTATED).headers["X-Data-Version"]
    bound = {name: value.format(version=version) if isinstance(value, str) else value for name, value in params.items()}
    answer = api.get(path, params=bound)
    problem = answer.json()
    assert (answer.status_code, problem["status"]) == (status, status), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert told in problem["detail"]
    assert problem["next"]
    assert problem["instance"] == f"/api/v1/{path}"
    assert problem["request_id"] == answer.headers["X-Request-Id"]


def test_a_symbol_through_all_weeks(api: Api) -> None:
    """Prevents a history with gaps, and a misspelling that leads nowhere."""
    rows = api.rows("symbols/SYDPSM/history")
    assert {row["symbol"] for row in rows} == {"SYDPSM"}
    weeks = [row["week_ending"] for row in rows]
    assert weeks == sorted(weeks, reverse=True)
    lost = api.get("data/symbols/SYDPSMX/history").json()
    assert lost["next"].startswith("the nearest symbols: SYDPSM")


def test_as_known_then_a_history_is_another_one(api: Api, spine: Command) -> None:
    """Prevents a derived view from mixing what is known now into what was known then."""
    then = api.rows("symbols", params=RESTATED | ALL | {"as_of": "2025-12-15"})
    now = api.rows("symbols", params=RESTATED | ALL)
    assert [row["revision"] for row in then] == [1] * len(then)
    assert {row["revision"] for row in now} == {2}
    sql = f"SELECT symbol, hhi FROM otc_symbol_hhi_asof('2025-12-15') WHERE week_ending = '{FRIDAY}' AND tier = 'OTC'"
    asked = spine("sql", f"{sql} ORDER BY symbol", "-f", "json").json()
    assert [{"symbol": row["symbol"], "hhi": row["hhi"]} for row in then] == asked


def test_weeks_add_up(api: Api, spine: Command) -> None:
    """Prevents a summary that counts otherwise than the tables do."""
    asked = """SELECT week_ending, tier, count(DISTINCT nullif(symbol, '')) AS symbols, count(DISTINCT mpid) AS venues,
        CAST(sum(total_shares) AS DECIMAL(38,6)) AS total_volume, CAST(sum(total_trades) AS BIGINT) AS total_trades
        FROM otc_venue_volume GROUP BY ALL ORDER BY week_ending DESC, tier"""
    names = "week_ending,tier,symbols,venues,total_volume,total_trades"
    assert api.rows("weeks", params={"columns": names}) == spine("sql", asked, "-f", "json").json()
