"""Channels: where addresses come from, what arrives, why something does not, and that no secret leaves them."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from market_spine.automation import channels as module
from market_spine.automation.channels import Channels, Message
from market_spine.domain.errors import ChannelError
from market_spine.settings import Settings, channels_of
from market_spine.store.home import Home
from market_spine_tests.automation.post_office import SECRET, drip, hang, mail_server, text_of, webhook, write

NOTICE = Message("ERROR: not delivered, OTC", "it is not there <since> Friday & *so*\nnext: spine doctor", "ERROR")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Loopback is asked itself, and nobody's .netrc is read."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "channels.yaml"


def test_a_webhook_gets_what_is_said(path: Path) -> None:
    """Prevents a message whose text was escaped, cut or turned into HTML on its way."""
    with webhook() as hook:
        write(path, desk=hook.url).find("desk").send(NOTICE)
    (got,) = hook.taken
    assert (got["title"], got["message"], got["type"]) == (NOTICE.title, NOTICE.body, "failure")


def test_a_mail_gets_what_is_said(path: Path) -> None:
    """Prevents a mail without its subject, and Markdown that stays Markdown."""
    with mail_server() as box:
        channel = write(path, ops=box.url).find("ops")
        channel.send(NOTICE)
        channel.send(Message("digest", "## Open\n\n* **ERROR** one", is_markdown=True))
    first, second = box.mails
    assert (first["subject"], first["to"], first["from"]) == (
        NOTICE.title,
        "ops@example.com",
        "spine@example.com",
    )
    assert "next: spine doctor" in text_of(first)
    assert "<strong>ERROR</strong>" in text_of(second)


def test_slack_gets_a_readable_message(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a Slack message with the title or the command missing."""
    from apprise.plugins.slack import NotifySlack

    with webhook() as hook:
        monkeypatch.setattr(NotifySlack, "webhook_url", f"http://127.0.0.1:{hook.port}")
        hook.answers.append(lambda handler: handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\nok"))
        write(path, desk="slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops").find("desk").send(NOTICE)
    (got,) = hook.taken
    assert NOTICE.title in str(got)
    assert "next: spine doctor" in str(got)


def test_pagerduty_gets_one_incident_for_each_matter(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents an incident that stays open when its cause is gone, and one incident for everything."""
    from apprise.plugins import pagerduty

    with webhook(202, 202, 202) as hook:
        lookup = dict.fromkeys(pagerduty.PAGERDUTY_API_LOOKUP, f"http://127.0.0.1:{hook.port}")
        monkeypatch.setattr(pagerduty, "PAGERDUTY_API_LOOKUP", lookup)
        pager = write(path, pager="pagerduty://INTEGRATIONKEY@APIKEY/?action=map").find("pager")
        assert pager.has_incidents
        for key, severity in (("a", "ERROR"), ("b", "CRITICAL"), ("a", "")):
            pager.send(Message("title", "body", severity, key=key))
    assert [(one["dedup_key"], one["event_action"]) for one in hook.taken] == [
        ("a", "trigger"),
        ("b", "trigger"),
        ("a", "resolve"),
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (500, "the other side answered 500"),
        (403, "the other side answered 403"),
        (302, "the other side answered 302"),  # to a page to log in at, which would answer 200
        (hang(1.0), "no answer in time"),
        (lambda handler: handler.connection.close(), "the connection broke off"),
    ],
)
def test_why_a_webhook_failed(path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, reason: str) -> None:
    """Prevents a failure that is taken for a delivery, and one that nobody can tell from another."""
    monkeypatch.setattr(module, "SOCKET_SECONDS", 0.3)
    with webhook(answer) as hook, pytest.raises(ChannelError) as failure:
        write(path, desk=hook.url).find("desk").send(NOTICE)
    assert failure.value.cause == f"channel desk: {reason}"
    assert failure.value.remedy.startswith("spine notify test desk")


def test_a_mail_server_that_refuses(path: Path) -> None:
    """Prevents a mail that was refused from counting as sent."""
    with mail_server() as box:
        box.refuses = True
        with pytest.raises(ChannelError, match="channel ops: the mail server answered 550"):
            write(path, ops=box.url).find("ops").send(NOTICE)


def test_nobody_is_there(path: Path) -> None:
    """Prevents a refused connection from being told as anything else, over HTTP and SMTP."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        made = write(path, hook=f"json://127.0.0.1:{port}/x", mail=f"mailto://127.0.0.1:{port}?from=a@b.cd&to=e@f.gh")
        for name in ("hook", "mail"):
            with pytest.raises(ChannelError, match=f"channel {name}: the connection was refused"):
                made.find(name).send(NOTICE)


def test_an_answer_that_drips_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a tick from being held by a byte now and then, which no wait between two bytes notices."""
    monkeypatch.setattr(module, "SECONDS", 0.5)
    with webhook(drip(2.0)) as hook:
        began = time.monotonic()
        with pytest.raises(ChannelError, match="channel desk: no answer in time"):
            write(path, desk=hook.url).find("desk").send(NOTICE)
        assert time.monotonic() - began < 1.9


# Text of the file, its cause. A secret stands in each where one could.
BROKEN = [
    (f"good: json://x\ndesk: [{SECRET}", "line 2: that is not YAML"),
    (f"desk: '{SECRET}\n x: 'y'", "that is not YAML"),
    (SECRET, "no names with their addresses"),
    (f"- json://{SECRET}", "no names with their addresses"),
    (f"json://{SECRET}@host: x", "entry 1 has no name that can be one"),
    (f"good: json://x\nDesk {SECRET}: json://x", "entry 2 has no name that can be one"),
    (f"desk: {SECRET}", "channel desk has no address"),
    ("desk:", "channel desk has no address"),
    (f"desk: nonsense://{SECRET}/x", "the address of channel desk is none that can be used"),
    (f"desk: slack://{SECRET}", "the address of channel desk is none that can be used"),
]


@pytest.mark.parametrize(("text", "cause"), BROKEN)
def test_a_broken_file_is_told_without_its_text(
    path: Path, text: str, cause: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prevents an error, a log or stderr that quotes the line with the token in it."""
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ChannelError, match=cause) as failure:
        Channels(path).find("desk")
    assert SECRET not in str(failure.value) + repr(failure.value.__cause__) + repr(failure.value.__dict__)
    assert SECRET not in "".join(capfd.readouterr())
    with pytest.raises(ChannelError, match=cause.replace("line 2", "URLS.*line 2") if "line" in cause else cause):
        Channels(path.with_name("none"), inline=text).find("desk")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620, 0o601])
def test_a_file_that_others_can_use_is_refused(path: Path, mode: int) -> None:
    """Prevents tokens in a file that every user of the machine can read."""
    write(path, desk="json://x").path.chmod(mode)
    with pytest.raises(ChannelError, match="other users") as failure:
        Channels(path).names()
    assert failure.value.remedy == f"chmod 600 {path}"


def test_where_channels_come_from(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prevents a named file that is missing from counting as "no channels"; the environment goes first."""
    home = Home(tmp_path)
    assert channels_of(Settings(), home).names() == []
    write(home.channels, desk="json://a", mail="mailto://b")
    assert channels_of(Settings(), home).names() == ["desk", "mail"]
    monkeypatch.setenv("MARKET_SPINE_CHANNELS", str(tmp_path / "other.yaml"))
    with pytest.raises(ChannelError, match=r"other\.yaml: No such file"):
        channels_of(Settings(), home).names()
    write(tmp_path / "other.yaml", desk="json://a")
    monkeypatch.setenv("MARKET_SPINE_CHANNEL_URLS", f"{{desk: 'json://u:{SECRET}@127.0.0.1/x', pager: 'json://c'}}")
    made = channels_of(Settings(), home)
    assert made.names() == ["desk", "pager"]
    channel = made.find("desk")
    assert channel.service.password == SECRET
    assert SECRET not in repr(made) + repr(channel) + repr(Settings())


def test_no_channel_of_that_name(path: Path) -> None:
    """Prevents a bare "not found", and an address in place of a name from being quoted."""
    write(path, mail="mailto://b", desk="json://a")
    with pytest.raises(ChannelError, match="there is no channel pager; there are: desk, mail"):
        Channels(path).find("pager")
    with pytest.raises(ChannelError, match="there are none yet"):
        Channels(path.with_name("none")).find("desk")
    with pytest.raises(ChannelError, match="a channel is named, not given by its address") as failure:
        Channels(path).find(f"slack://{SECRET}")
    assert SECRET not in str(failure.value)


def test_logs_at_every_level_have_no_secret(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Prevents the library, or the HTTP library below it, from writing tokens into the log of the daemon."""
    caplog.set_level(logging.DEBUG)
    for name in ("", "urllib3", "requests"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    with webhook(200, 500) as hook:
        channel = write(path, desk=hook.url).find("desk")
        channel.send(NOTICE)
        with pytest.raises(ChannelError):
            channel.send(NOTICE)
        logging.getLogger("another").debug("heard")
    assert "heard" in caplog.text
    assert SECRET not in caplog.text
