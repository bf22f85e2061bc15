"""What a source answers: a delivery with its provenance, or one of four typed kinds of empty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from market_spine.domain.contracts import Feed
from market_spine.domain.keys import WeekKey


class WeekSource(StrEnum):
    """How the week of a delivery was found, in the order of trust."""

    CALLER = "caller"  # named explicitly by whoever asked
    REQUEST = "request"  # asked of the API, and checked row by row
    PATH = "path"  # a declared landing path: {TIER}_{week}.csv, {week}/{TIER}.csv
    PUBLICATION_DATE = "publication_date"  # the publication rule, of the date in the name or the rows' lastUpdateDate


class EmptyKind(StrEnum):
    """The four kinds of empty; none is success, and none lands.

    A file that has rows, or is not text at all, is no Empty: it is delivered, landed, and refused afterwards.
    """

    NOT_DUE = "not_due"  # FINRA has not published it yet
    NO_ROWS = "no_rows"  # due, but there is nothing: HTTP 204, no such file, header only
    TRUNCATED = "truncated"  # fewer rows than announced
    WRONG_CONTENT = "wrong_content"  # the API: HTML, a JSON error, rows of another partition; two files for one


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing usable was delivered for ``key``: the kind, the cause, and what to do next."""

    key: WeekKey
    kind: EmptyKind
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Part:
    """One object of a delivery, exact bytes: a file on disk (never read whole) or a page in memory."""

    name: str
    data: bytes | Path
    media_type: str = "text/plain"  # text/plain (pipes), text/csv (commas, quotes), application/json


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a source delivered for one partition. Line numbers count per part, from 1, the header included."""

    key: WeekKey
    parts: tuple[Part, ...]
    source_kind: str  # file | api | synthetic
    source_name: str  # path, URL or generator recipe
    week_source: WeekSource
    fetched_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a source that could not be understood: its name, why, and the override to use."""

    name: str
    reason: str
    override: str


@dataclass(frozen=True, slots=True)
class Inventory:
    """What a source says it has: partitions, and what it could not understand.

    Weeks before ``since`` are not listed, though the source may have them: only asking tells. None: all are listed.
    """

    keys: tuple[WeekKey, ...]
    problems: tuple[Problem, ...] = ()
    since: date | None = None


class Source(Protocol):
    """Where weeks come from. Time is an argument; transports are constructor arguments of the classes."""

    kind: str

    @property
    def series(self) -> str:
        """What all its weeks are of: weeks of two series are never in one store."""
        ...

    def inventory(self, feed: Feed, now: datetime) -> Inventory:
        """The partitions that can be asked for at ``now``, oldest first, and what was not understood."""
        ...

    def fetch(self, feed: Feed, key: WeekKey, now: datetime) -> Delivery | Empty:
        """The exact bytes for ``key``, or why there are none; SourceError where the source itself failed."""
        ...
