"""Data over HTTP: the same rows as commands and SQL give, in every form and version, and the same bytes again."""

from __future__ import annotations

import csv
import hashlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from market_spine.api.answers import MEDIA_TYPES, WRITER, Answers, Form
from market_spine.domain.serving import Scope
from market_spine_tests.api.conftest import text_of
from market_spine_tests.api.server import FRIDAY, Api
from market_spine_tests.cli.calls import Command, call

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
        ("application/json;q=0, */*", Form.CSV),
        ("application/*;q=0.9, application/vnd.apache.parquet", Form.PARQUET),
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
    api.desk.answers, old = Answers(), api.desk.answers  # nothing is kept: it is made again
    old.close()
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
        ("data/otc_raw", {"columns": "symbol,tier,symbol"}, 422, "the column symbol is asked for twice"),
        ("data/otc_raw", {"from": "1990-01-05", "to": "2090-01-06"}, 422, "has more than 1000 weeks"),
        ("data/otc_raw", {"week_ending": "0001-01-01"}, 422, "0001-01-01"),
        ("data/otc_raw", {"as_of": "0001-01-01T00:00:00+23:59"}, 422, "all that a calendar has"),
        ("data/otc_raw", {"as_of": "9999-12-31T23:59:59-23:59"}, 422, "all that a calendar has"),
        ("data/otc_raw", {"limit": 20_000}, 422, "an answer as json has 10,000 rows at most"),
        ("data/otc_raw", {"data_version": "{version}", "week_ending": "2025-11-14"}, 422, f"is of {FRIDAY} OTC too"),
        ("data/otc_raw", {"data_version": "{version}", "tier": "T1"}, 422, f"is of {FRIDAY} OTC too"),
        ("data/otc_raw", {"data_version": "{version}", "as_of": "2025-12-15"}, 422, "has a capture of 2025-12-19"),
        ("data/otc_raw", {"ready_for": "lunch"}, 422, "there is no use case 'lunch'"),
        ("data/otc_raw", {"ready_for": "trading", "as_of": "2025-12-15"}, 422, "are about the latest captures"),
        ("data/symbol_hhi_ready", {}, 422, "otc_symbol_hhi_ready takes arguments"),
        ("data/symbols/SYDPSM/history", {"symbol": "SYHVCL"}, 422, "the symbol is in the path already"),
        ("readiness/otc/2025-11-14", {"readyfor": "research"}, 422, "there is no parameter 'readyfor' here"),
        ("doctor/otc", {"week": 4}, 422, "there is no parameter 'week' here; there are: weeks"),
        ("catalog", {"zzz": 1}, 422, "there is no parameter 'zzz' here; there are: none"),
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


@pytest.mark.parametrize("precondition", ["*", '"x"'])
@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("otc_raw", {"columns": "nope"}, 422),
        ("weeks", {"symbol": "AAPL"}, 422),
        ("symbols/NOSUCH/history", {}, 404),
    ],
)
def test_a_question_is_looked_at_before_its_precondition(
    api: Api, path: str, params: dict[str, Any], status: int, precondition: str
) -> None:
    """Prevents a question that has no answer from being told that its answer is unchanged."""
    assert api.get(f"data/{path}", params=params, headers={"If-None-Match": precondition}).status_code == status


def test_a_copy_is_of_one_form(api: Api) -> None:
    """Prevents a cache from taking a page of JSON for the sheet that was asked for."""
    etag = api.get("data/weeks").headers["ETag"]
    answer = api.get("data/weeks", headers={"If-None-Match": etag, "Accept": "text/csv"})
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/csv")


@pytest.mark.parametrize("other", [{"tier": "T1"}, {"symbol": "SYDPSM"}, {"columns": "symbol"}, {"mpid": "OTCN"}])
def test_a_cursor_is_of_one_question(api: Api, other: dict[str, str]) -> None:
    """Prevents rows from being skipped where a later page is asked for with other filters."""
    cursor = api.get("data/otc_venue_volume", params={"limit": 5}).json()["next"]
    refused = api.get("data/otc_venue_volume", params={"limit": 5, "cursor": cursor} | other)
    assert refused.status_code == 422
    assert refused.json()["detail"].startswith(("that cursor is not of this question", "that data version is of"))


def test_pages_go_on_whatever_comes_meanwhile(changed: Api) -> None:
    """Prevents a restatement between two pages from doubling or losing rows; and a reader from breaking the pages of
    another one."""
    first = changed.get("data/symbol_hhi", params=RESTATED | {"limit": 60})
    notes = changed.get("data/otc_raw_annotated", params=RESTATED | {"limit": 60})
    assert changed.get("uses", Scope.ADMIN).status_code == 200  # commits who read until now
    again = changed.get("data/otc_raw_annotated", params=RESTATED | {"limit": 60, "cursor": notes.json()["next"]})
    assert again.status_code == 200, again.text
    home = str(changed.desk.store.home.root)
    load = ("run", "otc.ingest_week", "-w", FRIDAY, "--tier", "OTC", "--force")
    assert call("--home", home, *load).code == 0
    assert call("--home", home, "recompute", "--yes").code == 0
    later = changed.get("data/symbol_hhi", params=RESTATED | {"limit": 60, "cursor": first.json()["next"]})
    assert later.headers["X-Capture-Ids"] == first.headers["X-Capture-Ids"]
    now = changed.get("data/symbol_hhi", params=RESTATED | {"limit": 60})
    assert now.headers["X-Capture-Ids"] != first.headers["X-Capture-Ids"]


def test_what_is_missing_is_named(api: Api) -> None:
    """Prevents a week that is not whole from looking like one that is."""
    asked = {"week_ending": ["2025-11-14", "2026-11-13"], "as_of": "2025-12-15"}
    answer = api.get("data/symbol_hhi", params=asked)
    there = {(row["week_ending"], row["tier"]) for row in answer.json()["rows"]}
    every = {(week, tier) for week in asked["week_ending"] for tier in ("NMS_TIER_1", "NMS_TIER_2", "OTC")}
    missing = [f"{week} {tier}" for week, tier in sorted(every - there)]
    assert answer.json()["missing"] == answer.headers["X-Missing"].split(", ") == missing
    assert {"2026-11-13 OTC"} < set(missing) < {f"{week} {tier}" for week, tier in every}
    whole = api.get("data/symbol_hhi", params={"week_ending": FRIDAY})
    assert (whole.json()["missing"], "X-Missing" in whole.headers) == ([], False)


def test_only_what_is_certified(changed: Api) -> None:
    """Prevents a program from trading on rows that no certificate in force is about."""
    home, counts = str(changed.desk.store.home.root), []
    for _ in range(2):
        for use in ("trading", "research"):
            rows = changed.rows("symbol_hhi", params={"ready_for": use, "columns": "week_ending,tier,symbol,hhi"} | ALL)
            asked = f"SELECT week_ending, tier, symbol, hhi FROM otc_symbol_hhi_ready('{use}')"
            by_sql = call("--home", home, "sql", f"{asked} ORDER BY week_ending DESC, tier, symbol", "-f", "json")
            assert rows == by_sql.json()
            counts.append(len(rows))
        assert call("--home", home, "readiness", "otc").code == 0  # judges all weeks, long after they settled
    before, after = counts[:2], counts[2:]
    assert before < after
    newest = {"ready_for": "trading", "week_ending": "2026-11-13"}
    assert changed.get("data/symbol_hhi", params=newest).headers["X-Missing"].startswith("2026-11-13 NMS_TIER_1")


def test_findings_rest_on_what_was_delivered(api: Api) -> None:
    """Prevents a grade that somebody acted on from naming no capture."""
    answer = api.get("data/otc_week_quality", params=RESTATED)
    (raw,) = api.get("captures", params={"table": "raw", "week_ending": FRIDAY, "tier": "OTC"}).json()["items"]
    assert answer.headers["X-Capture-Ids"] == raw["capture_id"]
