"""What several journeys look at: the scenarios, which take a minute together and are played once; a history to lose."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from market_spine_tests.journeys.losses import a_history
from market_spine_tests.journeys.plays import Plays
from market_spine_tests.journeys.stage import Scene, copied


@pytest.fixture(scope="session")
def plays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plays]:
    """For reading only; whoever asks for it belongs to the xdist group `plays`."""
    made = Plays(tmp_path_factory.mktemp("scenarios"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Every hard case of a rebuild. For reading only; whoever asks for it belongs to the xdist group `rebuild`."""
    with a_history(tmp_path_factory.mktemp("history")) as scene:
        yield scene


@pytest.fixture
def stage(history: Scene, tmp_path: Path) -> Iterator[Scene]:
    with copied(history, tmp_path) as scene:
        yield scene


@pytest.fixture
def closed(history: Scene, tmp_path: Path) -> Path:
    """A copy of the history's home that nobody has open."""
    with history.spine.store.control.write() as connection:  # nothing is left in the write-ahead log
        connection.execute(sa.text("SELECT 1"))
    history.spine.store.control.dispose()
    shutil.copytree(history.spine.store.home.root, tmp_path / "home")
    return tmp_path / "home"
