"""Turns: waits that end, holders that are named, and turns that nobody keeps by mistake."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from market_spine.domain.errors import StoreError
from market_spine.store import turns
from market_spine.store.control import Control
from market_spine.store.schema import BATCHES
from market_spine.store.store import Store
from market_spine_tests.store.test_control import batch_row

HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print(1, flush=True)
input()
"""
WHAT = "the thing"


@contextmanager
def held_by_another(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that holds ``path`` until it is told to end, or killed."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        yield process
        process.kill()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound that tests can wait for."""
    monkeypatch.setattr(turns, "BUSY_SECONDS", 0.3)


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock"
    path.touch()
    return path


@pytest.mark.usefixtures("short")
def test_a_wait_ends_and_names_the_holder(lock: Path) -> None:
    """Prevents a hanging process from hanging all others without a word of which one it is."""
    with held_by_another(lock) as holder, pytest.raises(StoreError) as caught, turns.turn(lock, WHAT, lambda: "; more"):
        pass
    assert caught.value.cause == f"{WHAT}: waited 0.3 s for process {holder.pid}, which has not finished; more"
    assert f"ps -fp {holder.pid};" in caught.value.remedy


@pytest.mark.usefixtures("short")
def test_a_wait_that_was_given_up_keeps_nothing(lock: Path) -> None:
    """Prevents the turn of somebody who has gone away from stopping whoever comes next."""
    with held_by_another(lock), pytest.raises(StoreError), turns.turn(lock, WHAT):
        pass
    with turns.turn(lock, WHAT) as waited:
        assert waited < 0.3


def test_a_killed_holder_gives_its_turn_back(lock: Path) -> None:
    """Prevents a lock that somebody has to remove by hand after a crash."""
    with held_by_another(lock) as holder:
        timer = threading.Timer(0.2, holder.kill)
        timer.start()
        with turns.turn(lock, WHAT) as waited:
            assert 0.1 < waited < 20
        timer.join()


def test_one_at_a_time_and_none_forgotten(lock: Path) -> None:
    """Prevents two holders at once, and a waiter that is never woken."""
    inside, most, done = [0], [0], [0]

    def work() -> None:
        for _ in range(20):
            with turns.turn(lock, WHAT):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1
                done[0] += 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (most, done) == ([1], [120])


def test_a_folder_that_cannot_be_written_is_named() -> None:
    """Prevents a traceback from a queue that cannot be made."""
    with (
        pytest.raises(StoreError, match="cannot open /proc/no-queue") as caught,
        turns.turn(Path("/proc/no-queue"), WHAT),
    ):
        pass
    assert caught.value.remedy == "make /proc writable"


@pytest.mark.usefixtures("short")
def test_a_writer_that_waits_too_long_names_who_writes(sqlite_store: Store) -> None:
    """Prevents "database is locked", and a message that names nobody who could be asked."""
    with sqlite_store.control.write() as connection:
        connection.execute(sa.insert(BATCHES), batch_row(1))
    second = Control(sqlite_store.control.url)
    with sqlite_store.control.write(), pytest.raises(StoreError) as caught, second.write():
        pass
    second.dispose()
    known = f"process {os.getpid()}, which has not finished; the newest transaction, 1, is by run e"
    assert caught.value.cause.endswith(f"control.db: waited 0.3 s for {known}")


@pytest.mark.usefixtures("short")
def test_a_foreign_program_that_holds_the_database_is_named(sqlite_store: Store) -> None:
    """Prevents SQLite's own words from reaching users where a shell or a backup holds the database."""
    path = sqlite_store.home.root / "control.db"
    with sqlite3.connect(path, isolation_level=None) as foreign:
        foreign.execute("BEGIN IMMEDIATE")
        second = Control(f"sqlite:///{path}")
        with pytest.raises(StoreError, match=f"waited 0.3 s for process {os.getpid()}, which"), second.write():
            pass
    foreign.close()
    second.dispose()


@pytest.mark.usefixtures("short")
def test_a_session_that_holds_postgres_is_named(postgres_database: str) -> None:
    """Prevents "lock_timeout" from reaching users, and a search among all sessions of a server."""
    first, second = Control(postgres_database), Control(postgres_database)
    first.ensure()
    with first.write() as connection:
        pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        with pytest.raises(StoreError) as caught, second.write():
            pass
    assert (
        f"waited 0.3 s for the server's process {pid} (spine {os.getpid()}, idle in transaction)" in caught.value.cause
    )
    assert f"SELECT pg_terminate_backend({pid})" in caught.value.remedy
    for one in (first, second):
        one.dispose()


def test_long_waits_are_logged_and_short_ones_are_not(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents writers that wait for minutes a day without anybody knowing, and a log full of milliseconds."""
    with capture_logs() as quiet, store.control.write():
        pass
    assert quiet == []
    monkeypatch.setattr(turns, "TELL_SECONDS", 0.1)
    second = Control(store.control.url)
    with capture_logs() as told:
        with store.control.write():
            waiting = threading.Thread(target=_write, args=(second,))
            waiting.start()
            time.sleep(0.3)
        waiting.join(60)
    second.dispose()
    (line,) = told
    assert (line["event"], line["log_level"], line["seconds"] > 0.1) == ("control_lock_waited", "warning", True)


def _write(control: Control) -> None:
    with control.write():
        pass
