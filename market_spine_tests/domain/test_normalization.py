"""Normalisation: which raw rows are summed, which are set aside and why, and that none is ever lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_spine.domain.contracts import Category, RowRule, Severity
from market_spine.domain.normalization import INVARIANTS, VENUE_VOLUME, normalization
from market_spine.feeds.otc import OTC as FEED

WEEK = date(2025, 11, 14)
UPDATED = date(2025, 12, 15)
CAPTURED = "2025-12-15 15:00:00+00"
NORMAL = normalization(FEED)

# (line_no, symbol, mpid, shares, trades): what stands in a test; the other columns have these values.
Line = tuple[int, str, str, object, int]
REST: dict[str, object] = {
    "week_ending": WEEK,
    "tier": "OTC",
    "part_no": 1,
    "issue_name": "Issue",
    "venue_name": "Venue",
    "source_last_update_date": UPDATED,
}


def row(line: Line, **more: object) -> dict[str, object]:
    """One raw row."""
    line_no, symbol, mpid, shares, trades = line
    named = {"line_no": line_no, "symbol": symbol, "mpid": mpid, "total_shares": shares, "total_trades": trades}
    return REST | named | more


@pytest.fixture(scope="module")
def engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """One engine for all examples; each replaces the table ``raw``."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


class Normalised:
    """The rows of venue volume and rejects that ``rows`` give."""

    def __init__(self, engine: duckdb.DuckDBPyConnection, rows: Sequence[dict[str, object]], feed: Any = FEED) -> None:
        self.engine = engine
        normal = normalization(feed)
        columns = ", ".join(f"{column.name} {column.type}" for column in FEED.raw.columns)
        engine.execute(f"CREATE OR REPLACE TABLE raw_rows ({columns})")
        if rows:
            marks = ", ".join("?" * len(FEED.raw.columns))
            values = [[one[column.name] for column in FEED.raw.columns] for one in rows]
            engine.executemany(f"INSERT INTO raw_rows VALUES ({marks})", values)
        engine.execute(
            "CREATE OR REPLACE VIEW raw AS SELECT *, 'id' AS capture_id, 1 AS revision, "
            f"TIMESTAMPTZ '{CAPTURED}' AS captured_at FROM raw_rows"
        )
        engine.execute(f"CREATE OR REPLACE TABLE venue_volume AS {normal.calculation.sql}")
        engine.execute(f"CREATE OR REPLACE TABLE rejects AS {normal.rejects_sql}")

    @property
    def used(self) -> list[tuple[Any, ...]]:
        """(symbol, mpid, shares, trades, row_count), sorted."""
        select = "SELECT symbol, mpid, total_shares, total_trades, row_count FROM venue_volume ORDER BY ALL"
        return self.engine.execute(select).fetchall()

    @property
    def aside(self) -> list[tuple[Any, ...]]:
        """(line_no, reason_code, scope), sorted."""
        return self.engine.execute("SELECT line_no, reason_code, scope FROM rejects ORDER BY ALL").fetchall()

    def violated(self, invariant: str) -> list[tuple[Any, ...]]:
        (sql,) = (one.sql for one in INVARIANTS if one.name == invariant)
        return self.engine.execute(sql).fetchall()


GOOD = row((2, "ABC", "UBSA", 100, 7))
USED = ("ABC", "UBSA", Decimal(100), 7, 1)

# A second row and what becomes of it: None where it is kept as it is, else its reason and scope.
RULES: list[tuple[dict[str, object], tuple[str, str] | None]] = [
    (row((3, "XYZ", "UBSA", 0, 0)), None),
    (row((3, "XYZ", "UBSA", Decimal("0.000001"), 1)), None),
    (row((3, "NA", "NULL", 1, 1)), None),
    (row((3, " ", " ", 1, 1)), None),  # trimming is parsing, not judging
    (row((3, "XYZ", "UBSA", -1, 1)), ("NEGATIVE_VALUE", "ROW")),
    (row((3, "XYZ", "UBSA", 1, -1)), ("NEGATIVE_VALUE", "ROW")),
    (row((3, "XYZ", "UBSA", -1, -1)), ("NEGATIVE_VALUE", "ROW")),
    (row((3, "XYZ", "UBSA", Decimal("-0.000001"), 0)), ("NEGATIVE_VALUE", "ROW")),
    (row((3, "XYZ", "UBSA", 1, 1), source_last_update_date=date(2025, 12, 16)), None),  # a day of grace for zones
    (row((3, "XYZ", "UBSA", 1, 1), source_last_update_date=date(2025, 12, 17)), ("FUTURE_DATE", "ROW")),
    (row((3, "XYZ", "UBSA", 1, 1), source_last_update_date=None), None),
    (row((3, "XYZ", "", 1, 1)), ("BLANK_MPID", "ROW")),
    (row((3, "XYZ", "UBSA", 0, 1)), ("TRADES_WITHOUT_SHARES", "ROW")),
    (row((3, "XYZ", "UBSA", 1, 0)), ("SHARES_WITHOUT_TRADES", "ROW")),
    (row((3, "XYZ", "UBSA", Decimal("0.000001"), 0)), ("SHARES_WITHOUT_TRADES", "ROW")),
    (row((3, "XYZ", "UBSA", 0, 1), source_last_update_date=None), ("TRADES_WITHOUT_SHARES", "ROW")),
    (row((3, "", "UBSA", 1, 1)), ("BLANK_SYMBOL", "SYMBOL_METRICS")),
    (row((3, "", "UBSA", 0, 0)), ("BLANK_SYMBOL", "SYMBOL_METRICS")),
    # the first rule that matches names the reason
    (row((3, "", "", -1, 0)), ("NEGATIVE_VALUE", "ROW")),
    (row((3, "", "", 1, 0), source_last_update_date=date(2026, 1, 1)), ("FUTURE_DATE", "ROW")),
    (row((3, "", "", 0, 1)), ("BLANK_MPID", "ROW")),
    (row((3, "", "UBSA", 0, 1)), ("TRADES_WITHOUT_SHARES", "ROW")),
]


@pytest.mark.parametrize(("second", "reason"), RULES)
def test_every_rule(
    engine: duckdb.DuckDBPyConnection, second: dict[str, object], reason: tuple[str, str] | None
) -> None:
    """Prevents a rule that lets through, takes too much, or names another reason; the row beside it stays untouched."""
    found = Normalised(engine, [GOOD, second])
    kept = (second["symbol"], second["mpid"], Decimal(str(second["total_shares"])), second["total_trades"], 1)
    removed = reason is not None and reason[1] == "ROW"
    assert found.used == sorted([USED] if removed else [USED, kept], key=str)
    assert found.aside == ([(3, *reason)] if reason else [])
    assert found.violated("accounts_for_every_row") == []


def test_every_rule_of_the_feed_has_a_case() -> None:
    """Prevents a new rule without a row that it catches."""
    assert {reason[0] for _, reason in RULES if reason} == {rule.code for rule in FEED.rules}
    critical = {rule.code for rule in FEED.rules if rule.severity is Severity.CRITICAL}
    assert critical == {"TRADES_WITHOUT_SHARES", "SHARES_WITHOUT_TRADES"}


def test_rejects_say_where_they_stood_and_what_they_said(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents a reject that cannot be found again in the file."""
    Normalised(engine, [row((17, "XYZ", "UBSA", -5, 1), part_no=3, issue_name=None)])
    (found,) = engine.execute("SELECT * FROM rejects").fetchall()
    assert found == (
        WEEK,
        "OTC",
        3,
        17,
        "NEGATIVE_VALUE",
        "negative shares or trades",
        "XYZ||Venue|UBSA|-5.000000|1",
        "ROW",
    )


def test_rows_of_a_tape_move_are_summed(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents half of a stock's week from being dropped as a duplicate, or counted in two rows."""
    moved = [
        row((2, "FITB", "UBSA", Decimal("100.5"), 7)),
        row((3, "FITB", "UBSA", Decimal("0.25"), 2)),
        row((4, "FITB", "INCR", 1, 1)),
    ]
    found = Normalised(engine, moved)
    assert found.used == [("FITB", "INCR", Decimal(1), 1, 1), ("FITB", "UBSA", Decimal("100.75"), 9, 2)]
    assert found.aside == []
    assert found.violated("one_row_per_venue_and_symbol") == [(WEEK, "OTC", 1, 0)]
    assert found.violated("accounts_for_every_row") == []


@pytest.mark.parametrize(
    "other",
    [
        {"issue_name": "Reassigned ticker"},
        {"issue_name": None},
        {"venue_name": "Renamed venue"},
        {"source_last_update_date": None},
        {"source_last_update_date": date(2025, 12, 12)},
        {"total_trades": 8},
        {"total_shares": Decimal("100.000001")},
    ],
)
def test_a_row_that_differs_in_anything_is_no_duplicate(
    engine: duckdb.DuckDBPyConnection, other: dict[str, object]
) -> None:
    """Prevents a second part of a whole from being thrown away because its key is the same."""
    found = Normalised(engine, [GOOD, GOOD | {"line_no": 3} | other])
    assert [one[4] for one in found.used] == [2]
    assert found.aside == []


def test_exact_duplicates_are_dropped_and_recorded_once(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents a page fetched twice from doubling volume; the first copy counts, the others are on record."""
    copies = [GOOD | {"line_no": line, "part_no": part} for part, line in [(2, 5), (1, 9), (1, 4), (2, 1)]]
    found = Normalised(engine, copies)
    assert found.used == [USED]
    assert engine.execute("SELECT part_no, line_no, reason_code, scope FROM rejects ORDER BY ALL").fetchall() == [
        (1, 9, "EXACT_DUPLICATE", "ROW"),
        (2, 1, "EXACT_DUPLICATE", "ROW"),
        (2, 5, "EXACT_DUPLICATE", "ROW"),
    ]
    assert found.violated("accounts_for_every_row") == []


def test_duplicates_with_nulls_are_duplicates(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents the simple file, which has no names and dates, from never having a duplicate."""
    bare: dict[str, object] = {"issue_name": None, "venue_name": None, "source_last_update_date": None}
    found = Normalised(engine, [GOOD | bare, GOOD | bare | {"line_no": 3}])
    assert (found.used, found.aside) == ([USED], [(3, "EXACT_DUPLICATE", "ROW")])


def test_a_duplicate_beside_a_tape_move(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents the copies of one part from hiding the other part."""
    moved = row((3, "ABC", "UBSA", 50, 1), issue_name="Moved")
    found = Normalised(engine, [GOOD, moved, GOOD | {"line_no": 4}, moved | {"line_no": 5}])
    assert found.used == [("ABC", "UBSA", Decimal(150), 8, 2)]
    assert found.aside == [(4, "EXACT_DUPLICATE", "ROW"), (5, "EXACT_DUPLICATE", "ROW")]


def test_copies_of_a_blank_symbol_and_of_rejected_rows(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents one line from being recorded for two reasons, which the record's key forbids."""
    blank, negative = row((2, "", "UBSA", 10, 1)), row((4, "X", "UBSA", -1, 1))
    found = Normalised(engine, [blank, blank | {"line_no": 3}, negative, negative | {"line_no": 5}])
    assert found.used == [("", "UBSA", Decimal(10), 1, 1)]
    assert found.aside == [
        (2, "BLANK_SYMBOL", "SYMBOL_METRICS"),
        (3, "EXACT_DUPLICATE", "ROW"),
        (4, "NEGATIVE_VALUE", "ROW"),
        (5, "NEGATIVE_VALUE", "ROW"),
    ]
    assert found.violated("accounts_for_every_row") == []


def test_partitions_are_independent(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents a stock that is in two tiers, or a week like the last one, from becoming a duplicate or a sum."""
    weeks = [WEEK, WEEK + timedelta(weeks=1)]
    rows = [GOOD | {"week_ending": week, "tier": tier} for week in weeks for tier in ("OTC", "NMS_TIER_1")]
    Normalised(engine, [*rows, rows[0] | {"line_no": 3}, rows[1] | {"line_no": 3, "total_shares": -1}])
    counted = engine.execute("SELECT week_ending, tier, sum(row_count) FROM venue_volume GROUP BY ALL ORDER BY ALL")
    assert counted.fetchall() == [(week, tier, 1) for week in weeks for tier in ("NMS_TIER_1", "OTC")]
    aside = engine.execute("SELECT week_ending, tier, reason_code FROM rejects ORDER BY ALL").fetchall()
    assert aside == [(WEEK, "NMS_TIER_1", "NEGATIVE_VALUE"), (WEEK, "OTC", "EXACT_DUPLICATE")]


def test_no_rows_and_only_bad_rows(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents an empty week from failing, and a week of rejects from not being accounted for."""
    assert Normalised(engine, []).used == []
    found = Normalised(engine, [row((n, "A", "", 1, 1)) for n in (2, 3)])
    assert (found.used, len(found.aside)) == ([], 2)
    assert found.violated("accounts_for_every_row") == []


def test_a_lost_row_is_noticed(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents the accounting law from holding whatever happens."""
    found = Normalised(engine, [GOOD, row((3, "B", "UBSA", -1, 1))])
    engine.execute("DELETE FROM rejects")
    assert found.violated("accounts_for_every_row") == [(WEEK, "OTC", 1, 2)]
    engine.execute("DELETE FROM venue_volume")
    assert found.violated("accounts_for_every_row") == [(WEEK, "OTC", 0, 2)]


def test_columns_are_the_declared_ones(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents sums from widening to types that the stored files do not have."""
    Normalised(engine, [GOOD])
    described = engine.execute("DESCRIBE venue_volume").fetchall()
    assert [(one[0], one[1]) for one in described] == [(one.name, one.type) for one in VENUE_VOLUME.columns]


def _rule(code: str, predicate: str, scope: str = "ROW", description: str = "") -> RowRule:
    return RowRule(code, predicate, description or code, Severity.WARN, Category.BUSINESS_RULE, scope)


def test_a_feed_without_rules_keeps_everything(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents the next feed from having to invent a rule."""
    found = Normalised(engine, [GOOD, row((3, "", "", -1, -1))], replace(FEED, rules=()))
    assert (len(found.used), found.aside) == (2, [])


def test_the_first_matching_rule_also_decides_what_happens(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents a row that is recorded as kept in venue totals from being removed by a later rule."""
    rules = (_rule("ODD", "symbol = 'ODD'", "SYMBOL_METRICS"), _rule("NEGATIVE", "total_shares < 0"))
    found = Normalised(
        engine, [row((2, "ODD", "UBSA", -1, 1)), row((3, "B", "UBSA", -1, 1))], replace(FEED, rules=rules)
    )
    assert [one[0] for one in found.used] == ["ODD"]
    assert found.aside == [(2, "ODD", "SYMBOL_METRICS"), (3, "NEGATIVE", "ROW")]
    assert found.violated("accounts_for_every_row") == []


def test_words_of_a_rule_cannot_leave_their_quotes(engine: duckdb.DuckDBPyConnection) -> None:
    """Prevents an apostrophe in a description from breaking, or entering, the SQL."""
    rules = (_rule("IT'S", "total_shares < 0", description="FINRA's '); DROP TABLE raw_rows; --"),)
    found = Normalised(engine, [row((2, "A", "UBSA", -1, 1))], replace(FEED, rules=rules))
    assert found.aside == [(2, "IT'S", "ROW")]
    assert engine.execute("SELECT detail FROM rejects").fetchall() == [(rules[0].description,)]


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "week_ending": st.sampled_from([WEEK, WEEK + timedelta(weeks=1)]),
            "tier": st.sampled_from(["OTC", "NMS_TIER_1"]),
            "symbol": st.sampled_from(["", "A", "B"]),
            "mpid": st.sampled_from(["", "UBSA"]),
            "issue_name": st.sampled_from([None, "Issue"]),
            "venue_name": st.sampled_from([None, "Venue"]),
            "total_shares": st.sampled_from([Decimal(-1), Decimal(0), Decimal("0.5"), Decimal(3)]),
            "total_trades": st.sampled_from([-1, 0, 2]),
            "source_last_update_date": st.sampled_from([None, UPDATED, date(2026, 6, 1)]),
        }
    ),
    max_size=25,
)


def _fate(one: dict[str, Any]) -> str:
    """What the rules say of one row, written apart from them."""
    shares, trades = one["total_shares"], one["total_trades"]
    if shares < 0 or trades < 0 or one["source_last_update_date"] == date(2026, 6, 1) or one["mpid"] == "":
        return "aside"
    return "aside" if (shares == 0) != (trades == 0) else "used"


@given(ROWS)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_raw_is_what_was_used_and_what_was_set_aside(
    engine: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]
) -> None:
    """Prevents any combination of NULLs, copies and rules from losing a row, or from counting one twice."""
    numbered = [one | {"part_no": 1 + n % 2, "line_no": 2 + n} for n, one in enumerate(rows)]
    found = Normalised(engine, numbered)
    names = sorted(rows[0]) if rows else []
    kept = {tuple(one[name] for name in names) for one in rows if _fate(one) == "used"}
    wanted: dict[tuple[Any, ...], tuple[Decimal, int, int]] = {}
    for values in kept:
        one = dict(zip(names, values, strict=True))
        key = (one["week_ending"], one["tier"], one["symbol"], one["mpid"])
        shares, trades, count = wanted.get(key, (Decimal(0), 0, 0))
        wanted[key] = (shares + one["total_shares"], trades + one["total_trades"], count + 1)
    got = engine.execute("SELECT * FROM venue_volume").fetchall()
    assert {line[:4]: line[4:] for line in got} == wanted
    assert len(got) == len(wanted)
    removed = [line for line in found.aside if line[2] == "ROW"]
    assert len(removed) + sum(line[6] for line in got) == len(rows)
    assert len({line[0] for line in found.aside}) == len(found.aside)  # line numbers are unique here
    assert found.violated("accounts_for_every_row") == []
