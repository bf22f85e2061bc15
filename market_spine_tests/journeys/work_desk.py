"""A scene whose FINRA is a loopback server that the test scripts, and the daemon that works on its ledger.

What belongs here: bringing the ledger into a state, and reading it. What does not: claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import stamina

from market_spine.assets.calendar import capture_weeks
from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.governance import work as ledger
from market_spine.governance.work import Ask
from market_spine.sources.finra_api import FinraApiSource
from market_spine.store import work
from market_spine.store.ledger import Run
from market_spine.store.verify import verify
from market_spine_tests.journeys.clockwork import Clockwork
from market_spine_tests.journeys.stage import OTC, T1, T2, Clock, Scene, staged
from market_spine_tests.sources.finra_server import FinraServer, Reply, Row, row

MONDAY = datetime(2025, 12, 15, 15, 30, tzinfo=UTC)  # 10:30 in New York: Tier 1 of 11-28, Tier 2 and OTC of 11-14
FIRST, LATER = date(2025, 11, 28), date(2025, 11, 14)
PUBLISHED = {(FIRST, T1), (LATER, T2), (LATER, OTC)}
DOWN, NOTHING = Reply(status=503), Reply(status=204, body=b"")
PIPELINE = "finra.otc_transparency.weekly_refresh"


def rows(count: int, updated: str = "2025-12-15") -> list[Row]:
    """``count`` rows on two venues by turns."""
    return [
        row(
            f"S{number // 2:05}", "UBSA" if number % 2 else "ALPX", 100 + number, 1 + number % 7, lastUpdateDate=updated
        )
        for number in range(count)
    ]


@dataclass
class Desk:
    """One scene whose FINRA is a loopback server that the test scripts."""

    scene: Scene
    server: FinraServer
    daemon: Clockwork

    @property
    def clock(self) -> Clock:
        return self.scene.clock

    def items(self) -> list[dict[str, Any]]:
        with self.scene.spine.store.control.read() as connection:
            return sorted(work.items(connection), key=lambda one: one["id"])

    def item(self, tier: Tier) -> dict[str, Any]:
        (found,) = [one for one in self.items() if one["tier"] == tier]
        return found

    def states(self) -> list[str]:
        return [one["state"] for one in self.items()]

    def run(self, name: str = "ops") -> Run:
        return Run(name, name, self.clock())

    def ask(self, *keys: WeekKey, priority: int = 100, **more: Any) -> list[int]:
        asks = [Ask("finra.otc_transparency", PIPELINE, one, self.clock(), priority, **more) for one in keys]
        added = ledger.enqueue(self.scene.spine.store, self.run(f"ask {self.clock()}"), asks, "ops").added
        return [one["id"] for one in added]

    def calendar(self, week: str) -> None:
        """The sessions of a week, which its items wait for."""
        capture_weeks(self.scene.spine, [WeekKey(date.fromisoformat(week), None)], self.run("calendar"))

    def ring(self) -> None:
        self.daemon.ring("otc_weekly_refresh_schedule", self.clock())

    def history(self, item_id: int) -> list[str]:
        with self.scene.spine.store.control.read() as connection:
            return [one["to_state"] for one in work.log_of(connection, item_id)]


def a_desk(home: Path, weeks: dict[Any, list[Row]]) -> Iterator[Desk]:
    with (
        FinraServer(weeks) as server,
        FinraApiSource(server.url, token_url=server.token_url, timeout=5.0) as source,
        stamina.set_testing(True, attempts=1),  # how the client itself waits is tested where it lives
        staged(home, source, Clock(MONDAY)) as scene,
    ):
        desk = Desk(scene, server, Clockwork(scene))
        scene.spine.store.ensure()
        yield desk
        assert not verify(scene.spine.store)  # the ledger is in the journal as it stands
