"""Runs the measurements and writes results/*.json and docs/benchmarks.md.

    python benchmarks/run.py            all of it: about half an hour on two cores, 10 GB of disk while it runs
    python benchmarks/run.py --quick    the same with 4 and 8 weeks and one run each; writes no results
    python benchmarks/run.py --only start queries

Measured times are those of a machine at a moment; what is claimed is the ratio to the floor in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import backfill, contention, doctor, kills, load, page, queries, start, weeks, year
from benchmarks.measure import ROOT, child

RESULTS = ROOT / "benchmarks" / "results"


def machine() -> dict[str, Any]:
    """What the numbers depend on; nothing that names the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("duckdb", "dagster", "pandas", "pyarrow", "SQLAlchemy")},
        "load_at_start": round(os.getloadavg()[0], 1),
    }


def profile(work: Path, count: int) -> dict[str, Any]:
    """The stages of one backfill (see `stages`)."""
    folder = weeks.subset(work / "files", work / f"files_{count}", count)
    home = backfill.new_home(work)
    sample = child([sys.executable, "-m", "benchmarks.stages", str(home), str(folder), str(count)])
    return {"weeks": count, **json.loads(sample.output.strip().splitlines()[-1])}


def measures(work: Path, is_quick: bool, runs: int) -> dict[str, Callable[[], dict[str, Any]]]:
    """Name -> the measurement, in an order in which later ones find the stores of earlier ones."""
    few, many = (4, 8) if is_quick else (26, 104)
    return {
        "start": lambda: start.help_text(3 if is_quick else 15),
        "contention": lambda: contention.measure(5 if is_quick else contention.SECONDS),
        "load": lambda: load.measure(*((5, 5) if is_quick else (load.SECONDS, load.STEADY_SECONDS))),
        "year": lambda: year.measure(is_quick),
        "kills": lambda: kills.measure(work / "kills", 20 if is_quick else kills.KILLS),
        "doctor": lambda: doctor.measure(work, 8 if is_quick else 156, 2 if is_quick else 11),
        "backfill_short": lambda: backfill.many_weeks(work, few, runs),
        "week": lambda: backfill.restated_week(work, few, runs),
        "stages": lambda: profile(work, few),
        "queries": lambda: queries.measure(work, few if is_quick else 13, 5 if is_quick else 21),
        "backfill_long": lambda: backfill.many_weeks(work, many, max(1, runs - 1)),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write, and show the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few weeks, one run, no results written")
    parser.add_argument("--runs", type=int, default=3, help="runs of each side (default 3)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these measurements only")
    parser.add_argument("--work", type=Path, help="a folder that is kept, so that weeks are generated once")
    parser.add_argument("--page-only", action="store_true", help="write docs/benchmarks.md from the results")
    chosen = parser.parse_args(arguments)
    if chosen.page_only:
        page.write(RESULTS, ROOT / "docs" / "benchmarks.md")
        return 0
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as temporary:
        work = (chosen.work or Path(temporary)).absolute()
        planned = measures(work, chosen.quick, 1 if chosen.quick else chosen.runs)
        unknown = set(chosen.only or ()) - set(planned)
        if unknown:
            parser.error(f"no measurement is called {', '.join(sorted(unknown))}; there are {', '.join(planned)}")
        needs_weeks = set(chosen.only or planned) - {"start", "doctor", "contention", "load", "kills", "year"}
        if needs_weeks:
            longest = "backfill_long" in needs_weeks
            weeks.write(work / "files", (8 if longest else 4) if chosen.quick else (104 if longest else 26))
        for name, measure in planned.items():
            if chosen.only and name not in chosen.only:
                continue
            found = {"machine": machine(), **measure()}
            print(json.dumps({name: found}), flush=True)
            if not chosen.quick:
                RESULTS.mkdir(parents=True, exist_ok=True)
                (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        for spent in work.glob(f"{backfill.SPENT}*"):
            shutil.rmtree(spent)
    if not chosen.quick:
        page.write(RESULTS, ROOT / "docs" / "benchmarks.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
