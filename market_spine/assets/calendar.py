"""The trading calendar as captured reference data, one partition a week.

Its bytes are landed like any other delivery, so that a rebuild does not depend on the library's next version.
"""

import json
from collections.abc import Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from market_spine.assets import events
from market_spine.assets.calculations import OWNERS, table_schema
from market_spine.assets.capture import Arrival, Evidence, Options, RawReport, RawTable, capture
from market_spine.assets.partitions import WEEKS, week_keys
from market_spine.assets.spine import Spine
from market_spine.assets.tables import CALENDAR
from market_spine.checks.findings import blocked_keys
from market_spine.checks.judge import check_names, judge
from market_spine.domain import reference
from market_spine.domain.keys import WeekKey
from market_spine.domain.sessions import EXCHANGE, sessions_of_week
from market_spine.sources.delivery import Delivery, Part, WeekSource
from market_spine.store.ledger import Run

KEY = dg.AssetKey([reference.NAME, reference.TRADING_CALENDAR.name])
RAW = RawTable(reference.DOMAIN, CALENDAR, reference.TRADING_CALENDAR, reference.TRADING_CALENDAR.name)


def landed_form(key: WeekKey) -> bytes:
    """The sessions of a week as canonical JSON: the bytes that are landed."""
    rows = [
        {
            "exchange_code": EXCHANGE,
            "session_date": one.session_date.isoformat(),
            "opens_at": one.opens_at.isoformat(),
            "closes_at": one.closes_at.isoformat(),
            "session_fraction": one.session_fraction,
        }
        for one in sessions_of_week(key.week_ending)
    ]
    return json.dumps(rows, sort_keys=True, indent=1).encode()


def show_sessions(engine: Any, landed: dict[WeekKey, bytes]) -> None:
    """Landed weeks as the table ``trading_calendar`` of ``engine``."""
    rows = [{"week_ending": str(key.week_ending), **row} for key, data in landed.items() for row in json.loads(data)]
    names = [column.name for column in reference.TRADING_CALENDAR.columns]
    columns = {name: pa.array([str(row[name]) for row in rows], pa.string()) for name in names}
    engine.register("session_texts", pa.table(columns))
    casts = ", ".join(f"CAST({one.name} AS {one.type}) AS {one.name}" for one in reference.TRADING_CALENDAR.columns)
    engine.execute(f"CREATE TABLE trading_calendar AS SELECT {casts} FROM session_texts")


def capture_weeks(spine: Spine, keys: Sequence[WeekKey], run: Run) -> RawReport:
    """Capture the sessions of ``keys``; weeks whose sessions did not change are left alone."""
    spine.store.ensure()
    report = RawReport()
    landed = {key: landed_form(key) for key in keys}
    arrivals = {}
    for key, data in landed.items():
        part = Part(f"{key.week_ending}.json", data, "application/json")
        name = f"exchange_calendars {EXCHANGE}"
        delivery = Delivery(key, (part,), "library", name, WeekSource.REQUEST, run.now)
        arrivals[key] = Arrival(spine.landing.store(delivery, reference.DOMAIN), len(json.loads(data)))
    with spine.engine() as engine:
        show_sessions(engine, landed)
        findings = judge(engine, reference.TRADING_CALENDAR, (), keys)
        report.block(blocked_keys(findings), reference.DOMAIN)
        capture(spine, engine, RAW, arrivals, run, Options(), Evidence(findings), report)
    spine.progress(CALENDAR, len(keys), len(keys))
    return report


def calendar_asset() -> dg.AssetsDefinition:
    """The asset ``[reference, trading_calendar]``."""
    checks = [(name, f"{name} of the declared columns") for name in check_names(())]

    @dg.asset(
        key=KEY,
        partitions_def=WEEKS,
        backfill_policy=dg.BackfillPolicy.single_run(),
        group_name="reference",
        kinds={"exchange_calendars", "parquet"},
        owners=OWNERS,
        tags={"domain": reference.DOMAIN},
        description=reference.TRADING_CALENDAR.description,
        metadata={
            "dagster/column_schema": table_schema(reference.TRADING_CALENDAR),
            "dagster/table_name": CALENDAR,
        },
        check_specs=events.check_specs(KEY, reference.TRADING_CALENDAR, checks),
    )
    def body(context: dg.AssetExecutionContext, spine: dg.ResourceParam[Spine]) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster takes the bare class only
        keys = week_keys(context)
        report = capture_weeks(spine, keys, spine.run_of(context))
        events.tell(context, report)
        return events.result(KEY, keys, report, [name for name, _ in checks])

    return body
