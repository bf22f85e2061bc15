"""Views and macros beyond the captured tables: cheap derivations, comparisons, and the documents' longer names.

Views cost nothing to keep and follow the latest captures; what must be replayed or is expensive is a calculation.
"""

from __future__ import annotations

from collections.abc import Sequence

from market_spine.assets.tables import tables_of
from market_spine.assets.trust_views import trust_views
from market_spine.domain.contracts import Feed
from market_spine.domain.keys import RECORD_HASH_SQL
from market_spine.domain.sqltext import literal
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
    tiers = ", ".join(literal(tier) for tier in feed.tiers)
    extras = [
        Extra(name.replace("{f}", feed.name), sql.replace("{f}", feed.name).replace("{tiers}", tiers), description)
        for name, (description, sql) in OWN.items()
    ]
    known = tables_of(feed)
    for short, patterns in LONG_NAMES.items():
        if (target := feed.sql_name(short)) in known:
            for name in (pattern.format(p=feed.long_prefix) for pattern in patterns):
                sql = f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM {target}"
                told = f"{target} under its long name, for queries that were written with it."
                extras.append(Extra(name, sql, told, is_alias=True))
    return [*extras, *trust_views(feed)]


# Name -> what it holds, and its SQL. A week or tier that is none would silently have no venues, so it is an error.
OWN = {
    "{f}_weeks": (
        "What each week and tier holds: symbols, venues, shares and trades, rows without a symbol included.",
        """CREATE OR REPLACE VIEW {f}_weeks AS
        SELECT v.week_ending, v.tier, coalesce(any_value(s.symbols), 0) AS symbols, count(*) AS venues,
               CAST(sum(v.total_volume) AS DECIMAL(38,6)) AS total_volume,
               CAST(sum(v.total_trades) AS BIGINT) AS total_trades,
               any_value(v.revision) AS revision, any_value(v.captured_at) AS captured_at
        FROM {f}_venue_share v
        LEFT JOIN (SELECT week_ending, tier, count(*) AS symbols FROM {f}_symbol_summary GROUP BY ALL) s
             USING (week_ending, tier)
        GROUP BY v.week_ending, v.tier""",
    ),
    "{f}_symbol_profile": (
        "The measures of each symbol by week: volume, trades, venues, concentration, volume per session, liquidity.",
        """CREATE OR REPLACE VIEW {f}_symbol_profile AS
        SELECT s.week_ending, s.tier, s.symbol, s.total_volume, s.total_trades, s.venue_count, s.avg_trade_size,
               h.hhi, h.effective_venues, h.top_venue_mpid, h.top_venue_share, d.volume_per_day, l.liquidity_score,
               s.revision, s.captured_at
        FROM {f}_symbol_summary s
        LEFT JOIN {f}_symbol_hhi h USING (week_ending, tier, symbol)
        LEFT JOIN {f}_volume_per_day d USING (week_ending, tier, symbol)
        LEFT JOIN {f}_liquidity_score_v2 l USING (week_ending, tier, symbol)""",
    ),
    "{f}_average_trade_size": (
        "Shares per trade, by symbol and venue.",
        """CREATE OR REPLACE VIEW {f}_average_trade_size AS
        SELECT week_ending, tier, symbol, mpid, total_shares, total_trades,
               CAST(total_shares AS DOUBLE) / nullif(total_trades, 0) AS avg_trade_size, capture_id, captured_at
        FROM {f}_venue_volume""",
    ),
    "{f}_top_venues": (
        "Macro (week, tier_name, n := 10): the n venues with the most shares of a tier in a week.",
        """CREATE OR REPLACE MACRO {f}_top_venues(week, tier_name, n := 10) AS TABLE
        SELECT week_ending, tier, mpid, venue_rank, total_volume, total_trades, venue_share, symbol_count
        FROM {f}_venue_share
        WHERE venue_rank <= n
          AND week_ending = CASE isodow(CAST(week AS DATE)) WHEN 5 THEN CAST(week AS DATE)
              ELSE error(week || ' is not a Friday; the nearest Friday is '
                         || (CAST(week AS DATE) + CAST((8 - isodow(CAST(week AS DATE))) % 7 - 3 AS INTEGER))) END
          AND tier = CASE WHEN tier_name IN ({tiers}) THEN tier_name
              ELSE error(tier_name || ' is not a tier; there are: ' || concat_ws(', ', {tiers})) END
        ORDER BY venue_rank""",
    ),
    "{f}_venue_volume_percentiles": (
        "How a symbol's shares spread over its venues: 10th to 90th percentile.",
        """CREATE OR REPLACE VIEW {f}_venue_volume_percentiles AS
        SELECT week_ending, tier, symbol, count(*) AS venue_count,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.10) AS p10_shares,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.25) AS p25_shares,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.50) AS p50_shares,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.75) AS p75_shares,
               quantile_cont(CAST(total_shares AS DOUBLE), 0.90) AS p90_shares
        FROM {f}_venue_volume WHERE symbol <> '' GROUP BY ALL""",
    ),
    "{f}_liquidity_score_versions": (
        "Both versions of the liquidity score side by side, and their difference.",
        """CREATE OR REPLACE VIEW {f}_liquidity_score_versions AS
        SELECT week_ending, tier, symbol, a.liquidity_score AS v1, b.liquidity_score AS v2,
               b.liquidity_score - a.liquidity_score AS difference
        FROM {f}_liquidity_score a FULL JOIN {f}_liquidity_score_v2 b USING (week_ending, tier, symbol)""",
    ),
    "{f}_symbol_rolling_6w_clean": (
        "Six-week windows where all six weeks are there.",
        """CREATE OR REPLACE VIEW {f}_symbol_rolling_6w_clean AS
        SELECT * FROM {f}_symbol_rolling_6w WHERE is_complete""",
    ),
    "{f}_record_hash": (
        "Venue volume with the hash of each row's natural key (week, tier, symbol, venue).",
        f"""CREATE OR REPLACE VIEW {{f}}_record_hash AS
        SELECT *, {RECORD_HASH_SQL} AS record_hash
        FROM {{f}}_venue_volume""",
    ),
}
