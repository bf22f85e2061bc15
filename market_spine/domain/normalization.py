"""The step from raw lines to venue volume: row rules set rows aside, exact duplicates fall away, the rest is summed.

What belongs here: the SQL that every feed shares. What does not: the rules themselves (`feeds`). A mid-week tape move
or a reassigned ticker gives several rows for one (symbol, mpid): they are summed, and ``row_count`` says how many.
"""

from __future__ import annotations

from dataclasses import dataclass

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import (
    MPID,
    SYMBOL,
    TIER,
    WEEK_ENDING,
    Calculation,
    Category,
    Column,
    Feed,
    Invariant,
    RowRule,
    Severity,
    Table,
)
from market_spine.domain.sqltext import literal

EXACT_DUPLICATE = RowRule("EXACT_DUPLICATE", "", "an exact copy of an earlier row", Severity.WARN, Category.CONSISTENCY)

VENUE_VOLUME = Table(
    name="venue_volume",
    stage=Stage.NORMALIZED,
    grain=("week_ending", "tier", "symbol", "mpid"),
    description="Shares and trades of one venue in one stock in one week: clean rows that every measure starts from.",
    columns=(
        WEEK_ENDING,
        TIER,
        SYMBOL,
        MPID,
        Column("total_shares", "DECIMAL(20,6)", "Shares traded in the week", ge=0),
        Column("total_trades", "BIGINT", "Trades in the week", ge=0),
        Column("row_count", "INTEGER", "Raw rows summed into this one", ge=1),
    ),
)


@dataclass(frozen=True, slots=True)
class Normalization:
    """The calculation of venue volume for one feed, and the SQL that names what it set aside.

    ``rejects_sql`` reads raw and the finished venue_volume; it returns
    ``week_ending, tier, part_no, line_no, reason_code, detail, raw_text, scope``.
    """

    calculation: Calculation
    rejects_sql: str


def normalization(feed: Feed) -> Normalization:
    """Venue volume of ``feed``, by its row rules. Reads ``raw`` with its provenance (the capture time)."""
    calculation = Calculation(
        table=VENUE_VOLUME,
        version="1.0",
        inputs=("raw",),
        sql=_venue_volume_sql(feed),
        invariants=(*INVARIANTS, *(_rule_holds(rule) for rule in (*feed.rules, EXACT_DUPLICATE))),
        assumptions=(
            "a row is what one venue reported for one stock and week; several such rows are parts of a whole",
        ),
        expected_rows="one per (symbol, mpid) among the raw rows that no rule removes",
    )
    return Normalization(calculation, _rejects_sql(feed))


def _rule_case(feed: Feed) -> str:
    arms = " ".join(f"WHEN {rule.predicate} THEN {literal(rule.code)}" for rule in feed.rules)
    return f"CASE WHEN false THEN NULL {arms} END"  # the first arm is for a feed without rules


def _rule_holds(rule: RowRule) -> Invariant:
    """What a row rule sets aside as a finding of the rule's own severity: CRITICAL keeps the partition out."""
    sql = f"""
        SELECT week_ending, tier, count(*) AS observed, 0 AS expected
        FROM rejects WHERE reason_code = {literal(rule.code)} GROUP BY ALL"""
    return Invariant(
        rule.code.lower(),
        f"No row is set aside for: {rule.description}.",
        sql,
        rule.severity,
        rule.category,
        message=f"{{observed}} rows set aside: {rule.description}",
    )


def _removing(feed: Feed) -> str:
    """Whether the first rule that matches removes the row: what is recorded is also what is done."""
    arms = " ".join(f"WHEN {rule.predicate} THEN {str(rule.scope == 'ROW').lower()}" for rule in feed.rules)
    return f"CASE WHEN false THEN NULL {arms} ELSE false END"


# Only keys that occur more than once are looked at again; in an ordinary week there are none (0 of 15,175 real rows).
_COPIES = """
    copies AS (
        SELECT kept.*, row_number() OVER (
            PARTITION BY week_ending, tier, symbol, mpid, issue_name, venue_name, total_shares, total_trades,
                         source_last_update_date
            ORDER BY part_no, line_no
        ) AS copy_no
        FROM kept SEMI JOIN repeated USING (week_ending, tier, symbol, mpid)
    )
"""


_SUMS = """CAST(sum(total_shares) AS DECIMAL(20,6)) AS total_shares,
       CAST(sum(total_trades) AS BIGINT) AS total_trades,
       CAST(count(*) AS INTEGER) AS row_count"""


def _venue_volume_sql(feed: Feed) -> str:
    return f"""
WITH kept AS NOT MATERIALIZED (
    SELECT * FROM raw WHERE NOT ({_removing(feed)})
),
grouped AS (
    SELECT week_ending, tier, symbol, mpid, {_SUMS} FROM kept GROUP BY ALL
),
repeated AS (
    SELECT week_ending, tier, symbol, mpid FROM grouped WHERE row_count > 1
),
{_COPIES}
SELECT * FROM grouped WHERE row_count = 1
UNION ALL
SELECT week_ending, tier, symbol, mpid, {_SUMS} FROM copies WHERE copy_no = 1 GROUP BY ALL
"""


def _rejects_sql(feed: Feed) -> str:
    meaning = {rule.code: rule for rule in (*feed.rules, EXACT_DUPLICATE)}
    details = " ".join(f"WHEN {literal(code)} THEN {literal(rule.description)}" for code, rule in meaning.items())
    scopes = " ".join(f"WHEN {literal(code)} THEN {literal(rule.scope)}" for code, rule in meaning.items())
    text = (
        "concat_ws('|', symbol, coalesce(issue_name, ''), coalesce(venue_name, ''), mpid, total_shares, total_trades)"
    )
    return f"""
WITH judged AS MATERIALIZED (
    SELECT *, {_rule_case(feed)} AS reason_code, {_removing(feed)} AS is_removed FROM raw WHERE reason_code IS NOT NULL
),
kept AS NOT MATERIALIZED (
    SELECT * FROM raw WHERE NOT ({_removing(feed)})
),
with_copies AS (
    SELECT week_ending, tier
    FROM (SELECT week_ending, tier, count(*) AS total FROM raw GROUP BY ALL)
    JOIN (SELECT week_ending, tier, sum(row_count) AS used FROM venue_volume GROUP BY ALL) USING (week_ending, tier)
    LEFT JOIN (SELECT week_ending, tier, count(*) AS removed FROM judged WHERE is_removed GROUP BY ALL)
        USING (week_ending, tier)
    WHERE total <> used + coalesce(removed, 0)
),
repeated AS (
    SELECT week_ending, tier, symbol, mpid FROM kept SEMI JOIN with_copies USING (week_ending, tier)
    GROUP BY ALL HAVING count(*) > 1
),
{_COPIES},
found AS (
    SELECT week_ending, tier, part_no, line_no, reason_code, {text} AS raw_text FROM judged
    WHERE (part_no, line_no, week_ending, tier) NOT IN
          (SELECT (part_no, line_no, week_ending, tier) FROM copies WHERE copy_no > 1)
    UNION ALL
    SELECT week_ending, tier, part_no, line_no, 'EXACT_DUPLICATE', {text} FROM copies WHERE copy_no > 1
)
SELECT week_ending, tier, part_no, line_no, reason_code, CASE reason_code {details} END AS detail, raw_text,
       CASE reason_code {scopes} END AS scope
FROM found
"""


INVARIANTS = (
    Invariant(
        "accounts_for_every_row",
        "raw rows = rows summed here + rows set aside",
        """
        SELECT week_ending, tier, coalesce(used, 0) + coalesce(aside, 0) AS observed, total AS expected
        FROM (SELECT week_ending, tier, count(*) AS total FROM raw GROUP BY ALL)
        LEFT JOIN (SELECT week_ending, tier, sum(row_count) AS used FROM venue_volume GROUP BY ALL)
            USING (week_ending, tier)
        LEFT JOIN (SELECT week_ending, tier, count(*) AS aside FROM rejects WHERE scope = 'ROW' GROUP BY ALL)
            USING (week_ending, tier)
        WHERE coalesce(used, 0) + coalesce(aside, 0) <> total
        """,
    ),
    Invariant(
        "one_row_per_venue_and_symbol",
        "rows of one (symbol, mpid) are rare: a mid-week tape move or a reassigned ticker; they are summed",
        "SELECT week_ending, tier, count(*) AS observed, 0 AS expected FROM venue_volume WHERE row_count > 1 "
        "GROUP BY ALL",
        Severity.WARN,
    ),
)
