"""FINRA on loopback, playing a script by the clock of the scene."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from market_spine.domain.tiers import Tier
from market_spine_tests.journeys.year_script import Key, Row, Script, What
from market_spine_tests.sources.finra_server import TIER_CODES, WEB_PAGE, FinraServer, Reply, rows_of

DOWN = Reply(status=503)
RENAMED = {"totalWeeklyShareQuantity": "totalWeeklyShareQty"}
KEPT = 300  # rows of a cut answer's partition, as its Record-Total says


class ScriptedFinra(FinraServer):
    """Answers each question with what the script shows at that moment, or as badly as it says."""

    def __init__(self, script: Script, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self.play, self.clock = script, clock

    def reply(self, asked: Mapping[str, Any]) -> Reply:
        now, filters = self.clock(), {one["fieldName"]: one["fieldValue"] for one in asked["compareFilters"]}
        week = date.fromisoformat(filters["weekStartDate"]) + timedelta(days=4)
        held = {Key(week, tier): self.play.shown(Key(week, tier), now) for tier in TIER_CODES}
        shown: dict[tuple[date, Tier], Sequence[Row]] = {key: one.rows for key, one in held.items() if one}
        self.datasets["weeklysummary"] = rows_of(shown)  # all tiers of the week: the filters have something to leave
        codes = {code: tier for tier, code in TIER_CODES.items()}
        key = Key(week, codes[filters["tierIdentifier"]])
        trouble = self.play.trouble(key, now)
        if trouble is What.DOWN:
            return DOWN
        if trouble is What.PAGE:
            return WEB_PAGE
        if trouble is What.CUT and key in shown:
            return Reply(total=len(shown[key]) + KEPT)
        if trouble is What.COLUMNS and key in shown:
            rows = [
                {RENAMED.get(name, name): value for name, value in row.items()} for row in rows_of({key: shown[key]})
            ]
            return Reply(body=json.dumps(rows).encode())
        return Reply()
