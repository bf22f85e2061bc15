"""The control database: its schema history, its transactions, and how it says what is wrong with it."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from market_spine.domain.errors import DamageError, MigrationError, StoreError
from market_spine.store import control as module
from market_spine.store import turns
from market_spine.store.control import Control, migrations
from market_spine.store.schema import BATCHES
from market_spine.store.store import Store
from market_spine_tests.store.builders import T0
from market_spine_tests.store.processes import at_once

KNOWN = [migration_id for migration_id, _ in migrations()]


def batch_row(number: int) -> dict[str, Any]:
    return {
        "seq": number,
        "batch_id": f"b{number}",
        "table_name": "t",
        "execution_id": "e",
        "correlation_id": "c",
        "committed_at": T0,
    }


def count(control: Control) -> int:
    with control.read() as connection:
        return int(connection.scalar(sa.select(sa.func.count()).select_from(BATCHES)) or 0)


def test_migrations_apply_once(empty_control: Control) -> None:
    """Prevents a second start from creating tables again, and a fresh store from having none."""
    assert KNOWN
    assert empty_control.ensure() == KNOWN
    assert empty_control.ensure() == []
    assert count(empty_control) == 0


def _ensure(url: str) -> list[str]:
    control = Control(url)
    applied = control.ensure()
    control.dispose()
    return applied


@pytest.mark.slow
def test_eight_processes_migrate_once(control_url: str) -> None:
    """Prevents workers that start together on a fresh store from failing on each other's tables or locks."""
    applied = at_once(_ensure, [(control_url,)] * 8)
    assert sorted(applied) == [[]] * 7 + [KNOWN]


@pytest.mark.parametrize(
    ("statement", "cause", "remedy"),
    [
        ("INSERT INTO core_migrations VALUES ('9999', 'x')", "9999, which this version", "update the code"),
        ("UPDATE core_migrations SET sha256 = 'other'", "was altered after it was applied", "version control"),
    ],
)
def test_foreign_history_is_refused(store: Store, statement: str, cause: str, remedy: str) -> None:
    """Prevents old code from writing into a newer store, and an edited migration from passing for the applied one."""
    with store.control.write() as connection:
        connection.execute(sa.text(statement))
    with pytest.raises(MigrationError, match=cause) as caught:
        store.ensure()
    assert remedy in caught.value.remedy


def test_migrations_are_numbered_and_checked_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a changed byte of a migration from leaving its checksum as it was."""
    copy = tmp_path / "store"
    shutil.copytree(Path(module.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "__file__", str(copy / "control.py"))
    before = migrations()
    script = next((copy / "migrations/versions").glob("0001_*.py"))
    script.write_text(script.read_text() + "\n")
    assert [one for one, _ in before] == [one for one, _ in migrations()] == KNOWN
    assert before[0][1] != migrations()[0][1]


def test_a_failed_migration_leaves_nothing(empty_control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents half a schema: SQLite commits DDL one by one where the transaction is not begun explicitly."""
    monkeypatch.setattr(module, "migrations", lambda: [("0001", "x" * 64), ("0001", "twice")])
    with pytest.raises(sa.exc.DatabaseError):  # the second row breaks the key, after all tables were created
        empty_control.ensure()
    assert sa.inspect(empty_control.engine).get_table_names() == []


def test_reads_do_not_wait_for_a_writer_and_see_one_state(store: Store) -> None:
    """Prevents readers from standing in the writers' queue, and one question from seeing two states."""
    with store.control.write() as writer:
        writer.execute(sa.insert(BATCHES), batch_row(1))
        started = time.monotonic()
        assert count(store.control) == 0
        assert time.monotonic() - started < 5
    with store.control.read() as reader:
        assert reader.scalar(sa.select(sa.func.count()).select_from(BATCHES)) == 1
        with store.control.write() as writer:
            writer.execute(sa.insert(BATCHES), batch_row(2))
        assert reader.scalar(sa.select(sa.func.count()).select_from(BATCHES)) == 1
    assert count(store.control) == 2


def test_an_error_inside_a_transaction_undoes_it(store: Store) -> None:
    """Prevents the first half of a transaction from staying when its second half fails."""

    def half() -> None:
        with store.control.write() as connection:
            connection.execute(sa.insert(BATCHES), batch_row(1))
            raise RuntimeError("middle")

    with pytest.raises(RuntimeError, match="middle"):
        half()
    assert count(store.control) == 0


def _add_numbers(url: str, amount: int) -> list[int]:
    control, seen = Control(url), []
    for _ in range(amount):
        with control.write() as connection:
            number = 1 + (connection.scalar(sa.select(sa.func.max(BATCHES.c.seq))) or 0)
            connection.execute(sa.insert(BATCHES), batch_row(number))
            seen.append(number)
    control.dispose()
    return seen


@pytest.mark.slow
def test_writers_queue_and_see_each_other(store: Store) -> None:
    """Prevents two writers from taking one number: each must see what the one before it committed, none may fail."""
    url = store.control.url
    seen = at_once(_add_numbers, [(url, 25)] * 2)
    assert sorted(seen[0] + seen[1]) == list(range(1, 51))


@pytest.mark.slow
def test_writers_see_each_other_whatever_the_servers_default_isolation(postgres_database: str) -> None:
    """Prevents a server set to REPEATABLE READ from giving a writer the state of before it waited."""
    admin = sa.create_engine(postgres_database, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        name = connection.scalar(sa.text("SELECT current_database()"))
        connection.execute(sa.text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"))
    admin.dispose()
    _ensure(postgres_database)
    seen = at_once(_add_numbers, [(postgres_database, 25)] * 2)
    assert sorted(seen[0] + seen[1]) == list(range(1, 51))


def test_a_writer_that_waits_too_long_says_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents a stuck writer from holding every other one for ever without a word."""
    monkeypatch.setattr(turns, "BUSY_SECONDS", 1)
    second = Control(store.control.url)
    with store.control.write(), pytest.raises(StoreError, match="control database"), second.write():
        pass
    second.dispose()
    with store.control.write() as connection:
        connection.execute(sa.insert(BATCHES), batch_row(1))
    assert count(store.control) == 1


def test_threads_share_one_control(store: Store) -> None:
    """Prevents a connection from being used by two threads at once."""
    threads = [threading.Thread(target=_add_with, args=(store.control, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert count(store.control) == 40


def _add_with(control: Control, amount: int) -> None:
    for _ in range(amount):
        with control.write() as connection:
            number = 1 + (connection.scalar(sa.select(sa.func.max(BATCHES.c.seq))) or 0)
            connection.execute(sa.insert(BATCHES), batch_row(number))


def test_sqlite_is_durable_and_keeps_foreign_keys(sqlite_store: Store) -> None:
    """Prevents a connection of the pool from being opened without the settings that the record rests on."""
    with sqlite_store.control.read() as first, sqlite_store.control.read() as second:
        for connection in (first, second):
            found = [connection.scalar(sa.text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")]
            assert found == ["wal", 2]  # 2 is FULL
            assert connection.scalar(sa.text("PRAGMA foreign_keys")) == 1


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A control database of which a page in the middle was overwritten."""
    store = Store.at(tmp_path)
    store.ensure()
    store.control.dispose()
    path = tmp_path / "control.db"
    data = bytearray(path.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    path.write_bytes(data)
    return path


def test_a_damaged_file_is_named_with_its_remedy(broken: Path) -> None:
    """Prevents a traceback of the driver where the user needs to know that landing can restore everything."""
    control = Control(f"sqlite:///{broken}")
    with pytest.raises(StoreError, match=rf"{broken} is damaged") as caught:
        control.ensure()
    assert "spine rebuild" in caught.value.remedy
    control.dispose()


def test_a_file_of_another_kind_is_damaged_too(tmp_path: Path) -> None:
    """Prevents a truncated header from being reported otherwise than a torn page."""
    path = tmp_path / "control.db"
    path.write_bytes(b"certainly not a database" * 500)
    control = Control(f"sqlite:///{path}")
    with pytest.raises(StoreError, match=rf"{path} is damaged"):
        control.ensure()
    control.dispose()


def test_a_file_that_is_taken_away_is_not_made_anew(tmp_path: Path) -> None:
    """Prevents an empty database in its place, of which a server then says that its tables are missing."""
    control, path = Control(f"sqlite:///{tmp_path / 'control.db'}"), tmp_path / "control.db"
    control.ensure()
    path.rename(tmp_path / "away.db")
    for _ in range(3):  # the connections that are open already, and new ones
        with pytest.raises(DamageError, match=rf"{path} is gone, while it was in use"), control.read():
            pass
    assert not path.exists()
    (tmp_path / "away.db").rename(path)
    control.ensure()
    control.dispose()


UNUSABLE = [
    ("mysql://user:secret@host/db", "neither a SQLite file nor PostgreSQL"),
    ("sqlite://", "neither a SQLite file nor PostgreSQL"),
    ("sqlite:///:memory:", "neither a SQLite file nor PostgreSQL"),
    ("no url, secret", "cannot be read"),
    ("postgresql://user:secret@host:secret/db", "cannot be read"),
    ("postgresql://user:secret@127.0.0.1:1/db", r"user:\*\*\*@127.0.0.1:1/db: connection failed"),
    ("postgresql+asyncpg://user:secret@127.0.0.1:1/db", "connection failed"),
    ("postgresql://127.0.0.1:1/db?password=secret", "127.0.0.1:1/db: connection failed"),
    ("sqlite:////dev/null/folder/control.db", "/dev/null/folder/control.db: .*Not a directory"),
    ("sqlite:////dev", "control database sqlite:////dev: unable to open database file"),
]


@pytest.mark.parametrize(("url", "cause"), UNUSABLE)
@pytest.mark.parametrize("use", ["ensure", "read", "write"])
def test_what_cannot_be_opened_is_a_typed_error_without_the_password(url: str, cause: str, use: str) -> None:
    """Prevents tracebacks of drivers at the doors, and passwords in logs."""
    control = Control(url)
    with pytest.raises(StoreError, match=cause) as caught:
        _use(control, use)
    assert "secret" not in str(caught.value)
    assert caught.value.remedy


def _use(control: Control, use: str) -> None:
    if use == "ensure":
        control.ensure()
        return
    with control.read() if use == "read" else control.write():
        pass


def test_repr_hides_the_password() -> None:
    """Prevents the password of PostgreSQL from standing in tracebacks and Dagster's logs."""
    shown = repr(Control("postgresql://user:secret@host/db?sslmode=require&password=secret"))
    assert shown == "Control(postgresql://user:***@host/db?sslmode=require)"


def test_a_database_without_tables_says_so_on_both(empty_control: Control) -> None:
    """Prevents reading an empty PostgreSQL from being a traceback, where SQLite gives a typed error."""
    with pytest.raises(StoreError, match="core_batches"):
        count(empty_control)


def test_driver_names_do_not_matter(tmp_path: Path) -> None:
    """Prevents a URL with another driver's name from asking for a library that is not installed."""
    control = Control(f"sqlite+aiosqlite:///{tmp_path / 'c.db'}")
    assert control.ensure() == KNOWN
    control.dispose()
