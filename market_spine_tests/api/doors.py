"""The three doors to a store, command line, API and SQL, asked the same: each function fails where two of them differ.

What belongs here: asking and comparing. What does not: which stores, and what they should hold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import time_machine

from market_spine_tests.api.server import Api, serving
from market_spine_tests.cli.calls import Answer, Command, call

USES = ("trading", "compliance", "research")
MOVING = {"batches", "committed_at"}  # of what the doctor tells: the number and moment of the newest transaction


def commands(home: Path) -> Command:
    """Commands over the store of ``home``."""
    return lambda *args, **env: call(*args, MARKET_SPINE_HOME=str(home), **env)  # no --home in what helps


def readiness(home: Path, now: datetime, week: str) -> Mapping[str, Mapping[str, Any]]:
    """The verdict on ``week`` by use, judged at ``now``, as all three doors tell it."""
    spine = commands(home)
    with time_machine.travel(now, tick=False):
        told = {use: spine("readiness", "otc", "-w", week, "--ready-for", use, "-f", "json") for use in USES}
        asked = f"FROM core_data_readiness WHERE week_ending = '{week}'"
        by_sql = {row["ready_for"]: row for row in spine("sql", asked, "-f", "json").json()}
    with serving(home, lambda: now) as api:
        listed = {
            one["ready_for"]: one for one in api.get("readiness/otc").json()["items"] if one["week_ending"] == week
        }
        for use in USES:
            _verdict(api, week, use, told[use], by_sql[use], listed[use])
    return {use: told[use].json()[0] for use in USES}


def _verdict(api: Api, week: str, use: str, told: Answer, by_sql: Mapping[str, Any], listed: Mapping[str, Any]) -> None:
    answer = api.get(f"readiness/finra.otc_transparency/{week}", params={"ready_for": use})
    body, (row,), is_ready = answer.json(), told.json(), told.code == 0
    assert (answer.status_code, body["is_ready"]) == (200 if is_ready else 503, is_ready), answer.text
    assert body["state"] == row["state"] == by_sql["state"] == listed["state"]
    assert listed["is_ready"] is is_ready
    assert body["blocking_issues"] == json.loads(row["blocking_issues"]) == json.loads(by_sql["blocking_issues"])
    assert body["certificate_id"] == row["certificate_id"] == by_sql["certificate_id"]
    if is_ready:
        certificate = api.get(body["certificate"]).json()
        assert (certificate["is_in_force"], certificate["ready_for"]) == (True, use)
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert 60 <= int(answer.headers["Retry-After"]) <= 3600
        assert body["blocking_issues"][0]["message"] in body["detail"]
        assert body["next"] == body["blocking_issues"][0]["remedy"]


def lists(home: Path, now: datetime) -> None:
    """Anomalies, captures, certificates, work, and what the doctor says at ``now``."""
    spine = commands(home)
    with serving(home, lambda: now) as api:
        with time_machine.travel(now):
            said = spine("doctor", "otc", "-f", "json").json()
        told = api.get("doctor/otc").json()
        # Another server over the same home may have made rows of uses in between, which is a transaction.
        assert {name: told[name] for name in told.keys() - MOVING} == {
            name: said[name] for name in said.keys() - MOVING
        }
        _lists(api, spine)


def _lists(api: Api, spine: Command) -> None:
    everything = {"severity": "INFO", "with_resolved": True, "limit": 1000}
    anomalies = api.get("anomalies", params=everything).json()["items"]
    assert anomalies == spine("anomalies", "list", "--severity", "INFO", "--all", "-f", "json").json()
    (counted,) = spine("sql", "SELECT count(*) AS n FROM core_anomalies", "-f", "json").json()
    assert len(anomalies) == counted["n"]
    captures = api.get("captures", params={"with_superseded": True, "limit": 1000}).json()["items"]
    listed = spine("captures", "list", "--all", "-f", "json").json()[:1000]
    assert captures == [{name: value for name, value in row.items() if name != "id"} for row in listed]
    certificates = api.get("certificates", params={"with_superseded": True}).json()["items"]
    shown = spine("certificates", "list", "--all", "-f", "json").json()
    assert [one["certificate_id"] for one in certificates] == [one["certificate_id"] for one in shown]
    work = api.get("work", params={"with_done": True, "limit": 1000}).json()["items"]
    assert [one["id"] for one in work] == [one["id"] for one in spine("work", "list", "--all", "-f", "json").json()]


VERSIONS: Mapping[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "latest": ({}, (), ""),
    "first release": ({"first_release": True}, ("--first-release",), "_first_release()"),
    "every revision": ({"all_revisions": True}, ("--all-revisions",), "_revisions()"),
}


def rows(api: Api, spine: Command, table: str, week: str, at: str) -> list[int]:
    """Rows of a table of one week in every version, and as of ``at``: the same bytes by command and API, the same lines
    by SQL.

    How many rows each version has.
    """
    versions = [*VERSIONS.values(), ({"as_of": at}, ("--as-of", at), f"_asof('{at}')")]
    counts = []
    for params, options, suffix in versions:
        served = api.get(f"data/{table}", params={"week_ending": week, "format": "csv"} | params)
        assert served.status_code == 200, served.text
        assert served.text == spine("query", table, "-w", week, *options, "-f", "csv").out
        asked = spine("sql", f"FROM {table}{suffix} WHERE week_ending = '{week}'", "-f", "csv").out
        assert sorted(served.text.splitlines()) == sorted(asked.splitlines())
        counts.append(int(served.headers["X-Row-Count"]))
    return counts
