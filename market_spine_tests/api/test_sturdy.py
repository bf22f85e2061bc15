"""What breaks servers: odd requests, lines that cannot become rows, files that go, failures that nobody foresaw."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from market_spine.api import app, recorder, selection
from market_spine.api.answers import Answers, Rendered
from market_spine.assets import reading
from market_spine.domain.errors import StoreError
from market_spine.domain.serving import Scope
from market_spine.governance.consumption import collect, put_down
from market_spine.store import outbox
from market_spine.store.ledger import Run, newest_seq
from market_spine.store.store import Store
from market_spine_tests.api.server import FRIDAY, Api, serving, use
from market_spine_tests.cli.calls import call
from market_spine_tests.journeys.stage import NOW, Clock

OTC = {"week_ending": FRIDAY, "tier": "OTC"}
RUN = Run("run-1", "c1", NOW)


def test_a_long_request_is_refused_at_once(api: Api) -> None:
    """Prevents whoever can reach the server from keeping it busy, without a token."""
    asked = threading.Thread(target=lambda: api.ask("GET", "x" * 20_000, None))
    asked.start()
    assert api.ask("GET", "health/live", None).status_code == 200
    asked.join(10)
    assert not asked.is_alive()
    refused = api.get("data/weeks", params={"columns": "a" * 9_000})
    assert (refused.status_code, refused.json()["title"]) == (414, "URI Too Long")


@pytest.mark.parametrize(
    "path",
    [
        "data/symbols/%00/history",
        "data/symbols/a%0ab/history",
        "captures/%00",
        "certificates?ready_for=%00",
        "anomalies?week_ending=%1b[2J",
        "data/otc_raw?symbol=%00",
    ],
)
def test_control_characters_are_refused(api: Api, path: str) -> None:
    """Prevents what PostgreSQL does not keep from reaching the record of uses, by whatever way."""
    refused = api.get(path, headers={"If-None-Match": "*"})
    assert refused.status_code in (404, 422)  # a path with an end of line is none
    assert refused.headers["content-type"] == "application/problem+json"
    assert api.get("uses", Scope.ADMIN).status_code == 200


@pytest.mark.parametrize("spoilt", ["{}", '{"use_id": 1}', None])
def test_a_line_that_is_no_use_holds_nothing_back(store: Store, spoilt: str | None) -> None:
    """Prevents one line from keeping all others out of the record for good."""
    put_down(store, [use(), use()])
    if spoilt is None:
        put_down(store, [use(captures=("nobody has this capture",))])
    else:
        with (store.home.uses / outbox.OPEN).open("a", encoding="utf-8") as stream:
            stream.write(f"{spoilt}\n")
    put_down(store, [use()])
    with capture_logs() as told:
        assert collect(store, RUN) == 3
    assert [one["event"] for one in told if one["log_level"] == "error"] == ["use_refused"]
    (kept,) = (store.home.uses / outbox.REFUSED).read_text(encoding="utf-8").splitlines()
    assert json.loads(kept)["cause"]
    put_down(store, [use()])
    assert collect(store, RUN) == 1


def test_half_of_a_batch_is_not_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a use from being on record of which the answer was refused."""
    put_down(store, [use()])
    monkeypatch.setattr("market_spine.store.outbox.os.fsync", _no_room)
    with pytest.raises(StoreError, match="no room"):
        put_down(store, [use(), use()])
    monkeypatch.undo()
    assert collect(store, RUN) == 1


def _no_room(*_: object) -> None:
    raise OSError(28, "no room")


def test_a_look_that_fails_is_not_the_last_one(changed: Api) -> None:
    """Prevents a folder that is away for a moment from ending the collection of uses until the next start."""
    place = changed.desk.store.home.uses
    changed.get("data/weeks")
    place.rename(place.with_name("elsewhere"))
    place.touch()
    assert app._collect_once(changed.desk) is False
    place.unlink()
    place.with_name("elsewhere").rename(place)
    assert app._collect_once(changed.desk) is True
    assert app._collect_once(changed.desk) is False


def test_a_failure_reaches_everybody_who_waits() -> None:
    """Prevents an answer whose use was in somebody else's failed batch."""
    begun, go_on = threading.Event(), threading.Event()
    batches, failed = [], []

    def fail(uses: Any) -> None:
        batches.append(len(uses))
        begun.set()
        assert go_on.wait(10)
        raise OSError("no room")

    queue = recorder.Recorder(fail)

    def put() -> None:
        try:
            queue.put(use())
        except OSError as error:
            failed.append(str(error))

    threads = [threading.Thread(target=put) for _ in range(5)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    while len(queue._waiting) < 4:
        time.sleep(0.01)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert (batches, failed) == ([1, 4], ["no room"] * 5)


def test_a_failure_that_nobody_foresaw_can_be_looked_up(
    changed: Api, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a 500 that has no id, that is counted as a client that left, and that tells what is inside."""

    def fail(*_: object) -> None:
        raise RuntimeError("the innermost secret of the program")

    monkeypatch.setattr(selection, "captures", fail)
    answer = changed.get("data/otc_venue_volume", params={"tier": "OTC"})
    problem = answer.json()
    assert (answer.status_code, problem["title"]) == (500, "Internal Server Error")
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert "innermost" not in answer.text
    told = capfd.readouterr().err
    assert "innermost" in told
    assert problem["request_id"] in told.partition("api_failed")[2].partition("\n")[0]
    monkeypatch.undo()
    assert 'endpoint="data.table",method="GET",status="500"' in changed.get("/metrics").text


def test_where_the_store_is_is_told_to_nobody_unknown(changed: Api) -> None:
    """Prevents whoever can reach the server from learning where its files are, when they are in trouble."""
    path = changed.desk.store.home.root / "control.db"
    away = path.rename(path.with_name("away.db"))
    stranger = changed.ask("GET", "data/weeks", None, headers={"Authorization": "Bearer wrong"})
    assert (stranger.status_code, stranger.json()["detail"]) == (503, "the store does not answer")
    assert stranger.headers["Retry-After"]
    assert not path.exists()
    away.rename(path)
    assert changed.get("data/weeks").status_code == 200


def test_head_is_get_without_a_body(api: Api) -> None:
    """Prevents a program that looks before it fetches from being told that it may not."""
    there = api.get("data/weeks")
    looked = api.ask("HEAD", "data/weeks")
    assert (looked.status_code, looked.content) == (200, b"")
    assert looked.headers["ETag"] == there.headers["ETag"]
    assert looked.headers["Content-Length"] == str(len(there.content))


def test_an_answer_that_somebody_threw_away_is_made_anew(changed: Api) -> None:
    """Prevents whoever cleans folders of temporary files from making an answer a failure for good."""
    first = changed.get("data/symbol_hhi", params=OTC)
    folder = Path(changed.desk.answers._folder.name)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert changed.get("data/symbol_hhi", params=OTC).content == first.content


def test_no_room_for_an_answer_is_told(changed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a full disk from being a failure that nobody foresaw."""
    monkeypatch.setattr("market_spine.api.routes.data.render", _no_room)
    refused = changed.get("data/symbol_hhi", params=OTC)
    assert (refused.status_code, "no room" in refused.json()["detail"]) == (503, True)


@pytest.fixture
def answers() -> Iterator[Answers]:
    answers = Answers(budget=100 << 10)
    yield answers
    answers.close()


def _written(path: Path) -> Rendered:
    path.write_bytes(b"x" * 10)
    return Rendered(1, False, 10)


def test_small_answers_count_as_the_disk_that_they_take(answers: Answers) -> None:
    """Prevents 512 MB of answers of 180 bytes from being three million files."""
    for number in range(60):
        answers.get(number, _written)[1].close()
    assert len([*Path(answers._folder.name).iterdir()]) == 25


def test_answers_of_a_killed_server_go_and_of_others_stay(answers: Answers, tmp_path: Path) -> None:
    """Prevents a disk that fills up with the answers of servers that are no more."""
    begun = "from market_spine.api.answers import Answers; a = Answers(); print(a._folder.name, flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", begun], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        left = Path(other.stdout.readline().decode().strip())
        Answers().close()
        assert left.is_dir()
        other.kill()
    Answers().close()
    assert (left.exists(), Path(answers._folder.name).is_dir()) == (False, True)


def test_an_answer_is_made_once_after_a_maker_failed(answers: Answers) -> None:
    """Prevents an answer that is made twice from being counted twice, and its file from staying."""
    calls, waits = [], threading.Event()

    def make(path: Path) -> Rendered:
        calls.append(path)
        if len(calls) == 1:
            assert waits.wait(10)
            raise StoreError("busy", "wait")
        return _written(path)

    def ask() -> None:
        try:
            answers.get("key", make)[1].close()
        except StoreError:
            waits.set()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    waits.set()
    for thread in threads:
        thread.join(10)
    assert len([*Path(answers._folder.name).iterdir()]) == 1
    assert answers._size == 4096


def test_supervisors_are_answered_while_readers_wait(changed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a server that is busy from being ended by whoever looks after it."""
    go_on = threading.Event()
    monkeypatch.setattr("market_spine.api.routes.data._make", lambda *_: (go_on.wait(20), _written(_[-1]))[1])
    readers = [threading.Thread(target=lambda: changed.get("data/weeks")) for _ in range(14)]
    for reader in readers:
        reader.start()
    try:
        assert changed.ask("GET", "health/ready", None).status_code == 200
    finally:
        go_on.set()
        for reader in readers:
            reader.join(30)


def test_who_asks_for_a_version_that_never_was_writes_nothing(changed: Api) -> None:
    """Prevents a reader from making transactions at will."""
    changed.get("data/weeks")

    def newest() -> int:
        with changed.desk.store.control.read() as connection:
            return newest_seq(connection)

    before = newest()
    for _ in range(3):
        assert changed.get(f"versions/{'0' * 32}").status_code == 404
    assert newest() == before


def test_a_version_is_known_before_it_is_a_row(changed: Api) -> None:
    """Prevents a replay by another server from failing for ten minutes."""
    version = changed.get("data/symbol_hhi", params=OTC).headers["X-Data-Version"]
    with serving(changed.desk.store.home.root) as other:
        replayed = other.get("data/symbol_hhi", params=OTC | {"data_version": version})
        assert replayed.status_code == 200


def test_a_statement_is_of_the_captures_that_it_read(changed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a restatement that is committed meanwhile from taking the reader's name off what it superseded."""
    from market_spine.store import query

    home, really = str(changed.desk.store.home.root), query.answer

    def answer(*arguments: Any) -> Any:
        found = really(*arguments)
        with changed.desk.store.control.write() as connection:
            of = f"table_name = 'otc_raw' AND week_ending = '{FRIDAY}' AND tier = 'OTC'"
            connection.exec_driver_sql(f"UPDATE core_manifest SET is_current = 0 WHERE {of}")
            connection.exec_driver_sql(f"UPDATE core_manifest SET is_current = 1 WHERE {of} AND revision = 1")
        return found

    monkeypatch.setattr(query, "answer", answer)
    asked = call("--home", home, "sql", "SELECT DISTINCT capture_id FROM otc_raw", "-f", "json")
    read = {row["capture_id"] for row in asked.json()}
    (line,) = [one for one in outbox.lines(changed.desk.store.home) if one["via"] == "command"]
    assert set(line["captures"]) == read


def test_time_alone_makes_another_answer(changed: Api) -> None:
    """Prevents `is_preliminary` from being confirmed after its hour, since nothing was committed."""
    ends = datetime.fromisoformat("2025-12-17T15:00:00+00:00")  # 48 hours after 2025-11-14 came
    etags = []
    for seconds in (-60, -1, 1):
        changed.desk.spine = replace(changed.desk.spine, clock=Clock(ends + timedelta(seconds=seconds)))
        etags.append(changed.get("data/otc_week_quality").headers["ETag"])
    assert etags[0] == etags[1] != etags[2]


def test_a_view_that_is_made_otherwise_is_another_version(changed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a release that mends a view from confirming what the old one said."""
    first = changed.get("data/weeks")
    monkeypatch.setattr(reading.Sources, "definition", property(lambda _: "mended"))
    again = changed.get("data/weeks", headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 200
    replayed = changed.get("data/weeks", params={"data_version": first.headers["X-Data-Version"]})
    assert (replayed.status_code, "made otherwise then" in replayed.json()["detail"]) == (422, True)
