"""The five scenarios, each played once through the command line; the stores that they leave against answers by hand.

2025-11-14 of Tier 2 and OTC is published on 2025-12-15 at 10:00 New York, 15:00 UTC; its deadline is a day later.
"""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, date, datetime
from typing import cast

import duckdb
import pytest

from market_spine.cli.scenario import Ending, Stage
from market_spine.cli.scenarios import SCENARIOS, Name
from market_spine.domain.weeks import weeks_between
from market_spine_tests.cli.calls import call
from market_spine_tests.journeys.plays import WEEK, Play, Plays

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("plays")]
ROWS = "SELECT {} FROM core_anomalies WHERE week_ending = '2025-11-14' AND code = ?"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("name", Name)
def test_it_reads_well_at_80_columns(plays: Plays, name: Name) -> None:
    """Prevents a story that wraps, that ends in a traceback, or that breaks a number in two."""
    play = plays.of(name)
    assert (play.answer.code, play.answer.err) == (0, "")
    lines = [line for line in play.answer.out.splitlines() if str(play.home) not in line]
    assert [line for line in lines if len(line) > 80] == []
    assert "Traceback" not in play.answer.out
    acts = play.answer.out.partition("\n\n")[2].partition("\n\n")[0].splitlines()
    assert len(acts) >= 4
    assert [line for line in acts if not re.match(r"[A-Z][a-z]{2} 20\d\d-\d\d-\d\d \d\d:\d\d  \S| {22}\S", line)] == []


@pytest.mark.parametrize("width", [50, 80])
def test_an_act_is_never_broken_within_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    """Prevents half a date, or half a number, at the end of a line."""
    monkeypatch.setenv("COLUMNS", str(width))
    for length in range(29):  # a longer word does not fit behind the indent of a line of 50
        text = f"{'x' * length} 2025-11-14 3,359,393,098 otc_symbol_volume_per_day_6w -> [OTC]"
        Stage.tell(cast("Stage", None), text)
        lines = capsys.readouterr().out.splitlines()
        assert " ".join(lines).split() == text.split()
        assert all(line.startswith(" " * 22) for line in lines)


@pytest.mark.parametrize("name", Name)
def test_it_says_the_same_at_every_width(
    plays: Plays, name: Name, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents a narrow terminal from losing a word of what it means, and a wide one from having other numbers."""
    said = set()
    for width in ("60", "80", "200"):
        monkeypatch.setenv("COLUMNS", width)
        SCENARIOS[name].explain(Ending(plays.of(name).engine))
        said.add(" ".join(capsys.readouterr().out.partition("What it means\n")[2].split()))
    (only,) = said
    assert len(only) > 200


@pytest.mark.parametrize("name", Name)
def test_the_published_file_says_what_the_store_says(plays: Plays, name: Name) -> None:
    """Prevents the file that people point their tools at from ending a chapter before the story does."""
    play = plays.of(name)
    with duckdb.connect(str(play.home / "market_spine.duckdb"), read_only=True) as engine:
        for table in ("core_data_readiness", "core_anomalies", "core_certificate_log", "core_manifest"):
            query = f"SELECT * FROM {table} ORDER BY ALL"
            assert engine.execute(query).fetchall() == play.sql(query), table


@pytest.mark.parametrize("name", Name)
def test_the_commands_at_its_end_work(plays: Plays, name: Name) -> None:
    """Prevents advice that fails, or finds nothing, when it is followed."""
    told = plays.of(name).answer.out.partition("\nTry next\n")[2].strip().splitlines()
    assert 1 <= len(told) <= 2
    for program, *words in map(shlex.split, told):
        assert program == "spine"
        answer = call(*words)
        assert answer.code == 0, answer.err
        assert len(answer.out.splitlines()) >= 3, words


# A tier is missing


@pytest.fixture
def missing(plays: Plays) -> Play:
    return plays.of(Name.MISSING_TIER)


DUE, LATE, CAME, LATER = map(utc, ("2025-12-15 16:00", "2025-12-16 16:00", "2025-12-18 16:00", "2025-12-20 16:01"))


def test_a_missing_tier_is_told_by_the_clock(missing: Play) -> None:
    """Prevents an alarm before the deadline, silence after it, and one that outlives the tier's arrival (C-44)."""
    assert missing.log("NOT_DELIVERED", "OTC") == [
        (DUE, "opened", "INFO"),
        (LATE, "changed", "ERROR"),
        (CAME, "resolved", "ERROR"),
    ]
    columns = "category, pipeline, message"
    assert missing.one(ROWS.format(columns), "NOT_DELIVERED") == (
        "INCOMPLETE_INPUT",
        "finra.otc_transparency.weekly_refresh",
        "not there since 2025-12-16 15:00 UTC",
    )


def test_what_follows_from_it_is_linked(missing: Play) -> None:
    """Prevents three alerts for one missing file."""
    (cause,) = missing.one(ROWS.format("id"), "NOT_DELIVERED")
    links = """SELECT a.code, l.cause_id FROM core_anomaly_log l JOIN core_anomalies a ON a.id = anomaly_id
               WHERE l.note LIKE 'caused by%' ORDER BY 1"""
    assert missing.sql(links) == [("INCOMPLETE_TIER_SPLIT", cause), ("MISSED_RUNS", cause)]
    assert missing.log("MISSED_RUNS", "ALL") == [(LATE, "opened", "ERROR"), (CAME, "resolved", "ERROR")]
    category, message, details = missing.one(ROWS.format("category, message, details_json"), "MISSED_RUNS")
    assert (category, message) == ("COMPLETENESS", "1 of 3 expected partitions absent: OTC")
    assert json.loads(details) == {"expected": 3, "actual": 2, "missing": ["OTC"]}
    assert missing.log("INCOMPLETE_TIER_SPLIT", "ALL") == [
        (DUE, "opened", "INFO"),
        (LATE, "changed", "WARN"),
        (CAME, "resolved", "WARN"),
    ]


def test_it_came_49_hours_late(missing: Play) -> None:
    """Prevents lateness from being counted from anything but the deadline: from 12-16 15:00 to 12-18 16:00."""
    found = missing.one(ROWS.format("severity, category, message, resolved_at"), "LATE_DATA")
    assert found == ("ERROR", "FRESHNESS", "Late data: arrived 49.0 hours after the deadline", None)


def test_the_split_says_of_how_many_tiers_it_is(missing: Play) -> None:
    """Prevents shares of two tiers from being read as shares of three."""
    query = """SELECT revision, list(tier ORDER BY tier), any_value(tiers_present), bool_or(is_complete),
                      round(sum(volume_share), 9)
               FROM otc_tier_split_revisions() WHERE week_ending = ? GROUP BY revision ORDER BY revision"""
    assert missing.sql(query, WEEK) == [
        (1, ["NMS_TIER_1", "NMS_TIER_2"], 2, False, 1.0),
        (2, ["NMS_TIER_1", "NMS_TIER_2", "OTC"], 3, True, 1.0),
    ]


def test_the_week_is_used_when_it_is_whole_and_settled(missing: Play) -> None:
    """Prevents a certificate for two tiers, and one before 48 hours have passed since the third."""
    assert missing.verdicts("trading") == [
        (DUE, "MISSING", ["MISSING_PARTITION", "PRELIMINARY"]),
        (CAME, "PRELIMINARY", ["PRELIMINARY"]),
        (LATER, "CERTIFIED", []),
    ]
    assert [state for _, state, _ in missing.verdicts("research")] == ["PRELIMINARY", "CERTIFIED"]  # Tier 1 alone
    issues = (
        "SELECT blocking_issues FROM core_readiness_log WHERE ready_for = 'trading' AND week_ending = ? ORDER BY seq"
    )
    assert json.loads(missing.sql(issues, WEEK)[0][0])[0]["message"] == "Missing expected partitions: OTC tier"
    ready = "SELECT count(DISTINCT tier) FROM otc_symbol_hhi_ready('trading') WHERE week_ending = ?"
    assert missing.one(ready, WEEK) == (3,)


# Most venues are missing


@pytest.fixture
def partial(plays: Plays) -> Play:
    return plays.of(Name.PARTIAL_VENUES)


def test_few_venues_are_one_warning_with_history(partial: Play) -> None:
    """Prevents a warning without its history (KA-50), and eight of them. 25 % of 165 are 41.25."""
    venues = """SELECT week_ending = ?, count(*) FROM otc_venue_share
                WHERE tier = 'NMS_TIER_1' GROUP BY week_ending ORDER BY week_ending"""
    assert partial.sql(venues, WEEK) == [(False, 165)] * 5 + [(True, 45)]
    found = partial.one(ROWS.format("id, severity, category, cause_id, message"), "UNUSUAL_VENUE_COUNT")
    assert found[1:] == ("WARN", "COMPLETENESS", None, "venue count: 45; usual is 124 to 206 (median 165 of 5 weeks)")
    others = "SELECT DISTINCT cause_id FROM core_anomalies WHERE code LIKE 'UNUSUAL%' AND week_ending = ? AND id <> ?"
    assert partial.sql(others, WEEK, found[0]) == [(found[0],)]
    linked = "SELECT count(*) FROM core_anomalies WHERE cause_id = ?"
    assert partial.one(linked, found[0]) == (7,)  # one for each other measure of a week


def test_concentration_is_annotated(partial: Play) -> None:
    """Prevents an index that doubled for want of venues from looking like a fact of the market."""
    query = """SELECT bool_and(is_incomplete), bool_and(list_contains(open_findings, 'UNUSUAL_VENUE_COUNT')), avg(hhi)
               FROM otc_symbol_hhi_annotated WHERE tier = 'NMS_TIER_1' AND week_ending = ?"""
    incomplete, carried, concentration = partial.one(query, WEEK)
    assert (incomplete, carried) == (True, True)
    before = partial.one(query, "2025-11-07")
    assert before[:2] == (False, False)
    assert concentration > 1.9 * before[2]


def test_a_warning_does_not_block(partial: Play) -> None:
    """Prevents a true thin week from being withheld: research on Tier 1 is ready all the same (C-43)."""
    query = (
        "SELECT is_ready, state, no_critical_anomalies FROM core_data_readiness WHERE week_ending = ? AND ready_for = ?"
    )
    assert partial.one(query, WEEK, "research") == (1, "CERTIFIED", 1)
    assert partial.one(query, WEEK, "trading") == (0, "MISSING", 1)  # for want of the other tiers, not of venues
    assert partial.one(
        "SELECT count(DISTINCT tier) FROM otc_symbol_hhi_ready('research') WHERE week_ending = ?", WEEK
    ) == (1,)


# Records that cannot be true


@pytest.fixture
def zero(plays: Plays) -> Play:
    return plays.of(Name.ZERO_VOLUME)


def test_what_cannot_be_true_is_critical(zero: Play) -> None:
    """Prevents 150 impossible records (KA-51) from being one more warning, or from having no examples."""
    columns = "severity, category, affected_records, sample_records, tier, table_name, capture_id, resolved_at, id"
    row = zero.one(ROWS.format(columns), "TRADES_WITHOUT_SHARES")
    assert row[:3] == ("CRITICAL", "BUSINESS_RULE", 150)
    assert len(json.loads(row[3])) == 20
    raw = zero.one("SELECT capture_id FROM core_manifest WHERE table_name = 'otc_raw' AND tier = 'OTC'")
    assert row[4:8] == ("OTC", "otc_venue_volume", raw[0], None)
    follows = "SELECT code FROM core_anomalies WHERE cause_id = ? ORDER BY code"
    assert zero.sql(follows, row[8]) == [("INCOMPLETE_STAGE_CHAIN",), ("INCOMPLETE_TIER_SPLIT",)]


def test_nothing_is_calculated_from_it_and_nothing_lost(zero: Play) -> None:
    """Prevents scores from impossible rows, and the rows themselves from being thrown away."""
    bad = "tier = 'OTC' AND total_shares = 0 AND total_trades > 0"
    assert zero.one(f"SELECT count(*) FROM otc_raw WHERE {bad}") == (150,)
    rejects = "SELECT tier, count(*) FROM core_rejects WHERE reason_code = 'TRADES_WITHOUT_SHARES' GROUP BY tier"
    assert zero.sql(rejects) == [("OTC", 150)]
    captured = """SELECT tier, stage <> 'INGESTED', count(*) FROM core_manifest
                  WHERE week_ending = ? AND domain = 'finra.otc_transparency' GROUP BY ALL ORDER BY ALL"""
    assert zero.sql(captured, WEEK) == [
        ("ALL", True, 1),
        *(
            (tier, is_later, 11 if is_later else 1)
            for tier in ("NMS_TIER_1", "NMS_TIER_2")
            for is_later in (False, True)
        ),
        ("OTC", False, 1),
    ]
    assert zero.revisions() == {}


def test_the_week_is_blocked_however_old_it_is(zero: Play) -> None:
    """Prevents time alone from certifying what cannot be true."""
    against = ["INCOMPLETE_STAGES", "CRITICAL_ANOMALIES"]
    assert zero.verdicts("trading") == [
        (utc("2025-12-15 16:00"), "BLOCKED", [*against, "PRELIMINARY"]),
        (utc("2025-12-17 16:01"), "BLOCKED", against),
    ]
    assert zero.verdicts("research")[-1][1] == "CERTIFIED"  # Tier 1 has nothing to do with it
    assert zero.one("SELECT count(*) FROM otc_raw_ready('trading') WHERE week_ending = ?", WEEK) == (0,)


# A week is restated after it was certified


@pytest.fixture
def revised(plays: Plays) -> Play:
    return plays.of(Name.LATE_REVISION)


FIRST, AGAIN, SECOND = map(utc, ("2025-12-17 16:01", "2025-12-17 17:00", "2025-12-19 17:01"))


def test_both_answers_stay(revised: Play) -> None:
    """Prevents a restatement from rewriting what was answered before it (KA-52): 2,800 symbols, then 3,000."""
    counted = "SELECT count(*), count(*) FILTER (symbol LIKE 'SZ%') FROM otc_symbol_summary{} WHERE tier = 'OTC'"
    assert revised.one(counted.format("_asof('2025-12-17 16:59:59+00')")) == (2_800, 0)
    assert revised.one(counted.format("_asof('2025-12-17 17:00:00+00')")) == (3_000, 200)
    assert revised.one(counted.format("")) == (3_000, 200)
    assert revised.one(counted.format("_first_release()")) == (2_800, 0)


def test_what_it_changed_is_told_once(revised: Play) -> None:
    """Prevents a restatement that nobody hears of, or whose reach nobody knows; it asks for nothing."""
    columns = "severity, category, affected_records, message, details_json, resolution_note, capture_id"
    severity, category, affected, message, details, note, capture = revised.one(ROWS.format(columns), "RESTATED")
    assert (severity, category, affected) == ("INFO", "FRESHNESS", 200)
    assert message.startswith("FINRA restated the week: 200 symbols added, 0 removed, 0 changed; shares +4.0 %")
    known = json.loads(details)
    assert (known["symbols"]["before"], known["symbols"]["after"], known["symbols"]["added"]["count"]) == (
        2_800,
        3_000,
        200,
    )
    assert known["rows"] == {"added": 200, "changed": 0, "removed": 0, "unchanged": 4_900}
    assert {one["ready_for"] for one in known["certificates"]["first"]} == {"trading", "compliance"}
    assert known["windows"]["count"] == 3
    assert known["after"] == capture
    assert note == "holds again: certified again: compliance, trading"


def test_each_answer_has_its_certificate(revised: Play) -> None:
    """Prevents a certificate from going on vouching for rows that were replaced, and a time without any from hiding."""
    query = """SELECT event, logged_at, document FROM core_certificate_log JOIN core_certificates USING (certificate_id)
               WHERE ready_for = 'trading' AND week_ending = ? ORDER BY seq"""
    events = revised.sql(query, WEEK)
    assert [row[:2] for row in events] == [("issued", FIRST), ("superseded", AGAIN), ("issued", SECOND)]
    assert events[0][2] == events[1][2] != events[2][2]
    rows = {
        one["row_count"]
        for document in (events[0][2], events[2][2])
        for one in json.loads(document)["evidence"]["captures"]
        if (one["table"], one["tier"]) == ("otc_raw", "OTC")
    }
    assert rows == {4_900, 5_100}
    assert [(at, state) for at, state, _ in revised.verdicts("trading")] == [
        (utc("2025-12-15 16:00"), "PRELIMINARY"),
        (FIRST, "CERTIFIED"),
        (AGAIN, "PRELIMINARY"),
        (SECOND, "CERTIFIED"),
    ]
    assert [state for _, state, _ in revised.verdicts("research")] == ["PRELIMINARY", "CERTIFIED"]


# The calendar is corrected after the analytics ran


@pytest.fixture
def corrected(plays: Plays) -> Play:
    return plays.of(Name.CALENDAR_CORRECTION)


# Sessions of January 2025, as known on three evenings.
KNOWN = {"2025-02-26 17:00": 21, "2025-02-27 17:00": 20, "2025-02-28 17:00": 21}


def test_january_has_21_20_and_21_sessions(corrected: Play) -> None:
    """Prevents the answers of the documents from being missed (C-73): 23 weekdays less two or three."""
    count = """SELECT count(*) FROM reference_trading_calendar_asof('{}+00')
               WHERE session_date BETWEEN '2025-01-01' AND '2025-01-31'"""
    # The calendar of a week comes with the week: Monday to Friday of 01-31 came with Tier 1.
    assert {known: corrected.one(count.format(known))[0] for known in KNOWN} == KNOWN
    told = re.findall(r"2025-01: (\d+ -> \d+) sessions", corrected.answer.out)
    assert told == ["21 -> 20", "20 -> 21"]
    divisors = "SELECT DISTINCT session_count FROM otc_volume_per_day_asof('{}+00') WHERE week_ending = ?"
    found = {
        week: [corrected.one(divisors.format(known), week)[0] for known in KNOWN]
        for week in ("2025-01-10", "2025-01-24")
    }
    assert found == {"2025-01-10": [5.0, 4.0, 4.0], "2025-01-24": [4.0, 4.0, 5.0]}


def test_the_answer_of_before_stays(corrected: Play) -> None:
    """Prevents a correction that rewrites what was answered before it: a fifth of the week, then a fourth of it."""
    shares = """SELECT sum(total_volume), sum(volume_per_day) FROM otc_volume_per_day_asof('{}+00')
                WHERE week_ending = '2025-01-10' AND tier = 'OTC'"""
    week, *_ = {corrected.one(shares.format(known))[0] for known in KNOWN}
    answers = [corrected.one(shares.format(known)) for known in KNOWN]
    assert answers == [(week, pytest.approx(float(week) / sessions)) for sessions in (5, 4, 4)]


def test_exactly_what_it_reaches_is_made_again(corrected: Play) -> None:
    """Prevents a window that is forgotten, and work on what the correction does not reach."""

    def once_per(*spans: tuple[str, str]) -> dict[str, int]:
        reached = [
            str(week)
            for first, last in spans
            for week in weeks_between(date.fromisoformat(first), date.fromisoformat(last))
        ]
        return {week: 1 + reached.count(week) for week in sorted(set(reached))}

    directly = once_per(("2025-01-10", "2025-01-10"), ("2025-01-24", "2025-01-24"))
    # Six weeks would end on 2025-02-14 and later; the last that is there, of Tier 1, is 2025-02-07.
    windows = once_per(("2025-01-10", "2025-02-07"), ("2025-01-24", "2025-02-07"))
    assert corrected.revisions() == {
        "reference_trading_calendar": directly,
        "otc_volume_per_day": directly,
        "otc_symbol_volume_per_day_6w": windows,
        "otc_weekly_baseline": windows,
    }
    (total,) = corrected.one("SELECT count(*) FROM core_manifest")
    # Four weeks of twelve tables in three tiers and two of all, two weeks of one tier; and what was made again:
    # windows of five and three weeks of Tier 1, and of three weeks and one of the two other tiers.
    assert total == 4 * (12 * 3 + 2) + 2 * (12 + 2) + 2 + 2 * 3 + 2 * (5 + 3 + 2 * (3 + 1))


CERTIFIED, CLOSED, FOLLOWED, OPENED, DONE = map(
    utc, ("2025-02-26 16:01", "2025-02-27 09:00", "2025-02-27 09:10", "2025-02-28 09:00", "2025-02-28 09:10")
)


@pytest.mark.parametrize(
    ("week", "expected"),
    [
        ("2025-01-03", []),  # no correction reaches it
        ("2025-01-10", [(CLOSED, "superseded"), (FOLLOWED, "issued")]),
        ("2025-01-17", [(CLOSED, "superseded"), (FOLLOWED, "issued")]),  # a window over 2025-01-10
        (
            "2025-01-24",
            [(CLOSED, "superseded"), (FOLLOWED, "issued"), (OPENED, "superseded"), (DONE, "issued")],
        ),
    ],
)
def test_certificates_follow_the_calendar(corrected: Play, week: str, expected: list[tuple[datetime, str]]) -> None:
    """Prevents a certificate over a wrong divisor, and a week that a correction does not reach from losing its own."""
    query = """SELECT logged_at, event FROM core_certificate_log JOIN core_certificates USING (certificate_id)
               WHERE ready_for = 'trading' AND week_ending = ? ORDER BY seq"""
    assert corrected.sql(query, week) == [(CERTIFIED, "issued"), *expected]
    verdicts = """SELECT judged_at, to_state FROM core_readiness_log
                  WHERE ready_for = 'trading' AND week_ending = ? AND judged_at > ? ORDER BY seq"""
    states = {"superseded": "BLOCKED", "issued": "CERTIFIED"}
    assert corrected.sql(verdicts, week, CERTIFIED) == [(at, states[event]) for at, event in expected]


def test_only_the_story_is_told(corrected: Play) -> None:
    """Prevents a story that drowns in errors about other weeks: each turn of a certificate is told, and no error."""
    told = " ".join(corrected.answer.out.split())
    assert "ERROR" not in told
    assert "2025-01-10 .. 2025-01-24 (3) for trading: CERTIFIED -> BLOCKED" in told
    assert "2025-01-10 .. 2025-01-24 (3) for trading: BLOCKED -> CERTIFIED" in told
    assert "2025-01-24 for trading: CERTIFIED -> BLOCKED" in told
    grave = "SELECT code, tier, week_ending FROM core_anomalies WHERE severity IN ('ERROR', 'CRITICAL')"
    assert corrected.sql(grave) == []


def test_it_was_told_while_it_had_not_followed(corrected: Play) -> None:
    """Prevents measures over the wrong divisor from being used in the meantime, and a finding that stays (F292)."""
    query = """SELECT week_ending::VARCHAR, tier, severity, category, table_name, resolved_at IS NOT NULL
               FROM core_anomalies WHERE code = 'CALENDAR_CORRECTED' ORDER BY week_ending, tier"""
    assert corrected.sql(query) == [
        (week, tier, "WARN", "DEPENDENCY", "otc_volume_per_day", True)
        for week in ("2025-01-10", "2025-01-24")
        for tier in ("NMS_TIER_1", "NMS_TIER_2", "OTC")
    ]
    vintages = corrected.sql("SELECT vintage, actor FROM core_calendar_vintages ORDER BY vintage")
    assert vintages == [(1, "exchange_calendars"), *((number, "operations") for number in (2, 3, 4))]
