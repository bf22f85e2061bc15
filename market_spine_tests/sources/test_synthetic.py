"""The synthetic source: same recipe, same bytes; FINRA's shapes; fetching; recipes that cannot be read.

Numbers of the shapes are FINRA's own (rows, symbols, venues, shares of venues), not the generator's.
"""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_spine.domain.errors import SourceError, TierError
from market_spine.domain.keys import WeekKey
from market_spine.domain.publication import is_due, publication_date, publication_instant
from market_spine.domain.tiers import Tier
from market_spine.feeds.otc import OTC
from market_spine.sources.delivery import Delivery, Empty, EmptyKind, WeekSource
from market_spine.sources.synthetic import SyntheticSource, _universe
from market_spine_tests.sources.synthetic_rows import KEY, KEYS, SMALL, WEEK, made, rows

# --- same recipe, same bytes ------------------------------------------------------------------------------------------

GOLDEN = {
    Tier.NMS_TIER_1: "c5f1f88602956d599284021cfd299654a512616f626404caa6ebfcd425353cb0",
    Tier.NMS_TIER_2: "3b2410c3539fe116f1a4fd2a70861b302d3e0fa88debf7c85f596fd4c3b6a4aa",
    Tier.OTC: "9be67d393b8f91778a0103983f4863fc48fd7957751d568eeb3782dcda547c0f",
}


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_bytes_are_the_recorded_ones(key: WeekKey) -> None:
    """Prevents a change of the generator, of numpy or of the processor that silently changes published recipes."""
    assert hashlib.sha256(made(SMALL, key)).hexdigest() == GOLDEN[Tier(key.tier_text)]


def test_fractional_week_has_the_recorded_bytes() -> None:
    """Prevents fractions, which come from a table of their own, from drifting unseen."""
    digest = hashlib.sha256(made(SMALL, WeekKey(date(2026, 3, 6), Tier.OTC))).hexdigest()
    assert digest == "55c7ee8e06acbca07390936f5222b701d18faa60500595498b7c587a801ff4c5"


@pytest.mark.slow
def test_another_process_with_another_hash_seed_makes_the_same_bytes() -> None:
    """Prevents set or hash order from reaching the bytes."""
    code = (
        "import hashlib, datetime as d\n"
        "from market_spine.domain.keys import WeekKey\n"
        "from market_spine.sources.synthetic import SyntheticSource\n"
        f"source = SyntheticSource.from_spec('{SMALL},fault=restatement:*:*:2,fault=tape-move:*:*:2')\n"
        "print(hashlib.sha256(source.content(WeekKey.from_string('OTC:2025-11-14'), 2)).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    here = made(f"{SMALL},fault=restatement:*:*:2,fault=tape-move:*:*:2", KEY, 2)
    assert digests == {hashlib.sha256(here).hexdigest()}


@given(st.permutations([WeekKey(WEEK - timedelta(days=7 * back), tier) for back in range(3) for tier in Tier]))
@settings(max_examples=10)
def test_bytes_do_not_depend_on_what_was_asked_before(keys: list[WeekKey]) -> None:
    """Prevents a random stream shared between weeks, so that a backfill and a single fetch would disagree."""
    source = SyntheticSource(scale=0.02)
    assert {key: source.content(key) for key in keys} == {key: SyntheticSource(scale=0.02).content(key) for key in keys}


@pytest.mark.parametrize("scale", [0.01, 1.0, 8.0])
def test_symbols_are_distinct_and_tier_overlap_stays_within_nms(scale: float) -> None:
    """Prevents two issues under one symbol at large scales, where the tiers' ranges grow into each other."""
    one, two, otc = (_universe(7, scale, tier).symbol.tolist() for tier in Tier)
    assert all(len(set(symbols)) == len(symbols) for symbols in (one, two, otc))
    assert set(one) & set(two)
    assert not set(otc) & {*one, *two}


@pytest.mark.parametrize("other", ["seed=8,scale=0.02", "seed=7,scale=0.03"])
def test_recipe_changes_the_bytes(other: str) -> None:
    """Prevents a seed or a scale that is read and not used."""
    assert made(other) != made(SMALL)


def test_weeks_and_tiers_differ() -> None:
    """Prevents a seed that forgets the week or the tier: every partition would be the same content."""
    keys = [*KEYS, WeekKey(WEEK + timedelta(days=7), Tier.OTC)]
    bodies = {tuple(row[1:7] for row in rows(made(SMALL, key))) for key in keys}
    assert len(bodies) == len(keys)


# --- FINRA's shapes at scale 1 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "n_rows", "n_symbols", "n_venues"),
    [(Tier.NMS_TIER_1, 50_000, 2_300, 33), (Tier.NMS_TIER_2, 135_000, 9_000, 33), (Tier.OTC, 5_200, 3_000, 9)],
)
def test_sizes_are_finras(tier: Tier, n_rows: int, n_symbols: int, n_venues: int) -> None:
    """Prevents benchmarks on weeks that are smaller or simpler than the real ones (10 % tolerance)."""
    found = rows(made("", WeekKey(WEEK, tier)))
    assert len(found) == pytest.approx(n_rows, rel=0.1)
    assert len({row.symbol for row in found}) == pytest.approx(n_symbols, rel=0.1)
    assert len({row.mpid for row in found}) == n_venues


@pytest.mark.parametrize("week", [WEEK, date(2026, 3, 6)])
@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize("seed", [7, 8])
def test_an_ordinary_week_is_clean_and_sorted(tier: Tier, week: date, seed: int) -> None:
    """Prevents a fault-free week that the checks would rightly refuse."""
    found = rows(made(f"seed={seed},scale=0.1", WeekKey(week, tier)))
    keys = [(row.symbol, row.mpid) for row in found]
    assert keys == sorted(set(keys))
    assert all(float(row.shares) >= int(row.trades) >= 1 for row in found)
    assert {row.tier for row in found} == {tier.file_text}
    assert {row.updated for row in found} == {publication_date(week, tier).isoformat()}
    assert all(row.venue.startswith(row.mpid) and len(row.mpid) == 4 for row in found)
    assert all(row.symbol.startswith("SY") and row.issue.startswith("Synthetic Issue ") for row in found)


def test_otc_is_one_dominant_venue_and_many_single_venue_symbols() -> None:
    """Prevents flat OTC weeks, on which concentration measures would never be near 1."""
    found = rows(made("", KEY))
    by_venue: Counter[str] = Counter()
    for row in found:
        by_venue[row.mpid] += int(row.shares)
    assert by_venue["OTCN"] / by_venue.total() == pytest.approx(0.82, abs=0.05)
    per_symbol = Counter(row.symbol for row in found)
    assert sum(n == 1 for n in per_symbol.values()) / len(per_symbol) == pytest.approx(0.5, abs=0.06)
    trades = [int(row.trades) for row in found]
    assert median(trades) == pytest.approx(7, abs=1.5)
    assert trades.count(1) / len(trades) == pytest.approx(0.2, abs=0.03)


def test_tier_1_venues_and_concentration() -> None:
    """Prevents equal venues: leaders, long tail and the liquid stock's 27 to 31 venues are what pages show."""
    found = rows(made("", WeekKey(WEEK, Tier.NMS_TIER_1)))
    by_venue: Counter[str] = Counter()
    for row in found:
        by_venue[row.mpid] += int(row.shares)
    share = {mpid: shares / by_venue.total() for mpid, shares in by_venue.items()}
    assert {mpid for mpid, _ in by_venue.most_common(2)} == {"UBSA", "INCR"}
    assert sum(value**2 for value in share.values()) == pytest.approx(0.073, abs=0.01)
    per_symbol = sorted(Counter(row.symbol for row in found).values())
    assert 27 <= per_symbol[len(per_symbol) * 9 // 10] <= 31
    size = {mpid: median(int(r.shares) / int(r.trades) for r in found if r.mpid == mpid) for mpid in ("MOON", "BIDS")}
    assert size["MOON"] < 100
    assert size["BIDS"] > 400


def test_shares_are_lognormal_in_spread() -> None:
    """Prevents a uniform volume: FINRA's OTC rows spread over a standard deviation of 4.4 doublings."""
    logs = [math.log2(int(row.shares)) for row in rows(made("", KEY))]
    mean = sum(logs) / len(logs)
    assert math.sqrt(sum((value - mean) ** 2 for value in logs) / len(logs)) == pytest.approx(4.4, abs=0.4)


def test_otc_symbols_come_and_go_and_nms_symbols_stay() -> None:
    """Prevents a frozen universe (FINRA: Jaccard 62 % between OTC weeks) and one that is new every week."""

    def jaccard(tier: Tier) -> float:
        one, two = ({row.symbol for row in rows(made("", WeekKey(WEEK + timedelta(days=n), tier)))} for n in (0, 7))
        return len(one & two) / len(one | two)

    assert jaccard(Tier.OTC) == pytest.approx(0.62, abs=0.04)
    assert jaccard(Tier.NMS_TIER_1) > 0.95


def test_tiers_share_some_symbols() -> None:
    """Prevents keys without the tier from passing: FINRA had 413 stocks in both NMS tiers in one week."""
    one, two, three = ({row.symbol for row in rows(made("", key))} for key in KEYS)
    assert 200 <= len(one & two) <= 500
    assert not (one | two) & three


def test_thanksgiving_week_has_fewer_trades() -> None:
    """Prevents weeks without sessions: FINRA's had 38 % fewer trades than the ones around it."""

    def trades(week: date) -> int:
        return sum(int(row.trades) for row in rows(made("scale=0.3", WeekKey(week, Tier.NMS_TIER_1))))

    around = (trades(date(2025, 11, 21)) + trades(date(2025, 12, 5))) / 2
    assert trades(date(2025, 11, 28)) / around == pytest.approx(0.62, abs=0.15)


@pytest.mark.parametrize(("week", "percent"), [(date(2026, 2, 20), 0), (date(2026, 2, 27), 13)])
def test_fractional_shares_begin_on_2026_02_23(week: date, percent: int) -> None:
    """Prevents fractions in weeks that FINRA published as whole numbers, or more than DECIMAL(20,6) keeps."""
    shares = [row.shares for row in rows(made("", WeekKey(week, Tier.OTC)))]
    fractions = [text.partition(".")[2] for text in shares if "." in text]
    assert 100 * len(fractions) / len(shares) == pytest.approx(percent, abs=2)
    assert all(1 <= len(text) <= 6 and not text.endswith("0") for text in fractions)


def test_scale_multiplies_symbols_and_keeps_venues() -> None:
    """Prevents small demonstrations without the long tail of venues."""
    found = rows(made("scale=0.1", KEY))
    assert len({row.symbol for row in found}) == pytest.approx(300, rel=0.15)
    assert len({row.mpid for row in found}) == 9


def test_a_large_week_is_made_quickly() -> None:
    """Prevents row-by-row Python: 138,000 rows take a tenth of a second, the bound allows a busy machine."""
    source = SyntheticSource()
    source.content(WeekKey(WEEK, Tier.NMS_TIER_2))
    start = time.perf_counter()
    source.content(WeekKey(WEEK + timedelta(days=7), Tier.NMS_TIER_2))
    assert time.perf_counter() - start < 1


# --- fetch and inventory ----------------------------------------------------------------------------------------------


def test_fetch_delivers_with_its_recipe() -> None:
    """Prevents a delivery whose provenance does not lead back to the same bytes."""
    now = publication_instant(WEEK, Tier.OTC)
    source = SyntheticSource.from_spec(f"{SMALL},fault=zero-volume:OTC:2025-11-14:2")
    delivery = source.fetch(OTC, KEY, now)
    assert isinstance(delivery, Delivery)
    assert (delivery.key, delivery.source_kind, delivery.week_source) == (KEY, "synthetic", WeekSource.REQUEST)
    assert delivery.fetched_at == now
    (part,) = delivery.parts
    kind, _, recipe = delivery.source_name.partition(":")
    assert kind == "synthetic"
    assert SyntheticSource.from_spec(recipe).content(KEY) == part.data


def test_fetch_before_publication_is_not_due() -> None:
    """Prevents weeks from the future: one second before FINRA's hour there is nothing."""
    due = publication_instant(WEEK, Tier.OTC)
    answer = SyntheticSource(scale=0.02).fetch(OTC, KEY, due - timedelta(seconds=1))
    assert isinstance(answer, Empty)
    assert answer.kind is EmptyKind.NOT_DUE
    assert "2025-12-15T11:00:00Z" in answer.remedy


def test_fetch_before_the_feed_began_has_no_rows() -> None:
    """Prevents weeks that the feed says it does not have."""
    answer = SyntheticSource(scale=0.02).fetch(
        OTC, WeekKey(date(2022, 12, 30), Tier.OTC), datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert isinstance(answer, Empty)
    assert answer.kind is EmptyKind.NO_ROWS


def test_fetch_of_all_tiers_at_once_is_refused() -> None:
    """Prevents a week key without tier from being answered with some tier."""
    with pytest.raises(SourceError, match="ALL:2025-11-14 is not a partition of feed otc"):
        SyntheticSource().fetch(OTC, WeekKey(WEEK, None), datetime(2026, 1, 1, tzinfo=UTC))


def test_content_of_all_tiers_at_once_is_refused() -> None:
    """Prevents a bare ValueError without a remedy."""
    with pytest.raises(TierError, match="'ALL' is not a FINRA tier"):
        SyntheticSource().content(WeekKey(WEEK, None))


def test_inventory_is_every_due_week_oldest_first() -> None:
    """Prevents an inventory that offers weeks before they are published, or misses the newest."""
    now = datetime(2025, 12, 22, 15, tzinfo=UTC)
    keys = SyntheticSource().inventory(OTC, now).keys
    assert list(keys) == sorted(keys)
    assert keys[0] == WeekKey(date(2023, 1, 6), Tier.NMS_TIER_1)
    assert {tier: max(key.week_ending for key in keys if key.tier is tier) for tier in Tier} == {
        Tier.NMS_TIER_1: date(2025, 12, 5),
        Tier.NMS_TIER_2: date(2025, 11, 21),
        Tier.OTC: date(2025, 11, 21),
    }
    assert len(keys) == len(set(keys)) == 153 + 151 + 151
    assert all(is_due(key.week_ending, Tier(key.tier_text), now) for key in keys)


def test_inventory_before_the_first_publication_is_empty() -> None:
    """Prevents a reversed range where the feed has begun and nothing is published yet."""
    assert SyntheticSource().inventory(OTC, datetime(2023, 1, 10, tzinfo=UTC)).keys == ()


# --- recipes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "seed=0",
        "scale=0.5",
        " seed=9 , scale=2 ",
        "revision_hours=5",
        "fault=late-tier:*:*:4",
        "fault=zero-volume:T1:*",
    ],
)
def test_recipe_reads_back(text: str) -> None:
    """Prevents a stored recipe that does not make the same source again."""
    source = SyntheticSource.from_spec(text)
    again = SyntheticSource.from_spec(source.recipe)
    assert vars(again) == vars(source)


def test_recipe_text() -> None:
    """Prevents a silent change of the stored form."""
    spec = "fault=restatement:OTC:2025-11-14,scale=0.02,fault=many-venues:*:*:9"
    assert SyntheticSource.from_spec(spec).recipe == (
        "seed=7,scale=0.02,fault=many-venues:*:*:9,fault=restatement:OTC:2025-11-14:3"
    )


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("sede=7", "'sede' is not an option", "seed, scale, revision_hours once each, and fault"),
        ("seed", "seed is not a number", "synthetic:seed=7"),
        ("seed=1.5", "seed=1.5 is not a number", "synthetic:seed=7"),
        ("seed=1,seed=2", "'seed' is written twice", "once each"),
        ("seed=-1", "seed=-1 is negative", "seed=7"),
        ("scale=0", "scale=0.0 is outside", "scale=1"),
        ("scale=9", "scale=9.0 is outside", "scale=1"),
        ("scale=nan", "scale=nan is outside", "scale=1"),
        ("revision_hours=0", "before the first release", "1 or more"),
        ("fault=", "is not name:tier:week", "fault=restatement:OTC:2025-11-14:3"),
        ("fault=zero-volume:OTC", "is not name:tier:week", "fault=restatement:OTC:2025-11-14:3"),
        ("fault=zero-volume:OTC:2025-11-14:many", "is not name:tier:week", "fault=restatement:OTC:2025-11-14:3"),
        ("fault=zero-volume:OTC:2025-11-14:0", "n=0", "whole number"),
        ("fault=gremlins:OTC:2025-11-14:1", "no fault is called 'gremlins'", "restatement"),
        ("fault=zero-volume:T9:2025-11-14:1", "'T9' is not a FINRA tier", "NMS_TIER_1"),
        ("fault=zero-volume:OTC:2025-11-13:1", "2025-11-13 is a Thursday", "2025-11-14"),
    ],
)
def test_recipes_that_cannot_be_read(text: str, message: str, remedy: str) -> None:
    """Prevents a mistyped recipe from becoming the default one; every message says what to write instead."""
    with pytest.raises(SourceError) as caught:
        SyntheticSource.from_spec(text)
    assert message in caught.value.cause
    assert remedy in caught.value.remedy
