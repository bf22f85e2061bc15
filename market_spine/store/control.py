"""The control database: SQLite (WAL, synchronous=FULL) by default, PostgreSQL by URL.

What belongs here: connections, transactions and the check that the schema is the one this code knows. What does not:
queries (`manifest`, and the repositories beside it), table definitions (`schema`).
"""

from __future__ import annotations

import atexit
import os
import re
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from market_spine.domain.errors import DamageError, MigrationError, StoreError
from market_spine.store import failures, turns
from market_spine.store.columns import REBUILD

SET_URL = "set MARKET_SPINE_CONTROL_URL to postgresql://user@host/database, or unset it"


def _tune_sqlite(connection: Any, _record: Any) -> None:
    # Transactions are begun by us: the driver's own implicit BEGIN is deferred, and two deferred writers deadlock.
    connection.isolation_level = None
    _use_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _remember_file(path: Path, seen: set[tuple[int, int]], _dialect: Any, record: Any, *_how: Any) -> None:
    """Before it is opened: looked at afterwards, the old file would be taken for the one that came in between.

    ``seen`` are the files that were there before: SQLite would make an empty one where they are gone.
    """
    _refuse_exchange(path)
    found = _identity(path)
    if found is None and seen:
        raise DamageError(f"control database {path} is gone, while it was in use", f"{REBUILD}; or put the file back")
    seen.update({found} if found else ())
    record.info["file"] = found


def _refuse_another(path: Path, _connection: Any, record: Any, _proxy: Any) -> None:
    """A rebuild puts another file in the place of a damaged database: who has that one open connects anew."""
    _refuse_exchange(path)
    if record.info["file"] != _identity(path):
        raise sa.exc.DisconnectionError(f"{path} is another file by now")


def _refuse_exchange(path: Path) -> None:
    if exchanging(path).exists():
        raise DamageError(f"control database {path} is being exchanged, or that was cut short", REBUILD)


def exchanging(path: Path) -> Path:
    """The mark that is there while another file is put in the place of the database: until then it has no -wal."""
    return path.with_name(f".{path.name}.exchanging")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _use_wal(connection: Any) -> None:
    """Switch a new database over. Two that do so at once are refused without the driver's wait: we wait ourselves."""
    patience = time.monotonic() + turns.BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > patience:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: sa.Connection) -> None:
    mode = "DEFERRED" if connection.get_execution_options().get("spine_read") else "IMMEDIATE"
    connection.exec_driver_sql(f"BEGIN {mode}")


@dataclass(frozen=True)
class Control:
    """One control database, named by its SQLAlchemy URL. Safe to share between threads, not between processes."""

    url: str

    def __repr__(self) -> str:
        return f"Control({self.shown})"

    @property
    def shown(self) -> str:
        """The URL without any password; libpq also takes one as a parameter."""
        url = _parsed(self.url)
        open_query = {name: value for name, value in url.query.items() if "pass" not in name}
        return url.set(query=open_query).render_as_string(hide_password=True)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of an embedded database, whether or not they are there now; none of a server's."""
        url = _parsed(self.url)
        if url.get_backend_name() != "sqlite" or not url.database:
            return ()
        return tuple(Path(url.database + ending) for ending in ("", "-wal", "-shm"))

    @cached_property
    def engine(self) -> sa.Engine:
        url = _parsed(self.url)
        if url.get_backend_name() == "postgresql":
            named = url.update_query_dict({"application_name": f"spine {os.getpid()}"} | dict(url.query))
            return sa.create_engine(named.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
        if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
            raise StoreError(f"control database {self.shown} is neither a SQLite file nor PostgreSQL", SET_URL)
        try:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"control database {self.shown}: {error}", "make its folder writable") from error
        url = url.set(drivername="sqlite")
        engine = sa.create_engine(url, connect_args={"timeout": turns.BUSY_SECONDS, "check_same_thread": False})
        event.listen(engine, "do_connect", partial(_remember_file, self.files[0], set()))
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "checkout", partial(_refuse_another, self.files[0]))
        event.listen(engine, "begin", _begin_sqlite)
        # Closing the last connection folds the -wal into the database, so that whoever copies that file has it all.
        atexit.register(_close, weakref.ref(engine))
        return engine

    @property
    def is_postgres(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent snapshot; never waits for writers."""
        with self._open() as connection, connection.execution_options(spine_read=True).begin():
            if self.is_postgres:
                connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction at a time per store: writers queue, and each sees what the one before it committed.

        A wait above a second is logged; one of `turns.BUSY_SECONDS` ends as a StoreError that names who is in the way.
        """
        started = time.monotonic()
        with self.turn(), self._open() as connection, connection.begin():
            if self.is_postgres:
                # Every statement after the lock must see what was committed while we waited for it, whatever isolation
                # the server's own default is; and like SQLite's, a wait ends.
                connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"))
                connection.execute(sa.text(f"SET LOCAL lock_timeout = '{turns.BUSY_SECONDS:g}s'"))
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": failures.ADVISORY_LOCK})
            turns.tell("control_lock_waited", time.monotonic() - started, database=self.shown)
            yield connection

    def turn(self) -> AbstractContextManager[object]:
        """The place in a queue before SQLite's lock, which is the guarantee, but not fair; PostgreSQL's is both.

        Whoever has it may also put another file in the place of the database.
        """
        if not self.files:
            return nullcontext()
        more = partial(failures.newest, self.engine)
        database = self.files[0]
        return turns.turn(database.with_name(f".{database.name}.queue"), f"control database {self.shown}", more)

    @contextmanager
    def _open(self) -> Iterator[sa.Connection]:
        try:
            with self.engine.connect() as connection:
                yield connection
        except sa.exc.DatabaseError as error:
            if failures.is_outage(error):
                raise failures.typed(error, self.engine, self.shown, self.files) from error
            raise

    def ensure(self, before_first: Callable[[], None] = lambda: None) -> list[str]:
        """Bring the schema to this code's version; the ids of the migrations that were applied now.

        ``before_first`` may raise where the database has no table at all, and should have.
        """
        known = migrations()
        if self._applied() == known:
            return []
        with self.write() as connection:
            applied = _read_applied(connection)
            if not applied:
                before_first()
            _refuse_foreign_history(applied, known)
            pending = [entry for entry in known if entry not in applied]
            return upgrade(connection, pending) if pending else []  # none: another process was first

    def _applied(self) -> list[tuple[str, str]]:
        with self.read() as connection:
            return _read_applied(connection)

    def dispose(self) -> None:
        """Close pooled connections."""
        self.engine.dispose()


def _close(opened: weakref.ref[sa.Engine]) -> None:
    engine = opened()
    if engine is not None:
        engine.dispose()


def _parsed(url: str) -> sa.URL:
    try:
        return sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):  # their messages quote parts of the URL, perhaps of its password
        raise StoreError("the URL of the control database cannot be read", SET_URL) from None


def migrations() -> list[tuple[str, str]]:
    """(id, sha256 of the file) of every migration this code ships, in order."""
    import hashlib

    files = sorted((Path(__file__).parent / "migrations" / "versions").glob("[0-9]*.py"))
    return [(re.split(r"_", file.stem)[0], hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]


def _read_applied(connection: sa.Connection) -> list[tuple[str, str]]:
    if not sa.inspect(connection).has_table("core_migrations"):
        return []
    rows = connection.execute(sa.text("SELECT migration_id, sha256 FROM core_migrations ORDER BY migration_id"))
    return [(row.migration_id, row.sha256) for row in rows]


def _refuse_foreign_history(applied: list[tuple[str, str]], known: list[tuple[str, str]]) -> None:
    ours = dict(known)
    for migration_id, checksum in applied:
        if migration_id not in ours:
            raise MigrationError(
                f"the control database has migration {migration_id}, which this version of the code does not know",
                "update the code (git pull, then install again) before you use this store",
            )
        if ours[migration_id] != checksum:
            raise MigrationError(
                f"migration {migration_id} was altered after it was applied here",
                f"restore the file market_spine/store/migrations/versions/{migration_id}_*.py from version control",
            )


def upgrade(connection: sa.Connection, pending: list[tuple[str, str]]) -> list[str]:
    """Apply ``pending`` migrations in the transaction of ``connection``; their ids."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.execute(
        sa.text("INSERT INTO core_migrations (migration_id, sha256) VALUES (:id, :sha256)"),
        [{"id": migration_id, "sha256": checksum} for migration_id, checksum in pending],
    )
    return [migration_id for migration_id, _ in pending]
