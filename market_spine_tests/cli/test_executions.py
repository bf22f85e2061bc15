"""`spine executions` and the events of the demo: what people are shown of runs, and of what led to what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from market_spine.domain.operations import EssentialEvent
from market_spine.store.events import CHAIN
from market_spine.store.store import Store
from market_spine_tests.cli.calls import Command, call

NOISE = ("FILE_DISCOVERED", "FILE_PARSED", "CALCULATION_STARTED", "RECORDS_NORMALIZED")  # what F331 drops


@pytest.mark.parametrize("width", [80, 120])
def test_the_list_fits_the_terminal(spine: Command, width: int) -> None:
    """Prevents lines that wrap, and a run without its id, beginning or end."""
    answer = spine("executions", "list", width=width)
    assert answer.code == 0
    assert [line for line in answer.out.splitlines() if len(line) > width] == []
    head, _, first, *_ = answer.out.splitlines()
    assert head.split()[:2] == ["ended_at", "execution_id"]
    (newest,) = spine("executions", "list", "--limit", "1", "--format", "json").json()
    assert newest["execution_id"][:8] in first


def test_programs_get_every_column(spine: Command) -> None:
    """Prevents numbers and moments from reaching programs as people see them."""
    rows = spine("executions", "list", "--format", "json", "--limit", "1000").json()
    assert len(rows) > 5
    assert {"params_json", "correlation_id", "batch_id"} <= set(rows[0])
    assert [row["ended_at"] for row in rows] == sorted((row["ended_at"] for row in rows), reverse=True)
    assert {(row["pipeline"], row["status"], row["trigger_source"], row["lane"]) for row in rows} == {
        ("demo", "SUCCESS", "command", "NORMAL")
    }


@pytest.mark.parametrize("words", [("--status", "FAILURE"), ("--trigger", "schedule"), ("--lane", "BACKFILL")])
def test_filters_leave_the_others_out(spine: Command, words: tuple[str, str]) -> None:
    """Prevents a filter that is read and not used."""
    assert spine("executions", "list", *words, "--format", "json").json() == []
    assert "nothing" in spine("executions", "list", *words).out


def test_one_run_is_shown(spine: Command) -> None:
    """Prevents a run that is listed from not being found by what the list shows of its id."""
    rows = spine("executions", "list", "--format", "json", "--limit", "1000").json()
    (row,) = [one for one in rows if one["logical_key"].startswith("NMS_TIER_1") and '"otc/raw"' in one["params_json"]][
        :1
    ]
    shown = spine("executions", "show", row["execution_id"][:8]).out
    told = {line[:20].strip(): line[20:] for line in shown.splitlines() if not line.startswith(" ")}
    names = ("execution_id", "logical_key", "status", "correlation_id")
    assert {name: told[name] for name in names} == {name: row[name] for name in names}
    assert told["assets"].startswith("otc/raw, ")
    assert '"revision_policy": "versioned"' in " ".join(shown.split())
    assert spine("executions", "show", row["execution_id"], "--format", "json").json()[0] == row
    assert spine("executions", "show").out.startswith(f"execution_id        {rows[0]['execution_id']}")


@pytest.mark.parametrize(("given", "cause"), [("zzz", "no runs on record begin with 'zzz'"), ("%", "begin with '%'")])
def test_an_id_that_is_none(spine: Command, given: str, cause: str) -> None:
    """Prevents some other run from being shown, and an error without its next step."""
    answer = spine("executions", "show", given)
    assert answer.code == 2
    assert cause in answer.err
    assert "executions list" in answer.err


def test_exporting_takes_what_is_not_there(own_home: Path) -> None:
    """Prevents a command that only the daemon can do."""
    call("executions", "export")  # of whatever the tests before this one ran
    assert call("executions", "export").out == "every run that is over is on record\n"
    assert call("run", "otc.ingest_week", "-p", "tier=OTC", "-p", "week_ending=2025-10-31").code == 0
    before = len(call("executions", "list", "--format", "json", "--limit", "1000").json())
    told = call("executions", "export").out
    after = call("executions", "list", "--format", "json", "--limit", "1000").json()
    assert told == f"{len(after) - before} runs put on record\n"
    assert after[0]["params_json"] == json.dumps(json.loads(after[0]["params_json"]), sort_keys=True)
    assert "finra.otc_transparency.ingest_week" in {row["pipeline"] for row in after}


def test_only_essential_events_are_told(demo_home: Path, spine: Command) -> None:
    """Prevents the noise that Dagster's own log has from coming back, and an essential event from being forgotten."""
    rows = spine("sql", "SELECT event_type, count(*) AS n FROM core_events GROUP BY ALL", "--format", "json").json()
    told = {row["event_type"]: row["n"] for row in rows}
    assert set(told) == {*EssentialEvent, "READINESS_CHANGED"}
    assert set(told) & set(NOISE) == set()
    manifest = "SELECT stage = 'INGESTED' AS is_raw, count(*) AS n FROM core_manifest GROUP BY ALL"
    captures = {row["is_raw"]: row["n"] for row in spine("sql", manifest, "--format", "json").json()}
    assert told["RAW_RECORDS_INGESTED"] == captures[True]
    assert told["CALCULATION_COMPLETED"] == captures[False]
    (deliveries,) = spine("sql", "SELECT count(*) AS n FROM core_deliveries", "--format", "json").json()
    assert told["FILE_DOWNLOADED"] == deliveries["n"]


def test_every_week_leads_back_to_its_file(demo_home: Path, spine: Command) -> None:
    """Prevents a chain that ends halfway, in the control tables or in what people ask."""
    store = Store.at(demo_home)
    with store.control.read() as connection:
        causes = connection.execute(
            sa.text("SELECT e.occurred_at, c.occurred_at FROM core_events e LEFT JOIN core_events c"
                    " ON c.event_id = e.causation_id WHERE e.causation_id IS NOT NULL")
        ).all()  # fmt: skip
        ends = list(connection.scalars(
            sa.text("SELECT event_id FROM core_events WHERE event_type = 'WEEK_PROCESSING_COMPLETED' ORDER BY 1")
        ))  # fmt: skip
        chains = {
            one: [row.event_type for row in connection.execute(sa.text(CHAIN.format(event_id=":id")), {"id": one})]
            for one in ends
        }
    store.control.dispose()
    assert len(causes) > 200
    assert [row for row in causes if row[1] is None or row[1] > row[0]] == []  # each cause is there, and came before
    assert len(ends) > 3
    assert {(chain[0], chain[-1]) for chain in chains.values()} == {("WEEK_PROCESSING_COMPLETED", "FILE_DOWNLOADED")}
    asked = f"SELECT event_type FROM core_event_chain('{ends[0]}') ORDER BY depth"
    assert [row["event_type"] for row in spine("sql", asked, "--format", "json").json()] == chains[ends[0]]
