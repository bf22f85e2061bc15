"""Where the time of a backfill goes: timers around the functions that do the work, in one process.

    python -m benchmarks.stages HOME FOLDER WEEKS

Timers nest: what an inner one measures is taken away from the outer one, so that the stages of the main thread add up
to the whole. What runs beside it (hashing while files are written) is a stage of its own that overlaps the others, and
its processor time is in theirs. A function that is not where this file says is an error, never a stage of zero seconds.
"""

from __future__ import annotations

import functools
import importlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# stage -> where its functions are looked up at run time: module, attribute (with the class, for methods)
STAGES: dict[str, tuple[tuple[str, str], ...]] = {
    "Dagster: planned events": (("dagster._core.instance.runs.run_domain", "RunDomain._log_asset_planned_events"),),
    "Dagster: event log": (("dagster._core.instance.methods.event_methods", "EventMethods.handle_new_event"),),
    "fetch": (("market_spine.sources.files", "FileSource.fetch"),),
    "landing (waited for)": (("market_spine.assets.ingest", "_landed"),),
    "calendar": (("market_spine.assets.calendar", "capture_weeks"),),
    "parse": (("market_spine.assets.ingest", "parse_chunk"),),
    "calculation SQL and checks": (("market_spine.assets.compute", "_compute_chunk"),),
    "rejects": (("market_spine.assets.compute", "_rejects"), ("market_spine.assets.ingest", "_rejects")),
    "invariants": (("market_spine.checks.judge", "_violated"), ("market_spine.checks.judge", "_is_unique")),
    "pandera": (("market_spine.checks.judge", "check_schema"), ("market_spine.assets.ingest", "check_schema")),
    "content hash": (("market_spine.assets.compute", "contents"), ("market_spine.assets.capture", "contents")),
    "write Parquet": (("market_spine.assets.compute", "write_files"), ("market_spine.assets.capture", "write_files")),
    "control commit": (("market_spine.assets.compute", "commit"), ("market_spine.assets.capture", "commit")),
    "plan": (("market_spine.assets.compute", "plan"),),
    "publish": (("market_spine.assets.published", "publish"),),
    "make assets": (("market_spine.automation.launch", "assets_of"),),
}
BESIDE = " (beside the others)"


@dataclass
class Timers:
    """Self time and calls per stage; a stack, since stages nest. Processor time counts every thread of the process."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cpu: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    stack: list[list[float]] = field(default_factory=list)

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` with a timer around it."""

        @functools.wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return self.beside(stage + BESIDE, functools.partial(function, *arguments, **named))
            self.stack.append([0.0, 0.0])
            started = (time.perf_counter(), time.process_time())
            try:
                return function(*arguments, **named)
            finally:
                whole = (time.perf_counter() - started[0], time.process_time() - started[1])
                inner = self.stack.pop()
                self.seconds[stage] += whole[0] - inner[0]
                self.cpu[stage] += whole[1] - inner[1]
                self.calls[stage] += 1
                if self.stack:
                    self.stack[-1] = [held + own for held, own in zip(self.stack[-1], whole, strict=True)]

        return timed

    def beside(self, stage: str, call: Callable[[], Any]) -> Any:
        """``call`` in a thread of its own: only how long it took is known of it alone."""
        started = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds[stage] += time.perf_counter() - started
            self.calls[stage] += 1


def _places() -> Iterator[tuple[str, Any, str]]:
    for stage, places in STAGES.items():
        for module_name, path in places:
            owner: Any = importlib.import_module(module_name)
            *outer, last = path.split(".")
            for one in outer:
                owner = getattr(owner, one)
            yield stage, owner, last


def main(arguments: Sequence[str]) -> int:
    """A backfill with timers; prints one JSON object."""
    home, folder, count = Path(arguments[0]), Path(arguments[1]), int(arguments[2])
    started = time.perf_counter()
    from market_spine.cli.app import app as spine

    timers = Timers()
    for stage, owner, name in _places():
        setattr(owner, name, timers.wrap(stage, getattr(owner, name)))
    timers.seconds["imports"], timers.cpu["imports"] = time.perf_counter() - started, time.process_time()
    from benchmarks.backfill import backfill_command

    command = backfill_command(home, folder, count)
    sys.argv = ["spine", *command[command.index("--home") :]]
    try:
        spine()
    except SystemExit as ended:
        if ended.code:
            raise
    whole, cpu = time.perf_counter() - started, time.process_time()
    counted = sum(seconds for stage, seconds in timers.seconds.items() if not stage.endswith(BESIDE))
    timers.seconds["everything else"] = whole - counted
    timers.cpu["everything else"] = cpu - sum(timers.cpu.values())
    stages = {
        stage: {"seconds": round(seconds, 2), "cpu_seconds": round(timers.cpu[stage], 2), "calls": timers.calls[stage]}
        for stage, seconds in sorted(timers.seconds.items(), key=lambda item: -item[1])
    }
    print("\n" + json.dumps({"seconds": round(whole, 2), "cpu_seconds": round(cpu, 2), "stages": stages}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
