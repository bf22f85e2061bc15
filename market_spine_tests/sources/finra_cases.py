"""What the tests of the FINRA API share: one partition, its rows, a clock that moves only by sleeping."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime

from market_spine.domain.keys import WeekKey
from market_spine.domain.tiers import Tier
from market_spine.sources.delivery import Delivery, Empty, EmptyKind
from market_spine.sources.finra_api import FinraApiSource
from market_spine_tests.sources.finra_server import Row, row

WEEK = date(2025, 11, 14)  # its Monday is 2025-11-10; OTC is first published on Monday 2025-12-15
KEY = WeekKey(WEEK, Tier.OTC)
NOW = datetime(2025, 12, 16, 15, 0, tzinfo=UTC)
OLD = WeekKey(date(2023, 3, 3), Tier.NMS_TIER_1)
ROWS = [row(f"S{n:02}", "OTCN", 1000 + n + 0.25, n + 1, firmCRDNumber=100 + n) for n in range(7)]
HERE = {"weekStartDate": "2025-11-10", "tierIdentifier": "OTCE", "summaryTypeCode": "ATS_W_SMBL_FIRM"}
OTHERS: dict[tuple[date, Tier], list[Row]] = {
    (date(2025, 1, 3), Tier.NMS_TIER_1): [row("OLDEST", "UBSA", 1, 1)],
    (WEEK, Tier.NMS_TIER_1): [row("A", "UBSA", 5, 5)],
}
Make = Callable[..., FinraApiSource]


class Clock:
    """A clock that moves only by sleeping."""

    def __init__(self) -> None:
        self.time, self.slept = 0.0, list[float]()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds

    def monotonic(self) -> float:
        return self.time


def delivered(answer: Delivery | Empty) -> Delivery:
    assert isinstance(answer, Delivery), answer
    return answer


def empty(answer: Delivery | Empty, kind: EmptyKind) -> Empty:
    assert isinstance(answer, Empty), answer
    assert (answer.kind, answer.key) == (kind, KEY), answer
    assert answer.remedy
    return answer


def symbols(delivery: Delivery) -> list[str]:
    pages = [json.loads(part.data) for part in delivery.parts if isinstance(part.data, bytes)]
    return [one["issueSymbolIdentifier"] for page in pages for one in page]
