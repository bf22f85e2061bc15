"""Tiers. A tier is a property of the stock, not of the venue.

Stored: NMS_TIER_1, NMS_TIER_2, OTC. FINRA's own spellings (file: ``NMS Tier 1``, API: ``T1``, ``OTCE``) and the
usual short forms are accepted on input only; an unknown one is an error, never mapped to a default.
"""

from __future__ import annotations

from enum import StrEnum

from market_spine.domain.errors import TierError


class Tier(StrEnum):
    """The three FINRA tiers, in FINRA's order."""

    NMS_TIER_1 = "NMS_TIER_1"
    NMS_TIER_2 = "NMS_TIER_2"
    OTC = "OTC"

    @property
    def api_code(self) -> str:
        """The spelling of the API's ``tierIdentifier``."""
        return {"NMS_TIER_1": "T1", "NMS_TIER_2": "T2", "OTC": "OTCE"}[self.value]

    @property
    def file_text(self) -> str:
        """The spelling of the file's ``tierDescription``."""
        return {"NMS_TIER_1": "NMS Tier 1", "NMS_TIER_2": "NMS Tier 2", "OTC": "OTC"}[self.value]


# Week-partitioned tables have no tier; the manifest stores this word, so that keys stay NOT NULL.
ALL_TIERS = "ALL"

# Upper-cased, with spaces and hyphens as underscores.
SPELLINGS: dict[str, Tier] = {
    "NMS_TIER_1": Tier.NMS_TIER_1,
    "TIER_1": Tier.NMS_TIER_1,
    "TIER1": Tier.NMS_TIER_1,
    "T1": Tier.NMS_TIER_1,
    "NMS_TIER_2": Tier.NMS_TIER_2,
    "TIER_2": Tier.NMS_TIER_2,
    "TIER2": Tier.NMS_TIER_2,
    "T2": Tier.NMS_TIER_2,
    "OTC": Tier.OTC,
    "OTCE": Tier.OTC,
}


def tier(text: str) -> Tier:
    """The tier that ``text`` spells."""
    found = SPELLINGS.get(text.strip().upper().replace(" ", "_").replace("-", "_"))
    if found is None:
        raise TierError(
            f"{text!r} is not a FINRA tier",
            "use --tier NMS_TIER_1, NMS_TIER_2 or OTC (also accepted: T1, T2, OTCE, 'NMS Tier 1')",
        )
    return found
