"""A backfill as the web interface starts it: the real webserver, daemon and run workers, and the same mutation.

No browser: it needs only what the project declares. docs/ui.md has the same way as clicks.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from market_spine.assets.calendar import capture_weeks
from market_spine.assets.tables import steps_of
from market_spine.automation.instance import write_config
from market_spine.definitions import build_defs
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC
from market_spine.settings import Settings, build_spine
from market_spine.store.ledger import Run
from market_spine.store.manifest import Question
from market_spine.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ui")]

ROOT = Path(__file__).parents[2]
DAGSTER = Path(sys.executable).with_name("dagster")
SOURCE = "synthetic:scale=0.05"
WEEKS = (date(2025, 11, 14), date(2025, 11, 21))
PARTITIONS = [f"{tier}|{week}" for tier in Tier for week in WEEKS]
BY_TIER = ["raw", *(name for name, step in steps_of(OTC).items() if step.table.by_tier)]
START_SECONDS = 120  # a cold start beside other tests; 15 s on an idle machine
BACKFILL_SECONDS = 240  # the daemon looks every 30 s and must look three times; the runs themselves take 5 s each
STOP_SECONDS = 30

LAUNCH = """mutation LaunchPartitionBackfill($backfillParams: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $backfillParams) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""
STATUS = """query Backfill($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status runs(limit: 100) { status } } }
}"""
TICKS = """query Ticks($in: RepositorySelector!) {
  sensorsOrError(repositorySelector: $in) {
    ... on Sensors { results { name sensorState { ticks(limit: 100) { status error { message } } } } }
  }
}"""
REPOSITORY = {"repositoryName": "__repository__", "repositoryLocationName": "market_spine"}
MATERIALIZED = "{ assetNodes { assetKey { path } partitionStats { numMaterialized numFailed } } }"


@dataclass(frozen=True)
class Server:
    """A running ``dagster dev``: its store, and the endpoint that the web interface talks to."""

    home: Path
    url: str

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The data of one GraphQL answer."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(self.url + "/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        return dict(answer["data"])


@contextmanager
def dagster_dev(home: Path) -> Iterator[Server]:
    """Start webserver and daemon as ``make dev`` does, and stop their process group, and no other process."""
    write_config(home / "dagster")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    env = os.environ | {
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
        "DAGSTER_HOME": str(home / "dagster"),
        "MARKET_SPINE_HOME": str(home),
        "MARKET_SPINE_SOURCE": SOURCE,
    }
    command = [str(DAGSTER), "dev", "-w", str(ROOT / "workspace.yaml"), "--host", "127.0.0.1", "--port", port]
    log = home / "dev.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=home, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        server = Server(home, f"http://127.0.0.1:{port}")
        wait_for_start(server, process, log)
        yield server
    finally:
        stop(process)


def wait_for_start(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the webserver answers; its log is the message where it does not."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(server.url + "/server_info", timeout=5).close()
            return
        time.sleep(0.5)
    pytest.fail(f"dagster dev did not start:\n{log.read_text(errors='replace')[-4000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the group that ``process`` leads: first asked, then made to."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)


def launch(server: Server, job: str, partitions: list[str]) -> str:
    """The id of a backfill of ``job``, asked for as the dialog on the job's page does."""
    params = {
        "selector": {"partitionSetName": f"{job}_partition_set", "repositorySelector": REPOSITORY},
        "assetSelection": [{"path": ["otc", name]} for name in BY_TIER],
        "partitionNames": partitions,
        "fromFailure": False,
        "tags": [],
    }
    answer = server.ask(LAUNCH, backfillParams=params)["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return str(answer["backfillId"])


def finished(server: Server, backfill: str) -> dict[str, Any]:
    """The backfill once the daemon has closed it."""
    deadline = time.monotonic() + BACKFILL_SECONDS
    while time.monotonic() < deadline:
        state: dict[str, Any] = server.ask(STATUS, id=backfill)["partitionBackfillOrError"]
        if state["status"].startswith(("COMPLETED", "FAILED", "CANCELED")):
            return state
        time.sleep(1)
    pytest.fail(f"the backfill is not done after {BACKFILL_SECONDS} s: {state}")


WHOLE = {"numMaterialized": len(PARTITIONS), "numFailed": 0}


def materialized(server: Server) -> dict[str, dict[str, int]]:
    """What is made of each table, once nothing is under way any more.

    The week that was made last put the windows of the other one out of date, and the stale sensor makes them again:
    meanwhile they do not count as made.
    """
    patience = time.monotonic() + START_SECONDS
    while True:
        nodes = server.ask(MATERIALIZED)["assetNodes"]
        stats = {tuple(node["assetKey"]["path"]): node["partitionStats"] for node in nodes}
        made = {name: stats[("otc", name)] for name in BY_TIER}
        if all(one == WHOLE for one in made.values()) or time.monotonic() > patience:
            return made
        time.sleep(1)


def ticks(server: Server) -> dict[str, list[dict[str, Any]]]:
    """What every sensor's ticks came to: status and error."""
    sensors = server.ask(TICKS, **{"in": REPOSITORY})["sensorsOrError"]["results"]
    return {one["name"]: one["sensorState"]["ticks"] for one in sensors}


def test_a_backfill_of_a_job_makes_every_partition(tmp_path: Path) -> None:
    """A backfill that reports every partition as made and made one of them: Dagster gives the runs of a job's backfill
    the dimensions of its first partition, and reads those before the range (dagster #28861)."""
    spine = build_spine(Settings(home=tmp_path, source=SOURCE))
    capture_weeks(spine, [WeekKey(week, None) for week in WEEKS], Run("calendar", "calendar", datetime.now(UTC)))
    spine.store.control.dispose()

    with dagster_dev(tmp_path) as server:
        state = finished(server, launch(server, "otc_weekly_refresh", PARTITIONS))
        made = materialized(server)
        ticked = ticks(server)

    assert set(ticked) == {one.name for one in build_defs().sensors or ()}
    for name, found in ticked.items():
        assert found, f"{name} has never ticked"
        assert [one for one in found if one["status"] not in ("SUCCESS", "SKIPPED", "STARTED")] == [], name
    assert state["status"] == "COMPLETED_SUCCESS"
    assert [run["status"] for run in state["runs"]] == ["SUCCESS"] * 2  # one a week; 60 without a backfill policy
    assert made == dict.fromkeys(BY_TIER, WHOLE)

    store = Store.at(tmp_path)
    try:
        captures = {
            name: sorted(f"{one.tier}|{one.week_ending}" for one in store.select(Question((OTC.sql_name(name),))))
            for name in BY_TIER
        }
    finally:
        store.control.dispose()
    assert captures == dict.fromkeys(BY_TIER, sorted(PARTITIONS))
