"""A simulated year: 52 weeks of the daemon's decisions, with a clock that is moved and a loopback FINRA that is late,
empty, cut short, restating and down by the script below; nobody helps.

    python benchmarks/run.py --only year      a quarter of an hour; with --quick the first month

What must follow is worked out from the script alone (`market_spine_tests.journeys.year_oracle` and `year_names`), and
everything in the store, on the work ledger and among Dagster's runs is held against it (`year_verdict`). The same
machinery plays two weeks in the suite. What belongs here: the script of the year, and its figures by month.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import child

if TYPE_CHECKING:
    from market_spine_tests.journeys.year_verdict import Verdict

WEEKS = 52
FIRST_OF_YEAR, LAST_OF_YEAR = "2025-01-03", "2025-12-26"
BEGIN, END, FIRST = "2025-01-21 06:00", "2026-02-06 12:00", "2024-12-20"
OFF = ("2025-06-26 00:00", "2025-07-31 08:00")  # the platform: no tick for five weeks
QUICK_END = "2025-02-26 12:00"
YEAR = """
# week      tier  what        from (New York)   until             # what it is meant to show
2025-02-07  T1    late        2025-02-24 14:45                    # by hours: found by the poll
2025-02-14  T2    late        2025-03-19 16:20                    # by days: found on the next weekday
2025-02-21  OTC   late        2025-03-25 10:12                    # after its deadline, by minutes
2025-03-07  OTC   late        2025-05-14 11:40                    # nothing for five weeks
2025-12-05  T1    never                                           # and nothing ever
all         -     down        2025-03-31 07:00  2025-04-01 07:00  # HTTP 503 for the day of publication
all         -     down        2025-10-08 11:40  2025-10-08 13:30  # and over a second look
2025-03-21  T1    cut         2025-04-07 06:00  2025-04-07 15:00  # fewer rows than Record-Total says
2025-04-04  T1    page        2025-04-21 06:00  2025-04-22 20:00  # a web page
2025-03-28  T1    restated    2025-05-02 12:00                    # told by nobody
2025-05-02  T2    restated    2025-06-05 12:00
2025-05-02  T2    restated    2025-06-17 15:00                    # a second time
2025-05-09  T1    restated    2025-06-06 12:00
2025-05-09  T1    reverted    2025-06-13 12:00                    # back to what it was
2025-05-16  T1    restated    2025-06-12 12:00
2025-05-16  T1    reverted    2025-06-16 12:00                    # back before anybody looked
2025-04-25  OTC   impossible  2025-06-06 15:00                    # trades without shares, until then
2025-08-22  T1    impossible  2025-09-16 15:00
2025-05-23  OTC   restated    2025-07-07 12:00                    # while the platform is off
2025-05-23  OTC   restated    2025-07-21 12:00
2025-08-15  T1    columns     2025-09-02 06:00  2025-09-03 06:00  # another header for the day of publication
2025-09-05  T2    doubled                                         # three rows twice
2025-10-17  T1    late        2025-11-03 15:50                    # on the day after the clocks went back
all         -     columns     2025-11-19 06:00  2025-11-20 06:00  # another header on the day of the second look
2025-10-31  T2    restated    2025-12-02 12:00                    # on its third day
"""
FIGURES = ("captured", "versions", "certified", "faults named", "complete", "failed", "runs")


def measure(is_quick: bool = False) -> dict[str, Any]:
    """The year in a process of its own: its figures by month, and what was not as it must be."""
    quick = ["--quick"] if is_quick else []
    sample = child([sys.executable, "-m", "benchmarks.year", *quick])
    found: dict[str, Any] = json.loads(sample.output.strip().splitlines()[-1])
    found |= {"cpu_seconds": round(sample.cpu_seconds), "peak_mib": round(sample.peak_mib)}
    print(table(found), flush=True)
    return found


def play(is_quick: bool) -> dict[str, Any]:
    """The year, here."""
    from market_spine_tests.journeys.year_daemon import year
    from market_spine_tests.journeys.year_oracle import Oracle
    from market_spine_tests.journeys.year_script import Script
    from market_spine_tests.journeys.year_verdict import Left, Verdict

    script = Script.of(YEAR, BEGIN, QUICK_END if is_quick else END, FIRST, OFF)
    with tempfile.TemporaryDirectory(prefix="year-") as folder, year(Path(folder) / "home", script) as played:
        started = time.perf_counter()
        played.play()
        seconds = time.perf_counter() - started
        verdict = Verdict(Left(played), Oracle(script))
        return {
            "first_week": FIRST_OF_YEAR,
            "last_week": LAST_OF_YEAR,
            "partitions": sum(FIRST_OF_YEAR <= str(key.week) <= LAST_OF_YEAR for key in script.keys),
            "lines_of_script": len(script.lines),
            "seconds": round(seconds, 1),
            "ticks": played.counts["rounds"] * len(played.daemon.sensors),
            "months": months(verdict),
            "complaints": verdict.complaints(),
        }


def months(verdict: Verdict) -> dict[str, dict[str, Any]]:
    """Month -> what happened in it; an ask counts where it was asked."""
    counted: dict[str, Counter[str]] = {name: Counter() for name in verdict.left.year.months}

    def count(word: str, at: Any) -> None:
        counted[f"{at:%Y-%m}"][word] += 1

    for captures in verdict.left.captured.values():
        for number, row in enumerate(captures):
            count("versions" if number else "captured", row["captured_at"])
    for spans in verdict.left.certified.values():
        count("certified", spans[0].begin)
    for at in verdict.faults:
        count("faults named", at)
    for items in verdict.left.items.values():
        for row in items:
            count(row["state"].lower(), row["created_at"])
    for name, month in verdict.left.year.months.items():
        counted[name]["runs"] = month.runs
    return {
        name: {word: counted[name][word] for word in FIGURES} | {"seconds": round(month.seconds, 1)}
        for name, month in sorted(verdict.left.year.months.items())
    }


def table(found: dict[str, Any]) -> str:
    """The figures for a terminal, within 100 columns."""
    names = (*FIGURES, "seconds")
    rows = [(month, *(one[name] for name in names)) for month, one in found["months"].items()]
    rows.append(("in all", *(round(sum(row[place] for row in rows), 1) for place in range(1, len(names) + 1))))
    widths = [max(len(str(row[place])) for row in [("month", *names), *rows]) for place in range(len(names) + 1)]
    lines = [
        "  ".join(f"{value!s:>{width}}" for value, width in zip(row, widths, strict=True))
        for row in [("month", *names), *rows]
    ]
    return "\n".join([*lines, "", *verdict_of(found)])


def verdict_of(found: dict[str, Any]) -> list[str]:
    """In words: everything as the script says, or what is not."""
    kept = f"{found['partitions']} partitions, {found['lines_of_script']} lines of script, {found['ticks']:,} ticks"
    if not found["complaints"]:
        return [f"{kept}: everything is as it must be"]
    return [f"{kept}: {len(found['complaints'])} things are not as they must be:", *found["complaints"]]


if __name__ == "__main__":
    logging.disable(logging.INFO)  # what each tick says
    print(json.dumps(play("--quick" in sys.argv[1:])))
