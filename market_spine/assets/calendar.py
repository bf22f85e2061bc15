"""The trading calendar as captured reference data, one partition a week, from the vintage on record.

Its bytes are landed like any other delivery, so that a rebuild does not depend on the library's next version. They are
the sessions of the week and nothing else: a vintage that says the same of a week does not make a new capture of it.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg
import pyarrow as pa

from market_spine.assets import events
from market_spine.assets.calculations import OWNERS, table_schema
from market_spine.assets.capture import ATTEMPTS, Arrival, Evidence, Options, RawReport, RawTable, capture
from market_spine.assets.partitions import WEEKS, week_keys
from market_spine.assets.spine import Spine
from market_spine.assets.tables import CALENDAR, derived_of
from market_spine.checks.findings import blocked_keys
from market_spine.checks.judge import check_names, judge
from market_spine.domain import reference
from market_spine.domain.captures import VERBS
from market_spine.domain.contracts import Feed
from market_spine.domain.errors import CaptureConflict
from market_spine.domain.keys import WeekKey
from market_spine.domain.sessions import EXCHANGE
from market_spine.domain.vintages import Vintage
from market_spine.governance.anomalies import Changes, record
from market_spine.governance.calendar import LIBRARY, Library, calendar_observations, current_vintage, installed
from market_spine.sources.delivery import Delivery, Part, WeekSource
from market_spine.store import vintages
from market_spine.store.ledger import Run
from market_spine.store.store import Store
from market_spine.store.vintages import Recorded

KEY = dg.AssetKey([reference.NAME, reference.TRADING_CALENDAR.name])
RAW = RawTable(reference.DOMAIN, CALENDAR, reference.TRADING_CALENDAR, reference.TRADING_CALENDAR.name)


def landed_form(key: WeekKey, vintage: Vintage) -> bytes:
    """The sessions of a week as canonical JSON: the bytes that are landed."""
    rows = [
        {
            "exchange_code": EXCHANGE,
            "session_date": one.session_date.isoformat(),
            "opens_at": one.opens_at.isoformat(),
            "closes_at": one.closes_at.isoformat(),
            "session_fraction": one.session_fraction,
        }
        for one in vintage.sessions_of_week(key.week_ending)
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


def capture_weeks(spine: Spine, keys: Sequence[WeekKey], run: Run, library: Library | None = None) -> RawReport:
    """Capture the sessions of ``keys`` by the vintage that holds; weeks whose sessions did not change are left alone.

    The vintage is one of ``library``: the installed build, if unset. Where another vintage is recorded meanwhile, its
    sessions may be in the store already, and were just replaced by older ones: then the weeks are captured once more.
    """
    spine.store.ensure()
    for _ in range(ATTEMPTS):
        recorded = current_vintage(spine.store, run, library or installed())
        report = _capture_from(recorded, spine, keys, run)
        with spine.store.control.read() as connection:
            newest = vintages.newest(connection)
        if newest and newest.number == recorded.number:
            spine.progress(CALENDAR, len(keys), len(keys))
            return report
    raise CaptureConflict(
        f"{CALENDAR}: another vintage was recorded during each of {ATTEMPTS} attempts",
        "see which processes record them: spine calendar list",
    )


def _capture_from(recorded: Recorded, spine: Spine, keys: Sequence[WeekKey], run: Run) -> RawReport:
    report = RawReport()
    landed = {key: landed_form(key, recorded.vintage) for key in keys}
    arrivals = {}
    name = f"{LIBRARY} {recorded.vintage.library_version} {EXCHANGE}, vintage {recorded.number}"
    for key, data in landed.items():
        part = Part(f"{key.week_ending}.json", data, "application/json")
        delivery = Delivery(key, (part,), "library", name, WeekSource.REQUEST, run.now)
        arrivals[key] = Arrival(spine.landing.store(delivery, reference.DOMAIN), len(json.loads(data)))
    with spine.engine() as engine:
        show_sessions(engine, landed)
        findings = judge(engine, reference.TRADING_CALENDAR, (), keys)
        report.block(blocked_keys(findings), reference.DOMAIN)
        capture(spine, engine, RAW, arrivals, run, Options(), Evidence(findings), report)
    return report


def observe_calendar(store: Store, run: Run, feeds: Iterable[Feed]) -> Changes:
    """Put on record which captures of ``feeds`` are made from a calendar that was corrected, and which no longer are.

    To be called whenever weeks of the calendar were captured, and whenever what reads it was made again.
    """
    derived = [one for feed in feeds for one in derived_of(feed)]
    return record(store, run, calendar_observations(store, CALENDAR, derived, VERBS), LIBRARY, counts_repeats=False)


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
