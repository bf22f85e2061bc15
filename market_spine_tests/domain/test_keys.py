"""Keys: their texts are read back to the same key, and a row's hash is the same in Python and in DuckDB."""

from __future__ import annotations

import json
from datetime import date, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.errors import PartitionError, TierError, WeekError
from market_spine.domain.keys import RECORD_HASH_SQL, RecordKey, WeekKey
from market_spine.domain.tiers import Tier

FRIDAYS = st.integers(0, 1100).map(lambda n: date(2014, 1, 3) + timedelta(weeks=n))
WEEK_KEYS = st.builds(WeekKey, FRIDAYS, st.sampled_from([*Tier, None]))
# As text columns deliver them: any character but NUL (no file may hold one) and half surrogates (not UTF-8).
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
RECORD_KEYS = st.builds(RecordKey, FRIDAYS, st.sampled_from(Tier), TEXTS, TEXTS)

# sha256sum of the text, first 32 hex digits.
ORACLES = [
    (RecordKey(date(2025, 12, 12), Tier.NMS_TIER_1, "A", "ALPX"), "e3ba7cda2e0b235561c1fbeb28e3291c"),
    (RecordKey(date(2023, 1, 6), Tier.OTC, "ABCDF", ""), "813fce2083d5fda40b27aeef9fed5a78"),
    (RecordKey(date(2026, 2, 27), Tier.NMS_TIER_2, "BRK/Ä", "OTCN"), "918b15fc109d0d2b23ea22ec5c89743d"),
]


def hash_in_duckdb(keys: list[RecordKey]) -> list[str]:
    """The hashes of ``keys`` by the SQL expression, over columns of the types that raw stores."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE raw (n INTEGER, week_ending DATE, tier VARCHAR, symbol VARCHAR, mpid VARCHAR)")
        rows = [(n, key.week_ending, key.tier.value, key.symbol, key.mpid) for n, key in enumerate(keys)]
        connection.executemany("INSERT INTO raw VALUES (?, ?, ?, ?, ?)", rows)
        return [text for (text,) in connection.execute(f"SELECT {RECORD_HASH_SQL} FROM raw ORDER BY n").fetchall()]


@pytest.mark.parametrize(("key", "expected"), ORACLES)
def test_record_hash_oracle(key: RecordKey, expected: str) -> None:
    """Prevents any change of the hash's text, order or length, which would break every comparison with old exports."""
    assert key.to_hash() == expected
    assert hash_in_duckdb([key]) == [expected]


@given(st.lists(RECORD_KEYS, min_size=1, max_size=5))
def test_record_hash_is_the_same_in_python_and_duckdb(keys: list[RecordKey]) -> None:
    """Prevents the two from parting on empty, quoted or non-ASCII symbols."""
    assert hash_in_duckdb(keys) == [key.to_hash() for key in keys]


def test_an_empty_venue_keeps_its_place_in_the_hash() -> None:
    """Prevents a non-ATS row (no MPID) from hashing like a row whose symbol and venue are shifted by one."""
    week = date(2025, 12, 12)
    keys = [RecordKey(week, Tier.OTC, "A", ""), RecordKey(week, Tier.OTC, "", "A")]
    assert len({*hash_in_duckdb(keys), *(key.to_hash() for key in keys)}) == 2


@given(WEEK_KEYS)
def test_week_key_text_round_trip(key: WeekKey) -> None:
    """Prevents a text form that does not lead back to its partition."""
    assert WeekKey.from_string(str(key)) == key


@pytest.mark.parametrize(
    ("key", "text", "partition_key"),
    [
        (
            WeekKey(date(2025, 11, 14), Tier.OTC),
            "OTC:2025-11-14",
            '{"tier": "OTC", "week_ending": "2025-11-14"}',
        ),
        (WeekKey(date(2025, 11, 14), None), "ALL:2025-11-14", '{"week_ending": "2025-11-14"}'),
    ],
)
def test_week_key_texts(key: WeekKey, text: str, partition_key: str) -> None:
    """Prevents another order of keys in the JSON, which the core tables compare as text."""
    assert (str(key), key.partition_key) == (text, partition_key)
    assert list(json.loads(key.partition_key)) == sorted(json.loads(key.partition_key))


def test_week_key_reads_finras_spelling() -> None:
    """Prevents a partition named with FINRA's words from being refused, or kept as a second one."""
    assert WeekKey.from_string("T1:2025-11-14") == WeekKey(date(2025, 11, 14), Tier.NMS_TIER_1)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("2025-11-14", PartitionError),
        ("", PartitionError),
        ("OTC|2025-11-14", PartitionError),
        ("OTC:2025-11-13", WeekError),
        ("OTC:2025-11-14:x", WeekError),
        ("T9:2025-11-14", TierError),
        (":2025-11-14", TierError),
    ],
)
def test_texts_that_name_no_partition(text: str, error: type[Exception]) -> None:
    """Prevents a half-read key from selecting a partition that nobody asked for."""
    with pytest.raises(error):
        WeekKey.from_string(text)


def test_a_week_key_is_a_friday_by_construction() -> None:
    """Prevents a partition of a Thursday from reaching the store by another way than text."""
    with pytest.raises(WeekError, match="is a Thursday"):
        WeekKey(date(2025, 11, 13), Tier.OTC)


def test_week_keys_sort_by_week_then_tier_also_beside_all_tiers() -> None:
    """Prevents a crash where a week-partitioned table stands beside one by tier: None does not compare with text."""
    older, newer = date(2025, 11, 14), date(2025, 11, 21)
    ordered = [
        WeekKey(older, Tier.OTC),
        WeekKey(newer, None),
        WeekKey(newer, Tier.NMS_TIER_1),
        WeekKey(newer, Tier.OTC),
    ]
    assert sorted([ordered[2], ordered[0], ordered[3], ordered[1]]) == ordered
    assert max(ordered) == ordered[-1]
