"""Dagster's daemon through a scripted year: every tick that it makes because something is due or has happened.

The clock goes from event to event. At each, the schedules that are due ring, and all sensors tick half a minute apart,
in an order drawn from a seed, until a whole round leaves nothing behind. Ticks in between find nothing by their own
cursors, and are left out. What belongs here: when who ticks. What does not: anything that a tick decides.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path
from typing import ParamSpec, TypeVar
from zoneinfo import ZoneInfo

import dagster as dg
import sqlalchemy as sa
import stamina

from market_spine.automation.instance import open_instance
from market_spine.sources.finra_api import FinraApiSource
from market_spine.sources.finra_http import RateBudget
from market_spine.store.ledger import newest
from market_spine.store.operations_tables import WORK_ITEMS
from market_spine.store.schema import MANIFEST
from market_spine_tests.journeys.clockwork import Clockwork
from market_spine_tests.journeys.stage import Clock, Scene, staged
from market_spine_tests.journeys.year_script import DAY, SEED, Script, new_york, published_on
from market_spine_tests.journeys.year_source import ScriptedFinra

T = TypeVar("T")
P = ParamSpec("P")
HALF_MINUTE = timedelta(seconds=30)
REST = timedelta(seconds=10)  # the stale sensor lets a load go on by itself for as long
DUE_AT = clock_time(10)  # a partition is due then on its day, in New York, and late a day later
ROUNDS = 400  # of one event: an event that never comes to rest is a fault


@dataclass
class Month:
    """What a month of the script took."""

    seconds: float = 0.0
    runs: int = 0


@dataclass
class Year:
    """One life of the platform by a script. ``seconds`` is wall time by what ticked or ran."""

    scene: Scene
    script: Script
    server: ScriptedFinra
    daemon: Clockwork
    draws: random.Random = field(default_factory=lambda: random.Random(SEED))
    seconds: dict[str, float] = field(default_factory=dict)
    months: dict[str, Month] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    rang_at: datetime | None = None  # up to when schedules have rung
    ticked_at: datetime | None = None  # the last tick of sensors

    def play(self) -> None:
        """From the beginning of the script to its end."""
        clock, script = self.scene.clock, self.script
        clock.moment = self.rang_at = self.ticked_at = script.begin
        while (event := self._next_event()) < script.end:
            started = time.perf_counter()
            clock.moment = max(event, clock.moment)
            if not script.is_on(clock.moment):
                self.ticked_at = clock.moment
            else:
                self._ring()
                self._settle()
            self.month.seconds += time.perf_counter() - started

    @property
    def month(self) -> Month:
        """The month that it is."""
        return self.months.setdefault(f"{self.scene.clock():%Y-%m}", Month())

    def _next_event(self) -> datetime:
        now = self.ticked_at or self.script.begin
        later = [one for one in self._events(now) if one > now]
        return min(later)

    def _events(self, now: datetime) -> Iterator[datetime]:
        """Moments at which something is due, beginning with some of the past."""
        script = self.script
        yield from script.changes
        yield from (script.off, script.on, script.end)
        for key in script.keys:
            due = new_york(published_on(key), DUE_AT)
            yield from (due, due + DAY + HALF_MINUTE)
        for name in self.daemon.schedules:
            yield from self._ticks(name, now, now + 8 * DAY)
        with self.scene.spine.store.control.read() as connection:
            items = sa.select(WORK_ITEMS.c.next_attempt_at, WORK_ITEMS.c.locked_at)
            for next_attempt_at, locked_at in connection.execute(items.where(WORK_ITEMS.c.completed_at.is_(None))):
                yield from (one for one in (next_attempt_at, locked_at and locked_at + 11 * HALF_MINUTE) if one)
            since = MANIFEST.c.captured_at > now - 3 * DAY
            raw = sa.select(MANIFEST.c.captured_at).where(MANIFEST.c.table_name == "otc_raw", since).distinct()
            for captured_at in connection.scalars(raw):  # a tick looks within half a minute, 59 s at the most
                yield from (captured_at + span + HALF_MINUTE for span in (timedelta(hours=1), DAY, 2 * DAY))

    def _ticks(self, name: str, after: datetime, until: datetime) -> list[datetime]:
        """When a schedule is due after a moment, and until another: its cron line has minute, hour and weekdays."""
        minute, hour, _, _, days = str(self.daemon.schedules[name].cron_schedule).split()
        zone = ZoneInfo(str(self.daemon.schedules[name].execution_timezone))
        wanted = {"*": range(7), "1-5": range(5)}.get(days) or [(int(days) - 1) % 7]  # Monday is 1 in cron, 0 here
        day, last = after.astimezone(zone).date(), until.astimezone(zone).date()
        found = []
        while day <= last:
            if day.weekday() in wanted:
                found.append(datetime.combine(day, clock_time(int(hour), int(minute)), zone).astimezone(UTC))
            day += DAY
        return [one for one in found if after < one <= until]

    def _ring(self) -> None:
        """The schedules that are due. Of ticks that were missed, Dagster makes up for the last one only, since no
        schedule here has a partition set (dagster/_scheduler/scheduler.py, 1.13)."""
        now, since = self.scene.clock(), self.rang_at or self.script.begin
        for name in self.daemon.schedules:
            for at in self._ticks(name, since, now)[-1:]:
                self._carry_out(name, self._timed(name, self.daemon.ring, name, at))
        self.rang_at = now

    def _settle(self) -> None:
        names = sorted(self.daemon.sensors)
        for _ in range(ROUNDS):
            self.draws.shuffle(names)
            before, ran, self.ticked_at = self._newest(), 0, self.scene.clock()
            for name in names:
                ran += self._carry_out(name, self._timed(name, self.daemon.look, name))
            self.counts["rounds"] += 1
            is_at_rest = self._newest() == before and not ran and before[1] <= self.scene.clock() - REST
            self.scene.clock.moment += HALF_MINUTE
            if is_at_rest:
                return
        raise AssertionError(f"still not at rest at {self.scene.clock()}")

    def _carry_out(self, name: str, asked: list[dg.RunRequest]) -> int:
        done = self._timed("runs", self.daemon.carry_out, name, asked)
        self.counts["repeated requests"] += len(asked) - len(done)
        for run in self.daemon.runs:
            self.counts[f"run {run.dagster_run.job_name}"] += 1
            self.month.runs += 1
        self.daemon.runs.clear()  # each holds all its events
        return len(done)

    def _timed(self, name: str, action: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        started = time.perf_counter()
        found = action(*given, **named)
        self.seconds[name] = self.seconds.get(name, 0) + time.perf_counter() - started
        return found

    def _newest(self) -> tuple[int, datetime]:
        with self.scene.spine.store.control.read() as connection:
            seq, at = newest(connection)
            return seq, at or self.script.begin


@contextmanager
def year(home: Path, script: Script) -> Iterator[Year]:
    """A home whose platform is about to begin the script, with FINRA on loopback."""
    clock = Clock(script.begin)
    with (
        ScriptedFinra(script, clock) as server,
        FinraApiSource(server.url, token_url=server.token_url, timeout=5.0, budget=RateBudget(1_000)) as source,
        stamina.set_testing(True, attempts=1),  # how the client itself waits is tested where it lives
        staged(home, source, clock) as scene,
        open_instance(home / "dagster") as instance,  # Dagster's record as an installed platform keeps it
    ):
        scene.spine.store.ensure()
        # One thread: a hundred rows are done sooner than shared out.
        spine = replace(scene.spine, store=replace(scene.spine.store, threads=1))
        whole = replace(scene, spine=spine, instance=instance)
        yield Year(whole, script, server, Clockwork(whole))
