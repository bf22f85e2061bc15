"""What may be used, asked of the published file with plain DuckDB, read-only, as a desk or a report would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import pytest

from market_spine.assets.reading import publish_all
from market_spine.assets.scope import judge, scope_of
from market_spine.assets.tables import tables_of
from market_spine.assets.trust_views import trust_views
from market_spine.domain.contracts import Category, Severity
from market_spine.feeds.otc import FEED
from market_spine.sources.synthetic import SyntheticSource
from market_spine.store.commit import commit
from market_spine.store.ledger import Run
from market_spine.store.publish import copy_control_tables
from market_spine.store.store import Store
from market_spine_tests.governance.anomaly_desk import Desk, holds, seen
from market_spine_tests.journeys.stage import OTC, T1, T2, Clock, Scene, key, staged
from market_spine_tests.store.builders import T0, batch, raw
from market_spine_tests.store.builders import WEEK as FRIDAY

pytestmark = pytest.mark.xdist_group("trust")  # one store for all

WEEK, BEFORE = "2025-11-14", "2025-11-07"
TIERS = {"trading": {T1, T2, OTC}, "compliance": {T1, T2, OTC}, "research": {T1}}
TABLES = [name for name in tables_of(FEED) if name != "reference_trading_calendar"]
LOADED = datetime(2025, 12, 15, 16, tzinfo=UTC)

# As the documents print them, Part 4. 2025-12-22 is a Monday, and no week: see test_a_monday_is_no_week.
SAFE = """
-- Only query ready data
SELECT * FROM finra_otc_transparency_weekly_symbol_venue_share_latest
WHERE week_ending = '2025-12-22'
  AND week_ending IN (
    SELECT json_extract(partition_key, '$.week_ending')
    FROM core_data_readiness
    WHERE domain = 'finra.otc_transparency'
      AND is_ready = 1
      AND ready_for = 'trading'
  );
"""
AUDIT = """
-- Show when each week was certified ready
SELECT
    json_extract(partition_key, '$.week_ending') as week_ending,
    is_ready,
    certified_at,
    certified_by,
    blocking_issues
FROM core_data_readiness
WHERE domain = 'finra.otc_transparency'
  AND ready_for = 'compliance'
ORDER BY week_ending DESC;
"""


@dataclass(frozen=True)
class Published:
    """The published file as it was at one point, opened as anybody can."""

    path: Path

    @cached_property
    def engine(self) -> duckdb.DuckDBPyConnection:
        return duckdb.connect(str(self.path), read_only=True)

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self.engine.execute(query, list(values)).fetchall()

    def count(self, relation: str, where: str = "true") -> int:
        return int(self.sql(f"SELECT count(*) FROM {relation} WHERE {where}")[0][0])

    def certified(self, use_case: str) -> set[str]:
        """The captures in the documents of the certificates in force, read without any view of ours."""
        rows = self.sql(
            "SELECT document FROM core_certificates WHERE certificate_id IN"
            " (SELECT certificate_id FROM core_data_readiness WHERE is_ready = 1 AND ready_for = ?)",
            use_case,
        )
        return {one["capture_id"] for (text,) in rows for one in json.loads(text)["evidence"]["captures"]}


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Published]]:
    """A whole week and one of Tier 1 only; then OTC of the whole one is restated. The file at each point."""
    folder = tmp_path_factory.mktemp("trust")
    source = SyntheticSource.from_spec("seed=7,scale=0.02,revision_hours=240,fault=restatement:OTC:2025-11-14:3")
    with staged(folder / "home", source, Clock(LOADED)) as scene:
        made = dict(_points(scene, folder))
        yield made
        for one in made.values():
            one.engine.close()


def _points(scene: Scene, folder: Path) -> Iterator[tuple[str, Published]]:
    def shown(name: str) -> tuple[str, Published]:
        return name, Published(Path(shutil.copy(publish_all(scene.spine.store, FEED), folder / f"{name}.duckdb")))

    def judged() -> None:
        judge(scene.spine.store, Run("judge", "judge", scene.clock()), FEED)

    keys = [key(WEEK, tier) for tier in (T1, T2, OTC)]
    scene.refresh(*keys, key(BEFORE, T1))
    judged()
    yield shown("preliminary")
    scene.clock.forward(hours=48, seconds=1)
    judged()
    yield shown("certified")
    scene.clock.forward(hours=200)
    scene.run("otc.ingest_week", keys[2])
    yield shown("restated")
    judged()
    yield shown("judged")
    scene.refresh(keys[2])
    scene.clock.forward(hours=49)
    judged()
    yield shown("again")


POINTS = ("preliminary", "certified", "restated", "judged", "again")


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("use_case", TIERS)
def test_ready_is_what_certificates_are_about(points: dict[str, Published], point: str, use_case: str) -> None:
    """Prevents a row from being shown as ready that no certificate in force is about, or one of another use's tiers."""
    shown, certified = points[point], points[point].certified(use_case)
    for name in TABLES:
        rows = shown.sql(f"SELECT capture_id, tier, count(*) FROM {name}_ready(?) GROUP BY ALL", use_case)
        latest = shown.sql(f"SELECT capture_id, tier, count(*) FROM {name} GROUP BY ALL")
        assert sorted(rows) == sorted(row for row in latest if row[0] in certified), name
        assert {tier for _, tier, _ in rows} <= TIERS[use_case], name


# Point, use case, and the rows of the HHI that are ready: (week, tier).
WHOLE = [(WEEK, tier) for tier in (T1, T2, OTC)]
EXPECTED = [
    ("preliminary", "trading", []),
    ("preliminary", "research", []),
    ("certified", "trading", WHOLE),
    ("certified", "compliance", WHOLE),
    ("certified", "research", [(BEFORE, T1), (WEEK, T1)]),  # 24 hours are enough, and Tier 1
    ("judged", "trading", []),
    ("judged", "compliance", []),
    ("judged", "research", [(BEFORE, T1), (WEEK, T1)]),  # Tier 1 was not restated
    ("again", "trading", WHOLE),
    ("again", "research", [(BEFORE, T1), (WEEK, T1)]),
]


@pytest.mark.parametrize(("point", "use_case", "expected"), EXPECTED)
def test_which_weeks_are_ready(points: dict[str, Published], point: str, use_case: str, expected: list[Any]) -> None:
    """Prevents a week from being used before it has settled, and a restated one until it is certified again."""
    found = points[point].sql(
        "SELECT DISTINCT week_ending::VARCHAR, tier FROM otc_symbol_hhi_ready(?) ORDER BY ALL", use_case
    )
    assert found == [(week, tier.value) for week, tier in expected]


def test_what_has_come_and_nobody_has_judged_is_not_ready(points: dict[str, Published]) -> None:
    """Prevents rows that came after a certificate from being shown under it, until somebody looks."""
    restated = points["restated"]
    assert restated.count("otc_raw", "tier = 'OTC'") > 0
    assert restated.count("otc_raw_ready('trading')", "tier = 'OTC'") == 0
    assert restated.count("otc_raw_ready('trading')", "tier = 'NMS_TIER_1'") > 0
    (states,) = restated.sql("SELECT list(DISTINCT state) FROM core_data_readiness WHERE week_ending = ?", WEEK)
    assert states == (["CERTIFIED"],)


def test_a_use_case_that_is_none_is_an_error(points: dict[str, Published]) -> None:
    """Prevents a misspelt use from having no ready rows, as if nothing were certified."""
    known = "fun is not a use case; there are: trading, compliance, research"
    for name in TABLES:
        with pytest.raises(duckdb.InvalidInputException, match=known):
            points["certified"].sql(f"SELECT count(*) FROM {name}_ready('fun')")
    assert set(TIERS) == set(scope_of(FEED).use_cases)


def test_the_safe_query_of_the_documents(points: dict[str, Published]) -> None:
    """Prevents the printed query from failing, or from answering before the week is certified. A Friday by hand."""
    friday = SAFE.replace("2025-12-22", WEEK)
    assert points["preliminary"].sql(friday) == []
    rows = points["certified"].sql(friday)
    assert len(rows) == points["certified"].count("otc_symbol_venue_share", f"week_ending = '{WEEK}'") > 100
    assert points["judged"].sql(friday) == []
    assert len(points["again"].sql(friday)) > 100
    assert points["certified"].sql(SAFE.replace("2025-12-22", BEFORE)) == []  # not all tiers are there


def test_a_monday_is_no_week(points: dict[str, Published]) -> None:
    """Prevents the date that is printed, a Monday, from being taken for another week."""
    assert points["certified"].sql(SAFE) == []


def test_ready_is_the_safer_of_the_two(points: dict[str, Published]) -> None:
    """Prevents the difference from being forgotten: a verdict is about a week, a certificate about captures."""
    friday = SAFE.replace("2025-12-22", WEEK).replace("_weekly_symbol_venue_share_latest", "_otc_raw")
    restated = points["restated"]
    assert len(restated.sql(friday)) > restated.count("otc_raw_ready('trading')", f"week_ending = '{WEEK}'")


def test_the_audit_query_of_the_documents(points: dict[str, Published]) -> None:
    """Prevents the printed report from failing, and the moment or the judge from being lost."""
    week, is_ready, certified_at, certified_by, issues = points["certified"].sql(AUDIT)[0]
    assert (json.loads(week), is_ready, certified_by, json.loads(issues)) == (WEEK, 1, "automated_check", [])
    assert certified_at == LOADED + timedelta(hours=48, seconds=1)
    before = points["certified"].sql(AUDIT)[1]
    assert (json.loads(before[0]), before[1], before[2]) == (BEFORE, 0, None)
    assert [one["code"] for one in json.loads(before[4])] == ["MISSING_PARTITION"]
    newest = {point: points[point].sql(AUDIT)[0] for point in POINTS}
    assert {point: row[1] for point, row in newest.items()} == dict(zip(POINTS, (0, 1, 1, 0, 1), strict=True))
    assert all((row[1] == 1) == (row[2] is not None) for row in newest.values())


@pytest.mark.parametrize("point", ["preliminary", "again"])
def test_annotating_adds_no_row_and_loses_none(points: dict[str, Published], point: str) -> None:
    """Prevents a join that doubles volume where a week has two findings, and rows about which nothing is known."""
    for name in TABLES:
        counted = f"SELECT count(*), count(is_corrected) FROM {name}_annotated"
        assert points[point].sql(counted) == [(points[point].count(name),) * 2], name


def test_what_was_restated_says_so(points: dict[str, Published]) -> None:
    """Prevents rows of a restated week from looking like the first ones; the other tiers are as they were."""
    flags = "SELECT DISTINCT tier, is_corrected, is_preliminary FROM otc_symbol_hhi_annotated WHERE week_ending = ?"
    settled = [(tier.value, False, False) for tier in (T1, T2, OTC)]
    assert sorted(points["certified"].sql(flags, WEEK)) == settled
    assert sorted(points["again"].sql(flags, WEEK)) == [*settled[:2], (OTC.value, True, False)]


def quality(store: Store) -> dict[str, tuple[Any, ...]]:
    """Tier -> findings, worst severity, preliminary, incomplete, corrected, by the view alone."""
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        with store.control.read() as connection:
            copy_control_tables(connection, engine)
        engine.execute(trust_views(FEED)[0].sql)
        names = "open_findings, worst_severity, is_preliminary, is_incomplete, is_corrected"
        return {row[0]: row[1:] for row in engine.execute(f"SELECT tier, {names} FROM otc_week_quality").fetchall()}


# An open finding about a tier, or about all; which of the two tiers carry it, and whether they are incomplete by it.
CARRIED: list[tuple[str, Any, Severity, Category, set[str], bool]] = [
    ("of one tier", OTC, Severity.WARN, Category.COMPLETENESS, {"OTC"}, True),
    ("of the other", T1, Severity.ERROR, Category.INCOMPLETE_INPUT, {"NMS_TIER_1"}, True),
    ("of all tiers", None, Severity.ERROR, Category.COMPLETENESS, {"OTC", "NMS_TIER_1"}, True),
    ("asks for nothing", OTC, Severity.INFO, Category.COMPLETENESS, {"OTC"}, False),
    ("of another kind", OTC, Severity.CRITICAL, Category.BUSINESS_RULE, {"OTC"}, False),
]


@pytest.mark.parametrize(
    ("name", "tier", "severity", "category", "carry", "incomplete"), CARRIED, ids=[row[0] for row in CARRIED]
)
def test_rows_carry_what_is_open_against_them(
    tmp_path: Path, name: str, tier: Any, severity: Severity, category: Category, carry: set[str], incomplete: bool
) -> None:
    """Prevents a warning that does not block from reaching nobody, and one of another tier or week from doing so."""
    store = Store.at(tmp_path / "store")
    store.ensure()
    commit(store.control, store.home, batch(raw(key(str(FRIDAY), T1)), raw(key(str(FRIDAY), OTC))))
    desk = Desk(store)
    clean: tuple[Any, ...] = ([], None, False, False, False)
    assert quality(store) == {"OTC": clean, "NMS_TIER_1": clean}
    found = seen("B_FINDING", key(str(FRIDAY), tier), severity, category=category)
    desk.look(found, seen("OF_ANOTHER_WEEK", key("2025-11-21", tier)), seen("CLOSED", found.key))
    desk.look(holds("CLOSED", found.key))
    carried = (["B_FINDING"], severity.value, False, incomplete, False)
    assert quality(store) == {each: carried if each in carry else clean for each in ("OTC", "NMS_TIER_1")}
    desk.look(seen("A_FINDING", found.key, Severity.WARN))
    worst = max(severity, Severity.WARN, key=list(Severity).index).value
    assert {quality(store)[each][:2] == (["A_FINDING", "B_FINDING"], worst) for each in carry} == {True}
    store.control.dispose()


# Hours before now at which a tier was captured, and whether it is preliminary: the schedule says 48.
AGES = [(0, True), (47, True), (49, False), (1000, False)]


@pytest.mark.parametrize(("hours", "is_preliminary"), AGES)
def test_a_young_delivery_is_preliminary(tmp_path: Path, hours: int, is_preliminary: bool) -> None:
    """Prevents the flag from being frozen when the file was published: it follows the reader's own clock."""
    store = Store.at(tmp_path / "store")
    store.ensure()
    captured = datetime.now(UTC) - timedelta(hours=hours)
    commit(store.control, store.home, batch(raw(key(str(FRIDAY), OTC), (captured - T0).total_seconds())))
    assert quality(store) == {"OTC": ([], None, is_preliminary, False, False)}
    store.control.dispose()


def test_the_views_describe_themselves(points: dict[str, Published]) -> None:
    """Prevents a file whose relations nobody understands: each has a comment, and the flags say their hours."""
    comments = dict(points["certified"].sql("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal"))
    assert "delivered less than 48 hours ago" in comments["otc_week_quality"]
    assert all(comments[f"{name}_annotated"] for name in TABLES)
    macros = dict(points["certified"].sql("SELECT function_name, comment FROM duckdb_functions() WHERE NOT internal"))
    assert all("certified" in macros[f"{name}_ready"] for name in TABLES)
    assert date.fromisoformat(WEEK) == FRIDAY
