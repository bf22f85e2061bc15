"""Eight processes write and sixteen read one store, all at once: waits, failures and lost updates.

    python benchmarks/run.py --only contention     on SQLite and on PostgreSQL, 60 s each; about four minutes
    python -m benchmarks.contention --seconds 10 --control sqlite

A wait is what `Control.write` measures: from asking for the write lock to having it. A failure is an operation that
raised, or a command that did not end with 0. A lost update is something that a writer was told is done and that is not
in the store afterwards; and besides, transactions are numbered without a gap, and `spine verify` finds nothing.

What belongs here: starting, stopping, counting. What does not: what the processes do (`crowd`).
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import crowd
from benchmarks.crowd import READERS, WRITERS, Kind, Place
from benchmarks.measure import SPINE, child

if TYPE_CHECKING:
    from market_spine.store.store import Store

SECONDS = 60.0
FAIR_SECONDS = 10.0
# Writers that never rest, with the queue of `store.turns`, and with nothing but SQLite's own lock.
QUEUED, ALONE = Kind(8, crowd.commits, 0.0), Kind(8, crowd.commits, 0.0)
FAIR = {"with the queue": QUEUED, "SQLite's lock alone": ALONE}
KINDS: Mapping[str, Kind] = {**WRITERS, **READERS, **FAIR}
START_SECONDS = 180  # until 24 processes on two cores have done their first operation
DATABASES = ("sqlite", "postgres")
PRELOADED = [
    "benchmarks.crowd",
    "market_spine.automation.launch",
    "market_spine.automation.sensors",
    "market_spine.governance.work",
    "market_spine.cli.query",
    "alembic.command",
    "pandera.pandas",
    "pyarrow.parquet",
]


@dataclass
class Told:
    """What one process did: seconds of its operations, its waits for the write lock, failures, and what it claims."""

    kind: str
    operations: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    claims: list[tuple[str, str, str | int]] = field(default_factory=list)


def _work(kind: str, place: Place, report: str, ready: Any, stop: Any) -> None:
    """The body of one process: its operation until ``stop``; whatever fails is told, and it goes on."""
    import structlog

    from market_spine.store import turns
    from market_spine.store.control import Control

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable(logging.CRITICAL)
    chosen, told = KINDS[kind], Told(kind)
    if chosen is ALONE:
        setattr(Control, "turn", lambda _self: nullcontext())  # noqa: B010  # a method, which cannot be assigned to
    turns.tell = lambda _event, seconds, **_more: told.waits.append(seconds)
    operation = chosen.prepare(place)
    told.claims += operation()  # not counted: it imports
    told.waits.clear()
    ready.wait(START_SECONDS)
    while not stop.is_set():
        before, started = len(told.failures), time.perf_counter()
        try:
            told.claims += operation()
        except Exception as error:  # noqa: BLE001  # counted and shown: none is expected
            told.failures.append(f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")
        if len(told.failures) == before:
            told.operations.append(time.perf_counter() - started)
        time.sleep(chosen.rest)
    Path(report).write_text(json.dumps(asdict(told)), encoding="utf-8")


def measure(seconds: float = SECONDS, databases: Sequence[str] = DATABASES) -> dict[str, Any]:
    """Both databases, one after the other."""
    found: dict[str, Any] = {"seconds": seconds}
    for name in databases:
        with tempfile.TemporaryDirectory(prefix="contention-") as home, _url(name) as url:
            place = _loaded(Path(home), url)
            if name == "sqlite":
                found["fairness"] = {kind: _fair(place, kind, min(seconds, FAIR_SECONDS)) for kind in FAIR}
            found[name] = _crowd(place, seconds)
            print(table(name, found[name]), flush=True)
    return found


@contextmanager
def _url(database: str) -> Iterator[str]:
    if database == "sqlite":
        yield ""
        return
    from market_spine_tests.postgres import running

    with running(flags=()) as url:  # as it is installed: every commit reaches the disk
        yield url


def _loaded(home: Path, url: str) -> Place:
    """A store with two weeks of three tiers, and the moment at which that was all."""
    settings = {"MARKET_SPINE_CONTROL_URL": url} if url else {}
    span = ("--from", crowd.WEEKS[0], "--to", crowd.WEEKS[-1])
    child([*SPINE, "--home", str(home), "backfill", *span, "--source", crowd.SOURCE], settings)
    return Place(str(home), url, 0, crowd.now().isoformat())


def _fair(place: Place, kind: str, seconds: float) -> dict[str, Any]:
    """Eight writers of one kind: waits, and how many transactions the least and the most lucky one had."""
    told = _run(place, [kind] * KINDS[kind].processes, seconds)
    each = sorted(len(one.operations) for one in told)
    return {**_summary(kind, KINDS[kind], told), "least": each[0], "most": each[-1]}


def _run(place: Place, kinds: Sequence[str], seconds: float) -> list[Told]:
    """Processes of ``kinds``, at once; what they told. RuntimeError where one ended without a word."""
    forks = multiprocessing.get_context("forkserver")  # from a process without threads that has imported everything
    forks.set_forkserver_preload(PRELOADED)
    ready, stop = forks.Barrier(len(kinds) + 1), forks.Event()
    reports = [Path(place.home) / f"report-{number}.json" for number in range(len(kinds))]
    processes = [
        forks.Process(target=_work, args=(kind, replace(place, number=number), str(reports[number]), ready, stop))
        for number, kind in enumerate(kinds)
    ]
    for process in processes:
        process.start()
    ready.wait(START_SECONDS)
    time.sleep(seconds)
    stop.set()
    for process in processes:
        process.join(START_SECONDS)
    if lost := [kind for kind, path in zip(kinds, reports, strict=True) if not path.exists()]:
        raise RuntimeError(f"processes that told nothing: {lost}")
    told = [Told(**json.loads(path.read_text(encoding="utf-8"))) for path in reports]
    for path in reports:
        path.unlink()
    return told


def _crowd(place: Place, seconds: float) -> dict[str, Any]:
    kinds = [name for name, kind in (*WRITERS.items(), *READERS.items()) for _ in range(kind.processes)]
    told = _run(place, kinds, seconds)
    return {
        "writers": {name: _summary(name, kind, told) for name, kind in WRITERS.items()},
        "readers": {name: _summary(name, kind, told) for name, kind in READERS.items()},
        "failures": sorted({one for each in told for one in each.failures}),
        **_audit(place.store(), [(table, column, value) for one in told for table, column, value in one.claims]),
    }


def _summary(name: str, kind: Kind, told: Sequence[Told]) -> dict[str, Any]:
    same = [one for one in told if one.kind == name]
    return {
        "processes": kind.processes,
        "operations": sum(len(one.operations) for one in same),
        "failures": sum(len(one.failures) for one in same),
        "seconds": _quantiles([value for one in same for value in one.operations]),
        "waits": sum(len(one.waits) for one in same),
        "wait_seconds": _quantiles([value for one in same for value in one.waits]),
    }


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum; none where there is nothing (a command's waits are its own)."""
    held = sorted(values)
    places = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(held[min(len(held) - 1, int(part * len(held)))], 4) for name, part in places.items() if held}


def _audit(store: Store, claims: Sequence[tuple[str, str, str | int]]) -> dict[str, Any]:
    """What the store says afterwards: claims that are not in it, gaps, partitions that are not one, differences."""
    import sqlalchemy as sa

    from market_spine.store.verify import verify

    lost = 0
    with store.control.read() as connection:
        for place in {(table, column) for table, column, _ in claims}:
            table, column = place
            held = set(connection.scalars(sa.text(f"SELECT {column} FROM {table}")))
            lost += sum(1 for one in claims if one[:2] == place and one[2] not in held)
        numbers = list(connection.scalars(sa.text("SELECT seq FROM core_batches ORDER BY seq")))
        current = connection.execute(
            sa.text("SELECT table_name, week_ending, tier FROM core_manifest WHERE is_current = 1")
        )
        twice = [place for place, times in Counter(map(tuple, current)).items() if times > 1]
    differences = verify(store)
    store.control.dispose()
    return {
        "claims": len(claims),
        "lost_updates": lost,
        "transactions": len(numbers),
        "numbered_without_gap": numbers == list(range(1, len(numbers) + 1)),
        "partitions_with_two_current_captures": len(twice),
        "differences": [f"{one.kind} {one.name}: {one.detail}" for one in differences],
    }


def table(name: str, found: dict[str, Any]) -> str:
    """The figures of one database for a terminal."""
    head = ("", "processes", "ops", "failed", "op p50 s", "p99", "max", "waits", "wait p50 ms", "p99", "max")
    rows = [head]
    for kind, one in (found["writers"] | found["readers"]).items():
        seconds = [f"{value:.2f}" for value in one["seconds"].values()] or ["-"] * 3
        waits = [f"{1000 * value:.1f}" for value in one["wait_seconds"].values()] or ["-"] * 3
        rows.append((kind, one["processes"], one["operations"], one["failures"], *seconds, one["waits"] or "-", *waits))
    widths = [max(len(str(row[place])) for row in rows) for place in range(len(head))]
    lines = ["  ".join(str(cell).rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.append(
        f"{name}: {found['transactions']} transactions, {found['lost_updates']} of {found['claims']} updates lost, "
        f"{len(found['differences'])} differences found by verify"
    )
    return "\n".join([*lines, *found["failures"], *found["differences"]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure without writing results; exit code 1 where anything failed or was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--control", choices=DATABASES, action="append", help="one database only")
    chosen = parser.parse_args(arguments)
    found = measure(chosen.seconds, chosen.control or DATABASES)
    return int(
        any(
            found[name]["failures"] or found[name]["lost_updates"] or found[name]["differences"]
            for name in found.keys() & DATABASES
        )
    )


if __name__ == "__main__":
    sys.exit(main())
