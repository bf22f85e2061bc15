"""Builders of the synthetic source's tests: small weeks as bytes and as rows.

What belongs here: what both test modules read. What does not: claims.
"""

from __future__ import annotations

from datetime import date
from functools import cache
from typing import NamedTuple

from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.sources.synthetic import SyntheticSource
from market_spine.sources.synthetic_faults import HEADER

WEEK = date(2025, 11, 14)
KEY = WeekKey(WEEK, Tier.OTC)
KEYS = [WeekKey(WEEK, tier) for tier in Tier]
SMALL = "scale=0.02"


class Row(NamedTuple):
    """One line of the file, all text, in the header's order."""

    tier: str
    symbol: str
    issue: str
    venue: str
    mpid: str
    shares: str
    trades: str
    updated: str


def rows(data: bytes) -> list[Row]:
    """All lines of a file in which every line has eight fields."""
    text = data.decode()
    assert text.endswith("\n")
    header, *lines = text.removesuffix("\n").split("\n")
    assert header == HEADER
    return [Row(*line.split("|")) for line in lines]


@cache
def made(spec: str, key: WeekKey = KEY, version: int = 1) -> bytes:
    return SyntheticSource.from_spec(spec).content(key, version)


def faulty(*faults: str, key: WeekKey = KEY, version: int = 1) -> bytes:
    """The bytes of ``key`` with ``faults`` as name:n."""
    named = [f"fault={name}:{key}:{n}" for name, _, n in (fault.partition(":") for fault in faults)]
    return made(",".join([SMALL, *named]), key, version)


@cache
def plain() -> list[Row]:
    """The week without faults."""
    return rows(made(SMALL))
