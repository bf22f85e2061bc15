"""Parameters that several lists share, so that one word means one thing."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel, Field

from market_spine.domain.tiers import ALL_TIERS
from market_spine.domain.tiers import tier as parse_tier
from market_spine.domain.weeks import week_ending as parse_week


class Page(BaseModel):
    """How much of a list."""

    limit: int = Field(100, ge=1, le=1000, description="Rows of one answer")
    offset: int = Field(0, ge=0, le=10_000_000, description="Rows to leave out, for the next page")


class OfWeek(Page):
    """Of which week."""

    week_ending: str | None = Field(
        None, max_length=40, description="One week: the Friday that ends it", examples=["2025-11-14"]
    )

    @property
    def week(self) -> date | None:
        return parse_week(self.week_ending) if self.week_ending else None


class OfWeeks(OfWeek):
    """Of which week and tiers."""

    tier: list[str] = Field(
        [], max_length=10, description="NMS_TIER_1, NMS_TIER_2, OTC, or ALL for what is of a whole week"
    )

    @property
    def tiers(self) -> list[str]:
        return [ALL_TIERS if text.strip().upper() == ALL_TIERS else str(parse_tier(text)) for text in self.tier]
