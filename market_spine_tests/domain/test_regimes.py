"""The registry of regimes: what each entry must say, and the SQL that calculations get from it."""

from __future__ import annotations

from datetime import date
from typing import Any

import duckdb
import pytest

from market_spine.domain.calculations.weekly_baseline import MEASURES
from market_spine.domain.regimes import REGIMES, Regime, borders_sql, canonical_mpid_sql
from market_spine.domain.weeks import FRIDAY, monday_of

FRIDAY_1, FRIDAY_2 = date(2030, 1, 4), date(2030, 3, 1)


def regime(code: str, since: date | None, *measures: str, renames: tuple[tuple[str, str], ...] = ()) -> Regime:
    """A regime of which nothing but what the SQL reads is said."""
    return Regime(code, since, measures, "note", "https://example.org", renames)


def rows(sql: str) -> list[Any]:
    with duckdb.connect() as con:
        return con.execute(f"FROM ({sql}) ORDER BY ALL").fetchall()


def test_every_regime_says_what_it_is() -> None:
    """A border that is no week, a measure misspelt that no history ever ends for, a fact without its source."""
    known = {measure.name for measure in MEASURES}
    assert len({one.code for one in REGIMES}) == len(REGIMES) >= 3
    for one in REGIMES:
        assert one.since is None or one.since.weekday() == FRIDAY, one.code
        assert set(one.measures) <= known, one.code
        assert len(one.note) > 100, one.code
        assert one.link.startswith("https://"), one.code
        assert one.since or "could not be confirmed" in one.note, one.code


def test_a_measure_has_one_border_a_week_and_no_rename_leads_to_another() -> None:
    """A reason that names one of two regimes by chance; an MPID that is turned into one that is renamed itself."""
    borders = [(measure, one.since) for one in REGIMES for measure in one.measures]
    assert len(set(borders)) == len(borders) > 0
    pairs = [pair for one in REGIMES for pair in one.renames]
    assert ("SGMA", "SGMT") in pairs
    assert len({old for old, _ in pairs}) == len(pairs)
    assert {old for old, _ in pairs}.isdisjoint(new for _, new in pairs)


@pytest.mark.parametrize(
    ("code", "monday", "measures"),
    [
        ("FRACTIONAL_SHARES", date(2026, 2, 23), ("volume_per_session",)),
        ("NON_ATS_DE_MINIMIS", date(2019, 11, 11), ()),
    ],
)
def test_a_dated_regime_begins_with_the_week_of_its_day(code: str, monday: date, measures: tuple[str, ...]) -> None:
    """A border one week off: the week of the change counted to the weeks before it."""
    (found,) = (one for one in REGIMES if one.code == code)
    assert found.since is not None
    assert (monday_of(found.since), found.measures) == (monday, measures)


@pytest.mark.parametrize(
    ("mpid", "now"), [("SGMA", "SGMT"), ("SGMT", "SGMT"), ("UBSA", "UBSA"), ("sgma", "sgma"), ("", ""), (None, None)]
)
def test_canonical_mpid(mpid: str | None, now: str | None) -> None:
    """A venue counted as gone and as new because its name changed; any other name touched."""
    with duckdb.connect() as con:
        assert con.execute(
            f"SELECT {canonical_mpid_sql('v.mpid')} FROM (SELECT ? AS mpid) AS v", [mpid]
        ).fetchall() == [(now,)]


def test_canonical_mpid_of_other_registries() -> None:
    """A registry without renames that makes an empty CASE; a name with a quote that ends the literal."""
    assert canonical_mpid_sql("mpid", ()) == "mpid"
    odd = (regime("A", None, renames=(("O'LD", "NEW1"),)), regime("B", None, renames=(("OLD2", "N'W2"),)))
    given = "SELECT unnest(['O''LD', 'OLD2', 'REST']) AS mpid"
    assert rows(f"SELECT {canonical_mpid_sql('mpid', odd)} AS now FROM ({given})") == [("N'W2",), ("NEW1",), ("REST",)]


def test_borders_are_the_dated_regimes_by_measure() -> None:
    """A border without a date that ends all history, or one measure of two that is forgotten."""
    registry = (
        regime("ONE", FRIDAY_1, "venue_count", "row_count"),
        regime("UNDATED", None, "venue_count"),
        regime("RECORD", FRIDAY_2),
        regime("TWO", FRIDAY_2, "venue_count"),
    )
    assert rows(borders_sql(registry)) == [
        ("ONE", FRIDAY_1, "row_count"),
        ("ONE", FRIDAY_1, "venue_count"),
        ("TWO", FRIDAY_2, "venue_count"),
    ]
    assert rows(borders_sql(())) == rows(borders_sql((registry[1],))) == []
    assert rows(borders_sql()) == [("FRACTIONAL_SHARES", date(2026, 2, 27), "volume_per_session")]
