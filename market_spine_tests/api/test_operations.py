"""Readiness, findings, work and the catalog over HTTP: what commands and SQL say, and a status that tells a program."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine

from market_spine.settings import clock
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store.journal import Entry
from market_spine.store.ledger import seal
from market_spine_tests.api import doors
from market_spine_tests.api.server import FRIDAY, Api, serving
from market_spine_tests.cli.calls import Command, call
from market_spine_tests.journeys.stage import OTC, T1, T2, Clock, key, staged

WEEK = "2025-11-14"
PUBLISHED = datetime(2025, 12, 15, 16, tzinfo=UTC)
RECIPE = "seed=7,scale=0.02,revision_hours=240,fault=restatement:OTC:2025-11-14:3"
KEYS = {tier: key(WEEK, tier) for tier in (T1, T2, OTC)}


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, datetime]]:
    """One week at the points of its way: its home, and when it is looked at. For copying only."""
    folder, found = tmp_path_factory.mktemp("states"), {}
    with staged(folder / "home", SyntheticSource.from_spec(RECIPE), Clock(PUBLISHED)) as scene:

        def point(name: str, later: timedelta = timedelta()) -> None:
            scene.spine.store.control.dispose()
            home = shutil.copytree(scene.spine.store.home.root, folder / name)
            found[name] = (Path(home), scene.clock() + later)

        scene.run("otc.weekly_refresh", KEYS[T1], KEYS[T2])
        point("MISSING")
        scene.run("otc.ingest_week", KEYS[OTC])
        point("BLOCKED")
        scene.refresh(*KEYS.values())
        point("PRELIMINARY")
        point("CERTIFIED", timedelta(hours=49))
        scene.clock.forward(days=11)
        scene.run("otc.ingest_week", KEYS[OTC])
        point("RESTATED")
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("api-states")
@pytest.mark.parametrize("point", ["MISSING", "BLOCKED", "PRELIMINARY", "CERTIFIED", "RESTATED"])
def test_readiness_is_one_answer_through_three_doors(
    weeks: dict[str, tuple[Path, datetime]], point: str, tmp_path: Path
) -> None:
    """Prevents a program from trading on a week of which a person is told that it is not ready."""
    source, now = weeks[point]
    home = Path(shutil.copytree(source, tmp_path / "home"))
    verdicts = doors.readiness(home, now, WEEK)
    if point in ("MISSING", "BLOCKED", "PRELIMINARY", "CERTIFIED"):
        assert verdicts["trading"]["state"] == point


@pytest.mark.slow
@pytest.mark.xdist_group("api-states")
def test_readiness_is_judged_as_it_stands(weeks: dict[str, tuple[Path, datetime]], tmp_path: Path) -> None:
    """Prevents a program from waiting for ever where nobody judges, and from being told of a certificate that nobody
    issued."""
    source, now = weeks["CERTIFIED"]  # nobody has judged since the preliminary period ended
    home = Path(shutil.copytree(source, tmp_path / "home"))
    with serving(home, lambda: now) as api:
        waiting = api.get(f"readiness/otc/{WEEK}")
        assert (waiting.status_code, waiting.json()["type"]) == (503, "urn:market-spine:problem:not-ready")
        assert [one["code"] for one in waiting.json()["blocking_issues"]] == ["NOT_JUDGED"]
        assert waiting.json()["next"].startswith(f"spine readiness finra.otc_transparency --week {WEEK}")
        with time_machine.travel(now):
            assert doors.commands(home)("readiness", "otc", "-w", WEEK).code == 0
        certified = api.get(f"readiness/otc/{WEEK}")
        assert (certified.status_code, certified.json()["state"]) == (200, "CERTIFIED")
        _supersede(api, "otc_symbol_hhi")
        changed = api.get(f"readiness/otc/{WEEK}").json()
        assert (changed["is_ready"], changed["certificate_id"], changed["all_stages_complete"]) == (False, None, False)


def _supersede(api: Api, table: str) -> None:
    """As a transaction does that takes captures away and puts none in their place."""
    of_week = "SELECT capture_id FROM core_manifest WHERE is_current = 1 AND table_name = ? AND week_ending = ?"
    with api.desk.store.control.write() as connection:
        ids = [*connection.exec_driver_sql(of_week, (table, WEEK)).scalars()]
        seal(connection, api.desk.store.home, api.desk.run(), table, Entry(0, "taken-away", {}, ids))


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("readiness/otc/2024-01-05", 404, "nothing of the week 2024-01-05 was ever captured"),
        ("readiness/otc/2025-11-13", 422, "is a Thursday"),
        ("readiness/equities/2025-11-14", 422, "there is no feed 'equities'"),
        ("readiness/otc/2025-11-14?ready_for=lunch", 422, "there is no use case 'lunch'"),
        ("anomalies/999999", 404, "there is no anomaly 999999"),
        ("anomalies/0", 422, "number"),
        ("anomalies?severity=GRAVE", 422, "severity"),
        ("captures/nope", 404, "there is no capture 'nope'"),
        ("captures?table=nope", 404, "there is no table 'nope'"),
        ("certificates/" + "0" * 64, 404, "there is no certificate"),
        ("catalog/nope", 404, "there is no table 'nope'"),
        ("lineage/otc_raw.nope", 404, "has no column 'nope'"),
        ("lineage/otc_raw?tier=OTC", 422, "a tier says little without its week"),
        ("work/999999", 404, "there is no work item 999999"),
        ("work?state=BUSY", 422, "state"),
        ("doctor/otc?weeks=0", 422, "weeks"),
    ],
)
def test_what_is_not_there(api: Api, path: str, status: int, told: str) -> None:
    """Prevents a program from taking what is not there for something else, and a person from not being told."""
    answer = api.get(path)
    assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text


def test_lists_are_those_of_the_commands(api: Api, spine: Command) -> None:
    """Prevents two doors from having two lists."""
    doors.lists(api.desk.store.home.root, clock())
    captures = [one["capture_id"] for one in spine("captures", "list", "raw", "-f", "json").json()]
    pages = [
        api.get("captures", params={"table": "raw", "limit": 7, "offset": at}).json()["items"] for at in (0, 7, 14)
    ]
    assert [one["capture_id"] for page in pages for one in page] == captures


def test_one_capture_and_its_restatement(api: Api, spine: Command) -> None:
    """Prevents a lineage that ends half-way, and an impact that a person is told otherwise."""
    (raw,) = api.get("captures", params={"table": "raw", "week_ending": FRIDAY, "tier": "OTC"}).json()["items"]
    whole = api.get(f"captures/{raw['capture_id']}").json()
    assert (whole["made_from"], len(whole["file_sha256"])) == ([], 64)
    (summary,) = api.get("captures", params={"table": "symbol_summary", "week_ending": FRIDAY, "tier": "OTC"}).json()[
        "items"
    ]
    (volume,) = api.get(f"captures/{summary['capture_id']}").json()["made_from"]
    assert raw["capture_id"] in api.get(f"captures/{volume}").json()["made_from"]
    impact = api.get(f"captures/{raw['capture_id']}/impact").json()
    told = spine("captures", "impact", "otc_raw", "-w", FRIDAY, "-t", "OTC", "-f", "json").json()
    assert impact["message"] == next(one["note"] for one in told if one["kind"] == "capture")
    assert impact["rows"] == {one["change"]: one["amount"] for one in told if one["kind"] == "rows"}
    refused = api.get(f"captures/{summary['capture_id']}/impact")
    assert (refused.status_code, "only that is restated" in refused.json()["detail"]) == (422, True)
    assert api.get(f"captures/{impact['before']}/impact").status_code == 404  # the first one restates nothing


def test_the_catalog_describes_what_can_be_read(api: Api) -> None:
    """Prevents a name of the catalog that cannot be read, and a column that the rows do not have."""
    entries = api.get("catalog").json()["items"]
    names = [one["name"] for one in entries if one["kind"] in ("table", "view")]
    for name in names:
        described = api.get(f"catalog/{name}").json()
        answer = api.get(f"data/{name}", params={"limit": 1, "format": "csv"})
        assert answer.status_code == 200, answer.text
        held = answer.text.splitlines()[0].split(",")
        columns = [one["name"] for one in described["columns"]]
        assert len(columns) >= 3
        assert held[: len(columns)] == columns, name
    hhi = api.get("catalog/symbol_hhi").json()
    (column,) = [one for one in hhi["columns"] if one["name"] == "hhi"]
    assert column["sources"] == ["otc_symbol_venue_share.total_shares"]
    assert "0..1" in column["description"]


def test_work_goes_its_way(changed: Api) -> None:
    """Prevents the API from asking for work in another way than the command does, or twice."""
    body = {"pipeline": "otc.weekly_refresh", "week_ending": "2025-10-10", "tiers": ["OTC"]}
    made = changed.post("work/enqueue", body)
    assert made.status_code == 201
    (item,) = made.json()["added"]
    assert (item["state"], item["priority"], item["tier"], item["attempt_count"]) == ("PENDING", 100, "OTC", 0)
    again = changed.post("work/enqueue", body)
    assert (again.status_code, again.json()["held"][0]["id"]) == (409, item["id"])
    assert again.headers["content-type"] == "application/problem+json"
    for path in ("work", "work/pending", "work?state=PENDING", "work?week_ending=2025-10-10&tier=OTC"):
        assert [one["id"] for one in changed.get(path).json()["items"]] == [item["id"]], path
    listed = call("--home", str(changed.desk.store.home.root), "work", "list", "-f", "json").json()
    assert [row["requested_by"] for row in listed] == [item["requested_by"]]
    refused = changed.post("work/retry", {"ids": [item["id"]]})
    assert (refused.status_code, "cannot become PENDING" in refused.json()["detail"]) == (409, True)
    ended = changed.post("work/cancel", {"ids": [item["id"]]})
    assert [one["state"] for one in ended.json()["items"]] == ["CANCELLED"]
    history = changed.get(f"work/{item['id']}").json()["history"]
    assert [(one["from_state"], one["to_state"]) for one in history] == [(None, "PENDING"), ("PENDING", "CANCELLED")]
    assert changed.get("work").json()["items"] == []
    assert len(changed.get("work?with_done=true").json()["items"]) == 1
    assert changed.post("work/enqueue", body).json()["added"][0]["generation"] == 2
    ranged = {"pipeline": "otc.weekly_refresh", "from": "2025-09-05", "to": "2025-09-12"}
    assert {one["priority"] for one in changed.post("work/enqueue", ranged).json()["added"]} == {25}


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("work/enqueue", {"pipeline": "otc.nope", "week_ending": WEEK}, 422, "otc.nope"),
        ("work/enqueue", {"pipeline": "otc.weekly_refresh"}, 422, "no week is named"),
        ("work/enqueue", {"pipeline": "otc.weekly_refresh", "week_ending": "2025-11-13"}, 422, "Thursday"),
        (
            "work/enqueue",
            {"pipeline": "otc.weekly_refresh", "week_ending": WEEK, "revision_policy": "x"},
            422,
            "policy",
        ),
        ("work/enqueue", {"pipeline": "otc/tier_split", "week_ending": WEEK}, 422, "week by week and tier by tier"),
        ("work/enqueue", {"pipeline": "otc.weekly_refresh", "sql": "1"}, 422, "sql"),
        ("work/retry", {"ids": []}, 422, "ids"),
        ("work/retry", {"ids": [99]}, 404, "there is no work item 99"),
        ("work/cancel", {"ids": [99]}, 404, "there is no work item 99"),
        ("anomalies/99/resolve", {"note": "x"}, 404, "there is no anomaly 99"),
        ("anomalies/1/resolve", {"note": ""}, 422, "note"),
        ("anomalies/1/resolve", {"note": "   "}, 422, "without a reason"),
    ],
)
def test_what_is_not_asked_for_well(api: Api, path: str, body: Any, status: int, told: str) -> None:
    """Prevents work that nobody meant."""
    answer = api.post(path, body)
    assert (answer.status_code, told in answer.json()["detail"]) == (status, True), answer.text


def test_an_anomaly_is_closed_once(changed: Api) -> None:
    """Prevents a note from being lost, and a second one from taking its place."""
    opened = changed.get("anomalies", params={"severity": "INFO"}).json()["items"]
    number = opened[0]["id"]
    first = changed.get(f"anomalies/{number}").json()
    assert first["steps"]
    closed = changed.post(f"anomalies/{number}/resolve", {"note": "FINRA confirmed it"})
    assert (closed.status_code, closed.json()["resolution_note"]) == (200, "FINRA confirmed it")
    again = changed.post(f"anomalies/{number}/resolve", {"note": "again"})
    assert (again.status_code, "was resolved at" in again.json()["detail"]) == (409, True)
    assert closed.json()["history"][-1]["actor"] == closed.json()["resolved_by"]
    assert number not in [one["id"] for one in changed.get("anomalies?severity=INFO").json()["items"]]


def test_metrics_have_the_store_and_the_server(api: Api) -> None:
    """Prevents the server from being watched less than the store."""
    assert api.get("data/otc_raw", params={"limit": 1}).status_code == 200
    answer = api.get("/metrics")
    assert answer.status_code == 200
    assert 'market_spine_api_requests_total{endpoint="data.table",method="GET",status="200"}' in answer.text
    assert "market_spine_build_info" in answer.text
    guessed = api.get("data/otc_raw/../../../etc/passwd")
    assert guessed.status_code in (404, 422)
    assert "passwd" not in api.get("/metrics").text


def test_health(changed: Api) -> None:
    """Prevents a supervisor from keeping a server that cannot answer, or ending one that can."""
    assert changed.ask("GET", "health/ready", None).json() == {"status": "ready"}
    database = changed.desk.store.control.files[0]
    aside = database.with_name("aside.db")
    database.rename(aside)
    lost = changed.ask("GET", "health/ready", None)
    assert (lost.status_code, lost.headers["content-type"]) == (503, "application/problem+json")
    assert lost.headers["Retry-After"]
    assert str(database.parent) not in lost.text  # it is open to everybody
    assert changed.ask("GET", "health/live", None).status_code == 200
    for path in changed.desk.store.control.files:
        path.unlink(missing_ok=True)
    aside.rename(database)
