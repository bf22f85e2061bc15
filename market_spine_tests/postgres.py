"""A real PostgreSQL server of its own, from Debian's package, for tests and benchmarks; never one that runs already.

What belongs here: starting and stopping it. What does not: fixtures (`conftest`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
START_SECONDS = 60
# What makes a server that is thrown away quick, and one that is measured unlike any other.
FORGETFUL = ("-c", "fsync=off", "-c", "full_page_writes=off")


class NoPostgresError(Exception):
    """The server's programs are not installed."""


def _server_programs() -> Path:
    """The folder of initdb and postgres, newest version first."""
    found = sorted(DEBIAN_POSTGRES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise NoPostgresError(f"PostgreSQL is not installed ({DEBIAN_POSTGRES}): apt-get install postgresql")
    return found[-1].parent


def _owner() -> str | None:
    """Whom the server runs as: PostgreSQL refuses root, so root borrows the package's own user."""
    return "postgres" if os.geteuid() == 0 else None


def _start(programs: Path, folder: Path, flags: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """A server in ``folder`` that listens on a Unix socket there only: no port, so that no two can collide."""
    data, owner = folder / "data", _owner()
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
        user=owner,
    )
    with (folder / "log").open("wb") as log:
        command = [str(programs / "postgres"), "-D", str(data), "-k", str(folder), "-c", "listen_addresses=", *flags]
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, user=owner)


def _wait_until_ready(server: subprocess.Popen[bytes], folder: Path) -> None:
    """Return once the server answers; its log is the failure where it does not."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close()
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{(folder / 'log').read_text()}") from error
            time.sleep(0.05)
        else:
            return


@contextmanager
def running(flags: tuple[str, ...] = FORGETFUL) -> Iterator[str]:
    """The SQLAlchemy URL of a server that is stopped by its own process id afterwards, and removed."""
    programs = _server_programs()
    # Not below pytest's own temporary folder: it is closed to other users, and longer than a socket's path may be.
    folder = Path(tempfile.mkdtemp(prefix="spine-pg-", dir="/tmp"))
    server = None
    try:
        if owner := _owner():
            shutil.chown(folder, owner)
        server = _start(programs, folder, flags)
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
