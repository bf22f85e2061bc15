"""docs/benchmarks.md, written from results/*.json and from nothing else, so that the page cannot say another number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write(results: Path, target: Path) -> None:
    """The page of everything that has been measured."""
    target.write_text(render(results), encoding="utf-8")


def render(results: Path) -> str:
    """The page's text; ``results`` holds one file per measurement."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}
    sections = {
        "backfill_short": _backfills,
        "week": _week,
        "queries": _queries,
        "contention": _contention,
        "load": _load,
        "kills": _kills,
        "year": _year,
        "doctor": _doctor,
        "start": _start,
        "stages": _stages,
    }
    if not found:
        raise SystemExit(f"no results in {results}: run python benchmarks/run.py first")
    parts = [HEAD, *(section(found) for name, section in sections.items() if name in found), _machines(found)]
    return "\n".join(parts)


HEAD = """# Benchmarks

Written by `python benchmarks/run.py`; edit that, not this page.

Every measurement is a **ratio to a floor** taken by turns in the same run (floor, ours, floor, ours ...), because times
of a shared machine say little: only the ratio is claimed. Times are seconds of wall clock of whole processes, imports
included, as min / **median** / max. The floor of a backfill is one DuckDB process that reads the same files with
`read_csv` and runs the same SQL into tables of one database file: no orchestration, no checks, no rejects, no content
hashes, no captures, no history. What the platform takes beyond the floor is the price of those.
Every run begins an empty store in a new folder, and no store is deleted before all is measured: ext4 looks long for
inodes where many were freed in the last minutes.
A target that is missed is shown as missed. Where the load at the start (last table) is above the number of cores, other
programs ran at the same time: wall clock is then stretched and spread, and the ratio of CPU is the steadier number.
"""


def _spread(one: dict[str, float]) -> str:
    return f"{one['min']:g} / **{one['median']:g}** / {one['max']:g}"


def _verdict(value: float, target: float | None) -> str:
    if target is None:
        return "-"
    return f"at most {target:g}: {'met' if value <= target else '**missed**'}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def _backfills(found: dict[str, Any]) -> str:
    held = [found[name] for name in ("backfill_short", "backfill_long") if name in found]
    head = ("weeks x tiers", "rows", "runs", "floor s", "ours s", "ratio", "ratio of CPU", "target", "peak MiB")
    rows = []
    for one in held:
        cpu = one["ours_cpu_seconds"]["median"] / one["floor_cpu_seconds"]["median"]
        peak = f"{one['ours_peak_mib']:,} (floor {one['floor_peak_mib']:,}); "
        peak += _verdict(one["ours_peak_mib"], one["target_peak_mib"])
        ratio = one["ratio"]
        rows.append(
            (
                f"{one['weeks']} x 3",
                f"{one['rows']:,}",
                ratio["runs"],
                _spread(one["floor_seconds"]),
                _spread(one["ours_seconds"]),
                _spread(ratio),
                f"{cpu:.2f}",
                _verdict(ratio["median"], one["target_ratio"]),
                peak,
            )
        )
    costs = [
        (f"{one['weeks']} x 3", one["partitions"], f"{one['captures']:,}", *(_spread(one[name]) for name in COST))
        for one in held
    ]
    text = (
        "## Backfill\n\n`spine backfill` of generated weeks of real size through every table, into an empty store.\n\n"
    )
    text += _table(head, rows) + "\nCost per partition (one tier of one week through all tables):\n\n"
    text += _table(("weeks x tiers", "partitions", "captures", "floor ms", "ours ms"), costs)
    return text + (_growth(*held) if len(held) == 2 else "")


COST = ("ms_per_partition_floor", "ms_per_partition_ours")


def _growth(short: dict[str, Any], long: dict[str, Any]) -> str:
    ours, floor = (long[name]["median"] / short[name]["median"] for name in reversed(COST))
    return (
        f"\nFrom {short['weeks']} to {long['weeks']} weeks the time per partition changes by {ours - 1:+.0%}"
        f" (the floor's by {floor - 1:+.0%}); linear growth means at most +15 %:"
        f" {'met' if ours <= 1.15 else '**missed**'}.\n"
    )


def _week(found: dict[str, Any]) -> str:
    one = found["week"]
    return (
        "## One restated week\n\n"
        f"One restated Tier 1 file into a store of {one['weeks_in_store']} weeks: `spine run otc.weekly_refresh`"
        " against delete and insert of the same partitions in the floor's database; the windows of later weeks are left"
        " to a later run on both sides.\n\n" + _pair(one)
    )


def _pair(one: dict[str, Any]) -> str:
    head = ("", "seconds", "CPU seconds", "peak MiB")
    rows = [
        (side, _spread(one[f"{side}_seconds"]), _spread(one[f"{side}_cpu_seconds"]), one[f"{side}_peak_mib"])
        for side in ("floor", "ours")
    ]
    return _table(head, rows) + f"\n{one['ratio']['runs']} runs each; ratio {_spread(one['ratio'])}.\n"


def _queries(found: dict[str, Any]) -> str:
    one = found["queries"]
    rows = [
        (
            title,
            _spread(q["latest_ms"]),
            _spread(q["as_of_ms"]),
            _spread(q["ratio"]),
            _verdict(q["ratio"]["median"], q.get("target_ratio")),
        )
        for title, q in one["questions"].items()
    ]
    return (
        "## As-of against latest\n\n"
        f"{one['weeks']} weeks with {one['revisions']} revisions of every partition ({one['captures']:,} captures). The"
        " first three go the way of `spine query`, each from nothing: manifest, engine, views, answer. The SQL macros"
        " (`NAME_asof(...)` in `spine sql` and in the published file) choose among all files at run time, and have no"
        f" target. Opening an engine for `spine sql` takes {one['ms_to_open_for_sql']:g} ms.\n\n"
        + _table(("question", "latest ms", "as-of ms", "ratio", "target"), rows)
    )


def _doctor(found: dict[str, Any]) -> str:
    one = found["doctor"]
    rows = [
        (
            held["weeks"],
            _spread(held["floor_seconds"]),
            _spread(held["ours_seconds"]),
            _spread(held["ratio"]),
            _verdict(held["ours_seconds"]["median"], one["target_seconds"]),
        )
        for held in (one["newest"], one["all"])
    ]
    ticks = [
        (name, f"{one['first_tick'][name]:g}", _spread(held), _verdict(held["max"], one["target_tick_seconds"]))
        for name, held in one["ticks"].items()
    ]
    return (
        f"## Looking after {one['weeks']} weeks\n\n"
        f"`spine doctor otc --weeks N` where {one['weeks']} weeks of three tiers were loaded ({one['captures']:,}"
        f" captures, {one['anomalies']:,} anomalies). The floor is a bare interpreter that reads every row of the"
        " manifest and of its edges once.\n\n"
        + _table(("weeks asked for", "floor s", "ours s", "ratio", "target (s)"), rows)
        + "\nA tick of each sensor that has to look at everything, as after a new capture (without news a tick is one"
        f" query). The first tick of readiness signs {one['certificates']:,} certificates, since the preliminary period"
        " of all weeks has just ended:\n\n" + _table(("sensor", "first s", "later s", "target (s)"), ticks)
    )


def _contention(found: dict[str, Any]) -> str:
    one = found["contention"]
    text = (
        "## Many at once\n\n"
        f"Eight processes write and sixteen read one store of two weeks for {one['seconds']:g} s: far more than two"
        " cores can serve, so that what is shown is who waits for whom. A wait is from asking for the write lock to"
        " having it; a command's own are part of its time. Lost is what a writer was told is done and the store has"
        " not; `spine verify` looks at everything afterwards.\n"
    )
    for name in ("sqlite", "postgres"):
        text += "\n" + _crowd({"sqlite": "SQLite", "postgres": "PostgreSQL"}[name], one[name])
    rows = [
        (name, f"{held['operations']:,}", *_milliseconds(held["wait_seconds"]), held["least"], held["most"])
        for name, held in one["fairness"].items()
    ]
    head = ("writers on SQLite", "transactions", "wait p50 ms", "p99", "max", "least lucky writer", "most lucky")
    return (
        f"{text}\nEight writers that never rest, for 10 s (decision"
        " [0024](decisions/0024-writers-queue-and-faults-have-remedies.md)):\n\n" + _table(head, rows)
    )


def _crowd(title: str, one: dict[str, Any]) -> str:
    head = (title, "processes", "operations", "failed", "s p50", "p99", "max", "waits", "wait p50 ms", "p99", "max")
    rows = [
        (
            name,
            held["processes"],
            held["operations"],
            held["failures"],
            *(f"{value:.2f}" for value in held["seconds"].values()),
            held["waits"] or "",
            *_milliseconds(held["wait_seconds"]),
        )
        for name, held in (one["writers"] | one["readers"]).items()
    ]
    return _table(head, rows) + (
        f"\n{one['transactions']:,} transactions in all; {one['lost_updates']} of {one['claims']:,} updates lost,"
        f" {len(one['failures'])} failures, {len(one['differences'])} differences found by `spine verify`.\n"
    )


def _load(found: dict[str, Any]) -> str:
    one = found["load"]
    floor, beside, alone = one["floor"], one["load"], one["steady"]
    named = {
        f"floor: {one['clients']} clients ask for /health/live": floor,
        f"{one['clients']} clients, {one['seconds']:g} s, beside a backfill of {one['weeks_loaded']} weeks": beside,
        f"20 clients, {one['steady_seconds'] / 60:g} minutes, alone": alone,
    }
    rows = [
        (
            name,
            f"{held['answers']:,}",
            held["per_second"],
            *held["milliseconds"].values(),
            sum(held["failures"].values()),
        )
        for name, held in named.items()
    ]
    memory = alone["resident_mib"]
    return (
        "## The API under load\n\n"
        "`spine serve`, one process, asked on loopback for weeks, venues, symbols, a table as known earlier, anomalies,"
        " the catalog and readiness; half of the questions bring the version that the client has. Failed is any answer"
        " but 200, 304 and the 503 of a week that may not be used. The clients are a program on the same two cores.\n\n"
        + _table(("", "answers", "a second", "ms p50", "p90", "p99", "max", "failed"), rows)
        + f"\n{one['uses_on_record']:,} uses are on record for the {one['answers']:,} answers with data. The memory of"
        f" the server in tenths of the last row: {', '.join(f'{held:.0f}' for held in memory)} MiB.\n"
    )


def _kills(found: dict[str, Any]) -> str:
    one = found["kills"]
    rows = [
        (
            kind,
            held["kills"],
            ", ".join(f"{name} {count}" for name, count in held["doing"].items()),
            *(f"{held[name]['p50']:g} / {held[name]['max']:g}" if held[name] else "" for name in RECOVERY),
            ", ".join(f"{count} {status}" for status, count in held["runs"].items()),
        )
        for kind, held in one["kinds"].items()
    ]
    items, runs = (", ".join(f"{count:,} {name}" for name, count in one[what].items()) for what in ("items", "runs"))
    waits = ", ".join(f"`{name}` {ours} (shipped: {shipped})" for name, (shipped, ours) in one["waits"].items())
    head = ("killed", "times", "while doing", "up again, seen: s p50 / max", "all done: s p50 / max", "its runs")
    verdicts = "\n".join(f"* {name}: {'**no**' if against else 'yes'}" for name, against in one["verdicts"].items())
    return (
        f"## Kills\n\n{one['kills']} times `kill -9` in {one['seconds'] / 60:.0f} minutes, at random moments, at the"
        " processes of a platform as `deploy/systemd` runs them, while work is asked for, commands run and readers"
        " read; half of the way the source restates every week. Each died while others were still recovering, which is"
        f" part of the times. At rest {one['seconds_to_rest']} s after the last one, without hands: {items} items of"
        f" the work ledger; {runs} runs of Dagster's; {one['asked_again']} asked for again after three failures, as the"
        f" next schedule does. Waits of dagster.yaml were shortened to the program's time: {waits} seconds.\n\n"
        f"{_table(head, rows)}\nAfterwards:\n\n{verdicts}\n"
    )


RECOVERY = ("noticed", "recovered")


def _milliseconds(seconds: dict[str, float]) -> list[str]:
    return [f"{1000 * value:.1f}" for value in seconds.values()] or [""] * 3


def _year(found: dict[str, Any]) -> str:
    one = found["year"]
    words = [name for name in next(iter(one["months"].values())) if name != "seconds"]
    rows = [(month, *(held[name] for name in (*words, "seconds"))) for month, held in one["months"].items()]
    whole = [sum(row[place] for row in rows) for place in range(1, len(words) + 2)]
    rows.append(("in all", *whole[:-1], round(whole[-1])))
    told = [f"* {text}\n" for text in one["complaints"]] or ["Everything is as it must be.\n"]
    return (
        "## A simulated year\n\n"
        f"The daemon's decisions from the publication of week {one['first_week']} to that of {one['last_week']}:"
        f" {one['ticks']:,} ticks of the real sensors at the moments at which something was due or had happened, real"
        f" runs of what they asked for, and a loopback FINRA by a script of {one['lines_of_script']} faults"
        " ([year.py](../benchmarks/year.py)): late by hours, days and weeks, empty, cut short, restated once, twice and"
        " back, impossible, down; and five weeks without a platform. What had to follow was worked out from the script:"
        " each version captured once and when it could first be had, each week certified when due, each fault named"
        " where it is and as long as it lasts, nothing else named, each work item ended as its ask, the ledger as"
        " Dagster's runs, nothing done by hand, `spine verify` clean. Versions are captures beyond the first of a"
        " partition; certified are weeks by use.\n\n"
        + _table(("month", *words, "seconds"), rows)
        + "\n"
        + "".join(told)
    )


def _start(found: dict[str, Any]) -> str:
    one = found["start"]
    verdict = _verdict(one["ours_seconds"]["median"], one["target_seconds"])
    return f"## Start\n\n`spine --help` against `python -c pass`; seconds {verdict}.\n\n{_pair(one)}"


def _stages(found: dict[str, Any]) -> str:
    one = found["stages"]
    whole = one["seconds"]
    rows = [
        (
            stage,
            f"{held['seconds']:.1f}",
            f"{held['seconds'] / whole:.0%}",
            f"{held['cpu_seconds']:.1f}",
            held["calls"] or "",
        )
        for stage, held in one["stages"].items()
    ]
    events = one["stages"]["Dagster: event log"]
    return (
        f"## Where the time goes\n\nOne backfill of {one['weeks']} weeks with timers ({whole:.0f} s of wall clock,"
        f" {one['cpu_seconds']:.0f} s of processor; every stage without what it calls of the others). Dagster's event"
        f" log takes {1000 * events['seconds'] / events['calls']:.1f} ms per event.\n\n"
        + _table(("stage", "seconds", "share", "CPU seconds", "calls"), rows)
    )


def _machines(found: dict[str, Any]) -> str:
    names = (
        "date",
        "cores",
        "memory_gib",
        "system",
        "python",
        "duckdb",
        "dagster",
        "pandas",
        "pyarrow",
        "load_at_start",
    )
    rows = [(name, *(one["machine"][key] for key in names)) for name, one in found.items()]
    return "## Machine\n\n" + _table(("measurement", *names), rows)
