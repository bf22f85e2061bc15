"""Tiers: FINRA's spellings in, one name stored, and no default for what FINRA does not use."""

from __future__ import annotations

import pytest

from market_spine.domain.errors import TierError
from market_spine.domain.tiers import ALL_TIERS, SPELLINGS, Tier, tier

ACCEPTED = {
    Tier.NMS_TIER_1: ["NMS_TIER_1", "NMS Tier 1", "nms tier 1", "NMS-TIER-1", "T1", "t1", " T1 ", "tier1", "Tier 1"],
    Tier.NMS_TIER_2: ["NMS_TIER_2", "NMS Tier 2", "nms tier 2", "NMS-TIER-2", "T2", "t2", " T2 ", "tier2", "Tier 2"],
    Tier.OTC: ["OTC", "otc", "OTCE", " otce "],
}


@pytest.mark.parametrize(("text", "expected"), [(text, known) for known, texts in ACCEPTED.items() for text in texts])
def test_every_spelling_of_finra_and_of_people(text: str, expected: Tier) -> None:
    """Prevents a tier that the file spells one way, and the API another, from becoming two."""
    assert tier(text) is expected


@pytest.mark.parametrize(
    "text", ["", " ", "T3", "T", "1", "NMS", "NMS Tier 3", "NMS_TIER_12", "ALL", "OTC Equity", "ATS"]
)
def test_an_unknown_tier_is_rejected_never_defaulted(text: str) -> None:
    """Prevents a misspelt tier from landing in OTC, where nobody would look for it."""
    with pytest.raises(TierError) as caught:
        tier(text)
    assert caught.value.cause == f"{text!r} is not a FINRA tier"
    assert all(known.value in caught.value.remedy for known in Tier)


@pytest.mark.parametrize(
    ("known", "stored", "api", "file"),
    [
        (Tier.NMS_TIER_1, "NMS_TIER_1", "T1", "NMS Tier 1"),
        (Tier.NMS_TIER_2, "NMS_TIER_2", "T2", "NMS Tier 2"),
        (Tier.OTC, "OTC", "OTCE", "OTC"),
    ],
)
def test_the_three_texts_of_a_tier(known: Tier, stored: str, api: str, file: str) -> None:
    """Prevents asking the API for ``OTC``, which answers 204, and storing ``OTCE``."""
    assert (str(known), known.api_code, known.file_text) == (stored, api, file)


@pytest.mark.parametrize("known", Tier)
def test_every_text_that_we_write_is_read_back(known: Tier) -> None:
    """Prevents a spelling of our own that our own input refuses."""
    assert {tier(known.value), tier(known.api_code), tier(known.file_text)} == {known}


def test_the_order_is_finras_and_all_is_no_tier() -> None:
    """Prevents a change of the declared order, which ends of partition ranges must follow, and a tier named ALL."""
    assert list(Tier) == ["NMS_TIER_1", "NMS_TIER_2", "OTC"]
    assert ALL_TIERS not in SPELLINGS
