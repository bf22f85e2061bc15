"""What SQL reads: the answers are told by hand, from the meaning of each statement."""

from __future__ import annotations

import pytest

from market_spine.assets.reading import sources_of
from market_spine.assets.reads import Reads, reads_of, reads_of_extra
from market_spine.assets.tables import every_table
from market_spine.assets.views import views_of
from market_spine.domain.captures import View
from market_spine.feeds import load_feeds
from market_spine.store.publish import CORE_VIEWS, Extra

NOW, EVER = View.LATEST, View.ALL_REVISIONS
CERTIFICATION = frozenset({"core_data_readiness", "core_certificates", "core_certificate_log"})
EXTRAS = [extra for feed in load_feeds() for extra in views_of(feed)]


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", {}),
        ("SELECT 'otc_raw' AS otc_symbol_hhi -- from otc_tier_split", {}),
        ("SHOW TABLES", {}),
        ("DESCRIBE otc_raw", {}),
        ("FROM otc_raw", {"otc_raw": NOW}),
        ('SELECT count(*) FROM "OTC_Raw"', {"otc_raw": NOW}),
        ("FROM otc_raw WHERE false", {"otc_raw": NOW}),
        ("SUMMARIZE otc_raw", {"otc_raw": NOW}),
        ("EXPLAIN FROM otc_raw", {"otc_raw": NOW}),
        ("EXPLAIN ANALYZE FROM otc_raw", {"otc_raw": NOW}),
        ("FROM query_table('otc' || '_raw')", {"otc_raw": NOW}),
        ("FROM otc_raw_asof('2025-12-16')", {"otc_raw": View.AS_OF}),
        ("FROM OTC_RAW_FIRST_RELEASE()", {"otc_raw": View.FIRST_RELEASE}),
        ("FROM otc_raw_revisions()", {"otc_raw": EVER}),
        ("FROM otc_raw ANTI JOIN otc_raw_first_release() USING (symbol)", {"otc_raw": EVER}),
        ("FROM otc_raw JOIN otc_symbol_hhi USING (symbol)", {"otc_raw": NOW, "otc_symbol_hhi": NOW}),
        ("WITH otc_raw AS (FROM otc_tier_split) FROM otc_raw", {"otc_tier_split": NOW}),
        ("SELECT (SELECT max(hhi) FROM otc_symbol_hhi) > 0.5", {"otc_symbol_hhi": NOW}),
        ("SELECT exists(FROM otc_raw)", {"otc_raw": NOW}),
        ("FROM otc_raw_annotated", {"otc_raw": NOW}),
        ("FROM otc_raw_ready('trading')", {"otc_raw": NOW}),
        ("FROM otc_top_venues('2025-11-14', 'OTC')", {"otc_venue_share": NOW}),
        ("FROM finra_otc_transparency_weekly_venue_share", {"otc_venue_share": NOW}),
        ("FROM core_manifest", {}),
    ],
)
def test_tables_and_their_versions(sql: str, tables: dict[str, View]) -> None:
    """Prevents the record of uses from hanging on how somebody spelled a statement."""
    found = reads_of(sql)
    assert found is not None
    assert found.tables == tables


@pytest.mark.parametrize("sql", ["FROM read_parquet('/tmp/x.parquet')", "FROM read_text('/etc/passwd')", "FROM nope"])
def test_what_no_plan_tells(sql: str) -> None:
    """Prevents statements that look into files themselves from being taken for ones that read nothing."""
    assert reads_of(sql) is None


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("otc_weeks", Reads({"otc_symbol_summary": NOW, "otc_venue_share": NOW}, frozenset())),
        ("otc_week_quality", Reads({}, frozenset({"core_manifest", "core_anomalies"}))),
        ("otc_raw_ready", Reads({"otc_raw": NOW}, CERTIFICATION)),
        ("otc_symbol_hhi_annotated", Reads({"otc_symbol_hhi": NOW}, frozenset({"core_manifest", "core_anomalies"}))),
    ],
)
def test_what_a_view_reads(name: str, reads: Reads) -> None:
    (extra,) = [one for one in EXTRAS if one.name == name]
    assert reads_of_extra(extra) == reads


@pytest.mark.parametrize("extra", [*CORE_VIEWS, *EXTRAS], ids=lambda extra: extra.name)
def test_every_view_and_macro_reads_something(extra: Extra) -> None:
    """Prevents one whose sources are not found, so that its rows would come from nowhere."""
    found = reads_of_extra(extra)
    assert found.tables or found.control
    assert set(found.tables) <= set(every_table(load_feeds()))


def test_a_view_is_made_of_the_views_before_it() -> None:
    """Prevents a view over another one from being shown without that one."""
    from market_spine.assets.names import find

    assert [one.name for one in sources_of(find("otc_raw_annotated")).views] == [
        "otc_week_quality",
        "otc_raw_annotated",
    ]
