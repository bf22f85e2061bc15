"""`spine notify` as people and programs use it: subscribing, testing, sending, looking at what was told."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from market_spine.domain.contracts import Severity
from market_spine.store.store import Store
from market_spine_tests.automation.post_office import SECRET, Webhook, webhook, write
from market_spine_tests.cli.calls import Answer, call
from market_spine_tests.governance.anomaly_desk import T1, seen
from market_spine_tests.governance.notice_board import Board

TITLE = "not delivered, OTC 2025-11-14"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    for name in [name for name in os.environ if name.upper().endswith("_PROXY")]:
        monkeypatch.delenv(name)
    with webhook() as made:
        yield made


@pytest.fixture
def board(home: Path, hook: Webhook) -> Iterator[Board]:
    """A home with one channel, at which something can be found."""
    store = Store.at(home)
    store.ensure()
    write(store.home.channels, desk=hook.url)
    yield Board(store)
    store.control.dispose()


def notify(*words: str, width: int = 120) -> Answer:
    return call("notify", *words, width=width)


def test_from_subscribing_to_the_receipt(board: Board, hook: Webhook) -> None:
    """Prevents a door that says one thing and does another: the way of one notice, without a daemon."""
    board.subscribe("desk", Severity.ERROR)
    board.look(seen("NOT_DELIVERED", severity=Severity.ERROR, message="not there"))
    hook.answers.append(500)
    answer = notify("run")
    assert (answer.code, answer.out) == (1, "finra.otc_transparency: 1 notice drafted, 0 messages sent\n")
    assert answer.err == "channel desk: the other side answered 500\n"
    (row,) = notify("receipts", "-f", "json").json()
    assert (row["state"], row["attempts"], row["last_error"]) == ("PENDING", 1, answer.err.strip())
    assert notify("run").out.endswith("0 notices drafted, 0 messages sent\n")  # not before a minute is over
    (notice,) = notify("notices", "-f", "json").json()
    assert (notice["title"], notice["severity"], notice["state"]) == (TITLE, "ERROR", "OPEN")
    shown = notify("show", "1").out
    assert shown.startswith(f"notice 1, ANOMALY, OPEN\n\nERROR: {TITLE}\nnot there\nsince ")
    assert "seen to: spine notify ack 1\n-> desk (PENDING)\n" in shown
    assert notify("ack", "1", "--note", "asked", "--actor", "ops").out == f"acknowledged notice 1: {TITLE}\n"
    assert notify("show", "1").out.startswith("notice 1, ANOMALY, ACKNOWLEDGED by ops: asked\n")
    assert [row["body"] for row in notify("show", "1", "-f", "json").json()] == [row["body"]]


def test_subscriptions_as_they_are_listed(board: Board) -> None:
    """Prevents a subscription that is not what was asked for, and an ended one that looks like one."""
    assert notify("list").out == "nobody has subscribed: spine notify subscribe NAME --channel CHANNEL\n"
    answer = notify("subscribe", "desk", "--channel", "desk", "--severity", "ERROR")
    assert answer.out == "subscribed desk: ERROR and graver over desk, at once\nnext: spine notify test desk\n"
    wish = ("--domain", "otc", "--ready-for", "trading", "--mode", "digest", "--actor", "me")
    assert "a digest every morning" in notify("subscribe", "boss", "--channel", "desk", *wish).out
    assert notify("unsubscribe", "desk").out == "unsubscribed desk\n"
    rows = notify("list", "--all", "-f", "json").json()
    told = [(row["name"], row["state"], row["min_severity"], row["domain"], row["actor"]) for row in rows]
    assert told == [
        ("desk", "ended", "ERROR", "", getpass.getuser()),
        ("boss", "active", "WARN", "finra.otc_transparency", "me"),
    ]
    assert [row["name"] for row in notify("list", "-f", "csv").csv()] == ["boss"]


@pytest.mark.parametrize("width", [80, 120])
def test_what_is_listed_fits(board: Board, width: int) -> None:
    """Prevents lines that wrap where a title and a reason stand side by side."""
    board.subscribe("desk")
    board.look(seen("NOT_DELIVERED", severity=Severity.ERROR), seen("UNUSUAL_LARGEST_SHARE_SHIFT", T1))
    board.draft()
    board.send("channel desk: the name of its host is not known")
    for words in (("list",), ("notices",), ("receipts",)):
        lines = notify(*words, width=width).out.splitlines()
        assert len(lines) > 2
        assert max(map(len, lines)) <= width


def test_a_test_of_every_channel(board: Board, hook: Webhook) -> None:
    """Prevents a channel that is tried for the first time when something is wrong, and a reason with its token."""
    assert notify("test").out == "sent over desk\n"
    assert hook.titles == ["Market Spine: a test"]
    hook.answers.append(403)
    answer = notify("test", "desk")
    assert answer.code == 2
    assert answer.err.startswith("error: channel desk: the other side answered 403\n  next: spine notify test desk")
    assert SECRET not in answer.err + call("notify", "test", "desk", "--traceback", width=120).err


# Words, the error, its remedy.
WRONG = [
    (("subscribe", "x", "--channel", "pager"), "there is no channel pager; there are: desk", "put it into"),
    (
        ("subscribe", "x", "--channel", f"slack://{SECRET}"),
        "a channel is named, not given by its address",
        "name it in",
    ),
    (("subscribe", "X", "--channel", "desk"), "that is no name for a subscription", "use small letters"),
    (
        ("subscribe", "x", "--channel", "desk", "--ready-for", "fun"),
        "there is no use case 'fun'",
        "use one of: trading",
    ),
    (("subscribe", "x", "--channel", "desk", "--domain", "no"), "there is no feed 'no'", "otc"),
    (("unsubscribe", "x"), "there is no subscription 'x'", "spine notify list"),
    (("snooze", "x"), "until when?", "--for 4h"),
    (("snooze", "x", "--for", "4h", "--until", "2099-01-01 10:00"), "until when?", "--for 4h"),
    (("snooze", "x", "--for", "4y"), "'4y' is no span of time", "30m, 4h or 2d"),
    (("snooze", "x", "--for", "4h"), "there is no subscription 'x'", "spine notify list"),
    (("snooze", "x", "--until", "2001-01-01 10:00"), "2001-01-01 10:00 UTC is over", "--off"),
    (("ack", "9"), "there is no notice 9", "spine notify notices --all"),
    (("ack", "100000000000000000000"), "there is no notice 100000000000000000000", "spine notify notices --all"),
    (("show", "9"), "there is no notice 9", "spine notify notices --all"),
    (("retry",), "which receipts?", "--all"),
    (("retry", "9"), "not FAILED, or not there: receipt 9", "spine notify receipts"),
]


@pytest.mark.parametrize(("words", "cause", "remedy"), WRONG, ids=[" ".join(words) for words, _, _ in WRONG])
def test_what_cannot_be_is_told(board: Board, words: tuple[str, ...], cause: str, remedy: str) -> None:
    """Prevents a mistake that does nothing, without a word or with a traceback, or that quotes a secret."""
    answer = notify(*words)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {cause}")
    assert remedy in answer.err
    assert SECRET not in answer.err


def test_no_channel_at_all(home: Path) -> None:
    """Prevents "tested: nothing" from looking like success."""
    store = Store.at(home)
    store.ensure()
    store.control.dispose()
    answer = notify("test")
    assert (answer.code, "there is no channel yet" in answer.err) == (2, True)


def test_a_snooze_and_its_end(board: Board) -> None:
    """Prevents a snooze of another length than was said."""
    board.subscribe("desk")
    assert notify("snooze", "desk", "--until", "2099-01-01 10:00").out == (
        "desk is told nothing until 2099-01-01 10:00 UTC\n"
    )
    assert notify("list", "-f", "json").json()[0]["snoozed_until"] == "2099-01-01T10:00:00Z"
    assert notify("snooze", "desk", "--off").out == "desk is awake\n"
    assert notify("list", "-f", "json").json()[0]["snoozed_until"] is None


def test_what_failed_is_sent_again(board: Board, hook: Webhook) -> None:
    """Prevents a message that failed for good from being lost when its channel works again."""
    board.subscribe("desk")
    board.look(seen("NOT_DELIVERED", severity=Severity.ERROR))
    board.draft()
    for _ in range(20):
        board.send("the other side answered 500")
    assert [row["state"] for row in notify("receipts", "--state", "FAILED", "-f", "json").json()] == ["FAILED"]
    assert notify("retry", "--all").out == "1 receipt to be sent again\n"
    assert notify("run").code == 0
    assert hook.titles == [f"ERROR: {TITLE}"]
    assert "SENT" in notify("receipts").out


def test_the_digest_is_printed_and_not_sent(board: Board, hook: Webhook) -> None:
    """Prevents a look at the digest from being a digest to everybody."""
    board.look(seen("NOT_DELIVERED", severity=Severity.ERROR))
    answer = notify("digest")
    assert ": 1 ERROR\n\n## Open\n\n* **ERROR** not delivered, OTC 2025-11-14: " in answer.out
    assert hook.taken == []
