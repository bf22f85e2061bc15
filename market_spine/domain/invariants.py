"""The laws that calculations share, as SQL made from their parts.

What belongs here: forms of `Invariant` that more than one calculation uses. What does not: the laws of one calculation
only (its own file), and running them (`assets`).

Every law compares exactly and reports DOUBLEs, which are for reading. Partitions that only one side has are compared
too (FULL JOIN): a calculation that drops a whole partition breaks the law.
"""

from __future__ import annotations

from market_spine.domain.contracts import Category, Invariant

TOLERANCE = 1e-9  # sums of shares; a sum of 40 doubles near 1/40 is off by about 1e-16


def equal_per_partition(
    name: str, description: str, *, observed: str, expected: str, by_tier: bool = True, category: Category | None = None
) -> Invariant:
    """CRITICAL: two SELECTs of ``week_ending[, tier], value`` agree exactly in every partition; a missing side is 0."""
    keys = "week_ending, tier" if by_tier else "week_ending"
    sql = f"""
        WITH observed AS ({observed}), expected AS ({expected})
        SELECT
            {keys},
            CAST(coalesce(o.value, 0) AS DOUBLE) AS observed,
            CAST(coalesce(e.value, 0) AS DOUBLE) AS expected
        FROM observed o FULL JOIN expected e USING ({keys})
        WHERE coalesce(o.value, 0) <> coalesce(e.value, 0)"""
    return Invariant(name, description, sql, category=category or Category.CONSISTENCY)


def one_row_per(table: str, what: str, *, expected: str, by_tier: bool = True) -> Invariant:
    """CRITICAL: ``table`` has as many rows in a partition as ``expected`` (week_ending[, tier], value) says."""
    keys = "week_ending, tier" if by_tier else "week_ending"
    return equal_per_partition(
        "row_count",
        f"One row per {what}.",
        observed=f"SELECT {keys}, count(*) AS value FROM {table} GROUP BY {keys}",
        expected=expected,
        by_tier=by_tier,
        category=Category.COMPLETENESS,
    )


def rows_of(table: str, *, distinct: str = "*", where: str = "true") -> str:
    """A SELECT of the rows (or of the distinct values of a column) per partition of ``table``."""
    counted = "*" if distinct == "*" else f"DISTINCT {distinct}"
    return f"SELECT week_ending, tier, count({counted}) AS value FROM {table} WHERE {where} GROUP BY week_ending, tier"


def total_of(table: str, column: str, *, where: str = "true") -> str:
    """A SELECT of the exact sum of a DECIMAL or integer column per partition of ``table``."""
    return f"SELECT week_ending, tier, sum({column}) AS value FROM {table} WHERE {where} GROUP BY week_ending, tier"


def shares_sum_to_one(table: str, share: str, *, per: tuple[str, ...], by_tier: bool = True) -> Invariant:
    """CRITICAL: ``share`` adds up to 1 within 1e-9 in each group ``per``; an all-zero group has NULL shares only.

    Reports the sum that is furthest from 1 in the partition. A group that mixes NULL shares with others breaks the law.
    """
    keys = "week_ending, tier" if by_tier else "week_ending"
    groups = ", ".join(per)
    sql = f"""
        WITH sums AS (
            SELECT {groups}, sum({share}) AS total, count({share}) AS shares, count(*) AS row_count
            FROM {table} GROUP BY {groups}
        )
        SELECT
            {keys},
            arg_max(coalesce(total, 0), abs(coalesce(total, 0) - 1)) AS observed,
            CAST(1 AS DOUBLE) AS expected
        FROM sums
        WHERE shares > 0 AND (abs(total - 1) > {TOLERANCE} OR shares < row_count)
        GROUP BY {keys}"""
    return Invariant(f"{share}_sums_to_one", f"{share} adds up to 1 within {TOLERANCE} per {groups}.", sql)
