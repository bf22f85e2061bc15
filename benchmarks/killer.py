"""Whom `kills` kills, at which moment, and how long that takes to recover.

What belongs here: striking, and looking until what was struck is up again and its work is done. What does not: the
processes (`supervised`), and how often (`kills`).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks import aftermath, supervised
from benchmarks.aftermath import CLAIM_TAG
from benchmarks.bustle import Bustle, answered
from benchmarks.supervised import Platform

if TYPE_CHECKING:
    import dagster as dg

    from market_spine.store.store import Store

GAP_SECONDS = 8.0  # at most, from the moment at which there is something to kill
# For a worker to appear, or a service to be up again. A code server that dies in the tick that claimed all four runs at
# once loses them all, and nothing is launched until they are given back after 300 s.
PATIENCE_SECONDS = 360.0
LOOK_SECONDS = 0.5
GRPC_TAG = ".dagster/grpc_info"  # of runs that a code server carries out
SERVICES = {"server and runs": "code server"}


@dataclass
class Kill:
    """One kill: what died, doing what; and after how many seconds it had recovered.

    Noticed: a service is up again and works, a run is known to be dead. Recovered: also its runs are over, and the
    items that they were to do are done.
    """

    kind: str
    doing: str
    at: float
    runs: set[str] = field(default_factory=set)
    items: set[int] = field(default_factory=set)
    noticed: float | None = None
    recovered: float | None = None


@dataclass
class Watch:
    """Looks at what was killed until it has recovered."""

    platform: Platform
    instance: dg.DagsterInstance
    store: Store
    kills: list[Kill] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    is_over: bool = False

    def keep(self) -> None:
        """Look, over and over."""
        while not self.is_over:
            waiting = [one for one in self.kills if one.recovered is None]
            try:
                if waiting:
                    self._look(waiting)
            except Exception as error:  # noqa: BLE001  # shown in the end: none is expected
                self.errors.append(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
            time.sleep(LOOK_SECONDS)

    def _look(self, waiting: Sequence[Kill]) -> None:
        """A service is up again when it has done something since: answered, or evaluated a sensor."""
        from market_spine.store import work

        at, tick = time.time(), last_tick(self.instance)
        is_web_up = answered(self.platform.web_port)
        going = {run.run_id for run in aftermath.unfinished(self.instance)}
        with self.store.control.read() as connection:
            undone = {row["id"] for row in work.items(connection, states=work.OPEN)}
        for kill in waiting:
            is_up = {"run worker": True, "command": True, "web interface": is_web_up}.get(kill.kind, tick > kill.at)
            are_over = not kill.runs & going
            if kill.noticed is None and is_up and (are_over or kill.kind in self.platform.services):
                kill.noticed = at - kill.at
            if kill.noticed is not None and are_over and not kill.items & undone:
                kill.recovered = at - kill.at


def last_tick(instance: dg.DagsterInstance) -> float:
    """When a look of the work sensor last ended well, in seconds since the epoch."""
    states = instance.all_instigator_state()
    data: list[Any] = [one.instigator_data for one in states if one.instigator_name == "otc_work_sensor"]
    return max((one.last_tick_success_timestamp or 0.0 for one in data if one), default=0.0)


@dataclass
class Killer:
    """Chooses by dice, kills, and notes what was going on."""

    platform: Platform
    instance: dg.DagsterInstance
    store: Store
    bustle: Bustle
    watch: Watch
    dice: random.Random

    def kill_one(self, kind: str) -> bool:
        """Kill one process of ``kind`` at a random moment from when there is one; False where there came none."""
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            if not self._is_there(kind):
                time.sleep(0.1)
                continue
            time.sleep(self.dice.uniform(0, GAP_SECONDS))
            kill = self.strike(kind)
            if kill is not None:
                self.watch.kills.append(kill)
                return True
        return False

    def _group(self) -> int:
        return self.platform.services["code server"].groups[-1]

    def _is_there(self, kind: str) -> bool:
        if kind == "run worker":
            return bool(supervised.workers(self._group()))
        if kind == "command":
            return self.bustle.command is not None and self.bustle.command.poll() is None
        return self.platform.services[SERVICES.get(kind, kind)].pid is not None

    def strike(self, kind: str) -> Kill | None:
        """Look what it does, and kill it; None where it has ended meanwhile."""
        if kind == "command":
            return self._strike_command()
        service = self.platform.services.get(SERVICES.get(kind, kind))
        pids = supervised.workers(self._group()) if service is None else [service.pid] if service.pid else []
        if not pids:
            return None
        pid = self.dice.choice(pids)
        runs = [] if kind in ("daemon", "web interface") else self._runs(pid if service is None else None)
        kill = Kill(kind, self._doing(kind, runs), time.time())
        kill.runs, kill.items = {run.run_id for run in runs}, self._items(runs)
        if kind == "server and runs":
            supervised.kill_all(self._group())
        else:
            supervised.kill(pid)
        return kill

    def _strike_command(self) -> Kill | None:
        process = self.bustle.command
        if process is None or process.poll() is not None:
            return None
        own = [run for run in aftermath.unfinished(self.instance) if GRPC_TAG not in run.tags and not is_queued(run)]
        known = {one for kill in self.watch.kills for one in kill.runs}
        name = " ".join(self.bustle.words[:2] if self.bustle.words[0] == "work" else self.bustle.words[:1])
        kill = Kill("command", name, time.time())
        kill.runs = {run.run_id for run in own} - known
        self.bustle.killed.add(process.pid)
        supervised.kill(process.pid)
        return kill

    def _runs(self, pid: int | None) -> list[dg.DagsterRun]:
        """The runs that a worker carries out (where it has not said so yet: all of which that is true), or all."""
        runs = [run for run in aftermath.unfinished(self.instance) if GRPC_TAG in run.tags]
        if pid is None:
            return runs
        own = [run for run in runs if f"(pid: {pid})" in self._said(run)]
        return own or [run for run in runs if "(pid: " not in self._said(run)]

    def _said(self, run: dg.DagsterRun) -> str:
        return "\n".join(entry.message for entry in self.instance.all_logs(run.run_id))

    def _items(self, runs: Iterable[dg.DagsterRun]) -> set[int]:
        from market_spine.store import work

        claims = {run.tags.get(CLAIM_TAG) for run in runs} - {None}
        with self.store.control.read() as connection:
            return {row["id"] for row in work.items(connection, states=["RUNNING"]) if row["locked_by"] in claims}

    def _doing(self, kind: str, runs: Sequence[dg.DagsterRun]) -> str:
        if kind == "run worker":
            steps = [one.step_key for run in runs for one in self.instance.all_logs(run.run_id) if one.step_key]
            return steps[-1].removeprefix("otc__") if steps else "starting"
        if kind in ("code server", "server and runs"):
            return f"{len(runs)} runs"
        return "up"


def is_queued(run: dg.DagsterRun) -> bool:
    """Whether nobody carries it out yet."""
    return run.status.value in ("QUEUED", "NOT_STARTED", "STARTING")
