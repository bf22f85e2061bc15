"""Who used what: on record before an answer goes out, and found again when what was used is superseded."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from market_spine.domain.serving import Scope, Via, data_version
from market_spine.governance.consumption import Use, collect, put_down
from market_spine.store import outbox
from market_spine.store.commit import commit
from market_spine.store.ledger import Run
from market_spine.store.store import Store
from market_spine_tests.api.server import FRIDAY, Api, use
from market_spine_tests.cli.calls import call
from market_spine_tests.journeys.stage import NOW
from market_spine_tests.store import builders

BETWEEN = datetime(2025, 12, 16, tzinfo=UTC)  # after the week came, and before it was restated
OTC = {"week_ending": FRIDAY, "tier": "OTC"}


def uses(api: Api, **params: Any) -> list[dict[str, Any]]:
    """Uses of data, the newest first; without the questions that this test asks for them."""
    found = api.get("uses", Scope.ADMIN, params=params).json()["items"]
    return [one for one in found if not one["request"].startswith("GET /api/v1/uses")]


def test_an_answer_is_on_record(changed: Api) -> None:
    """Prevents a read that nobody can be told of when it turns out wrong."""
    earlier = changed.get("data/symbol_hhi", params=OTC | {"as_of": "2025-12-15", "format": "csv"})
    etag = changed.get("data/symbol_hhi", params=OTC).headers["ETag"]
    changed.get("data/symbol_hhi", params=OTC, headers={"If-None-Match": etag})
    verdict = changed.get("readiness/otc/2025-11-14")
    changed.get("data/nope")  # no data was given
    told = uses(changed)
    names = ("table_name", "version", "form", "status", "row_count", "via")
    shown = [tuple(one[name] for name in names) for one in reversed(told)]
    count = len(changed.rows("symbol_hhi", params=OTC))
    assert shown == [
        ("otc_symbol_hhi", "as-of", "csv", 200, len(earlier.text.splitlines()) - 1, "api"),
        ("otc_symbol_hhi", "latest", "json", 200, count, "api"),
        ("otc_symbol_hhi", "latest", "json", 304, None, "api"),
        ("", "", "json", verdict.status_code, None, "api"),
    ]
    assert told[-1]["request"].startswith(
        "GET /api/v1/data/symbol_hhi?week_ending=2025-11-07&tier=OTC&as_of=2025-12-15"
    )
    assert {one["actor"] for one in told} == {told[0]["actor"]}
    assert told[-2]["data_version"] == told[-3]["data_version"] == etag.split('"')[1].partition("-")[0]
    assert uses(changed, actor="nobody") == []


def test_an_answer_without_rows_has_its_version_on_record(changed: Api) -> None:
    """Prevents an answer from which somebody concluded that there is nothing from having no name."""
    nothing = changed.get("data/symbol_hhi", params=OTC | {"as_of": "2025-01-01"})
    changed.get("catalog")
    last, before = uses(changed)[:2]
    assert (last["data_version"], before["row_count"]) == (None, 0)
    assert before["data_version"] == nothing.headers["X-Data-Version"] == data_version(())


def test_commands_are_on_record_too(changed: Api) -> None:
    """Prevents the command line from being a way around the record."""
    home = str(changed.desk.store.home.root)
    assert call("--home", home, "query", "symbol_hhi", "-w", FRIDAY, "-t", "OTC", "-f", "csv").code == 0
    assert call("--home", home, "sql", "SELECT count(*) FROM OTC_RAW_asof('2025-12-15')").code == 0
    assert call("--home", home, "sql", "SELECT 1 AS otc_raw").code == 0  # of no table
    of_a_week = ("otc_raw", "-w", FRIDAY, "-t", "OTC", "-f", "json")
    assert call("--home", home, "captures", "diff", *of_a_week).code == 0
    assert call("--home", home, "captures", "impact", *of_a_week).code == 0
    by_impact, by_diff, by_sql, by_query = uses(changed)
    assert (by_query["via"], by_query["table_name"], by_query["version"]) == ("command", "otc_symbol_hhi", "latest")
    assert by_query["request"].endswith(f"query symbol_hhi -w {FRIDAY} -t OTC -f csv")
    asked = changed.get("data/symbol_hhi", params=OTC)
    assert by_query["data_version"] == asked.headers["X-Data-Version"]
    held = changed.get(f"versions/{by_sql['data_version']}").json()["captures"]
    assert {one["table"] for one in held} == {"otc_raw"}
    assert len(held) == 19  # 18 partitions, one of them twice: which of them the moment chose is not told apart
    both = changed.get(f"versions/{by_diff['data_version']}").json()["captures"]
    assert [(one["week_ending"], one["tier"], one["state"]) for one in both] == [
        (FRIDAY, "OTC", "superseded"),
        (FRIDAY, "OTC", "current"),
    ]
    assert by_impact["data_version"] == by_diff["data_version"]


def test_who_used_what_was_superseded(changed: Api) -> None:
    """Prevents a restatement from being news to those who traded on what it replaced, and an alarm for those who asked
    for the earlier version when it was one."""
    then = OTC | {"as_of": "2025-12-15"}
    before = changed.get("data/otc_raw", params=then).headers["X-Capture-Ids"]
    now = changed.get("data/otc_raw", params=OTC).headers["X-Capture-Ids"]
    put_down(changed.desk.store, [Use(BETWEEN, "trader", Via.API, "GET /then", (before,), version="latest")])
    late, early = changed.get("uses/superseded", Scope.ADMIN).json()["items"]
    assert (late["capture_id"], late["version"], late["was_latest"]) == (before, "as-of", False)
    assert (early["actor"], early["was_latest"]) == ("trader", True)
    home = str(changed.desk.store.home.root)
    asked = "SELECT capture_id, actor, was_latest FROM core_superseded_uses ORDER BY used_at"
    shown = call("--home", home, "sql", asked, "-f", "json").json()
    assert shown == [
        {"capture_id": before, "actor": "trader", "was_latest": 1},
        {"capture_id": before, "actor": late["actor"], "was_latest": 0},
    ]
    impact = changed.get(f"captures/{now}/impact").json()
    (consumer,) = impact["consumers"]
    assert (consumer["actor"], consumer["via"], consumer["uses"]) == ("trader", "api", 1)
    told = call("--home", home, "captures", "impact", "otc_raw", "-w", FRIDAY, "-t", "OTC", width=120)
    assert "Who used what it superseded" in told.out
    assert "trader" in told.out
    assert changed.get(f"captures/{now}/impact").json()["consumers"] == impact["consumers"]  # not who looked at it
    assert len(changed.get("uses/superseded", Scope.ADMIN).json()["items"]) == 2


def test_what_cannot_be_put_on_record_is_not_answered(changed: Api) -> None:
    """Prevents a full or read-only disk from making reads that nobody knows of."""
    place = changed.desk.store.home.uses
    changed.get("data/weeks")
    changed.desk.collect()
    place.rename(place.with_name("elsewhere"))
    place.touch()  # a file where the folder should be
    refused = changed.get("data/weeks")
    assert refused.status_code == 503
    assert "uses" in refused.json()["detail"]
    assert refused.headers["Retry-After"]
    place.unlink()
    assert changed.get("data/weeks").status_code == 200


RUN = Run("run-1", "c1", NOW)


def rows(store: Store) -> int:
    with store.control.read() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM core_consumption").scalar_one())


def test_collecting_again_adds_nothing(store: Store) -> None:
    """Prevents a process that died between commit and clearing up from doubling every use."""
    put_down(store, [use(), use()])
    (line_file,) = store.home.uses.glob(outbox.OPEN)
    kept = line_file.read_bytes()
    assert collect(store, RUN) == 2
    (store.home.uses / "taken-again.jsonl").write_bytes(kept)
    put_down(store, [use()])
    assert collect(store, RUN) == 1
    assert (rows(store), collect(store, RUN), list(store.home.uses.iterdir())) == (3, 0, [])


def test_many_uses_are_several_transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a busy day from holding the write lock for minutes."""
    monkeypatch.setattr("market_spine.governance.consumption.MOST", 2)
    put_down(store, [use() for _ in range(5)])
    assert (collect(store, RUN), rows(store)) == (5, 5)
    with store.control.read() as connection:
        asked = "SELECT count(*) FROM core_batches WHERE table_name = 'core_consumption'"
        assert connection.exec_driver_sql(asked).scalar_one() == 3


def test_captures_that_are_named_twice_are_one(store: Store) -> None:
    """Prevents a capture that is compared with itself from a line that no look at the uses gets past."""
    one, other = builders.raw(), builders.raw(seconds=60, content="b")
    for capture in (one, other):
        commit(store.control, store.home, builders.batch(capture))
    ids = (one.capture_id, other.capture_id)
    put_down(store, [use(captures=(*ids, ids[0])), use(captures=ids)])
    assert collect(store, RUN) == 2
    with store.control.read() as connection:
        kept = connection.exec_driver_sql("SELECT capture_id FROM core_data_versions ORDER BY 1").scalars().all()
    assert kept == sorted(ids)


def test_a_torn_line_takes_no_other_with_it(store: Store) -> None:
    """Prevents a kill in the middle of a line from losing the next one, which was answered."""
    put_down(store, [use()])
    path = store.home.uses / outbox.OPEN
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    put_down(store, [use()])
    assert collect(store, RUN) == 2


def test_a_collection_that_fails_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents lines from being thrown away before their rows are there."""
    put_down(store, [use()])
    monkeypatch.setattr("market_spine.governance.consumption.transaction", _failing)
    with pytest.raises(OSError, match="gone"):
        collect(store, RUN)
    monkeypatch.undo()
    put_down(store, [use()])
    assert collect(store, RUN) == 2


def _failing(*_: object) -> Any:
    raise OSError("gone")


def test_a_rebuild_has_every_use(store: Store) -> None:
    """Prevents the record of uses from being lost with the control database."""
    put_down(store, [use(), use()])
    collect(store, RUN)
    home = str(store.home.root)
    store.control.dispose()
    for path in store.control.files:
        path.unlink(missing_ok=True)
    assert call("--home", home, "rebuild").code == 0
    assert rows(Store.at(Path(home))) == 2


def test_many_at_once_lose_nothing(store: Store) -> None:
    """Prevents writers that meet from writing over one another; half of them collect meanwhile."""
    from market_spine.api.recorder import Recorder

    recorder = Recorder(lambda found: put_down(store, found))
    counted: list[int] = []

    def work(number: int) -> None:
        for _ in range(25):
            recorder.put(use())
            if number % 2:
                counted.append(collect(store, Run(f"run-{os.urandom(4).hex()}", "c1", NOW)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    collect(store, RUN)
    assert rows(store) == 150


@pytest.mark.parametrize(
    ("ids", "same"),
    [(["a", "b"], True), (["b", "a"], True), (["a", "b", "a"], True), (["a"], False), (["a", "b", "c"], False)],
)
def test_a_version_is_of_a_set(ids: list[str], same: bool) -> None:
    """Prevents the order of captures from making another version of the same data."""
    assert (data_version(ids) == data_version(["a", "b"])) is same
    assert len(data_version(ids)) == 32
