"""Many weeks at once, and one restated partition: the platform's own commands against the floor.

Both start from nothing in a fresh process: interpreter, imports, work, files on disk. Ours is `spine backfill` and
`spine run` with a persistent Dagster instance, exactly as a person types them.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import weeks
from benchmarks.measure import SPINE, Sample, Spread, alternate, child, compared

PEAK_MIB = 4096  # what a run may take at most
SPENT = "spent_"  # how names of stores begin that nothing needs any more


def _floor(work: Path, folder: Path) -> Sample:
    database = work / "floor.db"
    database.unlink(missing_ok=True)
    return child([sys.executable, "-m", "benchmarks.floor", str(database), str(folder)])


def backfill_command(home: Path, folder: Path, count: int) -> list[str]:
    """`spine backfill` of the first ``count`` weeks of ``folder``."""
    ends = ("--from", str(weeks.week(0)), "--to", str(weeks.week(count - 1)))
    return [*SPINE, "--home", str(home), "backfill", *ends, "--source", f"file:{folder}", "--format", "json"]


def new_home(work: Path) -> Path:
    """An empty folder. No store is deleted before all is measured.

    ext4 avoids inodes that were freed in the last minutes: with 3,000 files deleted just before, making as many costs
    1 s of processor time that no user's backfill would pay.
    """
    return Path(tempfile.mkdtemp(prefix=SPENT, dir=work))


def keep(home: Path, name: Path) -> None:
    """Give a store the name under which later measurements look for it."""
    if name.exists():
        name.rename(new_home(name.parent) / name.name)
    home.rename(name)


def _ours(work: Path, folder: Path, count: int) -> tuple[Path, Sample]:
    home = new_home(work)
    return home, child(backfill_command(home, folder, count))


def captures_of(home: Path) -> int:
    """How many captures the store holds: proof that the run did its work, and what the cost is divided by."""
    with sqlite3.connect(home / "control.db") as control:
        return int(control.execute("SELECT count(*) FROM core_manifest").fetchone()[0])


def require_same_rows(home: Path, database: Path) -> int:
    """Rows of all derived tables. RuntimeError where the two sides differ: then they did not do the same work."""
    import duckdb

    with sqlite3.connect(home / "control.db") as control:
        counted = control.execute(
            "SELECT table_name, sum(row_count) FROM core_manifest WHERE is_current = 1 GROUP BY table_name"
        )
        ours = {name.removeprefix("otc_"): int(rows) for name, rows in counted if name.startswith("otc_")}
    with duckdb.connect(str(database), read_only=True) as connection:
        floor = {name: connection.sql(f"SELECT count(*) FROM {name}").fetchall()[0][0] for name in ours}
    if not ours or ours != floor:
        raise RuntimeError(f"the floor has {floor} rows, the store {ours}")
    return sum(ours.values())


def many_weeks(work: Path, count: int, runs: int) -> dict[str, Any]:
    """``count`` weeks of all tiers through every table."""
    folder = weeks.subset(work / "files", work / f"files_{count}", count)
    home = work / f"home_{count}"
    last, _ = _ours(work, folder, 1)  # not counted: writes byte code, and reads the libraries into the page cache

    def one_more() -> Sample:
        nonlocal last
        last, sample = _ours(work, folder, count)
        return sample

    floor, ours = alternate(runs, lambda: _floor(work, folder), one_more)
    keep(last, home)
    partitions = count * len(weeks.TIERS)
    return {
        "weeks": count,
        "partitions": partitions,
        "rows": weeks.rows_of(folder),
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "captures": captures_of(home),
        "rows_written": require_same_rows(home, work / "floor.db"),
        "ms_per_partition_floor": Spread.of([1000 * one.seconds / partitions for one in floor], 1).as_dict(),
        "ms_per_partition_ours": Spread.of([1000 * one.seconds / partitions for one in ours], 1).as_dict(),
        "target_peak_mib": PEAK_MIB,
        **compared(floor, ours, target=3.0),
    }


def restated_week(work: Path, count: int, runs: int) -> dict[str, Any]:
    """One restated Tier 1 week into a store of ``count`` weeks: raw to rolling, tier split, published file.

    Windows of later weeks that contain it become stale and are left to a later run, on both sides.
    """
    folder, home = work / f"files_{count}", work / f"home_{count}"
    friday = weeks.week(count // 2)
    original = weeks.path_of(folder, weeks.TIERS[0], friday)
    fresh = work / "restated"
    turn = 0

    def floor() -> Sample:
        weeks.restate(original, weeks.path_of(fresh, weeks.TIERS[0], friday), 100 + turn)
        return child([sys.executable, "-m", "benchmarks.floor", str(work / "floor.db"), str(fresh), original.name])

    def ours() -> Sample:
        nonlocal turn
        turn += 1
        held = captures_of(home)
        sample = child([*SPINE, "--home", str(home), *_restated_command(fresh, friday)])
        if captures_of(home) == held:
            raise RuntimeError("the restated file made no capture: nothing was measured")
        return sample

    _floor(work, folder)
    least, mine = alternate(runs, floor, ours)
    require_same_rows(home, work / "floor.db")
    return {"weeks_in_store": count, "week": str(friday), **compared(least, mine)}


def _restated_command(fresh: Path, friday: Any) -> list[str]:
    return ["run", "otc.weekly_refresh", "--week-ending", str(friday), "--tier", "T1", "--source", f"file:{fresh}"]
