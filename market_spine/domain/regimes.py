"""Regimes of the source: dated changes of what FINRA's numbers mean, and identifiers that were renamed.

What belongs here: one `Regime` per known change, with what is known of it, how, and its link. What does not: judging a
week (`calculations.weekly_baseline`, which writes this registry into its SQL and lets no history cross a regime), and
the shape of deliveries (`feeds`).

A change that is not dated for certain has ``since=None`` and ends no history. A change that no measure depends on is
listed without measures, for the record: whoever looks for it finds that it was thought of.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from market_spine.domain.sqltext import literal


@dataclass(frozen=True, slots=True)
class Regime:
    """One change: ``since`` is the first week_ending (a Friday) that it applies to, None where that is not certain.

    ``measures`` are those of weekly_baseline whose earlier values it makes incomparable; ``renames`` are pairs of an
    MPID as it was and as it is, which are one venue in every week.
    """

    code: str
    since: date | None
    measures: tuple[str, ...]
    note: str
    link: str
    renames: tuple[tuple[str, str], ...] = ()


REGIMES = (
    Regime(
        code="NON_ATS_DE_MINIMIS",
        since=date(2019, 11, 15),
        measures=(),
        note=(
            "Non-ATS volume is published for every firm, without the exception for firms below 200 trades a day, from"
            " the week of 2019-11-11 (Regulatory Notice 19-29, all tiers). It changes rows of non-ATS dealers only, and"
            " no measure here: ATSs never had the exception."
        ),
        link="https://www.finra.org/rules-guidance/notices/19-29",
    ),
    Regime(
        code="FRACTIONAL_SHARES",
        since=date(2026, 2, 27),
        measures=("volume_per_session",),
        note=(
            "Since 2026-02-23 FINRA's facilities for NMS stocks take fractions of a share, up to 6 decimals; before, a"
            " trade below one share was reported as 1 and a larger one without its fraction (the notice; its date from"
            " Nasdaq's Equity Trader Alert 2025-40). 13 % of ATS rows have fractions since. The same trades make less"
            " than one share a trade of difference, under 2 % at the 59 shares a trade of a liquid Tier 1 stock; what"
            " other flow came with it is not measured, so volumes begin a new history. Rows, symbols, venues and trades"
            " were counted alike before, and shares of venues move by less than a point. For OTC equities a later date"
            " was announced and is not known; they get the same border, which costs their volume 4 weeks of history."
        ),
        link="https://www.finra.org/rules-guidance/notices/trade-reporting-notice-032224",
    ),
    Regime(
        code="SIGMA_X2",
        since=None,
        measures=(),
        note=(
            "Goldman Sachs' ATS reports as SGMT what it reported as SGMA. Its dark pool moved to a new system, Sigma"
            " X2, within about a month from 2017-05-12 (a client memo, Bloomberg of that day); that the MPID changed"
            " then, and in which week, could not be confirmed. The two are one venue in every week, so that no history"
            " needs to end. The link is FINRA's list of ATSs, which gives former MPIDs of some."
        ),
        link="https://www.finra.org/filing-reporting/otc-transparency/ats-equity-firms",
        renames=(("SGMA", "SGMT"),),
    ),
)


def canonical_mpid_sql(column: str, regimes: tuple[Regime, ...] = REGIMES) -> str:
    """SQL for the MPID that the venue in ``column`` (an SQL expression) has now; any other MPID stays what it is."""
    pairs = [pair for regime in regimes for pair in regime.renames]
    cases = " ".join(f"WHEN {literal(old)} THEN {literal(new)}" for old, new in pairs)
    return f"CASE {column} {cases} ELSE {column} END" if cases else column


def borders_sql(regimes: tuple[Regime, ...] = REGIMES) -> str:
    """A SELECT of ``code, since, measure``: every dated regime with every measure that it ends the history of."""
    found = [
        f"({literal(regime.code)}, DATE {literal(str(regime.since))}, {literal(measure)})"
        for regime in regimes
        if regime.since
        for measure in regime.measures
    ]
    nothing = "SELECT CAST(NULL AS VARCHAR) AS code, CAST(NULL AS DATE) AS since, CAST(NULL AS VARCHAR) AS measure"
    if not found:
        return f"{nothing} WHERE false"
    return f"SELECT code, since, measure FROM (VALUES {', '.join(found)}) AS r(code, since, measure)"
