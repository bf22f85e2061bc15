"""Views and macros beyond the captured tables: cheap derivations, comparisons, and the documents' longer names.

Views cost nothing to keep and follow the latest captures; what must be replayed or is expensive is a calculation.
"""

from __future__ import annotations

from collections.abc import Sequence

from market_spine.assets.tables import tables_of
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import RECORD_HASH_SQL
from market_spine.store.publish import Extra

# Table names that the source documents print, by our short name. Their columns are ours.
LONG_NAMES = {
    "raw": ("{p}_raw", "{p}_otc_raw"),
    "venue_volume": ("{p}_venue_volume", "{p}_weekly_symbol_venue_volume"),
    "symbol_summary": ("{p}_symbol_summary", "{p}_weekly_symbol_summary"),
    "venue_share": ("{p}_venue_share", "{p}_weekly_venue_share"),
    "symbol_venue_share": (
        "{p}_symbol_venue_share",
        "{p}_weekly_symbol_venue_share",
        "{p}_weekly_symbol_venue_share_latest",
    ),
    "symbol_hhi": ("{p}_symbol_hhi", "{p}_weekly_symbol_venue_concentration_hhi"),
    "liquidity_score": ("{p}_liquidity_score",),
    "volume_per_day": ("{p}_volume_per_day", "{p}_weekly_symbol_volume_per_trading_day"),
    "tier_split": ("{p}_tier_split", "{p}_weekly_symbol_tier_volume_share"),
    "symbol_rolling_6w": ("{p}_symbol_rolling_6w",),
}


def views_of(feed: Feed) -> Sequence[Extra]:
    """All views and macros of ``feed``."""
    own = {name: sql.replace("{f}", feed.name) for name, sql in OWN.items()}
    extras = [Extra(name.replace("{f}", feed.name), sql) for name, sql in own.items()]
    known = tables_of(feed)
    for short, patterns in LONG_NAMES.items():
        if (target := feed.sql_name(short)) in known:
            for name in (pattern.format(p=feed.long_prefix) for pattern in patterns):
                extras.append(Extra(name, f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM {target}"))
    return extras


OWN = {
    "{f}_average_trade_size": """CREATE OR REPLACE VIEW {f}_average_trade_size AS
        SELECT week_ending, tier, symbol, mpid, total_shares, total_trades,
               CAST(total_shares AS DOUBLE) / nullif(total_trades, 0) AS avg_trade_size, capture_id, captured_at
        FROM {f}_venue_volume""",
    "{f}_top_venues": """CREATE OR REPLACE MACRO {f}_top_venues(week, tier_name, n := 10) AS TABLE
        SELECT week_ending, tier, mpid, venue_rank, total_volume, total_trades, venue_share, symbol_count
        FROM {f}_venue_share
        WHERE week_ending = CAST(week AS DATE) AND tier = tier_name AND venue_rank <= n
        ORDER BY venue_rank""",
    "{f}_venue_volume_percentiles": """CREATE OR REPLACE VIEW {f}_venue_volume_percentiles AS
        SELECT week_ending, tier, symbol, count(*) AS venue_count,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.10) AS p10_shares,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.25) AS p25_shares,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.50) AS p50_shares,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.75) AS p75_shares,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.90) AS p90_shares
        FROM {f}_venue_volume WHERE symbol <> '' GROUP BY ALL""",
    "{f}_liquidity_score_versions": """CREATE OR REPLACE VIEW {f}_liquidity_score_versions AS
        SELECT week_ending, tier, symbol, a.liquidity_score AS v1, b.liquidity_score AS v2,
               b.liquidity_score - a.liquidity_score AS difference
        FROM {f}_liquidity_score a FULL JOIN {f}_liquidity_score_v2 b USING (week_ending, tier, symbol)""",
    "{f}_symbol_rolling_6w_clean": """CREATE OR REPLACE VIEW {f}_symbol_rolling_6w_clean AS
        SELECT * FROM {f}_symbol_rolling_6w WHERE is_complete""",
    "{f}_record_hash": f"""CREATE OR REPLACE VIEW {{f}}_record_hash AS
        SELECT *, {RECORD_HASH_SQL} AS record_hash
        FROM {{f}}_venue_volume""",
}
