"""Fixtures of the store: every control database there is, and homes that exist."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from market_spine.store.control import Control
from market_spine.store.store import Store

POSTGRES = pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.xdist_group("postgres")])


@pytest.fixture(params=["sqlite", POSTGRES])
def control_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty control database: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture
def empty_control(control_url: str) -> Iterator[Control]:
    """A control database without tables."""
    control = Control(control_url)
    yield control
    control.dispose()


@pytest.fixture
def store(tmp_path: Path, control_url: str) -> Iterator[Store]:
    """An empty store that is ready for use, on either database."""
    made = Store.at(tmp_path / "store", control_url, threads=2)
    made.ensure()
    yield made
    made.control.dispose()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """An empty store on SQLite only, for what does not depend on the database."""
    made = Store.at(tmp_path / "store", threads=2)
    made.ensure()
    yield made
    made.control.dispose()
