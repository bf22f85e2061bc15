"""What a driver of the control database says, as a typed error: what failed, who is in the way, and what to do.

What belongs here: words for the drivers' codes. What does not: when they are raised (`control`), and the queue of
writers (`turns`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from market_spine.domain.errors import DamageError, StoreError
from market_spine.store import turns
from market_spine.store.columns import REBUILD

ADVISORY_LOCK = 0x5350494E45  # "SPINE": PostgreSQL's lock of whoever writes
DAMAGE = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
SPOILT = ("Could not decode to UTF-8", "no such column")  # damage without a code of its own, in the driver's words
BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED", "55P03")  # the last one is PostgreSQL's lock_not_available
SPACE = "free space on the disk of {folder} (df -h {folder}), then repeat the command"
RIGHTS = "make {folder} and what is in it writable for this user (mounted read-only?), then repeat the command"
# By the beginning of SQLite's name of an error, or PostgreSQL's SQLSTATE.
REMEDIES: Mapping[str, str] = {
    "SQLITE_FULL": SPACE,
    "SQLITE_IOERR": "see whether the disk of {folder} is full or failing (df -h {folder}), then repeat the command",
    "SQLITE_READONLY": RIGHTS,
    "SQLITE_CANTOPEN": RIGHTS,
    "53100": "free space on the disk of the database server, then repeat the command",
    "25006": "the server takes no writes (a standby?): point MARKET_SPINE_CONTROL_URL at the one that does",
}
OTHERWISE = "check that the database is up and the folder writable, then repeat the command"
HOLDER = f"""
    SELECT a.pid, a.application_name, a.state,
           CAST(extract(epoch FROM clock_timestamp() - a.xact_start) AS integer) AS seconds
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND a.datname = current_database()
      AND l.classid = {ADVISORY_LOCK >> 32} AND l.objid = {ADVISORY_LOCK & 0xFFFFFFFF}
"""
NEWEST = "SELECT seq, execution_id FROM core_batches ORDER BY seq DESC LIMIT 1"


def code_of(error: sa.exc.DBAPIError) -> str:
    """SQLite's name of the error, PostgreSQL's SQLSTATE, or ''."""
    if isinstance(error.orig, sqlite3.Error):
        return str(getattr(error.orig, "sqlite_errorname", ""))
    return str(getattr(error.orig, "sqlstate", "") or "")


def is_outage(error: sa.exc.DatabaseError) -> bool:
    """Whether the database failed, not the statement (IntegrityError, DataError ...), which is a mistake of ours."""
    # A missing table is the one or the other of these two; damage is a DatabaseError itself.
    return isinstance(error, sa.exc.OperationalError | sa.exc.ProgrammingError) or code_of(error).startswith(DAMAGE)


def typed(error: sa.exc.DatabaseError, engine: sa.Engine, shown: str, files: Sequence[Path]) -> StoreError:
    """The error for users; ``shown`` is the database without its password, ``files`` are those of an embedded one."""
    code, what = code_of(error), f"control database {shown}"
    if code.startswith(BUSY):
        return turns.too_long(what, turns.holders(files), newest(engine)) if files else held(what, engine)
    if code.startswith(DAMAGE) or any(one in str(error.orig) for one in SPOILT):
        return DamageError(f"{what} is damaged: {_first_line(error.orig)}", REBUILD)
    remedy = next((text for start, text in REMEDIES.items() if code.startswith(start)), OTHERWISE)
    folder = files[0].parent if files else ""
    return StoreError(f"{what}: {_first_line(error.orig)}", remedy.format(folder=folder))


def held(what: str, engine: sa.Engine) -> StoreError:
    """The error of whoever waited too long for PostgreSQL's lock, with the session that holds it."""
    row = _asked(engine, HOLDER)
    if row is None:
        return turns.too_long(what, [], newest(engine))
    return StoreError(
        f"{what}: waited {turns.BUSY_SECONDS:g} s for the server's process {row.pid} ({row.application_name},"
        f" {row.state}), which has been at its transaction for {row.seconds} s{newest(engine)}",
        f"see what it does: SELECT * FROM pg_stat_activity WHERE pid = {row.pid}; when it has ended, or was ended with"
        f" SELECT pg_terminate_backend({row.pid}), repeat the command",
    )


def newest(engine: sa.Engine) -> str:
    """The newest transaction, for a message: whoever wrote it may be at the next one."""
    row = _asked(engine, NEWEST)
    return f"; the newest transaction, {row.seq}, is by run {row.execution_id}" if row else ""


def _asked(engine: sa.Engine, sql: str) -> sa.Row[Any] | None:
    try:
        with engine.connect().execution_options(spine_read=True) as connection:
            return connection.execute(sa.text(sql)).first()
    except sa.exc.DBAPIError:  # the message is told without it
        return None


def _first_line(error: BaseException | None) -> str:
    return str(error).strip().splitlines()[0] if error else "unknown error"
