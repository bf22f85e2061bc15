"""What every table, calculation and feed declares about itself: plain, frozen values.

One column list feeds the Parquet layout, the pandera schema, Dagster's table schema, the published views and the
catalog. What belongs here: the declarations. What does not: the SQL of one calculation (`calculations`), the facts of
one feed (`feeds`), and anything that runs them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from market_spine.domain.captures import Stage
from market_spine.domain.errors import CalculationError
from market_spine.domain.tiers import Tier


class Severity(StrEnum):
    """How much a finding matters. Only CRITICAL blocks usage."""

    INFO = "INFO"
    WARN = "WARN"
    ERROR = "ERROR"
    CRITICAL = "CRITICAL"


class Category(StrEnum):
    """What kind of trouble a finding is."""

    INCOMPLETE_INPUT = "INCOMPLETE_INPUT"
    BUSINESS_RULE = "BUSINESS_RULE"
    COMPLETENESS = "COMPLETENESS"
    CONSISTENCY = "CONSISTENCY"
    FRESHNESS = "FRESHNESS"
    DEPENDENCY = "DEPENDENCY"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: DuckDB type, meaning with its unit, and the bounds that its values never leave."""

    name: str
    type: str
    description: str
    nullable: bool = False
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    isin: tuple[str, ...] = ()


WEEK_ENDING = Column("week_ending", "DATE", "Friday that ends the trading week")
TIER = Column("tier", "VARCHAR", "FINRA tier of the stock", isin=tuple(Tier))
SYMBOL = Column("symbol", "VARCHAR", "Stock symbol as published")
MPID = Column("mpid", "VARCHAR", "Market participant identifier of the venue (4 characters)")


@dataclass(frozen=True, slots=True)
class Table:
    """A captured table: its place in the stages, grain (unique key within a partition set) and columns."""

    name: str
    stage: Stage
    grain: tuple[str, ...]
    columns: tuple[Column, ...]
    description: str
    by_tier: bool = True

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        problems = [f"grain column {name} is not a column" for name in self.grain if name not in names]
        problems += [f"column {name} occurs twice" for name in set(names) if names.count(name) > 1]
        problems += [
            f"column {one.name} has allowed values and bounds: the values are the bounds"
            for one in self.columns
            if one.isin and (one.ge, one.gt, one.le) != (None, None, None)
        ]
        if not names or not self.grain:
            problems.append("it needs columns and a grain")
        if problems:
            raise CalculationError(f"table {self.name}: {'; '.join(sorted(problems))}", f"mend the table {self.name}")


@dataclass(frozen=True, slots=True)
class Invariant:
    """A law of a table as SQL over it and its inputs.

    The SQL returns one row per violated partition: ``week_ending, tier, observed, expected`` (tier is absent for
    week-partitioned tables). The new rows of all partitions at once are readable under the table's own name.
    ``message`` says a violation in words for people, with {observed} and {expected} filled in.
    """

    name: str
    description: str
    sql: str
    severity: Severity = Severity.CRITICAL
    category: Category = Category.CONSISTENCY
    message: str = ""


@dataclass(frozen=True, slots=True)
class Calculation:
    """A pure calculation: one SELECT over its inputs' names that serves one partition or hundreds.

    ``weeks_back`` > 0 makes the inputs of the preceding consecutive weeks readable too; then the SELECT must also
    return only weeks of the table ``wanted(week_ending[, tier])``, which lists the partitions that are asked for.
    ``version`` is major.minor: minor for fixes and speed, major when meaning or columns change. ``replaces`` names the
    calculation that this one supersedes and runs beside. ``expected_rows`` says in words how many rows there are, and
    the invariants hold it to it.
    """

    table: Table
    version: str
    inputs: tuple[str, ...]
    sql: str
    weeks_back: int = 0
    invariants: tuple[Invariant, ...] = ()
    assumptions: tuple[str, ...] = ()
    expected_rows: str = ""
    replaces: str | None = None
    is_breaking: bool = False

    @property
    def name(self) -> str:
        """One word: file = table = asset = answers file."""
        return self.table.name

    def spec(self) -> CalculationSpec:
        """The full specification, as the catalog shows it."""
        return CalculationSpec(
            name=self.name,
            version=self.version,
            input_tables=self.inputs,
            output_table=self.name,
            weeks_required=self.weeks_back + 1,
            depends_on=tuple(name for name in self.inputs if name != "raw"),
            is_breaking=self.is_breaking,
            replaces=self.replaces,
            description=self.table.description,
            assumptions=self.assumptions,
            output_columns=tuple(column.name for column in self.table.columns),
            expected_row_count=self.expected_rows,
        )


@dataclass(frozen=True, slots=True)
class CalculationSpec:
    """What a calculation says of itself (the documents' shape)."""

    name: str
    version: str
    input_tables: tuple[str, ...]
    output_table: str
    weeks_required: int
    depends_on: tuple[str, ...]
    is_breaking: bool
    replaces: str | None
    description: str
    assumptions: tuple[str, ...]
    output_columns: tuple[str, ...]
    expected_row_count: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A header that deliveries come with: source column name -> our role for it.

    Roles: tier_text, symbol, issue_name, venue_name, mpid, total_shares, total_trades, source_last_update_date,
    week_label (the week as written in the row, any weekday), week_start (its Monday). ``unstored`` are columns that are
    known to come and have no role.
    """

    name: str
    roles: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    unstored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RowRule:
    """A row that is set aside at normalisation. ``predicate`` is SQL over the raw columns; the first match counts.

    ``scope`` ROW removes the row; SYMBOL_METRICS keeps it in venue totals and removes it from symbol metrics only.
    """

    code: str
    predicate: str
    description: str
    severity: Severity
    category: Category
    scope: str = "ROW"


@dataclass(frozen=True, slots=True, eq=False)
class Feed:
    """What is true of one weekly feed only: names, tiers, shapes, rules, each with its link. Equal by identity."""

    name: str
    domain: str
    title: str
    tiers: tuple[Tier, ...]
    first_week: date
    raw: Table
    shapes: tuple[Shape, ...]
    rules: tuple[RowRule, ...]
    min_records: int
    max_error_rate: float
    source_url: str
    long_prefix: str
    code: str = ""

    def sql_name(self, table: str) -> str:
        """The name of a table in SQL, e.g. ``otc_venue_share``."""
        return f"{self.name}_{table}"
