"""Views and macros that say whether rows may be used: certified ones only, and every row with what is known against it.

* ``T_ready(use_case)``: the rows of the captures that certificates in force are about, and no others. One that came
  after a certificate is not in it, so a restated week has no rows here until it is certified again.
* ``T_annotated``: every latest row with the open findings of its week and tier, and three flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from market_spine.assets.expected import schedule_of
from market_spine.assets.tables import CALENDAR, tables_of
from market_spine.domain.contracts import Feed
from market_spine.domain.sqltext import literal
from market_spine.governance.policy import load_use_cases
from market_spine.store.publish import Extra


def trust_views(feed: Feed) -> Sequence[Extra]:
    """Quality of each week and tier, then per captured table its certified and its annotated rows."""
    names = [name for name in tables_of(feed) if name != CALENDAR]
    return [_quality(feed), _scores(feed), *_ready(feed, names), *(_annotated(feed, name) for name in names)]


def _scores(feed: Feed) -> Extra:
    sql = f"""CREATE OR REPLACE VIEW {feed.name}_quality AS
        SELECT week_ending, tier, grade, score, completeness, validity, consistency, timeliness,
               details_json, capture_id, scored_at
        FROM core_quality_scores WHERE domain = {literal(feed.domain)}"""
    told = (
        "Per week and tier: the grade (A to F) of what was captured, its score of 0 to 1, and the four components of"
        " which it is the weighted mean: completeness and validity .3 each, consistency and timeliness .2 each."
    )
    return Extra(f"{feed.name}_quality", sql, told)


def _quality(feed: Feed) -> Extra:
    hours = schedule_of(feed).preliminary_hours
    domain, raw = literal(feed.domain), literal(feed.sql_name("raw"))
    sql = f"""CREATE OR REPLACE VIEW {feed.name}_week_quality AS
        SELECT m.week_ending, m.tier,
               coalesce(list(DISTINCT a.code ORDER BY a.code) FILTER (WHERE a.code IS NOT NULL), []) AS open_findings,
               arg_max(a.severity, list_position(['INFO', 'WARN', 'ERROR', 'CRITICAL'], a.severity)) AS worst_severity,
               any_value(m.captured_at) + INTERVAL {hours} HOURS >= now() AS is_preliminary,
               coalesce(bool_or(a.category IN ('INCOMPLETE_INPUT', 'COMPLETENESS') AND a.severity <> 'INFO'), false)
                   AS is_incomplete,
               any_value(m.revision) > 1 AS is_corrected
        FROM core_manifest m
        LEFT JOIN core_anomalies a ON a.domain = m.domain AND a.week_ending = m.week_ending
            AND a.tier IN (m.tier, 'ALL') AND a.resolved_at IS NULL
        WHERE m.domain = {domain} AND m.table_name = {raw} AND m.is_current = 1
        GROUP BY m.week_ending, m.tier"""
    told = (
        "Per week and tier: open findings, the worst severity, and whether the data is preliminary (delivered less than"
        f" {hours} hours ago), incomplete (a finding says so) or corrected (FINRA restated it)."
    )
    return Extra(f"{feed.name}_week_quality", sql, told)


def _ready(feed: Feed, names: Sequence[str]) -> Iterator[Extra]:
    use_cases = ", ".join(literal(name) for name in load_use_cases(feed))
    chosen = f"""CASE WHEN use_case IN ({use_cases}) THEN use_case
              ELSE error(use_case || ' is not a use case; there are: ' || concat_ws(', ', {use_cases})) END"""
    for name in names:
        sql = f"""CREATE OR REPLACE MACRO {name}_ready(use_case) AS TABLE
        SELECT * FROM {name} WHERE capture_id IN (
            SELECT capture_id FROM core_certified_captures
            WHERE domain = {literal(feed.domain)} AND ready_for = {chosen})"""
        yield Extra(f"{name}_ready", sql, f"Macro (use_case): rows of {name} that are certified for it.")


def _annotated(feed: Feed, name: str) -> Extra:
    sql = f"""CREATE OR REPLACE VIEW {name}_annotated AS
        SELECT t.*, q.open_findings, q.worst_severity, q.is_preliminary, q.is_incomplete, q.is_corrected
        FROM {name} t LEFT JOIN {feed.name}_week_quality q USING (week_ending, tier)"""
    return Extra(f"{name}_annotated", sql, f"{name}, each row with the open findings of its week and tier.")
