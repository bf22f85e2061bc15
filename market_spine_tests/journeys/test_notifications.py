"""The notification sensor, evaluated as the daemon does, with real servers on loopback at the other end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from market_spine.assets.scope import look
from market_spine.assets.spine import Spine
from market_spine.automation import channels as channels_module
from market_spine.automation import notify
from market_spine.automation.channels import Channels
from market_spine.automation.health import health_job
from market_spine.automation.notify import notification_sensor, try_channel
from market_spine.domain.contracts import Severity
from market_spine.domain.operations import Mode
from market_spine.feeds.otc import FEED
from market_spine.governance.receipts import retry
from market_spine.governance.subscriptions import Wish, subscribe
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store import notices
from market_spine.store.ledger import Run
from market_spine.store.store import Store
from market_spine_tests.automation.post_office import SECRET, drip, hang, mail_server, text_of, webhook, write
from market_spine_tests.governance.anomaly_desk import T1, Desk, holds, seen, weeks_later
from market_spine_tests.journeys.stage import OTC, T2, Clock, key, staged
from market_spine_tests.journeys.stage import T1 as TIER_1
from market_spine_tests.store.builders import T0

GAP, ERROR = "NOT_DELIVERED", Severity.ERROR
TITLE = "not delivered, OTC 2025-11-14"
SENSOR = notification_sensor(FEED)


class Daemon:
    """A store with subscribers, whose sensor is evaluated with the cursor that it left."""

    def __init__(self, home: Path) -> None:
        self.store = Store.at(home, threads=1)
        self.store.ensure()
        self.clock = Clock(T0)
        self.path = home / "channels.yaml"
        self.channels = Channels(self.path)
        self.desk = Desk(self.store)
        self.spine = Spine(self.store, SyntheticSource.from_spec(""), self.clock)
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor: str | None = None

    def run(self) -> Run:
        return Run("test", "test", self.clock.forward(minutes=1))

    def subscribe(self, name: str, **more: Any) -> None:
        subscribe(self.store, self.run(), Wish(name, name, **more), "ops")

    def look(self, *observed: Any) -> None:
        """Something is found, and a minute passes."""
        self.desk.minutes = round((self.clock.forward(minutes=1) - T0).total_seconds() / 60)
        self.desk.look(*observed)
        self.clock.forward(minutes=2)

    def tick(self, **forward: float) -> str:
        self.clock.forward(**forward or {"seconds": 30})
        context = dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            sensor_name=SENSOR.name,
            resources={"spine": self.spine, "channels": self.channels},
        )
        answer = SENSOR(context)
        self.cursor = context.cursor
        assert isinstance(answer, dg.SkipReason)
        return str(answer.skip_message)

    def receipts(self) -> list[dict[str, Any]]:
        with self.store.control.read() as connection:
            return notices.receipts(connection)

    def states(self) -> list[tuple[str, int]]:
        return [(row["state"], row["attempt_count"]) for row in self.receipts()]

    def failing(self) -> list[str]:
        return [row["message"] for row in self.desk.open().values() if row["code"] == "CHANNEL_FAILING"]


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loopback is asked itself, and nobody's .netrc is read."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(tmp_path / "home")
    yield made
    made.store.control.dispose()


QUIET = "nothing was recorded, and nothing is due"


def test_from_the_finding_to_the_mail_and_back(daemon: Daemon) -> None:
    """Prevents a gap at night of which nobody hears, hears twice, or never hears the end."""
    assert daemon.tick() == "nobody has subscribed"
    with mail_server() as box:
        write(daemon.path, ops=box.url)
        daemon.subscribe("ops")
        daemon.look(seen(GAP, severity=ERROR, message="not there since 2025-12-16 15:00 UTC"))
        assert daemon.tick() == "1 drafted, 1 sent, 0 channels failed"
        assert daemon.tick() == "0 drafted, 0 sent, 0 channels failed"  # what it wrote itself is news once
        assert daemon.tick() == QUIET
        daemon.look(holds(GAP, message="arrived"))
        assert daemon.tick() == "1 drafted, 1 sent, 0 channels failed"
    opened, closed = box.mails
    assert (opened["subject"], closed["subject"]) == (f"ERROR: {TITLE}", f"closed: {TITLE}")
    assert "spine backfill --from 2025-11-14 --to 2025-11-14 --tier OTC" in text_of(opened)
    assert daemon.states() == [("SENT", 1), ("SENT", 1)]


def test_a_lost_cursor_tells_nothing_twice(daemon: Daemon) -> None:
    """Prevents a year of messages after a new Dagster home."""
    with webhook() as hook:
        write(daemon.path, desk=hook.url)
        daemon.subscribe("desk")
        daemon.look(seen(GAP, severity=ERROR))
        daemon.tick()
        daemon.cursor = None
        daemon.tick()
    assert hook.titles == [f"ERROR: {TITLE}"]


def test_a_webhook_that_fails_three_times(daemon: Daemon) -> None:
    """Prevents a message lost to an outage of minutes, retries at every look, and a channel that fails in silence."""
    with webhook(500, 500, 500) as hook:
        write(daemon.path, desk=hook.url)
        daemon.subscribe("desk")
        daemon.look(seen(GAP, severity=ERROR))
        moments = []
        for _ in range(40):
            before = len(hook.taken)
            daemon.tick(seconds=20)
            moments += [daemon.clock()] if len(hook.taken) > before else []
            if len(hook.taken) == 1:
                assert daemon.failing() == []  # once is no anomaly
            if len(hook.taken) == 2:
                assert daemon.failing() == ["channel desk: the other side answered 500"]
    assert [(later - one).total_seconds() for one, later in pairwise(moments)] == [60, 120, 240]
    assert daemon.states() == [("SENT", 4)]
    assert daemon.failing() == []  # it works again


def test_a_webhook_that_never_works(daemon: Daemon) -> None:
    """Prevents a message from being tried for ever; once the channel works it is sent by hand."""
    with webhook(*[503] * 4) as hook:
        write(daemon.path, desk=hook.url)
        daemon.subscribe("desk")
        daemon.look(seen(GAP, severity=ERROR))
        for _ in range(20):
            daemon.tick(minutes=1)
        (row,) = daemon.receipts()
        assert (row["state"], row["attempt_count"]) == ("FAILED", 4)
        assert row["last_error"] == "channel desk: the other side answered 503"
        assert len(daemon.failing()) == 1
        try_channel(daemon.store, daemon.run(), [FEED.domain], daemon.channels.find("desk"))
        assert daemon.failing() == []
        retry(daemon.store, daemon.run(), None)
        daemon.tick()
    assert daemon.states() == [("SENT", 1)]
    assert hook.titles == [f"ERROR: {TITLE}"] * 4 + ["Market Spine: a test", f"ERROR: {TITLE}"]


def test_one_that_hangs_holds_up_nobody(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a server that takes a message and says nothing from keeping the others waiting, or the tick alive."""
    monkeypatch.setattr(channels_module, "SOCKET_SECONDS", 1.0)
    monkeypatch.setattr(channels_module, "SECONDS", 1.5)
    with webhook(*[hang(5.0)] * 9, drip(5.0)) as hook, webhook() as good:
        write(daemon.path, bad=hook.url, good=good.url)
        daemon.subscribe("bad")
        daemon.subscribe("good")
        daemon.look(seen(GAP, severity=ERROR), seen(GAP, T1, ERROR))
        assert daemon.tick() == "2 drafted, 2 sent, 1 channels failed"
        assert len(hook.taken) == 1  # one wait, whatever waits behind it
        assert len(good.taken) == 2
        daemon.tick(minutes=1)
        daemon.tick()
        assert "ERROR: channel failing: bad" in good.titles


def test_a_tick_has_an_end(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a tick of many messages from being ended by Dagster at 60 seconds; what is left is sent by the next."""
    monkeypatch.setattr(notify, "BUDGET", 0.0)
    with webhook() as hook:
        write(daemon.path, desk=hook.url)
        daemon.subscribe("desk")
        daemon.look(seen(GAP, severity=ERROR))
        assert daemon.tick() == "1 drafted, 0 sent, 0 channels failed"
        monkeypatch.setattr(notify, "BUDGET", 25.0)
        assert daemon.tick() == "0 drafted, 1 sent, 0 channels failed"
    assert daemon.states() == [("SENT", 1)]
    assert notify.BUDGET + 10 + 10 < 60  # drafting takes less than the last ten


def test_many_at_once_are_one_message(daemon: Daemon) -> None:
    """Prevents forty messages in the minute after an outage; each notice keeps its own receipt."""
    with webhook() as hook:
        write(daemon.path, desk=hook.url)
        daemon.subscribe("desk")
        daemon.look(*(seen(GAP, weeks_later(number), ERROR) for number in range(40)))
        daemon.tick()
    (got,) = hook.taken
    assert (got["title"], got["type"]) == ("40 notices", "failure")
    lines = got["message"].splitlines()
    assert lines[0] == f"ERROR: {TITLE}"
    assert lines[-3:] == ["and 10 more", "", "more: spine notify notices"]
    assert daemon.states() == [("SENT", 1)] * 40


@pytest.mark.parametrize("damage", ["open to others", "gone", "no such channel", "not YAML"])
def test_a_file_that_cannot_be_used_is_told_and_mended(daemon: Daemon, damage: str) -> None:
    """Prevents a file with the wrong mode from stopping the sensor, or from being the end of a message."""
    with webhook() as hook:
        write(daemon.path, desk=hook.url)
        daemon.subscribe("desk")
        daemon.look(seen(GAP, severity=ERROR))
        if damage == "open to others":
            daemon.path.chmod(0o644)
        elif damage == "gone":
            daemon.path.unlink()
        elif damage == "no such channel":
            write(daemon.path, other=hook.url)
        else:
            daemon.path.write_text(f"desk: [{SECRET}")
        assert daemon.tick() == "1 drafted, 0 sent, 1 channels failed"
        daemon.tick(minutes=1)
        assert len(daemon.failing()) == 1
        assert SECRET not in daemon.failing()[0]
        write(daemon.path, desk=hook.url)
        daemon.tick(minutes=2)
    assert daemon.states()[0] == ("SENT", 3)
    assert daemon.failing() == []


def test_killed_between_sending_and_the_receipt(daemon: Daemon) -> None:
    """Prevents a message that was on its way when the daemon died from never arriving; the attempt counts."""
    with webhook(hang(2.0)) as hook:  # shorter than a channel waits
        write(daemon.path, desk=hook.url)
        daemon.subscribe("desk")
        daemon.look(seen(GAP, severity=ERROR))
        code = (
            "import sys, pathlib; sys.path.insert(0, '.')\n"
            "from datetime import datetime\n"
            "from market_spine_tests.journeys import test_notifications as module\n"
            f"daemon = module.Daemon(pathlib.Path({str(daemon.store.home.root)!r}))\n"
            f"daemon.clock.moment = datetime.fromisoformat({daemon.clock().isoformat()!r})\n"
            "daemon.tick()\n"
        )
        root = Path(__file__).parents[2]
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], cwd=root, env=os.environ | {})
        try:
            assert hook.arrived.wait(60)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        assert daemon.states() == [("PENDING", 1)]
        daemon.clock.forward(seconds=30)
        assert daemon.tick(seconds=10) == "0 drafted, 0 sent, 0 channels failed"  # not before its minute is over
        assert daemon.tick(seconds=60) == "0 drafted, 1 sent, 0 channels failed"
    assert hook.titles == [f"ERROR: {TITLE}"] * 2
    assert daemon.states() == [("SENT", 2)]


def everything_in(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "channels.yaml":
            yield path, path.read_bytes()


def test_no_secret_leaves_the_file_of_channels(
    daemon: Daemon, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents a token in the database, the journal, a log at any level, an error, an anomaly or on the terminal."""
    caplog.set_level(logging.DEBUG)
    with socket.socket() as taken, webhook(500, 403, 200, 500) as hook:
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        addresses = {
            "desk": hook.url,
            "down": f"json://u:{SECRET}@{nobody}/{SECRET}",
            "mail": f"mailto://u:{SECRET}@{nobody}?from=a@b.cd&to={SECRET}@f.gh",
            "odd": f"nonsense://{SECRET}",
        }
        write(daemon.path, **addresses)
        for name in addresses:
            daemon.subscribe(name)
        daemon.look(seen(GAP, severity=ERROR), seen(GAP, T1, ERROR))
        for _ in range(6):
            daemon.tick(minutes=2)
    daemon.store.control.dispose()
    assert len(hook.taken) >= 4
    files = dict(everything_in(daemon.store.home.root))
    assert any(b"answered 500" in content for content in files.values())  # the search looks at the right bytes
    assert [path for path, content in files.items() if SECRET.encode() in content] == []
    assert "the connection was refused" in str(daemon.receipts())
    assert SECRET not in caplog.text + "".join(capfd.readouterr()) + str(daemon.receipts()) + str(daemon.cursor)


def test_the_daily_digest(daemon: Daemon) -> None:
    """Prevents a health job that fails with its channel, a second digest on one day, and none on the next."""
    resources = {"spine": daemon.spine}
    with mail_server() as box:
        write(daemon.path, boss=box.url)
        daemon.subscribe("boss", mode=Mode.DIGEST)
        daemon.look(seen(GAP, severity=ERROR))
        for _ in range(2):
            assert health_job(FEED).execute_in_process(resources=resources, instance=daemon.instance).success
        daemon.tick()
        daemon.tick()
        daemon.clock.forward(days=1)
        assert health_job(FEED).execute_in_process(resources=resources, instance=daemon.instance).success
        daemon.tick()
    assert [mail["subject"] for mail in box.mails] == [
        f"{FEED.domain} 2025-12-15: 1 ERROR",
        f"{FEED.domain} 2025-12-16: 1 ERROR",
    ]
    assert "<h2>Open</h2>" in text_of(box.mails[0])


@pytest.mark.slow
def test_operations_get_a_mail_when_a_tier_is_missing(tmp_path: Path) -> None:
    """Prevents a gap without a mail (F258): the real look, over a store that lacks a tier after its deadline."""
    source, begun = SyntheticSource.from_spec("seed=7,scale=0.02"), Clock(datetime(2025, 12, 16, 15, 30, tzinfo=UTC))
    with staged(tmp_path / "home", source, begun) as scene, mail_server() as box:
        assert scene.run("otc.ingest_week", key("2025-11-14", TIER_1), key("2025-11-14", T2)).is_complete
        home = scene.spine.store.home
        channels = write(home.channels, ops=box.url)
        now = scene.clock()
        subscribe(scene.spine.store, Run("r", "c", now), Wish("ops", "ops", Severity.ERROR), "ops")
        scene.clock.forward(minutes=20)  # the deadline was at 15:00, and tables have an hour
        look(scene.spine, FEED, Run("r", "c", scene.clock()))
        scene.clock.forward(seconds=30)
        resources = {"spine": scene.spine, "channels": channels}
        SENSOR(dg.build_sensor_context(instance=scene.instance, sensor_name=SENSOR.name, resources=resources))
    said = {str(mail["subject"]): text_of(mail) for mail in box.mails}
    assert sorted(said) == [
        f"ERROR: not delivered, {TIER_1} 2025-11-21",
        f"ERROR: not delivered, {TIER_1} 2025-11-28",
        f"ERROR: not delivered, {OTC} 2025-11-14",
    ]
    mail = said[f"ERROR: not delivered, {OTC} 2025-11-14"]
    assert "not there since 2025-12-16 15:00 UTC" in mail
    assert "1 more finding follows from it" in mail  # MISSED_RUNS


def test_the_definitions_have_the_sensor_and_its_channels(daemon: Daemon) -> None:
    """Prevents a sensor that is written and never runs, or that looks for channels in another home."""
    from market_spine.definitions import build_defs

    made = build_defs(daemon.spine).get_repository_def()
    assert made.get_sensor_def("otc_notification_sensor").default_status is dg.DefaultSensorStatus.RUNNING
    with dg.build_resources({"channels": made.get_top_level_resources()["channels"]}) as found:
        assert found.channels == Channels(daemon.store.home.channels)
