"""The data: generated weeks of real size (about 190,000 rows over the three tiers), written once to files.

Both sides read the same files. What belongs here: files. What does not: how rows are made (`sources.synthetic`).
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from pathlib import Path

FIRST = date(2023, 1, 6)  # two years of weeks that FINRA has long published, so that every one of them is due
TIERS = ("NMS_TIER_1", "NMS_TIER_2", "OTC")


def week(number: int) -> date:
    """The Friday of week ``number``, from 0."""
    return FIRST + timedelta(weeks=number)


def path_of(folder: Path, tier: str, friday: date) -> Path:
    """The declared name that the file source understands."""
    return folder / f"{tier}_{friday}.csv"


def _write(folder: Path, number: int, scale: float) -> int:
    from market_spine.domain.keys import WeekKey
    from market_spine.domain.tiers import Tier
    from market_spine.sources.synthetic import SyntheticSource

    source, size = SyntheticSource.from_spec(f"scale={scale}"), 0
    for tier in TIERS:
        path = path_of(folder, tier, week(number))
        if not path.exists():
            aside = path.with_suffix(".part")
            aside.write_bytes(source.content(WeekKey(week(number), Tier(tier))))
            aside.rename(path)
        size += path.stat().st_size
    return size


def write(folder: Path, count: int, scale: float = 1.0) -> int:
    """Make sure that ``count`` weeks are there; their size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return sum(pool.map(_write, [folder] * count, range(count), [scale] * count))


def subset(folder: Path, target: Path, count: int) -> Path:
    """A folder with the first ``count`` weeks only, as hard links."""
    target.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        for tier in TIERS:
            link = path_of(target, tier, week(number))
            if not link.exists():
                os.link(path_of(folder, tier, week(number)), link)
    return target


def restate(source: Path, target: Path, shares: int, every: int = 1_000) -> Path:
    """A copy of a file in which every ``every``-th row has ``shares`` more shares."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lines = source.read_text().splitlines(keepends=True)
    for number in range(1, len(lines), every):
        fields = lines[number].split("|")
        fields[5] = str(int(fields[5].split(".")[0]) + shares)
        lines[number] = "|".join(fields)
    target.write_text("".join(lines))
    return target


def rows_of(folder: Path) -> int:
    """Data lines of all files, headers not counted."""
    return sum(path.read_bytes().count(b"\n") - 1 for path in folder.glob("*.csv"))
