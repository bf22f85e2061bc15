"""Dagster's daemon with a clock that the test moves: ticks of the real schedules and sensors, and real runs of what
they ask for, once for each run key, the most urgent first.

What belongs here: what the daemon does between ticks. What does not: decisions; those are the definitions' own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg

from market_spine.definitions import build_defs
from market_spine_tests.journeys.stage import Scene

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Clockwork:
    """The daemon of one scene."""

    scene: Scene
    cursors: dict[str, str | None] = field(default_factory=dict)
    keys: set[tuple[str, str]] = field(default_factory=set)
    runs: list[dg.ExecuteInProcessResult] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.defs = build_defs(self.scene.spine, (self.scene.feed,))
        self.sensors = {one.name: one for one in self.defs.sensors or ()}
        self.schedules = {one.name: one for one in self.defs.schedules or () if isinstance(one, dg.ScheduleDefinition)}

    def look(self, name: str) -> list[dg.RunRequest]:
        """One tick of a sensor: what it asks for."""
        context = dg.build_sensor_context(
            instance=self.scene.instance,
            cursor=self.cursors.get(name),
            sensor_name=name,
            resources=dict(self.defs.resources or {}),
        )
        answer: Any = self.sensors[name](context)
        self.cursors[name] = answer.cursor if isinstance(answer, dg.SensorResult) else context.cursor
        found = answer.run_requests if isinstance(answer, dg.SensorResult) else answer
        return list(found) if isinstance(found, list) else []

    def ring(self, name: str, at: datetime) -> list[dg.RunRequest]:
        """One tick of a schedule that was due at a moment: what it asks for."""
        context = dg.build_schedule_context(
            instance=self.scene.instance, scheduled_execution_time=at, resources={"spine": self.scene.spine}
        )
        answer: Any = self.schedules[name](context)
        found = answer if isinstance(answer, list) else [answer]
        return [one for one in found if isinstance(one, dg.RunRequest)]

    def tick(self, name: str) -> list[str]:
        """One tick of a sensor and the runs that it asks for; their run keys."""
        return self.carry_out(name, self.look(name))

    def work(self) -> list[str]:
        """Claim, run and settle until nothing is due at this moment; the run keys in order."""
        name, done = f"{self.scene.feed.name}_work_sensor", list[str]()
        while found := self.tick(name):
            done += found
        return done

    def carry_out(self, name: str, requests: Iterable[dg.RunRequest]) -> list[str]:
        """Run what is new of ``requests``; a run key that was run is not run again, as Dagster holds it."""
        done = []
        for one in sorted(requests, key=lambda one: -int(one.tags.get("dagster/priority", "0"))):
            if one.run_key is not None and (name, one.run_key) in self.keys:
                continue
            self.keys.add((name, one.run_key or ""))
            self.runs.append(self._execute(name, one))
            done.append(str(one.run_key))
        return done

    def _execute(self, name: str, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        schedule = self.schedules.get(name)
        job = self.defs.resolve_job_def(str(request.job_name or (schedule and schedule.job_name)))
        return job.execute_in_process(
            instance=self.scene.instance,
            run_config=QUIET | dict(request.run_config),
            tags={"dagster/run_key": str(request.run_key), "dagster/sensor_name": name} | dict(request.tags),
            asset_selection=request.asset_selection and list(request.asset_selection),
            partition_key=request.partition_key,
            raise_on_error=False,
        )
