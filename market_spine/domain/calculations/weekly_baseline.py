"""weekly_baseline: is a week of a tier unusual, measured against the twelve weeks before it and the week before?

Grain: (week_ending, tier, measure); eight rows for every partition that has rows. History is what is present of the
twelve Fridays before the week, never the last twelve rows; a gap shortens it. It does not cross a regime of the source
(`domain.regimes`): weeks before one are left out for the measures that it changed. Two weeks side by side are compared
across it.

* venue_count, symbol_count, row_count (rows with a symbol): usual within 25 % of the median, or 4 x 1.4826 x MAD.
  They are taken as they are, since they hardly scale with sessions: three real OTC weeks of 5, 5 and 3.5 sessions have
  5,328, 5,192 and 4,655 rows: 10 % less than the week before in a week that is 30 % shorter.
* volume_per_session, trades_per_session: usual within 50 %, or the same multiple of MAD. Weeks have 5, 4 or 3.5
  sessions, and the Thanksgiving week has 38 % fewer trades. Volume is also unusual if it differs from the consecutive
  week before by more than 50 %, which needs no history.
* missing_venues: venues with at least 1 % of the tier's shares in the week before that have no row; any is high.
* missing_symbols: symbols of the week before that have no row, judged by their own history, as 777 of 3,111 OTC symbols
  did not return in the week after 2025-11-14; only too many are unusual, and 10 beyond the median never are. The oldest
  of the twelve weeks has no week before it to miss symbols of: 11 weeks of history at most.
* largest_share_shift: the largest change of a venue's share of the tier, in percentage points; above 10 is high.

With fewer than 4 weeks a baseline is silent and says why, as is a comparison without the week before; neither is ever
high. Limits are met within 1e-9 of them, so that exactly 50 % is usual whatever the binary fraction.

Caveats
* MAD is the median absolute deviation, and 1.4826 x MAD estimates a standard deviation: fewer than half of the weeks
  may be wrong without moving the limits, and a change that lasts 7 weeks becomes what is usual.
* A week after a partial one is high against it, and a short week misses more symbols than a full one.
* A renamed venue (SGMA is SGMT now) is one venue. Rows without a symbol count in volume, trades and shares of venues.
* Sessions come from `volume_per_day`, so that a corrected calendar reaches the twelve weeks after it.
"""

from __future__ import annotations

from dataclasses import dataclass

from market_spine.domain.captures import Stage
from market_spine.domain.contracts import TIER, WEEK_ENDING, Calculation, Category, Column, Invariant, Severity, Table
from market_spine.domain.invariants import TOLERANCE, equal_per_partition, rows_of
from market_spine.domain.regimes import REGIMES, Regime, borders_sql, canonical_mpid_sql
from market_spine.domain.sqltext import literal

WEEKS_BACK = 12
WEEKS_NEEDED = 4
MADS = 4 * 1.4826  # four standard deviations of normally distributed weeks
COUNT, FLOW = 0.25, 0.5  # share of the median that is always usual
LEEWAY = 10  # symbols that may be missing beyond the median: in Tier 1 it is 0, and a single one would be too many
CHANGE_PCT = 50  # of volume_per_session against the week before
VENUE_PCT = 1  # share of the tier below which nobody asks where a venue is
SHIFT_POINTS = 10
NAMED = 20  # venues named in a subject


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure, a column of `weeks`: how it is judged, and the reason where its value is ``unknown``.

    ``within`` is the share of the median that is always usual, ``leeway`` a number that is, ``at_most`` a limit that
    needs no history. A measure that ``looks_back`` compares with the week before, and only too much is unusual.
    """

    name: str
    description: str
    category: Category
    unknown: str = ""
    within: float | None = None
    leeway: int = 0
    at_most: int | None = None
    looks_back: bool = False

    def row(self) -> str:
        """The measure as a row of VALUES: measure, within, leeway, at_most, looks_back, unknown."""
        at_most = "NULL" if self.at_most is None else self.at_most
        numbers = f"{self.within or 'NULL'}, {self.leeway}, {at_most}, {str(self.looks_back).lower()}"
        return f"({literal(self.name)}, {numbers}, {literal(self.unknown)})"


ROWS, TRADING = Category.COMPLETENESS, Category.CONSISTENCY
NO_SYMBOLS, NO_SESSIONS = "the symbols of the week are not known", "the sessions of the week are not known"
NO_PAIR = "the symbols of this week or of the week before are not known"
NO_SHARES = "nothing was traded in this week or in the week before"
LARGE = f"{VENUE_PCT} % of the shares in the week before"

MEASURES = (
    Measure("venue_count", "Venues of the tier", ROWS, within=COUNT),
    Measure("symbol_count", "Symbols of the tier", ROWS, NO_SYMBOLS, within=COUNT),
    Measure("row_count", "Rows that have a symbol", ROWS, within=COUNT),
    Measure("volume_per_session", "Shares per session", TRADING, NO_SESSIONS, within=FLOW),
    Measure("trades_per_session", "Trades per session", TRADING, NO_SESSIONS, within=FLOW),
    Measure("missing_venues", f"Venues without a row that had {LARGE}", ROWS, at_most=0, looks_back=True),
    Measure("missing_symbols", "Symbols before, without a row", ROWS, NO_PAIR, COUNT, leeway=LEEWAY, looks_back=True),
    Measure(
        "largest_share_shift", "Most that a share moved", TRADING, NO_SHARES, at_most=SHIFT_POINTS, looks_back=True
    ),
)
RULES = (
    "SELECT measure, CAST(within AS DOUBLE) AS within, CAST(at_most AS DOUBLE) AS at_most, leeway, looks_back, unknown"
    f" FROM (VALUES {', '.join(measure.row() for measure in MEASURES)})"
    " AS m(measure, within, leeway, at_most, looks_back, unknown)"
)

# What limits and verdict follow from: the same words decide in the SELECT and in its invariant.
CHANGE = "(value - previous) / nullif(previous, 0) * 100"
SPREAD = f"greatest({MADS} * mad, within * median, leeway)"
UPPER = f"coalesce(at_most, CASE WHEN weeks_of_history >= {WEEKS_NEEDED} THEN median + {SPREAD} END)"
LOWER = f"CASE WHEN {UPPER} IS NOT NULL THEN CASE WHEN looks_back THEN 0 ELSE greatest(0, median - {SPREAD}) END END"
IS_OUTSIDE = f"coalesce(value > upper * (1 + {TOLERANCE}) OR value < lower * (1 - {TOLERANCE}), false)"
HAS_JUMPED = f"coalesce(measure = 'volume_per_session' AND abs(change_pct) > {CHANGE_PCT} * (1 + {TOLERANCE}), false)"
VERDICT = f"""CASE
            WHEN value IS NULL THEN 'silent'
            WHEN {IS_OUTSIDE} THEN CASE WHEN value > upper THEN 'high' ELSE 'low' END
            WHEN {HAS_JUMPED} THEN CASE WHEN change_pct > 0 THEN 'high' ELSE 'low' END
            WHEN upper IS NULL THEN 'silent'
            ELSE 'usual'
        END"""

# Every week of the inputs becomes one row of `weeks`, which all measures are read from. Symbols are touched twice: to
# count them, and to find those that stayed.
WEEKS = f"""
    tiers AS (
        SELECT
            week_ending,
            tier,
            count(venue) AS venue_count,
            sum(row_count) AS row_count,
            CAST(sum(volume) AS DECIMAL(25,6)) AS volume,
            sum(trades) AS trades
        FROM venues
        GROUP BY week_ending, tier
    ),
    symbols AS (
        SELECT week_ending, tier, count(symbol) AS symbol_count, max(session_count) AS session_count
        FROM volume_per_day
        GROUP BY week_ending, tier
    ),
    stayed AS (
        SELECT v.week_ending, v.tier, count(v.symbol) AS stayed_count
        FROM volume_per_day AS v
        JOIN volume_per_day AS b
            ON b.week_ending = CAST(v.week_ending - 7 AS DATE) AND b.tier = v.tier AND b.symbol = v.symbol
        GROUP BY v.week_ending, v.tier
    ),
    known AS (
        SELECT t.*, s.session_count, coalesce(s.symbol_count, CASE WHEN t.row_count = 0 THEN 0 END) AS symbol_count
        FROM tiers AS t LEFT JOIN symbols AS s ON s.week_ending = t.week_ending AND s.tier = t.tier
    ),
    pairs AS (
        SELECT
            k.week_ending,
            k.tier,
            k.volume,
            b.volume AS volume_before,
            b.symbol_count - CASE WHEN k.symbol_count IS NOT NULL THEN coalesce(s.stayed_count, 0) END
                AS missing_symbols
        FROM known AS k
        JOIN known AS b ON b.week_ending = CAST(k.week_ending - 7 AS DATE) AND b.tier = k.tier
        LEFT JOIN stayed AS s ON s.week_ending = k.week_ending AND s.tier = k.tier
    ),
    moves AS (
        SELECT
            p.week_ending,
            p.tier,
            v.venue,
            p.missing_symbols,
            max(v.volume) FILTER (WHERE v.week_ending = p.week_ending) IS NULL
                AND 100 * max(v.volume) >= {VENUE_PCT} * p.volume_before AND p.volume_before > 0 AS is_missing,
            CAST(coalesce(max(v.volume) FILTER (WHERE v.week_ending = p.week_ending), 0) AS DOUBLE)
                / CAST(nullif(p.volume, 0) AS DOUBLE) * 100
                - CAST(coalesce(max(v.volume) FILTER (WHERE v.week_ending < p.week_ending), 0) AS DOUBLE)
                / CAST(nullif(p.volume_before, 0) AS DOUBLE) * 100 AS shift
        FROM pairs AS p
        JOIN venues AS v ON v.tier = p.tier AND v.week_ending IN (p.week_ending, CAST(p.week_ending - 7 AS DATE))
        GROUP BY p.week_ending, p.tier, v.venue, p.missing_symbols, p.volume, p.volume_before
    ),
    changes AS (
        SELECT
            week_ending,
            tier,
            max(missing_symbols) AS missing_symbols,
            count(venue) FILTER (WHERE is_missing) AS missing_venues,
            array_to_string(list_slice(list(venue ORDER BY venue) FILTER (WHERE is_missing), 1, {NAMED}), ', ')
                AS missing_names,
            max(abs(shift)) AS largest_share_shift,
            first(
                venue || ' ' || format('{{:+.2f}}', round(shift, 2) + 0) || ' points'
                ORDER BY round(abs(shift), 9) DESC, venue
            ) AS shifted_name
        FROM moves
        GROUP BY week_ending, tier
    ),
    weeks AS (
        SELECT
            k.*,
            CAST(k.volume AS DOUBLE) / k.session_count AS volume_per_session,
            CAST(k.trades AS DOUBLE) / k.session_count AS trades_per_session,
            c.* EXCLUDE (week_ending, tier),
            c.week_ending IS NOT NULL AS has_week_before
        FROM known AS k LEFT JOIN changes AS c ON c.week_ending = k.week_ending AND c.tier = k.tier
    )"""

VALUES = " ".join(f"WHEN {literal(one.name)} THEN CAST(w.{one.name} AS DOUBLE)" for one in MEASURES)
# Values in long form, their history, limits, verdict and subject. The oldest of the twelve weeks has no week before it
# where its partition is computed alone, so it is no history of a measure that looks back where others are there either.
JUDGED = f"""
    rules AS ({RULES}),
    borders AS (
        SELECT a.week_ending, r.measure, max(r.since) AS since, arg_max(r.code, r.since) AS code
        FROM (SELECT DISTINCT week_ending FROM wanted) AS a JOIN regimes AS r ON r.since <= a.week_ending
        GROUP BY a.week_ending, r.measure
    ),
    points AS (
        SELECT w.week_ending, w.tier, m.measure, CASE m.measure {VALUES} END AS value
        FROM weeks AS w CROSS JOIN rules AS m
    ),
    frames AS (
        SELECT
            w.week_ending,
            w.tier,
            m.measure,
            b.i AS back,
            CAST(w.week_ending - CAST(7 * b.i AS INTEGER) AS DATE) AS frame_week,
            b.i BETWEEN 1 AND {WEEKS_BACK} - CAST(m.looks_back AS INTEGER) AS is_window
        FROM wanted AS w CROSS JOIN range({WEEKS_BACK + 1}) AS b(i) CROSS JOIN rules AS m
    ),
    seen AS (
        SELECT
            f.week_ending,
            f.tier,
            f.measure,
            f.back,
            p.value,
            f.is_window AND p.week_ending >= coalesce(b.since, p.week_ending) AS is_history,
            CASE WHEN f.is_window AND p.week_ending < b.since THEN b.code || ' since ' || CAST(b.since AS VARCHAR) END
                AS regime
        FROM frames AS f
        JOIN points AS p ON p.week_ending = f.frame_week AND p.tier = f.tier AND p.measure = f.measure
        LEFT JOIN borders AS b ON b.week_ending = f.week_ending AND b.measure = f.measure
    ),
    history AS (
        SELECT
            week_ending,
            tier,
            measure,
            max(value) FILTER (WHERE back = 0) AS value,
            max(value) FILTER (WHERE back = 1) AS previous,
            median(value) FILTER (WHERE is_history) AS median,
            mad(value) FILTER (WHERE is_history) AS mad,
            CAST(count(value) FILTER (WHERE is_history) AS INTEGER) AS weeks_of_history,
            max(regime) AS regime
        FROM seen
        GROUP BY week_ending, tier, measure
    ),
    limits AS (
        SELECT h.*, m.looks_back, m.unknown, {CHANGE} AS change_pct, {LOWER} AS lower, {UPPER} AS upper
        FROM history AS h JOIN rules AS m ON m.measure = h.measure
    ),
    judged AS (SELECT *, {VERDICT} AS verdict FROM limits)
    SELECT
        w.week_ending,
        w.tier,
        j.measure,
        j.value,
        j.previous,
        j.change_pct,
        j.median,
        j.mad,
        j.weeks_of_history,
        j.lower,
        j.upper,
        j.verdict,
        CASE
            WHEN j.verdict = 'silent' AND j.looks_back AND NOT w.has_week_before THEN 'the week before is not there'
            WHEN j.verdict = 'silent' AND j.value IS NULL THEN j.unknown
            WHEN j.verdict = 'silent' THEN
                coalesce('regime ' || j.regime || ': ', '') || CAST(j.weeks_of_history AS VARCHAR)
                || CASE WHEN j.weeks_of_history = 1 THEN ' week' ELSE ' weeks' END
                || ' of history, {WEEKS_NEEDED} are needed'
            WHEN j.measure = 'missing_venues' THEN nullif(w.missing_names, '')
            WHEN j.measure = 'largest_share_shift' THEN w.shifted_name
        END AS subject
    FROM judged AS j JOIN weeks AS w ON w.week_ending = j.week_ending AND w.tier = j.tier"""


def baseline_sql(regimes: tuple[Regime, ...] = REGIMES) -> str:
    """The whole SELECT, with the registry written in: the same text for the same registry."""
    venue = canonical_mpid_sql("mpid", regimes)
    return f"""
    WITH regimes AS ({borders_sql(regimes)}),
    venues AS (
        SELECT
            week_ending,
            tier,
            {venue} AS venue,
            CAST(sum(total_volume) AS DECIMAL(25,6)) AS volume,
            sum(total_trades) AS trades,
            sum(symbol_count) AS row_count
        FROM venue_share
        GROUP BY week_ending, tier, {venue}
    ),{WEEKS},{JUDGED}"""


def _text(number: str) -> str:
    """SQL for a number as people write it: thousands apart, one decimal unless it is 0."""
    return f"rtrim(rtrim(format('{{:,.1f}}', {number}), '0'), '.')"


def _words(measure: Measure) -> tuple[str, str]:
    """SQL of what a finding of ``measure`` says it observed and expected."""
    if measure.name == "missing_venues":
        return f"{_text('value')} || ' (' || subject || ')'", literal(f"none that had {LARGE}")
    if measure.at_most is not None:
        return "subject", literal(f"within {measure.at_most} points of the week before")
    whole = measure.within == COUNT
    lower, upper = (_text("ceil(lower)"), _text("floor(upper)")) if whole else (_text("lower"), _text("upper"))
    limits = f"'at most ' || {upper}" if measure.looks_back else f"{lower} || ' to ' || {upper}"
    history = f"' (median ' || {_text('median')} || ' of ' || CAST(weeks_of_history AS VARCHAR) || ' weeks)'"
    return _text("value"), f"{limits} || {history}"


def _usual(measure: Measure) -> Invariant:
    """WARN: the verdict of ``measure`` is usual, or silent; reports the week in words."""
    observed, expected = _words(measure)
    jumped = f"{HAS_JUMPED} AND NOT {IS_OUTSIDE}"
    jump = f"CASE WHEN change_pct > 0 THEN '+' ELSE '' END || {_text('change_pct')} || ' % against the week before'"
    return Invariant(
        f"usual_{measure.name}",
        f"{measure.description}: as usual.",
        f"""
        SELECT
            week_ending,
            tier,
            CASE WHEN {jumped} THEN {jump} ELSE {observed} END AS observed,
            CASE WHEN {jumped} THEN 'within {CHANGE_PCT} %' ELSE {expected} END AS expected
        FROM weekly_baseline
        WHERE measure = {literal(measure.name)} AND verdict NOT IN ('usual', 'silent')""",
        Severity.WARN,
        measure.category,
        message=f"{measure.name.replace('_', ' ')}: {{observed}}; usual is {{expected}}",
    )


COLUMNS = (
    WEEK_ENDING,
    TIER,
    Column("measure", "VARCHAR", "What is judged", isin=tuple(measure.name for measure in MEASURES)),
    Column("value", "DOUBLE", "Its value in the week; NULL where it cannot be known", nullable=True, ge=0),
    Column("previous", "DOUBLE", "Its value in the week before; NULL without that week", nullable=True, ge=0),
    Column("change_pct", "DOUBLE", "Percent of value above previous; NULL where that is 0", nullable=True, ge=-100),
    Column("median", "DOUBLE", "Median of the weeks of history", nullable=True, ge=0),
    Column("mad", "DOUBLE", "Median absolute deviation of the weeks of history from it", nullable=True, ge=0),
    Column("weeks_of_history", "INTEGER", "Weeks that median and mad are over", ge=0, le=WEEKS_BACK),
    Column("lower", "DOUBLE", "Least value that is usual; NULL without a baseline", nullable=True, ge=0),
    Column("upper", "DOUBLE", "Largest value that is usual; NULL without a baseline", nullable=True, ge=0),
    Column("verdict", "VARCHAR", "How the week is judged", isin=("usual", "low", "high", "silent")),
    Column("subject", "VARCHAR", "Venues that it is about, or why the verdict is silent", nullable=True),
)

CALCULATION = Calculation(
    table=Table(
        name="weekly_baseline",
        stage=Stage.ROLLING,
        grain=("week_ending", "tier", "measure"),
        description="Whether a week of a tier is unusual against the weeks before it, measure by measure.",
        columns=COLUMNS,
    ),
    version="1.0",
    inputs=("volume_per_day", "venue_share"),
    sql=baseline_sql(),
    weeks_back=WEEKS_BACK,
    invariants=(
        equal_per_partition(
            "row_count",
            f"{len(MEASURES)} rows, one per measure.",
            observed=rows_of("weekly_baseline"),
            expected=f"SELECT DISTINCT week_ending, tier, {len(MEASURES)} AS value"
            " FROM venue_share SEMI JOIN wanted USING (week_ending, tier)",
            category=Category.COMPLETENESS,
        ),
        Invariant(
            "verdict_agrees",
            "Change, limits and verdict follow from value, history and rules, and silence has a reason; reports rows.",
            f"""
            WITH rules AS ({RULES})
            SELECT week_ending, tier, CAST(count(*) AS DOUBLE) AS observed, CAST(0 AS DOUBLE) AS expected
            FROM weekly_baseline JOIN rules USING (measure)
            WHERE verdict IS DISTINCT FROM {VERDICT} OR change_pct IS DISTINCT FROM {CHANGE}
                OR lower IS DISTINCT FROM {LOWER} OR upper IS DISTINCT FROM {UPPER}
                OR verdict = 'silent' AND subject IS NULL
            GROUP BY week_ending, tier""",
        ),
        *(_usual(measure) for measure in MEASURES),
    ),
    assumptions=(
        "venue_share has one row per (week_ending, tier, mpid), volume_per_day one per (week_ending, tier, symbol).",
        "wanted holds each asked (week_ending, tier) once; the inputs hold its twelve weeks before where they exist.",
        "A tier trades fewer than 1e18 shares a week, and all its symbols of a week have the same sessions.",
    ),
    expected_rows=f"{len(MEASURES)} per partition that has rows, one per measure",
)
