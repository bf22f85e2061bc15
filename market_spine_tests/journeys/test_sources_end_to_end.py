"""Sources through the whole graph: FINRA's API on loopback with its traps, and every fault of the synthetic source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from market_spine.assets.tables import steps_of
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import last_n_weeks
from market_spine.feeds.otc import FEED
from market_spine.sources.delivery import Source
from market_spine.sources.finra_api import FinraApiSource
from market_spine.sources.synthetic import SyntheticSource
from market_spine.sources.synthetic_faults import FAULTS
from market_spine_tests.extended import extended
from market_spine_tests.journeys.stage import OTC, T1, Clock, Scene, key, line, put, staged, text
from market_spine_tests.sources.finra_server import WEB_PAGE, FinraServer, Reply, row

WEEK = key("2025-11-14")
NOW = datetime(2025, 12, 16, 15, tzinfo=UTC)  # the day after OTC's first publication of the week
ROWS = [row(f"S{n:02}", "OTCN", 1000 + n + 0.25, n + 1, lastUpdateDate="2025-12-15") for n in range(7)]
ALL_TABLES = {"raw", *steps_of(FEED)}
pytestmark = pytest.mark.xdist_group("sources")


@pytest.fixture
def server() -> Iterator[FinraServer]:
    with FinraServer({(WEEK.week_ending, Tier.OTC): ROWS}, page_rows=3) as running:
        yield running


@pytest.fixture
def api(server: FinraServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A home fed from the server; attempts are repeated without waiting."""
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _: None))
    with FinraApiSource(server.url, timeout=5) as source, staged(tmp_path / "home", source, Clock(NOW)) as stage:
        yield stage


def test_the_api_to_the_last_table(api: Scene, server: FinraServer) -> None:
    """Pages beyond the first that are lost, fractions cut off, a week that is not the one that was asked for, and a
    WARN at every week about columns that we asked for ourselves."""
    api.refresh(WEEK)
    assert api.findings("known_columns") == []
    assert len(server.data_requests()) == 3, "seven rows in pages of three"
    assert api.one("SELECT count(*), sum(total_shares), sum(total_trades) FROM otc_raw") == (7, 7022.75, 28)
    assert set(api.current_of(WEEK)) == ALL_TABLES
    assert api.sql("SELECT DISTINCT part_no FROM otc_raw ORDER BY 1") == [(1,), (2,), (3,)]
    found = api.one("SELECT source_kind, week_source, line_count FROM core_deliveries WHERE domain LIKE 'finra%'")
    assert found == ("api", "request", 7)
    (headers,) = api.one("SELECT headers_json FROM core_deliveries WHERE domain LIKE 'finra%'")
    assert "session" not in headers, "a cookie is nobody's record"
    assert len(api.landed(WEEK)) == 3


def test_one_content_in_three_forms(api: Scene, server: FinraServer, tmp_path: Path) -> None:
    """JSON, CSV and the weekly file of the same week taken for restatements of one another."""
    api.refresh(WEEK)
    api.clock.forward(hours=1)
    with FinraApiSource(server.url, as_csv=True, timeout=5) as source:
        assert api.source(source).run("otc.ingest_week", WEEK).is_complete
    rows = [
        line(WEEK, one["issueSymbolIdentifier"], one["MPID"], str(one["totalWeeklyShareQuantity"]),
             one["totalWeeklyTradeCount"], issue=one["issueName"], venue=one["marketParticipantName"])
        for one in reversed(ROWS)
    ]  # fmt: skip
    put(tmp_path / "files", WEEK, text(rows))
    api.clock.forward(hours=1)
    from_file = api.file(tmp_path / "files" / f"OTC_{WEEK.week_ending}.csv")
    assert from_file.run("otc.ingest_week", WEEK).is_complete
    assert api.actions() == ["inserted", "skipped", "skipped"]
    assert len(api.captures("raw")) == 1


def test_a_restatement_by_the_api(api: Scene, server: FinraServer) -> None:
    """Corrected rows of the API that are not noticed, or that need a whole new week."""
    api.refresh(WEEK)
    held = server.datasets["weeklysummary"]
    held[0] = held[0] | {"totalWeeklyShareQuantity": 5, "lastUpdateDate": "2025-12-17"}
    api.clock.forward(days=2)
    api.refresh(WEEK)
    assert api.actions() == ["inserted", "updated"]
    summary = "SELECT total_volume FROM {} WHERE symbol = 'S00'"
    assert api.one(summary.format("otc_symbol_summary")) == (5,)
    assert api.one(summary.format("otc_symbol_summary_first_release()")) == (1000.25,)


@dataclass(frozen=True)
class Nothing:
    """One way in which the API has nothing usable."""

    kind: str
    severity: str
    replies: tuple[Reply, ...] = ()
    week: WeekKey = WEEK


STRANGERS = [
    row("X", "OTCN", 1, 1, weekStartDate="2025-11-03", tierIdentifier="OTCE", summaryTypeCode="ATS_W_SMBL_FIRM")
]
NOTHINGS = {
    "204 before it is due": Nothing("not_due", "INFO", week=key("2025-11-28")),
    "204 after it was due": Nothing("no_rows", "ERROR", week=key("2025-11-07")),
    "fewer rows than announced": Nothing("truncated", "ERROR", (Reply(total=9),) * 9),
    "a web page with status 200": Nothing("wrong_content", "ERROR", (WEB_PAGE,)),
    "rows of another week": Nothing("wrong_content", "ERROR", (Reply(rows=STRANGERS, total=1),)),
}


@pytest.mark.parametrize("name", NOTHINGS)
def test_the_four_kinds_of_empty(api: Scene, server: FinraServer, name: str) -> None:
    """An empty answer taken for an empty week; nothing that is reported alike whether it was due or not."""
    case = NOTHINGS[name]
    server.answer_next(*case.replies)
    outcome = api.run("otc.weekly_refresh", case.week)
    assert outcome.without_capture["otc/raw"][str(case.week)].startswith(f"{case.kind}: ")
    assert api.findings("delivered") == [(case.severity, "INCOMPLETE_INPUT", int(case.kind == "not_due"), 0)]
    (actual,) = api.one("SELECT actual FROM core_quality WHERE check_name = 'delivered'")
    assert actual.startswith(f"{case.kind}: ")
    named = "SOURCE_UNAVAILABLE" if case.replies else "NOT_DELIVERED"  # of the source, or of the week
    assert api.sql("SELECT code FROM core_anomalies WHERE resolved_at IS NULL") == [(named,)]
    assert api.counts("otc_raw", "core_deliveries", where="true")[0] == 0
    server.script.clear()
    assert api.current_of(case.week) == {}


def test_an_outage_is_a_failure_with_a_next_step(api: Scene, server: FinraServer) -> None:
    """A source that is down taken for a week without rows."""
    server.always = Reply(status=503)
    outcome = api.run("otc.ingest_week", WEEK)
    (failure,) = outcome.failures
    assert "503" in failure
    assert "next: " in failure
    assert api.findings("delivered") == [], "nobody knows whether there is something"
    server.always = Reply()
    api.refresh(WEEK)


# Per fault: a week of its own with n = 4, and what must be found. The plain week has ROWS_PLAIN rows.
N = 4


@dataclass(frozen=True)
class Found:
    """What a fault leads to: tables that are there, rejects per reason, findings (check, severity)."""

    tables: frozenset[str] = frozenset(ALL_TABLES)
    rejects: tuple[tuple[str, str, int], ...] = ()
    findings: frozenset[tuple[str, str]] = frozenset()


RAW_ONLY, NONE = frozenset({"raw"}), frozenset[str]()
EXPECTED: dict[str, Found] = {
    "many-venues": Found(),
    "partial-venues": Found(),
    "tape-move": Found(findings=frozenset({("one_row_per_venue_and_symbol", "WARN")})),
    "blank-symbol": Found(
        rejects=(("otc_venue_volume", "BLANK_SYMBOL", N),), findings=frozenset({("blank_symbol", "WARN")})
    ),
    "zero-volume": Found(
        RAW_ONLY,
        (("otc_venue_volume", "TRADES_WITHOUT_SHARES", N),),
        frozenset({("trades_without_shares", "CRITICAL")}),
    ),
    "negative-values": Found(
        rejects=(("otc_venue_volume", "NEGATIVE_VALUE", N),), findings=frozenset({("negative_value", "ERROR")})
    ),
    "future-date": Found(
        rejects=(("otc_venue_volume", "FUTURE_DATE", N),), findings=frozenset({("future_date", "ERROR")})
    ),
    "wrong-tier": Found(rejects=(("otc_raw", "WRONG_TIER", N),)),
    "malformed-lines": Found(rejects=(("otc_raw", "FIELD_COUNT", 2), ("otc_raw", "NOT_A_NUMBER", 2))),
    "duplicate-rows": Found(
        rejects=(("otc_venue_volume", "EXACT_DUPLICATE", N),), findings=frozenset({("exact_duplicate", "WARN")})
    ),
    "restatement": Found(),
    "added-symbols": Found(),
    "truncated-file": Found(rejects=(("otc_raw", "FIELD_COUNT", 1),)),
    "late-tier": Found(NONE, findings=frozenset({("delivered", "ERROR")})),
}
FAULT_WEEKS = dict(
    zip(EXPECTED, (WeekKey(week, OTC) for week in last_n_weeks(len(EXPECTED), date(2025, 12, 12))), strict=True)
)
LATE_HOURS = 24 * 400  # later than every other clock of this module


def recipe() -> str:
    counts = dict.fromkeys(EXPECTED, N) | {"many-venues": 40, "partial-venues": 2, "late-tier": LATE_HOURS}
    faults = [f"fault={name}:{FAULT_WEEKS[name]}:{counts[name]}" for name in EXPECTED]
    return ",".join(["scale=0.05", *faults])


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """All faults in one range run, each in a week of its own."""
    source = SyntheticSource.from_spec(recipe())
    with staged(tmp_path_factory.mktemp("home"), source) as stage:
        outcome = stage.run("otc.weekly_refresh", *FAULT_WEEKS.values())
        assert outcome.failures == []
        yield stage


def test_every_fault_has_an_answer() -> None:
    """A new fault that nobody runs through the graph."""
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_fault(faulty: Scene, name: str) -> None:
    """A fault that passes unseen, that blocks what it should not, or that is told under another name."""
    week, expected = FAULT_WEEKS[name], EXPECTED[name]
    assert set(faulty.current_of(week)) == expected.tables
    rejects = faulty.sql(
        "SELECT table_name, reason_code, count(*) FROM core_rejects WHERE week_ending = ? GROUP BY ALL ORDER BY ALL",
        week.week_ending,
    )
    assert rejects == list(expected.rejects)
    findings = faulty.sql(
        "SELECT check_name, severity FROM core_quality WHERE week_ending = ? AND status = 'failed'"
        " AND table_name IN ('otc_raw', 'otc_venue_volume')",
        week.week_ending,
    )
    # 2025-12-12 of this list was restated or truncated: its dates are judged elsewhere.
    assert {one for one in findings if one[0] != "publication_date"} == expected.findings


def test_what_faults_do_to_measures(faulty: Scene) -> None:
    """Venue faults that change nothing: they must be visible to whoever counts venues."""
    query = "SELECT count(DISTINCT mpid) FROM otc_venue_volume WHERE week_ending = ?"
    assert faulty.one(query, FAULT_WEEKS["many-venues"].week_ending) == (40,)
    assert faulty.one(query, FAULT_WEEKS["partial-venues"].week_ending) == (2,)
    moved = "SELECT count(*) FROM otc_venue_volume WHERE row_count = 2 AND week_ending = ?"
    assert faulty.one(moved, FAULT_WEEKS["tape-move"].week_ending) == (N,)


@pytest.mark.parametrize(
    ("fault", "added", "gone"),
    [("restatement", 0, 1), extended("added-symbols", 3, 0)],
)
def test_a_fault_that_shows_with_time(tmp_path: Path, fault: str, added: int, gone: int) -> None:
    """A revision that is only seen by who asks first after it."""
    source: Source = SyntheticSource.from_spec(f"scale=0.05,fault={fault}:{WEEK}:3")
    with staged(tmp_path / "home", source, Clock(NOW)) as stage:
        stage.refresh(WEEK)
        stage.clock.forward(days=2)
        stage.refresh(WEEK)
        assert stage.actions() == ["inserted", "updated"]
        old, new = "otc_symbol_summary_first_release()", "otc_symbol_summary"
        differ = "SELECT count(*) FROM {} a ANTI JOIN {} b USING (week_ending, tier, symbol)"
        assert stage.one(differ.format(new, old)) == (added,)
        assert stage.one(differ.format(old, new)) == (gone,)


def test_a_late_tier_comes(tmp_path: Path) -> None:
    """A tier that is late and, when it comes, is never asked for again."""
    source: Source = SyntheticSource.from_spec(f"scale=0.05,fault=late-tier:{WEEK}:30")
    with staged(tmp_path / "home", source, Clock(NOW)) as stage:
        other = WeekKey(WEEK.week_ending, T1)
        assert set(stage.run("otc.weekly_refresh", WEEK, other).without_capture["otc/raw"]) == {str(WEEK)}
        assert stage.one("SELECT DISTINCT tiers_present FROM otc_tier_split") == (1,)
        stage.clock.forward(days=1)
        stage.refresh(WEEK, other)
        assert stage.one("SELECT DISTINCT tiers_present FROM otc_tier_split") == (2,)
        assert stage.stale() == []
