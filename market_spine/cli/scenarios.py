"""The five failures that break such systems, each played on synthetic weeks: `spine demo --scenario NAME`.

What belongs here: the acts of each, and the words for what it means; every number is asked of the store. What does not:
the stage (`scenario`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from market_spine.cli.output import cell
from market_spine.cli.scenario import Ending, Stage
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.domain.weeks import last_n_weeks, weeks_between

WEEK = date(
    2025, 11, 14
)  # Tier 1 is published on 2025-12-01, Tier 2 and OTC on 2025-12-15 at 10:00 New York, 15:00 UTC
T1, T2, OTC = Tier
TIERS = tuple(WeekKey(WEEK, tier) for tier in Tier)
OLDER = tuple(WeekKey(week, tier) for week in last_n_weeks(4, date(2025, 10, 31)) for tier in (T2, OTC))
NEWER = tuple(WeekKey(date(2025, 11, day), T1) for day in (21, 28))  # of Tier 1 there are newer weeks by then


OF_WEEK = f"week_ending = '{WEEK}' AND (severity <> 'INFO' OR code = 'RESTATED')"


class Name(StrEnum):
    """The scenarios by name."""

    MISSING_TIER = "missing-tier"
    PARTIAL_VENUES = "partial-venues"
    ZERO_VOLUME = "zero-volume"
    LATE_REVISION = "late-revision"
    CALENDAR_CORRECTION = "calendar-correction"


@dataclass(frozen=True)
class Scenario:
    """A title, the source's recipe, the acts, what is told at the end, and what to ask of its store next."""

    title: str
    recipe: str
    play: Callable[[Stage], None]
    explain: Callable[[Ending], None]
    ask: tuple[str, ...]
    watched: tuple[tuple[date, str], ...] = ((WEEK, "trading"),)


def _missing_tier(stage: Stage) -> None:
    stage.at("2025-12-15 16:00", "all three tiers of 2025-11-14 are due; OTC is not there")
    stage.load([*TIERS, *NEWER])
    stage.at("2025-12-16 16:00", "the deadline has passed by an hour")
    stage.look()
    stage.at("2025-12-18 16:00", "FINRA has published OTC, 49 hours after the deadline")
    stage.load([TIERS[2]])
    stage.at("2025-12-20 16:01", "48 hours later")
    stage.look()


def _explain_missing_tier(ending: Ending) -> None:
    ending.anomalies(OF_WEEK)
    ending.verdicts(str(WEEK))
    split = ending.rows(
        """SELECT revision, tiers_present, list(tier || ' ' || round(100 * volume_share, 1) || ' %' ORDER BY tier)
           FROM otc_tier_split_revisions() WHERE week_ending = ? GROUP BY ALL ORDER BY revision""",
        WEEK,
    )
    (_, few, before), (_, every, after) = split[0], split[-1]
    ending.means(
        f"Until OTC came, the tier split was of {few} tiers ({', '.join(before)}), and said so: tiers_present {few},",
        f"is_complete false. With all {every} it is {', '.join(after)}.",
        "Whoever had routed by the first numbers would have seen tier shares that are too large.",
        "The week could not be certified before, so no _ready query showed it.",
    )


def _partial_venues(stage: Stage) -> None:
    stage.at("2025-12-01 16:00", "five weeks of Tier 1, with 165 venues each, and a sixth one with 45 of them")
    stage.load([*(WeekKey(week, T1) for week in last_n_weeks(6, WEEK)), *OLDER])
    stage.at("2025-12-02 16:01", "24 hours later, for research on Tier 1")
    stage.look()


def _explain_partial_venues(ending: Ending) -> None:
    ending.anomalies("code LIKE 'UNUSUAL%' AND week_ending = '2025-11-14'")
    follows = ending.one("SELECT count(*) FROM core_anomalies WHERE cause_id IS NOT NULL AND week_ending = ?", WEEK)[0]
    ending.table(
        "How concentrated is trading? (mean HHI of Tier 1, rows as they are annotated)",
        """SELECT week_ending, round(avg(hhi), 4) AS mean_hhi, any_value(is_incomplete) AS incomplete,
                  any_value(array_to_string(open_findings, ', ')) AS open_findings
           FROM otc_symbol_hhi_annotated
           WHERE tier = 'NMS_TIER_1' AND week_ending >= DATE '2025-10-31' GROUP BY week_ending ORDER BY 1""",
        wrapped=["open_findings"],
    )
    state = ending.one("SELECT state FROM core_data_readiness WHERE week_ending = ? AND ready_for = 'research'", WEEK)[
        0
    ]
    ending.means(
        "The concentration of 2025-11-14 is not a fact of the market: most venues are missing from the file.",
        f"It is one warning with {follows} findings that follow from it, and each HHI of the week carries it.",
        f"A warning does not block: for research the week is {state}; whoever uses it sees what is known against it.",
    )


def _zero_volume(stage: Stage) -> None:
    stage.at("2025-12-15 16:00", "three tiers arrive; 150 rows of OTC have trades but no shares")
    stage.load([*TIERS, *NEWER])
    stage.at("2025-12-17 16:01", "48 hours later")
    stage.look()


def _explain_zero_volume(ending: Ending) -> None:
    ending.anomalies(OF_WEEK)
    ending.verdicts(str(WEEK))
    rejects = ending.one("SELECT count(*) FROM core_rejects WHERE reason_code = 'TRADES_WITHOUT_SHARES'")[0]
    rows = ending.one("SELECT count(*) FROM otc_raw WHERE tier = 'OTC'")[0]
    later = ending.one("SELECT count(*) FROM core_manifest WHERE tier = 'OTC' AND stage <> 'INGESTED'")[0]
    ending.means(
        f"{rejects} of {cell(rows)} rows cannot be true. They are kept as they came (otc_raw), and set aside with line",
        f"and reason (core_rejects). Nothing was calculated from them: {later} captures of OTC beyond raw.",
        "The other two tiers went through. The week stays blocked for trading until FINRA corrects the file.",
    )


def _late_revision(stage: Stage) -> None:
    stage.at("2025-12-15 16:00", "2025-11-14 is complete, with 2,800 symbols in OTC")
    stage.load([*TIERS, *NEWER])
    stage.at("2025-12-17 16:01", "48 hours later")
    stage.look()
    stage.at("2025-12-17 17:00", "FINRA has republished OTC, with 200 symbols more")
    stage.load([TIERS[2]])
    stage.at("2025-12-19 17:01", "48 hours later")
    stage.look()


def _explain_late_revision(ending: Ending) -> None:
    ending.anomalies(OF_WEEK)
    ending.verdicts(str(WEEK))
    counted = "SELECT count(*), sum(total_volume) FROM otc_symbol_summary_asof(?) WHERE tier = 'OTC'"
    before = ending.one(counted, "2025-12-17 16:30:00+00")
    after = ending.one(counted, "2025-12-19 18:00:00+00")
    certificates = ending.one(
        "SELECT count(DISTINCT certificate_id) FROM core_certificates WHERE ready_for = 'trading'"
    )[0]
    ending.means(
        f"As known on 2025-12-17: {cell(before[0])} symbols, {cell(before[1])} shares. As known on 2025-12-19:",
        f"{cell(after[0])} symbols, {cell(after[1])} shares. Both answers stay, and each has its certificate",
        f"({certificates} for trading: the first one superseded, the second in force).",
        "In between the week was not certified.",
    )


JANUARY = weeks_between(date(2025, 1, 3), date(2025, 1, 24))  # the newest is published whole on 2025-02-24
# The store begins with them, so that none is late; before the next weeks are due, on 2025-03-03, all has happened.
CORRECTED = (
    *(WeekKey(week, tier) for week in JANUARY for tier in Tier),
    *(WeekKey(week, T1) for week in weeks_between(date(2025, 1, 31), date(2025, 2, 7))),
)


def _calendar_correction(stage: Stage) -> None:
    stage.at("2025-02-24 16:00", "four weeks, by the calendar as printed: 21 sessions in January, 01-09 among them")
    stage.correct({"open": ["2025-01-09"]}, "The calendar of 2025 as printed before 2024-12-30", date(2024, 12, 29))
    stage.load(CORRECTED)
    stage.at("2025-02-26 16:01", "48 hours later")
    stage.look()
    stage.at("2025-02-27 09:00", "a correction: the exchange was closed on 2025-01-09, a day of mourning")
    closed = stage.correct({"close": ["2025-01-09"]}, "Closed for the National Day of Mourning", date(2024, 12, 30))
    stage.at("2025-02-27 09:10", "what it put out of date is calculated again, and nothing else")
    stage.follow(closed)
    stage.at("2025-02-28 09:00", "another one: MLK Day, 2025-01-20, was an OTC trading day")
    opened = stage.correct({"open": ["2025-01-20"]}, "MLK Day 2025 was an OTC trading day", date(2025, 2, 3))
    stage.at("2025-02-28 09:10", "calculated again")
    stage.follow(opened)


def _explain_calendar_correction(ending: Ending) -> None:
    ending.table(
        "One question, two answers: how many shares of OTC were traded in a session?",
        """SELECT week_ending, captured_at AS "as known since", any_value(session_count) AS sessions,
                  sum(volume_per_day)::BIGINT AS "shares per session"
           FROM otc_volume_per_day_revisions() a WHERE tier = 'OTC' AND week_ending IN (
               SELECT week_ending FROM otc_volume_per_day WHERE revision > 1) GROUP BY ALL ORDER BY ALL""",
    )
    ending.table(
        "What was made again",
        """SELECT table_name AS "table", count(*) FILTER (WHERE revision > 1) AS "made again",
                  string_agg(DISTINCT strftime(week_ending, '%m-%d'), ', ' ORDER BY strftime(week_ending, '%m-%d'))
                      FILTER (WHERE revision > 1) AS weeks
           FROM core_manifest GROUP BY table_name HAVING "made again" > 0 ORDER BY 1""",
        wrapped=["weeks"],
    )
    ending.table(
        "Certificates for trading",
        """SELECT week_ending, count(*) FILTER (WHERE event = 'issued') AS issued,
                  count(*) FILTER (WHERE event = 'superseded') AS superseded,
                  max(logged_at) FILTER (WHERE event = 'issued') AS "in force since"
           FROM core_certificate_log JOIN core_certificates USING (certificate_id)
           WHERE ready_for = 'trading' GROUP BY week_ending ORDER BY week_ending""",
    )
    again, kept = ending.one(
        "SELECT count(*) FILTER (revision > 1), count(*) FILTER (is_current = 1 AND revision = 1) FROM core_manifest"
    )
    ending.means(
        "A week whose sessions changed had its volume per day divided by the wrong number. Exactly those weeks, and",
        f"the windows that read them, were captured again: {again} captures. The other {kept} are the ones they were.",
        "From the correction until then no such week was certified; what no correction reaches kept its certificate.",
        "Each answer of before can still be asked for, as known then.",
    )


OF_OTC = f"--week-ending {WEEK} --tier OTC"

SCENARIOS: dict[Name, Scenario] = {
    Name.MISSING_TIER: Scenario(
        "A tier is missing",
        "seed=7,scale=0.02,fault=late-tier:OTC:2025-11-14:76",
        _missing_tier,
        _explain_missing_tier,
        (f"readiness otc --week {WEEK} --ready-for trading", f"anomalies list --all --week-ending {WEEK} --linked"),
    ),
    Name.PARTIAL_VENUES: Scenario(
        "Most venues are missing",
        "seed=7,scale=0.05,fault=many-venues:NMS_TIER_1:*:165,fault=partial-venues:NMS_TIER_1:2025-11-14:45",
        _partial_venues,
        _explain_partial_venues,
        (f"anomalies list --week-ending {WEEK}", f"query otc_symbol_hhi_annotated --week-ending {WEEK} --limit 5"),
        ((WEEK, "research"),),
    ),
    Name.ZERO_VOLUME: Scenario(
        "Records that cannot be true",
        "seed=7,scale=0.2,fault=zero-volume:OTC:2025-11-14:150",
        _zero_volume,
        _explain_zero_volume,
        (f"anomalies list --week-ending {WEEK}", f"rejects {OF_OTC} --limit 5"),
    ),
    Name.LATE_REVISION: Scenario(
        "A week is restated after it was certified",
        "seed=5,scale=0.927,revision_hours=54,fault=added-symbols:OTC:2025-11-14:200",
        _late_revision,
        _explain_late_revision,
        (f"captures impact otc_raw {OF_OTC}", f"query symbol_summary {OF_OTC} --as-of 2025-12-16 --limit 5"),
    ),
    Name.CALENDAR_CORRECTION: Scenario(
        "The calendar is corrected after the analytics ran",
        "seed=7,scale=0.05",
        _calendar_correction,
        _explain_calendar_correction,
        (
            "query volume_per_day --week-ending 2025-01-10 --tier OTC --as-of 2025-02-26 --limit 5",
            "certificates list --week-ending 2025-01-24 --ready-for trading --all",
        ),
        tuple((week, "trading") for week in JANUARY),
    ),
}
