"""Captures: ids that lead back to their parts, instants without guesses, and the words of versions."""

from __future__ import annotations

import shlex
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_spine.domain.captures import (
    STAMP,
    Action,
    IngestionResult,
    RevisionPolicy,
    Stage,
    View,
    as_of_instant,
    capture_id,
    whole_second,
)
from market_spine.domain.errors import QueryError
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier

OTC_WEEK = WeekKey(date(2025, 11, 14), Tier.OTC)
MOMENT = datetime(2025, 12, 23, 14, 5, 9, tzinfo=UTC)
NEW_YORK_WINTER = timezone(timedelta(hours=-5))

WORDS = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
DOMAINS = st.lists(WORDS, min_size=1, max_size=3).map(".".join)
VERSIONS = st.tuples(st.integers(0, 99), st.integers(0, 99)).map(lambda pair: f"{pair[0]}.{pair[1]}")
KEYS = st.builds(
    WeekKey,
    st.integers(0, 1100).map(lambda n: date(2014, 1, 3) + timedelta(weeks=n)),
    st.sampled_from([*Tier, None]),
)
MOMENTS = st.datetimes(datetime(2014, 1, 1), datetime(2035, 1, 1), timezones=st.timezones())  # noqa: DTZ001


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("finra.otc_transparency", OTC_WEEK, MOMENT), "finra.otc_transparency:OTC:2025-11-14:20251223T140509Z"),
        (
            ("finra.otc_transparency", OTC_WEEK, MOMENT, "venue_share", "1.0"),
            "finra.otc_transparency.venue_share@1.0:OTC:2025-11-14:20251223T140509Z",
        ),
        (
            ("finra.otc_transparency", WeekKey(date(2025, 11, 14), None), MOMENT, "tier_split", "2.1"),
            "finra.otc_transparency.tier_split@2.1:ALL:2025-11-14:20251223T140509Z",
        ),
    ],
)
def test_capture_id_texts(arguments: tuple[str, WeekKey, datetime], expected: str) -> None:
    """Prevents a change of ids that stand in manifests, certificates and people's notes."""
    assert capture_id(*arguments) == expected


@given(DOMAINS, KEYS, MOMENTS, WORDS.filter(lambda word: word != "raw"), VERSIONS)
def test_law_an_id_names_table_version_partition_and_second(
    domain: str, key: WeekKey, moment: datetime, table: str, version: str
) -> None:
    """Prevents an id that loses a part, so that two captures share it, or whose stamp depends on the clock's zone."""
    place = [key.tier_text, str(key.week_ending), f"{moment.astimezone(UTC):{STAMP}}"]
    assert capture_id(domain, key, moment).split(":") == [domain, *place]
    assert capture_id(domain, key, moment, table, version).split(":") == [f"{domain}.{table}@{version}", *place]


def test_a_stamp_is_utc_and_whole_seconds() -> None:
    """Prevents two ids for one instant that was read on clocks of two zones."""
    local = datetime(2025, 12, 23, 9, 5, 9, 999_999, tzinfo=NEW_YORK_WINTER)
    assert whole_second(local) == MOMENT
    assert whole_second(local).tzinfo is UTC


def test_a_naive_moment_is_refused() -> None:
    """Prevents the zone of the machine from deciding what was known when."""
    naive = datetime(2025, 12, 23, 9, 5)  # noqa: DTZ001 - the mistake under test
    with pytest.raises(QueryError, match="no time zone"):
        capture_id("finra.otc_transparency", OTC_WEEK, naive)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-12-15", datetime(2025, 12, 15, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("2025-12-15T15:00:00Z", datetime(2025, 12, 15, 15, tzinfo=UTC)),
        ("2025-12-15T10:00:00-05:00", datetime(2025, 12, 15, 15, tzinfo=UTC)),
        ("2025-12-15 15:00:00+00:00", datetime(2025, 12, 15, 15, tzinfo=UTC)),
        ("2025-12-15T23:30:00-05:00", datetime(2025, 12, 16, 4, 30, tzinfo=UTC)),
    ],
)
def test_as_of_instants(text: str, expected: datetime) -> None:
    """Prevents a date from meaning its midnight, which would hide everything captured on that day."""
    assert as_of_instant(text) == expected


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("2025-12-15T15:00:00", "no time zone"),
        ("2025-12-15 15:00", "no time zone"),
        ("2025-13-15", "not a date or time"),
        ("15.12.2025", "not a date or time"),
        ("yesterday", "not a date or time"),
        ("", "not a date or time"),
    ],
)
def test_as_of_texts_that_are_refused(text: str, cause: str) -> None:
    """Prevents a guess at the zone or the order of day and month."""
    with pytest.raises(QueryError, match=cause) as caught:
        as_of_instant(text)
    assert "--as-of" in caught.value.remedy


@pytest.mark.parametrize("text", ["2025-12-15T15:00:00", "2025-12-15 15:00:00", "2025-12-15 15:00"])
def test_the_remedy_of_a_naive_time_is_one_word_of_a_shell(text: str) -> None:
    """Prevents advice that, pasted, names a day and a stray word."""
    with pytest.raises(QueryError) as caught:
        as_of_instant(text)
    words = shlex.split(caught.value.remedy, comments=True)
    assert words == ["write", "--as-of", "2025-12-15T15:00:00Z"]
    assert as_of_instant(words[-1]) == datetime(2025, 12, 15, 15, tzinfo=UTC)


def test_the_words_of_versions_are_frozen() -> None:
    """Prevents a renamed word from splitting stored rows, commands and documentation."""
    assert [*Stage] == ["INGESTED", "NORMALIZED", "AGGREGATED", "ROLLING"]
    assert [*RevisionPolicy] == ["versioned", "overwrite", "skip", "merge"]
    assert [*Action] == ["inserted", "updated", "skipped", "blocked"]
    assert [*View] == ["latest", "as-of", "first-release", "all-revisions"]


def test_an_ingestion_result_says_what_happened_and_does_not_change() -> None:
    """Prevents a result that loses its revision, or is edited on its way to the report."""
    result = IngestionResult(OTC_WEEK, 5328, 2, Action.UPDATED, 1)
    names = ["week_key", "record_count", "revision", "action", "previous_revision", "reason"]
    assert [field.name for field in fields(result)] == names
    assert result.reason == ""
    with pytest.raises(FrozenInstanceError):
        result.revision = 3  # type: ignore[misc]
