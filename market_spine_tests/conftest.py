"""Fixtures of all floors: fixed time, a home of its own, FINRA's real files, a real PostgreSQL server.

What belongs here: what several floors need. What does not: builders of one floor's values (they stand in that floor).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
FINRA_DIR = ROOT / "../shared/data/finra"
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
START_SECONDS = 60

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


def _server_programs() -> Path:
    """The folder of initdb and postgres, newest version first; skips where there is none."""
    found = sorted(DEBIAN_POSTGRES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        pytest.skip(f"PostgreSQL is not installed ({DEBIAN_POSTGRES}): apt-get install postgresql")
    return found[-1].parent


def _owner() -> str | None:
    """Whom the server runs as: PostgreSQL refuses root, so root borrows the package's own user."""
    return "postgres" if os.geteuid() == 0 else None


def _start(programs: Path, folder: Path) -> subprocess.Popen[bytes]:
    """A server in ``folder`` that listens on a Unix socket there only: no port, so that no two can collide."""
    data, owner = folder / "data", _owner()
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
        user=owner,
    )
    flags = ["-k", str(folder), "-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off"]
    with (folder / "log").open("wb") as log:
        command = [str(programs / "postgres"), "-D", str(data), *flags]
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, user=owner)


def _wait_until_ready(server: subprocess.Popen[bytes], folder: Path) -> None:
    """Return once the server answers; its log is the failure where it does not."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start:\n{(folder / 'log').read_text()}")
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The SQLAlchemy URL of a real PostgreSQL of this run; stopped by its own process id, and removed."""
    programs = _server_programs()
    # Not below pytest's own temporary folder: it is closed to other users, and longer than a socket's path may be.
    folder = Path(tempfile.mkdtemp(prefix="spine-pg-", dir="/tmp"))
    server = None
    try:
        if owner := _owner():
            shutil.chown(folder, owner)
        server = _start(programs, folder)
        _wait_until_ready(server, folder)
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        if server is not None:
            server.terminate()  # "smart" shutdown waits for clients, of which the tests leave none ...
            try:
                server.wait(5)
            except subprocess.TimeoutExpired:
                server.send_signal(2)  # ... and SIGINT, "fast", disconnects one that a failed test left
                server.wait(30)
        shutil.rmtree(folder)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database of its own; dropped after the test."""
    database = f"spine_{uuid.uuid4().hex}"
    folder = postgres_url.partition("host=")[2]
    with psycopg.connect(host=folder, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database}".encode())
        yield f"postgresql+psycopg://postgres@/{database}?host={folder}"
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())
