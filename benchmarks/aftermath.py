"""What is left when a platform that was killed at has come to rest: is all of it whole, and nothing stuck?

What belongs here: waiting for rest, and verdicts by name, each with what speaks against it. What does not: killing.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

    from benchmarks.bustle import Bustle
    from market_spine.store.store import Store

Hashes = dict[tuple[str, str], str]
CLAIM_TAG = "market_spine/claim"
REST_SECONDS = (
    90.0  # nothing open and nothing running for so long: three looks of the slowest sensor that asks for runs
)
LOOK_SECONDS = 2.0
SHOWN = 5
# What Dagster says while the code server is away; it goes on by itself.
AWAY = ("Could not reach user code server", "Unable to reach the user code server", "UNAVAILABLE", "ocation", "socket")


def hashes(store: Store) -> Hashes:
    """Table and partition -> content hash, of what is current."""
    from market_spine.store.manifest import Question, tables

    with store.control.read() as connection:
        names = tuple(tables(connection))
    return {(one.table_name, str(one.key)): one.content_hash for one in store.select(Question(names))}


def unfinished(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Dagster's runs that are not over."""
    return [one for one in instance.get_runs() if not one.is_finished]


def rest(store: Store, instance: dg.DagsterInstance, bustle: Bustle, limit: float) -> float | None:
    """Seconds until everything had come to rest, without hands; None where it had not after ``limit`` seconds."""
    from market_spine.store import work

    started = time.monotonic()
    busy = started
    while time.monotonic() - started < limit:
        with store.control.read() as connection:
            is_open = bool(work.items(connection, states=work.OPEN))
        if is_open or not bustle.all_asked(store) or unfinished(instance):
            busy = time.monotonic()
        if time.monotonic() - busy > REST_SECONDS:
            return busy - started
        time.sleep(LOOK_SECONDS)
    return None


def verdicts(
    store: Store, instance: dg.DagsterInstance, bustle: Bustle, twins: Mapping[str, Hashes], alone: frozenset[str]
) -> dict[str, list[str]]:
    """What must hold -> what speaks against it; nothing, if all is well.

    ``twins`` are undisturbed homes after each release; the content of the tables ``alone`` depends on one partition.
    """
    from market_spine.store.verify import verify

    found = {"spine verify finds nothing": [f"{one.kind} {one.name}: {one.detail}" for one in verify(store)]}
    found |= _of_items(store, instance, bustle)
    found |= _of_runs(instance, bustle.platform.home)
    found["no reader met an error or half a week"] = [one for one in bustle.failures if not one.startswith("spine ")]
    found["no command failed that was not killed"] = [one for one in bustle.failures if one.startswith("spine ")]
    last = hashes(store)
    twin = [*twins.values()][-1]
    found["content as of an undisturbed twin"] = [
        f"{place}: {last.get(place)} is not {twin.get(place)}"
        for place in sorted(last.keys() | twin.keys())
        if last.get(place) != twin.get(place)
    ]
    known = {(*place, content) for one in twins.values() for place, content in one.items()}
    found["each content seen meanwhile was published"] = sorted(
        f"{name} {key}" for name, key, content in bustle.seen if name in alone and (name, key, content) not in known
    )
    found["spine gc sweeps all left-overs"] = _left_over(store)
    return found


def _of_items(store: Store, instance: dg.DagsterInstance, bustle: Bustle) -> dict[str, list[str]]:
    """The ledger, and whether it agrees with Dagster."""
    import dagster as dg

    from market_spine.domain.work import WorkState
    from market_spine.store import work

    with store.control.read() as connection:
        items = work.items(connection)
        newest = work.newest(connection, [(row["domain"], row["pipeline"], row["partition_key"]) for row in items])
    of_run = {one.run_id: one for one in instance.get_runs()}
    told = {row["id"]: f"item {row['id']} {row['partition_key']} {row['state']}: {row['last_error']}" for row in items}
    complete = [row for row in items if row["state"] == WorkState.COMPLETE]
    right = {
        row["id"]
        for row in complete
        if (run := of_run.get(row["latest_execution_id"] or "")) and run.status is dg.DagsterRunStatus.SUCCESS
    }
    claims = Counter(run.tags[CLAIM_TAG] for run in of_run.values() if CLAIM_TAG in run.tags)
    return {
        "every item that was accepted is there": [f"item {one} is lost" for one in bustle.asked - told.keys()],
        "every partition's newest item is COMPLETE": [
            told[row["id"]] for row in newest.values() if row["state"] != WorkState.COMPLETE
        ],
        "no item is open": [told[row["id"]] for row in items if row["state"] in work.OPEN],
        "every COMPLETE item has a successful run": [told[row["id"]] for row in complete if row["id"] not in right],
        "no claim has two runs": [f"{claim}: {count}" for claim, count in claims.items() if count > 1],
    }


def _of_runs(instance: dg.DagsterInstance, home: Path) -> dict[str, list[str]]:
    """Dagster's own record."""
    import dagster as dg

    errors = []
    for state in instance.all_instigator_state():
        for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id):
            said = tick.error.to_string() if tick.error else "no reason"
            if tick.status.value == "FAILURE" and not any(word in said for word in AWAY):
                errors.append(f"{state.instigator_name}: {said[-300:]}")
    broken = []
    for path in [*(home / "dagster" / "history").rglob("*.db"), *(home / "dagster" / "schedules").rglob("*.db")]:
        with closing(sqlite3.connect(path)) as connection:
            said = connection.execute("PRAGMA integrity_check").fetchone()[0]
        broken += [] if said == "ok" else [f"{path.name}: {said}"]
    logs = [path.read_text(encoding="utf-8", errors="replace") for path in home.glob("*.log")]
    locked = sum(len(re.findall("database is locked", text)) for text in logs)
    events = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    return {
        "no run of Dagster's is left STARTED": [f"{run.run_id} of {run.job_name}" for run in events],
        "no other run is left unfinished": [f"{run.run_id} {run.status.value}" for run in unfinished(instance)],
        "no tick failed but for want of a code server": errors,
        "Dagster's databases are whole, never locked": broken + ([f"locked {locked} times"] if locked else []),
    }


def _left_over(store: Store) -> list[str]:
    """Files that nothing names once the sweep is over."""
    import sqlalchemy as sa

    from market_spine.store.gc import collect
    from market_spine.store.schema import MANIFEST

    collect(store, datetime.now(UTC) + timedelta(hours=2), timedelta(hours=1))
    home = store.home
    with store.control.read() as connection:
        named = {home.captures / path for path in connection.scalars(sa.select(MANIFEST.c.file_path))}
    there = {path for path in home.captures.rglob("*") if path.is_file()}
    parts = [*home.landing.rglob("*.tmp"), *home.root.glob(".*.tmp*")]
    return sorted(str(path.relative_to(home.root)) for path in (there ^ named) | {*parts})
