"""What goes wrong with Dagster's own record of runs, in words: full disks, damaged files.

What belongs here: whose failure it is, and what helps. What does not: opening the record (`instance`). Captures do not
depend on that record: whatever of it is lost, the interface forgets, and nothing else.
"""

from __future__ import annotations

import errno
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from market_spine.domain.errors import DamageError, StoreError, unwritable

# A write that fails so names no file. What the platform itself writes has its own words by then.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextmanager
def in_words(folder: Path) -> Iterator[None]:
    """Failures of the record in ``folder`` (DAGSTER_HOME) as a StoreError; whatever else fails passes."""
    try:
        yield
    except OSError as error:
        is_ours = str(error.filename).startswith(str(folder)) if error.filename else error.errno in NO_ROOM
        if not is_ours:
            raise
        raise unwritable(error.filename or f"Dagster's record of runs in {folder}", folder, error) from error
    except Exception as error:
        driver = _of_driver(error)  # SQLAlchemy's errors are told by what they carry: only the store may name its types
        if driver is None:
            raise
        raise _told(driver, folder) from error


def _of_driver(error: BaseException) -> sqlite3.Error | None:
    """SQLite's own error, behind what SQLAlchemy and Dagster wrapped around it."""
    seen: BaseException | None = error
    while seen is not None:
        orig = getattr(seen, "orig", seen)
        if isinstance(orig, sqlite3.Error):
            return orig
        seen = seen.__cause__ or seen.__context__
    return None


def _told(error: sqlite3.Error, folder: Path) -> StoreError:
    what = f"Dagster's record of runs in {folder}"
    if hurt := damaged(folder):
        kept = folder / "damaged"
        moves = " && ".join(f"mv {shlex.quote(str(path))}* {shlex.quote(str(kept))}" for path in hurt)
        return DamageError(
            f"{what} is damaged: {', '.join(str(path.relative_to(folder)) for path in hurt)}: {error}",
            f"end dagster dev and its daemon, then: mkdir -p {shlex.quote(str(kept))} && {moves}  # it is made anew:"
            " the interface forgets runs, captures do not depend on them; then repeat the command",
        )
    return StoreError(
        f"{what}: {error}",
        f"free space there (df -h {folder}) or make it writable, then repeat the command",
    )


def damaged(folder: Path) -> list[Path]:
    """The databases below ``folder`` that SQLite finds damaged."""
    return [path for path in sorted(folder.rglob("*.db")) if _is_damaged(path)]


def _is_damaged(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",))
    except sqlite3.OperationalError:  # cannot be opened now: no space, no rights
        return False
    except sqlite3.DatabaseError:
        return True
