"""Fixtures of all floors: fixed time, a home of its own, FINRA's real files, a real PostgreSQL server.

What belongs here: what several floors need. What does not: builders of one floor's values (they stand in that floor).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

from market_spine_tests import postgres

ROOT = Path(__file__).resolve().parents[1]
FINRA_DIR = ROOT / "../shared/data/finra"

# The outside must not reach in: neither a user's own store and Dagster home, nor their log settings.
for name in [name for name in os.environ if name.startswith(("MARKET_SPINE_", "DAGSTER_"))]:
    del os.environ[name]
os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"

settings.register_profile("spine", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("spine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever uses the server carries the marker, and stays on one xdist worker, so that one server is started."""
    for item in items:
        if "postgres_url" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)
            item.add_marker(pytest.mark.xdist_group("postgres"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """A group that xdist overlooks makes its store once per worker, and nothing else tells of it."""
    lost = [one.nodeid for one in session.items if one.get_closest_marker("xdist_group") and "@" not in one.nodeid]
    if getattr(session.config.option, "loadgroup", False) and lost:
        pytest.exit(f"{len(lost)} tests would not stay on the worker of their group, first {lost[0]}", 3)


@pytest.fixture
def now() -> datetime:
    """Tuesday 2025-12-30 12:00 UTC: the day after FINRA published 2025-12-12 of Tier 1 and 2025-11-28 of the others."""
    return datetime(2025, 12, 30, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is MARKET_SPINE_HOME for this test."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("MARKET_SPINE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def finra_dir() -> Path:
    """The folder of FINRA's real files, which are not part of the project."""
    if not FINRA_DIR.is_dir():
        pytest.skip("FINRA's real files are not beside the project (../shared/data/finra)")
    return FINRA_DIR.resolve()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The SQLAlchemy URL of a real PostgreSQL of this run; skips where it is not installed."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(postgres.running())
        except postgres.NoPostgresError as error:
            pytest.skip(str(error))
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database of its own; dropped after the test."""
    database = f"spine_{uuid.uuid4().hex}"
    folder = postgres_url.partition("host=")[2]
    with psycopg.connect(host=folder, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
        yield f"postgresql+psycopg://postgres@/{database}?host={folder}"
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())
