"""weekly_baseline: limits, the words of its findings, and its laws. Answers of whole weeks stand in answers/.

The lab's weeks have 4.5 sessions, so that no figure per session is a round one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from market_spine.domain.calculations.weekly_baseline import MEASURES, baseline_sql
from market_spine.domain.contracts import Category, Severity
from market_spine.domain.regimes import Regime
from market_spine.domain.weeks import last_n_weeks
from market_spine_tests.domain import calculation_lab as lab

BASELINE = lab.CALCULATIONS["weekly_baseline"]
WEEKS = last_n_weeks(16, date(2030, 2, 22))
ASKED = WEEKS[-1]
OTC = "OTC"
SESSIONS = 4.5
Amounts = Mapping[str, int | str]


def rows_of(weeks: Mapping[date, Amounts], symbol: str = "QA") -> dict[lab.RowKey, lab.Row]:
    """venue_volume rows: per week the shares of each venue in one symbol, with ten trades each."""
    return {
        (week, OTC, symbol, mpid): (Decimal(shares), 10) for week, of in weeks.items() for mpid, shares in of.items()
    }


def symbols_of(weeks: Mapping[date, Iterable[int]]) -> dict[lab.RowKey, lab.Row]:
    """venue_volume rows: per week the symbols of one venue, by number."""
    return {(week, OTC, f"Q{n:04}", "VEN1"): (Decimal(100), 1) for week, numbers in weeks.items() for n in numbers}


def lab_of(rows: Mapping[lab.RowKey, lab.Row]) -> duckdb.DuckDBPyConnection:
    """A lab that holds the inputs."""
    con = lab.connect()
    lab.put_rows(con, rows)
    lab.fill(con, *BASELINE.inputs)
    return con


def judged(con: duckdb.DuckDBPyConnection, week: date = ASKED, sql: str = BASELINE.sql) -> dict[str, dict[str, Any]]:
    """The rows of one week by measure."""
    lab.ask(con, replace(BASELINE, sql=sql), [(week, OTC)])
    names = [column.name for column in BASELINE.table.columns]
    found = [dict(zip(names, row, strict=True)) for row in con.execute("FROM weekly_baseline").fetchall()]
    assert len(found) == len(MEASURES)
    return {row["measure"]: row for row in found}


def findings(con: duckdb.DuckDBPyConnection, *, critical: bool = False) -> dict[str, tuple[str, str]]:
    """What the invariants report of the week that was judged last: name -> observed and expected."""
    found = {
        law.name: con.execute(law.sql).fetchall()
        for law in BASELINE.invariants
        if (law.severity is Severity.CRITICAL) is critical
    }
    assert all(len(rows) <= 1 for rows in found.values())
    return {name: rows[0][2:] for name, rows in found.items() if rows}


def volumes(*history: int | str, week: int | str) -> dict[date, Amounts]:
    """One venue: its shares in the weeks before, oldest first, and in the asked week."""
    weeks = WEEKS[-1 - len(history) :]
    return {friday: {"VEN1": shares} for friday, shares in zip(weeks, (*history, week), strict=True)}


# 12 weeks of 1,000 and 2,000 shares: median 1,500, every deviation 500, 4 x 1.4826 x 500 = 2,965.2.
WIDE = (1000, 2000) * 6


@pytest.mark.parametrize(
    ("history", "week", "lower", "upper", "verdict"),
    [
        ((1000, 1000, 1000, 1000), 1500, 500, 1500, "usual"),
        ((1000, 1000, 1000, 1000), "1500.000001", 500, 1500, "high"),
        ((1000, 1000, 1000, 1000), 500, 500, 1500, "usual"),
        ((1000, 1000, 1000, 1000), "499.9999", 500, 1500, "low"),
        ((1000, 1000, 1000, 1000), 0, 500, 1500, "low"),
        ((34, 34, 34, 34), 51, 17, 51, "usual"),  # 51 / 4.5 is more than the DOUBLE of 1.5 x (34 / 4.5)
        ((900, 1100, 1300, 1000), 1500, "456.96", "1643.04", "usual"),  # median 1,050, MAD 100: 593.04, not 525
        ((700, 7_000_000, 1000, 1100, 1000), 1200, "406.96", "1593.04", "usual"),  # median 1,000, MAD 100
        (WIDE, 1, 0, "4465.2", "low"),
        (WIDE, 2999, 0, "4465.2", "usual"),
        (WIDE, 4465, 0, "4465.2", "high"),
        ((0, 0, 0, 0), 0, 0, 0, "usual"),
        ((0, 0, 0, 0), "0.000001", 0, 0, "high"),
        ((6, 6, 6), 9, None, None, "silent"),  # the DOUBLE of the change is 50.00000000000001
        ((1000, 1000, 1000), "1500.001", None, None, "high"),
        ((1000, 1000, 1000), "499", None, None, "low"),
        ((0, 0, 0), 1000, None, None, "silent"),
        ((), 1000, None, None, "silent"),
    ],
)
def test_limits_of_volume(
    history: tuple[int | str, ...], week: int | str, lower: float | str | None, upper: float | str | None, verdict: str
) -> None:
    """A bound that a binary fraction decides, MAD without its factor, limits below 0, one bad week that moves them all;
    a change of more than 50 % that a wide baseline, or none, lets pass."""
    found = judged(lab_of(rows_of(volumes(*history, week=week))))["volume_per_session"]
    bounds = [None if bound is None else pytest.approx(float(bound) / SESSIONS, rel=1e-12) for bound in (lower, upper)]
    assert [found["lower"], found["upper"]] == bounds
    assert found["verdict"] == verdict
    assert found["weeks_of_history"] == len(history)


def test_partial_venues_in_words() -> None:
    """The documents' scenario, 165 venues and then 45: it must be said with its history, and block nothing."""
    venues = [f"V{n:03}" for n in range(165)]
    con = lab_of(rows_of({week: dict.fromkeys(venues[: 45 if week == ASKED else 165], 100) for week in WEEKS[-13:]}))
    assert judged(con)["venue_count"]["verdict"] == "low"
    assert findings(con) == {
        "usual_venue_count": ("45", "124 to 206 (median 165 of 12 weeks)"),
        "usual_row_count": ("45", "124 to 206 (median 165 of 12 weeks)"),
        "usual_volume_per_session": ("1,000", "1,833.3 to 5,500 (median 3,666.7 of 12 weeks)"),
        "usual_trades_per_session": ("100", "183.3 to 550 (median 366.7 of 12 weeks)"),
    }
    assert findings(con, critical=True) == {}


DIP = (9_000_000, 9_000_000, 9_000_000, 5_000_000)
VOLUME, WITHIN = "usual_volume_per_session", "within 50 %"
LOST = {WEEKS[-2]: {"VEN2": 98, "VEN3": 1, "VEN1": 1}, ASKED: {"VEN2": 99}}
MOVED = {WEEKS[-2]: {"VEN1": 40, "VEN2": 60}, ASKED: {"VEN1": "50.1", "VEN2": "49.9"}}
WORDS = [
    (volumes(1000, week=380), VOLUME, "-62 % against the week before", WITHIN),
    (volumes(1000, week=12_345), VOLUME, "+1,134.5 % against the week before", WITHIN),
    (volumes(*DIP, week=13_000_000), VOLUME, "+160 % against the week before", WITHIN),
    (volumes(*DIP, week=45_000_000), VOLUME, "10,000,000", "1,000,000 to 3,000,000 (median 2,000,000 of 4 weeks)"),
    (LOST, "usual_missing_venues", "2 (VEN1, VEN3)", "none that had 1 % of the shares in the week before"),
    (MOVED, "usual_largest_share_shift", "VEN1 +10.10 points", "within 10 points of the week before"),
]


@pytest.mark.parametrize(("weeks", "check", "observed", "expected"), WORDS)
def test_words_of_a_finding(weeks: Mapping[date, Amounts], check: str, observed: str, expected: str) -> None:
    """A portfolio manager who is told 1.0 and 0.0, or the limits of a baseline that had nothing to do with it."""
    con = lab_of(rows_of(weeks))
    judged(con)
    assert findings(con)[check] == (observed, expected)


def test_every_measure_has_its_check() -> None:
    """A measure that is judged and never reported, or reported as something that blocks or as another's trouble."""
    checks = {law.name: law for law in BASELINE.invariants if law.severity is Severity.WARN}
    assert list(checks) == [f"usual_{measure.name}" for measure in MEASURES]
    of_rows = {name for name, law in checks.items() if law.category is Category.COMPLETENESS}
    assert of_rows == {name for name in checks if name.endswith("_count") or name.startswith("usual_missing")}
    said = checks["usual_venue_count"].message.format(observed="45", expected="124 to 206")
    assert said == "venue count: 45; usual is 124 to 206"


def turning(kept: int, *, weeks: Sequence[date] = WEEKS) -> dict[date, range]:
    """100 symbols a week, of which ``kept`` are those of the week before."""
    return {week: range(n * (100 - kept), n * (100 - kept) + 100) for n, week in enumerate(weeks)}


@pytest.mark.parametrize(
    ("usually", "this_week", "upper", "verdict"),
    [
        *((38, 38, 48, "usual"), (38, 48, 48, "usual"), (38, 49, 48, "high"), (38, 0, 48, "usual")),
        *((0, 10, 10, "usual"), (0, 11, 10, "high"), (62, 77, 77.5, "usual"), (62, 78, 77.5, "high")),
    ],
)
def test_missing_symbols_are_judged_by_their_own_history(
    usually: int, this_week: int, upper: float, verdict: str
) -> None:
    """A quarter of OTC symbols that does not return called an anomaly each week; one symbol of 2,300 in Tier 1 called
    one; fewer missing than usual called trouble."""
    weeks = turning(100 - usually)
    last = list(weeks[WEEKS[-2]])
    weeks_given = {**weeks, ASKED: [*last[this_week:], *range(5000, 5000 + this_week)]}
    con = lab_of(symbols_of(weeks_given))
    found = judged(con)["missing_symbols"]
    assert (found["value"], found["median"], found["weeks_of_history"]) == (this_week, usually, 11)
    assert (found["lower"], found["upper"], found["verdict"]) == (0, upper, verdict)
    said = {"usual_missing_symbols": (str(this_week), f"at most {int(upper)} (median {usually} of 11 weeks)")}
    assert findings(con) == (said if verdict == "high" else {})


@pytest.mark.parametrize(
    ("before", "now", "missing"),
    [
        ({"VEN1": 99, "VEN2": 1}, {"VEN1": 100}, "VEN2"),
        ({"VEN1": "99.000001", "VEN2": "0.999999"}, {"VEN1": 100}, None),
        ({"VEN1": 99, "VEN2": 1}, {"VEN1": 100, "VEN2": 0}, None),
        ({"VEN1": 50, "SGMA": 50}, {"VEN1": 50, "SGMT": 50}, None),
        ({"VEN1": 50, "SGMT": 50}, {"VEN1": 50, "SGMA": 50}, None),
        ({"VEN1": "98.9", "SGMA": "0.5", "SGMT": "0.6"}, {"VEN1": 100}, "SGMT"),
        ({f"V{n:03}": 1 for n in range(99, 0, -1)}, {"V050": 1}, ", ".join(f"V{n:03}" for n in range(1, 21))),
        ({"VEN1": 0, "VEN2": 0}, {"VEN1": 5}, None),
    ],
)
def test_missing_venues(before: Amounts, now: Amounts, missing: str | None) -> None:
    """A venue below 1 % that is asked after, a renamed one called missing, a list of names without end or order, a row
    of nothing taken for no row."""
    found = judged(lab_of(rows_of({WEEKS[-2]: before, ASKED: now})))["missing_venues"]
    assert found["subject"] == missing
    assert found["verdict"] == ("usual" if missing is None else "high")
    assert found["value"] == (0 if missing is None else 98 if "V001" in missing else 1)


@pytest.mark.parametrize(
    ("before", "now", "subject", "verdict"),
    [
        ({"VEN1": 9, "VEN2": 11}, {"VEN1": 11, "VEN2": 9}, "VEN1 +10.00 points", "usual"),  # DOUBLE: 10.000000000000007
        ({"VEN1": 1, "VEN2": 5}, {"VEN1": 2, "VEN2": 4}, "VEN1 +16.67 points", "high"),  # the other: -16.666666666686
        ({"VEN1": 11, "VEN2": 9}, {"VEN1": "3.3", "VEN2": "2.7"}, "VEN1 +0.00 points", "usual"),  # DOUBLE: -1.4e-14
        ({"VEN1": 90, "VEN2": 10}, {"VEN2": 10}, "VEN1 -90.00 points", "high"),
    ],
)
def test_largest_share_shift(before: Amounts, now: Amounts, subject: str, verdict: str) -> None:
    """A limit, a tie or a sign that a binary fraction decides; a venue that left and moved nothing."""
    found = judged(lab_of(rows_of({WEEKS[-2]: before, ASKED: now})))["largest_share_shift"]
    assert (found["subject"], found["verdict"]) == (subject, verdict)


def test_a_renamed_venue_is_one_venue() -> None:
    """Two names of one venue in one week counted as two, and its share as two moves of 20 points."""
    both = {"SGMA": 20, "SGMT": 30, "VEN1": 50}
    found = judged(lab_of(rows_of({WEEKS[-2]: {"SGMA": 50, "VEN1": 50}, ASKED: both})))
    values = [found[name]["value"] for name in ("venue_count", "row_count", "largest_share_shift")]
    assert values == pytest.approx([2, 3, 0], abs=1e-9)


@pytest.mark.parametrize(
    ("present", "weeks"), [((0, 1, 2), 0), ((3,), 1), ((14,), 1), ((2, 3, 9, 14), 3), (tuple(range(15)), 12)]
)
def test_history_is_twelve_consecutive_fridays(present: tuple[int, ...], weeks: int) -> None:
    """The last twelve rows instead of twelve Fridays: WEEKS[3] is 12 Fridays before the asked one, WEEKS[2] is 13."""
    con = lab_of(rows_of({WEEKS[n]: {"VEN1": 1} for n in (*present, 15)}))
    assert judged(con)["venue_count"]["weeks_of_history"] == weeks


BORDERS = (
    Regime("EARLY", WEEKS[5], ("venue_count", "trades_per_session"), "", ""),
    Regime("LATE", WEEKS[13], ("venue_count",), "", ""),
    Regime("NOT_YET", date(2031, 1, 3), ("venue_count", "row_count"), "", ""),
    Regime("UNDATED", None, ("row_count",), "", ""),
)


@pytest.mark.parametrize(
    ("week", "measure", "weeks", "subject"),
    [
        (ASKED, "venue_count", 2, "regime LATE since 2030-02-08: 2 weeks of history, 4 are needed"),
        (ASKED, "trades_per_session", 10, None),
        (ASKED, "row_count", 12, None),
        (WEEKS[13], "venue_count", 0, "regime LATE since 2030-02-08: 0 weeks of history, 4 are needed"),
        (WEEKS[12], "venue_count", 7, None),
        (WEEKS[6], "venue_count", 1, "regime EARLY since 2029-12-14: 1 week of history, 4 are needed"),
        (WEEKS[4], "venue_count", 4, None),
        (WEEKS[3], "row_count", 3, "3 weeks of history, 4 are needed"),
    ],
)
def test_history_does_not_cross_a_regime(week: date, measure: str, weeks: int, subject: str | None) -> None:
    """Weeks of two meanings in one median; the first border where a later one counts; a border that is still to come,
    or that nobody can date; a silence for which the regime is blamed and is not the cause."""
    con = lab_of(rows_of({friday: {"VEN1": 1} for friday in WEEKS}))
    found = judged(con, week, baseline_sql(BORDERS))[measure]
    assert (found["weeks_of_history"], found["subject"]) == (weeks, subject)
    assert found["verdict"] == ("silent" if subject else "usual")


def test_a_regime_that_left_nothing_out_is_not_named() -> None:
    """A store that begins after the border, and a reason that sends its reader to the wrong cause."""
    con = lab_of(rows_of({friday: {"VEN1": 1} for friday in WEEKS[13:]}))
    found = judged(con, ASKED, baseline_sql(BORDERS))["venue_count"]
    assert found["subject"] == "2 weeks of history, 4 are needed"


NOW, BEFORE = f"week_ending = DATE '{ASKED}'", f"week_ending = DATE '{WEEKS[-2]}'"
NO_SESSIONS = ("DELETE FROM store.volume_per_day WHERE " + NOW, "the sessions of the week are not known")
NO_SYMBOLS = ("DELETE FROM store.volume_per_day WHERE " + NOW, "the symbols of the week are not known")
NO_PAIR = "the symbols of this week or of the week before are not known"
NO_SHARES = "nothing was traded in this week or in the week before"
NOTHING_BEFORE = ("DELETE FROM store.venue_share WHERE " + BEFORE, "the week before is not there")


@pytest.mark.parametrize(
    ("measure", "loss", "reason"),
    [
        ("volume_per_session", *NO_SESSIONS),
        ("trades_per_session", *NO_SESSIONS),
        ("symbol_count", *NO_SYMBOLS),
        ("missing_symbols", NO_SYMBOLS[0], NO_PAIR),
        ("missing_symbols", "DELETE FROM store.volume_per_day WHERE " + BEFORE, NO_PAIR),
        ("largest_share_shift", "UPDATE store.venue_share SET total_volume = 0 WHERE " + BEFORE, NO_SHARES),
        *((measure.name, *NOTHING_BEFORE) for measure in MEASURES if measure.looks_back),
    ],
)
def test_what_cannot_be_known_is_silent(measure: str, loss: str, reason: str) -> None:
    """An input that is not there read as none: all symbols missing, no sessions, a share of nothing."""
    con = lab_of(rows_of({week: {"VEN1": 60, "VEN2": 40} for week in WEEKS}))
    con.execute(loss)
    found = judged(con)[measure]
    assert (found["value"], found["verdict"], found["subject"]) == (None, "silent", reason)
    assert findings(con, critical=True) == {}


def test_an_input_that_an_earlier_week_lacks_shortens_history() -> None:
    """A week of which only venues are known, counted as a week without symbols: a median that is too low."""
    con = lab_of(rows_of({week: {"VEN1": 60} for week in WEEKS[-6:]}))
    con.execute(f"DELETE FROM store.volume_per_day WHERE week_ending = DATE '{WEEKS[-3]}'")
    names = ("venue_count", "symbol_count", "volume_per_session", "missing_symbols")
    found = [(row["weeks_of_history"], row["median"]) for row in map(judged(con).__getitem__, names)]
    assert found == [(5, 1), (4, 1), (4, pytest.approx(60 / SESSIONS)), (2, 0)]


def test_rows_without_a_symbol_count_for_venues_only() -> None:
    """A private placement that makes a symbol of the empty name; a week without symbols that stops the rest."""
    con = lab_of({**rows_of({WEEKS[-2]: {"VEN1": 9}}), **rows_of({ASKED: {"VEN1": 5, "VEN2": 5}}, symbol="")})
    found = {name: (row["value"], row["verdict"]) for name, row in judged(con).items()}
    assert found["venue_count"] == (2, "silent")
    assert found["symbol_count"] == found["row_count"] == (0, "silent")
    assert found["missing_symbols"] == (1, "silent")
    assert found["volume_per_session"] == (None, "silent")
    assert found["largest_share_shift"] == (50, "high")


def scattered(con: duckdb.DuckDBPyConnection) -> list[lab.Key]:
    """30 weeks of all tiers with gaps, 40 symbols and 6 venues that come and go; the keys of all partitions."""
    lab.put(
        con,
        "venue_volume",
        """
        SELECT DATE '2029-07-06' + CAST(7 * w.i AS INTEGER) AS week_ending,
            ['NMS_TIER_1', 'NMS_TIER_2', 'OTC'][1 + t.i] AS tier, 'Q' || s.i AS symbol, 'V' || v.i AS mpid,
            CAST(1 + hash(w.i, t.i, s.i, v.i) % 1000 AS DECIMAL(20,6)) AS total_shares,
            CAST(1 + hash(w.i, v.i, s.i) % 9 AS BIGINT) AS total_trades, 1 AS row_count
        FROM range(30) AS w(i), range(3) AS t(i), range(40) AS s(i), range(6) AS v(i)
        WHERE hash(w.i, t.i) % 7 > 0 AND hash(w.i, t.i, v.i) % 9 > 0 AND hash(w.i, t.i, s.i, v.i, 1) % 3 = 0""",
    )
    lab.put_calendar(con)
    lab.fill(con, *BASELINE.inputs)
    return lab.partitions(con)


def test_a_partition_alone_is_what_it_is_among_hundreds() -> None:
    """A week that sees more history when its neighbours are computed too: the thirteenth week back is there then, so
    that the twelfth has a week before it."""
    con = lab.connect()
    keys = scattered(con)
    lab.ask(con, BASELINE, keys)
    con.execute("CREATE TABLE together AS FROM result.weekly_baseline")
    verdicts = con.execute("SELECT DISTINCT verdict FROM together ORDER BY ALL").fetchall()
    assert (len(keys) > 60, verdicts) == (True, [("high",), ("low",), ("silent",), ("usual",)])
    for week, tier in keys:
        lab.ask(con, BASELINE, [(week, tier)])
        mine = f"week_ending = DATE '{week}' AND tier = '{tier}'"
        assert lab.rows_of(con, "weekly_baseline", BASELINE) == lab.rows_of(con, "together", BASELINE, mine)


SHARES = st.lists(
    st.dictionaries(st.sampled_from(["VEN1", "VEN2", "SGMA", "SGMT"]), st.integers(0, 10**6), min_size=1), min_size=1
)


@settings(max_examples=40, deadline=None)
@given(weeks=SHARES.filter(lambda weeks: len(weeks) <= len(WEEKS)), factor=st.integers(1, 10**9))
def test_the_unit_of_shares_changes_no_verdict(weeks: list[dict[str, int]], factor: int) -> None:
    """A limit in shares instead of a share of the median or of the tier."""
    found = []
    for unit in (Decimal(1), Decimal(factor).scaleb(-6)):
        rows = rows_of(dict(zip(WEEKS[-len(weeks) :], weeks, strict=True)))
        con = lab_of({key: (shares * unit, trades) for key, (shares, trades) in rows.items()})
        found.append({name: (row["verdict"], row["weeks_of_history"]) for name, row in judged(con).items()})
    assert found[0] == found[1]


@settings(max_examples=15, deadline=None)
@given(weeks=SHARES)
@example(weeks=[{"VEN1": 10**6, "SGMA": 0}])
def test_a_week_without_neighbours_is_silent(weeks: list[dict[str, int]]) -> None:
    """The first week of a store, or the first after a gap of 13, called unusual against nothing."""
    con = lab_of(rows_of({WEEKS[0]: weeks[-1], date(2030, 2, 22): weeks[0]}))
    found = judged(con)
    assert {row["verdict"] for row in found.values()} == {"silent"}
    assert all(row["subject"] for row in found.values())
    assert findings(con) == findings(con, critical=True) == {}
    con.execute("UPDATE result.weekly_baseline SET subject = NULL WHERE measure = 'row_count'")
    assert list(findings(con, critical=True)) == ["verdict_agrees"]
