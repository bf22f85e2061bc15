"""Contracts: declarations that cannot contradict themselves, and words that other floors store."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields, replace
from datetime import date

import pytest

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import (
    MPID,
    SYMBOL,
    TIER,
    WEEK_ENDING,
    Calculation,
    CalculationSpec,
    Category,
    Column,
    Feed,
    Invariant,
    Severity,
    Table,
)
from market_spine.domain.errors import CalculationError, StoreError
from market_spine.domain.tiers import Tier

SHARES = Column("total_shares", "DECIMAL(20,6)", "Shares traded in the week", ge=0)


def table(grain: tuple[str, ...], columns: tuple[Column, ...]) -> Table:
    return Table("example", Stage.AGGREGATED, grain, columns, "One row per week, tier and symbol")


EXAMPLE = table(("week_ending", "tier", "symbol"), (WEEK_ENDING, TIER, SYMBOL, SHARES))


@pytest.mark.parametrize(
    ("grain", "columns", "cause"),
    [
        (("week_ending", "mpid"), (WEEK_ENDING, TIER), "table example: grain column mpid is not a column"),
        (("tier",), (TIER, SYMBOL, TIER), "table example: column tier occurs twice"),
        ((), (TIER,), "table example: it needs columns and a grain"),
        ((), (), "table example: it needs columns and a grain"),
        (
            ("tier",),
            (replace(TIER, le=3),),
            "table example: column tier has allowed values and bounds: the values are the bounds",
        ),
        (
            ("mpid", "symbol"),
            (TIER, TIER),
            "table example: column tier occurs twice; grain column mpid is not a column; "
            "grain column symbol is not a column",
        ),
    ],
)
def test_a_table_that_contradicts_itself_cannot_be_declared(
    grain: tuple[str, ...], columns: tuple[Column, ...], cause: str
) -> None:
    """Prevents a table whose key no check could test; all problems are named at once."""
    with pytest.raises(CalculationError) as caught:
        table(grain, columns)
    assert caught.value.cause == cause
    assert caught.value.remedy == "mend the table example"


def test_a_calculation_carries_one_name() -> None:
    """Prevents a second name for what file, asset and table share."""
    assert Calculation(EXAMPLE, "1.0", ("venue_volume",), "SELECT 1").name == "example"


def test_the_specification_of_a_calculation() -> None:
    """Prevents a catalog that says something else than what runs: weeks needed, inputs, columns and defaults."""
    calculation = Calculation(
        EXAMPLE,
        "2.1",
        ("raw", "venue_volume"),
        "SELECT 1",
        weeks_back=5,
        invariants=(Invariant("law", "a law", "SELECT 1 WHERE false"),),
        assumptions=("weeks are consecutive Fridays",),
        expected_rows="as many as symbols",
        replaces="older",
        is_breaking=True,
    )
    assert calculation.spec() == CalculationSpec(
        name="example",
        version="2.1",
        input_tables=("raw", "venue_volume"),
        output_table="example",
        weeks_required=6,
        depends_on=("venue_volume",),
        is_breaking=True,
        replaces="older",
        description="One row per week, tier and symbol",
        assumptions=("weeks are consecutive Fridays",),
        output_columns=("week_ending", "tier", "symbol", "total_shares"),
        expected_row_count="as many as symbols",
    )


def test_a_calculation_of_one_week_needs_one_week() -> None:
    """Prevents an off-by-one between weeks back and weeks required."""
    assert Calculation(EXAMPLE, "1.0", ("venue_volume",), "SELECT 1").spec().weeks_required == 1


def test_an_invariant_blocks_unless_it_says_otherwise() -> None:
    """Prevents a broken law from passing as a remark."""
    law = Invariant("law", "a law", "SELECT 1")
    assert (law.severity, law.category) == (Severity.CRITICAL, Category.CONSISTENCY)


def test_the_words_of_findings_are_frozen() -> None:
    """Prevents a fifth severity (there is no DEBUG) and a renamed category in stored anomalies."""
    assert [*Severity] == ["INFO", "WARN", "ERROR", "CRITICAL"]
    assert [*Category] == [
        "INCOMPLETE_INPUT",
        "BUSINESS_RULE",
        "COMPLETENESS",
        "CONSISTENCY",
        "FRESHNESS",
        "DEPENDENCY",
    ]


def test_the_shared_columns_keep_their_names_and_types() -> None:
    """Prevents week_end, tier1 or ticker from returning in one table of many."""
    columns = [(column.name, column.type, column.nullable) for column in (WEEK_ENDING, TIER, SYMBOL, MPID)]
    assert columns == [
        ("week_ending", "DATE", False),
        ("tier", "VARCHAR", False),
        ("symbol", "VARCHAR", False),
        ("mpid", "VARCHAR", False),
    ]
    assert TIER.isin == ("NMS_TIER_1", "NMS_TIER_2", "OTC")


def test_a_feed_names_its_tables() -> None:
    """Prevents two spellings of a table's SQL name."""
    feed = Feed(
        name="example",
        domain="finra.example",
        title="Example",
        tiers=(Tier.OTC,),
        first_week=date(2023, 1, 6),
        raw=EXAMPLE,
        shapes=(),
        rules=(),
        min_records=1,
        max_error_rate=0.05,
        source_url="https://example.org",
        long_prefix="finra_example",
    )
    assert feed.sql_name("venue_share") == "example_venue_share"
    with pytest.raises(FrozenInstanceError):
        feed.name = "other"  # type: ignore[misc]


def test_contracts_do_not_change_after_they_are_declared() -> None:
    """Prevents a column that is edited at run time, of which the stored file would know nothing."""
    assert len(fields(Column)) == 8
    with pytest.raises(FrozenInstanceError):
        WEEK_ENDING.type = "VARCHAR"  # type: ignore[misc]


def test_an_error_says_cause_and_next_step_also_after_crossing_a_process() -> None:
    """Prevents an error that loses its remedy in a log, or its second argument when a worker hands it back."""
    error = StoreError("the control database is missing", "run: spine init")
    assert str(error) == "the control database is missing\n  next: run: spine init"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.cause, again.remedy) == (StoreError, error.cause, error.remedy)
