"""Identity: WeekKey names a partition, RecordKey one venue's trading in one stock in one week.

What belongs here: value objects and their canonical text forms. What does not: capture ids (`captures`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date

from market_spine.domain.errors import PartitionError
from market_spine.domain.tiers import ALL_TIERS, Tier
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import week_ending

# The same expression in DuckDB, over columns of these names; a test holds both to one oracle.
RECORD_HASH_SQL = "left(sha256(concat_ws('|', week_ending, tier, symbol, mpid)), 32)"


@dataclass(frozen=True, slots=True)
class WeekKey:
    """One partition: a week of one tier, or of all tiers (``tier=None``) for week-partitioned tables."""

    week_ending: date
    tier: Tier | None

    def __post_init__(self) -> None:
        week_ending(self.week_ending)

    def __str__(self) -> str:
        return f"{self.tier_text}:{self.week_ending}"

    def __lt__(self, other: WeekKey) -> bool:
        """By week, then tier; ALL comes first (a None does not compare with a Tier)."""
        return (self.week_ending, self.tier_text) < (other.week_ending, other.tier_text)

    @classmethod
    def from_string(cls, text: str) -> WeekKey:
        """The inverse of ``str``; splits at the first colon."""
        tier_text, colon, week = text.partition(":")
        if not colon:
            raise PartitionError(f"{text!r} is not a partition", "write it as TIER:YYYY-MM-DD, e.g. OTC:2025-11-14")
        return cls(week_ending(week), None if tier_text == ALL_TIERS else parse_tier(tier_text))

    @property
    def tier_text(self) -> str:
        """The tier as stored: its name, or ALL."""
        return self.tier.value if self.tier else ALL_TIERS

    @property
    def partition_key(self) -> str:
        """Canonical JSON (sorted keys), as stored in the core tables."""
        fields = {"week_ending": self.week_ending.isoformat()}
        if self.tier:
            fields["tier"] = self.tier.value
        return json.dumps(fields, sort_keys=True)


@dataclass(frozen=True, slots=True)
class RecordKey:
    """The natural key of a row: (week_ending, tier, symbol, mpid)."""

    week_ending: date
    tier: Tier
    symbol: str
    mpid: str

    def to_hash(self) -> str:
        """First 32 hex digits of sha256 over the key's text, e.g. ``2025-12-12|NMS_TIER_1|A|ALPX``."""
        text = f"{self.week_ending.isoformat()}|{self.tier}|{self.symbol}|{self.mpid}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]
