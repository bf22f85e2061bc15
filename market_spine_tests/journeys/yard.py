"""Where the journeys with real processes take place: homes, processes, their reports, and what a home holds.

What belongs here: starting processes and comparing homes. What does not: what a process does (`worker`), and claims.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from market_spine.store.manifest import Question, tables
from market_spine.store.store import Store
from market_spine_tests.journeys import worker
from market_spine_tests.journeys.worker import Point, Task
from market_spine_tests.store.processes import started

RECIPE = "seed=7,scale=0.02,revision_hours=2000,fault=restatement:*:*:3"
KEYS = tuple(f"{tier}:2025-11-{day}" for day in ("07", "14") for tier in ("NMS_TIER_1", "NMS_TIER_2", "OTC"))
FIRST, REVISED = datetime(2025, 12, 20, 12, tzinfo=UTC), datetime(2026, 4, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WAIT = 120  # seconds for a process that takes about 5
Hashes = dict[tuple[str, str], str]


@dataclass
class Yard:
    """Where homes are made, copied, killed in, and compared."""

    root: Path
    counter: int = 0

    def place(self, name: str) -> str:
        self.counter += 1
        return str(self.root / f"{self.counter:03d}-{name}")

    def task(self, home: Path, now: datetime, point: Point | None = None) -> Task:
        return Task(str(home), RECIPE, KEYS, now.isoformat(), self.place("report"), point)

    def start(self, body: Callable[..., None], *args: object) -> Any:
        return started(body, *args)

    def complete(self, body: Callable[[Task], None], task: Task) -> dict[str, Any]:
        """Run ``task`` to its end in a process of its own; what it reports."""
        process = self.start(body, task)
        process.join(WAIT)
        assert process.exitcode == 0
        result: dict[str, Any] = told(task.report)
        return result

    @contextmanager
    def reading(self, home: Path) -> Iterator[None]:
        """A process that asks for everything all the while; it never meets an error."""
        stop, report = Path(self.place("stop")), self.place("report")
        reader = self.start(worker.read_on, str(home), "", str(stop), report)
        try:
            yield
        finally:
            stop.touch()
            reader.join(WAIT)
        assert told(report)["rounds"] > 0

    def copy(self, home: Path) -> Path:
        return Path(shutil.copytree(home, self.place("home")))


def told(report: str) -> Any:
    """What a process reported; its traceback fails the test."""
    found: dict[str, Any] = json.loads(Path(report).read_text())
    assert "error" not in found, found["error"]
    return found["result"]


@contextmanager
def a_yard() -> Iterator[Yard]:
    """In memory where the machine has such a folder: a kill loses nothing that the kernel has taken."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="spine-yard-", dir=memory if memory.is_dir() else None) as root:
        yield Yard(Path(root))


def hashes(home: Path) -> Hashes:
    """Table and partition -> content hash, of what is current."""
    store = Store.at(home)
    with store.control.read() as connection:
        names = tuple(tables(connection))
    found = {(one.table_name, str(one.key)): one.content_hash for one in store.select(Question(names))}
    store.control.dispose()
    return found
