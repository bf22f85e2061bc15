"""Scenarios of the demo as played through the command line: what each printed, and the store that it left.

What belongs here: playing one and reading its store. What does not: what a scenario should have left.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from market_spine.assets.reading import fill
from market_spine.cli.scenarios import Name
from market_spine.store.engine import config, prepare
from market_spine.store.store import Store
from market_spine_tests.cli.calls import Answer, call

WEEK = "2025-11-14"


@dataclass(frozen=True)
class Play:
    """What a scenario printed, and every relation of the store that it left."""

    answer: Answer
    home: Path
    engine: duckdb.DuckDBPyConnection

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        return self.engine.execute(query, list(values)).fetchall()

    def one(self, query: str, *values: object) -> tuple[Any, ...]:
        (row,) = self.sql(query, *values)
        return row

    def log(self, code: str, tier: str) -> list[tuple[Any, ...]]:
        """When an anomaly of the week changed, how, and how grave it was from then on; links aside."""
        return self.sql(
            "SELECT l.changed_at, l.change, l.severity FROM core_anomaly_log l"
            " JOIN core_anomalies a ON a.id = anomaly_id"
            " WHERE (a.week_ending, code, tier) = (?, ?, ?) AND (note = '' OR change = 'resolved') ORDER BY seq",
            WEEK,
            code,
            tier,
        )

    def verdicts(self, use_case: str) -> list[tuple[Any, ...]]:
        """(judged at, state, codes of what stands against it) of each verdict on the week."""
        rows = self.sql(
            "SELECT judged_at, to_state, blocking_issues FROM core_readiness_log"
            " WHERE week_ending = ? AND ready_for = ? ORDER BY seq",
            WEEK,
            use_case,
        )
        return [(at, state, [one["code"] for one in json.loads(issues)]) for at, state, issues in rows]

    def revisions(self) -> dict[str, dict[str, int]]:
        """Table -> week -> the last revision, of what was made more than once."""
        found: dict[str, dict[str, int]] = {}
        for name, week, revision in self.sql(
            "SELECT table_name, week_ending::VARCHAR, max(revision) FROM core_manifest GROUP BY ALL ORDER BY ALL"
        ):
            if revision > 1:
                found.setdefault(name, {})[week] = revision
        return found


@dataclass
class Plays:
    """Scenarios, each played below ``folder`` when it is first asked for; `close` them all."""

    folder: Path
    made: dict[Name, Play] = field(default_factory=dict)

    def of(self, name: Name) -> Play:
        if name not in self.made:
            self.made[name] = _played(name, self.folder / name)
        return self.made[name]

    def close(self) -> None:
        for one in self.made.values():
            one.engine.close()


def _played(name: Name, home: Path) -> Play:
    answer = call("--home", str(home), "demo", "--scenario", name)
    engine = duckdb.connect(config=config(2))
    if answer.code == 0:  # else there is nothing to ask, and whoever asks fails at once
        prepare(engine)
        store = Store.at(home, threads=2)
        fill(store, engine)
        store.control.dispose()
    return Play(answer, home, engine)
