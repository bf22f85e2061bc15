"""Structured logs: where they go, from which level on, in which form, and that no secret stands in them.

What belongs here: the settings of structlog, and the taking out of secrets. What does not: what is logged; whoever has
something to say asks structlog for its logger, on any floor but the domain.

A warning is something that nobody else tells, such as a long wait. What Dagster's own log or a command tells already is
INFO, so that nothing is told twice by default (decision 0022).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import structlog

HIDDEN = "[secret]"
# Part of a name, whatever stands before and behind it: X-Api-Key, client_secret, proxy-authorization.
_WORDS = r"authorization|passw|passphrase|pwd|token|secret|credential|api[_-]?key|private[_-]?key|cookie"
NAME = re.compile(_WORDS, re.IGNORECASE)
# Each leaves its first group. Rather too much than too little: a word too many is a question, a password a disaster.
# All take a time that grows with the text and no faster: what is asked by whoever can reach the API goes through them.
TEXTS = (
    re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://[^/\s:@]{0,200}:)\S{1,200}(?=@)", re.IGNORECASE),  # the password of a URL
    re.compile(r"(\b(?:bearer|basic)\s{1,9})[^\s,;\"']{6,}", re.IGNORECASE),  # the value of an Authorization header
    re.compile(r"(\bspine_[0-9a-f]{12}_)[\w-]{43}"),  # a token of the API, wherever somebody put it
)
ASSIGNED = re.compile(r"(?<![\w-])[\w-]++[\"']?\s{0,9}[=:]\s{0,9}")  # a name, and what follows is its value
VALUE = re.compile(r"\"[^\"]*\"|'[^']*'|[^\s&,;\"']+")
INVISIBLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but for tabs and ends of lines, which tracebacks have


class Level(StrEnum):
    """From which level on something is logged."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class Form(StrEnum):
    """How a line looks: for people, or one JSON object for programs."""

    PRETTY = "pretty"
    JSON = "json"


@dataclass(frozen=True)
class Redactor:
    """Takes secrets out: values of telling names, passwords in URLs, headers, and ``secrets`` wherever they stand."""

    secrets: tuple[str, ...] = ()

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """As a processor of structlog."""
        return {name: self.clean({name: value})[name] for name, value in event.items()}

    def clean(self, value: Any) -> Any:
        """``value`` without secrets: numbers, texts, lists and mappings of them; everything else becomes its text."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Mapping):
            pairs = ((str(name), one) for name, one in value.items())
            return {self.text(name): HIDDEN if NAME.search(name) else self.clean(one) for name, one in pairs}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean(one) for one in value]
        return self.text(f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value))

    def text(self, text: str) -> str:
        """``text`` without secrets."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        for pattern in TEXTS:
            text = pattern.sub(rf"\g<1>{HIDDEN}", text)
        return INVISIBLE.sub(lambda one: f"\\x{ord(one[0]):02x}", _values_hidden(text))


def _values_hidden(text: str) -> str:
    """``text`` without the values of telling names, wherever they stand: also within another value."""
    parts, done = list[str](), 0
    for assigned in ASSIGNED.finditer(text):
        value = VALUE.match(text, assigned.end())
        if value and assigned.start() >= done and NAME.search(assigned[0]):
            parts += [text[done : assigned.end()], HIDDEN]
            done = value.end()
    return "".join([*parts, text[done:]])


def configure(level: Level = Level.WARNING, form: Form = Form.PRETTY, secrets: Iterable[str] = ()) -> None:
    """Log to stderr from ``level`` on; ``secrets`` are never logged, as they are nor as a URL spells them."""
    known = {spelling for secret in secrets if secret for spelling in (secret, quote(secret, safe=""))}
    renderer: Any = structlog.processors.JSONRenderer(sort_keys=True)
    if form is Form.PRETTY:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            Redactor(tuple(sorted(known, key=len, reverse=True))),  # last, so that nothing is added behind it
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        # Asked for at each line: Dagster and tests put other streams in the place of stderr.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def redacted(value: Any) -> Any:
    """``value`` as the log would have it: for what is kept elsewhere, such as the error of a run."""
    known = [one for one in structlog.get_config()["processors"] if isinstance(one, Redactor)]
    return (known[0] if known else Redactor()).clean(value)
