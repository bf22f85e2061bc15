"""FINRA OTC transparency, ATS weekly rows (API code ATS_W_SMBL_FIRM): names, tiers, shapes and row rules.

Facts and their sources:
* the file's header and the API's fields: https://developer.finra.org/docs#query_api-equity-weekly_summary
* publication lags per tier: https://www.finra.org/rules-guidance/notices/19-29
* share quantities are fractional since 2026-02-23 (13 % of rows, up to 6 decimals), hence DECIMAL(20,6)
* (week, tier, symbol, mpid) is not guaranteed unique: a tape move mid-week gives one row per product type, a
  reassigned ticker one per issue name; such rows are summed at normalisation. Exact duplicates are dropped.
* rows with an empty symbol exist (a private-placement venue): they count in venue totals, not in symbol metrics.
"""

from __future__ import annotations

from datetime import date

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import (
    MPID,
    SYMBOL,
    TIER,
    WEEK_ENDING,
    Category,
    Column,
    Feed,
    RowRule,
    Severity,
    Shape,
    Table,
)
from market_spine.domain.tiers import Tier

FINRA_FILE = Shape(
    "finra_weekly_file",
    {
        "tierDescription": "tier_text",
        "issueSymbolIdentifier": "symbol",
        "issueName": "issue_name",
        "marketParticipantName": "venue_name",
        "MPID": "mpid",
        "totalWeeklyShareQuantity": "total_shares",
        "totalWeeklyTradeCount": "total_trades",
        "lastUpdateDate": "source_last_update_date",
    },
)
SIMPLE_FILE = Shape(
    "simple_file",
    {
        "WeekEnding": "week_label",
        "Tier": "tier_text",
        "Symbol": "symbol",
        "MPID": "mpid",
        "TotalShares": "total_shares",
        "TotalTrades": "total_trades",
    },
)
FINRA_API = Shape(
    "finra_api",
    {
        "tierIdentifier": "tier_text",
        "weekStartDate": "week_start",
        "issueSymbolIdentifier": "symbol",
        "issueName": "issue_name",
        "marketParticipantName": "venue_name",
        "MPID": "mpid",
        "totalWeeklyShareQuantity": "total_shares",
        "totalWeeklyTradeCount": "total_trades",
        "lastUpdateDate": "source_last_update_date",
    },
    optional=frozenset({"issueName", "marketParticipantName", "lastUpdateDate"}),
    # Asked for to tell rows apart (kind, tape, firm, first publication); the landed bytes have them.
    unstored=frozenset({"summaryTypeCode", "productTypeCode", "firmCRDNumber", "initialPublishedDate"}),
)

RAW = Table(
    name="raw",
    stage=Stage.INGESTED,
    grain=("week_ending", "tier", "part_no", "line_no"),
    description="Every line that parses, as published: one row per line. Row rules apply later, at normalisation.",
    columns=(
        WEEK_ENDING,
        TIER,
        Column("part_no", "INTEGER", "Part of the delivery, from 1 (a file has one, an API answer one per page)", ge=1),
        Column("line_no", "INTEGER", "Line in the part, from 1, the header included", ge=1),
        SYMBOL,
        Column("issue_name", "VARCHAR", "Issue name as published", nullable=True),
        Column("venue_name", "VARCHAR", "Market participant name as published (not stable)", nullable=True),
        MPID,
        Column("total_shares", "DECIMAL(20,6)", "Shares traded in the week"),
        Column("total_trades", "BIGINT", "Trades in the week"),
        Column("source_last_update_date", "DATE", "FINRA's lastUpdateDate of the row", nullable=True),
    ),
)

RULES = (
    RowRule(
        "NEGATIVE_VALUE",
        "total_shares < 0 OR total_trades < 0",
        "negative shares or trades",
        Severity.ERROR,
        Category.BUSINESS_RULE,
    ),
    RowRule(
        "FUTURE_DATE",
        "source_last_update_date > CAST(captured_at AS DATE) + 1",
        "last updated after it was captured",
        Severity.ERROR,
        Category.BUSINESS_RULE,
    ),
    RowRule("BLANK_MPID", "mpid = ''", "an ATS row without a venue", Severity.ERROR, Category.BUSINESS_RULE),
    RowRule(
        "TRADES_WITHOUT_SHARES",
        "total_shares = 0 AND total_trades > 0",
        "trades without shares",
        Severity.CRITICAL,
        Category.BUSINESS_RULE,
    ),
    RowRule(
        "SHARES_WITHOUT_TRADES",
        "total_shares > 0 AND total_trades = 0",
        "shares without trades",
        Severity.CRITICAL,
        Category.BUSINESS_RULE,
    ),
    RowRule(
        "BLANK_SYMBOL",
        "symbol = ''",
        "a row without a symbol: kept in venue totals, left out of symbol metrics",
        Severity.WARN,
        Category.BUSINESS_RULE,
        scope="SYMBOL_METRICS",
    ),
)

OTC = Feed(
    name="otc",
    domain="finra.otc_transparency",
    title="FINRA OTC transparency, ATS weekly",
    tiers=tuple(Tier),
    first_week=date(2023, 1, 6),
    raw=RAW,
    shapes=(FINRA_FILE, SIMPLE_FILE, FINRA_API),
    rules=RULES,
    min_records=100,
    max_error_rate=0.05,
    source_url="https://api.finra.org/data/group/otcMarket/name/weeklySummary",
    long_prefix="finra_otc_transparency",
    code="ATS_W_SMBL_FIRM",
)
FEED = OTC
