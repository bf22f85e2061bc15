"""The API over a control database in PostgreSQL: every question that it takes, and what PostgreSQL minds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from market_spine.domain.serving import Scope
from market_spine_tests.api.server import serving
from market_spine_tests.cli.calls import SOURCE

WEEK = "2025-11-07"
PATHS = (
    *(f"data/{name}" for name in ("weeks", "symbols", "venues", "otc_raw_annotated", "otc_week_quality", "symbol_hhi")),
    *(
        "catalog",
        "catalog/otc_weeks",
        "lineage/otc_raw",
        f"lineage/otc_raw?week_ending={WEEK}",
        "anomalies?with_resolved=true",
    ),
    *("captures", "captures?with_superseded=true&tier=OTC", "certificates?with_superseded=true", "doctor/otc"),
    *("expectations/otc", "readiness/otc", "work", "work?with_done=true", "uses", "uses/superseded", "health/ready"),
)


def test_every_question_over_postgres(postgres_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an API that was only ever asked over SQLite."""
    monkeypatch.setenv("MARKET_SPINE_HOME", str(tmp_path))
    monkeypatch.setenv("MARKET_SPINE_CONTROL_URL", postgres_database)
    monkeypatch.setenv("MARKET_SPINE_SOURCE", SOURCE)
    for words in (["init"], ["run", "otc.weekly_refresh", "-w", WEEK, "--tier", "OTC"]):
        command = [
            sys.executable,
            "-c",
            "from market_spine.cli import main; main()",
            *words,
        ]  # a process of its own, that closes its connections
        subprocess.run(command, check=True, capture_output=True)
    with serving(tmp_path, control_url=postgres_database) as api:
        for path in (*PATHS, "/metrics"):
            assert api.get(path, Scope.ADMIN).status_code == 200, path
        assert api.get(f"readiness/otc/{WEEK}").status_code == 503  # two tiers are missing
        asked = {"week_ending": WEEK, "tier": "OTC", "as_of": "2100-01-01"}
        first = api.get("data/symbol_hhi", params=asked)
        assert (
            first.text
            == api.get("data/symbol_hhi", params=asked | {"data_version": first.headers["X-Data-Version"]}).text
        )
        (capture,) = first.headers["X-Capture-Ids"].split(",")
        assert api.get(f"captures/{capture}").json()["state"] == "current"
        for nul in ("data/symbols/%00/history", "captures/%00", "certificates?ready_for=%00", "uses?actor=%00"):
            assert api.get(nul, Scope.ADMIN, headers={"If-None-Match": "*"}).status_code == 422
        for number in (1, 2**31 - 1):
            assert api.get(f"work/{number}").status_code == 404
        made = api.post("work/enqueue", {"pipeline": "otc.weekly_refresh", "week_ending": WEEK, "tiers": ["T1"]})
        assert made.status_code == 201
        used = {one["request"] for one in api.get("uses", Scope.ADMIN, params={"limit": 1000}).json()["items"]}
        assert {f"GET /api/v1/{path}" for path in PATHS if not path.startswith("health")} <= used
