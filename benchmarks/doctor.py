"""What looking after a store costs when it is old: `spine doctor`, judging every week, comparing with what is expected.

    python -m benchmarks.doctor [--weeks 156] [--runs 7] [--work FOLDER]

The store has every table of every week and tier, and no Parquet file: all three read the control database only. What
belongs here: such a store, and times. What does not: queries over captures (`queries`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import SPINE, Spread, child

if TYPE_CHECKING:
    from market_spine.domain.keys import WeekKey
    from market_spine.governance.policy import Schedule
    from market_spine.store.store import Store

TARGET_SECONDS = 2.0
WHO = {"execution_id": "benchmark", "batch_id": "benchmark"}
WRITTEN = {"status": "complete", "revision": 1, "is_current": 1, "policy": "versioned", "correlation_id": "benchmark"}
HASHES = {"content_hash": "0" * 32, "file_sha256": "0" * 64}


def make_store(home: Path, count: int, now: datetime) -> Store:
    """A store of the newest ``count`` due weeks of each tier, all captured, calculated and certified in time."""
    from market_spine.assets.expected import schedule_of
    from market_spine.assets.tables import CALENDAR, derived_of
    from market_spine.domain import reference
    from market_spine.domain.keys import WeekKey
    from market_spine.feeds.otc import OTC
    from market_spine.governance.expectations import HEART
    from market_spine.store import heartbeats
    from market_spine.store.store import Store

    store = Store.at(home)
    store.ensure()
    came = dict(_due(schedule_of(OTC), count, now))
    weeks = {WeekKey(key.week_ending, None): moment for key, moment in sorted(came.items(), reverse=True)}
    _begin(store, min(came.values()))
    _put(store, OTC.domain, OTC.sql_name("raw"), "INGESTED", came)
    _put(store, reference.DOMAIN, CALENDAR, "INGESTED", weeks)
    for one in derived_of(OTC):
        table = one.calculation.table
        _put(store, OTC.domain, one.table_name, table.stage.value, came if table.by_tier else weeks, one)
    _certify(store, sorted({key.week_ending for key in came}), now)
    heartbeats.beat(store.control, HEART, now, "0 opened, 0 changed, 0 resolved")
    return store


def _due(schedule: Schedule, count: int, now: datetime) -> Iterator[tuple[WeekKey, datetime]]:
    """Every partition that is due, with the moment at which it came: an hour after it was due."""
    from market_spine.domain.publication import latest_due_week
    from market_spine.domain.weeks import last_n_weeks, weeks_between
    from market_spine.governance.expectations import expected

    latest = [latest_due_week(tier or schedule.first_tier, now) for tier in schedule.tiers]
    first = last_n_weeks(count, min(latest))[0]  # Tier 1 is published a fortnight before the others
    for one in expected(schedule, weeks_between(first, max(latest)), now):
        if one.is_due:
            yield one.key, min(one.due_at + timedelta(hours=1), now)


def _begin(store: Store, moment: datetime) -> None:
    import sqlalchemy as sa

    from market_spine.store.schema import BATCHES

    header = {"seq": 1, "table_name": "otc_raw", "correlation_id": "benchmark", "committed_at": moment}
    with store.control.write() as connection:
        connection.execute(sa.insert(BATCHES), header | WHO)


def _put(store: Store, domain: str, name: str, stage: str, came: dict[WeekKey, datetime], one: Any = None) -> None:
    """A capture of every partition of one table, made from what the planner says it is made from."""
    import sqlalchemy as sa

    from market_spine.store.plan import plan
    from market_spine.store.schema import CAPTURE_INPUTS, MANIFEST

    version = one.calculation.version if one is not None else "1.0"
    rows = {key: _row(domain, name, stage, key, moment, version) for key, moment in came.items()}
    edges = []
    if one is not None:
        with store.control.read() as connection:
            targets = plan(connection, one.calculation, one.table_name, one.inputs, list(came)).targets
        for target in targets:
            rows[target.key]["inputs_hash"] = target.inputs_hash(version)
            capture_id = rows[target.key]["capture_id"]
            edges += [{"capture_id": capture_id, "input_capture_id": source} for source in target.input_ids]
    with store.control.write() as connection:
        connection.execute(sa.insert(MANIFEST), list(rows.values()))
        if edges:
            connection.execute(sa.insert(CAPTURE_INPUTS), edges)


def _row(domain: str, name: str, stage: str, key: WeekKey, moment: datetime, version: str) -> dict[str, Any]:
    place = {"week_ending": key.week_ending, "tier": key.tier_text, "partition_key": key.partition_key}
    named = {"capture_id": f"{name}:{key}", "domain": domain, "table_name": name, "stage": stage}
    file = {"file_path": f"{name}/{key}.parquet", "file_bytes": 500_000, "row_count": 10_000}
    made = {"captured_at": moment, "computed_at": moment, "calc_version": version, "metrics_json": "{}"}
    made["inputs_hash"] = "0" * 32
    return {**WRITTEN, **HASHES, **WHO, **named, **place, **file, **made}


def _certify(store: Store, weeks: Sequence[date], now: datetime) -> None:
    """A verdict per week and use case on record, as a store has them that was watched from its first day."""
    import sqlalchemy as sa

    from market_spine.assets.scope import scope_of
    from market_spine.feeds.otc import OTC
    from market_spine.governance.criteria import CRITERIA
    from market_spine.governance.readiness import assess
    from market_spine.store.trust_tables import CERTIFICATES, READINESS

    verdicts, _ = assess(store, scope_of(OTC), now, weeks)
    certificates, rows = [], []
    for number, one in enumerate(verdicts, 1):
        of = {
            "domain": OTC.domain,
            "week_ending": one.week,
            "ready_for": one.use_case.name,
            "batch_id": WHO["batch_id"],
        }
        identity = f"{number:064}"
        if one.is_ready:
            proof = {"document": "{}", "signature": "0" * 128, "key_id": "0" * 64}
            certificates.append({"certificate_id": identity, **of, **proof})
        state = {"state": one.state.value, "is_ready": int(one.is_ready), "tiers": "[]", "facts_json": "{}"}
        held = {name: int(holds) for name, holds in one.criteria.items() if name in CRITERIA}
        rest = {"partition_key": f"{one.week}", "blocking_issues": "[]", "judged_at": now}
        certificate = {"certificate_id": identity if one.is_ready else None}
        rows.append({"id": number, **of, **state, **held, **rest, **certificate})
    with store.control.write() as connection:
        connection.execute(sa.insert(CERTIFICATES), certificates)
        connection.execute(sa.insert(READINESS), rows)


def measure(work: Path, count: int, runs: int) -> dict[str, Any]:
    """Seconds of the whole command, and of the two looks that the sensors take; min, median and max of ``runs``."""
    now = datetime.now(UTC)
    home = work / f"old_{count}"
    store = make_store(home, count, now)
    command = [*SPINE, "--home", str(home), "doctor", "otc", "--format", "json", "--weeks"]
    found: dict[str, Any] = {"weeks": count, "captures": _captures(store), "target_seconds": TARGET_SECONDS}
    for title, weeks in (("doctor_seconds", 4), ("doctor_all_weeks_seconds", count)):
        samples = [child([*command, str(weeks)]) for _ in range(runs)]
        if json.loads(samples[0].output)["found_partitions"] != 3 * weeks:
            raise RuntimeError(f"the store of {count} weeks is not what was meant: {samples[0].output[:500]}")
        found[title] = Spread.of([one.seconds for one in samples]).as_dict()
        found[title.replace("seconds", "cpu_seconds")] = Spread.of([one.cpu_seconds for one in samples]).as_dict()
    for title, look in _looks(store, now).items():
        found[title] = _timed(look, runs).as_dict()
    store.control.dispose()
    return found


def _captures(store: Store) -> int:
    import sqlalchemy as sa

    from market_spine.store.schema import MANIFEST

    with store.control.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(MANIFEST)) or 0


def _looks(store: Store, now: datetime) -> dict[str, Callable[[], object]]:
    """The doctor's own part of his time, what the readiness sensor judges after every transaction, and what the
    expectations sensor compares."""
    from market_spine.assets.expected import schedule_of
    from market_spine.assets.scope import scope_of
    from market_spine.assets.tables import tables_of
    from market_spine.feeds.otc import OTC
    from market_spine.governance.doctor import examine
    from market_spine.governance.expectations import reconcile
    from market_spine.governance.policy import load_schedules
    from market_spine.governance.readiness import assess
    from market_spine.store.ledger import Run

    run = Run("benchmark", "benchmark", now)
    return {
        "examine_seconds": lambda: examine(store, OTC, schedule_of(OTC), scope_of(OTC), tables_of(OTC), now, 4),
        "assess_seconds": lambda: assess(store, scope_of(OTC), now),
        "reconcile_seconds": lambda: reconcile(store, run, OTC, load_schedules(OTC), tables_of(OTC)),
    }


def _timed(look: Callable[[], object], runs: int) -> Spread:
    look()  # a daemon has looked before: modules and the trading calendar are loaded
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        look()
        times.append(time.perf_counter() - started)
    return Spread.of(times)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=156, help="weeks in the store (default 156)")
    parser.add_argument("--runs", type=int, default=7, help="runs of each (default 7)")
    parser.add_argument("--work", type=Path, help="a folder that is kept")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as temporary:
        found = measure((chosen.work or Path(temporary)).absolute(), chosen.weeks, chosen.runs)
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
