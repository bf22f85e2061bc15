"""What several journeys look at: the scenarios, which take a minute together and are played once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from market_spine_tests.journeys.plays import Plays


@pytest.fixture(scope="session")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plays]:
    """For reading only; whoever asks for it belongs to the xdist group `plays`."""
    made = Plays(tmp_path_factory.mktemp("scenarios"))
    yield made
    made.close()
