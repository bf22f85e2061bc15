"""Which tables a feed has: raw, venue volume, every calculation, and the reference tables they read.

One answer for the asset graph, the commands, the published file and a rebuild.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from market_spine.assets.compute import Step
from market_spine.domain import reference
from market_spine.domain.calculations import load_calculations
from market_spine.domain.contracts import Feed, Table
from market_spine.domain.lineage import column_lineage
from market_spine.domain.normalization import normalization
from market_spine.governance.impact import Lineage
from market_spine.governance.staleness import Derived
from market_spine.store.plan import Input

CALENDAR = f"{reference.NAME}_{reference.TRADING_CALENDAR.name}"


@cache
def steps_of(feed: Feed) -> Mapping[str, Step]:
    """The derived tables of ``feed`` by short name, inputs first."""
    normal = normalization(feed)
    calculations = {normal.calculation.name: normal.calculation, **load_calculations()}
    known: dict[str, tuple[Input, Table]] = {
        "raw": (Input("raw", feed.sql_name("raw"), True), feed.raw),
        "trading_calendar": (Input("trading_calendar", CALENDAR, False), reference.TRADING_CALENDAR),
    }
    steps = {}
    for name, calculation in calculations.items():
        steps[name] = Step(
            feed=feed,
            table_name=feed.sql_name(name),
            calculation=calculation,
            inputs={one: known[one] for one in calculation.inputs},
            rejects_sql=normal.rejects_sql if name == normal.calculation.name else "",
        )
        known[name] = (Input(name, feed.sql_name(name), calculation.table.by_tier), calculation.table)
    return steps


def tables_of(feed: Feed) -> dict[str, Table]:
    """Every captured table that ``feed`` shows, by SQL name, in the order of the stages."""
    derived = {step.table_name: step.table for step in steps_of(feed).values()}
    return {feed.sql_name("raw"): feed.raw, CALENDAR: reference.TRADING_CALENDAR, **derived}


def every_table(feeds: Iterable[Feed]) -> dict[str, Table]:
    """The captured tables of ``feeds``, as `tables_of` has them; what they share once."""
    return {name: table for feed in feeds for name, table in tables_of(feed).items()}


def derived_of(feed: Feed) -> list[Derived]:
    """The derived tables of ``feed`` as `governance` asks about them, inputs first."""
    return [
        Derived(step.table_name, step.calculation, tuple(entry for entry, _ in step.inputs.values()))
        for step in steps_of(feed).values()
    ]


def lineage_of(feed: Feed) -> Lineage:
    """What every column of the derived tables of ``feed`` is computed from, read from the SQL of each."""
    found: dict[str, dict[str, tuple[tuple[str, str], ...]]] = {}
    for step in steps_of(feed).values():
        names = {name: entry.sql_name for name, (entry, _) in step.inputs.items()}
        found[step.table_name] = {
            column: tuple((names[table], source) for table, source in sources)
            for column, sources in column_lineage(step.calculation, step.known_columns).items()
        }
    return found
