"""Channels: names that stand for addresses, and sending one message to one of them through apprise.

What belongs here: where addresses are kept, and the one place that knows apprise. What does not: what is sent to whom.

An address holds a secret (a token, a password), so it is read when something is sent, held by nothing, and told to
nobody: failures are told in words of this module, never in the library's, which quote it. Apprise writes addresses into
its log, and the HTTP library below it paths; here those logs go nowhere.
"""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from market_spine.domain.errors import ChannelError
from market_spine.governance.subscriptions import is_name

if TYPE_CHECKING:
    from apprise import NotifyBase

SECONDS = 10.0  # for one message, whatever the other side does
SOCKET_SECONDS = 5.0  # to connect, and between two bytes
EXAMPLE = "desk: mailtos://USER:PASSWORD@mail.example.com?to=ops@example.com"
# What the library's own words come to. The first that is found counts.
REASONS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), told)
    for pattern, told in (
        (r"error=(\d{3})\b", "the other side answered {0}"),
        (r"Exception: \((\d{3}),", "the mail server answered {0}"),
        (r"refused", "the connection was refused"),
        (r"timed? ?out", "no answer in time"),
        (r"name resolution|getaddrinfo|Name or service not known|No address", "the name of its host is not known"),
        (r"certificate", "its certificate could not be verified"),
        (r"aborted|reset|closed", "the connection broke off"),
    )
)


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent. ``severity`` is one of core_notices, or '' for what is over; ``key`` is the same for one matter."""

    title: str
    body: str
    severity: str = ""
    is_markdown: bool = False
    key: str = ""


@dataclass(frozen=True)
class Channels:
    """Addresses by name: those of the file ``path``, and ``inline`` ones of the environment, which go first.

    The file may be absent unless ``is_named``. Nothing is read before something is sent.
    """

    path: Path
    is_named: bool = False
    inline: str = field(default="", repr=False)

    def names(self) -> list[str]:
        """The channels that there are; ChannelError where the file cannot be used."""
        return sorted(self._addresses())

    def find(self, name: str) -> Channel:
        """The channel called ``name``; ChannelError where there is none, or where its address leads nowhere."""
        if not is_name(name):
            raise ChannelError("a channel is named, not given by its address", f"name it in {self.path}: {EXAMPLE}")
        addresses = self._addresses()
        if name not in addresses:
            there = f"there are: {', '.join(sorted(addresses))}" if addresses else "there are none yet"
            raise ChannelError(f"there is no channel {name}; {there}", f"put it into {self.path}, e.g. {EXAMPLE}")
        service = _service(name, addresses[name])
        return Channel(name, service, bool(getattr(service, "dedup", None)))

    def _addresses(self) -> dict[str, str]:
        found = _parsed(self._text(), str(self.path)) if self.is_named or self.path.exists() else {}
        return found | (_parsed(self.inline, "MARKET_SPINE_CHANNEL_URLS") if self.inline else {})

    def _text(self) -> str:
        try:
            mode = self.path.stat().st_mode
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cause = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            remedy = "mend it, or name another file: MARKET_SPINE_CHANNELS"
            raise ChannelError(f"{self.path}: {cause}", remedy) from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            others = "can be read or written by other users, and its addresses hold secrets"
            raise ChannelError(f"{self.path} {others}", f"chmod 600 {self.path}")
        return text


def _parsed(text: str, place: str) -> dict[str, str]:
    """Name -> address. The parser's own words would quote the text."""
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ChannelError(f"{place}{where}: that is not YAML", f"write it as {EXAMPLE}") from None
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ChannelError(f"{place}: no names with their addresses", f"write it as {EXAMPLE}")
    for number, (name, address) in enumerate(found.items(), 1):
        if not (isinstance(name, str) and is_name(name)):
            rule = "small letters, digits, - and _, e.g. trading-desk"
            raise ChannelError(f"{place}: entry {number} has no name that can be one", f"use {rule}")
        if not (isinstance(address, str) and "://" in address):
            raise ChannelError(f"{place}: channel {name} has no address", f"write it as {EXAMPLE}")
    return dict(found)


class _Silence(logging.Filter):
    """Hands what a logger is told to the send that is under way, and to no handler, whoever has put one there."""

    def filter(self, record: logging.LogRecord) -> bool:
        HEARD.get([]).append(record.getMessage())
        return False


HEARD: ContextVar[list[str]] = ContextVar("heard")
SILENCE = _Silence()


def _quiet() -> None:
    """The library logs addresses, and why something failed only at its finest level; below it are paths with tokens."""
    ours = logging.getLogger("apprise")
    ours.setLevel(logging.DEBUG)
    ours.addFilter(SILENCE)  # which adds the same one once
    logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)


def _service(name: str, address: str) -> NotifyBase:
    """What apprise makes of an address, with waits that end."""
    import apprise

    _quiet()
    asset = apprise.AppriseAsset(
        service_timeout=SECONDS, storage_mode=apprise.PersistentStoreMode.MEMORY, allow_templates=False
    )
    asset.app_id, asset.app_desc, asset.async_mode = "Market Spine", "Market Spine", False
    asset.http_redirects = False  # a page to log in at is no receipt
    service = apprise.Apprise.instantiate(address, asset=asset)
    if service is None:
        seen = "https://appriseit.com/services/ has the forms of addresses"
        raise ChannelError(f"the address of channel {name} is none that can be used", seen)
    service.socket_connect_timeout = service.socket_read_timeout = SOCKET_SECONDS
    service.request_rate_per_sec = 0  # it would sleep 5.5 s between two; what is much at once is one message anyway
    return service


@dataclass(frozen=True)
class Channel:
    """One channel, ready to send."""

    name: str
    service: Any = field(repr=False)
    has_own_key: bool = False  # the address says which incident everything belongs to

    @property
    def has_incidents(self) -> bool:
        """Whether the other side keeps an incident for each matter, so that each must come by itself."""
        return hasattr(self.service, "dedup")

    def send(self, message: Message) -> None:
        """Send ``message``, in at most `SECONDS`; ChannelError, without anything of the address, where it fails."""
        import apprise

        sender = apprise.Apprise(asset=self.service.asset)
        sender.add(self.service)
        if self.has_incidents and not self.has_own_key:
            self.service.dedup = message.key or None
        heard: list[str] = []
        token = HEARD.set(heard)
        try:
            result = sender.notify(
                title=message.title,
                body=message.body,
                notify_type=_type(message),
                body_format=apprise.NotifyFormat.MARKDOWN if message.is_markdown else apprise.NotifyFormat.TEXT,
                timeout=SECONDS,
            )
        finally:
            HEARD.reset(token)
        if not result:
            is_late = result.status == apprise.AppriseResultStatus.TIMEOUT
            reason = "no answer in time" if is_late else _reason("\n".join(heard))
            raise ChannelError(f"channel {self.name}: {reason}", f"spine notify test {self.name}  # once it is mended")


def _type(message: Message) -> Any:
    from apprise import NotifyType

    grave = {"WARN": NotifyType.WARNING, "ERROR": NotifyType.FAILURE, "CRITICAL": NotifyType.FAILURE}
    return NotifyType.SUCCESS if not message.severity else grave.get(message.severity, NotifyType.INFO)


def _reason(said: str) -> str:
    """Why a message did not arrive, in our words: of the library's, three digits at most are kept."""
    for pattern, told in REASONS:
        if found := pattern.search(said):
            return told.format(*found.groups())
    return "it could not be sent"
