"""Fixtures of the FINRA API's tests: a server, sources against it, and no real waiting."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from market_spine.domain.tiers import Tier
from market_spine.sources.finra_api import FinraApiSource
from market_spine.sources.finra_http import RateBudget
from market_spine_tests.sources.finra_cases import (
    OTHERS,
    ROWS,
    WEEK,
    Clock,
    Make,
)
from market_spine_tests.sources.finra_server import FinraServer


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What stamina (through tenacity) would have waited between attempts, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture
def server() -> Iterator[FinraServer]:
    with FinraServer({(WEEK, Tier.OTC): ROWS, **OTHERS}, page_rows=3) as running:
        yield running


@pytest.fixture
def make() -> Iterator[Make]:
    """Sources against a server, closed at the end; their rate budget has its own clock."""
    made: list[FinraApiSource] = []

    def build(server: FinraServer, **more: Any) -> FinraApiSource:
        clock = Clock()
        given: dict[str, Any] = {"budget": RateBudget(sleep=clock.sleep, monotonic=clock.monotonic), "timeout": 5.0}
        given |= {"token_url": server.token_url, "transport": httpx.HTTPTransport()} | more
        made.append(FinraApiSource(server.url, **given))
        return made[-1]

    yield build
    for source in made:
        source.close()
