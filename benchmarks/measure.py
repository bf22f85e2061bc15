"""Measuring processes: wall time, processor time and peak memory of a child, and the spread of several runs.

What belongs here: numbers and their spread. What does not: what is measured (`backfill`, `week`, `queries`, `start`).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOREIGN = ("MARKET_SPINE", "DAGSTER", "PYTHONDONTWRITEBYTECODE")
# Byte code as an installed program has it: without it every process compiles 2,500 modules anew (2 to 3 s).
BYTE_CODE = str(Path(tempfile.gettempdir()) / "market-spine-benchmarks-pycache")
SPINE = (sys.executable, "-c", "from market_spine.cli import main; main()")


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one process: seconds of wall clock and processor, and the peak of its resident memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    output: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """Several runs of one thing."""

    runs: int
    min: float
    median: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float], digits: int = 3) -> Spread:
        """The spread of ``values``, rounded: the noise of a shared disk is far above the fourth digit."""
        return cls(len(values), *(round(one, digits) for one in (min(values), statistics.median(values), max(values))))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a measured process sees: this project and nothing of the user's settings, but for ``settings``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": BYTE_CODE, **(settings or {})}


def child(command: Sequence[str], settings: Mapping[str, str] | None = None, accepted: Sequence[int] = (0,)) -> Sample:
    """Run ``command`` to its end; RuntimeError with its last lines if it ends with a code that is not ``accepted``."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, env=environment(settings), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - started
    if process.returncode not in accepted:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output[-2000:]}")
    # Linux tells ru_maxrss in KiB, of this child and of those that it waited for.
    return Sample(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, output)


def alternate(runs: int, *measures: Callable[[], Sample]) -> list[list[Sample]]:
    """Every measure ``runs`` times, by turns (floor, ours, floor, ours), so that a busy minute hits both."""
    found: list[list[Sample]] = [[] for _ in measures]
    for _ in range(runs):
        for samples, measure in zip(found, measures, strict=True):
            samples.append(measure())
    return found


def compared(floor: Sequence[Sample], ours: Sequence[Sample], target: float | None = None) -> dict[str, object]:
    """Floor, ours, and the ratio run by run; ``target`` is what the median ratio should not exceed."""
    ratios = Spread.of([mine.seconds / least.seconds for least, mine in zip(floor, ours, strict=True)], 2)
    found: dict[str, object] = {
        "floor_seconds": Spread.of([one.seconds for one in floor]).as_dict(),
        "ours_seconds": Spread.of([one.seconds for one in ours]).as_dict(),
        "floor_cpu_seconds": Spread.of([one.cpu_seconds for one in floor]).as_dict(),
        "ours_cpu_seconds": Spread.of([one.cpu_seconds for one in ours]).as_dict(),
        "ratio": ratios.as_dict(),
        "floor_peak_mib": round(max(one.peak_mib for one in floor)),
        "ours_peak_mib": round(max(one.peak_mib for one in ours)),
    }
    return found | ({"target_ratio": target} if target else {})
