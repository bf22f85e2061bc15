"""What every route works with: the store, the clock, and what this process remembers between requests.

What belongs here: one place for these. What does not: HTTP, and rules.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from anyio import CapacityLimiter

from market_spine.api.answers import Answers
from market_spine.api.limits import Limits
from market_spine.api.recorder import Recorder
from market_spine.assets.spine import Spine
from market_spine.governance.consumption import collect, put_down
from market_spine.governance.readiness import Standing
from market_spine.governance.tokens import Holder
from market_spine.store.ledger import Run, newest_seq
from market_spine.store.manifest import Capture
from market_spine.store.serving_tables import CONSUMPTION, TOKENS
from market_spine.store.store import Store

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from sqlalchemy import Connection

OF_READING = (CONSUMPTION.name, TOKENS.name)
T = TypeVar("T")


class Remembered(Generic[T]):
    """The ``most`` values that were used last, by key; safe between threads."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> T | None:
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def put(self, key: Hashable, value: T) -> None:
        with self._lock:
            self._held[key] = value
            self._held.move_to_end(key)
            while len(self._held) > self.most:
                self._held.popitem(last=False)


@dataclass
class Desk:
    """One server's: ``spine`` has the store and the clock, ``open_instance`` opens Dagster's record of runs."""

    spine: Spine
    limits: Limits
    answers: Answers
    open_instance: Callable[[], AbstractContextManager[DagsterInstance]]
    recorder: Recorder = field(init=False)
    # Captures by question and by data version: an answer about all weeks names 468, which is half a megabyte.
    selections: Remembered[tuple[Capture, ...]] = field(default_factory=lambda: Remembered(64))
    holders: Remembered[tuple[Holder, float]] = field(default_factory=lambda: Remembered(1000))  # with when by a clock
    versions: Remembered[tuple[Capture, ...]] = field(default_factory=lambda: Remembered(64))
    standings: Remembered[Standing] = field(default_factory=lambda: Remembered(64))  # by feed, week and transaction
    supervisors: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(2))

    def __post_init__(self) -> None:
        self.recorder = Recorder(lambda uses: put_down(self.store, uses))

    @property
    def store(self) -> Store:
        return self.spine.store

    def now(self) -> datetime:
        """The one reading of the clock of what is being done."""
        return self.spine.clock()

    def seq(self, connection: Connection) -> int:
        """The newest transaction that an answer may change by: not those of the API itself, about who reads."""
        return newest_seq(connection, OF_READING)

    def run(self) -> Run:
        """Who writes, where a request changes something: a run of its own."""
        return Run.of_look("api", self.now())

    def collect(self) -> int:
        """Bring uses that are on disk into the control tables."""
        return collect(self.store, self.run())
